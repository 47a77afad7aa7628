//! The bytes of an archive as they come from another thread, block by block.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::Receiver;

/// A stream whose blocks come through a channel. It ends when the sender is dropped.
#[derive(Debug)]
pub(super) struct BlockStream {
    blocks: Receiver<Vec<u8>>,
    current: Vec<u8>,
    read: usize,
    position: Position,
    /// Bytes that are still to be skipped.
    skip: u64,
}

/// A block of the stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The number of the block in the manifest.
    pub(super) block: usize,
    /// Where it begins in the stream, in bytes.
    pub(super) start: u64,
}

impl BlockStream {
    /// A stream whose first block is the one at `position`. It begins at byte `offset` of the whole stream.
    pub(super) fn new(blocks: Receiver<Vec<u8>>, position: Position, offset: u64) -> Self {
        let skip = offset.saturating_sub(position.start);
        Self { blocks, current: Vec::new(), read: 0, position, skip }
    }

    /// The block of the next byte.
    pub(super) fn position(&self) -> Position {
        if self.read < self.current.len() { self.position } else { self.next() }
    }

    /// The block after the current one.
    fn next(&self) -> Position {
        let Position { block, start } = self.position;
        match self.current.len() {
            0 => self.position,
            length => Position { block: block.saturating_add(1), start: start.saturating_add(length as u64) },
        }
    }
}

impl BufRead for BlockStream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.read >= self.current.len() {
            let Ok(block) = self.blocks.recv() else { return Ok(&[]) };
            self.position = self.next();
            self.current = block;
            self.read = self.current.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip = self.skip.saturating_sub(self.read as u64);
        }
        Ok(self.current.get(self.read..).unwrap_or_default())
    }

    fn consume(&mut self, bytes: usize) {
        self.read = self.read.saturating_add(bytes);
    }
}

impl Read for BlockStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_stream_knows_the_block_of_its_next_byte() {
        let (sender, blocks) = channel();
        for block in [b"0123".to_vec(), b"45".to_vec(), b"6789".to_vec()] {
            sender.send(block).unwrap();
        }
        drop(sender);
        let at = |block, start| Position { block, start };
        let mut stream = BlockStream::new(blocks, at(7, 100), 105);
        assert_eq!(stream.position(), at(7, 100));
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        assert_eq!((byte, stream.position()), ([b'5'], at(9, 106)));
        stream.read_exact(&mut byte).unwrap();
        assert_eq!((byte, stream.position()), ([b'6'], at(9, 106)));
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!((&rest[..], stream.position()), (&b"789"[..], at(10, 110)));
    }
}
