//! Splitting a file into blocks.

use std::io::{self, Read};
use std::iter::FusedIterator;

use crate::id::BLOCK_BYTES;

/// A block: a piece of the user's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The block's number, from 0: it begins at `index` × [`BLOCK_BYTES`] in the file.
    pub index: u64,
    /// Exactly [`BLOCK_BYTES`] bytes; in the last block 1 or more.
    pub bytes: Vec<u8>,
}

/// An iterator over the blocks of a reader, in order. It holds one block in memory at a time.
///
/// The reader may return pieces of any size, as pipes do. After the end or an error the iterator returns `None` and
/// does not read again.
#[derive(Debug)]
pub struct Blocks<R> {
    reader: R,
    next: u64,
    ended: bool,
}

impl<R: Read> Blocks<R> {
    /// Splits `reader` from block 0 on.
    pub fn new(reader: R) -> Self {
        Self::starting_at(reader, 0)
    }

    /// Splits `reader` from block `index` on. The reader must already be at the first byte of that block.
    pub fn starting_at(reader: R, index: u64) -> Self {
        Self { reader, next: index, ended: false }
    }
}

impl<R: Read> Iterator for Blocks<R> {
    type Item = io::Result<Block>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let mut bytes = Vec::with_capacity(BLOCK_BYTES);
        let read = self.reader.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut bytes);
        // True after an error too: `take` never reads past a full block, so an error always leaves a shorter one.
        self.ended = bytes.len() < BLOCK_BYTES;
        match read {
            Err(error) => Some(Err(error)),
            Ok(0) => None,
            Ok(_) => {
                let index = self.next;
                self.next += 1;
                Some(Ok(Block { index, bytes }))
            }
        }
    }
}

impl<R: Read> FusedIterator for Blocks<R> {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a few bytes at a time, is interrupted before each piece, and counts the reads at its end.
    struct Dribble {
        bytes: Vec<u8>,
        at: usize,
        interrupt: bool,
        reads_at_end: usize,
    }

    impl Read for Dribble {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.interrupt = !self.interrupt;
            if self.interrupt {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let len = buf.len().min(100_003).min(self.bytes.len() - self.at);
            buf[..len].copy_from_slice(&self.bytes[self.at..self.at + len]);
            self.at += len;
            self.reads_at_end += usize::from(len == 0);
            Ok(len)
        }
    }

    fn dribble(len: usize) -> Dribble {
        let bytes = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
        Dribble { bytes, at: 0, interrupt: false, reads_at_end: 0 }
    }

    #[test]
    fn a_file_is_split_into_full_blocks_and_a_rest() {
        for len in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES, 3 * BLOCK_BYTES + 5] {
            let source = dribble(len);
            let whole = source.bytes.clone();
            let blocks: Vec<Block> = Blocks::new(source).map(Result::unwrap).collect();
            let expected: Vec<&[u8]> = whole.chunks(BLOCK_BYTES).collect();
            assert_eq!(blocks.len(), expected.len(), "{len}");
            for (i, (block, bytes)) in blocks.iter().zip(expected).enumerate() {
                assert_eq!(block.index, i as u64);
                assert!(block.bytes == bytes, "block {i} of {len}");
            }
        }
    }

    #[test]
    fn indices_begin_at_any_number() {
        let blocks: Vec<Block> = Blocks::starting_at(dribble(BLOCK_BYTES + 1), 7).map(Result::unwrap).collect();
        assert_eq!(blocks.iter().map(|b| (b.index, b.bytes.len())).collect::<Vec<_>>(), [(7, BLOCK_BYTES), (8, 1)]);
    }

    /// Goal: a terminal is not read again after the user ended the input. Method: count the reads past the end.
    #[test]
    fn a_reader_is_not_read_past_its_end() {
        let mut source = dribble(10);
        let mut blocks = Blocks::new(&mut source);
        assert_eq!(blocks.next().unwrap().unwrap().bytes.len(), 10);
        assert!(blocks.next().is_none());
        assert!(blocks.next().is_none());
        assert_eq!(source.reads_at_end, 1);
    }

    #[test]
    fn an_error_is_returned_once_and_ends_the_blocks() {
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::PermissionDenied.into())
            }
        }
        let mut blocks = Blocks::new(dribble(BLOCK_BYTES + 5).chain(Fails));
        assert_eq!(blocks.next().unwrap().unwrap().bytes.len(), BLOCK_BYTES);
        assert_eq!(blocks.next().unwrap().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(blocks.next().is_none());
    }
}
