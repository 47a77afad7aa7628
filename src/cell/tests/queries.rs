//! Holder queries and hints.

use std::collections::BTreeSet;

use super::colony::{TestColony, chunk_with_rank};
use super::*;
use crate::wire::holder_hints::HolderHint;

fn hint(chunk: ChunkId, holder: u8) -> CopyInput {
    CopyInput::Hints(vec![HolderHint { id: chunk, holders: vec![id(holder)] }])
}

#[test]
fn every_holder_is_queried_within_the_period_and_a_lost_copy_found() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6]);
    colony.put(chunk_with_rank(0, &[2, 3, 4]), &[1, 2, 3, 4, 5]);
    colony.pass(2 * 660);
    assert_eq!(BTreeSet::from_iter(colony.queried()), BTreeSet::from([2, 3, 4, 5]));
    colony.answer_all(&[2, 3, 4]);
    colony.pass(125);
    colony.answer_all(&[2, 3, 4]);
    assert_eq!(colony.sends().len(), 1);
}

#[test]
fn a_hint_is_checked_by_a_query_before_it_is_believed() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6, 7]);
    let chunk = chunk_with_rank(0, &[2, 3, 4]);
    colony.put(chunk, &[1, 2, 3, 4, 5]);
    colony.kill(&[5]);
    colony.pass(1);
    colony.out.clear();
    colony.input(hint(chunk, 6));
    assert_eq!(colony.queried(), [6]);
    colony.answer_all(&[]);
    assert_eq!(colony.activity().short, 1, "the hint was wrong");
    colony.input(hint(chunk, 6));
    colony.answer_all(&[6]);
    assert_eq!(colony.activity().short, 0);
}

#[test]
fn many_hints_about_one_cell_cause_one_query() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6]);
    colony.put(chunk(1), &[1, 2, 3, 4, 5]);
    colony.out.clear();
    for _ in 0..100 {
        colony.input(hint(chunk(1), 6));
    }
    assert_eq!(colony.queries().len(), 1);
}

#[test]
fn a_cell_that_comes_and_goes_is_queried_once_per_minute() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6]);
    (0..100).for_each(|n| colony.put(chunk(n), &[1, 2, 3, 4, 5]));
    colony.out.clear();
    for _ in 0..120 {
        colony.beacon(2, Status::Leaving);
        colony.pass(1);
    }
    let count = colony.queries().iter().filter(|(_, cell, _)| *cell == 2).count();
    assert!((1..=4).contains(&count), "{count}");
}

/// Goal: a cell that is slow counts, and so does one that this cell was too busy to ask. Method: one cell answers no query
/// for fifty minutes, and another is not asked for three hours.
#[test]
fn copies_of_slow_cells_count() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6, 7]);
    colony.put(chunk_with_rank(0, &[2, 3]), &[1, 2, 3, 4, 5]);
    for second in 0..3 * 3600 {
        colony.pass(1);
        for (task_id, cell, chunks) in colony.queries() {
            let outcome = match cell {
                4 if second % 3600 < 3000 => QueryOutcome::Unanswered,
                5 => QueryOutcome::NotAsked,
                6 | 7 => QueryOutcome::Answered(Vec::new()),
                _ => QueryOutcome::Answered(chunks),
            };
            colony.input(CopyInput::QueryDone { task_id, outcome });
            colony.drop_queries(|other| other == task_id);
        }
        assert!(colony.sends().is_empty(), "after {second} s");
    }
}

/// They send beacons and answer no query: their SD cards hang.
#[test]
fn copies_of_unresponsive_cells_do_not_count() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6, 7]);
    colony.put(chunk_with_rank(0, &[2, 3]), &[1, 2, 3, 4, 5]);
    let mut targets = BTreeSet::new();
    for _ in 0..3 * 3600 {
        colony.pass(1);
        for (task_id, cell, chunks) in colony.queries() {
            let has = match cell {
                4 | 5 => None,
                6 | 7 if !targets.contains(&cell) => Some(Vec::new()),
                _ => Some(chunks),
            };
            colony.answer(task_id, has);
        }
        for (task_id, cell, _) in colony.sends() {
            targets.insert(cell);
            colony.send_done(task_id, SendOutcome::Stored);
        }
        colony.out.clear();
    }
    assert_eq!(targets, BTreeSet::from([6, 7]));
}

/// Once forty holders were recorded there was no room for others, and copies were made without end.
#[test]
fn holders_that_left_long_ago_make_room_for_present_ones() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6, 7, 8, 9]);
    let gone: Vec<u8> = (100..140).collect();
    colony.put(chunk_with_rank(0, &[2, 3, 4, 5]), &gone);
    let mut holders = vec![2, 3, 4, 5];
    let mut sent = 0;
    for _ in 0..7200 {
        let targets = colony.live(&holders.clone());
        sent += targets.len();
        holders.extend(targets);
    }
    assert_eq!((sent, colony.activity().short), (0, 0));
}
