//! Neighbours that fail, flap, forge and lie, and what must not come of it.

use std::collections::BTreeSet;

use super::*;
use crate::cell::tests::copies::{Colony, byte_of, chunk_with_rank};
use crate::id::ChunkId;
use crate::wire::datagram::Alert;
use crate::wire::holder_hints::HolderHint;

fn chunk(n: u32) -> ChunkId {
    ChunkId::of(&n.to_le_bytes())
}

/// A second passes; these cells have all they are asked for, and every copy that is sent arrives. The targets.
fn live(colony: &mut Colony, having: &[u8]) -> Vec<u8> {
    colony.pass(1);
    colony.answer(having);
    let mut targets = Vec::new();
    while let Some((task_id, byte, _)) = colony.sends().first().copied() {
        colony.out.retain(|o| !matches!(o, Output::Task(Task::Send { task_id: other, .. }) if *other == task_id));
        targets.push(byte);
        colony.give(&Input::Copy(CopyInput::SendDone { task_id, outcome: SendOutcome::Stored }));
    }
    colony.out.clear();
    targets
}

/// A wound that nobody could take a copy for was not looked at again when one more copy was lost.
#[test]
fn a_chunk_that_was_stuck_is_healed_when_a_holder_turns_out_to_have_lost_it() {
    let mut colony = Colony::new(&[2, 3]);
    colony.hold(chunk_with_rank(0, &[2, 3]), &[1, 2, 3]);
    let targets: Vec<u8> = (0..1300).flat_map(|_| live(&mut colony, &[2])).collect();
    assert_eq!(targets.first(), Some(&3));
}

/// A switch was off for a minute; the holders are back some seconds after the first neighbour. All chunks were sent to
/// that one.
#[test]
fn a_network_that_comes_back_bit_by_bit_moves_nothing() {
    let mut colony = Colony::new(&[2, 3, 4, 5, 6]);
    (0..40).for_each(|n| colony.hold(chunk(n), &[1, 2, 3, 4, 5]));
    colony.pass(200);
    colony.kill(&[2, 3, 4, 5, 6]);
    colony.pass(60);
    colony.out.clear();
    for back in [6, 2, 3, 4, 5] {
        colony.alive.insert(back);
        for _ in 0..4 {
            assert!(live(&mut colony, &[2, 3, 4, 5]).is_empty());
        }
    }
    for _ in 0..200 {
        assert!(live(&mut colony, &[2, 3, 4, 5]).is_empty());
    }
}

/// What was planned was sent, though the holders had come back meanwhile.
#[test]
fn a_round_ends_when_the_holders_are_back() {
    let mut colony = Colony::new(&[2, 3, 4, 5, 6, 7, 8]);
    (0..32).for_each(|n| colony.hold(chunk(n), &[1, 2, 3, 4, 5]));
    colony.kill(&[3, 4, 5]);
    while colony.asks().is_empty() {
        colony.pass(1);
    }
    colony.answer(&[2]);
    let under_way = colony.sends();
    assert!(!under_way.is_empty());
    colony.out.clear();
    colony.alive.extend([3, 4, 5]);
    colony.pass(2);
    for (task_id, ..) in under_way {
        colony.give(&Input::Copy(CopyInput::SendDone { task_id, outcome: SendOutcome::Stored }));
    }
    assert_eq!(colony.sends(), []);
}

/// It beacons, and answers nothing: its card hangs.
#[test]
fn holders_that_answer_nothing_for_long_do_not_count() {
    let mut colony = Colony::new(&[2, 3, 4, 5, 6, 7]);
    colony.hold(chunk_with_rank(0, &[2, 3]), &[1, 2, 3, 4, 5]);
    let mut targets = BTreeSet::new();
    for _ in 0..3 * 3600 {
        colony.pass(1);
        for (task_id, byte, ids) in colony.asks() {
            let has = match byte {
                4 | 5 => None,
                6 | 7 if !targets.contains(&byte) => Some(Vec::new()),
                _ => Some(ids),
            };
            colony.give(&Input::Copy(CopyInput::QueryDone { task_id, has }));
        }
        for (task_id, byte, _) in colony.sends() {
            targets.insert(byte);
            colony.give(&Input::Copy(CopyInput::SendDone { task_id, outcome: SendOutcome::Stored }));
        }
        colony.out.clear();
    }
    assert_eq!(targets, BTreeSet::from([6, 7]));
}

