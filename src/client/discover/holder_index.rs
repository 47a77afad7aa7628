//! Who has which chunk, and who is quickest. Pure decisions; the fetching is done by others.

use crate::client::KnownCell;
use crate::client::discover::query::Answer;
use crate::id::ChunkId;

/// Weight of the newest measurement in a cell's average.
const NEWEST: f64 = 0.3;
/// Cells that are asked to search for a chunk when no holder is known.
const MAX_ENTRIES: usize = 3;

/// Where in a manifest an id stands.
pub(in crate::client) struct Index {
    by_id: Vec<(ChunkId, usize)>,
}

impl Index {
    pub(in crate::client) fn new(ids: &[ChunkId]) -> Self {
        let mut by_id: Vec<(ChunkId, usize)> = ids.iter().copied().zip(0..).collect();
        by_id.sort_unstable();
        Self { by_id }
    }

    /// Each id once.
    pub(in crate::client) fn ids(&self) -> Vec<ChunkId> {
        let mut ids: Vec<ChunkId> = self.by_id.iter().map(|(id, _)| *id).collect();
        ids.dedup();
        ids
    }

    /// One id can stand in several places.
    fn places(&self, id: &ChunkId) -> impl Iterator<Item = usize> {
        let first = self.by_id.partition_point(|(other, _)| other < id);
        self.by_id.iter().skip(first).take_while(move |(other, _)| other == id).map(|(_, index)| *index)
    }
}

/// Which chunks of a manifest a cell has: one bit for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::client) struct Has(Vec<u64>);

impl Has {
    pub(in crate::client) fn nothing(chunks: usize) -> Self {
        Self(vec![0; chunks.div_ceil(64)])
    }

    pub(in crate::client) fn add(&mut self, index: &Index, id: &ChunkId) {
        for place in index.places(id) {
            if let Some(word) = self.0.get_mut(place / 64) {
                *word |= 1_u64 << (place % 64);
            }
        }
    }

    pub(in crate::client) fn is_nothing(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(in crate::client) fn is_everything(&self, chunks: usize) -> bool {
        (0..chunks).all(|index| self.has(index))
    }

    pub(in crate::client) fn merge(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word |= other;
        }
    }

    pub(in crate::client) fn remove(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word &= !(1_u64 << (index % 64));
        }
    }

    fn has(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }
}

/// A cell that chunks are fetched from.
#[derive(Debug, Clone)]
struct Cell {
    known: KnownCell,
    has: Has,
    /// Milliseconds for one fetch, averaged; at first, what the question took.
    pace_ms: f64,
    under_way: u32,
    down: bool,
}

/// The holders of a manifest's chunks.
#[derive(Debug, Clone)]
pub(in crate::client) struct HolderIndex {
    cells: Vec<Cell>,
    chunks: usize,
}

impl HolderIndex {
    /// Takes in what the cells answered about `chunks` chunks. `answers` are in the order of `cells`.
    pub(in crate::client) fn new(cells: &[KnownCell], answers: Vec<Option<Answer>>, chunks: usize) -> Self {
        let cells = cells.iter().zip(answers).filter_map(|(known, answer)| {
            let Answer { has, took_ms, .. } = answer?;
            Some(Cell { known: known.clone(), has, pace_ms: took_ms.max(0.1), under_way: 0, down: false })
        });
        Self { cells: cells.collect(), chunks }
    }

    /// Cells that answered.
    pub(in crate::client) fn answering(&self) -> usize {
        self.cells.len()
    }

    /// Chunks that no cell has, by number, ascending.
    pub(in crate::client) fn missing(&self) -> Vec<usize> {
        (0..self.chunks).filter(|&index| !self.cells.iter().any(|cell| cell.has.has(index))).collect()
    }

    /// The URLs of the cells that have this chunk.
    pub(in crate::client) fn of(&self, index: usize) -> impl Iterator<Item = &str> {
        self.cells.iter().filter(move |cell| cell.has.has(index)).map(|cell| cell.known.url.as_str())
    }

    /// How many cells have this chunk.
    pub(in crate::client) fn count(&self, index: usize) -> usize {
        self.cells.iter().filter(|cell| cell.has.has(index)).count()
    }

