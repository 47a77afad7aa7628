//! Healing: when it starts, which cells are queried, and where copies are sent.

use std::collections::BTreeSet;

use super::colony::{TestColony, chunk_with_rank};
use super::*;

#[test]
fn the_first_in_rank_replaces_a_dead_holder_of_five_after_120_s() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6, 7]);
    let chunk = chunk_with_rank(0, &[2, 3, 4]);
    colony.put(chunk, &[1, 2, 3, 4, 5]);
    colony.pass(60);
    assert!(colony.is_quiet());
    colony.kill(&[5]);
    colony.pass(119);
    assert!(colony.is_quiet(), "a board may be rebooting: {:?}", colony.queries());
    // A death is noticed, and a round started, at the next wake-up, at most a second later.
    colony.pass(3);
    assert_eq!(colony.queried(), [2, 3, 4, 6, 7], "all living cells are queried before a byte is sent");
    assert!(colony.sends().is_empty());
    colony.answer_all(&[2, 3, 4]);
    let [(task_id, target, sent)] = colony.sends()[..] else { panic!("{:?}", colony.out) };
    assert!(sent == chunk && [6, 7].contains(&target));
    colony.out.clear();
    colony.send_done(task_id, SendOutcome::Stored);
    let hinted = colony.out.iter().filter_map(|output| match output {
        Output::Task(Task::SendHints { to, .. }) => Some(cell_at(*to)),
        _ => None,
    });
    assert_eq!(hinted.collect::<Vec<_>>(), [2, 3, 4]);
    let is_record = |output: &_| matches!(output, Output::Persist(Persist::Holders { chunk: id, .. }) if *id == chunk);
    assert!(colony.out.iter().any(is_record));
    assert_eq!((colony.activity().healed_copies, colony.activity().short), (1, 0));
    colony.out.clear();
    colony.pass(300);
    assert!(colony.sends().is_empty());
}

#[test]
fn fewer_copies_left_heal_sooner_and_lower_ranks_later() {
    let step_s = Settings::default().heal_step_ms / 1000;
    for (dead, rank, after_s) in
        [(&[5][..], 1, 120 + step_s), (&[4, 5], 0, 30), (&[3, 4, 5], 0, 10), (&[3, 4, 5], 1, 10 + step_s)]
    {
        let mut colony = TestColony::new(&[2, 3, 4, 5, 6, 7]);
        let left: Vec<u8> = [2, 3, 4, 5].into_iter().filter(|cell| !dead.contains(cell)).collect();
        colony.put(chunk_with_rank(rank, &left), &[1, 2, 3, 4, 5]);
        colony.kill(dead);
        colony.out.clear();
        colony.pass(after_s - 2);
        assert!(colony.is_quiet(), "{dead:?} {rank}");
        colony.pass(4);
        assert_eq!(colony.queries().len(), left.len() + 2, "{dead:?} {rank}");
    }
}

#[test]
fn the_last_copy_is_sent_at_once_to_as_many_cells_as_are_missing() {
    let mut colony = TestColony::new(&[2, 3, 6, 7, 8]);
    colony.put(chunk_with_rank(0, &[]), &[1, 2, 3]);
    colony.pass(60);
    colony.out.clear();
    colony.kill(&[2, 3]);
    colony.pass(2);
    colony.answer_all(&[]);
    assert_eq!(BTreeSet::from_iter(colony.targets()), BTreeSet::from([6, 7, 8]));
    assert_eq!(colony.targets().len(), 3);
}

#[test]
fn a_reboot_moves_no_byte() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6, 7]);
    colony.put(chunk_with_rank(0, &[2, 3, 4]), &[1, 2, 3, 4, 5]);
    colony.kill(&[5]);
    colony.pass(30);
    colony.alive.insert(5);
    colony.pass(500);
    // It is queried about its copies, and that is all.
    colony.answer_all(&[2, 3, 4, 5]);
    assert!(colony.sends().is_empty());
}

/// Goal: a board that reboots moves no byte, at any number of copies. Method: it dies, or announces that it leaves, and
/// returns just before the longest delay has passed.
#[test]
fn a_reboot_of_two_minutes_moves_no_byte_at_any_number_of_copies() {
    for copies in 2..=8 {
        for leaves in [false, true] {
            let others: Vec<u8> = (2..=copies).collect();
            let mut colony = TestColony::new(&[2, 3, 4, 5, 6, 7, 8, 9]);
            colony.put_copies(chunk_with_rank(0, &others), copies, &[&[1], &others[..]].concat());
            colony.pass(60);
            if leaves {
                colony.alive.remove(&2);
                colony.beacon(2, Status::Leaving);
                colony.pass(5);
                assert_eq!(colony.activity().short, 1, "{copies}");
            } else {
                colony.kill(&[2]);
            }
            colony.out.clear();
            colony.pass(114);
            assert!(colony.is_quiet(), "{copies} {leaves}: {:?}", colony.queries());
            colony.alive.insert(2);
            colony.pass(200);
            colony.answer_all(&others);
            assert!(colony.sends().is_empty(), "{copies} {leaves}");
            assert_eq!(colony.activity().short, 0);
        }
    }
}

