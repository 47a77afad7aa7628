//! Checking and repairing the copies of a file; draining and scrubbing cells.

pub(super) mod check;
mod copy_counts;
pub(super) mod drain;
mod polling;
pub(super) mod repair;
mod repair_worker;
pub(super) mod scrub;
mod survey;
mod verify;
