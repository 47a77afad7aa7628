//! The replica map: the local chunks, and which other cells hold each.
//!
//! Its size does not depend on the size of the colony: only local chunks are in it, each with its few holders. A holder
//! is stored as a number of two bytes, so that a hundred thousand chunks fit a small board.
//!
//! The holders are those that other cells have reported. They can be wrong in both directions; [`super::queries`]
//! corrects them.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::cell::input::LocalCopy;
use crate::id::{CellId, ChunkId, MAX_HOLDERS};

/// Maximum number of holders stored for one chunk: the highest number of copies, and some earlier holders.
const MAX_KNOWN_HOLDERS: usize = 40;
/// Maximum number of copies that a chunk can ask for: a put can name as many holders.
#[allow(clippy::cast_possible_truncation)] // It is 32.
const MAX_COPIES: u8 = MAX_HOLDERS as u8;
/// Maximum number of cells in the table of numbers.
const MAX_NUMBERED_CELLS: usize = 60_000;

/// A local chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cell) struct LocalChunk {
    /// Its length in bytes.
    pub(in crate::cell) len: u32,
    /// Number of copies that the colony must keep.
    pub(in crate::cell) copies: u8,
    /// Could the disk not read the local copy the last time? Then it does not count.
    pub(in crate::cell) is_suspect: bool,
    /// The other holders, by number.
    holders: Vec<u16>,
}

#[derive(Debug, Default)]
pub(in crate::cell) struct ReplicaMap {
    chunks: BTreeMap<ChunkId, LocalChunk>,
    numbers: CellNumbers,
}

/// Numbers for cells, in both directions.
#[derive(Debug, Default)]
struct CellNumbers {
    cells: Vec<CellId>,
    numbers: BTreeMap<CellId, u16>,
}

impl CellNumbers {
    /// The number of this cell, a new one if it has none; `None` if the table is full.
    fn number_of(&mut self, cell: CellId) -> Option<u16> {
        if let Some(number) = self.numbers.get(&cell) {
            return Some(*number);
        }
        if self.cells.len() >= MAX_NUMBERED_CELLS {
            return None;
        }
        let number = u16::try_from(self.cells.len()).ok()?;
        self.cells.push(cell);
        self.numbers.insert(cell, number);
        Some(number)
    }

    fn cell(&self, number: u16) -> Option<CellId> {
        self.cells.get(usize::from(number)).copied()
    }
}

impl ReplicaMap {
    /// Number of local chunks.
    pub(in crate::cell) fn len(&self) -> usize {
        self.chunks.len()
    }

    pub(in crate::cell) fn get(&self, id: &ChunkId) -> Option<&LocalChunk> {
        self.chunks.get(id)
    }

    pub(in crate::cell) fn contains(&self, id: &ChunkId) -> bool {
        self.chunks.contains_key(id)
    }

    /// The length of a local chunk in bytes; 0 if there is none.
    pub(in crate::cell) fn len_of(&self, id: &ChunkId) -> u64 {
        self.chunks.get(id).map_or(0, |chunk| chunk.len.into())
    }

    pub(in crate::cell) fn ids(&self) -> impl Iterator<Item = &ChunkId> {
        self.chunks.keys()
    }

    /// Sets whether the local copy is suspect.
    pub(in crate::cell) fn set_suspect(&mut self, id: &ChunkId, is_suspect: bool) {
        if let Some(chunk) = self.chunks.get_mut(id) {
            chunk.is_suspect = is_suspect;
        }
    }

    /// Adds a local copy, which is not suspect. Its holders are added to those known before. `own` is this cell, which is not stored.
    pub(in crate::cell) fn add(&mut self, own: CellId, copy: &LocalCopy) {
        if self.numbers.cells.len() + copy.holders.len() > MAX_NUMBERED_CELLS {
            self.drop_unused_numbers();
        }
        let mut holders: Vec<u16> = Vec::with_capacity(copy.holders.len());
        for cell in copy.holders.iter().filter(|cell| **cell != own) {
            if holders.len() < MAX_KNOWN_HOLDERS
                && let Some(number) = self.numbers.number_of(*cell)
                && !holders.contains(&number)
            {
                holders.push(number);
            }
        }
        let (len, copies) = (copy.len, copy.copies.clamp(1, MAX_COPIES));
        if let Some(before) = self.chunks.remove(&copy.id) {
            let more: Vec<u16> = before.holders.into_iter().filter(|number| !holders.contains(number)).collect();
            holders.extend(more);
            holders.truncate(MAX_KNOWN_HOLDERS);
        }
        holders.shrink_to_fit();
        self.chunks.insert(copy.id, LocalChunk { len, copies, is_suspect: false, holders });
    }

    /// Removes a local copy.
    pub(in crate::cell) fn remove(&mut self, id: &ChunkId) -> Option<LocalCopy> {
        let holders = self.holders(id).collect();
        let LocalChunk { len, copies, .. } = self.chunks.remove(id)?;
        Some(LocalCopy { id: *id, len, copies, holders })
    }

