//! What version 2 of the manifest adds: the length of each block, a key for each chunk, and the chunks of the index.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::id::{BLOCK_BYTES, ChunkId};
use crate::pipeline::manifest::Manifest;
use crate::pipeline::seal::{Key, KeyLabel};

/// What a manifest of version 2 has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Version2 {
    /// Where each block ends in the stored bytes. As many as there are chunks, in ascending order.
    pub ends: Vec<u64>,
    /// The keys of chunks that were sealed at another position, by their positions here.
    pub keys: BTreeMap<usize, Key>,
    /// The chunks of the index of the directory, in order. Empty if there is no index.
    pub tree: Vec<ChunkId>,
    /// Where each block of the index ends.
    pub tree_ends: Vec<u64>,
}

impl Manifest {
    /// The stored bytes that are in the block at this position.
    pub fn block(&self, index: usize) -> Range<u64> {
        if let Some(version2) = &self.version2 {
            return between(&version2.ends, index);
        }
        // Only the last block of a file of known size is shorter than the others.
        let start = (index as u64).saturating_mul(BLOCK_BYTES as u64);
        let end = start.saturating_add(BLOCK_BYTES as u64);
        let limit = self.size.unwrap_or(u64::MAX);
        start.min(limit)..end.min(limit)
    }

    /// The length of the block at this position in bytes; `None` for the last one of a file of unknown size.
    pub fn block_len(&self, index: usize) -> Option<usize> {
        if self.version2.is_none() && self.size.is_none() && index + 1 >= self.chunks.len() {
            return None;
        }
        let Range { start, end } = self.block(index);
        usize::try_from(end - start).ok()
    }

    /// The positions of the blocks that have bytes of this range.
    pub fn blocks_of(&self, bytes: &Range<u64>) -> Range<usize> {
        if bytes.is_empty() {
            return 0..0;
        }
        let position = |offset: u64| match &self.version2 {
            Some(version2) => version2.ends.partition_point(|end| *end <= offset),
            None => usize::try_from(offset / BLOCK_BYTES as u64).unwrap_or(usize::MAX),
        };
        let chunks = self.chunks.len();
        position(bytes.start).min(chunks)..position(bytes.end - 1).saturating_add(1).min(chunks)
    }

    /// The key of the chunk at this position.
    pub fn chunk_key(&self, index: usize) -> Key {
        match &self.version2 {
            None => self.key.clone(),
            Some(version2) => {
                let own = version2.keys.get(&index).cloned();
                own.unwrap_or_else(|| self.key.derive(KeyLabel::Chunk, index as u64))
            }
        }
    }

    /// The chunks of the index of the directory, in order.
    pub fn tree(&self) -> &[ChunkId] {
        self.version2.as_ref().map_or(&[], |version2| &version2.tree)
    }

    /// The length of the block at this position of the index.
    pub fn tree_block_len(&self, index: usize) -> Option<usize> {
        let Range { start, end } = between(&self.version2.as_ref()?.tree_ends, index);
        usize::try_from(end - start).ok()
    }

    /// The key of the chunk at this position of the index.
    pub fn tree_key(&self, index: usize) -> Key {
        self.key.derive(KeyLabel::Tree, index as u64)
    }

    /// All chunks: those of the stored bytes, then those of the index.
    pub fn all_chunks(&self) -> impl Iterator<Item = &ChunkId> {
        self.chunks.iter().chain(self.tree())
    }
}

fn between(ends: &[u64], index: usize) -> Range<u64> {
    let last = ends.last().copied().unwrap_or_default();
    let end_of = |index: usize| ends.get(index).copied().unwrap_or(last);
    index.checked_sub(1).map_or(0, end_of)..end_of(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Content;

    const MIB: u64 = BLOCK_BYTES as u64;

    fn manifest(chunks: u64, size: Option<u64>, ends: Option<&[u64]>) -> Manifest {
        let chunks = (0..chunks).map(|number| ChunkId::of(&number.to_le_bytes())).collect();
        let version2 = ends.map(|ends| Version2 { ends: ends.to_vec(), ..Version2::default() });
        Manifest { key: Key::generate(), size, copies: 5, content: Content::Tar, chunks, version2 }
    }

    #[test]
    fn blocks_of_version_1_are_full_but_the_last() {
        let known = manifest(3, Some(2 * MIB + 5), None);
        assert_eq!([0, 2, 3].map(|index| known.block(index)), [0..MIB, 2 * MIB..2 * MIB + 5, 2 * MIB + 5..2 * MIB + 5]);
        assert_eq!([0, 1, 2].map(|index| known.block_len(index)), [Some(1 << 20), Some(1 << 20), Some(5)]);
        let unknown = manifest(3, None, None);
        assert_eq!([0, 1, 2].map(|index| unknown.block_len(index)), [Some(1 << 20), Some(1 << 20), None]);
        assert_eq!(known.blocks_of(&(MIB - 1..MIB + 1)), 0..2);
        assert_eq!(known.blocks_of(&(2 * MIB..u64::MAX)), 2..3);
        assert_eq!((known.blocks_of(&(7..7)), known.blocks_of(&(9 * MIB..10 * MIB))), (0..0, 3..3));
    }

    #[test]
    fn blocks_of_version_2_have_their_own_lengths() {
        let manifest = manifest(3, Some(13), Some(&[4, 5, 13]));
        assert_eq!([0, 1, 2, 3].map(|index| manifest.block(index)), [0..4, 4..5, 5..13, 13..13]);
        assert_eq!(manifest.block_len(1), Some(1));
        assert_eq!(manifest.blocks_of(&(0..13)), 0..3);
        assert_eq!(manifest.blocks_of(&(4..5)), 1..2);
        assert_eq!(manifest.blocks_of(&(3..6)), 0..3);
        assert_eq!(manifest.blocks_of(&(13..20)), 3..3);
    }

    #[test]
    fn a_chunk_has_the_key_of_its_position_or_its_own() {
        let mut manifest = manifest(3, Some(13), Some(&[4, 5, 13]));
        assert_eq!(manifest.chunk_key(1), manifest.key.derive(KeyLabel::Chunk, 1));
        assert_ne!(manifest.chunk_key(1), manifest.tree_key(1));
        let own = manifest.key.derive(KeyLabel::Chunk, 7);
        manifest.version2.as_mut().unwrap().keys.insert(1, own.clone());
        assert_eq!(manifest.chunk_key(1), own);
        manifest.version2 = None;
        assert_eq!(manifest.chunk_key(1), manifest.key);
    }
}