    /// The cells that answered. Their numbers are their places here.
    pub(in crate::client) fn cells(&self) -> impl Iterator<Item = &KnownCell> {
        self.cells.iter().map(|cell| &cell.known)
    }

    /// How many of the cells will stay. Copies on the others do not count as copies that a chunk has: they are handed
    /// on or lost.
    pub(in crate::client) fn staying(&self) -> usize {
        self.cells().filter(|cell| cell.stays()).count()
    }

    /// The holders of this chunk, by number.
    pub(in crate::client) fn holding(&self, index: usize) -> impl Iterator<Item = (usize, &KnownCell)> {
        self.cells.iter().enumerate().filter(move |(_, cell)| cell.has.has(index)).map(|(n, cell)| (n, &cell.known))
    }

    /// How many copies this chunk has on cells that will stay.
    pub(in crate::client) fn staying_copies(&self, index: usize) -> usize {
        self.holding(index).filter(|(_, cell)| cell.stays()).count()
    }

    /// The chunks that a cell has, ascending.
    pub(in crate::client) fn held_by(&self, number: usize) -> impl Iterator<Item = usize> {
        let has = self.cells.get(number).map(|cell| &cell.has);
        (0..self.chunks).filter(move |&index| has.is_some_and(|has| has.has(index)))
    }

    /// The cell has no copy of this chunk that is of any use.
    pub(in crate::client) fn lose(&mut self, number: usize, index: usize) {
        if let Some(cell) = self.cells.get_mut(number) {
            cell.has.remove(index);
        }
    }

    /// The holder that is likely to have it here first, none of `tried`; counts the fetch as under way. Cells that
    /// did not answer lately come last.
    pub(in crate::client) fn choose(&mut self, index: usize, tried: &[usize]) -> Option<(usize, KnownCell)> {
        let holders =
            self.cells.iter().enumerate().filter(|(number, cell)| cell.has.has(index) && !tried.contains(number));
        let expected = |cell: &Cell| cell.pace_ms * f64::from(cell.under_way + 1);
        let quickest = holders.min_by(|(_, a), (_, b)| a.down.cmp(&b.down).then(expected(a).total_cmp(&expected(b))));
        let number = quickest?.0;
        let cell = self.cells.get_mut(number)?;
        cell.under_way += 1;
        Some((number, cell.known.clone()))
    }

    /// Notes how long a fetch took.
    pub(in crate::client) fn fetched(&mut self, number: usize, took_ms: f64) {
        if let Some(cell) = self.cells.get_mut(number) {
            cell.under_way = cell.under_way.saturating_sub(1);
            cell.pace_ms += (took_ms - cell.pace_ms) * NEWEST;
            cell.down = false;
        }
    }

    /// Notes that a fetch failed; with `down`, that the cell does not answer at all.
    pub(in crate::client) fn failed(&mut self, number: usize, down: bool) {
        if let Some(cell) = self.cells.get_mut(number) {
            cell.under_way = cell.under_way.saturating_sub(1);
            cell.down |= down;
        }
    }

    /// Some cells that may be asked to search among those that they know.
    pub(in crate::client) fn entries(&self) -> Vec<KnownCell> {
        self.cells.iter().filter(|cell| !cell.down).take(MAX_ENTRIES).map(|cell| cell.known.clone()).collect()
    }
}

#[cfg(test)]
pub(in crate::client) mod testing {
    use super::*;