/// It was given the same chunk again and again, and other cells with room never.
#[test]
fn a_cell_that_loses_what_it_takes_gets_less_and_less() {
    let mut colony = Colony::new(&[2, 3, 4, 6, 7, 8]);
    colony.hold(chunk_with_rank(0, &[2, 3, 4]), &[1, 2, 3, 4, 5]);
    let targets: Vec<u8> = (0..4 * 3600).flat_map(|_| live(&mut colony, &[2, 3, 4])).collect();
    assert!((3..=9).contains(&targets.len()), "{targets:?}");
    assert_eq!(targets.iter().collect::<BTreeSet<_>>().len(), 3, "{targets:?}");
}

#[test]
fn a_last_copy_does_not_wait_for_what_was_refused_before() {
    let mut colony = Colony::new(&[2, 3, 4, 6, 7]);
    colony.hold(chunk_with_rank(0, &[2, 3, 4]), &[1, 2, 3, 4, 5]);
    for _ in 0..3600 {
        colony.pass(1);
        colony.answer(&[2, 3, 4]);
        while let Some((task_id, ..)) = colony.sends().first().copied() {
            colony.out.clear();
            colony.give(&Input::Copy(CopyInput::SendDone { task_id, outcome: SendOutcome::Failed }));
        }
        colony.out.clear();
    }
    colony.kill(&[2, 3, 4]);
    let asked = (0..5).any(|_| {
        colony.pass(1);
        !colony.asks().is_empty()
    });
    assert!(asked);
}

/// Some had been planned to hold it, and the cell was told that it could be unplugged.
#[test]
fn a_put_that_ends_after_a_drain_began_is_handed_on_too() {
    let mut colony = Colony::new(&[2, 3, 4, 5, 6]);
    colony.give(&Input::Copy(CopyInput::Drain(true)));
    colony.pass(2);
    colony.hold(ChunkId::of(b"late"), &[1, 2, 3, 4, 5, 6]);
    assert!(!colony.world.cell.life().drain.unwrap().safe);
    colony.pass(1);
    assert_eq!(colony.asks().len(), 5);
}

/// It says yes to whatever it is asked, and can give nothing. As soon as somebody has looked, its word is not enough.
#[test]
fn a_cell_that_claims_what_it_cannot_give_is_not_believed_twice() {
    let mut colony = Colony::new(&[2, 3, 4, 5, 6]);
    let chunks: Vec<ChunkId> = (0..3).map(chunk).collect();
    for chunk in &chunks {
        colony.hold(*chunk, &[1, 2, 3, 4, 5]);
    }
    for chunk in &chunks {
        let found = ChunkId::of(b"");
        colony.give(&Input::Copy(CopyInput::Alert(Alert { node_id: name(9), culprit: name(5), chunk: *chunk, found })));
    }
    let mut healed = BTreeSet::new();
    for _ in 0..600 {
        colony.pass(1);
        colony.audited(&[5]);
        for (task_id, byte, ids) in colony.asks() {
            let has = |id: &ChunkId| byte != 6 || healed.contains(id);
            colony
                .give(&Input::Copy(CopyInput::QueryDone { task_id, has: Some(ids.into_iter().filter(has).collect()) }));
        }
        colony.out.retain(|o| !matches!(o, Output::Task(Task::QueryHave { .. })));
        while let Some((task_id, byte, chunk)) = colony.sends().first().copied() {
            assert_eq!(byte, 6);
            healed.insert(chunk);
            colony.out.retain(|o| !matches!(o, Output::Task(Task::Send { task_id: other, .. }) if *other == task_id));
            colony.give(&Input::Copy(CopyInput::SendDone { task_id, outcome: SendOutcome::Stored }));
        }
    }
    assert_eq!(healed.len(), 3);
    let life = colony.world.cell.life();
    assert_eq!((life.isolated, life.short), (vec![name(5)], 0));
}

/// A cell that never had a chunk is not blamed for that, however often somebody says so.
#[test]
fn alerts_about_a_chunk_that_a_cell_never_had_are_no_strikes() {
    let mut colony = Colony::new(&[2, 3, 4, 5, 6]);
    (0..5).for_each(|n| colony.hold(chunk(n), &[1, 2, 3, 4, 5]));
    for _ in 0..10 {
        for n in 0..5 {
            let found = ChunkId::of(b"");
            colony.give(&Input::Copy(CopyInput::Alert(Alert {
                node_id: name(9),
                culprit: name(6),
                chunk: chunk(n),
                found,
            })));
        }
        for _ in 0..700 {
            colony.pass(1);
            colony.audited(&[6]);
            colony.answer(&[2, 3, 4, 5]);
        }
    }
    assert!(colony.world.cell.life().isolated.is_empty());
}

