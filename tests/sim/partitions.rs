//! The network is partitioned and joined again.

use crate::scenario::{Scenario, for_each_seed};

const MINUTE: u64 = 60_000;

impl Scenario {
    /// Separates these boards from the others. Each side must make the copies that it lacks.
    fn partition(&mut self, separated: &[usize]) {
        let missing = self.checker.bytes_missing_among(&self.world, |index| !separated.contains(&index))
            + self.checker.bytes_missing_among(&self.world, |index| separated.contains(&index));
        self.checker.lost_bytes += missing;
        self.checker.deadlines_apply = false;
        for &index in separated {
            self.world.boards[index].partition = 1;
        }
    }

    fn join(&mut self) {
        self.world.boards.iter_mut().for_each(|board| board.partition = 0);
    }
}

#[test]
fn a_third_that_is_cut_off_and_returns_causes_no_transfers() {
    for_each_seed("a_third_that_is_cut_off", &[9, 12, 30], 4, |plan| {
        let mut scenario = Scenario::settled(plan);
        scenario.put(200, 5);
        let third = scenario.world.random_running(scenario.world.boards.len() / 3);
        scenario.partition(&third);
        scenario.pass(10 * MINUTE);
        scenario.checker.assert_moved_at_most_lost(&scenario.world);
        scenario.join();
        scenario.assert_nothing_moves_for(20 * MINUTE);
        assert!(scenario.checker.is_fully_replicated(&scenario.world));
        assert!(scenario.has_correct_roles());
    });
}

/// A switch fails for five minutes. Each half must copy only what it has one copy of, and a second outage must not delay
/// the healing of a death for longer than the first.
#[test]
fn a_switch_outage_moves_only_last_copies() {
    for_each_seed("a_switch_outage", &[12, 24], 4, |mut plan| {
        plan.settings.settled_ms = 2 * MINUTE;
        let mut scenario = Scenario::settled(plan);
        scenario.put(200, 5);
        scenario.pass(4 * MINUTE);
        scenario.assert_nothing_moves_for(MINUTE);
        let half = scenario.world.random_running(scenario.world.boards.len() / 2);
        let last_copies = scenario.checker.bytes_of_last_copies(&scenario.world, |index| half.contains(&index))
            + scenario.checker.bytes_of_last_copies(&scenario.world, |index| !half.contains(&index));
        scenario.partition(&half);
        scenario.pass(5 * MINUTE);
        assert!(scenario.world.moved.healed <= last_copies, "{} of {last_copies}", scenario.world.moved.healed);
        assert!(last_copies == 0 || scenario.world.moved.healed > 0, "a last copy does not wait");
        scenario.join();
        scenario.assert_nothing_moves_for(20 * MINUTE);
    });
}

#[test]
fn deaths_on_both_sides_of_a_partition_heal_when_it_ends() {
    for_each_seed("deaths_on_both_sides", &[12], 6, |plan| {
        let mut scenario = Scenario::settled(plan);
        scenario.put(100, 5);
        let half = scenario.world.random_running(6);
        scenario.partition(&half);
        scenario.pass(MINUTE);
        let other = scenario.world.running().into_iter().find(|index| !half.contains(index)).unwrap();
        for index in [half[0], other] {
            if scenario.can_spare(index, 1) {
                scenario.world.destroy(index);
            }
        }
        scenario.pass(5 * MINUTE);
        scenario.join();
        scenario.checker.deadlines_apply = true;
        scenario.until_fully_replicated();
        scenario.assert_nothing_moves_for(15 * MINUTE);
    });
}

#[test]
fn a_cell_on_a_bad_cable_moves_no_byte() {
    for_each_seed("a_cell_on_a_bad_cable", &[6, 12], 4, |plan| {
        let mut scenario = Scenario::settled(plan);
        scenario.put(100, 5);
        let one = scenario.world.random_running(1);
        for _ in 0..8 {
            let ms = scenario.world.rng.u64(3_000..70_000);
            scenario.partition(&one);
            scenario.assert_nothing_moves_for(ms);
            scenario.join();
            let ms = scenario.world.rng.u64(10_000..40_000);
            scenario.assert_nothing_moves_for(ms);
        }
        scenario.assert_nothing_moves_for(15 * MINUTE);
    });
}

/// A switch fails for an hour, and the disks have little room. After a quarter of an hour each half makes the copies that
/// it lacks, as far as they fit; afterwards there are too many, and some are removed.
#[test]
fn an_hour_long_split_with_little_room_loses_nothing() {
    for_each_seed("an_hour_long_split", &[8, 12], 3, |mut plan| {
        plan.settings.settled_ms = 2 * MINUTE;
        let cells = plan.cells;
        // On average 41 chunks of 0.63 MB for each cell; there is room for thirty more.
        plan.disk_bytes = 46 << 20;
        let mut scenario = Scenario::settled(plan);
        for copies in [2, 3, 4, 32_usize.min(cells) as u8] {
            scenario.put(41 * cells / (4 * usize::from(copies)), copies);
        }
        scenario.pass(5 * MINUTE);
        let half = scenario.world.random_running(cells / 2);
        let last_copies = scenario.checker.bytes_of_last_copies(&scenario.world, |index| half.contains(&index))
            + scenario.checker.bytes_of_last_copies(&scenario.world, |index| !half.contains(&index));
        let before = scenario.world.moved.healed;
        scenario.partition(&half);
        let missing = scenario.checker.lost_bytes;
        scenario.pass(12 * MINUTE);
        let healed = |scenario: &Scenario| {
            let refused: u64 = scenario.world.boards.iter().map(|board| board.refused_bytes).sum();
            scenario.world.moved.healed - before - refused
        };
        let at_brake = healed(&scenario);
        assert!(at_brake <= last_copies, "{at_brake} of {last_copies}");
        scenario.pass(48 * MINUTE);
        assert!(healed(&scenario) <= missing, "{} of {missing}: {:?}", healed(&scenario), scenario.world.moved);
        let mut disks = scenario.world.boards.iter().map(|board| board.disk.stats());
        assert!(healed(&scenario) > at_brake || disks.all(|disk| disk.full), "after a while it does not wait any more");
        scenario.join();
        scenario.pass(10 * MINUTE);
        assert!(scenario.checker.is_fully_replicated(&scenario.world));
        scenario.assert_nothing_moves_for(60 * MINUTE);
        assert!(scenario.checker.is_fully_replicated(&scenario.world));
    });
}
