//! Audits of the other copies of a cell's own chunks, step by step.

use super::copies::{Colony, LEN};
use super::*;
use crate::id::ChunkId;

const OTHERS: [u8; 5] = [2, 3, 4, 5, 6];

/// A storage cell with this many chunks, each on all other cells but 6 too.
fn storage_cell(chunks: u32, settings: Settings) -> Colony {
    let mut colony = Colony::with(&OTHERS, settings);
    (0..chunks).for_each(|n| colony.hold(ChunkId::of(&n.to_le_bytes()), &[1, 2, 3, 4, 5]));
    colony.out.clear();
    colony
}

/// Bytes per second that the cell fetches to audit them, where every copy is good.
fn audited_per_s(colony: &mut Colony, seconds: u64) -> u64 {
    colony.audited(&[]);
    let before = colony.world.cell.life().audits;
    for _ in 0..seconds {
        colony.pass(1);
        colony.audited(&[]);
        colony.answer(&OTHERS);
        colony.out.clear();
    }
    (colony.world.cell.life().audits - before) * u64::from(LEN) / seconds
}

/// Lets a second pass. The next audit of a copy, if one began.
fn next_audit(colony: &mut Colony) -> Option<(TaskId, u8, AuditTarget)> {
    colony.out.clear();
    colony.pass(1);
    colony.audits().first().copied()
}

/// Lets time pass until the cell audits a copy.
fn some_audit(colony: &mut Colony) -> (TaskId, u8, AuditTarget) {
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
    assert_eq!(colony.world.cell.beacon(colony.world.now).role, Role::Guard);
    let guard = audited_per_s(&mut colony, 400);
    assert!((rate * 9 / 10..=rate * 11 / 10).contains(&guard), "{guard}");

    let mut colony = storage_cell(100, Settings { audit_rate: 0, ..Settings::default() });
    assert_eq!(audited_per_s(&mut colony, 400), 0);
}

#[test]
fn a_storage_cell_audits_every_holder_of_its_chunks_and_no_other() {
    let mut colony = storage_cell(20, Settings::default());
    let mut pairs = std::collections::BTreeSet::new();
    for _ in 0..8 * 1000 {
        colony.pass(1);
        for (_, byte, pick) in colony.audits() {
            let AuditTarget::Chunk(chunk) = pick else { panic!("{pick:?}") };
            pairs.insert((byte, chunk));
        }
        colony.audited(&[]);
        colony.answer(&[2, 3, 4, 5]);
        colony.out.clear();
    }
    assert!(pairs.iter().all(|(byte, _)| [2, 3, 4, 5].contains(byte)), "cell 6 has none");
    assert!(pairs.len() >= 75, "{} of 80 copies", pairs.len());
}

#[test]
fn a_storage_cell_that_finds_a_bad_copy_tells_all() {
    let mut colony = storage_cell(5, Settings::default());
    let (task_id, byte, pick) = some_audit(&mut colony);
    let AuditTarget::Chunk(chunk) = pick else { panic!("{pick:?}") };
    colony.give(&Input::Copy(CopyInput::AuditDone {
        task_id,
        outcome: AuditOutcome::Bad { chunk, found: ChunkId::of(b"bad"), len: LEN },
    }));
    let mut alerts = colony
        .out
        .iter()
        .filter_map(|o| if let Output::Task(Task::SendAlert { alert, .. }) = o { Some(alert) } else { None });
    let alert = alerts.next().unwrap();
    assert_eq!((alert.culprit, alert.chunk), (name(byte), chunk));
    assert_eq!(colony.world.cell.life().short, 1, "that copy does not count");
}

/// The put that named the holder may still be sending to it.
#[test]
fn a_holder_counts_no_more_when_its_copy_is_missing_twice() {
    for missing_twice in [true, false] {
        let mut colony = storage_cell(1, Settings::default());
        let (task_id, byte, pick) = some_audit(&mut colony);
        colony.give(&Input::Copy(CopyInput::AuditDone { task_id, outcome: AuditOutcome::Missing }));
        let first = colony.world.now;
        assert_eq!(colony.world.cell.life().short, 0, "once is no evidence");
        for second in 0.. {
            assert!(second < 120);
            let Some((task_id, other, same)) = next_audit(&mut colony) else { continue };
            let is_again = other == byte && colony.world.now.since_ms(first) >= 30_000;
            if is_again && missing_twice {
                colony.give(&Input::Copy(CopyInput::AuditDone { task_id, outcome: AuditOutcome::Missing }));
            } else {
                colony.audited(&[]);
            }
            if is_again {
                assert_eq!(same, pick);
                break;
            }
        }
        let life = colony.world.cell.life();
        assert_eq!((life.short, life.isolated.len()), (u64::from(missing_twice), 0));
    }
}

#[test]
fn a_copy_that_cannot_be_fetched_in_time_counts() {
    let mut colony = storage_cell(5, Settings::default());
    for _ in 0..20 {
        let (task_id, ..) = some_audit(&mut colony);
        colony.give(&Input::Copy(CopyInput::AuditDone { task_id, outcome: AuditOutcome::Failed }));
    }
    assert_eq!(colony.world.cell.life().short, 0);
}

/// It says that it has the chunk and cannot give it: it is asked for proof, and then it has lied.
#[test]
fn a_holder_that_claims_what_it_cannot_give_is_isolated() {
    let mut colony = storage_cell(8, Settings::default());
    for _ in 0..3600 {
        colony.pass(1);
        colony.answer(&[2, 3, 4, 5]);
        for (task_id, ..) in colony.sends() {
            colony.give(&Input::Copy(CopyInput::SendDone { task_id, outcome: SendOutcome::Refused }));
        }
        colony.out.retain(|o| matches!(o, Output::Task(Task::QueryHave { .. } | Task::Audit { .. })));
        colony.audited(&[5]);
    }
    assert_eq!(colony.world.cell.life().isolated, [name(5)]);
}
