//! Disks whose reads fail: for a while, behind a loose cable, or for good.

use cellsync::cell::{CopyInput, Event, Input};

use crate::scenario::{Scenario, for_each_seed};
use crate::world::Causes;

const MINUTE: u64 = 60_000;
/// A failing disk is healthy again when it has had no error for ten minutes and 64 copies were read well.
const RECOVERY_MS: u64 = 13 * MINUTE;

/// A colony with chunks of 2, 3, 4 and 5 copies.
fn with_chunks(plan: crate::world::Plan, chunks: usize) -> Scenario {
    let mut scenario = Scenario::settled(plan);
    for copies in 2..=5 {
        scenario.put(chunks, copies);
    }
    scenario.assert_nothing_moves_for(3 * MINUTE);
    scenario.checker.deadlines_apply = false;
    scenario
}

fn set_reads_fail(scenario: &mut Scenario, boards: &[usize], fail: bool) {
    for index in boards {
        scenario.world.boards[*index].disk.reads_fail = fail;
    }
}

fn quarantined(scenario: &Scenario) -> u64 {
    scenario.world.boards.iter().map(|board| board.disk.quarantined).sum()
}

/// A cable is loose for 30 s. Audits meet it a few times, and each of these copies is read again a minute later. A
/// co-holder that asks meanwhile finds that copy missing, and replaces it if few others are left.
#[test]
fn a_few_reads_that_fail_move_at_most_the_copies_that_they_met() {
    for_each_seed("a_few_reads_that_fail", &[8], 4, |mut plan| {
        plan.settings.audit_rate = 64 << 10;
        let mut scenario = with_chunks(plan, 25);
        let boards = scenario.world.random_running(2);
        for _ in 0..3 {
            set_reads_fail(&mut scenario, &boards, true);
            scenario.pass(30_000);
            set_reads_fail(&mut scenario, &boards, false);
            scenario.pass(3 * MINUTE);
            scenario.assert_nothing_moves_for(20 * MINUTE);
        }
        let is_met = |event: &Event| matches!(event, Event::OwnCopyUnreadable(_));
        let met = scenario.world.events().filter(|(_, _, event)| is_met(event)).count() as u64;
        let moved = scenario.world.moved;
        assert!(met > 0 && moved.copies <= met / 2, "{met} copies were unreadable: {moved:?}");
        assert_eq!(moved.healed, moved.by_cause.unreadable, "{moved:?}");
        assert_eq!(quarantined(&scenario), 0);
        assert!(scenario.checker.is_fully_replicated(&scenario.world));
    });
}

/// All copies of two boards become unreadable during a scrub. The colony may copy what is on them, and no more; and it
/// loses none of these copies.
#[test]
fn a_loose_cable_during_a_scrub_loses_no_copy() {
    for_each_seed("a_loose_cable_during_a_scrub", &[8, 12], 3, |plan| {
        let mut scenario = with_chunks(plan, 30);
        let boards = scenario.world.random_running(2);
        let stored: Vec<usize> = boards.iter().map(|index| scenario.world.boards[*index].disk.len()).collect();
        let bytes = |index: &usize| -> u64 {
            scenario.world.boards[*index].disk.copies().map(|(_, copy)| u64::from(copy.len)).sum()
        };
        let bytes: u64 = boards.iter().map(bytes).sum();
        scenario.world.input_all(&Input::Copy(CopyInput::Scrub));
        set_reads_fail(&mut scenario, &boards, true);
        scenario.pass(2 * MINUTE);
        assert!(boards.iter().all(|index| scenario.world.boards[*index].is_failing()));
        set_reads_fail(&mut scenario, &boards, false);
        scenario.pass(RECOVERY_MS);
        assert!(!boards.iter().any(|index| scenario.world.boards[*index].is_failing()));
        let now: Vec<usize> = boards.iter().map(|index| scenario.world.boards[*index].disk.len()).collect();
        assert_eq!((quarantined(&scenario), now), (0, stored));
        let (healed, causes) = (scenario.world.moved.healed, scenario.world.moved.by_cause);
        // Two cells may begin to replace the same copy at once.
        assert!(healed * 4 <= bytes * 5, "{healed} of {bytes} bytes: {causes:?}");
        let Causes { none, unreadable, .. } = causes;
        assert_eq!(causes, Causes { none, unreadable, ..Causes::default() });
        scenario.checker.deadlines_apply = true;
        scenario.until_fully_replicated();
        scenario.assert_nothing_moves_for(30 * MINUTE);
    });
}

/// A disk cannot be read any more, and answers all else: the cell lives, and takes part.
#[test]
fn what_is_on_a_disk_that_stays_unreadable_is_copied() {
    for_each_seed("what_is_on_a_disk", &[8], 3, |plan| {
        let mut scenario = with_chunks(plan, 20);
        let broken = scenario.world.random_running(1);
        let bytes = scenario.checker.bytes_without(&scenario.world, &broken);
        scenario.world.input_all(&Input::Copy(CopyInput::Scrub));
        set_reads_fail(&mut scenario, &broken, true);
        let is_done = |scenario: &Scenario| scenario.checker.bytes_without(&scenario.world, &broken) == 0;
        scenario.until(3 * 60 * MINUTE, "all copies are on other boards", is_done);
        let moved = scenario.world.moved;
        assert!(moved.healed <= bytes + bytes / 10, "{} of {bytes}: {moved:?}", moved.healed);
        scenario.assert_nothing_moves_for(60 * MINUTE);
    });
}
