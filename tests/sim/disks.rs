//! Disks corrupt copies, and fill up.

use cellsync::cell::{CopyInput, Event, Input};
use cellsync::id::ChunkId;
use cellsync::wire::beacon::Role;

use crate::scenario::{Scenario, for_each_seed};
use crate::world::Plan;

const MINUTE: u64 = 60_000;

/// Corrupted copies: the board and the chunk of each.
type Corrupted = Vec<(usize, ChunkId)>;

/// Corrupts one copy each of up to `count` chunks, spread over these boards. Returns the copies and their bytes.
fn corrupt(scenario: &mut Scenario, chunks: &[ChunkId], count: usize, among: &[usize]) -> (Corrupted, u64) {
    let holders = scenario.world.holders();
    let chosen = scenario.world.rng.choose_multiple(chunks.iter().copied(), count);
    let most_per_board = count.div_ceil(among.len());
    let mut bytes = 0;
    let mut corrupted = Corrupted::new();
    for chunk in chosen {
        let on_board = |index| corrupted.iter().filter(|(at, _)| *at == index).count();
        let is_suitable = |&&index: &&usize| among.contains(&index) && on_board(index) < most_per_board;
        let Some(&index) = holders[&chunk].iter().find(is_suitable) else { continue };
        let disk = &mut scenario.world.boards[index].disk;
        bytes += u64::from(disk.get(&chunk).unwrap().len);
        disk.corrupt(&chunk);
        corrupted.push((index, chunk));
    }
    scenario.checker.deadlines_apply = false;
    (corrupted, bytes)
}

/// Is each of these copies in quarantine, and replaced by a good one?
fn are_replaced(scenario: &Scenario, corrupted: &Corrupted) -> bool {
    let quarantined: u64 = scenario.world.boards.iter().map(|board| board.disk.quarantined).sum();
    let is_good = |(index, chunk): &(usize, ChunkId)| {
        let copy = scenario.world.boards[*index].disk.get(chunk);
        copy.is_some_and(|copy| copy.good)
    };
    quarantined == corrupted.len() as u64 && corrupted.iter().all(is_good)
}

#[test]
fn a_full_scrub_finds_all_bad_copies_and_they_are_refetched() {
    for_each_seed("a_full_scrub_finds", &[6, 12], 4, |plan| {
        let mut scenario = Scenario::settled(plan);
        let chunks = scenario.put(100, 5);
        let all = scenario.world.running();
        let (corrupted, bytes) = corrupt(&mut scenario, &chunks, 20, &all);
        scenario.world.input_all(&Input::Copy(CopyInput::Scrub));
        scenario.until(5 * MINUTE, "all are replaced", |scenario| are_replaced(scenario, &corrupted));
        assert!(scenario.checker.is_fully_replicated(&scenario.world));
        let moved = scenario.world.moved;
        assert_eq!((moved.healed, moved.refetched), (0, bytes));
    });
}

#[test]
fn audits_find_bad_copies_and_their_holders_refetch_them() {
    for_each_seed("audits_find_bad_copies", &[6, 12], 4, |plan| {
        let mut scenario = Scenario::settled(plan);
        let chunks = scenario.put(20, 5);
        let storage = scenario.world.with_role(Role::Storage);
        let (corrupted, bytes) = corrupt(&mut scenario, &chunks, 4, &storage);
        scenario.until(60 * MINUTE, "all are replaced", |scenario| are_replaced(scenario, &corrupted));
        let moved = scenario.world.moved;
        assert_eq!((moved.healed, moved.refetched), (0, bytes));
        let isolated = scenario.world.events().filter(|(_, _, event)| matches!(event, Event::Isolated(_))).count();
        assert_eq!(isolated, 0, "a few bad copies on one disk are no reason");
    });
}

#[test]
fn the_periodic_scrub_checks_all_copies_within_its_period() {
    for_each_seed("the_periodic_scrub", &[4], 3, |mut plan| {
        plan.settings.scrub_period_ms = 30 * MINUTE;
        plan.settings.audit_rate = 0;
        let mut scenario = Scenario::settled(plan);
        let chunks = scenario.put(100, 3);
        let all = scenario.world.running();
        let (corrupted, _) = corrupt(&mut scenario, &chunks, 20, &all);
        scenario.until(35 * MINUTE, "all are replaced", |scenario| are_replaced(scenario, &corrupted));
    });
}

/// A cell returns after its chunks were healed, so each of them has an extra copy.
fn with_extra_copies(plan: Plan) -> (Scenario, Vec<ChunkId>) {
    let mut scenario = Scenario::settled(plan);
    let chunks = scenario.put(100, 5);
    let away = scenario.world.random_running(1)[0];
    scenario.checker.lost_bytes += scenario.checker.bytes_without(&scenario.world, &[away]);
    scenario.checker.deadlines_apply = false;
    scenario.world.reboot(away, 10 * MINUTE);
    scenario.pass(12 * MINUTE);
    scenario.checker.assert_moved_at_most_lost(&scenario.world);
    scenario.checker.deadlines_apply = true;
    (scenario, chunks)
}

/// The number of copies of each chunk.
fn copies_of(scenario: &Scenario, chunks: &[ChunkId]) -> Vec<usize> {
    let holders = scenario.world.holders();
    chunks.iter().map(|chunk| holders[chunk].len()).collect()
}

#[test]
fn extra_copies_stay_while_there_is_space() {
    for_each_seed("extra_copies_stay", &[8, 12], 3, |plan| {
        let (mut scenario, chunks) = with_extra_copies(plan);
        let before = copies_of(&scenario, &chunks);
        assert!(before.iter().filter(|&&copies| copies == 6).count() > 20, "{before:?}");
        scenario.assert_nothing_moves_for(30 * MINUTE);
        assert_eq!(copies_of(&scenario, &chunks), before);
    });
}

#[test]
fn extra_copies_are_removed_for_space_and_never_the_fifth() {
    for_each_seed("extra_copies_are_removed", &[8, 12], 3, |plan| {
        let (mut scenario, chunks) = with_extra_copies(Plan { disk_bytes: 90 << 20, ..plan });
        scenario.fill_disks(1);
        let before: usize = copies_of(&scenario, &chunks).iter().sum();
        scenario.assert_nothing_moves_for(30 * MINUTE);
        let after = copies_of(&scenario, &chunks);
        assert!(after.iter().all(|&copies| copies >= 5), "{after:?}");
        assert!(after.iter().sum::<usize>() < before, "some were removed");
    });
}

#[test]
fn full_cells_do_not_stop_healing() {
    for_each_seed("full_cells", &[12], 4, |plan| {
        let mut scenario = Scenario::settled(Plan { disk_bytes: 200 << 20, ..plan });
        let full = scenario.world.random_running(3);
        while full.iter().any(|&index| !scenario.world.boards[index].disk.stats().full) {
            scenario.put_among(1, 3, &full);
        }
        let others: Vec<usize> = scenario.world.running().into_iter().filter(|index| !full.contains(index)).collect();
        scenario.put_among(100, 5, &others);
        let victim = scenario.world.running().into_iter().find(|index| !full.contains(index)).unwrap();
        scenario.destroy(victim);
        scenario.until_fully_replicated();
        scenario.assert_nothing_moves_for(15 * MINUTE);
        scenario.checker.assert_moved_at_most_lost(&scenario.world);
    });
}
