//! A directory that is restored: its archive is unpacked into a staging directory, on a thread of its own, while its
//! bytes arrive.
//!
//! ```text
//!  Output::write ─▶ channel ─▶ Decoder ─▶ Restorer: one entry after the other
//!                                           ├ directories   the directories that are open, from the root down
//!                                           ├ metadata      owner, mode, attributes, time of one entry
//!                                           └ omissions     ─▶ channel ─▶ the caller's Progress
//!  Output::finish ─▶ sync ─▶ Staging: rename to the final place
//! ```
//!
//! While it unpacks, the thread makes checkpoints ([`state`]), so that another get continues after an interruption.
//!
//! Nothing outside the staging directory is touched: every system call names one entry of an open directory and follows
//! no link. What the target does not support is left out and named. Errors of the disk end the restore.

pub(super) mod accounts;
pub(super) mod checkpoint;
pub(super) mod continuation;
pub(super) mod directories;
pub(super) mod entry_log;
pub(super) mod inspection;
pub(super) mod metadata;
pub(super) mod omitted;
pub(super) mod output;
pub(super) mod record_log;
pub(super) mod refusal;
pub(super) mod removal;
pub(super) mod restorer;
pub(super) mod running_checksum;
pub(super) mod staging;
pub(super) mod state;
pub(super) mod stream;
#[cfg(test)]
mod tests;