    /// The other holders of a chunk.
    pub(in crate::cell) fn holders(&self, id: &ChunkId) -> impl Iterator<Item = CellId> {
        self.chunks.get(id).into_iter().flat_map(|chunk| self.holders_of(chunk))
    }

    /// The other holders of a chunk.
    pub(in crate::cell) fn holders_of<'a>(&'a self, chunk: &'a LocalChunk) -> impl Iterator<Item = CellId> + 'a {
        chunk.holders.iter().filter_map(|number| self.numbers.cell(*number))
    }

    /// Is this cell a holder of the chunk?
    pub(in crate::cell) fn is_holder(&self, id: &ChunkId, cell: &CellId) -> bool {
        let Some(number) = self.numbers.numbers.get(cell) else { return false };
        self.chunks.get(id).is_some_and(|chunk| chunk.holders.contains(number))
    }

    /// Adds (`holds`) or removes a holder of the chunk. True if that changed the map.
    pub(in crate::cell) fn set_holder(&mut self, id: &ChunkId, cell: CellId, holds: bool) -> bool {
        if holds == self.is_holder(id, &cell) {
            return false;
        }
        let Some(number) = self.numbers.number_of(cell) else { return false };
        let Some(chunk) = self.chunks.get_mut(id) else { return false };
        if !holds {
            chunk.holders.retain(|holder| *holder != number);
        } else if chunk.holders.len() < MAX_KNOWN_HOLDERS {
            chunk.holders.push(number);
        } else {
            return false;
        }
        true
    }

    /// The local chunks of which this cell is a holder too.
    pub(in crate::cell) fn shared_with(&self, cell: &CellId) -> Vec<ChunkId> {
        let Some(number) = self.numbers.numbers.get(cell) else { return Vec::new() };
        let shared = self.chunks.iter().filter(|(_, chunk)| chunk.holders.contains(number));
        shared.map(|(id, _)| *id).collect()
    }

    /// Up to `count` chunks after `after`, in order of their ids; from the first one if it is `None`.
    pub(in crate::cell) fn after(
        &self,
        after: Option<&ChunkId>,
        count: usize,
    ) -> impl Iterator<Item = (&ChunkId, &LocalChunk)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.chunks.range::<ChunkId, _>((from, Bound::Unbounded)).take(count)
    }

    /// Forged hints can fill the table with cells that do not exist.
    fn drop_unused_numbers(&mut self) {
        let old = std::mem::take(&mut self.numbers);
        for chunk in self.chunks.values_mut() {
            let cells = std::mem::take(&mut chunk.holders).into_iter().filter_map(|number| old.cell(number));
            chunk.holders = cells.filter_map(|cell| self.numbers.number_of(cell)).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(n: u32) -> CellId {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        CellId::from_bytes(bytes)
    }

    fn copy(chunk: u32, holders: &[u32]) -> LocalCopy {
        let id = ChunkId::of(&chunk.to_le_bytes());
        LocalCopy { id, len: 10, copies: 5, holders: holders.iter().map(|n| cell(*n)).collect() }
    }

    #[test]
    fn holders_are_other_cells_and_accumulate() {
        let mut replicas = ReplicaMap::default();
        let id = copy(1, &[]).id;
        replicas.add(cell(0), &copy(1, &[0, 1, 2, 2]));
        replicas.add(cell(0), &copy(1, &[3, 2]));
        let mut all: Vec<_> = replicas.holders(&id).collect();
        all.sort_unstable();
        assert_eq!(all, [cell(1), cell(2), cell(3)]);
        assert_eq!(replicas.len(), 1);
        assert!(replicas.set_holder(&id, cell(2), false) && !replicas.set_holder(&id, cell(2), false));
        assert!(replicas.set_holder(&id, cell(4), true) && !replicas.set_holder(&id, cell(4), true));
        assert_eq!(replicas.shared_with(&cell(4)), [id]);
        assert_eq!(replicas.shared_with(&cell(2)), []);
        let removed = replicas.remove(&id).unwrap();
        assert_eq!((removed.holders.len(), replicas.len()), (3, 0));
    }

    #[test]
    fn unknown_cells_do_not_push_out_real_holders() {
        let mut replicas = ReplicaMap::default();
        replicas.add(cell(0), &copy(1, &[7, 8]));
        for n in 0..u32::try_from(3 * MAX_NUMBERED_CELLS / 30).unwrap() {
            let forged: Vec<u32> = (0..30).map(|m| 1000 + n * 30 + m).collect();
            replicas.add(cell(0), &copy(2, &forged));
            replicas.remove(&copy(2, &[]).id);
        }
        assert!(replicas.numbers.cells.len() <= MAX_NUMBERED_CELLS);
        let all: Vec<_> = replicas.holders(&copy(1, &[]).id).collect();
        assert_eq!(all, [cell(7), cell(8)]);
    }
}
