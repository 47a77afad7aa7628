//! Sets of chunks of one manifest, as one bit for each chunk.

use crate::id::ChunkId;

/// The positions of ids in a manifest. One id can have several positions.
pub(in crate::client) struct ChunkPositions {
    by_id: Vec<(ChunkId, usize)>,
}

impl ChunkPositions {
    pub(in crate::client) fn new(ids: &[ChunkId]) -> Self {
        let mut by_id: Vec<(ChunkId, usize)> = ids.iter().copied().zip(0..).collect();
        by_id.sort_unstable();
        Self { by_id }
    }

    /// Every id once.
    pub(in crate::client) fn unique_ids(&self) -> Vec<ChunkId> {
        let mut ids: Vec<ChunkId> = self.by_id.iter().map(|(id, _)| *id).collect();
        ids.dedup();
        ids
    }

    fn of(&self, id: &ChunkId) -> impl Iterator<Item = usize> {
        let first = self.by_id.partition_point(|(other, _)| other < id);
        self.by_id.iter().skip(first).take_while(move |(other, _)| other == id).map(|(_, index)| *index)
    }
}

/// A set of chunks of a manifest, by their positions. It takes an eighth of a byte a chunk, so that the answers of many
/// cells about large files are small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::client) struct ChunkSet(Vec<u64>);

impl ChunkSet {
    /// The empty set of a manifest with this number of chunks.
    pub(in crate::client) fn empty(chunks: usize) -> Self {
        Self(vec![0; chunks.div_ceil(64)])
    }

    /// Adds all positions of an id. An id that has none adds nothing.
    pub(in crate::client) fn insert(&mut self, positions: &ChunkPositions, id: &ChunkId) {
        for index in positions.of(id) {
            if let Some(word) = self.0.get_mut(index / 64) {
                *word |= 1_u64 << (index % 64);
            }
        }
    }

    pub(in crate::client) fn remove(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word &= !(1_u64 << (index % 64));
        }
    }

    pub(in crate::client) fn contains(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    pub(in crate::client) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Does it contain all `chunks` of the manifest?
    pub(in crate::client) fn is_full(&self, chunks: usize) -> bool {
        (0..chunks).all(|index| self.contains(index))
    }

    /// Adds all chunks of another set.
    pub(in crate::client) fn union_with(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word |= other;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_at_several_positions_is_queried_once_and_found_at_all() {
        let id = ChunkId::of(b"same");
        let ids = [id, ChunkId::of(b"x"), id];
        let positions = ChunkPositions::new(&ids);
        assert_eq!(positions.unique_ids().len(), 2);
        let mut set = ChunkSet::empty(3);
        assert!(set.is_empty());
        set.insert(&positions, &id);
        set.insert(&positions, &ChunkId::of(b"not in the manifest"));
        assert_eq!([0, 1, 2, 3].map(|index| set.contains(index)), [true, false, true, false]);
        let mut other = ChunkSet::empty(3);
        other.insert(&positions, &ids[1]);
        assert!(!other.is_full(3));
        other.union_with(&set);
        assert!(other.is_full(3));
    }
}
