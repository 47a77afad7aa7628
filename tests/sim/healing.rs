//! Lost copies are restored, and nothing is moved without need.

use crate::network::Link;
use crate::scenario::{Scenario, for_each_seed};
use crate::world::Plan;

const MINUTE: u64 = 60_000;

#[test]
fn after_two_deaths_exactly_the_lost_copies_are_restored() {
    for_each_seed("after_two_deaths", &[7, 12, 30], 4, |plan| {
        let mut scenario = Scenario::settled(plan);
        scenario.put(200, 5);
        scenario.assert_nothing_moves_for(MINUTE);
        for index in scenario.world.random_running(2) {
            scenario.destroy(index);
        }
        scenario.until_fully_replicated();
        scenario.assert_nothing_moves_for(15 * MINUTE);
        scenario.checker.assert_moved_at_most_lost(&scenario.world);
    });
}

#[test]
fn the_last_copy_gets_a_second_one_at_once() {
    for_each_seed("the_last_copy", &[12, 80], 4, |plan| {
        let mut scenario = Scenario::settled(plan);
        let on = scenario.world.random_running(5);
        scenario.put_among(10, 5, &on);
        for index in &on[..4] {
            scenario.destroy(*index);
        }
        let fewest = |scenario: &Scenario| scenario.world.holders().values().map(Vec::len).min();
        scenario.until(20_000, "two copies of each", |scenario| fewest(scenario) >= Some(2));
        scenario.until_fully_replicated();
        scenario.assert_nothing_moves_for(5 * MINUTE);
        scenario.checker.assert_moved_at_most_lost(&scenario.world);
    });
}

#[test]
fn a_reboot_moves_no_byte() {
    for_each_seed("a_reboot", &[6, 12, 40], 3, |plan| {
        let mut scenario = Scenario::settled(plan);
        scenario.put(200, 5);
        for index in scenario.world.random_running(5) {
            scenario.world.reboot(index, 40_000);
            scenario.assert_nothing_moves_for(3 * MINUTE);
        }
        scenario.assert_nothing_moves_for(15 * MINUTE);
    });
}

/// As after a power cut in the whole building.
#[test]
fn a_reboot_of_all_boards_moves_no_byte() {
    for_each_seed("a_reboot_of_all_boards", &[6, 12, 40], 3, |plan| {
        let mut scenario = Scenario::settled(plan);
        scenario.put(200, 5);
        scenario.pass(MINUTE);
        for index in scenario.world.running() {
            let down_ms = scenario.world.rng.u64(20_000..60_000);
            scenario.world.reboot(index, down_ms);
        }
        scenario.assert_nothing_moves_for(20 * MINUTE);
        assert!(scenario.has_correct_roles());
    });
}

#[test]
fn a_cell_that_answers_probes_is_not_dead() {
    for_each_seed("a_cell_that_answers_probes", &[6, 12], 3, |plan| {
        let mut scenario = Scenario::settled(plan);
        scenario.put(100, 5);
        let silent = scenario.world.random_running(1)[0];
        scenario.world.boards[silent].broadcasts_dropped = true;
        scenario.assert_nothing_moves_for(20 * MINUTE);
        scenario.world.boards[silent].broadcasts_dropped = false;
        scenario.assert_nothing_moves_for(5 * MINUTE);
    });
}

#[test]
fn chunks_put_on_too_few_cells_get_their_copies_when_cells_join() {
    for_each_seed("chunks_put_on_too_few", &[1, 2, 3, 4], 3, |plan| {
        let mut scenario = Scenario::settled(plan);
        scenario.put(50, 5);
        scenario.assert_nothing_moves_for(5 * MINUTE);
        while scenario.world.boards.len() < 7 {
            let before = scenario.checker.bytes_without(&scenario.world, &[]);
            scenario.world.add(0);
            scenario.world.step();
            scenario.checker.lost_bytes += scenario.checker.bytes_without(&scenario.world, &[]) - before;
            scenario.until_fully_replicated();
            scenario.assert_nothing_moves_for(MINUTE);
        }
        scenario.assert_nothing_moves_for(15 * MINUTE);
        scenario.checker.assert_moved_at_most_lost(&scenario.world);
    });
}

#[test]
fn a_colony_with_fewer_cells_than_copies_heals_up_to_its_size() {
    for_each_seed("a_colony_with_fewer_cells", &[6, 8], 3, |plan| {
        let mut scenario = Scenario::settled(plan);
        scenario.put(60, 5);
        while scenario.world.running().len() > 3 {
            let index = scenario.world.random_running(1)[0];
            scenario.destroy(index);
            scenario.until_fully_replicated();
        }
        scenario.assert_nothing_moves_for(15 * MINUTE);
        scenario.checker.assert_moved_at_most_lost(&scenario.world);
    });
}

#[test]
fn on_a_poor_network_all_chunks_heal_too() {
    for_each_seed("on_a_poor_network", &[9, 20], 4, |plan| {
        let mut scenario = Scenario::settled(Plan { link: Link::WIFI, ..plan });
        scenario.put(100, 5);
        scenario.assert_nothing_moves_for(MINUTE);
        for index in scenario.world.random_running(2) {
            scenario.destroy(index);
        }
        scenario.until_fully_replicated();
        scenario.pass(15 * MINUTE);
        // When the response to a copy is lost, one more copy is sent to another cell.
        let (moved, lost) = (scenario.world.moved.healed, scenario.checker.lost_bytes);
        assert!(moved * 4 <= lost * 5, "{moved} bytes were sent to heal, and {lost} were lost");
    });
}

/// A power supply that fails again and again. Each time, the chunks on that board have one copy less for a while.
#[test]
fn a_board_that_reboots_without_end_does_not_delay_healing() {
    for_each_seed("a_board_that_reboots", &[8, 12], 3, |plan| {
        let mut scenario = Scenario::settled(plan);
        scenario.put(100, 5);
        let [dead, rebooting] = scenario.world.random_running(2)[..] else { unreachable!() };
        scenario.destroy(dead);
        for _ in 0..12 {
            scenario.pass(75_000);
            scenario.world.reboot(rebooting, 25_000);
            scenario.pass(25_000);
        }
        assert!(scenario.checker.is_fully_replicated(&scenario.world));
        // A chunk can be healed just while the rebooting board, which holds it too, is down.
        let (moved, lost) = (scenario.world.moved.healed, scenario.checker.lost_bytes);
        assert!(moved * 4 <= lost * 5, "{moved} bytes were sent to heal, and {lost} were lost");
    });
}

#[test]
fn the_first_in_rank_may_die_while_it_heals() {
    for_each_seed("the_first_in_rank", &[12, 20], 4, |plan| {
        let mut scenario = Scenario::settled(plan);
        scenario.put(200, 5);
        let first = scenario.world.random_running(1)[0];
        scenario.destroy(first);
        scenario.until(300_000, "healing has started", |scenario| scenario.world.moved.healed > 0);
        for _ in 0..3 {
            let next = scenario.world.random_running(1)[0];
            scenario.destroy(next);
            scenario.pass(5_000);
        }
        scenario.until_fully_replicated();
        scenario.assert_nothing_moves_for(15 * MINUTE);
        scenario.checker.assert_moved_at_most_lost(&scenario.world);
    });
}
