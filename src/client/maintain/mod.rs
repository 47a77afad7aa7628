//! Checking and repairing what is stored, and looking after cells.

pub(super) mod check;
pub(super) mod drain;
pub(super) mod poll;
pub(super) mod repair;
pub(super) mod scrub;
pub(super) mod survey;
pub(super) mod tally;
pub(super) mod verify;
