//! The holders of a manifest's chunks, and which of them is likely to deliver a chunk first. Pure.

use crate::client::discover::chunk_set::ChunkSet;
use crate::client::discover::colony::KnownCell;
use crate::client::discover::query::HaveResponse;

/// Weight of the newest measurement in the average fetch time of a cell.
const NEWEST_WEIGHT: f64 = 0.3;
/// Cells that search for a chunk without a known holder.
const MAX_SEARCHING_CELLS: usize = 3;
/// A fetch that is late is taken to last this many times longer than until now.
const LATE_FACTOR: f64 = 2.0;
/// The longest time that a fetch is taken to last, in milliseconds: the timeout of a request.
const MAX_FETCH_MS: f64 = 600_000.0;
/// A cell that was too slow counts as slow until a fetch takes less than this, in milliseconds.
const NOT_SLOW_MS: f64 = 10_000.0;

/// A cell that responded.
#[derive(Debug, Clone)]
struct Cell {
    known: KnownCell,
    chunks: ChunkSet,
    /// Moving average of the time that a fetch takes, in milliseconds. Before the first fetch it is the time that the
    /// query took.
    fetch_ms: f64,
    /// Was `fetch_ms` learnt from a fetch? A cell that answers queries quickly may deliver chunks slowly.
    is_measured: bool,
    /// Was a fetch ended because it was too slow?
    is_slow: bool,
    fetches_in_progress: u32,
    is_unreachable: bool,
}

/// The holders of a manifest's chunks. Cells are referred to by number, in the order of [`Self::cells`], and chunks by
/// their position in the manifest.
#[derive(Debug, Clone)]
pub(in crate::client) struct HolderIndex {
    cells: Vec<Cell>,
    chunks: usize,
}

impl HolderIndex {
    /// Makes the index from the responses of cells about a manifest with this number of chunks. `responses` are in the
    /// order of `cells`.
    pub(in crate::client) fn new(cells: &[KnownCell], responses: Vec<Option<HaveResponse>>, chunks: usize) -> Self {
        let cells = cells.iter().zip(responses).filter_map(|(known, response)| {
            let HaveResponse { chunks, took_ms, .. } = response?;
            let fetch_ms = took_ms.max(0.1);
            Some(Cell {
                known: known.clone(),
                chunks,
                fetch_ms,
                is_measured: false,
                is_slow: false,
                fetches_in_progress: 0,
                is_unreachable: false,
            })
        });
        Self { cells: cells.collect(), chunks }
    }

    /// Takes over what an earlier index learnt about cells: how quickly they deliver.
    pub(in crate::client) fn learn_from(&mut self, earlier: &Self) {
        for cell in &mut self.cells {
            let name = cell.known.name();
            if let Some(before) = earlier.cells.iter().find(|before| before.known.name().is_same_cell(&name))
                && before.is_measured
            {
                (cell.fetch_ms, cell.is_measured, cell.is_slow) = (before.fetch_ms, true, before.is_slow);
            }
        }
    }

    /// The cells that responded.
    pub(in crate::client) fn cells(&self) -> impl Iterator<Item = &KnownCell> {
        self.cells.iter().map(|cell| &cell.known)
    }

    /// The number of cells that responded.
    pub(in crate::client) fn cell_count(&self) -> usize {
        self.cells.len()
    }

    /// The number of cells that will stay in the colony.
    pub(in crate::client) fn staying_cells(&self) -> usize {
        self.cells().filter(|cell| cell.stays()).count()
    }

    /// Chunks without a holder, in ascending order.
    pub(in crate::client) fn missing(&self) -> Vec<usize> {
        (0..self.chunks).filter(|&index| self.copies(index) == 0).collect()
    }

    /// The holders of a chunk, with their numbers.
    pub(in crate::client) fn holders(&self, index: usize) -> impl Iterator<Item = (usize, &KnownCell)> {
        let holders = self.cells.iter().enumerate().filter(move |(_, cell)| cell.chunks.contains(index));
        holders.map(|(number, cell)| (number, &cell.known))
    }

