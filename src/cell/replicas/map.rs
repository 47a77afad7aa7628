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
use crate::wire::shared_chunks::{IdPrefix, MAX_SHARED_CHUNKS, SharedChunk, SharedQuery};

/// Maximum number of holders stored for one chunk: the highest number of copies, and some earlier holders.
const MAX_KNOWN_HOLDERS: usize = 40;
/// Maximum number of copies that a chunk can ask for: a put can name as many holders.
#[allow(clippy::cast_possible_truncation)] // It is 32.
const MAX_COPIES: u8 = MAX_HOLDERS as u8;
/// Maximum number of cells in the table of numbers.
const MAX_NUMBERED_CELLS: usize = 60_000;

/// A chunk is healed to this number of copies while nobody has told how many it needs. One copy is too few for any
/// chunk that was meant to survive the loss of a disk.
const UNKNOWN_COPIES: u8 = 2;

/// What this cell knows about the number of copies that the colony must keep; see [`super::bare_records`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knowledge {
    /// A put has stated it, or a co-holder.
    Known,
    /// The record is bare, and co-holders are asked.
    Asking,
    /// The record is bare, and nobody could tell: the default applies.
    Guessed,
}

/// A local chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cell) struct LocalChunk {
    /// Its length in bytes.
    pub(in crate::cell) len: u32,
    /// Number of copies that the colony must keep; the default if the record is bare.
    pub(in crate::cell) copies: u8,
    knowledge: Knowledge,
    /// Could the disk not read the local copy the last time? Then it does not count.
    pub(in crate::cell) is_suspect: bool,
    /// The other holders, by number.
    holders: Vec<u16>,
}

impl LocalChunk {
    /// Is the number of copies a guess?
    pub(in crate::cell) fn is_bare(&self) -> bool {
        self.knowledge != Knowledge::Known
    }

    /// Are co-holders asked how many copies the colony must keep?
    pub(in crate::cell) fn is_asking(&self) -> bool {
        self.knowledge == Knowledge::Asking
    }

    /// The number of copies to which the chunk is healed.
    pub(in crate::cell) fn wanted(&self) -> u8 {
        if self.is_asking() { self.copies.min(UNKNOWN_COPIES) } else { self.copies }
    }

    /// The number of copies beyond which one is extra. None is on a guess.
    pub(in crate::cell) fn enough(&self) -> Option<u8> {
        (!self.is_bare()).then_some(self.copies)
    }
}

#[derive(Debug, Default)]
pub(in crate::cell) struct ReplicaMap {
    chunks: BTreeMap<ChunkId, LocalChunk>,
    numbers: CellNumbers,
    bare: BareCounts,
}

/// Numbers of chunks with bare records.
#[derive(Debug)]
struct BareCounts {
    /// By the first byte of the id.
    by_byte: Vec<u32>,
    all: usize,
}

impl Default for BareCounts {
    fn default() -> Self {
        Self { by_byte: vec![0; 256], all: 0 }
    }
}

impl BareCounts {
    fn add(&mut self, id: &ChunkId) {
        self.all += 1;
        if let Some(count) = self.by_byte.get_mut(usize::from(id.shard())) {
            *count += 1;
        }
    }

    fn subtract(&mut self, id: &ChunkId) {
        self.all = self.all.saturating_sub(1);
        if let Some(count) = self.by_byte.get_mut(usize::from(id.shard())) {
            *count = count.saturating_sub(1);
        }
    }
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

    /// Number of chunks with bare records.
    pub(in crate::cell) fn bare(&self) -> usize {
        self.bare.all
    }

    /// Number of chunks with bare records whose ids begin with this byte.
    pub(in crate::cell) fn bare_in(&self, byte: u8) -> u32 {
        self.bare.by_byte.get(usize::from(byte)).copied().unwrap_or_default()
    }

    /// Is the record of this chunk bare?
    pub(in crate::cell) fn is_bare(&self, id: &ChunkId) -> bool {
        self.chunks.get(id).is_some_and(LocalChunk::is_bare)
    }

