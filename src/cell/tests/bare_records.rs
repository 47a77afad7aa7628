//! Bare records: whom a cell asks how many copies its chunks need, what it believes, and what it does meanwhile.

use std::collections::BTreeSet;

use super::colony::{LEN, TestColony, chunk_with_rank};
use super::*;
use crate::wire::shared_chunks::{MAX_SHARED_CHUNKS, SharedChunk, SharedQuery};

const MINUTE: u64 = 60;

impl TestColony {
    /// A copy is in the store whose record is bare.
    fn bare(&mut self, chunk: ChunkId, holders: &[u8]) {
        let holders = holders.iter().map(|cell| id(*cell)).collect();
        self.input(CopyInput::Present(vec![LocalCopy { id: chunk, len: LEN, copies: 5, bare: true, holders }]));
    }

    /// The questions that wait for an answer, with the cells that are asked.
    fn questions(&self) -> Vec<(TaskId, u8, SharedQuery)> {
        let question = |output: &Output| match output {
            Output::Task(Task::QueryShared { task_id, to, query }) => Some((*task_id, cell_at(*to), *query)),
            _ => None,
        };
        self.out.iter().filter_map(question).collect()
    }

    fn tell(&mut self, task_id: TaskId, outcome: SharedOutcome) {
        self.out.retain(
            |output| !matches!(output, Output::Task(Task::QueryShared { task_id: other, .. }) if *other == task_id),
        );
        self.input(CopyInput::SharedDone { task_id, outcome });
    }

    /// Answers all questions, also those that follow.
    fn tell_all(&mut self, answer: impl Fn(u8, SharedQuery) -> SharedOutcome) -> BTreeSet<u8> {
        let mut asked = BTreeSet::new();
        while let Some((task_id, cell, query)) = self.questions().first().copied() {
            asked.insert(cell);
            self.tell(task_id, answer(cell, query));
        }
        asked
    }

    /// The numbers of copies that were recorded.
    fn recorded(&self) -> Vec<(ChunkId, u8)> {
        let copies = |output: &Output| match output {
            Output::Persist(Persist::Copies { chunk, copies }) => Some((*chunk, *copies)),
            _ => None,
        };
        self.out.iter().filter_map(copies).collect()
    }

    /// What this cell answers about the chunks that it shares with another one.
    fn shared_with(&self, cell: u8, chunk: ChunkId) -> Vec<SharedChunk> {
        let prefix = chunk.to_string()[..2].parse().unwrap();
        self.cell.cell.shared(&SharedQuery { node: id(cell), prefix, after: None }).unwrap()
    }

    /// A second passes. These cells have all chunks that they are asked for, and all copies that are sent are stored.
    /// Returns their targets.
    fn live_told(&mut self, holders: &[u8], answer: impl Fn(u8, SharedQuery) -> SharedOutcome) -> Vec<u8> {
        self.pass(1);
        self.tell_all(answer);
        self.answer_all(holders);
        let mut targets = Vec::new();
        while let Some((task_id, cell, _)) = self.sends().first().copied() {
            targets.push(cell);
            self.send_done(task_id, SendOutcome::Stored);
        }
        self.out.retain(|output| matches!(output, Output::Task(Task::QueryShared { .. })));
        targets
    }

    /// Lets time pass in which nobody can tell any number. Returns how many copies were sent.
    fn live_untold(&mut self, seconds: u64, holders: &mut Vec<u8>) -> usize {
        let before = holders.len();
        for _ in 0..seconds {
            let targets = self.live_told(&holders.clone(), |_, _| SharedOutcome::CannotTell);
            holders.extend(targets);
        }
        holders.len() - before
    }
}

fn line(chunk: ChunkId, copies: Option<u8>) -> SharedOutcome {
    SharedOutcome::Answered(vec![SharedChunk { id: chunk, copies }])
}

