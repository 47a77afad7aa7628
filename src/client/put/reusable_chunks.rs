//! The chunks of an interrupted put, by the hashes of their blocks: one is used again where the source still has its block.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::client::put::journal::SealedBlock;
use crate::client::put::position::{ChunkKeys, Position};
use crate::client::put::resume::StoredChunk;
use crate::id::ChunkId;
use crate::pipeline::BlockHash;
use crate::sync::lock;

/// A chunk that the colony holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::client) struct ReusableChunk {
    pub(in crate::client) id: ChunkId,
    /// The position at which it was sealed.
    pub(in crate::client) sealed_at: Position,
    pub(in crate::client) copies: StoredCopies,
}

/// The copies of a chunk that the colony holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::client) enum StoredCopies {
    /// Enough of them: this many.
    Complete(usize),
    /// Too few, on these cells by the placer's numbers.
    Incomplete(Vec<usize>),
}

/// The chunks of an interrupted put. Threads share them.
#[derive(Debug)]
pub(in crate::client) struct ReusableChunks {
    keys: ChunkKeys,
    /// By hash, then by the position at which the block was sealed.
    by_hash: Mutex<BTreeMap<(BlockHash, Position), (ChunkId, StoredCopies)>>,
    /// The addresses of the cells, by the placer's numbers.
    urls: Vec<String>,
}

impl ReusableChunks {
    pub(in crate::client) fn new(keys: ChunkKeys, urls: Vec<String>) -> Self {
        Self { keys, by_hash: Mutex::default(), urls }
    }

    /// Adds the chunk of a block.
    pub(in crate::client) fn add(&mut self, block: &SealedBlock, stored: StoredChunk, is_complete: bool) {
        let Some(hash) = block.hash else { return };
        let StoredChunk { id, holders, .. } = stored;
        let copies =
            if is_complete { StoredCopies::Complete(holders.len()) } else { StoredCopies::Incomplete(holders) };
        lock(&self.by_hash).insert((hash, block.position), (id, copies));
    }

    /// Removes and returns the chunk of a block with this hash. One that was sealed at the same position is preferred, for
    /// then the manifest need not have its key. Each chunk is used once: two equal blocks have two chunks.
    pub(in crate::client) fn take(&self, hash: &BlockHash, position: Position) -> Option<ReusableChunk> {
        let mut by_hash = lock(&self.by_hash);
        let sealed_at = if by_hash.contains_key(&(*hash, position)) {
            position
        } else {
            let all = (*hash, Position::Data(0))..=(*hash, Position::Index(usize::MAX));
            let mut positions = by_hash.range(all).map(|((_, sealed_at), _)| *sealed_at);
            positions.find(|sealed_at| self.is_usable(*sealed_at, position))?
        };
        let (id, copies) = by_hash.remove(&(*hash, sealed_at))?;
        Some(ReusableChunk { id, sealed_at, copies })
    }

    /// A manifest has no keys for the chunks of an index.
    fn is_usable(&self, sealed_at: Position, position: Position) -> bool {
        match (self.keys, sealed_at, position) {
            (ChunkKeys::Shared, _, _) | (ChunkKeys::Derived, Position::Data(_), Position::Data(_)) => true,
            (ChunkKeys::Derived, Position::Index(_), _) | (ChunkKeys::Derived, _, Position::Index(_)) => false,
        }
    }

    /// The address of a cell.
    pub(in crate::client) fn url(&self, cell: usize) -> Option<&str> {
        self.urls.get(cell).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Key;

    fn reusable(keys: ChunkKeys, positions: &[Position]) -> (ReusableChunks, BlockHash) {
        let mut chunks = ReusableChunks::new(keys, Vec::new());
        let hash = BlockHash::of(b"block", &Key::generate());
        for (number, &position) in positions.iter().enumerate() {
            let id = ChunkId::of(&number.to_le_bytes());
            let block = SealedBlock { position, id, hash: Some(hash), len: 5 };
            chunks.add(&block, StoredChunk { number, id, holders: vec![0] }, true);
        }
        (chunks, hash)
    }

    #[test]
    fn the_chunk_of_the_same_position_is_preferred() {
        let (chunks, hash) = reusable(ChunkKeys::Derived, &[0, 3, 7].map(Position::Data));
        assert!(chunks.take(&BlockHash::of(b"other", &Key::generate()), Position::Data(3)).is_none());
        let taken = |position| chunks.take(&hash, Position::Data(position)).map(|chunk| chunk.sealed_at);
        assert_eq!(taken(3), Some(Position::Data(3)));
        assert!(taken(3).is_some_and(|position| position != Position::Data(3)));
        assert!(taken(3).is_some());
        assert_eq!(taken(3), None, "each is used once");
    }

    #[test]
    fn chunks_of_the_index_are_used_where_they_were() {
        let positions = [Position::Index(1), Position::Data(1)];
        let (chunks, hash) = reusable(ChunkKeys::Derived, &positions);
        assert_eq!(chunks.take(&hash, Position::Index(0)), None);
        assert_eq!(chunks.take(&hash, Position::Index(1)).unwrap().sealed_at, Position::Index(1));
        assert_eq!(chunks.take(&hash, Position::Index(1)), None);
        assert_eq!(chunks.take(&hash, Position::Data(0)).unwrap().sealed_at, Position::Data(1));
    }
}
