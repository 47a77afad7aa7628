//! Cells that answer after many seconds, or too late.

use crate::scenario::{Scenario, for_each_seed};

const MINUTE: u64 = 60_000;

/// A colony with chunks of 2, 3, 4 and 32 copies, in which three cells answer after up to this time.
fn with_slow_cells(plan: crate::world::Plan, answer_ms: u64) -> (Scenario, Vec<usize>) {
    let mut scenario = Scenario::settled(plan);
    for copies in [2, 3, 4, 32] {
        scenario.put(20, copies);
    }
    let slow = scenario.world.random_running(3);
    for index in &slow {
        scenario.world.boards[*index].answer_ms = answer_ms;
    }
    (scenario, slow)
}

/// Requests have a timeout of 15 s, so that a quarter or three quarters of them fail. A cell of which none succeeds for an
/// hour does not count any more.
#[test]
fn slow_cells_are_not_taken_for_empty_ones() {
    for (answer_ms, minutes) in [(20_000, 150), (60_000, 55)] {
        for_each_seed("slow_cells_are_not", &[9], 2, |plan| {
            let (mut scenario, _) = with_slow_cells(plan, answer_ms);
            scenario.assert_nothing_moves_for(minutes * MINUTE);
        });
    }
}

/// A copy that is stored counts as failed if the answer comes too late, and is sent to another cell too.
#[test]
fn slow_cells_do_not_stop_healing() {
    for_each_seed("slow_cells_do_not", &[10], 4, |plan| {
        let (mut scenario, slow) = with_slow_cells(plan, 40_000);
        scenario.checker.deadlines_apply = false;
        scenario.pass(2 * MINUTE);
        let mut fast = scenario.world.running();
        fast.retain(|index| !slow.contains(index));
        scenario.destroy(fast[0]);
        let is_done = |scenario: &Scenario| scenario.checker.is_fully_replicated(&scenario.world);
        scenario.until(40 * MINUTE, "every chunk is fully replicated", is_done);
        let (moved, lost) = (scenario.world.moved.healed, scenario.checker.lost_bytes);
        scenario.pass(30 * MINUTE);
        assert!(moved <= 2 * lost, "{moved} bytes were sent to heal, and {lost} were lost");
        for index in &slow {
            scenario.world.boards[*index].answer_ms = 0;
        }
        scenario.pass(20 * MINUTE);
        scenario.assert_nothing_moves_for(30 * MINUTE);
    });
}
