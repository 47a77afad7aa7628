//! The network is cut in parts, and comes together again.

use crate::scene::{Scene, each};

const MINUTE: u64 = 60_000;

impl Scene {
    /// Cuts these boards off. Each side has to make the copies that it lacks.
    fn cut(&mut self, off: &[usize]) {
        let owed = self.judge.bytes_to_make(&self.world, |index| !off.contains(&index))
            + self.judge.bytes_to_make(&self.world, |index| off.contains(&index));
        self.judge.owed_bytes += owed;
        self.judge.impatient = false;
        for &index in off {
            self.world.hosts[index].side = 1;
        }
    }

    fn join(&mut self) {
        self.world.hosts.iter_mut().for_each(|host| host.side = 0);
    }
}

#[test]
fn a_third_that_is_cut_off_and_comes_back_brings_no_storm_and_loses_nothing() {
    each("a_third_that_is_cut_off", &[9, 12, 30], 4, |plan| {
        let mut scene = Scene::settled(plan);
        scene.store(200, 5);
        let third = scene.world.some_up(scene.world.hosts.len() / 3);
        scene.cut(&third);
        scene.pass(10 * MINUTE);
        scene.judge.moved_no_more_than_was_lost(&scene.world);
        scene.join();
        scene.nothing_moves_for(20 * MINUTE);
        assert!(scene.judge.is_whole(&scene.world));
        assert!(scene.roles_are_right());
    });
}

#[test]
fn deaths_on_both_sides_of_a_cut_are_healed_when_it_ends() {
    each("deaths_on_both_sides", &[12], 6, |plan| {
        let mut scene = Scene::settled(plan);
        scene.store(100, 5);
        let half = scene.world.some_up(6);
        scene.cut(&half);
        scene.pass(MINUTE);
        let there = scene.world.up().into_iter().find(|index| !half.contains(index)).unwrap();
        for index in [half[0], there] {
            if scene.can_spare(index, 1) {
                scene.world.kill(index);
            }
        }
        scene.pass(5 * MINUTE);
        scene.join();
        scene.judge.impatient = true;
        scene.until_whole();
        scene.nothing_moves_for(15 * MINUTE);
    });
}

#[test]
fn a_cell_on_a_bad_cable_moves_nothing() {
    each("a_cell_on_a_bad_cable", &[6, 12], 4, |plan| {
        let mut scene = Scene::settled(plan);
        scene.store(100, 5);
        let one = scene.world.some_up(1);
        for _ in 0..8 {
            let ms = scene.world.rng.u64(3_000..70_000);
            scene.cut(&one);
            scene.nothing_moves_for(ms);
            scene.join();
            let ms = scene.world.rng.u64(10_000..40_000);
            scene.nothing_moves_for(ms);
        }
        scene.nothing_moves_for(15 * MINUTE);
    });
}
