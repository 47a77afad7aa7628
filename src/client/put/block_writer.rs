//! Cutting a stream that is written into blocks.

use crate::client::put::source::SourceLength;
use crate::id::BLOCK_BYTES;
use crate::pipeline::Block;

/// The reader takes no further blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client) struct Ended;

/// Cuts what is written to it into blocks and passes each on. It holds one block in memory.
pub(in crate::client) struct BlockWriter<'a> {
    block: Vec<u8>,
    length: SourceLength,
    /// Returns false to take no further blocks.
    take: &'a mut dyn FnMut(Block) -> bool,
}

impl<'a> BlockWriter<'a> {
    pub(in crate::client) fn new(take: &'a mut dyn FnMut(Block) -> bool) -> Self {
        Self { block: Vec::new(), length: SourceLength { blocks: 0, bytes: 0 }, take }
    }

    pub(in crate::client) fn write(&mut self, mut bytes: &[u8]) -> Result<(), Ended> {
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(self.room().min(bytes.len()));
            self.block.extend_from_slice(part);
            self.pass_full()?;
            bytes = rest;
        }
        Ok(())
    }

    pub(in crate::client) fn write_zeros(&mut self, mut count: u64) -> Result<(), Ended> {
        while count > 0 {
            let part = self.room().min(usize::try_from(count).unwrap_or(usize::MAX));
            self.block.resize(self.block.len() + part, 0);
            self.pass_full()?;
            count -= part as u64;
        }
        Ok(())
    }

    /// Passes the last block on. Returns the length of the stream.
    pub(in crate::client) fn finish(mut self) -> Result<SourceLength, Ended> {
        self.pass()?;
        Ok(self.length)
    }

    fn room(&mut self) -> usize {
        if self.block.is_empty() {
            self.block.reserve_exact(BLOCK_BYTES);
        }
        BLOCK_BYTES - self.block.len()
    }

    fn pass_full(&mut self) -> Result<(), Ended> {
        if self.block.len() == BLOCK_BYTES { self.pass() } else { Ok(()) }
    }

    fn pass(&mut self) -> Result<(), Ended> {
        if self.block.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.block);
        let index = self.length.blocks as u64;
        self.length.blocks += 1;
        self.length.bytes += bytes.len() as u64;
        if (self.take)(Block { index, bytes }) { Ok(()) } else { Err(Ended) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_into_full_blocks_and_a_rest() {
        let mut blocks = Vec::new();
        let mut take = |block: Block| {
            blocks.push((block.index, block.bytes));
            true
        };
        let mut writer = BlockWriter::new(&mut take);
        writer.write(b"ab").unwrap();
        writer.write_zeros(2 * BLOCK_BYTES as u64).unwrap();
        writer.write(b"c").unwrap();
        assert_eq!(writer.finish(), Ok(SourceLength { blocks: 3, bytes: 2 * BLOCK_BYTES as u64 + 3 }));
        assert_eq!(
            blocks.iter().map(|(index, bytes)| (*index, bytes.len())).collect::<Vec<_>>(),
            [(0, BLOCK_BYTES), (1, BLOCK_BYTES), (2, 3)]
        );
        assert!(blocks[0].1.starts_with(b"ab\0") && blocks[2].1 == b"\0\0c");
    }

    #[test]
    fn writing_ends_when_no_block_is_taken() {
        let mut take = |_| false;
        let mut writer = BlockWriter::new(&mut take);
        assert_eq!(writer.write(&vec![1; BLOCK_BYTES - 1]), Ok(()));
        assert_eq!(writer.write(b"1"), Err(Ended));
    }
}
