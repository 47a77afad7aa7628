//! The bytes of an archive as they come from another thread, block by block.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::Receiver;

/// A stream whose blocks come through a channel. It ends when the sender is dropped.
pub(super) struct BlockStream {
    blocks: Receiver<Vec<u8>>,
    current: Vec<u8>,
    read: usize,
}

impl BlockStream {
    pub(super) fn new(blocks: Receiver<Vec<u8>>) -> Self {
        Self { blocks, current: Vec::new(), read: 0 }
    }
}

impl BufRead for BlockStream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.read >= self.current.len() {
            match self.blocks.recv() {
                Ok(block) => (self.current, self.read) = (block, 0),
                Err(_) => return Ok(&[]),
            }
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
