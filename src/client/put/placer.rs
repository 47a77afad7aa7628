//! Which cells get the copies of each chunk, and when a chunk has enough of them. Pure; the uploads happen elsewhere.

use crate::cell::placement::{Candidate, order, spread_over_hosts};
use crate::client::discover::colony::{CellName, KnownCell};
use crate::client::put::availability::{CellAvailability, Rejection};
use crate::id::{CellId, MAX_CHUNK_BYTES};
use crate::net::client::CallError;
use crate::wire::beacon::Status;

/// After this many failures in a row a cell gets no further chunks.
const MAX_FAILURES: u32 = 3;

/// How an upload failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client) enum Failure {
    /// The cell is unreachable.
    Unreachable,
    /// A timeout: the cell or the link is slow.
    Slow,
    /// The cell refused the chunk.
    Refused(Rejection),
}

impl Failure {
    pub(in crate::client) fn of(error: &CallError) -> Self {
        match error {
            CallError::Unreachable { .. } if error.is_slow() => Self::Slow,
            CallError::TooSlow { .. } => Self::Slow,
            CallError::Unreachable { .. } | CallError::Cancelled { .. } => Self::Unreachable,
            CallError::Refused { .. } | CallError::InvalidResponse { .. } => Self::Refused(Rejection::of(error)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CellState {
    Accepting,
    Unreachable,
    Rejecting(Rejection),
}

#[derive(Debug, Clone)]
struct Cell {
    known: KnownCell,
    state: CellState,
    /// Failed uploads since the last successful one.
    failures: u32,
}

/// The cells of one chunk's copies, by the placer's numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::client) struct ChunkCopies {
    stored: Vec<usize>,
    pending: Vec<usize>,
    excluded: Vec<usize>,
}

impl ChunkCopies {
    /// The copies of a chunk that these cells hold already.
    pub(in crate::client) fn stored_on(cells: Vec<usize>) -> Self {
        Self { stored: cells, ..Self::default() }
    }

    /// The number of copies that are stored.
    pub(in crate::client) fn stored(&self) -> usize {
        self.stored.len()
    }

    /// The cells that hold a copy or are being sent one.
    pub(in crate::client) fn holders(&self) -> Vec<usize> {
        self.stored.iter().chain(&self.pending).copied().collect()
    }

    /// Excludes a cell from holding this chunk.
    pub(in crate::client) fn exclude(&mut self, cell: usize) {
        self.excluded.push(cell);
    }

    /// Lets cells hold this chunk that failed to store it before.
    pub(in crate::client) fn clear_exclusions(&mut self) {
        self.excluded.clear();
    }

    fn involves(&self, cell: usize) -> bool {
        [&self.stored, &self.pending, &self.excluded].iter().any(|cells| cells.contains(&cell))
    }
}

/// The next step for a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::client) enum NextStep {
    /// Send it to these cells. They count as pending from now on.
    Send(Vec<usize>),
    /// Wait for the uploads in progress.
    Wait,
    /// It has all of its copies.
    Complete,
    /// It has fewer copies, which are enough, and no cell is left to try.
    Sufficient,
    /// It has too few copies, or a cell failed, and no cell is left to try. Only another search for cells can help.
    Stuck,
}

/// Places the copies of one run. Cells are referred to by number; a number keeps its meaning for the whole run.
pub(in crate::client) struct Placer {
    cells: Vec<Cell>,
    copies: usize,
    required: usize,
    rng: fastrand::Rng,
}

impl Placer {
    /// `copies` are wanted of each chunk, and `min_copies`, at most as many, is the smallest number that is accepted.
    pub(in crate::client) fn new(cells: Vec<KnownCell>, copies: u8, min_copies: u8, seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        let required = min_copies.clamp(1, copies.max(1)).into();
        let mut placer = Self { cells: Vec::new(), copies: copies.into(), required, rng };
        placer.update_cells(cells);
        placer
    }

    /// Takes in the cells that a search found. New ones are added, and known ones start again without failures.
    pub(in crate::client) fn update_cells(&mut self, cells: Vec<KnownCell>) {
        for known in cells {
            let state = match known.status {
                // Cells report themselves full below this. Not those of every version.
                Status::Active if known.free_bytes.is_some_and(|free| free < MAX_CHUNK_BYTES as u64) => {
                    CellState::Rejecting(Rejection::Reported(Status::Full))
                }
                Status::Active => CellState::Accepting,
                Status::Leaving => CellState::Unreachable,
                Status::Full | Status::Draining | Status::Unknown => {
                    CellState::Rejecting(Rejection::Reported(known.status))
                }
            };
            let cell = Cell { known, state, failures: 0 };
            // A cell with a new address is the same cell. It must not hold a chunk twice.
            let is_same = |other: &KnownCell| match (other.id, cell.known.id) {
                (Some(other), Some(id)) => other == id,
                _ => other.url == cell.known.url,
            };
            match self.cells.iter_mut().find(|other| is_same(&other.known)) {
                Some(other) => *other = cell,
                None => self.cells.push(cell),
            }
        }
    }

    pub(in crate::client) fn cell(&self, number: usize) -> Option<&KnownCell> {
        self.cells.get(number).map(|cell| &cell.known)
    }

    /// All cells, in the order of their numbers.
    pub(in crate::client) fn cells(&self) -> impl Iterator<Item = &KnownCell> {
        self.cells.iter().map(|cell| &cell.known)
    }

    /// The number of the cell with this URL.
    pub(in crate::client) fn number_of(&self, url: &str) -> Option<usize> {
        self.cells().position(|cell| cell.url == url)
    }

    /// The ids of these cells, as far as they are known.
    pub(in crate::client) fn ids(&self, numbers: &[usize]) -> Vec<CellId> {
        numbers.iter().filter_map(|&number| self.cell(number)?.id).collect()
    }

    /// The number of cells that respond.
    pub(in crate::client) fn responding(&self) -> usize {
        self.cells.iter().filter(|cell| cell.state != CellState::Unreachable).count()
    }

    /// The number of cells that accept chunks.
    pub(in crate::client) fn accepting(&self) -> usize {
        self.cells.iter().filter(|cell| cell.state == CellState::Accepting).count()
    }

    /// The free bytes that the cells reported that accept chunks.
    pub(in crate::client) fn free_bytes(&self) -> impl Iterator<Item = Option<u64>> {
        let accepting = self.cells.iter().filter(|cell| cell.state == CellState::Accepting);
        accepting.map(|cell| cell.known.free_bytes)
    }

    /// The cells that have no room.
    pub(in crate::client) fn full_cells(&self) -> Vec<CellName> {
        let is_full = |cell: &&Cell| {
            matches!(cell.state, CellState::Rejecting(Rejection::Reported(Status::Full) | Rejection::Refused(507)))
        };
        self.cells.iter().filter(is_full).map(|cell| cell.known.name()).collect()
    }

    /// The cells, by whether they accept chunks.
    pub(in crate::client) fn availability(&self) -> CellAvailability {
        CellAvailability::count(self.cells.iter().map(|cell| match cell.state {
            CellState::Accepting => None,
            CellState::Unreachable => Some(Rejection::Unresponsive),
            CellState::Rejecting(rejection) => Some(rejection),
        }))
    }

    /// The smallest number of copies that is accepted.
    pub(in crate::client) fn required(&self) -> usize {
        self.required
    }

    /// Is this number of copies accepted, and can no cell take another one?
    pub(in crate::client) fn is_sufficient(&self, copies: usize) -> bool {
        copies >= self.copies || (copies >= self.required && copies >= self.copies.min(self.accepting()))
    }

    /// Decides the next step for a chunk.
    pub(in crate::client) fn next(&mut self, copies: &mut ChunkCopies) -> NextStep {
        let lacking = self.copies.saturating_sub(copies.stored.len() + copies.pending.len());
        let chosen = self.choose(copies, lacking);
        if !chosen.is_empty() {
            copies.pending.extend(&chosen);
            return NextStep::Send(chosen);
        }
        match copies.stored() {
            _ if !copies.pending.is_empty() => NextStep::Wait,
            stored if stored >= self.copies => NextStep::Complete,
            // Cells that failed are searched for first: they may accept it then.
            stored if stored >= self.required && copies.excluded.is_empty() => NextStep::Sufficient,
            _ => NextStep::Stuck,
        }
    }

    fn choose(&mut self, copies: &ChunkCopies, count: usize) -> Vec<usize> {
        if count == 0 {
            return Vec::new();
        }
        let (numbers, candidates): (Vec<usize>, Vec<Candidate>) = self
            .cells
            .iter()
            .enumerate()
            .filter(|(number, cell)| cell.state == CellState::Accepting && !copies.involves(*number))
            .map(|(number, cell)| (number, Candidate { role: cell.known.role, free_bytes: cell.known.free_bytes }))
            .unzip();
        let order = order(&candidates, &mut self.rng);
        let host = |number: usize| self.cell(number).map(KnownCell::host);
        let host_at = |position: usize| numbers.get(position).and_then(|&number| host(number));
        let order = spread_over_hosts(order, host_at, copies.holders().into_iter().map(host));
        order.into_iter().take(count).filter_map(|position| numbers.get(position).copied()).collect()
    }

    /// Records that a cell has stored a copy.
    pub(in crate::client) fn upload_succeeded(&mut self, copies: &mut ChunkCopies, number: usize) {
        copies.pending.retain(|&pending| pending != number);
        copies.stored.push(number);
        if let Some(cell) = self.cells.get_mut(number) {
            cell.failures = 0;
        }
    }

    /// Records that an upload failed. The cell is excluded for this chunk. True if it gets no further chunks at all.
    pub(in crate::client) fn upload_failed(
        &mut self,
        copies: &mut ChunkCopies,
        number: usize,
        failure: Failure,
    ) -> bool {
        copies.pending.retain(|&pending| pending != number);
        copies.exclude(number);
        let Some(cell) = self.cells.get_mut(number) else { return false };
        cell.failures += 1;
        let was_accepting = cell.state == CellState::Accepting;
        match failure {
            // Further uploads to it would fail too, each after its timeout.
            Failure::Unreachable => cell.state = CellState::Unreachable,
            Failure::Slow if cell.failures >= MAX_FAILURES => cell.state = CellState::Unreachable,
            Failure::Refused(rejection) if cell.failures >= MAX_FAILURES => {
                cell.state = CellState::Rejecting(rejection);
            }
            Failure::Slow | Failure::Refused(_) => {}
        }
        was_accepting && cell.state != CellState::Accepting
    }

    /// Are the stored copies enough, if no other cell can be found?
    pub(in crate::client) fn meets_requirement(&self, copies: &ChunkCopies) -> bool {
        copies.pending.is_empty() && copies.stored() >= self.required
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::beacon::Role;

    fn cells(count: u8) -> Vec<KnownCell> {
        let cell = |n| KnownCell {
            id: Some(CellId::from_bytes([n; 16])),
            role: Role::Storage,
            free_bytes: Some(1 << 30),
            ..KnownCell::at(&format!("http://10.0.0.{n}:1"))
        };
        (0..count).map(cell).collect()
    }

    fn send(placer: &mut Placer, copies: &mut ChunkCopies) -> Vec<usize> {
        match placer.next(copies) {
            NextStep::Send(cells) => cells,
            other => panic!("{other:?}"),
        }
    }

    /// Sends a chunk to five cells, of which the first fails and the others succeed.
    fn send_with_one_failure(placer: &mut Placer, failure: Failure) -> (ChunkCopies, usize) {
        let mut copies = ChunkCopies::default();
        let chosen = send(placer, &mut copies);
        placer.upload_failed(&mut copies, chosen[0], failure);
        for &cell in &chosen[1..] {
            placer.upload_succeeded(&mut copies, cell);
        }
        (copies, chosen[0])
    }

    #[test]
    fn a_chunk_goes_to_five_distinct_cells() {
        let mut placer = Placer::new(cells(8), 5, 5, 1);
        let mut copies = ChunkCopies::default();
        let mut chosen = send(&mut placer, &mut copies);
        assert_eq!(placer.next(&mut copies), NextStep::Wait);
        for &cell in &chosen {
            placer.upload_succeeded(&mut copies, cell);
        }
        chosen.sort_unstable();
        chosen.dedup();
        assert_eq!(chosen.len(), 5);
        assert_eq!(placer.next(&mut copies), NextStep::Complete);
    }

    #[test]
    fn storage_cells_come_first() {
        let mut cells = cells(9);
        let roles = [Role::Stem, Role::Storage, Role::Guard];
        cells.iter_mut().zip(roles.into_iter().cycle()).for_each(|(cell, role)| cell.role = role);
        let mut placer = Placer::new(cells, 5, 5, 1);
        for _ in 0..50 {
            let mut copies = ChunkCopies::default();
            let chosen = send(&mut placer, &mut copies);
            let storage = chosen.iter().filter(|&&number| number % 3 == 1).count();
            assert_eq!((chosen.len(), storage), (5, 3), "{chosen:?}");
            // All storage cells are in use, so that another cell replaces one that fails.
            placer.upload_failed(&mut copies, chosen[0], Failure::Refused(Rejection::Refused(503)));
            placer.cells.iter_mut().for_each(|cell| cell.failures = 0);
            assert_ne!(send(&mut placer, &mut copies)[0] % 3, 1);
        }
    }

    #[test]
    fn an_unreachable_cell_is_replaced_and_gets_no_further_chunks() {
        let mut placer = Placer::new(cells(6), 5, 5, 1);
        let mut copies = ChunkCopies::default();
        let chosen = send(&mut placer, &mut copies);
        assert!(placer.upload_failed(&mut copies, chosen[0], Failure::Unreachable));
        let replacement = send(&mut placer, &mut copies);
        assert_eq!(replacement.len(), 1);
        assert!(!chosen.contains(&replacement[0]));
        assert!(!send(&mut placer, &mut ChunkCopies::default()).contains(&chosen[0]));
    }

    #[test]
    fn with_fewer_cells_than_copies_one_copy_on_each_is_enough() {
        let mut placer = Placer::new(cells(3), 5, 2, 1);
        let mut copies = ChunkCopies::default();
        for cell in send(&mut placer, &mut copies) {
            placer.upload_succeeded(&mut copies, cell);
        }
        assert_eq!((copies.stored(), placer.next(&mut copies)), (3, NextStep::Sufficient));
    }

    #[test]
    fn full_cells_are_not_missed() {
        let mut cells = cells(5);
        cells[1].status = Status::Full;
        cells[2].free_bytes = Some(MAX_CHUNK_BYTES as u64 - 1);
        let full = [cells[1].name(), cells[2].name()];
        let mut placer = Placer::new(cells, 5, 2, 1);
        let mut copies = ChunkCopies::default();
        let mut chosen = send(&mut placer, &mut copies);
        for &cell in &chosen {
            placer.upload_succeeded(&mut copies, cell);
        }
        chosen.sort_unstable();
        assert_eq!((chosen, placer.next(&mut copies)), (vec![0, 3, 4], NextStep::Sufficient));
        assert_eq!((placer.full_cells(), placer.free_bytes().count()), (full.to_vec(), 3));
    }

    #[test]
    fn copies_are_on_different_hosts_while_there_are_any() {
        let mut cells = cells(6);
        for (number, cell) in cells.iter_mut().enumerate() {
            // Four cells on one host, and most of the room; two on another.
            cell.url = format!("http://10.0.0.{}:{number}", if number < 4 { 1 } else { 2 });
            cell.free_bytes = Some(if number < 4 { 1 << 40 } else { 1 << 30 });
        }
        for seed in 0..20 {
            let mut placer = Placer::new(cells.clone(), 2, 2, seed);
            let mut copies = ChunkCopies::default();
            let chosen = send(&mut placer, &mut copies);
            assert_eq!(chosen.iter().filter(|&&number| number < 4).count(), 1, "{chosen:?}");
            // One of them fails, and the other host still counts.
            placer.upload_failed(&mut copies, chosen[0], Failure::Refused(Rejection::Refused(507)));
            assert_eq!(send(&mut placer, &mut copies)[0] < 4, chosen[0] < 4);
        }
        let mut placer = Placer::new(cells, 5, 2, 1);
        assert_eq!(send(&mut placer, &mut ChunkCopies::default()).len(), 5, "hosts are only a preference");
    }

    /// Goal: a cell that fills up in the middle is replaced, and without a replacement the chunk has enough copies.
    #[test]
    fn a_cell_that_fills_up_is_replaced_or_done_without() {
        for (count, replaced) in [(6, true), (5, false)] {
            let mut placer = Placer::new(cells(count), 5, 2, 1);
            let (mut copies, failed) = send_with_one_failure(&mut placer, Failure::Refused(Rejection::Refused(507)));
            match placer.next(&mut copies) {
                NextStep::Send(cells) => assert!(replaced && cells.len() == 1 && cells != [failed]),
                step => assert_eq!((replaced, step), (false, NextStep::Stuck), "another search comes first"),
            }
            assert!(replaced || placer.meets_requirement(&copies));
        }
    }

    #[test]
    fn cells_that_refuse_do_not_lower_the_requirement() {
        let mut placer = Placer::new(cells(5), 5, 5, 1);
        let (mut copies, failed) = send_with_one_failure(&mut placer, Failure::Refused(Rejection::Refused(507)));
        assert_eq!(placer.next(&mut copies), NextStep::Stuck);
        assert!(!placer.meets_requirement(&copies));
        copies.clear_exclusions();
        assert_eq!(send(&mut placer, &mut copies), [failed], "another attempt");
    }

    #[test]
    fn fewer_copies_are_accepted_only_after_another_search() {
        let mut placer = Placer::new(cells(5), 5, 4, 1);
        let (mut copies, _) = send_with_one_failure(&mut placer, Failure::Unreachable);
        assert_eq!(placer.next(&mut copies), NextStep::Stuck);
        assert!(placer.meets_requirement(&copies), "four are enough in the end");
    }

    #[test]
    fn cells_lost_later_do_not_lower_the_requirement() {
        let mut placer = Placer::new(cells(5), 5, 5, 1);
        for lost in 0..4 {
            placer.upload_failed(&mut ChunkCopies::default(), lost, Failure::Unreachable);
        }
        let mut copies = ChunkCopies::default();
        assert_eq!(send(&mut placer, &mut copies), [4]);
        placer.upload_succeeded(&mut copies, 4);
        assert_eq!((placer.next(&mut copies), placer.meets_requirement(&copies)), (NextStep::Stuck, false));
    }

    #[test]
    fn a_cell_is_skipped_after_three_timeouts_or_refusals() {
        for failure in [Failure::Slow, Failure::Refused(Rejection::Refused(507))] {
            let mut placer = Placer::new(cells(1), 1, 1, 1);
            let mut fail = || placer.upload_failed(&mut ChunkCopies::default(), 0, failure);
            assert_eq!([fail(), fail(), fail(), fail()], [false, false, true, false]);
        }
    }

    #[test]
    fn a_cell_with_a_new_address_keeps_its_number() {
        let mut placer = Placer::new(cells(2), 2, 2, 1);
        let mut moved = cells(1);
        moved[0].url = "http://10.9.9.9:9".into();
        placer.update_cells(moved);
        assert_eq!((placer.responding(), placer.number_of("http://10.9.9.9:9")), (2, Some(0)));
    }

    #[test]
    fn availability_counts_cells_by_their_rejection() {
        let mut cells = cells(4);
        cells[3].status = Status::Full;
        let mut placer = Placer::new(cells, 5, 5, 1);
        assert_eq!((placer.responding(), placer.accepting()), (4, 3));
        for _ in 0..MAX_FAILURES {
            placer.upload_failed(&mut ChunkCopies::default(), 0, Failure::Refused(Rejection::Refused(507)));
        }
        placer.upload_failed(&mut ChunkCopies::default(), 1, Failure::Unreachable);
        let rejections = [Rejection::Refused(507), Rejection::Unresponsive, Rejection::Reported(Status::Full)];
        assert_eq!(placer.availability().rejections, rejections.map(|rejection| (rejection, 1)));
    }

    #[test]
    fn a_cell_that_is_found_again_gets_chunks_again() {
        let mut placer = Placer::new(cells(1), 1, 1, 1);
        let mut copies = ChunkCopies::default();
        send(&mut placer, &mut copies);
        placer.upload_failed(&mut copies, 0, Failure::Unreachable);
        assert_eq!(placer.next(&mut copies), NextStep::Stuck);
        placer.update_cells(cells(1));
        copies.clear_exclusions();
        assert_eq!(send(&mut placer, &mut copies), [0]);
    }
}
