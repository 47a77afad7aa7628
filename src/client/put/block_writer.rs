//! Cutting a stream that is written into blocks.

use crate::archive::cuts;
use crate::id::BLOCK_BYTES;

/// The reader takes no further blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client) struct Ended;

/// Cuts what is written to it into full blocks, or into shorter ones at entries, and passes each on. It holds one block in
/// memory.
pub(in crate::client) struct BlockWriter<'a> {
    block: Vec<u8>,
    /// Blocks that were passed on.
    blocks: usize,
    /// Bytes of these.
    passed_bytes: u64,
    /// Takes a block with its number. Returns false to take no further ones.
    take: &'a mut dyn FnMut(usize, Vec<u8>) -> bool,
}

impl<'a> BlockWriter<'a> {
    pub(in crate::client) fn new(take: &'a mut dyn FnMut(usize, Vec<u8>) -> bool) -> Self {
        Self { block: Vec::new(), blocks: 0, passed_bytes: 0, take }
    }

    /// The bytes that were written.
    pub(in crate::client) fn bytes(&self) -> u64 {
        self.passed_bytes + self.block.len() as u64
    }

    /// Begins an entry of this many bytes, in a new block if [`cuts`] has it so.
    pub(in crate::client) fn begin_entry(&mut self, bytes: u64) -> Result<(), Ended> {
        if cuts::ends_before(self.block.len(), bytes) { self.pass() } else { Ok(()) }
    }

    /// Ends the entry at this path, and the block with it if [`cuts`] has it so.
    pub(in crate::client) fn end_entry(&mut self, path: &[u8], bytes: u64) -> Result<(), Ended> {
        if cuts::ends_after(path, bytes) { self.pass() } else { Ok(()) }
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

    /// Passes the last block on. Returns the number of blocks.
    pub(in crate::client) fn finish(mut self) -> Result<usize, Ended> {
        self.pass()?;
        Ok(self.blocks)
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
        let number = self.blocks;
        self.blocks += 1;
        self.passed_bytes += bytes.len() as u64;
        if (self.take)(number, bytes) { Ok(()) } else { Err(Ended) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_into_full_blocks_and_a_rest() {
        let mut blocks = Vec::new();
        let mut take = |number, bytes: Vec<u8>| {
            blocks.push((number, bytes));
            true
        };
        let mut writer = BlockWriter::new(&mut take);
        writer.write(b"ab").unwrap();
        writer.write_zeros(2 * BLOCK_BYTES as u64).unwrap();
        writer.write(b"c").unwrap();
        assert_eq!((writer.bytes(), writer.finish()), (2 * BLOCK_BYTES as u64 + 3, Ok(3)));
        assert_eq!(
            blocks.iter().map(|(index, bytes)| (*index, bytes.len())).collect::<Vec<_>>(),
            [(0, BLOCK_BYTES), (1, BLOCK_BYTES), (2, 3)]
        );
        assert!(blocks[0].1.starts_with(b"ab\0") && blocks[2].1 == b"\0\0c");
    }

    /// The lengths of the blocks of these entries.
    fn lengths(entries: &[(&str, u64)]) -> Vec<usize> {
        let mut lengths = Vec::new();
        let mut take = |_, bytes: Vec<u8>| {
            lengths.push(bytes.len());
            true
        };
        let mut writer = BlockWriter::new(&mut take);
        for &(path, bytes) in entries {
            writer.begin_entry(bytes).unwrap();
            writer.write_zeros(bytes).unwrap();
            writer.end_entry(path.as_bytes(), bytes).unwrap();
        }
        writer.finish().unwrap();
        lengths
    }

    #[test]
    fn blocks_are_cut_at_entries() {
        let (block, unit) = (BLOCK_BYTES as u64, 512);
        assert_eq!(lengths(&[("a", unit), ("b", block + unit), ("c", unit)]), [512, BLOCK_BYTES, 512, 512]);
        assert_eq!(lengths(&[("a", unit), ("b", block - unit), ("c", unit)]), [BLOCK_BYTES, 512]);
        assert_eq!(lengths(&[("a", unit), ("b", block), ("c", unit)]), [512, BLOCK_BYTES, 512]);
        assert_eq!(lengths(&[("a", unit), ("folder/240", unit), ("c", unit)]), [1024, 512], "cut by a hash");
    }

    #[test]
    fn writing_ends_when_no_block_is_taken() {
        let mut take = |_, _| false;
        let mut writer = BlockWriter::new(&mut take);
        assert_eq!(writer.write(&vec![1; BLOCK_BYTES - 1]), Ok(()));
        assert_eq!(writer.write(b"1"), Err(Ended));
    }
}
