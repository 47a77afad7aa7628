//! Roles are taken by need, with no vote, and stay.

use cellsync::cell::Event;
use cellsync::wire::beacon::Role;

use crate::network::Link;
use crate::scene::{Scene, each};
use crate::world::Plan;

fn roles_taken(scene: &Scene) -> usize {
    scene.world.events().filter(|(_, _, event)| matches!(event, Event::Role(_))).count()
}

#[test]
fn roles_settle_as_the_rule_says_and_stay() {
    each("roles_settle", &[3, 4, 8, 15, 16, 60], 2, |plan| {
        for link in [Link::WIRE, Link::WIFI] {
            let mut scene = Scene::settled(Plan { link, ..plan.clone() });
            assert!(scene.roles_are_right(), "{} guards", scene.world.with_role(Role::Guard).len());
            let taken = roles_taken(&scene);
            assert_eq!(taken, plan.cells, "each cell takes one role");
            scene.pass(600_000);
            assert_eq!(roles_taken(&scene), taken, "and keeps it");
        }
    });
}

#[test]
fn a_dead_guard_is_replaced() {
    each("a_dead_guard", &[5, 12, 40], 3, |plan| {
        let mut scene = Scene::settled(plan);
        for guard in scene.world.with_role(Role::Guard) {
            scene.kill(guard);
        }
        assert!(!scene.roles_are_right());
        let settling_ms = scene.settling_ms();
        scene.until(settling_ms + 10_000, "roles are right again", Scene::roles_are_right);
    });
}

#[test]
fn roles_follow_a_colony_that_shrinks_from_twelve_to_three_and_grows_again() {
    each("roles_follow", &[12], 3, |plan| {
        let mut scene = Scene::settled(plan);
        let settling_ms = scene.settling_ms();
        for index in scene.world.some_up(9) {
            scene.kill(index);
        }
        scene.until(settling_ms + 10_000, "three cells need no guard", Scene::roles_are_right);
        for _ in 0..9 {
            scene.world.add(0);
        }
        scene.until(settling_ms + 10_000, "twelve cells have their guard", Scene::roles_are_right);
    });
}
