//! Alerts, audits by guards, isolation, scrub, extra copies.

use std::collections::BTreeSet;

use super::colony::{LEN, TestColony, chunk_with_rank};
use super::*;
use crate::wire::datagram::Alert;

#[test]
fn a_bad_local_copy_is_fetched_again_from_another_holder() {
    let mut colony = TestColony::new(&[2, 3, 4, 5]);
    let chunk = chunk_with_rank(0, &[2]);
    colony.put(chunk, &[1, 2, 3, 4, 5]);
    colony.alert(id(1), chunk);
    assert_eq!(colony.out, [Output::Task(Task::Verify(chunk))], "an alert is checked");
    colony.out.clear();
    colony.input(CopyInput::VerifyDone { chunk, outcome: VerifyOutcome::Bad });
    let (task_id, first) = colony.fetch().unwrap();
    assert!([2, 3, 4, 5].contains(&first));
    colony.out.clear();
    colony.input(CopyInput::FetchDone { task_id, outcome: FetchOutcome::Missing });
    let (task_id, second) = colony.fetch().unwrap();
    assert_ne!(first, second, "the next holder is asked");
    colony.input(CopyInput::FetchDone { task_id, outcome: FetchOutcome::Stored });
    assert!(colony.events().contains(&&Event::Refetched(chunk)));
    let activity = colony.activity();
    assert_eq!((activity.bad_copies, activity.refetched_copies, activity.short), (1, 1, 0));
}

#[test]
fn forged_alerts_change_only_counters() {
    let mut colony = TestColony::new(&[2, 3, 4, 5]);
    (0..100).for_each(|n| colony.put(chunk(n), &[1, 2, 3, 4, 5]));
    colony.out.clear();
    for n in 0..100 {
        colony.alert(id(2), chunk(n));
        colony.alert(id(1), chunk(n));
    }
    for _ in 0..300 {
        for output in std::mem::take(&mut colony.out) {
            match output {
                Output::Task(Task::Audit { task_id, target: AuditTarget::Chunk(chunk), .. }) => {
                    colony.audit_done(task_id, AuditOutcome::Good { chunk, len: LEN });
                }
                Output::Task(Task::Verify(chunk)) => {
                    colony.input(CopyInput::VerifyDone { chunk, outcome: VerifyOutcome::Good });
                }
                Output::Task(Task::QueryHave { task_id, chunks, .. }) => colony.answer(task_id, Some(chunks)),
                Output::Udp(Udp::Broadcast(_)) | Output::WakeAt(_) | Output::Event(Event::FalseAlert { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        colony.pass(1);
    }
    let activity = colony.activity();
    assert_eq!((activity.alerts, activity.alerts_false), (200, 200));
    assert_eq!((activity.short, activity.bad_copies, activity.isolated.len()), (0, 0, 0));
}

/// Alerts about cells that do not exist filled the table, and true ones were ignored.
#[test]
fn forged_alerts_do_not_suppress_true_ones() {
    let mut colony = TestColony::new(&[2, 3, 4, 5]);
    colony.put(chunk(1), &[1, 2, 3, 4, 5]);
    for n in 0..5000_u32 {
        let mut unknown = [9; 16];
        unknown[..4].copy_from_slice(&n.to_le_bytes());
        colony.alert(CellId::from_bytes(unknown), chunk(1));
    }
    colony.out.clear();
    colony.alert(id(1), chunk(1));
    colony.alert(id(2), chunk(1));
    let [Output::Task(Task::Verify(_)), Output::Task(Task::Audit { .. })] = &colony.out[..] else {
        panic!("{:?}", colony.out)
    };
}

/// A cell must not be isolated for a chunk that it never had, however often alerts name it.
#[test]
fn alerts_about_a_chunk_that_a_cell_never_had_are_no_strikes() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6]);
    (0..5).for_each(|n| colony.put(chunk(n), &[1, 2, 3, 4, 5]));
    for _ in 0..10 {
        (0..5).for_each(|n| colony.alert(id(6), chunk(n)));
        for _ in 0..700 {
            colony.pass(1);
            colony.end_audits(&[6]);
            colony.answer_all(&[2, 3, 4, 5]);
        }
    }
    assert_eq!(colony.activity().isolated, []);
}

#[test]
fn three_bad_chunks_isolate_a_cell_and_its_copies_do_not_count() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6]);
    (0..6).for_each(|n| colony.put(chunk(n), &[1, 2, 3, 4, 5]));
    for chunk in (0..3).map(chunk) {
        assert_eq!(colony.activity().isolated, []);
        colony.alert(id(2), chunk);
        let (task_id, cell, target) = *colony.audits().last().unwrap();
        assert_eq!((cell, target), (2, AuditTarget::Chunk(chunk)));
        colony.audit_done(task_id, AuditOutcome::Bad { chunk, found: ChunkId::of(b"bad"), len: 3 });
        colony.pass(1);
    }
    assert_eq!((colony.activity().isolated, colony.activity().short), (vec![id(2)], 6));
    assert_eq!(colony.saved_states().last().unwrap().isolated.len(), 1, "isolation survives a restart");
    // It is neither queried nor sent anything.
    colony.out.clear();
    for _ in 0..200 {
        colony.pass(1);
        assert!(!colony.queried().contains(&2));
        colony.answer_all(&[3, 4, 5]);
    }
    assert!(!colony.targets().is_empty());
    assert!(colony.targets().iter().all(|cell| *cell == 6));
}

