//! The replica map: the local chunks, and which other cells hold each.
//!
//! Its size does not depend on the size of the colony: only local chunks are in it, each with its few holders. A chunk
//! with up to four other holders takes 44 bytes, so that a million chunks fit a small board.
//!
//! What concerns one cell is found by an index: for each cell the buckets of the table in which it holds a chunk.
//!
//! The holders are those that other cells have reported. They can be wrong in both directions; [`super::queries`]
//! corrects them.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::cell::input::LocalCopy;
use crate::cell::replicas::holder_buckets::{HolderBuckets, group};
use crate::cell::replicas::holder_sets::{HolderLists, HolderSet, MAX_NUMBERS};
use crate::cell::replicas::table::ChunkTable;
use crate::id::{CellId, ChunkId, MAX_HOLDERS};
use crate::wire::shared_chunks::{IdPrefix, MAX_SHARED_CHUNKS, SharedChunk, SharedQuery};

/// Maximum number of holders stored for one chunk: the highest number of copies, and some earlier holders.
const MAX_KNOWN_HOLDERS: usize = 40;
/// Maximum number of copies that a chunk can ask for: a put can name as many holders.
#[allow(clippy::cast_possible_truncation)] // It is 32.
const MAX_COPIES: u8 = MAX_HOLDERS as u8;
/// Maximum number of cells in the table of numbers.
const MAX_NUMBERED_CELLS: usize = 8192;
/// Numbers that are new since unused ones were last dropped, before they are dropped again: to find them takes a search of
/// all chunks.
const MIN_NEW_NUMBERS: usize = 1024;
const _: () = assert!(MAX_NUMBERED_CELLS <= MAX_NUMBERS);

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cell) struct LocalChunk {
    len: [u8; 3],
    /// The lowest five bits: the number of copies that the colony must keep, minus one; the default if the record is
    /// bare. One bit: [`SUSPECT`]. The highest two: [`Knowledge`].
    state: u8,
    holders: HolderSet,
}

/// Could the disk not read the local copy the last time?
const SUSPECT: u8 = 1 << 5;
const COPIES_MASK: u8 = SUSPECT - 1;
const KNOWLEDGE_SHIFT: u32 = 6;

impl LocalChunk {
    fn new(len: u32, copies: u8, knowledge: Knowledge) -> Self {
        let [high, len @ ..] = len.to_be_bytes();
        // A chunk has 2 MiB at most.
        let len = if high == 0 { len } else { [u8::MAX; 3] };
        let state = (copies.clamp(1, MAX_COPIES) - 1) | (knowledge as u8) << KNOWLEDGE_SHIFT;
        Self { len, state, holders: HolderSet::EMPTY }
    }

    /// Its length in bytes.
    pub(in crate::cell) fn len(&self) -> u32 {
        let [a, b, c] = self.len;
        u32::from_be_bytes([0, a, b, c])
    }

    /// Number of copies that the colony must keep; the default if the record is bare.
    pub(in crate::cell) fn copies(&self) -> u8 {
        (self.state & COPIES_MASK) + 1
    }

    /// Could the disk not read the local copy the last time? Then it does not count.
    pub(in crate::cell) fn is_suspect(&self) -> bool {
        self.state & SUSPECT != 0
    }

    fn knowledge(&self) -> Knowledge {
        match self.state >> KNOWLEDGE_SHIFT {
            0 => Knowledge::Known,
            1 => Knowledge::Asking,
            _ => Knowledge::Guessed,
        }
    }

    /// Sets what is known about the number of copies.
    fn set_copies(&mut self, copies: u8, knowledge: Knowledge) {
        let Self { state, .. } = Self::new(0, copies, knowledge);
        self.state = state | self.state & SUSPECT;
    }

    /// Is the number of copies a guess?
    pub(in crate::cell) fn is_bare(&self) -> bool {
        self.knowledge() != Knowledge::Known
    }

    /// Are co-holders asked how many copies the colony must keep?
    pub(in crate::cell) fn is_asking(&self) -> bool {
        self.knowledge() == Knowledge::Asking
    }

