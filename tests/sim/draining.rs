//! A cell hands all it has on, and can be unplugged.

use crate::scene::{Scene, each};

const MINUTE: u64 = 60_000;

fn is_safe(scene: &Scene, index: usize) -> bool {
    scene.life(index).drain.is_some_and(|drain| drain.safe)
}

#[test]
fn when_a_drained_cell_says_so_all_is_elsewhere_and_unplugging_it_moves_nothing() {
    each("when_a_drained_cell", &[6, 12, 30], 4, |plan| {
        let mut scene = Scene::settled(plan);
        scene.store(200, 5);
        let one = scene.world.some_up(1)[0];
        scene.judge.owed_bytes += scene.judge.bytes_without(&scene.world, &[one]);
        scene.drain(one, true);
        scene.until(10 * MINUTE, "it can be unplugged", |scene| is_safe(scene, one));
        assert!(scene.judge.is_whole(&scene.world));
        scene.judge.moved_no_more_than_was_lost(&scene.world);
        scene.kill(one);
        scene.nothing_moves_for(20 * MINUTE);
    });
}

#[test]
fn a_drain_outlives_a_reboot_and_can_be_undone() {
    each("a_drain_outlives", &[6, 12], 4, |plan| {
        let mut scene = Scene::settled(plan);
        scene.store(100, 5);
        let one = scene.world.some_up(1)[0];
        scene.drain(one, true);
        scene.pass(5_000);
        scene.world.reboot(one, 20_000);
        scene.pass(30_000);
        assert!(scene.life(one).drain.is_some());
        scene.until(10 * MINUTE, "it can be unplugged", |scene| is_safe(scene, one));
        scene.drain(one, false);
        scene.nothing_moves_for(20 * MINUTE);
        assert!(scene.life(one).drain.is_none());
    });
}

#[test]
fn a_cell_that_nobody_can_relieve_is_not_safe() {
    each("a_cell_that_nobody", &[5], 3, |plan| {
        let mut scene = Scene::settled(plan);
        scene.store(50, 5);
        let one = scene.world.some_up(1)[0];
        scene.drain(one, true);
        scene.nothing_moves_for(10 * MINUTE);
        let drain = scene.life(one).drain.unwrap();
        assert!(!drain.safe && drain.left == 50, "{drain:?}");
        scene.world.add(0);
        scene.until(10 * MINUTE, "it can be unplugged", |scene| is_safe(scene, one));
        assert!(scene.judge.is_whole(&scene.world));
    });
}