/// It answers every query with yes, and has no copy. After the first audit its word is not enough.
#[test]
fn a_cell_that_claims_missing_copies_twice_is_isolated() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6]);
    let chunks: Vec<ChunkId> = (0..3).map(chunk).collect();
    for chunk in &chunks {
        colony.put(*chunk, &[1, 2, 3, 4, 5]);
    }
    for chunk in &chunks {
        colony.alert(id(5), *chunk);
    }
    let mut healed = BTreeSet::new();
    for _ in 0..600 {
        colony.pass(1);
        colony.end_audits(&[5]);
        for (task_id, cell, chunks) in colony.queries() {
            let has = |id: &ChunkId| cell != 6 || healed.contains(id);
            colony.answer(task_id, Some(chunks.into_iter().filter(has).collect()));
        }
        while let Some((task_id, cell, chunk)) = colony.sends().first().copied() {
            assert_eq!(cell, 6);
            healed.insert(chunk);
            colony.send_done(task_id, SendOutcome::Stored);
        }
    }
    assert_eq!(healed.len(), 3);
    assert_eq!((colony.activity().isolated, colony.activity().short), (vec![id(5)], 0));
}

#[test]
fn a_guard_that_finds_a_bad_copy_sends_an_alert_to_all() {
    let mut colony = TestColony::new(&[2, 3, 4, 5]);
    let guard = colony.make_guard(&[2, 3, 4, 5]);
    colony.alive.insert(6);
    colony.pass(30);
    assert_eq!(colony.cell.own_beacon().role, Role::Guard);
    let (task_id, culprit, _) = *colony.audits().last().unwrap();
    let (culprit, chunk, found) = (id(culprit), ChunkId::of(b"chunk"), ChunkId::of(b"bad"));
    colony.out.clear();
    colony.audit_done(task_id, AuditOutcome::Bad { chunk, found, len: LEN });
    let sent = colony.out.iter().find_map(|output| match output {
        Output::Task(Task::SendAlert { alert, to }) => Some((*alert, to.len())),
        _ => None,
    });
    assert_eq!(sent, Some((Alert { node_id: guard, culprit, chunk, found }, 5)));
    assert!(colony.events().contains(&&Event::BadCopy { culprit, chunk }));
}

/// Each time a guard found the same bad copy, it wrote that to its SD card.
#[test]
fn a_copy_that_stays_bad_is_saved_once_and_audited_with_pauses() {
    let mut colony = TestColony::new(&[2, 3, 4, 5]);
    colony.make_guard(&[2, 3, 4, 5]);
    colony.pass(10);
    let (mut saves, mut audits) = (0, 0);
    for _ in 0..600 {
        colony.pass(1);
        while let Some((task_id, cell, _)) = colony.audits().first().copied() {
            let (chunk, len) = (chunk(1), 10);
            let bad = AuditOutcome::Bad { chunk, found: ChunkId::of(b"x"), len };
            audits += u32::from(cell == 2);
            colony.audit_done(task_id, if cell == 2 { bad } else { AuditOutcome::Good { chunk, len } });
        }
        saves += colony.saved_states().len();
        colony.out.clear();
    }
    assert_eq!(saves, 1);
    assert!((10..=310).contains(&audits), "{audits}");
}

