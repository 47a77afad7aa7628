//! Who gets which copy, and when a chunk has enough of them. Pure decisions; the uploads are made by others.

use crate::cell::placement::{Candidate, order};
use crate::client::KnownCell;
use crate::client::put::availability::{CellAvailability, Rejection};
use crate::id::CellId;
use crate::net::client::CallError;
use crate::wire::beacon::Status;

/// A cell is given up on for the rest of a run after so many failures in a row.
const MAX_FAILURES: u32 = 3;

/// How an upload failed, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client) enum Failure {
    /// The cell does not answer.
    Unreachable,
    /// It took too long: the cell or the link is slow.
    Slow,
    /// The cell answered that it will not have the chunk.
    Refused(Rejection),
}

impl Failure {
    pub(in crate::client) fn of(error: &CallError) -> Self {
        match error {
            CallError::Unreachable { .. } if error.is_slow() => Self::Slow,
            CallError::Unreachable { .. } => Self::Unreachable,
            CallError::Refused { .. } | CallError::InvalidResponse { .. } => Self::Refused(Rejection::of(error)),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    Good,
    Down,
    Refusing(Rejection),
}

#[derive(Debug, Clone)]
struct Cell {
    known: KnownCell,
    standing: Standing,
    failures: u32,
}

/// The copies of one chunk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::client) struct Copies {
    /// Cells that have it safe, as numbers of the placer's.
    pub(in crate::client) done: Vec<usize>,
    /// Cells that it is being sent to.
    pub(in crate::client) pending: Vec<usize>,
    /// Cells that failed it.
    failed: Vec<usize>,
}

impl Copies {
    /// Those that are there already.
    pub(in crate::client) fn held_by(done: Vec<usize>) -> Self {
        Self { done, ..Self::default() }
    }

    /// This cell is not to get it.
    pub(in crate::client) fn avoid(&mut self, number: usize) {
        self.failed.push(number);
    }
}

/// What to do next for a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::client) enum Next {
    /// Send it to these cells too.
    Send(Vec<usize>),
    /// Wait for those under way.
    Wait,
    /// It has all its copies.
    Whole,
    /// It has as many copies as there can be now, and they are enough.
    Short,
    /// Cells failed it, or are gone, and none is left to try: only another look at the colony can help.
    Stuck,
}

/// Places the copies of a put.
pub(in crate::client) struct Placer {
    cells: Vec<Cell>,
    copies: usize,
    enough: usize,
    rng: fastrand::Rng,
}

impl Placer {
    /// `min_copies` is the fewest that the user accepts. Without it a chunk may have fewer than `copies` only if
    /// there are fewer living cells now, at the beginning: cells that are lost later make nothing less acceptable.
    pub(in crate::client) fn new(cells: Vec<KnownCell>, copies: u8, min_copies: Option<u8>, seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        let mut placer = Self { cells: Vec::new(), copies: copies.into(), enough: 0, rng };
        placer.found(cells);
        placer.enough = min_copies.map_or(placer.copies.min(placer.living()), usize::from).clamp(1, placer.copies);
        placer
    }

    /// Takes in the cells of another look at the colony: new ones are added, known ones get a new chance.
    pub(in crate::client) fn found(&mut self, cells: Vec<KnownCell>) {
        for known in cells {
            let standing = match known.status {
                Status::Active => Standing::Good,
                Status::Leaving => Standing::Down,
                other => Standing::Refusing(Rejection::Reported(other)),
            };
            let cell = Cell { known, standing, failures: 0 };
            // A cell that has moved is the same cell: it must not hold a chunk twice.
            let same = |other: &KnownCell| match (other.id, cell.known.id) {
                (Some(other), Some(id)) => other == id,
                _ => other.url == cell.known.url,
            };
            match self.cells.iter_mut().find(|other| same(&other.known)) {
                Some(other) => *other = cell,
                None => self.cells.push(cell),
            }
        }
    }

