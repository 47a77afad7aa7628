//! A copy whose bytes are not the chunk.

use crate::client::discover::colony::CellName;
use crate::id::ChunkId;

/// A copy whose bytes do not hash to the id of its chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadCopy {
    /// The chunk.
    pub chunk: ChunkId,
    /// The position of the chunk in the manifest.
    pub index: usize,
    /// The cell that holds the copy.
    pub cell: CellName,
    /// The hash of the bytes, if this client saw them. Otherwise the cell found the copy bad and quarantined it.
    pub found: Option<ChunkId>,
}
