//! Checking and repairing the copies of a file; draining and scrubbing cells.

pub(super) mod check;
pub(super) mod copy_counts;
pub(super) mod drain;
pub(super) mod poll;
pub(super) mod repair;
pub(super) mod scrub;
pub(super) mod survey;
pub(super) mod verify;
