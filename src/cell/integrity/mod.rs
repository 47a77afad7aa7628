//! Are the copies good? Audits of other cells, the scrub of our own copies, and strikes for bad ones.

pub(super) mod audits;
mod co_holders;
pub(super) mod scrub;
pub(super) mod strikes;
