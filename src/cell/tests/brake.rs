//! The brake: a large part of the colony falls silent at once.

use super::colony::{TestColony, chunk_with_rank};
use super::*;
use crate::cell::heal::brake::Brake;
use crate::cell::membership::probes::Probes;
use crate::cell::membership::{Membership, Source};

const OTHERS: [u8; 9] = [2, 3, 4, 5, 6, 7, 8, 9, 10];

/// A colony of ten hosts that have been heard for this many seconds, in which this cell ranks first for a chunk of five
/// copies.
fn settled(heard_s: u64) -> TestColony {
    let mut colony = TestColony::new(&OTHERS);
    colony.put(chunk_with_rank(0, &[2, 3, 4, 5]), &[1, 2, 3, 4, 5]);
    colony.pass(heard_s);
    colony.answer_all(&[2, 3, 4, 5]);
    colony.out.clear();
    colony
}

/// Seconds after which the cell queries other cells in order to heal, up to `within_s`.
fn healed_after_s(colony: &mut TestColony, within_s: u64, holders: &[u8]) -> Option<u64> {
    (0..within_s).find(|_| {
        colony.out.clear();
        colony.pass(1);
        let heals = colony.queried().contains(&10);
        colony.answer_all(holders);
        heals
    })
}

#[test]
fn a_third_that_falls_silent_at_once_delays_healing() {
    let mut colony = settled(3700);
    colony.kill(&[3, 4, 5]);
    assert!((880..=900).contains(&colony.activity().split_wait_s.unwrap()));
    let after_s = healed_after_s(&mut colony, 1000, &[2]).unwrap();
    assert!((880..=905).contains(&after_s), "{after_s}");
    assert_eq!(colony.activity().split_wait_s, None);
}

#[test]
fn the_last_copy_does_not_wait_for_the_brake() {
    let mut colony = settled(3700);
    colony.kill(&[2, 3, 4, 5]);
    assert!(healed_after_s(&mut colony, 5, &[]).is_some());
}

#[test]
fn healing_continues_when_all_are_back() {
    let mut colony = settled(3700);
    colony.kill(&[3, 4, 5]);
    colony.pass(300);
    colony.alive.extend([3, 4, 5]);
    colony.pass(3);
    assert_eq!((colony.activity().split_wait_s, colony.activity().short), (None, 0));
    colony.pass(60);
    colony.answer_all(&[2, 3, 4, 5]);
    colony.kill(&[4, 5]);
    let after_s = healed_after_s(&mut colony, 100, &[2, 3]).unwrap();
    assert!((28..=33).contains(&after_s), "two deaths are no split: {after_s}");
}

#[test]
fn a_second_split_delays_no_chunk_again() {
    let mut colony = settled(3700);
    colony.kill(&[3, 4, 5]);
    assert_eq!(healed_after_s(&mut colony, 600, &[2]), None);
    colony.kill(&[7, 8, 9]);
    let wait_s = colony.activity().split_wait_s.unwrap();
    assert!(wait_s > 880, "{wait_s}");
    let after_s = healed_after_s(&mut colony, 1000, &[2]).unwrap();
    assert!((270..=305).contains(&after_s), "{after_s}");
}

#[test]
fn new_cells_and_deaths_one_by_one_brake_nothing() {
    let mut new = settled(3000);
    new.kill(&[3, 4, 5]);
    assert_eq!(new.activity().split_wait_s, None, "heard for less than an hour");

    let mut slow = settled(3700);
    for cell in [3, 4, 5] {
        slow.kill(&[cell]);
        slow.pass(60);
    }
    assert_eq!(slow.activity().split_wait_s, None, "one a minute");

    let mut few = settled(3700);
    few.kill(&[4, 5]);
    assert_eq!(few.activity().split_wait_s, None);
}

#[test]
fn fewer_than_three_hosts_or_than_a_third_brake_nothing() {
    for (count, silent, brakes) in [(12, 3, false), (12, 4, true), (4, 2, false), (4, 3, true)] {
        let others: Vec<u8> = (2..).take(count).collect();
        let mut colony = TestColony::new(&others);
        colony.pass(3700);
        colony.kill(&others[..silent]);
        assert_eq!(colony.activity().split_wait_s.is_some(), brakes, "{silent} of {count}");
    }
}

/// Goal: boards count, not cells. Method: four cells fall silent at once: on one host, on four hosts, and on four hosts with
/// another cell each.
#[test]
fn cells_on_one_host_count_as_one() {
    let together = [5, 5, 5, 5, 6, 7, 8, 9];
    let alone = [2, 3, 4, 5, 6, 7, 8, 9];
    let in_pairs = [6, 7, 8, 9, 6, 7, 8, 9];
    for (hosts, brakes) in [(together, false), (alone, true), (in_pairs, false)] {
        let settings = Settings::default();
        let mut members = Membership::new(settings);
        let mut out = Vec::new();
        for second in 0..3700 {
            for (cell, host) in (2..).zip(hosts) {
                let address = SocketAddr::new(ip(100 + host), 8000 + u16::from(cell));
                if cell > 5 || second < 3650 {
                    members.status_received(Time(second * 1000), address, &beacon(cell, 1), Source::Beacon, &mut out);
                }
            }
        }
        let now = Time(3_700_000);
        members.advance(now, &mut Probes::default(), &mut out);
        let mut brake = Brake::default();
        brake.update(&settings, &members);
        assert_eq!(brake.until(now).is_some(), brakes, "{hosts:?}");
    }
}
