//! Cells and strangers that say what is not so.

use cellsync::cell::{CopyInput, Event, Input, MemberInput};
use cellsync::id::CellId;
use cellsync::id::ChunkId;
use cellsync::wire::beacon::{Beacon, Boot, Role, Status};
use cellsync::wire::datagram::Alert;
use cellsync::wire::holder_hints::HolderHint;

use crate::calls::{Nature, bad_hash};
use crate::network::address;
use crate::scene::{Scene, each};
use crate::world::Plan;

const MINUTE: u64 = 60_000;

/// A colony with chunks, in which one cell has begun to lie.
fn with_liar(plan: Plan, nature: Nature) -> (Scene, usize) {
    with_liar_of_role(plan, nature, Role::Storage)
}

/// The same, and the liar has this role.
fn with_liar_of_role(plan: Plan, nature: Nature, role: Role) -> (Scene, usize) {
    let mut scene = Scene::settled(plan);
    scene.store(200, 5);
    let cells = scene.world.with_role(role);
    let liar = scene.world.rng.choice(cells).unwrap();
    scene.judge.owed_bytes += scene.judge.bytes_without(&scene.world, &[liar]);
    scene.world.hosts[liar].nature = nature;
    scene.judge.impatient = false;
    (scene, liar)
}

fn random_name(scene: &mut Scene) -> CellId {
    let mut bytes = [0; 16];
    scene.world.rng.fill(&mut bytes);
    CellId::from_random(bytes)
}

#[test]
fn forged_alerts_change_nothing_but_counters() {
    each("forged_alerts", &[6, 12], 4, |plan| {
        let mut scene = Scene::settled(plan);
        let chunks = scene.store(100, 5);
        let before = scene.world.holders();
        for chunk in chunks {
            let holder = before[&chunk][0];
            let (node_id, culprit) = (random_name(&mut scene), scene.world.hosts[holder].id());
            let alert = Alert { node_id, culprit, chunk, found: bad_hash(chunk) };
            scene.world.give_all(&Input::Copy(CopyInput::Alert(alert)));
            scene.pass(200);
        }
        scene.nothing_moves_for(20 * MINUTE);
        assert_eq!(scene.world.holders(), before);
        for index in scene.world.up() {
            let life = scene.life(index);
            assert_eq!(life.alerts, 100);
            assert!(life.isolated.is_empty() && life.bad_copies == 0 && life.audits_bad == 0, "{life:?}");
            assert!(life.alerts_false > 0, "{life:?}");
        }
    });
}

#[test]
fn a_cell_that_serves_bad_bytes_is_isolated_and_its_chunks_heal_elsewhere() {
    each("a_cell_that_serves_bad_bytes", &[8, 12, 20], 4, |plan| {
        let (mut scene, liar) = with_liar(plan, Nature::BadBytes);
        let culprit = scene.world.hosts[liar].id();
        let isolates = |index: usize, scene: &Scene| index == liar || scene.life(index).isolated.contains(&culprit);
        scene.until(60 * MINUTE, "every holder isolates it", |scene| {
            scene.world.up().into_iter().all(|index| isolates(index, scene))
        });
        scene.until(10 * MINUTE, "its chunks are whole elsewhere", |scene| scene.judge.is_whole(&scene.world));
        scene.nothing_moves_for(15 * MINUTE);
        scene.judge.moved_no_more_than_was_lost(&scene.world);
    });
}

/// The cell with the highest-ranked id is the only guard of a small colony. No guard audits itself, so its bad copies were
/// never found.
#[test]
fn the_only_guard_is_isolated_too_when_it_serves_bad_bytes() {
    each("the_only_guard_is_isolated", &[8, 12], 4, |plan| {
        let (mut scene, liar) = with_liar_of_role(plan, Nature::BadBytes, Role::Guard);
        assert_eq!(scene.world.with_role(Role::Guard), [liar]);
        scene.until(60 * MINUTE, "five honest copies of each", |scene| scene.judge.is_whole(&scene.world));
        scene.nothing_moves_for(15 * MINUTE);
        scene.judge.moved_no_more_than_was_lost(&scene.world);
    });
}

#[test]
fn audits_of_an_idle_colony_stay_within_their_rates() {
    each("audits_of_an_idle_colony", &[3, 12], 2, |plan| {
        let mut scene = Scene::settled(plan);
        scene.store(200, 5);
        let (before, seconds) = (scene.world.moved, 600);
        scene.nothing_moves_for(seconds * 1000);
        let audited = scene.world.moved.audited - before.audited;
        let guards = scene.world.with_role(Role::Guard).len() as u64;
        let others = scene.world.hosts.len() as u64 - guards;
        let rate = scene.world.plan.settings.audit_rate;
        let allowed = (guards * rate + others * rate / 8) * seconds;
        assert!(audited * 10 <= allowed * 11, "{audited} bytes were audited, and {allowed} are allowed");
        assert!(audited * 10 >= others * rate / 8 * seconds * 9, "{audited} bytes are too few");
    });
}

