//! Integrity: audits of other cells' copies, the scrub of local copies, copies that the disk cannot read, and strikes
//! for bad copies.

pub(super) mod audits;
mod co_holders;
mod extra_copies;
pub(super) mod failing_disk;
pub(super) mod scrub;
pub(super) mod strikes;
pub(super) mod suspects;
