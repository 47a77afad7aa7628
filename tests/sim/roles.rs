//! Roles follow from need, without a vote, and are stable.

use cellsync::cell::Event;
use cellsync::wire::beacon::Role;

use crate::network::Link;
use crate::scenario::{Scenario, for_each_seed};
use crate::world::Plan;

fn role_changes(scenario: &Scenario) -> usize {
    scenario.world.events().filter(|(_, _, event)| matches!(event, Event::Role(_))).count()
}

#[test]
fn each_cell_takes_one_role_and_keeps_it() {
    for_each_seed("each_cell_takes_one_role", &[3, 4, 8, 15, 16, 60], 2, |plan| {
        for link in [Link::WIRED, Link::WIFI] {
            let mut scenario = Scenario::settled(Plan { link, ..plan.clone() });
            assert!(scenario.has_correct_roles(), "{} guards", scenario.world.with_role(Role::Guard).len());
            assert_eq!(role_changes(&scenario), plan.cells);
            scenario.pass(600_000);
            assert_eq!(role_changes(&scenario), plan.cells);
        }
    });
}

#[test]
fn a_dead_guard_is_replaced() {
    for_each_seed("a_dead_guard", &[5, 12, 40], 3, |plan| {
        let mut scenario = Scenario::settled(plan);
        for guard in scenario.world.with_role(Role::Guard) {
            scenario.destroy(guard);
        }
        assert!(!scenario.has_correct_roles());
        let settling_ms = scenario.settling_ms();
        scenario.until(settling_ms + 10_000, "the roles are correct again", Scenario::has_correct_roles);
    });
}

#[test]
fn roles_follow_a_colony_that_shrinks_and_grows() {
    for_each_seed("roles_follow", &[12], 3, |plan| {
        let mut scenario = Scenario::settled(plan);
        let settling_ms = scenario.settling_ms();
        for index in scenario.world.random_running(9) {
            scenario.destroy(index);
        }
        scenario.until(settling_ms + 10_000, "three cells have no guard", Scenario::has_correct_roles);
        for _ in 0..9 {
            scenario.world.add(0);
        }
        scenario.until(settling_ms + 10_000, "twelve cells have a guard", Scenario::has_correct_roles);
    });
}
