//! Buffers for data in transfer. A connection takes one when bytes arrive and returns it when it becomes idle.

use std::cell::RefCell;
use std::rc::Rc;

/// Size of a buffer in bytes. Large enough that a megabyte takes a few dozen system calls.
const BUFFER_BYTES: usize = 64 * 1024;

/// Unused buffers that the pool keeps; more go back to the allocator.
const MAX_POOLED: usize = 8;

/// The buffers that no connection uses.
#[derive(Debug)]
pub(super) struct BufferPool {
    buffer_bytes: usize,
    unused: RefCell<Vec<Vec<u8>>>,
}

impl BufferPool {
    /// Creates a pool of buffers that hold at least `max_head_bytes` and one byte more, so that a head above the limit
    /// is noticed.
    pub(super) fn new(max_head_bytes: usize) -> Rc<Self> {
        let buffer_bytes = BUFFER_BYTES.max(max_head_bytes.saturating_add(1));
        Rc::new(Self { buffer_bytes, unused: RefCell::default() })
    }

    /// Takes an empty buffer. It returns to the pool when dropped.
    pub(super) fn take(self: &Rc<Self>) -> Buffer {
        let unused = self.unused.borrow_mut().pop();
        let bytes = unused.unwrap_or_else(|| vec![0; self.buffer_bytes]);
        Buffer { bytes, start: 0, end: 0, pool: Rc::clone(self) }
    }
}

/// A queue of bytes of fixed size: received, and not yet consumed.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    pool: Rc<BufferPool>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut unused = self.pool.unused.borrow_mut();
        if unused.len() < MAX_POOLED {
            unused.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl Buffer {
    /// The bytes that were added and not consumed.
    pub(super) fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// The free part, to be filled from its beginning; then call [`Self::add`].
    pub(super) fn spare(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// Adds the first `count` bytes of the free part to the filled one.
    pub(super) fn add(&mut self, count: usize) {
        self.end = self.end.saturating_add(count).min(self.bytes.len());
    }

    /// Removes the first `count` filled bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
    }

    /// Whether no bytes are filled.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_and_free_their_space() {
        let pool = BufferPool::new(BUFFER_BYTES + 2);
        let mut buffer = pool.take();
        assert_eq!(buffer.spare().len(), BUFFER_BYTES + 3);
        buffer.spare()[..3].copy_from_slice(b"abc");
        buffer.add(3);
        buffer.consume(1);
        assert_eq!(buffer.filled(), b"bc");
        buffer.add(BUFFER_BYTES);
        assert_eq!(buffer.spare().len(), 1);
        assert_eq!(&buffer.filled()[..2], b"bc");
        buffer.consume(usize::MAX);
        assert!(buffer.is_empty());
        drop(buffer);
        assert!(pool.take().is_empty());
    }
}