#[test]
fn a_holder_that_does_not_return_within_the_delay_is_replaced() {
    for copies in 2..=5 {
        let others: Vec<u8> = (2..=copies).collect();
        let mut colony = TestColony::new(&[2, 3, 4, 5, 6, 7, 8, 9]);
        colony.put_copies(chunk_with_rank(0, &others), copies, &[&[1], &others[..]].concat());
        colony.pass(60);
        colony.kill(&[2]);
        colony.out.clear();
        colony.pass(122);
        colony.answer_all(&others[1..]);
        assert_eq!(colony.sends().len(), 1, "{copies}");
    }
}

/// Goal: what is certainly lost does not wait for a reboot. Method: a holder of three is silent, and another reports that
/// it has no copy.
#[test]
fn a_bad_copy_does_not_wait_for_a_silent_holder() {
    let settings = Settings { belief_audit_ms: 5_000, ..Settings::default() };
    let mut colony = TestColony::with_settings(&[2, 3, 6, 7, 8], settings);
    colony.put_copies(chunk_with_rank(0, &[2, 3]), 3, &[1, 2, 3]);
    colony.pass(60);
    colony.answer_all(&[2, 3]);
    colony.kill(&[3]);
    for _ in 0..20 {
        colony.answer_all(&[]);
        colony.pass(1);
    }
    assert_eq!(colony.targets().len(), 2, "one copy is left");
}

#[test]
fn unknown_copies_are_found_before_new_ones_are_made() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6, 7]);
    colony.put(chunk_with_rank(0, &[2, 3, 4]), &[1, 2, 3, 4, 5]);
    colony.kill(&[5]);
    colony.pass(125);
    colony.answer_all(&[2, 3, 4, 7]);
    colony.pass(300);
    assert!(colony.sends().is_empty());
    assert_eq!(colony.activity().short, 0);
}

#[test]
fn a_target_that_refuses_or_fails_is_replaced_by_the_next() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6, 7, 8]);
    colony.put(chunk_with_rank(0, &[2, 3, 4]), &[1, 2, 3, 4, 5]);
    colony.kill(&[5]);
    colony.pass(125);
    colony.answer_all(&[2, 3, 4]);
    let mut tried = BTreeSet::new();
    for outcome in [SendOutcome::Refused, SendOutcome::Failed, SendOutcome::Stored] {
        let [(task_id, cell, _)] = colony.sends()[..] else { panic!("{:?}", colony.sends()) };
        tried.insert(cell);
        colony.out.clear();
        colony.send_done(task_id, outcome);
    }
    assert_eq!(tried, BTreeSet::from([6, 7, 8]));
    assert!(colony.sends().is_empty());
}

#[test]
fn with_too_few_cells_nothing_is_queried_until_another_comes() {
    let mut colony = TestColony::new(&[2, 3]);
    colony.put(chunk_with_rank(0, &[2, 3]), &[1, 2, 3]);
    colony.pass(500);
    colony.answer_all(&[2, 3]);
    colony.out.clear();
    colony.pass(60);
    assert!(colony.is_quiet(), "{:?}", colony.queries());
    assert_eq!((colony.activity().short, colony.activity().stuck), (1, 1));
    colony.alive.insert(4);
    colony.pass(3);
    colony.answer_all(&[2, 3]);
    assert_eq!(colony.targets(), [4]);
}

#[test]
fn holders_that_have_not_started_yet_count_for_a_while() {
    let mut colony = TestColony::new(&[]);
    colony.put(chunk_with_rank(0, &[2]), &[1, 2, 3, 4, 5]);
    colony.alive = BTreeSet::from([2, 6, 7, 8]);
    colony.pass(80);
    colony.answer_all(&[2]);
    assert!(colony.sends().is_empty(), "the others are still booting");
    for _ in 0..120 {
        colony.pass(1);
        colony.answer_all(&[2]);
    }
    assert!(!colony.sends().is_empty(), "they have not come");
}

/// When the cable was plugged in again, the cell sent all its chunks to the first cell whose beacon arrived.
#[test]
fn a_cell_that_was_cut_off_waits_for_the_others_before_it_heals() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6, 7]);
    colony.put(chunk_with_rank(0, &[2, 3, 4]), &[1, 2, 3, 4, 5]);
    colony.kill(&[2, 3, 4, 5, 6, 7]);
    colony.pass(300);
    assert_eq!((colony.activity().stuck, colony.is_quiet()), (1, true));
    colony.alive.insert(7);
    colony.pass(2);
    assert!(colony.is_quiet(), "{:?}", colony.queries());
    colony.alive.extend([2, 3, 4, 5, 6]);
    colony.pass(60);
    colony.answer_all(&[2, 3, 4, 5]);
    assert!(colony.sends().is_empty());
    assert_eq!(colony.activity().short, 0);
}