/// One answer that came too late, in a colony where nobody else could take a copy, and the drain was stuck for ever.
#[test]
fn a_drain_asks_again_whoever_did_not_answer() {
    let mut colony = Colony::new(&[2, 3, 4, 5, 6]);
    colony.hold(chunk(1), &[1, 2, 3, 4, 5, 6]);
    colony.out.clear();
    colony.give(&Input::Copy(CopyInput::Drain(true)));
    colony.pass(1);
    for (task_id, byte, ids) in colony.asks() {
        colony.give(&Input::Copy(CopyInput::QueryDone { task_id, has: (byte != 6).then_some(ids) }));
    }
    colony.out.clear();
    let drain = |colony: &Colony| colony.world.cell.life().drain.unwrap();
    assert!(!drain(&colony).safe && drain(&colony).stuck == 0);
    for _ in 0..30 {
        colony.pass(1);
        colony.answer(&[2, 3, 4, 5, 6]);
    }
    assert!(drain(&colony).safe);
}

/// A draining cell that dies before a visit bore it out was visited every few seconds for an hour.
#[test]
fn a_cell_that_dies_while_it_drains_is_not_visited_any_more() {
    let mut colony = Colony::new(&[2, 3]);
    colony.give(&Input::Member(MemberInput::Beacon {
        from: ip(2),
        beacon: Beacon { status: Status::Draining, ..beacon(2, 1) },
    }));
    colony.kill(&[2]);
    colony.out.clear();
    colony.pass(30);
    assert!(!colony.out.iter().any(|o| matches!(o, Output::Task(Task::Probe { .. }))));
}

#[test]
fn a_cell_that_comes_and_goes_is_asked_once_a_minute() {
    let mut colony = Colony::new(&[2, 3, 4, 5, 6]);
    (0..100).for_each(|n| colony.hold(chunk(n), &[1, 2, 3, 4, 5]));
    colony.out.clear();
    for _ in 0..120 {
        colony.give(&Input::Member(MemberInput::Beacon {
            from: ip(2),
            beacon: Beacon { status: Status::Leaving, ..beacon(2, 1) },
        }));
        colony.pass(1);
    }
    let asked = colony.asks().iter().filter(|(_, byte, _)| *byte == 2).count();
    assert!((1..=4).contains(&asked), "{asked}");
}

#[test]
fn hints_that_name_one_cell_are_one_question() {
    let mut colony = Colony::new(&[2, 3, 4, 5, 6]);
    colony.hold(chunk(1), &[1, 2, 3, 4, 5]);
    colony.out.clear();
    for _ in 0..100 {
        colony.give(&Input::Copy(CopyInput::Hints(vec![HolderHint { id: chunk(1), holders: vec![name(6)] }])));
    }
    assert_eq!(colony.asks().len(), 1);
}

/// Alerts about cells that nobody knows filled the table, and true ones were passed over.
#[test]
fn forged_alerts_do_not_silence_true_ones() {
    let mut colony = Colony::new(&[2, 3, 4, 5]);
    colony.hold(chunk(1), &[1, 2, 3, 4, 5]);
    let alert = |culprit| {
        Input::Copy(CopyInput::Alert(Alert { node_id: name(9), culprit, chunk: chunk(1), found: ChunkId::of(b"x") }))
    };
    for n in 0..5000_u32 {
        let mut nobody = [9; 16];
        nobody[..4].copy_from_slice(&n.to_le_bytes());
        colony.give(&alert(CellId::from_bytes(nobody)));
    }
    colony.out.clear();
    colony.give(&alert(name(1)));
    colony.give(&alert(name(2)));
    assert!(
        matches!(&colony.out[..], [Output::Task(Task::Verify(_)), Output::Task(Task::Audit { .. })]),
        "{:?}",
        colony.out
    );
}

/// Each time a guard came upon it, it wrote that to its card.
#[test]
fn a_bad_chunk_that_stays_bad_is_noted_once_and_not_looked_at_without_end() {
    let mut colony = Colony::new(&[2, 3, 4, 5]);
    colony.make_guard(&[2, 3, 4, 5]);
    colony.pass(10);
    let (mut kept, mut looked) = (0, 0);
    for _ in 0..600 {
        colony.pass(1);
        while let Some(at) = colony.out.iter().position(|o| matches!(o, Output::Task(Task::Audit { .. }))) {
            let Output::Task(Task::Audit { task_id, from: of, .. }) = colony.out.remove(at) else { unreachable!() };
            let chunk = chunk(1);
            let bad = AuditOutcome::Bad { chunk, found: ChunkId::of(b"x"), len: 10 };
            let is_culprit = byte_of(of) == 2;
            looked += u32::from(is_culprit);
            colony.give(&Input::Copy(CopyInput::AuditDone {
                task_id,
                outcome: if is_culprit { bad } else { AuditOutcome::Good { chunk, len: 10 } },
            }));
        }
        kept += colony.out.iter().filter(|o| matches!(o, Output::Persist(Persist::State(_)))).count();
        colony.out.clear();
    }
    assert_eq!(kept, 1);
    assert!((10..=310).contains(&looked), "{looked}");
}