    /// The number of copies of a chunk.
    pub(in crate::client) fn copies(&self, index: usize) -> usize {
        self.holders(index).count()
    }

    /// The number of copies of a chunk on cells that will stay.
    pub(in crate::client) fn staying_copies(&self, index: usize) -> usize {
        self.holders(index).filter(|(_, cell)| cell.stays()).count()
    }

    /// The number of copies of all chunks together.
    pub(in crate::client) fn total_copies(&self) -> usize {
        (0..self.chunks).map(|index| self.copies(index)).sum()
    }

    /// The chunks that a cell holds, in ascending order.
    pub(in crate::client) fn chunks_of(&self, number: usize) -> impl Iterator<Item = usize> {
        let chunks = self.cells.get(number).map(|cell| &cell.chunks);
        (0..self.chunks).filter(move |&index| chunks.is_some_and(|chunks| chunks.contains(index)))
    }

    /// Removes a copy that is of no use.
    pub(in crate::client) fn remove_copy(&mut self, number: usize, index: usize) {
        if let Some(cell) = self.cells.get_mut(number) {
            cell.chunks.remove(index);
        }
    }

    /// Chooses the holder that is likely to deliver the chunk first, except those in `tried`. The fetch counts as in
    /// progress until [`Self::fetch_succeeded`] or [`Self::fetch_failed`]. Slow cells come
    /// last, and after them those that were unreachable.
    pub(in crate::client) fn begin_fetch(&mut self, index: usize, tried: &[usize]) -> Option<(usize, KnownCell)> {
        let untried = self.cells.iter().enumerate().filter(|(number, _)| !tried.contains(number));
        let holders = untried.filter(|(_, cell)| cell.chunks.contains(index));
        let expected_ms = |cell: &Cell| cell.fetch_ms * f64::from(cell.fetches_in_progress + 1);
        let (number, _) = holders.min_by(|(_, a), (_, b)| {
            let order = a.is_unreachable.cmp(&b.is_unreachable).then(a.is_slow.cmp(&b.is_slow));
            order.then(expected_ms(a).total_cmp(&expected_ms(b)))
        })?;
        let cell = self.cells.get_mut(number)?;
        cell.fetches_in_progress += 1;
        Some((number, cell.known.clone()))
    }

    /// Records how long a fetch took.
    pub(in crate::client) fn fetch_succeeded(&mut self, number: usize, took_ms: f64) {
        if let Some(cell) = self.cells.get_mut(number) {
            cell.fetches_in_progress = cell.fetches_in_progress.saturating_sub(1);
            cell.learn(took_ms);
            cell.is_slow &= took_ms >= NOT_SLOW_MS;
            cell.is_unreachable = false;
        }
    }

    /// Records that a fetch takes longer than others and has lasted for this time. It stays in progress.
    pub(in crate::client) fn fetch_is_late(&mut self, number: usize, elapsed_ms: f64) {
        if let Some(cell) = self.cells.get_mut(number) {
            cell.fetch_ms = (elapsed_ms * LATE_FACTOR).clamp(cell.fetch_ms, MAX_FETCH_MS.max(cell.fetch_ms));
            cell.is_measured = true;
        }
    }

    /// Records that a fetch was ended because another holder was quicker.
    pub(in crate::client) fn fetch_abandoned(&mut self, number: usize) {
        if let Some(cell) = self.cells.get_mut(number) {
            cell.fetches_in_progress = cell.fetches_in_progress.saturating_sub(1);
        }
    }

    /// Records that a fetch was ended because it was too slow.
    pub(in crate::client) fn fetch_too_slow(&mut self, number: usize, elapsed_ms: f64) {
        self.fetch_is_late(number, elapsed_ms);
        self.fetch_abandoned(number);
        if let Some(cell) = self.cells.get_mut(number) {
            cell.is_slow = true;
        }
    }

