//! Integrity: audits of other cells' copies, the scrub of local copies, and strikes for bad copies.

pub(super) mod audits;
mod co_holders;
mod extra_copies;
pub(super) mod scrub;
pub(super) mod strikes;