/// One liar states a number that is too small, and nobody loses a copy by that.
#[test]
fn of_several_numbers_the_largest_counts() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6, 7]);
    colony.bare(chunk(1), &[]);
    colony.pass(15);
    assert_eq!(colony.questions().len(), 4, "at most four at a time");
    let asked = colony.tell_all(|cell, _| match cell {
        2 => line(chunk(1), Some(1)),
        3 => line(chunk(1), Some(3)),
        4 => line(chunk(1), None),
        5 => SharedOutcome::CannotTell,
        6 => SharedOutcome::Unanswered,
        _ => SharedOutcome::Answered(Vec::new()),
    });
    assert_eq!(asked, BTreeSet::from([2, 3, 4, 5, 6, 7]));
    assert_eq!(colony.recorded(), [(chunk(1), 3)]);
    // The answers tell as well who holds it.
    let known = [SharedChunk { id: chunk(1), copies: Some(3) }];
    assert_eq!([2, 3, 4, 5].map(|cell| colony.shared_with(cell, chunk(1)) == known), [true, true, true, false]);
    colony.out.clear();
    colony.pass(600);
    assert!(colony.sends().is_empty() && colony.questions().is_empty(), "three others and this one are four");
}

#[test]
fn a_number_is_taken_only_for_a_bare_record() {
    let mut colony = TestColony::new(&[2, 3, 4]);
    let with_byte = |n: &u32| chunk(*n).shard() == chunk(1).shard();
    let other = chunk((2..u32::MAX).find(with_byte).unwrap());
    colony.bare(chunk(1), &[2]);
    colony.put_copies(other, 2, &[1, 2]);
    colony.pass(15);
    let mut chunks = [chunk(1), other].map(|id| SharedChunk { id, copies: Some(255) });
    chunks.sort_unstable_by_key(|chunk| chunk.id);
    colony.tell_all(|_, _| SharedOutcome::Answered(chunks.to_vec()));
    assert_eq!(colony.recorded(), [(chunk(1), 255)]);
    let copies = |id| colony.shared_with(2, id).iter().find(|chunk| chunk.id == id).unwrap().copies;
    assert_eq!((copies(chunk(1)), copies(other)), (Some(32), Some(2)), "a liar can ask for 32 copies, and no more");
}

/// A guess that was passed on would become knowledge.
#[test]
fn a_guess_is_told_and_sent_as_a_guess() {
    let mut colony = TestColony::new(&[2, 3, 4]);
    colony.pass(120);
    let chunk = chunk_with_rank(0, &[2]);
    colony.bare(chunk, &[]);
    assert_eq!(colony.shared_with(2, chunk), [], "the other cell is not known as a holder");
    colony.out.clear();
    colony.pass(40);
    colony.answer_all(&[]);
    let send = colony.out.iter().find_map(|output| match output {
        Output::Task(Task::Send { task_id, to, copies, bare, .. }) => Some((*task_id, cell_at(*to), *copies, *bare)),
        _ => None,
    });
    let Some((task_id, target, 5, true)) = send else { panic!("{send:?}") };
    colony.send_done(task_id, SendOutcome::Stored);
    assert!(colony.sends().is_empty(), "two copies suffice for now");
    assert_eq!(colony.shared_with(target, chunk), [SharedChunk { id: chunk, copies: None }]);
}

#[test]
fn a_bare_chunk_is_healed_to_two_copies_and_after_15_min_to_five() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6]);
    let chunk = chunk_with_rank(0, &[2, 3, 4, 5, 6]);
    colony.bare(chunk, &[2]);
    let mut holders = vec![2];
    assert_eq!(colony.live_untold(300, &mut holders), 0);
    colony.kill(&[2]);
    holders.clear();
    assert_eq!(colony.live_untold(200, &mut holders), 1, "one copy is too few");
    assert_eq!(colony.live_untold(15 * MINUTE - 600, &mut holders), 0);
    assert_eq!(colony.live_untold(600, &mut holders), 3, "the default is five");
}

#[test]
fn a_number_that_is_told_late_ends_a_guess() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6]);
    let chunk = chunk(1);
    colony.bare(chunk, &[2, 3, 4, 5]);
    colony.live_untold(20 * MINUTE, &mut vec![2, 3, 4, 5]);
    assert_eq!(colony.shared_with(2, chunk), [SharedChunk { id: chunk, copies: None }]);
    for _ in 0..20 * MINUTE {
        colony.live_told(&[2, 3, 4, 5], |_, _| line(chunk, Some(4)));
    }
    assert_eq!(colony.shared_with(2, chunk), [SharedChunk { id: chunk, copies: Some(4) }]);
}

