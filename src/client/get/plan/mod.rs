//! What a get restores of a directory if that is not everything: chosen entries, or what is left of a damaged archive.
//! Pure.
//!
//! ```text
//!  index ─▶ Selector ─▶ the entries, with their places in the stream ─▶ the blocks to fetch
//!                                                                           │ Block: its bytes, or lost
//!                                               EntryFilter ◀───────────────┘
//!                                                   ▼
//!                          a tar stream of these entries ─▶ Output
//! ```
//!
//! The index of a manifest says where each entry is. Without it, [`Reframer`] finds the entries in what is left of the
//! stream.

pub(in crate::client) mod entry_filter;
#[cfg(test)]
mod fixtures;
pub(in crate::client) mod lost;
pub(in crate::client) mod reframer;
pub(in crate::client) mod selector;

/// A block of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::client) enum StreamBlock {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// It is on no cell that responds, or all its copies are bad. It had this many bytes.
    Lost(usize),
}
