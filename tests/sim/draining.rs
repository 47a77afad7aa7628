//! Draining: a cell hands its chunks to others and can then be unplugged.

use crate::scenario::{Scenario, for_each_seed};

const MINUTE: u64 = 60_000;

fn is_safe(scenario: &Scenario, index: usize) -> bool {
    scenario.activity(index).drain.is_some_and(|drain| drain.safe)
}

#[test]
fn unplugging_a_drained_cell_moves_no_byte() {
    for_each_seed("unplugging_a_drained_cell", &[6, 12, 30], 4, |plan| {
        let mut scenario = Scenario::settled(plan);
        scenario.put(200, 5);
        let one = scenario.world.random_running(1)[0];
        scenario.checker.lost_bytes += scenario.checker.bytes_without(&scenario.world, &[one]);
        scenario.drain(one, true);
        scenario.until(10 * MINUTE, "it can be unplugged", |scenario| is_safe(scenario, one));
        assert!(scenario.checker.is_fully_replicated(&scenario.world));
        scenario.checker.assert_moved_at_most_lost(&scenario.world);
        scenario.destroy(one);
        scenario.assert_nothing_moves_for(20 * MINUTE);
    });
}

#[test]
fn a_drain_survives_a_reboot_and_can_be_cancelled() {
    for_each_seed("a_drain_survives", &[6, 12], 4, |plan| {
        let mut scenario = Scenario::settled(plan);
        scenario.put(100, 5);
        let one = scenario.world.random_running(1)[0];
        scenario.drain(one, true);
        scenario.pass(5_000);
        scenario.world.reboot(one, 20_000);
        scenario.pass(30_000);
        assert!(scenario.activity(one).drain.is_some());
        scenario.until(10 * MINUTE, "it can be unplugged", |scenario| is_safe(scenario, one));
        scenario.drain(one, false);
        scenario.assert_nothing_moves_for(20 * MINUTE);
        assert!(scenario.activity(one).drain.is_none());
    });
}

#[test]
fn a_cell_whose_chunks_fit_nowhere_is_not_safe_to_unplug() {
    for_each_seed("a_cell_whose_chunks_fit_nowhere", &[5], 3, |plan| {
        let mut scenario = Scenario::settled(plan);
        scenario.put(50, 5);
        let one = scenario.world.random_running(1)[0];
        scenario.drain(one, true);
        scenario.assert_nothing_moves_for(10 * MINUTE);
        let drain = scenario.activity(one).drain.unwrap();
        assert!(!drain.safe && drain.left == 50, "{drain:?}");
        scenario.world.add(0);
        scenario.until(10 * MINUTE, "it can be unplugged", |scenario| is_safe(scenario, one));
        assert!(scenario.checker.is_fully_replicated(&scenario.world));
    });
}