    pub(in crate::client) fn cell(&self, number: usize) -> Option<&KnownCell> {
        self.cells.get(number).map(|cell| &cell.known)
    }

    /// The number of the cell with this URL.
    pub(in crate::client) fn number_of(&self, url: &str) -> Option<usize> {
        self.cells.iter().position(|cell| cell.known.url == url)
    }

    /// The names of these cells, those that told them.
    pub(in crate::client) fn names(&self, numbers: &[usize]) -> Vec<CellId> {
        numbers.iter().filter_map(|&number| self.cell(number)?.id).collect()
    }

    /// Cells that answer.
    pub(in crate::client) fn living(&self) -> usize {
        self.cells.iter().filter(|cell| cell.standing != Standing::Down).count()
    }

    /// Cells that take chunks.
    pub(in crate::client) fn willing(&self) -> usize {
        self.cells.iter().filter(|cell| cell.standing == Standing::Good).count()
    }

    /// The fewest copies that are accepted.
    pub(in crate::client) fn enough(&self) -> usize {
        self.enough
    }

    /// Are these as many copies as are accepted, with no cell left that could have another?
    pub(in crate::client) fn suffice(&self, copies: usize) -> bool {
        copies >= self.copies || (copies >= self.enough && copies >= self.copies.min(self.willing()))
    }

    /// Decides what is next for a chunk, and notes the cells of [`Next::Send`] as under way.
    pub(in crate::client) fn next(&mut self, copies: &mut Copies) -> Next {
        let has = copies.done.len() + copies.pending.len();
        let chosen = if has < self.copies { self.choose(copies, self.copies - has) } else { Vec::new() };
        if !chosen.is_empty() {
            copies.pending.extend(&chosen);
            return Next::Send(chosen);
        }
        match copies.done.len() {
            _ if !copies.pending.is_empty() => Next::Wait,
            done if done >= self.copies => Next::Whole,
            // Not before another look at the cells that failed it.
            done if done >= self.enough && copies.failed.is_empty() => Next::Short,
            _ => Next::Stuck,
        }
    }

    fn choose(&mut self, copies: &Copies, wanted: usize) -> Vec<usize> {
        let (numbers, candidates): (Vec<usize>, Vec<Candidate>) = self
            .cells
            .iter()
            .enumerate()
            .filter(|(number, cell)| {
                let used = [&copies.done, &copies.pending, &copies.failed].iter().any(|list| list.contains(number));
                cell.standing == Standing::Good && !used
            })
            .map(|(number, cell)| (number, Candidate { role: cell.known.role, free_bytes: cell.known.free_bytes }))
            .unzip();
        order(&candidates, &mut self.rng)
            .into_iter()
            .take(wanted)
            .filter_map(|place| numbers.get(place).copied())
            .collect()
    }

    /// Notes that a copy is safe.
    pub(in crate::client) fn succeeded(&mut self, copies: &mut Copies, number: usize) {
        copies.pending.retain(|&pending| pending != number);
        copies.done.push(number);
        if let Some(cell) = self.cells.get_mut(number) {
            cell.failures = 0;
        }
    }

    /// Notes that a copy failed. True if the cell is given up on because of it.
    pub(in crate::client) fn failed(&mut self, copies: &mut Copies, number: usize, failure: Failure) -> bool {
        copies.pending.retain(|&pending| pending != number);
        copies.failed.push(number);
        let Some(cell) = self.cells.get_mut(number) else { return false };
        cell.failures += 1;
        let was_good = cell.standing == Standing::Good;
        match failure {
            // Other uploads to it, under way at the same time, would fail too: each would take its time to do so.
            Failure::Unreachable => cell.standing = Standing::Down,
            Failure::Slow if cell.failures >= MAX_FAILURES => cell.standing = Standing::Down,
            Failure::Refused(why) if cell.failures >= MAX_FAILURES => cell.standing = Standing::Refusing(why),
            Failure::Slow | Failure::Refused(_) => {}
        }
        was_good && cell.standing != Standing::Good
    }