    /// The number of copies to which the chunk is healed.
    pub(in crate::cell) fn wanted(&self) -> u8 {
        if self.is_asking() { self.copies().min(UNKNOWN_COPIES) } else { self.copies() }
    }

    /// The number of copies beyond which one is extra. None is on a guess.
    pub(in crate::cell) fn enough(&self) -> Option<u8> {
        (!self.is_bare()).then_some(self.copies())
    }
}

#[derive(Debug, Default)]
pub(in crate::cell) struct ReplicaMap {
    chunks: ChunkTable<LocalChunk>,
    lists: HolderLists,
    buckets: HolderBuckets,
    numbers: CellNumbers,
    /// Numbers that were in use when the others were last dropped.
    kept_numbers: usize,
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

    /// The number of this cell, if it has one.
    fn get(&self, cell: &CellId) -> Option<u16> {
        self.numbers.get(cell).copied()
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
        self.chunks.contains(id)
    }

    /// The length of a local chunk in bytes; 0 if there is none.
    pub(in crate::cell) fn len_of(&self, id: &ChunkId) -> u64 {
        self.chunks.get(id).map_or(0, |chunk| chunk.len().into())
    }

    pub(in crate::cell) fn ids(&self) -> impl Iterator<Item = &ChunkId> {
        self.chunks.from(Bound::Unbounded).map(|(id, _)| id)
    }