#[test]
fn a_put_that_states_the_copies_ends_the_questions() {
    let mut colony = TestColony::new(&[2, 3, 4]);
    colony.bare(chunk(1), &[2]);
    colony.input(CopyInput::CopiesStated { chunk: chunk(1), copies: 2 });
    colony.input(CopyInput::CopiesStated { chunk: chunk(1), copies: 9 });
    colony.pass(600);
    assert_eq!(colony.questions(), []);
    assert_eq!(colony.shared_with(2, chunk(1)), [SharedChunk { id: chunk(1), copies: Some(2) }]);
    // A later report from the index, which may lag behind, does not undo it.
    colony.bare(chunk(1), &[2]);
    assert_eq!(colony.shared_with(2, chunk(1)), [SharedChunk { id: chunk(1), copies: Some(2) }]);
}

/// Method: a full disk, and more copies than the default on cells that rank before this one.
#[test]
fn no_copy_is_extra_on_a_guess_or_removed_from_a_read_only_disk() {
    let others = [2, 3, 4, 5, 6, 7];
    let removes = |out: &[Output]| out.iter().any(|output| matches!(output, Output::Task(Task::Remove(_))));
    let chunk = chunk_with_rank(6, &others);
    let mut colony = TestColony::new(&others);
    colony.cell.store.full = true;
    colony.bare(chunk, &others);
    let search = |colony: &mut TestColony| {
        for _ in 0..20 * MINUTE {
            colony.pass(1);
            colony.tell_all(|_, _| line(chunk, None));
            colony.answer_all(&others);
            colony.end_audits(&[]);
        }
        removes(&colony.out)
    };
    assert!(!search(&mut colony));
    colony.cell.store.read_only = true;
    colony.input(CopyInput::CopiesStated { chunk, copies: 5 });
    assert!(!search(&mut colony));
    colony.cell.store.read_only = false;
    assert!(search(&mut colony));
}

#[test]
fn a_draining_cell_is_not_safe_while_it_asks() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6]);
    colony.bare(chunk(1), &[2, 3]);
    colony.input(CopyInput::Drain(true));
    let mut holders = vec![2, 3];
    assert_eq!(colony.live_untold(14 * MINUTE, &mut holders), 0);
    assert!(!colony.drain().safe, "it can be a chunk of five");
    assert_eq!(colony.live_untold(10 * MINUTE, &mut holders), 3);
    assert!(colony.drain().safe);
}

#[test]
fn long_answers_are_asked_for_in_pages() {
    let mut colony = TestColony::new(&[2]);
    colony.bare(chunk(1), &[2]);
    colony.pass(15);
    let [(task_id, 2, query)] = colony.questions()[..] else { panic!("{:?}", colony.questions()) };
    assert_eq!((query.node, query.prefix.to_string(), query.after), (id(1), chunk(1).to_string()[..2].into(), None));
    let mut page = vec![SharedChunk { id: chunk(1), copies: Some(2) }; MAX_SHARED_CHUNKS];
    page[MAX_SHARED_CHUNKS - 1].id = chunk(7);
    colony.tell(task_id, SharedOutcome::Answered(page));
    colony.pass(1);
    let [(task_id, 2, next)] = colony.questions()[..] else { panic!("{:?}", colony.questions()) };
    assert_eq!(next, SharedQuery { after: Some(chunk(7)), ..query });
    assert_eq!(colony.recorded(), []);
    colony.tell(task_id, line(chunk(1), Some(3)));
    assert_eq!(colony.recorded(), [(chunk(1), 3)]);
}

/// Where nobody knows the number, the questions must become rare.
#[test]
fn cells_that_could_not_tell_are_asked_rarely() {
    let mut colony = TestColony::new(&[2, 3]);
    (0..20).for_each(|n| colony.bare(chunk(n), &[2, 3]));
    let count = std::cell::Cell::new(0);
    for _ in 0..24 * 60 * MINUTE / 10 {
        colony.pass(10);
        colony.answer_all(&[2, 3]);
        colony.tell_all(|cell, _| {
            count.set(count.get() + 1);
            if cell == 2 { SharedOutcome::Answered(Vec::new()) } else { SharedOutcome::CannotTell }
        });
        colony.out.clear();
    }
    let count = count.get();
    assert!((20..=300).contains(&count), "{count}");
}