    /// Gives the chunk a new chance at cells that failed it before.
    pub(in crate::client) fn forgive(copies: &mut Copies) {
        copies.failed.clear();
    }

    /// All looks have been taken: is what the chunk has enough?
    pub(in crate::client) fn settle(&self, copies: &Copies) -> bool {
        copies.pending.is_empty() && copies.done.len() >= self.enough
    }

    /// The cells, by whether they accept chunks.
    pub(in crate::client) fn availability(&self) -> CellAvailability {
        CellAvailability::count(self.cells.iter().map(|cell| match cell.standing {
            Standing::Good => None,
            Standing::Down => Some(Rejection::Unresponsive),
            Standing::Refusing(rejection) => Some(rejection),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::beacon::Role;

    fn cells(count: u8) -> Vec<KnownCell> {
        (0..count)
            .map(|n| KnownCell {
                url: format!("http://10.0.0.{n}:1"),
                id: Some(CellId::from_bytes([n; 16])),
                role: Role::Storage,
                status: Status::Active,
                free_bytes: Some(1 << 30),
            })
            .collect()
    }

    fn send(placer: &mut Placer, copies: &mut Copies) -> Vec<usize> {
        match placer.next(copies) {
            Next::Send(cells) => cells,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_chunk_goes_to_five_distinct_cells_and_is_whole_when_all_have_it() {
        let mut placer = Placer::new(cells(8), 5, None, 1);
        let mut copies = Copies::default();
        let mut chosen = send(&mut placer, &mut copies);
        assert_eq!(placer.next(&mut copies), Next::Wait);
        for &cell in &chosen {
            placer.succeeded(&mut copies, cell);
        }
        chosen.sort_unstable();
        chosen.dedup();
        assert_eq!(chosen.len(), 5);
        assert_eq!(placer.next(&mut copies), Next::Whole);
    }

    #[test]
    fn storage_cells_come_first_and_others_only_make_up_the_number() {
        let mut cells = cells(9);
        let roles = [Role::Stem, Role::Storage, Role::Guard];
        cells.iter_mut().zip(roles.into_iter().cycle()).for_each(|(cell, role)| cell.role = role);
        let mut placer = Placer::new(cells, 5, None, 1);
        for _ in 0..50 {
            let mut copies = Copies::default();
            let chosen = send(&mut placer, &mut copies);
            let storage = chosen.iter().filter(|&&number| number % 3 == 1).count();
            assert_eq!((chosen.len(), storage), (5, 3), "{chosen:?}");
            // One that fails is replaced by a storage cell only if there is one.
            placer.failed(&mut copies, chosen[0], Failure::Refused(Rejection::Refused(503)));
            placer.cells.iter_mut().for_each(|cell| cell.failures = 0);
            assert_ne!(send(&mut placer, &mut copies)[0] % 3, 1);
        }
    }

    #[test]
    fn a_failed_cell_is_replaced_by_one_that_was_not_tried() {
        let mut placer = Placer::new(cells(6), 5, None, 1);
        let mut copies = Copies::default();
        let chosen = send(&mut placer, &mut copies);
        assert!(placer.failed(&mut copies, chosen[0], Failure::Unreachable));
        let replacement = send(&mut placer, &mut copies);
        assert_eq!(replacement.len(), 1);
        assert!(!chosen.contains(&replacement[0]));
        // And the next chunk does not even try it.
        assert!(!send(&mut placer, &mut Copies::default()).contains(&chosen[0]));
    }

    #[test]
    fn with_fewer_living_cells_than_copies_all_of_them_are_enough() {
        let mut placer = Placer::new(cells(3), 5, None, 1);
        let mut copies = Copies::default();
        for cell in send(&mut placer, &mut copies) {
            placer.succeeded(&mut copies, cell);
        }
        assert_eq!((copies.done.len(), placer.next(&mut copies)), (3, Next::Short));
    }

    #[test]
    fn cells_that_live_but_refuse_do_not_make_fewer_copies_acceptable() {
        let mut placer = Placer::new(cells(5), 5, None, 1);
        let mut copies = Copies::default();
        let chosen = send(&mut placer, &mut copies);
        placer.failed(&mut copies, chosen[0], Failure::Refused(Rejection::Refused(507)));
        for &cell in &chosen[1..] {
            placer.succeeded(&mut copies, cell);
        }
        assert_eq!(placer.next(&mut copies), Next::Stuck);
        assert!(!placer.settle(&copies));
        Placer::forgive(&mut copies);
        assert_eq!(send(&mut placer, &mut copies), [chosen[0]], "a new chance");
    }

    #[test]
    fn fewer_copies_are_accepted_when_the_user_says_so_but_not_before_another_look() {
        let mut placer = Placer::new(cells(5), 5, Some(4), 1);
        let mut copies = Copies::default();
        let chosen = send(&mut placer, &mut copies);
        placer.failed(&mut copies, chosen[0], Failure::Unreachable);
        for &cell in &chosen[1..] {
            placer.succeeded(&mut copies, cell);
        }
        assert_eq!(placer.next(&mut copies), Next::Stuck);
        assert!(placer.settle(&copies), "in the end four are enough");
    }

    #[test]
    fn cells_lost_on_the_way_do_not_lower_what_is_enough() {
        let mut placer = Placer::new(cells(5), 5, None, 1);
        for lost in 0..4 {
            placer.failed(&mut Copies::default(), lost, Failure::Unreachable);
        }
        let mut copies = Copies::default();
        assert_eq!(send(&mut placer, &mut copies), [4]);
        placer.succeeded(&mut copies, 4);
        assert_eq!((placer.next(&mut copies), placer.settle(&copies)), (Next::Stuck, false));
    }

    #[test]
    fn a_slow_cell_is_not_given_up_on_at_once() {
        let mut placer = Placer::new(cells(1), 1, None, 1);
        assert!(!placer.failed(&mut Copies::default(), 0, Failure::Slow));
        assert!(!placer.failed(&mut Copies::default(), 0, Failure::Slow));
        assert!(placer.failed(&mut Copies::default(), 0, Failure::Slow));
    }

    #[test]
    fn a_cell_that_has_moved_is_the_same_cell() {
        let mut placer = Placer::new(cells(2), 2, None, 1);
        let mut moved = cells(1);
        moved[0].url = "http://10.9.9.9:9".into();
        placer.found(moved);
        assert_eq!((placer.living(), placer.number_of("http://10.9.9.9:9")), (2, Some(0)));
    }

    #[test]
    fn a_cell_that_keeps_refusing_is_given_up_on_and_named_in_the_complaint() {
        let mut cells = cells(4);
        cells[3].status = Status::Full;
        let mut placer = Placer::new(cells, 5, None, 1);
        assert_eq!((placer.living(), placer.willing()), (4, 3));
        let why = || Failure::Refused(Rejection::Refused(507));
        assert!(!placer.failed(&mut Copies::default(), 0, why()));
        assert!(!placer.failed(&mut Copies::default(), 0, why()));
        assert!(placer.failed(&mut Copies::default(), 0, why()));
        assert!(placer.failed(&mut Copies::default(), 1, Failure::Unreachable));
        assert_eq!(
            placer.availability().rejections,
            [(Rejection::Refused(507), 1), (Rejection::Unresponsive, 1), (Rejection::Reported(Status::Full), 1)]
        );
    }

    #[test]
    fn a_cell_that_is_found_again_gets_a_new_chance() {
        let mut placer = Placer::new(cells(1), 1, None, 1);
        let mut copies = Copies::default();
        send(&mut placer, &mut copies);
        placer.failed(&mut copies, 0, Failure::Unreachable);
        assert_eq!(placer.next(&mut copies), Next::Stuck);
        placer.found(cells(1));
        Placer::forgive(&mut copies);
        assert_eq!(send(&mut placer, &mut copies), [0]);
    }
}