    /// Sets whether the local copy is suspect.
    pub(in crate::cell) fn set_suspect(&mut self, id: &ChunkId, is_suspect: bool) {
        if let Some(chunk) = self.chunks.get_mut(id) {
            chunk.state = if is_suspect { chunk.state | SUSPECT } else { chunk.state & !SUSPECT };
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
        chunk.set_copies(copies, Knowledge::Known);
        self.bare.subtract(id);
        true
    }

    /// The chunks whose ids begin with this byte and about whose number of copies co-holders are asked.
    pub(in crate::cell) fn asking_in(&self, byte: u8) -> impl Iterator<Item = (&ChunkId, &LocalChunk)> {
        let first = IdPrefix::of_byte(byte).first();
        let chunks = self.chunks.from(Bound::Included(first)).take_while(move |(id, _)| id.shard() == byte);
        chunks.filter(|(_, chunk)| chunk.is_asking())
    }

    /// Nobody could tell how many copies the chunks need whose ids begin with this byte and whose records are bare.
    /// Returns those for which that is new.
    pub(in crate::cell) fn guess_bare_in(&mut self, byte: u8) -> Vec<ChunkId> {
        let asking: Vec<ChunkId> = self.asking_in(byte).map(|(id, _)| *id).collect();
        for id in &asking {
            if let Some(chunk) = self.chunks.get_mut(id) {
                chunk.set_copies(chunk.copies(), Knowledge::Guessed);
            }
        }
        asking
    }

    /// The local chunks that the query asks for, as far as they count here.
    pub(in crate::cell) fn shared(&self, query: &SharedQuery) -> Vec<SharedChunk> {
        let Some(number) = self.numbers.get(&query.node) else { return Vec::new() };
        let first = query.prefix.first();
        let from = match query.after {
            Some(after) if after >= first => Bound::Excluded(after),
            _ => Bound::Included(first),
        };
        let chunks = self.chunks.from(from).take_while(|(id, _)| query.prefix.contains(id));
        let shared = chunks.filter(|(_, chunk)| !chunk.is_suspect() && self.has_number(chunk, number));
        shared.map(|(id, chunk)| SharedChunk { id: *id, copies: chunk.enough() }).take(MAX_SHARED_CHUNKS).collect()
    }

    /// Adds a local copy, which is not suspect. Its holders are added to those known before, and a number of copies
    /// that is known stays known. `own` is this cell, which is not stored. True if its record is bare, and was not
    /// before.
    pub(in crate::cell) fn add(&mut self, own: CellId, copy: &LocalCopy) -> bool {
        let numbers = self.numbers.cells.len();
        if numbers + copy.holders.len() > MAX_NUMBERED_CELLS && numbers >= self.kept_numbers + MIN_NEW_NUMBERS {
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
        let knowledge = if copy.bare { Knowledge::Asking } else { Knowledge::Known };
        let mut chunk = LocalChunk::new(copy.len, copy.copies, knowledge);
        let mut was_bare = false;
        if let Some(before) = self.chunks.get(&copy.id) {
            was_bare = before.is_bare();
            if copy.bare {
                chunk.set_copies(before.copies(), before.knowledge());
            }
            chunk.holders = before.holders;
            let more = self.lists.numbers(&before.holders).iter().filter(|number| !holders.contains(number));
            let more: Vec<u16> = more.copied().collect();
            holders.extend(more);
            holders.truncate(MAX_KNOWN_HOLDERS);
        }
        let is_bare = chunk.is_bare();
        match (was_bare, is_bare) {
            (false, true) => self.bare.add(&copy.id),
            (true, false) => self.bare.subtract(&copy.id),
            (false, false) | (true, true) => {}
        }
        let is_divided = self.chunks.insert(copy.id, chunk);
        self.set_holders(&copy.id, &holders);
        if is_divided {
            self.count_buckets();
        }
        is_bare && !was_bare
    }

    /// Removes a local copy.
    pub(in crate::cell) fn remove(&mut self, id: &ChunkId) -> Option<LocalCopy> {
        let holders = self.holders(id).collect();
        self.set_holders(id, &[]);
        let chunk = self.chunks.remove(id)?;
        let (len, copies, bare) = (chunk.len(), chunk.copies(), chunk.is_bare());
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
        self.lists.numbers(&chunk.holders).iter().filter_map(|number| self.numbers.cell(*number))
    }

    /// Is this cell a holder of the chunk?
    pub(in crate::cell) fn is_holder(&self, id: &ChunkId, cell: &CellId) -> bool {
        let Some(number) = self.numbers.get(cell) else { return false };
        self.chunks.get(id).is_some_and(|chunk| self.has_number(chunk, number))
    }

    fn has_number(&self, chunk: &LocalChunk, number: u16) -> bool {
        self.lists.numbers(&chunk.holders).contains(&number)
    }

    /// Replaces the holders of a chunk.
    fn set_holders(&mut self, id: &ChunkId, numbers: &[u16]) {
        let bucket = self.chunks.bucket_of(id);
        let Some(chunk) = self.chunks.get_mut(id) else { return };
        let before = self.lists.numbers(&chunk.holders).to_vec();
        chunk.holders = self.lists.replace(chunk.holders, numbers);
        for number in numbers {
            self.buckets.add(*number, bucket);
        }
        for number in before.iter().filter(|number| !numbers.contains(number)) {
            let mut others = group(bucket).flat_map(|bucket| self.chunks.bucket(bucket));
            if !others.any(|(_, chunk)| self.has_number(chunk, *number)) {
                self.buckets.remove(*number, bucket);
            }
        }
    }

    /// Finds the buckets of all holders anew.
    fn count_buckets(&mut self) {
        self.buckets = HolderBuckets::default();
        for bucket in 0..self.chunks.buckets() {
            for (_, chunk) in self.chunks.bucket(bucket) {
                for number in self.lists.numbers(&chunk.holders) {
                    self.buckets.add(*number, bucket);
                }
            }
        }
    }

    /// Adds (`holds`) or removes a holder of the chunk. True if that changed the map.
    pub(in crate::cell) fn set_holder(&mut self, id: &ChunkId, cell: CellId, holds: bool) -> bool {
        if holds == self.is_holder(id, &cell) {
            return false;
        }
        let Some(number) = self.numbers.number_of(cell) else { return false };
        let Some(chunk) = self.chunks.get(id) else { return false };
        let mut numbers = self.lists.numbers(&chunk.holders).to_vec();
        if !holds {
            numbers.retain(|holder| *holder != number);
        } else if numbers.len() < MAX_KNOWN_HOLDERS {
            numbers.push(number);
        } else {
            return false;
        }
        self.set_holders(id, &numbers);
        true
    }

    /// The local chunks of which this cell is a holder too.
    pub(in crate::cell) fn shared_with(&self, cell: &CellId) -> Vec<ChunkId> {
        let Some(number) = self.numbers.get(cell) else { return Vec::new() };
        let chunks = self.buckets.of(number).flat_map(|bucket| self.chunks.bucket(bucket));
        chunks.filter(|(_, chunk)| self.has_number(chunk, number)).map(|(id, _)| *id).collect()
    }

    /// Up to `count` chunks after `after`, in order of their ids; from the first one if it is `None`.
    pub(in crate::cell) fn after(
        &self,
        after: Option<&ChunkId>,
        count: usize,
    ) -> impl Iterator<Item = (&ChunkId, &LocalChunk)> {
        let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(*id));
        self.chunks.from(from).take(count)
    }

    /// Forged hints can fill the table with cells that do not exist.
    fn drop_unused_numbers(&mut self) {
        let old = std::mem::take(&mut self.numbers);
        for chunk in self.chunks.values_mut() {
            let cells = self.lists.numbers(&chunk.holders).iter().filter_map(|number| old.cell(*number));
            let numbers: Vec<u16> = cells.filter_map(|cell| self.numbers.number_of(cell)).collect();
            chunk.holders = self.lists.replace(chunk.holders, &numbers);
        }
        self.kept_numbers = self.numbers.cells.len();
        self.count_buckets();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::MAX_CHUNK_BYTES;

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
    fn a_chunk_takes_44_bytes() {
        assert_eq!(size_of::<(ChunkId, LocalChunk)>(), 44);
        let longest = u32::try_from(MAX_CHUNK_BYTES).unwrap();
        let mut chunk = LocalChunk::new(longest, MAX_COPIES, Knowledge::Guessed);
        chunk.state |= SUSPECT;
        let fields = |chunk: &LocalChunk| (chunk.len(), chunk.copies(), chunk.is_suspect(), chunk.knowledge());
        assert_eq!(fields(&chunk), (longest, MAX_COPIES, true, Knowledge::Guessed));
        chunk.set_copies(1, Knowledge::Known);
        assert_eq!(fields(&chunk), (longest, 1, true, Knowledge::Known));
    }

    /// Goal: the index of holders finds exactly the chunks that a search through all of them finds. Method: thousands of
    /// random changes, while the table grows.
    #[test]
    fn the_index_finds_what_each_cell_holds() {
        let (mut replicas, mut rng) = (ReplicaMap::default(), fastrand::Rng::with_seed(5));
        for turn in 0..12_000_u32 {
            let chunk = rng.u32(..4000);
            let id = copy(chunk, &[]).id;
            match rng.u32(..10) {
                0 => drop(replicas.remove(&id)),
                1..6 => {
                    let holders: Vec<u32> = (0..rng.usize(..7)).map(|_| rng.u32(..40)).collect();
                    replicas.add(cell(0), &copy(chunk, &holders));
                }
                _ => drop(replicas.set_holder(&id, cell(rng.u32(1..40)), rng.bool())),
            }
            if turn % 500 == 0 {
                for cell in (0..45).map(cell) {
                    let all = replicas.ids().filter(|id| replicas.is_holder(id, &cell));
                    assert_eq!(replicas.shared_with(&cell), all.copied().collect::<Vec<_>>());
                }
            }
        }
        assert!(replicas.chunks.buckets() > 8);
    }

    #[test]
    fn unknown_cells_do_not_push_out_real_holders() {
        let mut replicas = ReplicaMap::default();
        // The cells that stay get other numbers when these have been forgotten.
        replicas.add(cell(0), &copy(3, &[900, 901, 902]));
        replicas.add(cell(0), &copy(1, &[7, 8]));
        replicas.remove(&copy(3, &[]).id);
        for n in 0..u32::try_from(3 * MAX_NUMBERED_CELLS / 30).unwrap() {
            let forged: Vec<u32> = (0..30).map(|m| 1000 + n * 30 + m).collect();
            replicas.add(cell(0), &copy(2, &forged));
            replicas.remove(&copy(2, &[]).id);
        }
        assert!(replicas.numbers.cells.len() <= MAX_NUMBERED_CELLS);
        assert_eq!(replicas.shared_with(&cell(8)), [copy(1, &[]).id]);
        let all: Vec<_> = replicas.holders(&copy(1, &[]).id).collect();
        assert_eq!(all, [cell(7), cell(8)]);
    }
}
