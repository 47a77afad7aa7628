//! Where a block of a put is: in the stored bytes, or in the index of a directory.

use crate::pipeline::{Key, KeyLabel};

/// The position of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::client) enum Position {
    /// Its number among the blocks of the stored bytes.
    Data(usize),
    /// Its number among the blocks of the index.
    Index(usize),
}

/// A block, on its way to be sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::client) struct PutBlock {
    pub(in crate::client) position: Position,
    /// At most [`crate::id::BLOCK_BYTES`], and at least one.
    pub(in crate::client) bytes: Vec<u8>,
}

/// The keys of the chunks of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client) enum ChunkKeys {
    /// All chunks have the key of the manifest: that of a file.
    Shared,
    /// Each chunk has the key of its position: that of a directory.
    Derived,
}

impl ChunkKeys {
    /// The key of the chunk at this position, when `key` is that of the manifest.
    pub(in crate::client) fn key(self, key: &Key, position: Position) -> Key {
        match (self, position) {
            (Self::Shared, _) => key.clone(),
            (Self::Derived, Position::Data(index)) => key.derive(KeyLabel::Chunk, index as u64),
            (Self::Derived, Position::Index(index)) => key.derive(KeyLabel::Tree, index as u64),
        }
    }
}
