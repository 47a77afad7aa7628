//! The blocks of a put that are stored: the chunk of each, and its number of copies. Pure, and small: a terabyte is a
//! million blocks.

use crate::id::ChunkId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FinishedBlock {
    id: ChunkId,
    copies: u8,
}

/// The stored blocks of a put, by their position in the source.
#[derive(Debug, Clone, Default)]
pub(in crate::client) struct FinishedBlocks {
    blocks: Vec<Option<FinishedBlock>>,
    count: usize,
}

impl FinishedBlocks {
    /// Records that a block is stored, and the number of copies of its chunk.
    pub(in crate::client) fn insert(&mut self, index: usize, id: ChunkId, copies: usize) {
        if index >= self.blocks.len() {
            self.blocks.resize(index + 1, None);
        }
        if let Some(block) = self.blocks.get_mut(index) {
            self.count += usize::from(block.is_none());
            *block = Some(FinishedBlock { id, copies: u8::try_from(copies).unwrap_or(u8::MAX) });
        }
    }

    /// The positions of the stored blocks, in ascending order.
    pub(in crate::client) fn indices(&self) -> impl Iterator<Item = usize> {
        self.blocks.iter().enumerate().filter_map(|(index, block)| block.map(|_| index))
    }

    /// Removes the blocks from position `len` on.
    pub(in crate::client) fn truncate(&mut self, len: usize) {
        self.blocks.truncate(len);
        self.count = self.blocks.iter().flatten().count();
    }

    /// The number of stored blocks.
    pub(in crate::client) fn count(&self) -> usize {
        self.count
    }

    /// The chunks of the blocks, in order. `None` if a block in between is not stored.
    pub(in crate::client) fn chunk_ids(&self) -> Option<Vec<ChunkId>> {
        self.blocks.iter().map(|block| block.map(|block| block.id)).collect()
    }

    /// The smallest number of copies of any chunk; 0 if there are no chunks.
    pub(in crate::client) fn fewest_copies(&self) -> usize {
        self.blocks.iter().flatten().map(|block| block.copies.into()).min().unwrap_or_default()
    }

    /// The number of chunks with fewer copies than this.
    pub(in crate::client) fn count_with_fewer_than(&self, copies: u8) -> usize {
        self.blocks.iter().flatten().filter(|block| block.copies < copies).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_finish_in_any_order_and_ids_are_in_order() {
        let mut blocks = FinishedBlocks::default();
        assert_eq!((blocks.chunk_ids(), blocks.fewest_copies()), (Some(vec![]), 0));
        let [a, b] = [ChunkId::of(b"a"), ChunkId::of(b"b")];
        blocks.insert(1, b, 5);
        assert_eq!((blocks.count(), blocks.chunk_ids()), (1, None));
        assert_eq!(blocks.indices().collect::<Vec<_>>(), [1]);
        blocks.insert(0, a, 3);
        blocks.insert(0, a, 3);
        assert_eq!((blocks.count(), blocks.chunk_ids()), (2, Some(vec![a, b])));
        blocks.insert(7, a, 1);
        blocks.truncate(2);
        assert_eq!((blocks.count(), blocks.indices().count()), (2, 2));
        assert_eq!(blocks.fewest_copies(), 3);
        assert_eq!((blocks.count_with_fewer_than(5), blocks.count_with_fewer_than(3)), (1, 0));
    }
}
