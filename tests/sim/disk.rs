//! A disk without bytes: of each copy it has the length, and whether its bytes are still the right ones.
//!
//! A stored copy is durable, as the store promises for an acknowledged put, and so is the saved state of the cell. The
//! recorded holders of a chunk can be lost in a crash.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use cellsync::cell::{LocalCopy, SavedState, StoreStats};
use cellsync::id::{CellId, ChunkId, DEFAULT_COPIES, MAX_CHUNK_BYTES};

/// Copies in one page of the listing after the start.
const PAGE: usize = 256;

#[derive(Debug, Clone)]
pub(crate) struct Copy {
    pub(crate) len: u32,
    /// Do the bytes still hash to the chunk's id?
    pub(crate) good: bool,
    pub(crate) copies: u8,
    /// Is `copies` a guess, because the catalogue was lost?
    pub(crate) bare: bool,
    holders: Vec<CellId>,
    /// The number that a co-holder has told, which may not be on the disk yet.
    unsynced_copies: Option<u8>,
    /// Newer holders, which may not be on the disk yet.
    unsynced_holders: Option<Vec<CellId>>,
}

impl Copy {
    fn set_copies(&mut self, copies: u8) {
        if std::mem::take(&mut self.bare) {
            self.copies = copies;
        }
    }

    /// The number of copies that the cell knows; `None` if it does not.
    pub(crate) fn known_copies(&self) -> Option<u8> {
        self.unsynced_copies.or((!self.bare).then_some(self.copies))
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) id: CellId,
    pub(crate) state: SavedState,
    copies: BTreeMap<ChunkId, Copy>,
    capacity_bytes: u64,
    used_bytes: u64,
    /// Bad copies that were quarantined.
    pub(crate) quarantined: u64,
    /// Do all reads of copies fail now, as behind a loose cable?
    pub(crate) reads_fail: bool,
    /// Reads of copies since the start.
    reads: u64,
    /// Copies whose last read failed. The cell does not report them to others.
    unreadable: BTreeSet<ChunkId>,
}

/// The result of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PutResult {
    Stored,
    AlreadyPresent,
    NoRoom,
}

impl Disk {
    pub(crate) fn new(id: CellId, capacity_bytes: u64) -> Self {
        Self {
            id,
            state: SavedState::default(),
            copies: BTreeMap::new(),
            capacity_bytes,
            used_bytes: 0,
            quarantined: 0,
            reads_fail: false,
            reads: 0,
            unreadable: BTreeSet::new(),
        }
    }

    pub(crate) fn stats(&self) -> StoreStats {
        let free_bytes = self.capacity_bytes.saturating_sub(self.used_bytes);
        StoreStats {
            chunks: self.copies.len() as u64,
            free_bytes,
            full: free_bytes < MAX_CHUNK_BYTES as u64,
            read_only: false,
            reads: self.reads,
        }
    }

    pub(crate) fn get(&self, id: &ChunkId) -> Option<&Copy> {
        self.copies.get(id)
    }

    /// Reads a copy: whether its bytes are good; `None` if the disk cannot read it.
    pub(crate) fn read(&mut self, id: &ChunkId) -> Option<bool> {
        self.reads += 1;
        let good = self.copies.get(id)?.good;
        if self.reads_fail {
            self.unreadable.insert(*id);
            return None;
        }
        self.unreadable.remove(id);
        Some(good)
    }

    /// Whether other cells may rely on a copy.
    pub(crate) fn has(&self, id: &ChunkId) -> bool {
        self.copies.contains_key(id) && !self.unreadable.contains(id)
    }

    /// The first chunk after this id; after the last one, the first of all.
    pub(crate) fn after(&self, id: &ChunkId) -> Option<ChunkId> {
        let mut later = self.copies.range((std::ops::Bound::Excluded(id), std::ops::Bound::Unbounded));
        later.next().or_else(|| self.copies.first_key_value()).map(|(id, _)| *id)
    }

    pub(crate) fn copies(&self) -> impl Iterator<Item = (&ChunkId, &Copy)> {
        self.copies.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.copies.len()
    }

    pub(crate) fn put(&mut self, copy: &LocalCopy) -> PutResult {
        let is_full = self.stats().full;
        match self.copies.entry(copy.id) {
            // The new bytes replace what cannot be read.
            Entry::Occupied(_) if self.unreadable.remove(&copy.id) => PutResult::Stored,
            Entry::Occupied(mut occupied) => {
                if !copy.bare {
                    occupied.get_mut().set_copies(copy.copies);
                }
                PutResult::AlreadyPresent
            }
            Entry::Vacant(_) if is_full => PutResult::NoRoom,
            Entry::Vacant(vacant) => {
                let LocalCopy { len, copies, bare, ref holders, .. } = *copy;
                let holders = holders.clone();
                let (unsynced_copies, unsynced_holders) = (None, None);
                vacant.insert(Copy { len, good: true, copies, bare, holders, unsynced_copies, unsynced_holders });
                self.used_bytes += u64::from(len);
                PutResult::Stored
            }
        }
    }