    /// Is a fetch from this cell known to be slow?
    pub(in crate::client) fn is_slow(&self, number: usize) -> bool {
        self.cells.get(number).is_some_and(|cell| cell.is_slow)
    }

    /// Was the cell unreachable when a chunk was last fetched from it?
    pub(in crate::client) fn is_unreachable(&self, number: usize) -> bool {
        self.cells.get(number).is_some_and(|cell| cell.is_unreachable)
    }

    /// Records that a fetch failed, and whether the cell was unreachable.
    pub(in crate::client) fn fetch_failed(&mut self, number: usize, is_unreachable: bool) {
        if let Some(cell) = self.cells.get_mut(number) {
            cell.fetches_in_progress = cell.fetches_in_progress.saturating_sub(1);
            cell.is_unreachable |= is_unreachable;
        }
    }

    /// Some cells that can be asked to search for a chunk among the cells that they know.
    pub(in crate::client) fn searching_cells(&self) -> Vec<KnownCell> {
        let reachable = self.cells.iter().filter(|cell| !cell.is_unreachable);
        reachable.take(MAX_SEARCHING_CELLS).map(|cell| cell.known.clone()).collect()
    }
}

impl Cell {
    fn learn(&mut self, took_ms: f64) {
        if self.is_measured {
            self.fetch_ms += (took_ms - self.fetch_ms) * NEWEST_WEIGHT;
        } else {
            (self.fetch_ms, self.is_measured) = (took_ms, true);
        }
    }
}

#[cfg(test)]
pub(in crate::client) mod testing {
    use super::*;
    use crate::client::discover::chunk_set::ChunkPositions;
    use crate::id::ChunkId;

