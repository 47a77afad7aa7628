//! What is done of a put: each block's chunk, and how many copies it has. Pure, and small: a terabyte is a million
//! blocks.

use crate::id::ChunkId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    id: ChunkId,
    copies: u8,
}

/// The finished blocks of a put, by number.
#[derive(Debug, Clone, Default)]
pub(in crate::client) struct Ledger {
    entries: Vec<Option<Entry>>,
    finished: usize,
}

impl Ledger {
    /// Notes that a block is done, and how many copies its chunk has.
    pub(in crate::client) fn finish(&mut self, index: usize, id: ChunkId, copies: usize) {
        if index >= self.entries.len() {
            self.entries.resize(index + 1, None);
        }
        if let Some(entry) = self.entries.get_mut(index) {
            self.finished += usize::from(entry.is_none());
            *entry = Some(Entry { id, copies: u8::try_from(copies).unwrap_or(u8::MAX) });
        }
    }

    /// Is this block done?
    pub(in crate::client) fn has(&self, index: usize) -> bool {
        matches!(self.entries.get(index), Some(Some(_)))
    }

    /// One more than the highest number of a block that is done.
    pub(in crate::client) fn end(&self) -> usize {
        self.entries.len()
    }

    /// Forgets the blocks from number `blocks` on.
    pub(in crate::client) fn truncate(&mut self, blocks: usize) {
        self.entries.truncate(blocks);
        self.finished = self.entries.iter().flatten().count();
    }

    /// How many blocks are done.
    pub(in crate::client) fn finished(&self) -> usize {
        self.finished
    }

    /// The ids of the blocks in order; `None` while one of them is not done.
    pub(in crate::client) fn ids(&self) -> Option<Vec<ChunkId>> {
        self.entries.iter().map(|entry| entry.map(|entry| entry.id)).collect()
    }

    /// The fewest copies that a chunk has; 0 if there are no chunks.
    pub(in crate::client) fn fewest_copies(&self) -> usize {
        self.entries.iter().flatten().map(|entry| entry.copies.into()).min().unwrap_or_default()
    }

    /// How many chunks have fewer copies than this.
    pub(in crate::client) fn with_fewer_than(&self, copies: u8) -> usize {
        self.entries.iter().flatten().filter(|entry| entry.copies < copies).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_finish_in_any_order_and_are_told_in_theirs() {
        let mut ledger = Ledger::default();
        assert_eq!((ledger.ids(), ledger.fewest_copies()), (Some(vec![]), 0));
        let [a, b] = [ChunkId::of(b"a"), ChunkId::of(b"b")];
        ledger.finish(1, b, 5);
        assert_eq!((ledger.finished(), ledger.has(0), ledger.has(1), ledger.ids()), (1, false, true, None));
        ledger.finish(0, a, 3);
        ledger.finish(0, a, 3);
        assert_eq!((ledger.finished(), ledger.ids()), (2, Some(vec![a, b])));
        ledger.finish(7, a, 1);
        ledger.truncate(2);
        assert_eq!((ledger.finished(), ledger.end()), (2, 2));
        assert_eq!((ledger.fewest_copies(), ledger.with_fewer_than(5), ledger.with_fewer_than(3)), (3, 1, 0));
    }
}
