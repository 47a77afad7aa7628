//! Cells that change their minds: they drain and cancel it, leave and return, reboot with another time, or their disks
//! fail and recover.

use cellsync::cell::Input;

use crate::scenario::{Scenario, for_each_seed};

const MINUTE: u64 = 60_000;

/// One random change of one cell. At most one cell is away at a time.
fn change(scenario: &mut Scenario) {
    let index = scenario.world.random_running(1)[0];
    match scenario.world.rng.u8(0..6) {
        0 | 1 => {
            let on = !scenario.world.boards[index].disk.state.draining;
            scenario.drain(index, on);
        }
        2 => {
            let on = !scenario.world.boards[index].disk.reads_fail;
            scenario.world.boards[index].disk.reads_fail = on;
        }
        3 if scenario.world.running().len() == scenario.world.boards.len() => {
            scenario.world.input(index, Input::Shutdown);
            scenario.world.step();
            let down_ms = scenario.world.rng.u64(1_000..60_000);
            scenario.world.reboot(index, down_ms);
        }
        _ if scenario.world.running().len() == scenario.world.boards.len() => {
            let down_ms = scenario.world.rng.u64(1_000..60_000);
            scenario.world.reboot(index, down_ms);
        }
        _ => {}
    }
}

#[test]
fn nothing_is_lost_while_cells_change_their_minds() {
    for_each_seed("nothing_is_lost_while_cells_change", &[8, 12], 3, |plan| {
        let mut scenario = Scenario::settled(plan);
        for copies in [2, 3, 4, 32] {
            scenario.put(20, copies);
        }
        scenario.pass(3 * MINUTE);
        scenario.checker.deadlines_apply = false;
        for _ in 0..120 {
            change(&mut scenario);
            let ms = scenario.world.rng.u64(1_000..90_000);
            scenario.pass(ms);
        }
        for index in 0..scenario.world.boards.len() {
            scenario.world.boards[index].disk.reads_fail = false;
        }
        scenario.pass(MINUTE);
        for index in scenario.world.running() {
            if scenario.world.boards[index].disk.state.draining {
                scenario.drain(index, false);
            }
        }
        scenario.pass(30 * MINUTE);
        assert!(scenario.checker.is_fully_replicated(&scenario.world));
        scenario.assert_nothing_moves_for(30 * MINUTE);
        let causes = scenario.world.moved.by_cause;
        assert_eq!(causes.lost, 0, "{causes:?}");
    });
}

/// Announcements that a cell leaves, and beacons that it drains, each for some seconds.
#[test]
fn a_cell_that_leaves_and_returns_moves_no_byte() {
    for_each_seed("a_cell_that_leaves_and_returns", &[6, 12], 3, |plan| {
        let mut scenario = Scenario::settled(plan);
        for copies in [2, 3, 4, 32] {
            scenario.put(20, copies);
        }
        scenario.assert_nothing_moves_for(3 * MINUTE);
        let index = scenario.world.random_running(1)[0];
        for _ in 0..10 {
            scenario.world.input(index, Input::Shutdown);
            scenario.world.step();
            let down_ms = scenario.world.rng.u64(500..60_000);
            scenario.world.reboot(index, down_ms);
            let ms = scenario.world.rng.u64(60_000..4 * MINUTE);
            scenario.assert_nothing_moves_for(ms);
        }
        scenario.assert_nothing_moves_for(15 * MINUTE);
    });
}

/// Boards without a clock start in 1970, and later at the time that the network tells them. Method: the numbers of their
/// starts, which contain the time, are random.
#[test]
fn a_clock_that_jumps_moves_no_byte() {
    for_each_seed("a_clock_that_jumps", &[6, 12], 3, |plan| {
        let mut scenario = Scenario::settled(plan);
        for copies in [2, 3, 4, 32] {
            scenario.put(20, copies);
        }
        scenario.world.boards.iter_mut().for_each(|board| board.has_no_clock = true);
        scenario.assert_nothing_moves_for(3 * MINUTE);
        for _ in 0..3 {
            for index in scenario.world.random_running(2) {
                let down_ms = scenario.world.rng.u64(2_000..50_000);
                scenario.world.reboot(index, down_ms);
                scenario.assert_nothing_moves_for(4 * MINUTE);
            }
        }
        for index in scenario.world.running() {
            let down_ms = scenario.world.rng.u64(20_000..60_000);
            scenario.world.reboot(index, down_ms);
        }
        scenario.assert_nothing_moves_for(20 * MINUTE);
        let dead = scenario.world.random_running(1)[0];
        scenario.destroy(dead);
        scenario.until_fully_replicated();
        scenario.checker.assert_moved_at_most_lost(&scenario.world);
    });
}