    pub(crate) fn remove(&mut self, id: &ChunkId) -> bool {
        let Some(copy) = self.copies.remove(id) else { return false };
        self.used_bytes -= u64::from(copy.len);
        self.unreadable.remove(id);
        true
    }

    pub(crate) fn quarantine(&mut self, id: &ChunkId) {
        if self.remove(id) {
            self.quarantined += 1;
        }
    }

    /// Flips a bit of this copy. The cell is not notified.
    pub(crate) fn corrupt(&mut self, id: &ChunkId) {
        self.copies.get_mut(id).unwrap().good = false;
    }

    pub(crate) fn set_holders(&mut self, id: &ChunkId, holders: Vec<CellId>) {
        if let Some(copy) = self.copies.get_mut(id) {
            copy.unsynced_holders = Some(holders);
        }
    }

    /// Sets the number of copies if it is a guess.
    pub(crate) fn set_copies(&mut self, id: &ChunkId, copies: u8) {
        if let Some(copy) = self.copies.get_mut(id).filter(|copy| copy.bare) {
            copy.unsynced_copies = Some(copies);
        }
    }

    /// The catalogue is lost: nothing is left but the chunks' files.
    pub(crate) fn lose_catalogue(&mut self) {
        for copy in self.copies.values_mut() {
            (copy.copies, copy.bare, copy.unsynced_copies) = (DEFAULT_COPIES, true, None);
            (copy.holders, copy.unsynced_holders) = (Vec::new(), None);
        }
    }

    /// The power fails: newer holders and numbers of copies reach the disk or are lost, at random.
    pub(crate) fn crash(&mut self, rng: &mut fastrand::Rng) {
        (self.reads, self.unreadable) = (0, BTreeSet::new());
        for copy in self.copies.values_mut() {
            if let Some(holders) = copy.unsynced_holders.take()
                && rng.bool()
            {
                copy.holders = holders;
            }
            if let Some(copies) = copy.unsynced_copies.take()
                && rng.bool()
            {
                copy.set_copies(copies);
            }
        }
    }

    /// The listing after the start, page by page.
    pub(crate) fn pages(&self) -> Vec<Vec<LocalCopy>> {
        let local_copy = |(id, copy): (&ChunkId, &Copy)| {
            let holders = copy.unsynced_holders.as_ref().unwrap_or(&copy.holders).clone();
            LocalCopy { id: *id, len: copy.len, copies: copy.copies, bare: copy.bare, holders }
        };
        let all: Vec<LocalCopy> = self.copies.iter().map(local_copy).collect();
        all.chunks(PAGE).map(<[LocalCopy]>::to_vec).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(byte: u8, len: u32) -> LocalCopy {
        LocalCopy {
            id: ChunkId::from_bytes([byte; 32]),
            len,
            copies: 5,
            bare: false,
            holders: vec![CellId::from_bytes([1; 16])],
        }
    }

    #[test]
    fn a_disk_stores_what_fits_once_and_lists_it_in_a_ring() {
        let mut disk = Disk::new(CellId::from_bytes([1; 16]), (MAX_CHUNK_BYTES as u64) + 10);
        assert_eq!(disk.put(&copy(3, 8)), PutResult::Stored);
        assert_eq!(disk.put(&copy(3, 8)), PutResult::AlreadyPresent);
        assert_eq!(disk.put(&copy(9, 8)), PutResult::Stored);
        assert_eq!(disk.put(&copy(4, 8)), PutResult::NoRoom);
        let id = |byte| ChunkId::from_bytes([byte; 32]);
        assert_eq!(disk.after(&id(3)), Some(id(9)));
        assert_eq!(disk.after(&id(9)), Some(id(3)));
        disk.quarantine(&id(3));
        assert_eq!((disk.len(), disk.quarantined, disk.used_bytes), (1, 1, 8));
    }

    #[test]
    fn a_crash_can_lose_holders_but_no_copy() {
        let (mut kept, mut lost) = (0, 0);
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..100 {
            let mut disk = Disk::new(CellId::from_bytes([1; 16]), 1 << 30);
            disk.put(&copy(3, 8));
            disk.set_holders(&ChunkId::from_bytes([3; 32]), vec![]);
            disk.crash(&mut rng);
            match disk.pages()[0][0].holders.len() {
                0 => kept += 1,
                _ => lost += 1,
            }
        }
        assert!(kept > 20 && lost > 20, "{kept} {lost}");
    }
}
