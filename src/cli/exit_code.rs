//! Exit codes that more than one file uses. `ClientError::exit_code` has the others.

/// Exit code for failures without a code of their own.
pub(super) const FAILED: u8 = 1;
/// Exit code for invalid arguments.
pub(super) const USAGE: u8 = 2;
/// Exit code for chunks that are on no cell that responds, and for a salvage that did not find everything.
pub(super) const MISSING: u8 = 4;
/// Exit code for bad copies.
pub(super) const CORRUPT: u8 = 5;
/// Exit code for work that is done, but with omissions, each of which a message named.
pub(super) const OMISSIONS: u8 = 6;