#[test]
fn a_full_scrub_hashes_all_copies_and_a_clean_one_is_in_the_beacon() {
    for bad in [0, 1] {
        let mut colony = TestColony::new(&[2]);
        (0..5).for_each(|n| colony.put(chunk(n), &[1, 2]));
        colony.out.clear();
        colony.input(CopyInput::Scrub);
        let mut hashed = BTreeSet::new();
        while let Some(at) = colony.out.iter().position(|output| matches!(output, Output::Task(Task::Verify(_)))) {
            let Output::Task(Task::Verify(chunk)) = colony.out.swap_remove(at) else { unreachable!() };
            let outcome = if hashed.len() < bad { VerifyOutcome::Bad } else { VerifyOutcome::Good };
            hashed.insert(chunk);
            colony.input(CopyInput::VerifyDone { chunk, outcome });
        }
        assert_eq!(hashed.len(), 5);
        let scrub = colony.activity().scrub.unwrap();
        assert_eq!((scrub.done, scrub.bad, scrub.finished), (5, bad as u64, true));
        colony.pass(3);
        assert_eq!(colony.cell.own_beacon().clean_s, (bad == 0).then_some(3));
    }
}

/// Passes this time, in which all cells answer that they have their copies, and returns the copies that are verified.
fn verified_within(colony: &mut TestColony, seconds: u64) -> Vec<Task> {
    let mut verified = Vec::new();
    for _ in 0..seconds {
        colony.pass(1);
        colony.answer_all(&[2, 3, 4, 5]);
        colony.end_audits(&[]);
        verified.extend(std::mem::take(&mut colony.out).into_iter().filter_map(|output| match output {
            Output::Task(task @ (Task::Verify(_) | Task::VerifyFinally(_))) => Some(task),
            Output::Task(Task::Send { .. } | Task::Fetch { .. } | Task::Remove(_)) => panic!("{output:?}"),
            _ => None,
        }));
    }
    verified
}

#[test]
fn a_suspect_copy_that_reads_well_moves_no_byte() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6]);
    let chunk = chunk(1);
    colony.put(chunk, &[1, 2, 3, 4, 5]);
    colony.input(CopyInput::ReadFailed(chunk));
    assert!(colony.events().contains(&&Event::OwnCopyUnreadable(chunk)));
    let counts = |colony: &TestColony| (colony.activity().suspect_copies, colony.activity().short);
    assert_eq!(counts(&colony), (1, 1), "it does not count");
    assert_eq!(verified_within(&mut colony, 59), []);
    assert_eq!(verified_within(&mut colony, 2), [Task::Verify(chunk)]);
    colony.input(CopyInput::VerifyDone { chunk, outcome: VerifyOutcome::Good });
    assert!(colony.events().contains(&&Event::OwnCopyReadable(chunk)));
    assert_eq!(counts(&colony), (0, 0));
    assert_eq!(verified_within(&mut colony, 700), []);
}

#[test]
fn a_copy_that_stays_suspect_is_replaced_on_another_cell() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6]);
    let chunk = chunk_with_rank(0, &[2, 3, 4, 5]);
    colony.put(chunk, &[1, 2, 3, 4, 5]);
    colony.input(CopyInput::ReadFailed(chunk));
    for second in 0..130 {
        colony.pass(1);
        colony.answer_all(&[2, 3, 4, 5]);
        if let Some((_, to, sent)) = colony.sends().first().copied() {
            assert!(second >= 119, "{second}");
            assert_eq!((to, sent), (6, chunk));
            return;
        }
    }
    panic!("no copy was sent");
}

#[test]
fn a_suspect_copy_is_fetched_again_after_three_failed_reads() {
    let mut colony = TestColony::new(&[2, 3, 4, 5]);
    let chunk = chunk(1);
    colony.put(chunk, &[1, 2, 3, 4, 5]);
    colony.input(CopyInput::VerifyDone { chunk, outcome: VerifyOutcome::Unreadable });
    for (seconds, task) in [(61, Task::Verify(chunk)), (601, Task::Verify(chunk)), (3601, Task::VerifyFinally(chunk))] {
        assert_eq!(verified_within(&mut colony, seconds), std::slice::from_ref(&task));
        let last = task == Task::VerifyFinally(chunk);
        let outcome = if last { VerifyOutcome::Bad } else { VerifyOutcome::Unreadable };
        colony.input(CopyInput::VerifyDone { chunk, outcome });
    }
    assert!(colony.fetch().is_some());
    assert_eq!((colony.activity().suspect_copies, colony.activity().bad_copies), (0, 1));
}

