//! Buffers, lent to a connection while something moves on it and taken back when it rests.

use std::cell::RefCell;
use std::rc::Rc;

/// Bytes of a buffer. Large enough that a megabyte is a few dozen system calls.
const BUFFER_BYTES: usize = 64 * 1024;

/// Buffers kept for the next that needs one; more are given back to the allocator.
const MOST_KEPT: usize = 8;

/// The buffers that nobody uses now.
#[derive(Debug)]
pub(super) struct Buffers {
    size: usize,
    kept: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// Buffers that hold at least one byte more than the largest head.
    pub(super) fn new(head_bytes: usize) -> Rc<Self> {
        let size = BUFFER_BYTES.max(head_bytes.saturating_add(1));
        Rc::new(Self { size, kept: RefCell::default() })
    }

    /// An empty inbox.
    pub(super) fn lend(self: &Rc<Self>) -> Inbox {
        let kept = self.kept.borrow_mut().pop();
        let bytes = kept.unwrap_or_else(|| vec![0; self.size]);
        Inbox { bytes, start: 0, end: 0, owner: Rc::clone(self) }
    }
}

/// Bytes that were received and not used yet.
#[derive(Debug)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    owner: Rc<Buffers>,
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut kept = self.owner.kept.borrow_mut();
        if kept.len() < MOST_KEPT {
            kept.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl Inbox {
    /// What was received and not used.
    pub(super) fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Where the next bytes may be put.
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

    /// So many bytes were put into the spare room.
    pub(super) fn received(&mut self, count: usize) {
        self.end = self.end.saturating_add(count).min(self.bytes.len());
    }

    /// So many bytes were used.
    pub(super) fn used(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
    }

    /// Is there nothing left?
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in_and_make_room() {
        let buffers = Buffers::new(BUFFER_BYTES + 2);
        let mut inbox = buffers.lend();
        assert_eq!(inbox.spare().len(), BUFFER_BYTES + 3);
        inbox.spare()[..3].copy_from_slice(b"abc");
        inbox.received(3);
        inbox.used(1);
        assert_eq!(inbox.filled(), b"bc");
        inbox.received(BUFFER_BYTES);
        assert_eq!(inbox.spare().len(), 1);
        assert_eq!(&inbox.filled()[..2], b"bc");
        inbox.used(usize::MAX);
        assert!(inbox.is_empty());
        drop(inbox);
        assert!(buffers.lend().is_empty());
    }
}
