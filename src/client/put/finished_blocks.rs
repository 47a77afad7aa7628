//! The blocks of a put that are stored: the chunk of each, and its number of copies. Pure, and small: a terabyte is a
//! million blocks.

use crate::client::put::position::Position;
use crate::id::ChunkId;

/// A block that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client) struct FinishedBlock {
    pub(in crate::client) id: ChunkId,
    /// The bytes of the block; 0 if it was not read again.
    len: u32,
    copies: u8,
}

impl FinishedBlock {
    pub(in crate::client) fn new(id: ChunkId, len: usize, copies: usize) -> Self {
        let (len, copies) = (u32::try_from(len).unwrap_or(u32::MAX), u8::try_from(copies).unwrap_or(u8::MAX));
        Self { id, len, copies }
    }
}

/// The stored blocks of a put.
#[derive(Debug, Clone, Default)]
pub(in crate::client) struct FinishedBlocks {
    pub(in crate::client) data: FinishedList,
    /// Those of the index of a directory.
    pub(in crate::client) index: FinishedList,
}

impl FinishedBlocks {
    /// Records that a block is stored.
    pub(in crate::client) fn insert(&mut self, position: Position, block: FinishedBlock) {
        match position {
            Position::Data(number) => self.data.insert(number, block),
            Position::Index(number) => self.index.insert(number, block),
        }
    }

    /// The number of stored blocks.
    pub(in crate::client) fn count(&self) -> usize {
        self.data.count() + self.index.count()
    }

    /// The smallest number of copies of any chunk; 0 if there are no chunks.
    pub(in crate::client) fn fewest_copies(&self) -> usize {
        self.all().map(|block| block.copies.into()).min().unwrap_or_default()
    }

    /// The number of chunks with fewer copies than this.
    pub(in crate::client) fn count_with_fewer_than(&self, copies: u8) -> usize {
        self.all().filter(|block| block.copies < copies).count()
    }

    fn all(&self) -> impl Iterator<Item = &FinishedBlock> {
        self.data.blocks.iter().chain(&self.index.blocks).flatten()
    }
}

/// The stored blocks of the data, or of the index, by their numbers.
#[derive(Debug, Clone, Default)]
pub(in crate::client) struct FinishedList {
    blocks: Vec<Option<FinishedBlock>>,
    count: usize,
}

impl FinishedList {
    fn insert(&mut self, number: usize, finished: FinishedBlock) {
        if number >= self.blocks.len() {
            self.blocks.resize(number + 1, None);
        }
        if let Some(block) = self.blocks.get_mut(number) {
            self.count += usize::from(block.is_none());
            *block = Some(finished);
        }
    }

    /// The numbers of the stored blocks, in ascending order.
    pub(in crate::client) fn numbers(&self) -> impl Iterator<Item = usize> {
        self.blocks.iter().enumerate().filter_map(|(number, block)| block.map(|_| number))
    }

    /// Removes the blocks from this number on.
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

    /// Where each block ends.
    pub(in crate::client) fn ends(&self) -> Vec<u64> {
        let mut end = 0;
        let lengths = self.blocks.iter().flatten().map(|block| u64::from(block.len));
        lengths.map(|len| (end += len, end).1).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_finish_in_any_order_and_ids_are_in_order() {
        let mut blocks = FinishedBlocks::default();
        assert_eq!((blocks.data.chunk_ids(), blocks.fewest_copies()), (Some(vec![]), 0));
        let [a, b] = [ChunkId::of(b"a"), ChunkId::of(b"b")];
        blocks.insert(Position::Data(1), FinishedBlock::new(b, 7, 5));
        assert_eq!((blocks.data.count(), blocks.data.chunk_ids()), (1, None));
        assert_eq!(blocks.data.numbers().collect::<Vec<_>>(), [1]);
        blocks.insert(Position::Data(0), FinishedBlock::new(a, 9, 3));
        blocks.insert(Position::Data(0), FinishedBlock::new(a, 9, 3));
        assert_eq!((blocks.data.count(), blocks.data.chunk_ids()), (2, Some(vec![a, b])));
        blocks.insert(Position::Data(7), FinishedBlock::new(a, 1, 1));
        blocks.data.truncate(2);
        assert_eq!((blocks.data.count(), blocks.data.numbers().count(), blocks.data.ends()), (2, 2, vec![9, 16]));
        assert_eq!(blocks.fewest_copies(), 3);
        assert_eq!((blocks.count_with_fewer_than(5), blocks.count_with_fewer_than(3)), (1, 0));
        blocks.insert(Position::Index(0), FinishedBlock::new(b, 4, 2));
        assert_eq!((blocks.count(), blocks.data.count(), blocks.index.ends()), (3, 2, vec![4]));
        assert_eq!((blocks.fewest_copies(), blocks.count_with_fewer_than(3)), (2, 1));
    }
}