    /// Cells, and which of the chunks each has.
    pub(crate) fn holders(ids: &[ChunkId], cells: &[(KnownCell, &[usize])]) -> HolderIndex {
        let index = Index::new(ids);
        let answer = |held: &[usize]| {
            let mut has = Has::nothing(ids.len());
            for &chunk in held {
                has.add(&index, &ids[chunk]);
            }
            Some(Answer { has, took_ms: 1.0, whole: true })
        };
        let known: Vec<KnownCell> = cells.iter().map(|(cell, _)| cell.clone()).collect();
        HolderIndex::new(&known, cells.iter().map(|(_, held)| answer(held)).collect(), ids.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::beacon::{Role, Status};

    fn holders(paces: &[f64], chunks: usize) -> HolderIndex {
        let ids: Vec<ChunkId> = (0..chunks).map(|n| ChunkId::of(&n.to_le_bytes())).collect();
        let cells: Vec<KnownCell> = (0..paces.len())
            .map(|n| KnownCell {
                url: format!("http://{n}"),
                id: None,
                role: Role::Storage,
                status: Status::Active,
                free_bytes: None,
            })
            .collect();
        // Cell n has every chunk but number n.
        let index = Index::new(&ids);
        let answer = |(n, &took_ms): (usize, &f64)| {
            let mut has = Has::nothing(chunks);
            ids.iter().enumerate().filter(|(index, _)| *index != n).for_each(|(_, id)| has.add(&index, id));
            Some(Answer { has, took_ms, whole: true })
        };
        HolderIndex::new(&cells, paces.iter().enumerate().map(answer).collect(), chunks)
    }

    #[test]
    fn the_quickest_holder_is_chosen_and_a_busy_one_is_slower() {
        let mut holders = holders(&[1.0, 2.5, 100.0], 70);
        let choose = |holders: &mut HolderIndex| holders.choose(69, &[]).unwrap().0;
        assert_eq!((0..5).map(|_| choose(&mut holders)).collect::<Vec<_>>(), [0, 0, 1, 0, 0]);
        assert_eq!(holders.choose(0, &[]).unwrap().0, 1, "cell 0 does not have chunk 0");
        assert_eq!(holders.choose(69, &[0, 1]).unwrap().0, 2);
        assert!(holders.choose(69, &[0, 1, 2]).is_none());
    }

    #[test]
    fn paces_are_learnt_and_cells_that_are_down_come_last() {
        let mut holders = holders(&[1.0, 2.0], 5);
        holders.choose(4, &[]);
        holders.fetched(0, 500.0);
        assert_eq!(holders.choose(4, &[]).unwrap().0, 1);
        holders.failed(1, true);
        assert_eq!(holders.choose(4, &[]).unwrap().0, 0);
        assert_eq!(holders.choose(4, &[0]).unwrap().0, 1, "better than nobody");
    }

    #[test]
    fn missing_chunks_are_those_that_nobody_has() {
        assert_eq!(holders(&[1.0], 3).missing(), [0]);
        assert!(holders(&[1.0, 1.0], 3).missing().is_empty());
        assert_eq!(holders(&[1.0, 1.0], 3).count(0), 1);
    }

    #[test]
    fn one_id_in_several_places_is_one_chunk() {
        let id = ChunkId::of(b"same");
        let cell = holders(&[1.0], 1).cells[0].known.clone();
        let ids = [id, ChunkId::of(b"x"), id];
        let mut has = Has::nothing(3);
        assert!(has.is_nothing());
        has.add(&Index::new(&ids), &id);
        has.add(&Index::new(&ids), &ChunkId::of(b"never asked for"));
        assert_eq!(Index::new(&ids).ids().len(), 2, "asked for once");
        let mut other = Has::nothing(3);
        other.add(&Index::new(&ids), &ids[1]);
        assert!(!other.is_everything(3));
        other.merge(&has);
        assert!(other.is_everything(3));
        let holders = HolderIndex::new(&[cell], vec![Some(Answer { has, took_ms: 1.0, whole: true })], 3);
        assert_eq!(holders.missing(), [1]);
    }

    #[test]
    fn copies_on_cells_that_are_drained_can_be_read_and_do_not_count() {
        let mut holders = holders(&[1.0, 1.0, 1.0], 4);
        holders.cells[1].known.status = Status::Draining;
        assert_eq!((holders.count(3), holders.staying_copies(3), holders.staying()), (3, 2, 2));
        assert_eq!(holders.held_by(1).collect::<Vec<_>>(), [0, 2, 3]);
        holders.lose(0, 3);
        assert_eq!((holders.count(3), holders.staying_copies(3)), (2, 1));
        assert_eq!(holders.holding(3).map(|(number, _)| number).collect::<Vec<_>>(), [1, 2]);
        holders.lose(2, 3);
        assert!(holders.choose(3, &[]).is_some_and(|(number, _)| number == 1));
    }
}
