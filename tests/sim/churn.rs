//! Cells come, go and reboot without end.

use crate::network::Link;
use crate::scene::{Scene, each, number};
use crate::world::Plan;

const MINUTE: u64 = 60_000;

/// One thing happens: a board dies for ever and a new one is bought, or a board reboots, or a chunk is stored. No board
/// reboots when a chunk on it lacks a copy already, and none dies while another with the same chunk reboots: then it
/// would be right to make copies of what is not lost.
fn something_happens(scene: &mut Scene) {
    let index = scene.world.some_up(1)[0];
    match scene.world.rng.u8(0..10) {
        0..3 if scene.can_spare(index, 2) => {
            scene.kill(index);
            scene.world.add(1_000);
        }
        3..7 if scene.can_spare(index, 4) => scene.world.reboot(index, 40_000),
        _ => _ = scene.store(1, 5),
    }
}

#[test]
fn boards_die_and_reboot_for_an_hour_and_nothing_is_lost() {
    each("boards_die_and_reboot", &[10, 24], 4, |plan| {
        let mut scene = Scene::settled(plan);
        scene.store(200, 5);
        for _ in 0..30 {
            something_happens(&mut scene);
            let ms = scene.world.rng.u64(0..4 * MINUTE);
            scene.pass(ms);
        }
        scene.until_whole();
        // A second healer may be at it just then.
        scene.pass(MINUTE);
        scene.nothing_moves_for(15 * MINUTE);
        scene.judge.moved_no_more_than_was_lost(&scene.world);
    });
}

#[test]
fn boards_die_and_reboot_on_a_poor_network_and_nothing_is_lost() {
    each("boards_die_and_reboot_on_a_poor_network", &[12], 4, |plan| {
        let mut scene = Scene::settled(Plan { link: Link::WIFI, ..plan });
        scene.store(100, 5);
        for _ in 0..20 {
            something_happens(&mut scene);
            let ms = scene.world.rng.u64(0..4 * MINUTE);
            scene.pass(ms);
        }
        scene.until_whole();
    });
}

/// A colony in churn, to its end; gives what all cells decided.
fn churn(plan: Plan, minutes: u64, chunks: usize, pause_ms: u64) -> Scene {
    let start = plan.start_within_ms;
    let mut scene = Scene::settled(plan);
    scene.store(chunks, 5);
    // The last minutes are for healing.
    let end = scene.world.now.plus_ms((minutes * MINUTE).saturating_sub(4 * MINUTE + start));
    while scene.world.now < end {
        something_happens(&mut scene);
        scene.pass(pause_ms);
    }
    scene.until_whole();
    scene.judge.moved_no_more_than_was_lost(&scene.world);
    scene
}

#[test]
fn a_thousand_cells_live_through_ten_minutes_of_churn() {
    let minutes = number("MINUTES").unwrap_or(10);
    each("a_thousand_cells", &[1000], 1, |plan| {
        let cells = plan.cells;
        let scene = churn(Plan { threads: 2, quantum_ms: 1_000, ..plan }, minutes, cells * 4, 10_000);
        let lost = scene.judge.owed_bytes;
        println!("{cells} cells, {minutes} minutes: {lost} bytes lost, moved {:?}", scene.world.moved);
    });
}

#[test]
fn the_same_seed_gives_the_same_trace_on_any_number_of_threads() {
    each("the_same_seed", &[24], 2, |plan| {
        let run =
            |threads, seed, link| churn(Plan { seed, link, threads, ..plan.clone() }, 12, 100, 20_000).world.trace();
        for link in [Link::WIRE, Link::WIFI] {
            let one = run(1, plan.seed, link);
            assert_eq!(one, run(1, plan.seed, link), "once more");
            assert_eq!(one, run(2, plan.seed, link), "two threads");
            assert_eq!(one, run(5, plan.seed, link), "five threads");
            assert_ne!(one, run(1, plan.seed + 1000, link), "another seed");
        }
    });
}