    /// An index of cells that hold the given chunks.
    pub(crate) fn holder_index(ids: &[ChunkId], cells: &[(KnownCell, &[usize])]) -> HolderIndex {
        let positions = ChunkPositions::new(ids);
        let response = |held: &[usize]| {
            let mut chunks = ChunkSet::empty(ids.len());
            for &index in held {
                chunks.insert(&positions, &ids[index]);
            }
            Some(HaveResponse { chunks, took_ms: 1.0, is_complete: true })
        };
        let known: Vec<KnownCell> = cells.iter().map(|(cell, _)| cell.clone()).collect();
        HolderIndex::new(&known, cells.iter().map(|(_, held)| response(held)).collect(), ids.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::discover::chunk_set::ChunkPositions;
    use crate::id::ChunkId;
    use crate::wire::beacon::Status;

    /// Cells that took these times to respond. Cell n holds every chunk except number n.
    fn holder_index(took_ms: &[f64], chunks: usize) -> HolderIndex {
        let ids: Vec<ChunkId> = (0..chunks).map(|n| ChunkId::of(&n.to_le_bytes())).collect();
        let cells: Vec<KnownCell> = (0..took_ms.len()).map(|n| KnownCell::at(&format!("http://{n}"))).collect();
        let positions = ChunkPositions::new(&ids);
        let response = |(n, &took_ms): (usize, &f64)| {
            let mut held = ChunkSet::empty(chunks);
            ids.iter().enumerate().filter(|(index, _)| *index != n).for_each(|(_, id)| held.insert(&positions, id));
            Some(HaveResponse { chunks: held, took_ms, is_complete: true })
        };
        HolderIndex::new(&cells, took_ms.iter().enumerate().map(response).collect(), chunks)
    }

    #[test]
    fn the_quickest_holder_is_chosen_unless_it_is_busy() {
        let mut index = holder_index(&[1.0, 2.5, 100.0], 70);
        let choose = |index: &mut HolderIndex| index.begin_fetch(69, &[]).unwrap().0;
        assert_eq!((0..5).map(|_| choose(&mut index)).collect::<Vec<_>>(), [0, 0, 1, 0, 0]);
        assert_eq!(index.begin_fetch(0, &[]).unwrap().0, 1, "cell 0 does not hold chunk 0");
        assert_eq!(index.begin_fetch(69, &[0, 1]).unwrap().0, 2);
        assert!(index.begin_fetch(69, &[0, 1, 2]).is_none());
    }

    #[test]
    fn fetch_times_are_learnt_and_unreachable_cells_come_last() {
        let mut index = holder_index(&[1.0, 2.0], 5);
        index.begin_fetch(4, &[]);
        index.fetch_succeeded(0, 500.0);
        assert_eq!(index.begin_fetch(4, &[]).unwrap().0, 1);
        index.fetch_failed(1, true);
        assert_eq!(index.begin_fetch(4, &[]).unwrap().0, 0);
        assert_eq!(index.begin_fetch(4, &[0]).unwrap().0, 1, "better than no cell");
    }

    #[test]
    fn a_cell_that_answers_quickly_and_delivers_slowly_is_asked_last() {
        let mut index = holder_index(&[1.0, 20.0, 30.0], 5);
        assert_eq!(index.begin_fetch(4, &[]).unwrap().0, 0);
        index.fetch_is_late(0, 1000.0);
        assert_eq!(index.begin_fetch(4, &[0]).unwrap().0, 1);
        index.fetch_abandoned(0);
        index.fetch_succeeded(1, 50.0);
        assert_eq!(index.begin_fetch(4, &[]).unwrap().0, 2, "its query took less than the fetch from cell 1");
        index.fetch_succeeded(2, 50.0);
        let busy: Vec<usize> = (0..20).map(|_| index.begin_fetch(4, &[]).unwrap().0).collect();
        assert!(!busy.contains(&0), "{busy:?}");
    }

    #[test]
    fn slow_cells_come_after_all_that_are_reachable() {
        let mut index = holder_index(&[1.0, 2.0, 3.0], 5);
        index.begin_fetch(4, &[]);
        index.begin_fetch(4, &[0]);
        index.fetch_too_slow(0, 10_000.0);
        index.fetch_succeeded(1, 60_000.0);
        assert!(index.is_slow(0) && !index.is_slow(1));
        index.fetch_failed(2, true);
        let order = |index: &mut HolderIndex| {
            let mut tried = Vec::new();
            while let Some((number, _)) = index.begin_fetch(4, &tried) {
                tried.push(number);
            }
            tried
        };
        assert_eq!(order(&mut index), [1, 0, 2]);
        let mut later = holder_index(&[1.0, 2.0, 3.0], 5);
        later.learn_from(&index);
        assert_eq!(order(&mut later), [2, 1, 0], "a later search keeps what was learnt, and cell 2 responds again");
        index.fetch_succeeded(0, 9_000.0);
        assert!(!index.is_slow(0));
    }

    #[test]
    fn missing_chunks_are_those_without_a_holder() {
        assert_eq!(holder_index(&[1.0], 3).missing(), [0]);
        assert!(holder_index(&[1.0, 1.0], 3).missing().is_empty());
        let index = holder_index(&[1.0, 1.0], 3);
        assert_eq!((index.copies(0), index.total_copies()), (1, 4));
    }

    #[test]
    fn copies_on_draining_cells_are_readable_but_do_not_stay() {
        let mut index = holder_index(&[1.0, 1.0, 1.0], 4);
        index.cells[1].known.status = Status::Draining;
        assert_eq!((index.copies(3), index.staying_copies(3), index.staying_cells()), (3, 2, 2));
        assert_eq!(index.chunks_of(1).collect::<Vec<_>>(), [0, 2, 3]);
        index.remove_copy(0, 3);
        assert_eq!((index.copies(3), index.staying_copies(3)), (2, 1));
        assert_eq!(index.holders(3).map(|(number, _)| number).collect::<Vec<_>>(), [1, 2]);
        index.remove_copy(2, 3);
        assert!(index.begin_fetch(3, &[]).is_some_and(|(number, _)| number == 1));
    }
}