/// Once forty holders were believed, no more could be, and copies were made without end.
#[test]
fn holders_that_are_long_gone_make_room_for_those_that_are_there() {
    let mut colony = Colony::new(&[2, 3, 4, 5, 6, 7, 8, 9]);
    let gone: Vec<u8> = (100..140).collect();
    colony.hold(chunk_with_rank(0, &[2, 3, 4, 5]), &gone);
    let mut having = vec![2, 3, 4, 5];
    let mut sent = 0;
    for _ in 0..7200 {
        let targets = live(&mut colony, &having.clone());
        sent += targets.len();
        having.extend(targets);
    }
    assert_eq!((sent, colony.world.cell.life().short), (0, 0));
}

/// Nobody told how sending a copy ended: the round was given up, and its chunks were not looked at again.
#[test]
fn a_round_that_does_not_end_is_given_up_and_its_chunks_have_another() {
    let mut colony = Colony::new(&[2, 3, 4, 6]);
    colony.hold(chunk_with_rank(0, &[2, 3, 4]), &[1, 2, 3, 4, 5]);
    while colony.sends().is_empty() {
        colony.pass(1);
        colony.answer(&[2, 3, 4]);
    }
    colony.out.clear();
    let targets: Vec<u8> = (0..1200).flat_map(|_| live(&mut colony, &[2, 3, 4])).collect();
    assert_eq!(targets, [6]);
}

/// A cell whose answer came late, after that round, counted as one that had answered for the next, and then once more.
#[test]
fn an_answer_for_an_earlier_round_does_not_make_a_drain_safe() {
    let mut colony = Colony::new(&[2, 3, 4, 5, 6]);
    colony.hold(chunk(0), &[1, 2, 3, 4, 5, 6]);
    colony.pass(200);
    colony.out.clear();
    colony.give(&Input::Copy(CopyInput::Drain(true)));
    let late = colony.asks().into_iter().find(|(_, byte, _)| *byte == 2).unwrap();
    colony.out.retain(|o| !matches!(o, Output::Task(Task::QueryHave { task_id, .. }) if *task_id == late.0));
    // 6 is believed to have one, and does not answer.
    for (task_id, byte, ids) in colony.asks() {
        let has = (byte != 6).then_some(ids);
        colony.give(&Input::Copy(CopyInput::QueryDone { task_id, has }));
    }
    colony.out.clear();
    // The next round asks all again. Only then the first answer comes, and after it those of 2, 3, 4 and 5: four copies.
    while colony.asks().len() < 5 {
        colony.pass(1);
    }
    colony.give(&Input::Copy(CopyInput::QueryDone { task_id: late.0, has: Some(late.2) }));
    for (task_id, byte, ids) in colony.asks() {
        colony.give(&Input::Copy(CopyInput::QueryDone { task_id, has: (byte != 6).then_some(ids) }));
    }
    colony.out.clear();
    let drain = colony.world.cell.life().drain.unwrap();
    assert!(!drain.safe, "four others have it, and five are wanted: {drain:?}");
}

/// The only cell that could take a copy had lost one, and was tried again only when something changed in the colony.
#[test]
fn a_chunk_that_nobody_could_take_is_looked_at_again_though_nothing_changes() {
    let mut colony = Colony::new(&[2, 3, 4, 6]);
    colony.hold(chunk_with_rank(0, &[2, 3, 4]), &[1, 2, 3, 4, 5]);
    let mut sent = Vec::new();
    for second in 0..3 * 3600 {
        // It loses the first copy and keeps the second.
        let having: &[u8] = if sent.len() < 2 { &[2, 3, 4] } else { &[2, 3, 4, 6] };
        sent.extend(live(&mut colony, having).into_iter().map(|byte| (byte, second)));
    }
    assert_eq!(sent.iter().map(|(byte, _)| *byte).collect::<Vec<_>>(), [6, 6], "{sent:?}");
    assert!(sent[1].1 - sent[0].1 >= 3600, "not before the pause is over: {sent:?}");
}
