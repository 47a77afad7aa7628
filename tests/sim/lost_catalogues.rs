//! Boards lose their catalogues, and with them how many copies each chunk needs.

use std::collections::BTreeMap;

use cellsync::id::ChunkId;

use crate::scenario::{Scenario, for_each_seed};
use crate::world::Plan;

const MINUTE: u64 = 60_000;
/// The default number of copies applies when nobody could tell for this time.
const GUESS_MS: u64 = 15 * MINUTE;

/// A colony with chunks of 2, 3, 4 and 32 copies, and for each chunk the number of its copies.
fn with_chunks(plan: Plan) -> (Scenario, BTreeMap<ChunkId, u8>) {
    let mut scenario = Scenario::settled(plan);
    let mut wanted = BTreeMap::new();
    for copies in [2, 3, 4, 32] {
        wanted.extend(scenario.put(20, copies).into_iter().map(|id| (id, copies)));
    }
    scenario.assert_nothing_moves_for(3 * MINUTE);
    (scenario, wanted)
}

/// The power of this board fails, and it returns without its catalogue.
fn lose_catalogue(scenario: &mut Scenario, index: usize) {
    scenario.world.reboot(index, 20_000);
    scenario.world.boards[index].disk.lose_catalogue();
}

/// The chunks on these boards of which they do not know how many copies they need.
fn bare_on(scenario: &Scenario, boards: &[usize], wanted: &BTreeMap<ChunkId, u8>) -> Vec<ChunkId> {
    let mut bare = Vec::new();
    for index in boards {
        for (id, copy) in scenario.world.boards[*index].disk.copies() {
            match (copy.known_copies(), wanted.get(id)) {
                (None, _) => bare.push(*id),
                (Some(known), Some(copies)) => assert_eq!(known, *copies, "chunk {}", id.short()),
                (Some(_), None) => {}
            }
        }
    }
    bare
}

fn copies_of(scenario: &Scenario, wanted: &BTreeMap<ChunkId, u8>) -> BTreeMap<ChunkId, usize> {
    let holders = scenario.world.holders();
    wanted.keys().map(|id| (*id, holders.get(id).map_or(0, Vec::len))).collect()
}

/// Chunks of 2 grew to 5 copies, and on full disks chunks of 32 shrank to 5. Method: one board after the other loses
/// its catalogue while all disks are full, and again while they have room.
#[test]
fn a_lost_catalogue_moves_and_removes_no_copy() {
    for (cells, disk_bytes) in [(8, 64 << 30), (12, 150 << 20)] {
        for_each_seed("a_lost_catalogue", &[cells], 3, |plan| {
            let (mut scenario, wanted) = with_chunks(Plan { disk_bytes, ..plan });
            if disk_bytes < 1 << 30 {
                scenario.fill_disks(2);
            }
            let before = copies_of(&scenario, &wanted);
            let boards = scenario.world.random_running(3);
            for index in &boards {
                lose_catalogue(&mut scenario, *index);
                assert_eq!(bare_on(&scenario, &[*index], &wanted).len(), scenario.world.boards[*index].disk.len());
                scenario.assert_nothing_moves_for(4 * MINUTE);
                assert_eq!(bare_on(&scenario, &boards, &wanted), [], "all is known again");
            }
            scenario.assert_nothing_moves_for(GUESS_MS + 10 * MINUTE);
            assert_eq!(copies_of(&scenario, &wanted), before);
        });
    }
}

