//! What a cell must not forget when it restarts.

use serde::{Deserialize, Serialize};

use crate::id::CellId;
use crate::id::ChunkId;

/// Kept by the store as a small file, safe before the next thing is done ([`crate::cell::Output::Keep`]). Times are spans, not
/// moments: a board without a clock must be able to read them. While the cell is off they stand still.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SavedState {
    /// Does the cell hand its copies on?
    pub draining: bool,
    /// The last copy that the slow scrub looked at.
    pub scrubbed: Option<ChunkId>,
    /// Bad copies that were found on other cells.
    pub strikes: Vec<Strike>,
    /// Cells that are not to be trusted with copies.
    pub isolated: Vec<Isolation>,
}

/// A bad copy of another cell, seen by ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strike {
    /// Whose.
    pub culprit: CellId,
    /// Which chunk.
    pub chunk: ChunkId,
    /// How long ago, in milliseconds.
    pub ago_ms: u64,
}

/// A cell that is set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// Which one.
    pub cell: CellId,
    /// For how long still, in milliseconds.
    pub left_ms: u64,
}
