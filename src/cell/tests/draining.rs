//! Draining of this cell, and departures of others.

use super::colony::{TestColony, chunk_with_rank};
use super::*;
use crate::wire::status::DrainProgress;

#[test]
fn a_draining_cell_queries_every_chunk_and_sends_what_is_missing() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6, 7]);
    let (six_holders, five_holders) = (chunk_with_rank(1, &[2, 3]), chunk_with_rank(0, &[2, 3]));
    colony.put(six_holders, &[1, 2, 3, 4, 5, 6]);
    colony.put(five_holders, &[1, 2, 3, 4, 5]);
    colony.out.clear();
    colony.input(CopyInput::Drain(true));
    assert_eq!(colony.drain(), DrainProgress { left: 2, total: 2, stuck: 0, safe: false });
    colony.pass(2);
    assert_eq!(colony.cell.own_beacon().status, Status::Draining);
    // Cell 6 does not have the chunk of which it is a recorded holder.
    colony.answer_all(&[2, 3, 4, 5]);
    let sends = colony.sends();
    assert!(sends.iter().all(|(_, cell, _)| [6, 7].contains(cell)), "{sends:?}");
    for chunk in [six_holders, five_holders] {
        assert_eq!(sends.iter().filter(|(_, _, sent)| *sent == chunk).count(), 1);
    }
    for (task_id, ..) in sends {
        colony.send_done(task_id, SendOutcome::Stored);
    }
    colony.pass(1);
    assert_eq!(colony.drain(), DrainProgress { left: 0, total: 2, stuck: 0, safe: true });
    assert!(colony.events().contains(&&Event::Drained));
    colony.input(CopyInput::Drain(false));
    assert_eq!(colony.activity().drain, None);
    assert_eq!(colony.cell.own_beacon().status, Status::Active);
}

/// The put had named other holders already, and the cell reported that it could be unplugged.
#[test]
fn a_chunk_that_is_put_while_draining_is_queried_too() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6]);
    colony.input(CopyInput::Drain(true));
    colony.pass(2);
    colony.put(chunk(1), &[1, 2, 3, 4, 5, 6]);
    assert!(!colony.drain().safe);
    colony.pass(1);
    assert_eq!(colony.queries().len(), 5);
}

/// One late answer, in a colony where no other cell could store a copy, and the drain was stuck.
#[test]
fn a_draining_cell_queries_those_again_that_did_not_answer() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6]);
    colony.put(chunk(1), &[1, 2, 3, 4, 5, 6]);
    colony.out.clear();
    colony.input(CopyInput::Drain(true));
    colony.pass(1);
    colony.answer_all_but(6);
    colony.out.clear();
    assert!(!colony.drain().safe && colony.drain().stuck == 0);
    for _ in 0..30 {
        colony.pass(1);
        colony.answer_all(&[2, 3, 4, 5, 6]);
    }
    assert!(colony.drain().safe);
}

/// A late answer to a query of the previous round was counted in the next one, and the answer to the next query again.
#[test]
fn an_answer_for_an_earlier_round_does_not_make_a_drain_safe() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6]);
    colony.put(chunk(0), &[1, 2, 3, 4, 5, 6]);
    colony.pass(200);
    colony.out.clear();
    colony.input(CopyInput::Drain(true));
    let (late, _, chunks) = colony.queries().into_iter().find(|(_, cell, _)| *cell == 2).unwrap();
    colony.drop_queries(|task_id| task_id == late);
    // Cell 6 is a recorded holder and does not answer.
    colony.answer_all_but(6);
    colony.out.clear();
    // The next round queries all again. Then the late answer comes, and after it those of 2, 3, 4 and 5: four copies.
    while colony.queries().len() < 5 {
        colony.pass(1);
    }
    colony.answer(late, Some(chunks));
    colony.answer_all_but(6);
    colony.out.clear();
    assert!(!colony.drain().safe, "four others have the chunk, and five must: {:?}", colony.drain());
}

#[test]
fn copies_of_a_draining_cell_do_not_count_once_a_probe_confirms_it() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6]);
    colony.put(chunk_with_rank(0, &[3, 4, 5]), &[1, 2, 3, 4, 5]);
    // A beacon alone is not enough: anyone can send it.
    colony.beacon(2, Status::Draining);
    colony.pass(3);
    assert_eq!(colony.activity().short, 0);
    colony.draining.insert(2);
    colony.pass(4);
    assert_eq!(colony.activity().short, 1);
    colony.draining.clear();
    colony.pass(2);
    assert_eq!(colony.activity().short, 0);
}

/// One forged datagram per cell would have made the colony copy everything.
#[test]
fn forged_departures_move_no_byte_and_real_ones_count() {
    let mut colony = TestColony::new(&[2, 3, 4, 5, 6, 7]);
    colony.put(chunk_with_rank(0, &[2, 3, 4, 5]), &[1, 2, 3, 4, 5]);
    for _ in 0..60 {
        for cell in [2, 3, 4, 5] {
            colony.beacon(cell, Status::Leaving);
        }
        assert_eq!(colony.cell.presence_of(2), Some(Presence::Left), "it is sent no new chunks");
        colony.pass(1);
    }
    assert!(colony.sends().is_empty());
    assert_eq!(colony.activity().short, 0);
    colony.alive.remove(&2);
    colony.beacon(2, Status::Leaving);
    colony.pass(4);
    assert_eq!(colony.activity().short, 1);
}

/// A draining cell that died before a probe confirmed its departure was probed every few seconds for an hour.
#[test]
fn a_cell_that_dies_while_it_drains_is_not_probed_any_more() {
    let mut colony = TestColony::new(&[2, 3]);
    colony.beacon(2, Status::Draining);
    colony.kill(&[2]);
    colony.out.clear();
    colony.pass(30);
    assert_eq!(probes(&colony.out), []);
}
