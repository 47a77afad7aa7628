//! Audits of the other copies of a cell's own chunks.

use std::collections::BTreeSet;

use super::colony::{LEN, TestColony};
use super::*;

const OTHERS: [u8; 5] = [2, 3, 4, 5, 6];

/// A storage cell with this many chunks. All other cells but 6 hold each of them.
fn storage_cell(chunks: u32, settings: Settings) -> TestColony {
    let mut colony = TestColony::with_settings(&OTHERS, settings);
    (0..chunks).for_each(|n| colony.put(chunk(n), &[1, 2, 3, 4, 5]));
    colony.out.clear();
    colony
}

/// Bytes per second that the cell audits. Every copy is good.
fn audited_per_s(colony: &mut TestColony, seconds: u64) -> u64 {
    colony.end_audits(&[]);
    let before = colony.activity().audits;
    for _ in 0..seconds {
        colony.pass(1);
        colony.end_audits(&[]);
        colony.answer_all(&OTHERS);
        colony.out.clear();
    }
    (colony.activity().audits - before) * u64::from(LEN) / seconds
}

/// A second passes. Returns the audit that starts in it.
fn next_audit(colony: &mut TestColony) -> Option<(TaskId, u8, AuditTarget)> {
    colony.out.clear();
    colony.pass(1);
    colony.audits().first().copied()
}

/// Lets time pass until an audit starts.
fn until_audit(colony: &mut TestColony) -> (TaskId, u8, AuditTarget) {
    (0..60).find_map(|_| next_audit(colony)).expect("an audit within a minute")
}

#[test]
fn a_guard_audits_at_the_full_rate_and_others_at_an_eighth() {
    let rate = Settings::default().audit_rate;
    let mut colony = storage_cell(100, Settings::default());
    let storage = audited_per_s(&mut colony, 1600);
    assert!((rate / 9..=rate / 7).contains(&storage), "{storage}");

    colony.make_guard(&OTHERS);
    colony.pass(30);
    assert_eq!(colony.cell.own_beacon().role, Role::Guard);
    let guard = audited_per_s(&mut colony, 400);
    assert!((rate * 9 / 10..=rate * 11 / 10).contains(&guard), "{guard}");

    let mut colony = storage_cell(100, Settings { audit_rate: 0, ..Settings::default() });
    assert_eq!(audited_per_s(&mut colony, 400), 0);
}

#[test]
fn a_storage_cell_audits_all_holders_of_its_chunks_and_no_other() {
    let mut colony = storage_cell(20, Settings::default());
    let mut pairs = BTreeSet::new();
    for _ in 0..8 * 1000 {
        colony.pass(1);
        for (_, cell, target) in colony.audits() {
            let AuditTarget::Chunk(chunk) = target else { panic!("{target:?}") };
            pairs.insert((cell, chunk));
        }
        colony.end_audits(&[]);
        colony.answer_all(&[2, 3, 4, 5]);
        colony.out.clear();
    }
    assert!(pairs.iter().all(|(cell, _)| [2, 3, 4, 5].contains(cell)), "cell 6 is no holder");
    assert!(pairs.len() >= 75, "{} of 80 copies", pairs.len());
}

#[test]
fn a_storage_cell_that_finds_a_bad_copy_sends_an_alert() {
    let mut colony = storage_cell(5, Settings::default());
    let (task_id, cell, target) = until_audit(&mut colony);
    let AuditTarget::Chunk(chunk) = target else { panic!("{target:?}") };
    colony.audit_done(task_id, AuditOutcome::Bad { chunk, found: ChunkId::of(b"bad"), len: LEN });
    let alert = colony.out.iter().find_map(|output| match output {
        Output::Task(Task::SendAlert { alert, .. }) => Some(alert),
        _ => None,
    });
    assert_eq!(alert.map(|alert| (alert.culprit, alert.chunk)), Some((id(cell), chunk)));
    assert_eq!(colony.activity().short, 1, "that copy does not count");
}

/// The put that named the holder may still be sending to it.
#[test]
fn a_holder_does_not_count_when_its_copy_is_missing_twice() {
    for missing_twice in [true, false] {
        let mut colony = storage_cell(1, Settings::default());
        let (task_id, cell, target) = until_audit(&mut colony);
        colony.audit_done(task_id, AuditOutcome::Missing);
        let first = colony.cell.now;
        assert_eq!(colony.activity().short, 0, "once proves nothing");
        for second in 0.. {
            assert!(second < 120);
            let Some((task_id, other, same)) = next_audit(&mut colony) else { continue };
            let is_again = other == cell && colony.cell.now.since_ms(first) >= 30_000;
            if is_again && missing_twice {
                colony.audit_done(task_id, AuditOutcome::Missing);
            } else {
                colony.end_audits(&[]);
            }
            if is_again {
                assert_eq!(same, target);
                break;
            }
        }
        let activity = colony.activity();
        assert_eq!((activity.short, activity.isolated.len()), (u64::from(missing_twice), 0));
    }
}

#[test]
fn a_copy_counts_although_it_cannot_be_fetched_in_time() {
    let mut colony = storage_cell(5, Settings::default());
    for _ in 0..20 {
        let (task_id, ..) = until_audit(&mut colony);
        colony.audit_done(task_id, AuditOutcome::Failed);
    }
    assert_eq!(colony.activity().short, 0);
}

/// It claims the chunk and does not have it. The claim is audited, and is false then.
#[test]
fn a_holder_that_claims_missing_copies_is_isolated() {
    let mut colony = storage_cell(8, Settings::default());
    for _ in 0..3600 {
        colony.pass(1);
        colony.answer_all(&[2, 3, 4, 5]);
        for (task_id, ..) in colony.sends() {
            colony.send_done(task_id, SendOutcome::Refused);
        }
        colony.out.retain(|output| matches!(output, Output::Task(Task::QueryHave { .. } | Task::Audit { .. })));
        colony.end_audits(&[5]);
    }
    assert_eq!(colony.activity().isolated, [id(5)]);
}
