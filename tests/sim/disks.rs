//! Disks rot, and fill up.

use cellsync::cell::{CopyInput, Event, Input};
use cellsync::id::ChunkId;
use cellsync::wire::beacon::Role;

use crate::scene::{Scene, each};
use crate::world::Plan;

const MINUTE: u64 = 60_000;

/// Flips a bit in so many copies on these boards, each of another chunk, and about as many on each disk. Gives where, and how many bytes they are.
fn rot(scene: &mut Scene, chunks: &[ChunkId], count: usize, among: &[usize]) -> (Vec<(usize, ChunkId)>, u64) {
    let holders = scene.world.holders();
    let chosen = scene.world.rng.choose_multiple(chunks.iter().copied(), count);
    let most = count.div_ceil(among.len());
    let mut bytes = 0;
    let mut rotten: Vec<(usize, ChunkId)> = Vec::new();
    for chunk in chosen {
        let few =
            |&&index: &&usize| among.contains(&index) && rotten.iter().filter(|(at, _)| *at == index).count() < most;
        let Some(&index) = holders[&chunk].iter().find(few) else { continue };
        let disk = &mut scene.world.hosts[index].disk;
        bytes += u64::from(disk.get(&chunk).unwrap().len);
        disk.rot(&chunk);
        rotten.push((index, chunk));
    }
    scene.judge.impatient = false;
    (rotten, bytes)
}

/// Each of these was set aside, and a whole copy is in its place.
fn are_mended(scene: &Scene, rotten: &[(usize, ChunkId)]) -> bool {
    let quarantined: u64 = scene.world.hosts.iter().map(|host| host.disk.quarantined).sum();
    let whole =
        |&(index, chunk): &(usize, ChunkId)| scene.world.hosts[index].disk.get(&chunk).is_some_and(|copy| copy.good);
    quarantined == rotten.len() as u64 && rotten.iter().all(whole)
}

#[test]
fn a_scrub_finds_every_rotten_copy_and_it_is_mended_from_another() {
    each("a_scrub_finds", &[6, 12], 4, |plan| {
        let mut scene = Scene::settled(plan);
        let chunks = scene.store(100, 5);
        let all = scene.world.up();
        let (rotten, bytes) = rot(&mut scene, &chunks, 20, &all);
        scene.world.give_all(&Input::Copy(CopyInput::Scrub));
        scene.until(5 * MINUTE, "all are mended", |scene| are_mended(scene, &rotten));
        assert!(scene.judge.is_whole(&scene.world));
        let moved = scene.world.moved;
        assert_eq!((moved.healed, moved.mended), (0, bytes));
    });
}

#[test]
fn guards_find_rotten_copies_and_their_owners_mend_them() {
    each("guards_find", &[6, 12], 4, |plan| {
        let mut scene = Scene::settled(plan);
        let chunks = scene.store(20, 5);
        // Nobody watches the only guard; its own copies it re-hashes itself.
        let storage = scene.world.with_role(Role::Storage);
        let (rotten, bytes) = rot(&mut scene, &chunks, 4, &storage);
        scene.until(60 * MINUTE, "all are mended", |scene| are_mended(scene, &rotten));
        let moved = scene.world.moved;
        assert_eq!((moved.healed, moved.mended), (0, bytes));
        let isolated = scene.world.events().filter(|(_, _, event)| matches!(event, Event::Isolated(_))).count();
        assert_eq!(isolated, 0, "two bad copies on one disk are no crime");
    });
}

#[test]
fn the_slow_scrub_gets_through_in_its_time() {
    each("the_slow_scrub", &[4], 3, |mut plan| {
        plan.settings.scrub_period_ms = 30 * MINUTE;
        plan.settings.audit_rate = 0;
        let mut scene = Scene::settled(plan);
        let chunks = scene.store(100, 3);
        let all = scene.world.up();
        let (rotten, _) = rot(&mut scene, &chunks, 20, &all);
        scene.until(35 * MINUTE, "all are mended", |scene| are_mended(scene, &rotten));
    });
}

/// A cell comes back when its chunks have been healed, so there is one copy too many of each.
fn with_extra_copies(plan: Plan) -> (Scene, Vec<ChunkId>) {
    let mut scene = Scene::settled(plan);
    let chunks = scene.store(100, 5);
    let away = scene.world.some_up(1)[0];
    scene.judge.owed_bytes += scene.judge.bytes_without(&scene.world, &[away]);
    scene.judge.impatient = false;
    scene.world.reboot(away, 10 * MINUTE);
    scene.pass(12 * MINUTE);
    scene.judge.moved_no_more_than_was_lost(&scene.world);
    scene.judge.impatient = true;
    (scene, chunks)
}

fn copies_of(scene: &Scene, chunks: &[ChunkId]) -> Vec<usize> {
    let holders = scene.world.holders();
    chunks.iter().map(|chunk| holders[chunk].len()).collect()
}

#[test]
fn extra_copies_stay_while_there_is_room() {
    each("extra_copies_stay", &[8, 12], 3, |plan| {
        let (mut scene, chunks) = with_extra_copies(plan);
        let before = copies_of(&scene, &chunks);
        assert!(before.iter().filter(|&&copies| copies == 6).count() > 20, "{before:?}");
        scene.nothing_moves_for(30 * MINUTE);
        assert_eq!(copies_of(&scene, &chunks), before);
    });
}

#[test]
fn extra_copies_make_room_when_it_is_short_and_never_the_fifth() {
    each("extra_copies_make_room", &[8, 12], 3, |plan| {
        let (mut scene, chunks) = with_extra_copies(Plan { room_bytes: 90 << 20, ..plan });
        // Everything else is filled to the brim.
        while scene.world.hosts.iter().any(|host| !host.disk.stats().full) {
            let room: Vec<usize> =
                scene.world.up().into_iter().filter(|&i| !scene.world.hosts[i].disk.stats().full).collect();
            scene.store_among(1, room.len().min(5) as u8, &room);
        }
        let before: usize = copies_of(&scene, &chunks).iter().sum();
        scene.nothing_moves_for(30 * MINUTE);
        let after = copies_of(&scene, &chunks);
        assert!(after.iter().all(|&copies| copies >= 5), "{after:?}");
        assert!(after.iter().sum::<usize>() < before, "some were removed");
    });
}

#[test]
fn full_cells_are_passed_over() {
    each("full_cells", &[12], 4, |plan| {
        let mut scene = Scene::settled(Plan { room_bytes: 200 << 20, ..plan });
        let full = scene.world.some_up(3);
        while full.iter().any(|&index| !scene.world.hosts[index].disk.stats().full) {
            scene.store_among(1, 3, &full);
        }
        let others: Vec<usize> = scene.world.up().into_iter().filter(|index| !full.contains(index)).collect();
        scene.store_among(100, 5, &others);
        let victim = scene.world.up().into_iter().find(|index| !full.contains(index)).unwrap();
        scene.kill(victim);
        scene.until_whole();
        scene.nothing_moves_for(15 * MINUTE);
        scene.judge.moved_no_more_than_was_lost(&scene.world);
    });
}
