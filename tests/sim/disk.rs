//! A disk with the bytes left out: of each copy it knows the length and whether its bytes are still the right ones.
//!
//! A copy is durable once it is there, as the store promises of an acknowledged put; so is what the cell asked to be
//! kept. What it only noted may be lost in a crash.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use cellsync::cell::{LocalCopy, SavedState, StoreStats};
use cellsync::id::CellId;
use cellsync::id::{ChunkId, MAX_CHUNK_BYTES};

/// Copies told at once to a cell that starts.
const PAGE: usize = 256;

#[derive(Debug, Clone)]
pub(crate) struct Copy {
    pub(crate) len: u32,
    /// Do the bytes still hash to the chunk's name?
    pub(crate) good: bool,
    copies: u8,
    holders: Vec<CellId>,
    /// Holders that were noted and may not be on the disk yet.
    noted: Option<Vec<CellId>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) id: CellId,
    pub(crate) state: SavedState,
    copies: BTreeMap<ChunkId, Copy>,
    capacity_bytes: u64,
    used_bytes: u64,
    /// Bad copies that were set aside since the disk was made.
    pub(crate) quarantined: u64,
}

/// What a disk says to a chunk that is brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    New,
    HereAlready,
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
        }
    }

    pub(crate) fn stats(&self) -> StoreStats {
        let free_bytes = self.capacity_bytes.saturating_sub(self.used_bytes);
        StoreStats { chunks: self.copies.len() as u64, free_bytes, full: free_bytes < MAX_CHUNK_BYTES as u64 }
    }

    pub(crate) fn get(&self, id: &ChunkId) -> Option<&Copy> {
        self.copies.get(id)
    }

    /// The first copy after this name; after the last, the first of all.
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

    pub(crate) fn put(&mut self, held: &LocalCopy) -> Taken {
        let room = self.stats();
        match self.copies.entry(held.id) {
            Entry::Occupied(_) => Taken::HereAlready,
            Entry::Vacant(_) if room.full => Taken::NoRoom,
            Entry::Vacant(place) => {
                let holders = held.holders.clone();
                place.insert(Copy { len: held.len, good: true, copies: held.copies, holders, noted: None });
                self.used_bytes += u64::from(held.len);
                Taken::New
            }
        }
    }

    pub(crate) fn remove(&mut self, id: &ChunkId) -> bool {
        let Some(copy) = self.copies.remove(id) else { return false };
        self.used_bytes -= u64::from(copy.len);
        true
    }

    pub(crate) fn quarantine(&mut self, id: &ChunkId) {
        if self.remove(id) {
            self.quarantined += 1;
        }
    }

    /// Flips a bit of this copy behind the cell's back.
    pub(crate) fn rot(&mut self, id: &ChunkId) {
        self.copies.get_mut(id).unwrap().good = false;
    }

    pub(crate) fn note(&mut self, id: &ChunkId, holders: Vec<CellId>) {
        if let Some(copy) = self.copies.get_mut(id) {
            copy.noted = Some(holders);
        }
    }

    /// The power fails: each note is on the disk or is not, as luck will have it.
    pub(crate) fn crash(&mut self, rng: &mut fastrand::Rng) {
        for copy in self.copies.values_mut() {
            if let Some(noted) = copy.noted.take()
                && rng.bool()
            {
                copy.holders = noted;
            }
        }
    }

    /// What the store lists after a start, page by page.
    pub(crate) fn pages(&self) -> Vec<Vec<LocalCopy>> {
        let held = |(id, copy): (&ChunkId, &Copy)| {
            let holders = copy.noted.as_ref().unwrap_or(&copy.holders).clone();
            LocalCopy { id: *id, len: copy.len, copies: copy.copies, holders }
        };
        let all: Vec<LocalCopy> = self.copies.iter().map(held).collect();
        all.chunks(PAGE).map(<[LocalCopy]>::to_vec).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(byte: u8, len: u32) -> LocalCopy {
        LocalCopy { id: ChunkId::from_bytes([byte; 32]), len, copies: 5, holders: vec![CellId::from_bytes([1; 16])] }
    }

    #[test]
    fn a_disk_takes_what_fits_once_and_lists_in_a_ring() {
        let mut disk = Disk::new(CellId::from_bytes([1; 16]), (MAX_CHUNK_BYTES as u64) + 10);
        assert_eq!(disk.put(&held(3, 8)), Taken::New);
        assert_eq!(disk.put(&held(3, 8)), Taken::HereAlready);
        assert_eq!(disk.put(&held(9, 8)), Taken::New);
        assert_eq!(disk.put(&held(4, 8)), Taken::NoRoom);
        let id = |byte| ChunkId::from_bytes([byte; 32]);
        assert_eq!(disk.after(&id(3)), Some(id(9)));
        assert_eq!(disk.after(&id(9)), Some(id(3)));
        disk.quarantine(&id(3));
        assert_eq!((disk.len(), disk.quarantined, disk.used_bytes), (1, 1, 8));
    }

    #[test]
    fn a_crash_may_lose_notes_but_no_copy() {
        let (mut kept, mut lost) = (0, 0);
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..100 {
            let mut disk = Disk::new(CellId::from_bytes([1; 16]), 1 << 30);
            disk.put(&held(3, 8));
            disk.note(&ChunkId::from_bytes([3; 32]), vec![]);
            disk.crash(&mut rng);
            match disk.pages()[0][0].holders.len() {
                0 => kept += 1,
                _ => lost += 1,
            }
        }
        assert!(kept > 20 && lost > 20, "{kept} {lost}");
    }
}
