//! Copies that are lost come back, and nothing is moved that need not be.

use crate::network::Link;
use crate::scene::{Scene, each};
use crate::world::Plan;

const MINUTE: u64 = 60_000;

#[test]
fn after_two_deaths_every_chunk_has_its_copies_again_and_only_those_were_moved() {
    each("after_two_deaths", &[7, 12, 30], 4, |plan| {
        let mut scene = Scene::settled(plan);
        scene.store(200, 5);
        scene.nothing_moves_for(MINUTE);
        for index in scene.world.some_up(2) {
            scene.kill(index);
        }
        scene.until_whole();
        scene.nothing_moves_for(15 * MINUTE);
        scene.judge.moved_no_more_than_was_lost(&scene.world);
    });
}

#[test]
fn the_last_copy_is_doubled_at_once() {
    each("the_last_copy", &[12, 80], 4, |plan| {
        let mut scene = Scene::settled(plan);
        let on = scene.world.some_up(5);
        scene.store_among(10, 5, &on);
        for index in &on[..4] {
            scene.kill(*index);
        }
        let holders = |scene: &Scene| scene.world.holders().values().map(Vec::len).min();
        scene.until(20_000, "two copies of each", |scene| holders(scene) >= Some(2));
        scene.until_whole();
        scene.nothing_moves_for(5 * MINUTE);
        scene.judge.moved_no_more_than_was_lost(&scene.world);
    });
}

#[test]
fn a_reboot_moves_nothing() {
    each("a_reboot", &[6, 12, 40], 3, |plan| {
        let mut scene = Scene::settled(plan);
        scene.store(200, 5);
        for index in scene.world.some_up(5) {
            scene.world.reboot(index, 40_000);
            scene.nothing_moves_for(3 * MINUTE);
        }
        scene.nothing_moves_for(15 * MINUTE);
    });
}

/// As after a power cut in the whole house.
#[test]
fn all_boards_rebooting_at_once_move_nothing() {
    each("all_boards_rebooting", &[6, 12, 40], 3, |plan| {
        let mut scene = Scene::settled(plan);
        scene.store(200, 5);
        scene.pass(MINUTE);
        for index in scene.world.up() {
            let down_ms = scene.world.rng.u64(20_000..60_000);
            scene.world.reboot(index, down_ms);
        }
        scene.nothing_moves_for(20 * MINUTE);
        assert!(scene.roles_are_right());
    });
}

#[test]
fn a_cell_whose_beacons_are_swallowed_but_that_answers_is_not_dead() {
    each("a_cell_whose_beacons", &[6, 12], 3, |plan| {
        let mut scene = Scene::settled(plan);
        scene.store(100, 5);
        let muted = scene.world.some_up(1)[0];
        scene.world.hosts[muted].muted = true;
        scene.nothing_moves_for(20 * MINUTE);
        scene.world.hosts[muted].muted = false;
        scene.nothing_moves_for(5 * MINUTE);
    });
}

#[test]
fn chunks_stored_on_too_few_cells_complete_when_cells_join() {
    each("chunks_stored_on_too_few", &[1, 2, 3, 4], 3, |plan| {
        let mut scene = Scene::settled(plan);
        scene.store(50, 5);
        scene.nothing_moves_for(5 * MINUTE);
        while scene.world.hosts.len() < 7 {
            let before = scene.judge.bytes_without(&scene.world, &[]);
            scene.world.add(0);
            scene.world.step();
            scene.judge.owed_bytes += scene.judge.bytes_without(&scene.world, &[]) - before;
            scene.until_whole();
            scene.nothing_moves_for(MINUTE);
        }
        scene.nothing_moves_for(15 * MINUTE);
        scene.judge.moved_no_more_than_was_lost(&scene.world);
    });
}

#[test]
fn a_colony_smaller_than_the_copies_heals_up_to_its_size() {
    each("a_colony_smaller", &[6, 8], 3, |plan| {
        let mut scene = Scene::settled(plan);
        scene.store(60, 5);
        while scene.world.up().len() > 3 {
            let index = scene.world.some_up(1)[0];
            scene.kill(index);
            scene.until_whole();
        }
        scene.nothing_moves_for(15 * MINUTE);
        scene.judge.moved_no_more_than_was_lost(&scene.world);
    });
}

#[test]
fn on_a_poor_network_all_heals_too() {
    each("on_a_poor_network", &[9, 20], 4, |plan| {
        let mut scene = Scene::settled(Plan { link: Link::WIFI, ..plan });
        scene.store(100, 5);
        scene.nothing_moves_for(MINUTE);
        for index in scene.world.some_up(2) {
            scene.kill(index);
        }
        scene.until_whole();
        scene.pass(15 * MINUTE);
        // Where the answer to a copy that arrived is lost, one more is sent to another cell.
        let (moved, owed) = (scene.world.moved.healed, scene.judge.owed_bytes);
        assert!(moved * 4 <= owed * 5, "{moved} bytes were moved, and {owed} were lost");
    });
}

/// A power supply that fails again and again: each time the chunks on that board have one copy less for a while.
#[test]
fn a_board_that_reboots_again_and_again_does_not_put_off_the_healing_of_another() {
    each("a_board_that_reboots_again", &[8, 12], 3, |plan| {
        let mut scene = Scene::settled(plan);
        scene.store(100, 5);
        let [dead, shaky] = scene.world.some_up(2)[..] else { unreachable!() };
        scene.kill(dead);
        for _ in 0..12 {
            scene.pass(75_000);
            scene.world.reboot(shaky, 25_000);
            scene.pass(25_000);
        }
        assert!(scene.judge.is_whole(&scene.world));
        // What it holds may be missed too, when its turn comes to be healed just while it is down.
        let (moved, owed) = (scene.world.moved.healed, scene.judge.owed_bytes);
        assert!(moved * 4 <= owed * 5, "{moved} bytes were moved, and {owed} were lost");
    });
}

#[test]
fn the_first_in_rank_may_die_while_it_heals() {
    each("the_first_in_rank", &[12, 20], 4, |plan| {
        let mut scene = Scene::settled(plan);
        scene.store(200, 5);
        let first = scene.world.some_up(1)[0];
        scene.kill(first);
        scene.until(300_000, "healing has begun", |scene| scene.world.moved.healed > 0);
        for _ in 0..3 {
            let next = scene.world.some_up(1)[0];
            scene.kill(next);
            scene.pass(5_000);
        }
        scene.until_whole();
        scene.nothing_moves_for(15 * MINUTE);
        scene.judge.moved_no_more_than_was_lost(&scene.world);
    });
}