#[test]
fn a_cell_that_claims_to_have_everything_hides_at_most_one_copy() {
    each("a_cell_that_claims_to_have_everything", &[8, 12], 4, |plan| {
        let (mut scene, liar) = with_liar(plan, Nature::ClaimsAll);
        let other = scene.world.up().into_iter().find(|&index| index != liar).unwrap();
        scene.kill(other);
        let weakest = |scene: &Scene| scene.world.holders().values().map(Vec::len).min();
        scene.until(10 * MINUTE, "four whole copies of each", |scene| weakest(scene) >= Some(4));
        scene.judge.moved_no_more_than_was_lost(&scene.world);
    });
}

#[test]
fn a_cell_that_claims_to_have_nothing_is_given_up_by_each_holder_after_one_try() {
    each("a_cell_that_claims_to_have_nothing", &[8, 12], 4, |plan| {
        let (mut scene, _) = with_liar(plan, Nature::ClaimsNothing);
        scene.until(30 * MINUTE, "its chunks are whole elsewhere", |scene| scene.judge.is_whole(&scene.world));
        scene.nothing_moves_for(30 * MINUTE);
        // Each of the other holders may find out for itself.
        assert!(scene.world.moved.healed <= 5 * scene.judge.owed_bytes, "{:?}", scene.world.moved);
    });
}

#[test]
fn a_cell_that_throws_away_what_it_is_sent_does_not_keep_chunks_short() {
    each("a_cell_that_throws_away", &[8, 12], 4, |plan| {
        let (mut scene, liar) = with_liar(plan, Nature::DropsChunks);
        let other = scene.world.up().into_iter().find(|&index| index != liar).unwrap();
        // What the liar still has it tells of truly.
        scene.kill(other);
        let truly = |scene: &Scene| {
            let still = &scene.world.hosts[liar].disk;
            scene.world.holders().iter().all(|(id, on)| on.len() + usize::from(still.get(id).is_some()) >= 5)
        };
        scene.until(40 * MINUTE, "five copies of each", truly);
    });
}

#[test]
fn forged_news_of_copies_move_nothing_and_hide_nothing() {
    each("forged_news", &[8, 12], 4, |plan| {
        let mut scene = Scene::settled(plan);
        let chunks = scene.store(100, 5);
        let names: Vec<CellId> = scene.world.hosts.iter().map(crate::host::Host::id).collect();
        let stranger = random_name(&mut scene);
        let news = |id: &ChunkId| HolderHint { id: *id, holders: [&names[..], &[stranger]].concat() };
        let forged = Input::Copy(CopyInput::Hints(chunks.iter().map(news).collect()));
        for _ in 0..10 {
            scene.world.give_all(&forged);
            scene.nothing_moves_for(MINUTE);
        }
        let index = scene.world.some_up(1)[0];
        scene.kill(index);
        for _ in 0..60 {
            scene.world.give_all(&forged);
            scene.pass(5_000);
        }
        scene.until_whole();
        scene.judge.moved_no_more_than_was_lost(&scene.world);
    });
}

#[test]
fn forged_beacons_move_nothing_and_when_they_end_all_is_as_before() {
    each("forged_beacons", &[12], 4, |plan| {
        let mut scene = Scene::settled(plan);
        scene.store(100, 5);
        let attacker = address(5_000);
        for _ in 0..40 {
            for _ in 0..50 {
                let node_id = random_name(&mut scene);
                let beacon = forged(node_id, Status::Active);
                scene.world.give_all(&Input::Member(MemberInput::Beacon { from: attacker, beacon }));
            }
            for index in 0..12 {
                let beacon = forged(scene.world.hosts[index].id(), Status::Leaving);
                scene.world.give_all(&Input::Member(MemberInput::Beacon { from: attacker, beacon }));
            }
            scene.nothing_moves_for(500);
        }
        scene.nothing_moves_for(10 * MINUTE);
        assert!(scene.roles_are_right());
        let index = scene.world.some_up(1)[0];
        scene.kill(index);
        scene.until_whole();
        scene.judge.moved_no_more_than_was_lost(&scene.world);
    });
}

fn forged(node_id: CellId, status: Status) -> Beacon {
    Beacon {
        node_id,
        port: 1,
        status,
        v: Some(1),
        boot: Some(Boot(7)),
        role: Role::Storage,
        chunks: None,
        free: Some(1 << 40),
        cells: None,
        clean_s: Some(0),
    }
}

#[test]
fn of_a_board_and_its_clone_the_newer_takes_another_name_and_nothing_is_lost() {
    each("of_a_board_and_its_clone", &[6, 12], 4, |plan| {
        let mut scene = Scene::settled(plan);
        scene.store(100, 5);
        let one = scene.world.some_up(1)[0];
        let disk = scene.world.hosts[one].disk.clone();
        let clone = scene.world.add_with(disk, 0);
        let name = scene.world.hosts[one].id();
        scene.until(20_000, "the clone has a name of its own", |scene| scene.world.hosts[clone].id() != name);
        assert_eq!(scene.world.hosts[one].id(), name);
        scene.nothing_moves_for(20 * MINUTE);
        assert!(scene.world.events().any(|(at, _, event)| at == clone && matches!(event, Event::Renamed { .. })));
        scene.kill(one);
        scene.until_whole();
    });
}
