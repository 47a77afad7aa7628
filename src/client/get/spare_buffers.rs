//! Memory for chunks that is used again. The system must clear each page that is new to a process, and an allocator keeps
//! what each thread freed for that thread: so a get would use twice the memory, and a tenth more of the processor.

use std::sync::Mutex;

use crate::sync::lock;

/// Buffers that nobody uses now.
#[derive(Debug)]
pub(super) struct SpareBuffers {
    spare: Mutex<Vec<Vec<u8>>>,
    limit: usize,
}

impl SpareBuffers {
    /// Keeps at most this number of buffers.
    pub(super) fn new(limit: usize) -> Self {
        Self { spare: Mutex::default(), limit }
    }

    /// A buffer with any content: the one that was given back last, or an empty one.
    pub(super) fn take(&self) -> Vec<u8> {
        lock(&self.spare).pop().unwrap_or_default()
    }

    pub(super) fn give_back(&self, buffer: Vec<u8>) {
        let mut spare = lock(&self.spare);
        if spare.len() < self.limit {
            spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_buffer_is_used_first_and_few_are_kept() {
        let buffers = SpareBuffers::new(2);
        assert_eq!(buffers.take().capacity(), 0);
        for content in [b"1", b"2", b"3"] {
            buffers.give_back(content.to_vec());
        }
        assert_eq!([buffers.take(), buffers.take(), buffers.take()], [b"2".to_vec(), b"1".to_vec(), Vec::new()]);
    }
}