/// A switch was off for a minute, and the holders returned some seconds after another cell, to which all chunks were
/// sent.
#[test]
fn a_network_that_returns_step_by_step_moves_no_byte() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6]);
    (0..40).for_each(|n| colony.put(chunk(n), &[1, 2, 3, 4, 5]));
    colony.pass(200);
    colony.kill(&[2, 3, 4, 5, 6]);
    colony.pass(60);
    colony.out.clear();
    for back in [6, 2, 3, 4, 5] {
        colony.alive.insert(back);
        for _ in 0..4 {
            assert!(colony.live(&[2, 3, 4, 5]).is_empty());
        }
    }
    for _ in 0..200 {
        assert!(colony.live(&[2, 3, 4, 5]).is_empty());
    }
}

/// The plan was carried out although the holders had returned meanwhile.
#[test]
fn a_round_ends_when_the_holders_return() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6, 7, 8]);
    (0..32).for_each(|n| colony.put(chunk(n), &[1, 2, 3, 4, 5]));
    colony.kill(&[3, 4, 5]);
    while colony.queries().is_empty() {
        colony.pass(1);
    }
    colony.answer_all(&[2]);
    let under_way = colony.sends();
    assert!(!under_way.is_empty());
    colony.out.clear();
    colony.alive.extend([3, 4, 5]);
    colony.pass(2);
    for (task_id, ..) in under_way {
        colony.send_done(task_id, SendOutcome::Stored);
    }
    assert_eq!(colony.sends(), []);
}

/// The outcome of a send never came: the round was abandoned, and its chunks were not healed.
#[test]
fn the_chunks_of_an_abandoned_round_are_healed_by_another() {
    let mut colony = TestColony::new(&[2, 3, 4, 6]);
    colony.put(chunk_with_rank(0, &[2, 3, 4]), &[1, 2, 3, 4, 5]);
    while colony.sends().is_empty() {
        colony.pass(1);
        colony.answer_all(&[2, 3, 4]);
    }
    colony.out.clear();
    let targets: Vec<u8> = (0..1200).flat_map(|_| colony.live(&[2, 3, 4])).collect();
    assert_eq!(targets, [6]);
}

/// A shortage for which no cell could store a copy was not tried again when one more copy was lost.
#[test]
fn a_stuck_chunk_is_healed_when_a_holder_has_lost_its_copy() {
    let mut colony = TestColony::new(&[2, 3]);
    colony.put(chunk_with_rank(0, &[2, 3]), &[1, 2, 3]);
    let targets: Vec<u8> = (0..1300).flat_map(|_| colony.live(&[2])).collect();
    assert_eq!(targets.first(), Some(&3));
}

/// The only possible target had lost a copy, and was tried again only when the colony changed.
#[test]
fn a_stuck_chunk_is_tried_again_though_nothing_changes() {
    let mut colony = TestColony::new(&[2, 3, 4, 6]);
    colony.put(chunk_with_rank(0, &[2, 3, 4]), &[1, 2, 3, 4, 5]);
    let mut sent = Vec::new();
    for second in 0..3 * 3600 {
        // Cell 6 loses the first copy and keeps the second.
        let holders: &[u8] = if sent.len() < 2 { &[2, 3, 4] } else { &[2, 3, 4, 6] };
        sent.extend(colony.live(holders).into_iter().map(|cell| (cell, second)));
    }
    let [(6, first), (6, second)] = sent[..] else { panic!("{sent:?}") };
    assert!(second - first >= 3600, "not before its pause has ended: {sent:?}");
}

/// One cell was sent the same chunk again and again, and other cells with free space were sent nothing.
#[test]
fn a_cell_that_loses_copies_is_sent_fewer_and_fewer() {
    let mut colony = TestColony::new(&[2, 3, 4, 6, 7, 8]);
    colony.put(chunk_with_rank(0, &[2, 3, 4]), &[1, 2, 3, 4, 5]);
    let targets: Vec<u8> = (0..4 * 3600).flat_map(|_| colony.live(&[2, 3, 4])).collect();
    assert!((3..=9).contains(&targets.len()), "{targets:?}");
    assert_eq!(BTreeSet::from_iter(&targets).len(), 3, "{targets:?}");
}

#[test]
fn a_last_copy_does_not_wait_for_an_earlier_backoff() {
    let mut colony = TestColony::new(&[2, 3, 4, 6, 7]);
    colony.put(chunk_with_rank(0, &[2, 3, 4]), &[1, 2, 3, 4, 5]);
    for _ in 0..3600 {
        colony.pass(1);
        colony.answer_all(&[2, 3, 4]);
        while let Some((task_id, ..)) = colony.sends().first().copied() {
            colony.out.clear();
            colony.send_done(task_id, SendOutcome::Failed);
        }
        colony.out.clear();
    }
    colony.kill(&[2, 3, 4]);
    let is_queried = (0..5).any(|_| {
        colony.pass(1);
        !colony.queries().is_empty()
    });
    assert!(is_queried);
}