/// Half of the others are of an earlier version and cannot tell. Each chunk of 3 or more has a holder that can.
#[test]
fn one_co_holder_that_can_tell_is_enough() {
    for_each_seed("one_co_holder", &[9], 4, |plan| {
        let mut scenario = Scenario::settled(plan);
        let boards = scenario.world.running();
        let (lost, old, new) = (boards[0], &boards[1..5], &boards[5..]);
        for index in old {
            scenario.world.boards[*index].is_old = true;
        }
        let mut wanted = BTreeMap::new();
        for n in 0..40 {
            let on = [lost, old[n % 4], new[n % 4]];
            wanted.extend(scenario.put_among(1, 3, &on).into_iter().map(|id| (id, 3)));
        }
        scenario.pass(3 * MINUTE);
        lose_catalogue(&mut scenario, lost);
        scenario.assert_nothing_moves_for(4 * MINUTE);
        assert_eq!(bare_on(&scenario, &[lost], &wanted), []);
        scenario.assert_nothing_moves_for(GUESS_MS + 10 * MINUTE);
    });
}

/// Whoever was away for long is no holder to the others, so that they would tell it nothing.
#[test]
fn a_cell_that_the_others_have_forgotten_is_told_too() {
    for_each_seed("a_cell_that_the_others_have", &[8], 4, |plan| {
        let mut scenario = Scenario::settled(plan);
        let away = scenario.world.running()[0];
        let others = scenario.world.running()[1..].to_vec();
        let mut wanted = BTreeMap::new();
        for n in 0..40 {
            let on = [away, others[n % others.len()]];
            wanted.extend(scenario.put_among(1, 2, &on).into_iter().map(|id| (id, 2)));
        }
        scenario.pass(3 * MINUTE);
        scenario.checker.deadlines_apply = false;
        scenario.world.reboot(away, 100 * MINUTE);
        scenario.world.boards[away].disk.lose_catalogue();
        scenario.pass(101 * MINUTE);
        assert_eq!(bare_on(&scenario, &[away], &wanted).len(), 40);
        scenario.assert_nothing_moves_for(GUESS_MS + 10 * MINUTE);
        assert_eq!(bare_on(&scenario, &[away], &wanted), []);
    });
}

/// Nobody knows any number: after a while the default applies, and no copy is removed.
#[test]
fn without_any_catalogue_five_copies_are_made_and_none_is_removed() {
    for_each_seed("without_any_catalogue", &[8], 3, |plan| {
        let (mut scenario, wanted) = with_chunks(Plan { disk_bytes: 200 << 20, ..plan });
        let before = copies_of(&scenario, &wanted);
        for index in scenario.world.running() {
            lose_catalogue(&mut scenario, index);
        }
        scenario.assert_nothing_moves_for(GUESS_MS);
        scenario.until(30 * MINUTE, "five copies of each", |scenario| {
            copies_of(scenario, &wanted).values().all(|copies| *copies >= 5)
        });
        scenario.fill_disks(2);
        scenario.pass(30 * MINUTE);
        let after = copies_of(&scenario, &wanted);
        assert!(after.iter().all(|(id, copies)| *copies >= before[id].max(5)), "{after:?}");
    });
}

/// Waiting for an answer must not cost the last copy. Method: of all holders but one nothing is left, and that one has
/// lost its catalogue.
#[test]
fn a_last_copy_whose_record_is_bare_gets_a_second_one() {
    for_each_seed("a_last_copy_whose_record_is_bare", &[10], 3, |plan| {
        let mut scenario = Scenario::settled(plan);
        let on = scenario.world.random_running(4);
        scenario.put_among(20, 4, &on);
        scenario.pass(3 * MINUTE);
        scenario.checker.deadlines_apply = false;
        lose_catalogue(&mut scenario, on[0]);
        for index in &on[1..] {
            scenario.destroy(*index);
        }
        let all_have = |scenario: &Scenario, copies| scenario.world.holders().values().all(|on| on.len() >= copies);
        scenario.until(5 * MINUTE, "two copies of each", |scenario| all_have(scenario, 2));
        scenario.assert_nothing_moves_for(8 * MINUTE);
        scenario.until(30 * MINUTE, "five copies of each", |scenario| all_have(scenario, 5));
        scenario.assert_nothing_moves_for(20 * MINUTE);
    });
}