    /// Sets the number of copies of a chunk if its record is bare. True if it was.
    pub(in crate::cell) fn set_copies(&mut self, id: &ChunkId, copies: u8) -> bool {
        let Some(chunk) = self.chunks.get_mut(id).filter(|chunk| chunk.is_bare()) else { return false };
        (chunk.copies, chunk.knowledge) = (copies.clamp(1, MAX_COPIES), Knowledge::Known);
        self.bare.subtract(id);
        true
    }

    /// The chunks whose ids begin with this byte and about whose number of copies co-holders are asked.
    pub(in crate::cell) fn asking_in(&self, byte: u8) -> impl Iterator<Item = (&ChunkId, &LocalChunk)> {
        let first = IdPrefix::of_byte(byte).first();
        let chunks = self.chunks.range(first..).take_while(move |(id, _)| id.shard() == byte);
        chunks.filter(|(_, chunk)| chunk.is_asking())
    }

    /// Nobody could tell how many copies the chunks need whose ids begin with this byte and whose records are bare.
    /// Returns those for which that is new.
    pub(in crate::cell) fn guess_bare_in(&mut self, byte: u8) -> Vec<ChunkId> {
        let first = IdPrefix::of_byte(byte).first();
        let chunks = self.chunks.range_mut(first..).take_while(|(id, _)| id.shard() == byte);
        let asking = chunks.filter(|(_, chunk)| chunk.is_asking()).map(|(id, chunk)| {
            chunk.knowledge = Knowledge::Guessed;
            *id
        });
        asking.collect()
    }

    /// The local chunks that the query asks for, as far as they count here.
    pub(in crate::cell) fn shared(&self, query: &SharedQuery) -> Vec<SharedChunk> {
        let Some(number) = self.numbers.numbers.get(&query.node) else { return Vec::new() };
        let first = query.prefix.first();
        let from = match query.after {
            Some(after) if after >= first => Bound::Excluded(after),
            _ => Bound::Included(first),
        };
        let chunks = self.chunks.range::<ChunkId, _>((from, Bound::Unbounded));
        let chunks = chunks.take_while(|(id, _)| query.prefix.contains(id));
        let shared = chunks.filter(|(_, chunk)| !chunk.is_suspect && chunk.holders.contains(number));
        shared.map(|(id, chunk)| SharedChunk { id: *id, copies: chunk.enough() }).take(MAX_SHARED_CHUNKS).collect()
    }

    /// Adds a local copy, which is not suspect. Its holders are added to those known before, and a number of copies
    /// that is known stays known. `own` is this cell, which is not stored. True if its record is bare, and was not
    /// before.
    pub(in crate::cell) fn add(&mut self, own: CellId, copy: &LocalCopy) -> bool {
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
        let (len, mut copies) = (copy.len, copy.copies.clamp(1, MAX_COPIES));
        let mut knowledge = if copy.bare { Knowledge::Asking } else { Knowledge::Known };
        let mut was_bare = false;
        if let Some(before) = self.chunks.remove(&copy.id) {
            was_bare = before.is_bare();
            if was_bare {
                self.bare.subtract(&copy.id);
            }
            if copy.bare {
                (copies, knowledge) = (before.copies, before.knowledge);
            }
            let more: Vec<u16> = before.holders.into_iter().filter(|number| !holders.contains(number)).collect();
            holders.extend(more);
            holders.truncate(MAX_KNOWN_HOLDERS);
        }
        holders.shrink_to_fit();
        let chunk = LocalChunk { len, copies, knowledge, is_suspect: false, holders };
        let is_bare = chunk.is_bare();
        if is_bare {
            self.bare.add(&copy.id);
        }
        self.chunks.insert(copy.id, chunk);
        is_bare && !was_bare
    }

    /// Removes a local copy.
    pub(in crate::cell) fn remove(&mut self, id: &ChunkId) -> Option<LocalCopy> {
        let holders = self.holders(id).collect();
        let chunk = self.chunks.remove(id)?;
        let (len, copies, bare) = (chunk.len, chunk.copies, chunk.is_bare());
        if bare {
            self.bare.subtract(id);
        }
        Some(LocalCopy { id: *id, len, copies, bare, holders })
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
        LocalCopy { id, len: 10, copies: 5, bare: false, holders: holders.iter().map(|n| cell(*n)).collect() }
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