/// A loose cable made every copy unreadable, and the full scrub that followed moved all of them into quarantine.
#[test]
fn copies_that_cannot_be_read_start_no_full_scrub() {
    let mut colony = TestColony::new(&[2, 3, 4, 5]);
    (0..7).for_each(|n| colony.put(chunk(n), &[1, 2, 3, 4, 5]));
    for (n, first) in (0..7).zip([VerifyOutcome::Unreadable, VerifyOutcome::Bad, VerifyOutcome::Bad].iter().cycle()) {
        // The first read fails, and the last of the reads after it finds the copy bad.
        colony.input(CopyInput::ReadFailed(chunk(n)));
        colony.input(CopyInput::VerifyDone { chunk: chunk(n), outcome: *first });
    }
    colony.pass(5);
    assert_eq!((colony.activity().bad_copies, colony.activity().scrub), (4, None));
    for n in 10..13 {
        colony.put(chunk(n), &[1, 2, 3, 4, 5]);
        colony.input(CopyInput::VerifyDone { chunk: chunk(n), outcome: VerifyOutcome::Bad });
    }
    colony.pass(5);
    assert!(colony.activity().scrub.is_some(), "bad bytes do");
}

#[test]
fn a_failing_disk_ends_the_scrub_and_takes_no_chunks() {
    let mut colony = TestColony::new(&[2, 3, 4, 5]);
    (0..20).for_each(|n| colony.put(chunk(n), &[1, 2, 3, 4, 5]));
    colony.pass(1);
    colony.input(CopyInput::Scrub);
    (0..7).for_each(|n| colony.input(CopyInput::ReadFailed(chunk(n))));
    colony.pass(1);
    assert!(!colony.activity().failing && colony.activity().short == 7);
    colony.input(CopyInput::ReadFailed(chunk(7)));
    colony.pass(1);
    assert!(colony.events().contains(&&Event::DiskFailing(true)));
    assert!(colony.activity().failing && colony.activity().scrub.unwrap().finished);
    assert_eq!(colony.activity().short, 20, "none of its copies counts");
    assert_eq!(colony.cell.own_beacon().status, Status::Full);
    colony.input(CopyInput::Scrub);
    assert!(colony.activity().scrub.unwrap().finished, "no other begins");
}

#[test]
fn the_periodic_scrub_hashes_each_copy_once_per_period() {
    let mut colony = TestColony::new(&[2]);
    (0..200).for_each(|n| colony.put(chunk(n), &[1, 2]));
    let period_s = Settings::default().scrub_period_ms / 1000;
    let mut hashed = Vec::new();
    // The beacons of others do not matter here, and a month has many of them.
    colony.alive.clear();
    for _ in 0..period_s / 600 {
        colony.cell.now = colony.cell.now.plus_ms(600 * SECOND);
        colony.cell.wake_at = colony.cell.now;
        for output in colony.cell.pass(0) {
            if let Output::Task(Task::Verify(chunk)) = output {
                hashed.push(chunk);
                colony.input(CopyInput::VerifyDone { chunk, outcome: VerifyOutcome::Good });
            }
        }
    }
    assert!((195..=200).contains(&hashed.len()), "{}", hashed.len());
    assert_eq!(BTreeSet::from_iter(&hashed).len(), hashed.len());
    assert!(colony.saved_states().len() <= hashed.len());
}

#[test]
fn an_extra_copy_is_removed_only_for_space_and_after_proofs() {
    let others = [2, 3, 4, 5, 6];
    // Without audits of other chunks.
    let mut colony = TestColony::with_settings(&others, Settings { audit_rate: 0, ..Settings::default() });
    let (extra, needed) = (chunk_with_rank(5, &others), chunk_with_rank(4, &others));
    for chunk in [extra, needed] {
        colony.put(chunk, &[1, 2, 3, 4, 5, 6]);
    }
    // Ends all audits within two minutes; `failing` does not answer. Returns the proved copies and the removed chunk.
    let audit = |colony: &mut TestColony, failing: Option<u8>| {
        let mut proved = BTreeSet::new();
        for _ in 0..120 {
            colony.pass(1);
            for output in std::mem::take(&mut colony.out) {
                match output {
                    Output::Task(Task::Audit { task_id, from, target }) => {
                        assert_eq!(target, AuditTarget::Chunk(extra));
                        proved.insert(cell_at(from));
                        let good = AuditOutcome::Good { chunk: extra, len: LEN };
                        let fails = failing == Some(cell_at(from));
                        colony.audit_done(task_id, if fails { AuditOutcome::Failed } else { good });
                    }
                    Output::Task(Task::Remove(chunk)) => return (proved, Some(chunk)),
                    _ => {}
                }
            }
        }
        (proved, None)
    };
    assert_eq!(audit(&mut colony, None), (BTreeSet::new(), None), "there is space");
    colony.cell.store.full = true;
    assert_eq!(audit(&mut colony, Some(4)).1, None, "one of five has not proved its copy");
    let (proved, removed) = audit(&mut colony, None);
    assert_eq!((proved.len(), removed), (5, Some(extra)));
    assert_eq!(audit(&mut colony, None).1, None, "the other copy is needed");
}
