//! Churn: boards are destroyed, replaced and rebooted without end.

use crate::network::Link;
use crate::scenario::{Scenario, env_number, for_each_seed};
use crate::world::Plan;

const MINUTE: u64 = 60_000;

/// One random event: a board is destroyed and a new one added, or a board reboots, or a chunk is put.
///
/// No board reboots while a chunk on it lacks a copy, and none is destroyed while another holder of one of its chunks
/// reboots: then it would be right to make copies of chunks that are not lost.
fn random_event(scenario: &mut Scenario) {
    let index = scenario.world.random_running(1)[0];
    match scenario.world.rng.u8(0..10) {
        0..3 if scenario.can_spare(index, 2) => {
            scenario.destroy(index);
            scenario.world.add(1_000);
        }
        3..7 if scenario.can_spare(index, 4) => scenario.world.reboot(index, 40_000),
        _ => _ = scenario.put(1, 5),
    }
}

#[test]
fn nothing_is_lost_in_an_hour_of_deaths_and_reboots() {
    for_each_seed("nothing_is_lost_in_an_hour", &[10, 24], 4, |plan| {
        let mut scenario = Scenario::settled(plan);
        scenario.put(200, 5);
        for _ in 0..30 {
            random_event(&mut scenario);
            let ms = scenario.world.rng.u64(0..4 * MINUTE);
            scenario.pass(ms);
        }
        scenario.until_fully_replicated();
        // A second cell may still be healing the same chunk.
        scenario.pass(MINUTE);
        scenario.assert_nothing_moves_for(15 * MINUTE);
        scenario.checker.assert_moved_at_most_lost(&scenario.world);
    });
}

#[test]
fn nothing_is_lost_in_churn_on_a_poor_network() {
    for_each_seed("nothing_is_lost_in_churn", &[12], 4, |plan| {
        let mut scenario = Scenario::settled(Plan { link: Link::WIFI, ..plan });
        scenario.put(100, 5);
        for _ in 0..20 {
            random_event(&mut scenario);
            let ms = scenario.world.rng.u64(0..4 * MINUTE);
            scenario.pass(ms);
        }
        scenario.until_fully_replicated();
    });
}

/// Runs a colony in churn for this time, with a pause between two events, until all chunks are healed.
fn churn(plan: Plan, minutes: u64, chunks: usize, pause_ms: u64) -> Scenario {
    let start = plan.start_within_ms;
    let mut scenario = Scenario::settled(plan);
    scenario.put(chunks, 5);
    // The last minutes are for healing.
    let end = scenario.world.now.plus_ms((minutes * MINUTE).saturating_sub(4 * MINUTE + start));
    while scenario.world.now < end {
        random_event(&mut scenario);
        scenario.pass(pause_ms);
    }
    scenario.until_fully_replicated();
    scenario.checker.assert_moved_at_most_lost(&scenario.world);
    scenario
}

#[test]
fn a_thousand_cells_survive_ten_minutes_of_churn() {
    let minutes = env_number("MINUTES").unwrap_or(10);
    for_each_seed("a_thousand_cells", &[1000], 1, |plan| {
        let cells = plan.cells;
        let scenario = churn(Plan { threads: 2, quantum_ms: 1_000, ..plan }, minutes, cells * 4, 10_000);
        let lost = scenario.checker.lost_bytes;
        println!("{cells} cells, {minutes} minutes: {lost} bytes lost, moved {:?}", scenario.world.moved);
    });
}

#[test]
fn the_same_seed_gives_the_same_trace_on_any_number_of_threads() {
    for_each_seed("the_same_seed", &[24], 2, |plan| {
        let run =
            |threads, seed, link| churn(Plan { seed, link, threads, ..plan.clone() }, 12, 100, 20_000).world.trace();
        for link in [Link::WIRED, Link::WIFI] {
            let one = run(1, plan.seed, link);
            assert_eq!(one, run(1, plan.seed, link), "again");
            assert_eq!(one, run(2, plan.seed, link), "two threads");
            assert_eq!(one, run(5, plan.seed, link), "five threads");
            assert_ne!(one, run(1, plan.seed + 1000, link), "another seed");
        }
    });
}
