//! Who has which chunk, and who is quickest. Pure decisions; the fetching is done by others.

use super::KnownCell;
use super::have::Answer;
use crate::chunk::ChunkId;

/// Weight of the newest measurement in a cell's average.
const NEWEST: f64 = 0.3;

/// A cell that chunks are fetched from.
#[derive(Debug, Clone)]
struct Cell {
    known: KnownCell,
    /// One bit for each chunk of the manifest.
    has: Vec<u64>,
    /// Milliseconds for one fetch, averaged; at first, what the question took.
    pace_ms: f64,
    under_way: u32,
    down: bool,
}

/// The holders of a manifest's chunks.
#[derive(Debug, Clone)]
pub(super) struct Holders {
    cells: Vec<Cell>,
    chunks: usize,
}

impl Holders {
    /// Takes in what the cells answered. `answers` are in the order of `cells`.
    pub(super) fn new(cells: &[KnownCell], answers: Vec<Option<Answer>>, ids: &[ChunkId]) -> Self {
        let mut by_id: Vec<(ChunkId, usize)> = ids.iter().copied().zip(0..).collect();
        by_id.sort_unstable();
        let cells = cells
            .iter()
            .zip(answers)
            .filter_map(|(known, answer)| {
                let answer = answer?;
                let mut has = vec![0; ids.len().div_ceil(64)];
                for id in answer.ids {
                    // One id can stand in several places.
                    let first = by_id.partition_point(|(other, _)| *other < id);
                    for (_, index) in by_id.iter().skip(first).take_while(|(other, _)| *other == id) {
                        if let Some(word) = has.get_mut(index / 64) {
                            *word |= 1_u64 << (index % 64);
                        }
                    }
                }
                Some(Cell { known: known.clone(), has, pace_ms: answer.took_ms.max(0.1), under_way: 0, down: false })
            })
            .collect();
        Self { cells, chunks: ids.len() }
    }

    /// Cells that answered.
    pub(super) fn answering(&self) -> usize {
        self.cells.len()
    }

    /// Chunks that no cell has, by number, ascending.
    pub(super) fn missing(&self) -> Vec<usize> {
        (0..self.chunks).filter(|&index| !self.cells.iter().any(|cell| cell.has(index))).collect()
    }

    /// The URLs of the cells that have this chunk.
    pub(super) fn of(&self, index: usize) -> impl Iterator<Item = &str> {
        self.cells.iter().filter(move |cell| cell.has(index)).map(|cell| cell.known.url.as_str())
    }

    /// How many cells have this chunk.
    pub(super) fn count(&self, index: usize) -> usize {
        self.cells.iter().filter(|cell| cell.has(index)).count()
    }

    /// The holder that is likely to have it here first, none of `tried`; counts the fetch as under way. Cells that did not
    /// answer lately come last.
    pub(super) fn choose(&mut self, index: usize, tried: &[usize]) -> Option<(usize, KnownCell)> {
        let holders = self.cells.iter().enumerate().filter(|(number, cell)| cell.has(index) && !tried.contains(number));
        let expected = |cell: &Cell| cell.pace_ms * f64::from(cell.under_way + 1);
        let quickest = holders.min_by(|(_, a), (_, b)| a.down.cmp(&b.down).then(expected(a).total_cmp(&expected(b))));
        let number = quickest?.0;
        let cell = self.cells.get_mut(number)?;
        cell.under_way += 1;
        Some((number, cell.known.clone()))
    }

    /// Notes how long a fetch took.
    pub(super) fn fetched(&mut self, number: usize, took_ms: f64) {
        if let Some(cell) = self.cells.get_mut(number) {
            cell.under_way = cell.under_way.saturating_sub(1);
            cell.pace_ms += (took_ms - cell.pace_ms) * NEWEST;
            cell.down = false;
        }
    }

    /// Notes that a fetch failed; with `down`, that the cell does not answer at all.
    pub(super) fn failed(&mut self, number: usize, down: bool) {
        if let Some(cell) = self.cells.get_mut(number) {
            cell.under_way = cell.under_way.saturating_sub(1);
            cell.down |= down;
        }
    }

    /// Some cells that may be asked to search among those that they know.
    pub(super) fn entries(&self, most: usize) -> Vec<KnownCell> {
        self.cells.iter().filter(|cell| !cell.down).take(most).map(|cell| cell.known.clone()).collect()
    }
}

impl Cell {
    fn has(&self, index: usize) -> bool {
        self.has.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::beacon::{Role, Status};

    fn holders(paces: &[f64], chunks: usize) -> Holders {
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
        let answer = |(n, &took_ms): (usize, &f64)| {
            let ids = ids.iter().enumerate().filter(|(index, _)| *index != n).map(|(_, id)| *id).collect();
            Some(Answer { ids, took_ms })
        };
        Holders::new(&cells, paces.iter().enumerate().map(answer).collect(), &ids)
    }

    #[test]
    fn the_quickest_holder_is_chosen_and_a_busy_one_is_slower() {
        let mut holders = holders(&[1.0, 2.5, 100.0], 70);
        let choose = |holders: &mut Holders| holders.choose(69, &[]).unwrap().0;
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
        let holders =
            Holders::new(&[cell], vec![Some(Answer { ids: vec![id], took_ms: 1.0 })], &[id, ChunkId::of(b"x"), id]);
        assert_eq!(holders.missing(), [1]);
    }
}
