//! Lying cells, forged messages and cloned cards.

use cellsync::cell::{CopyInput, Event, Input, MemberInput};
use cellsync::id::{CellId, ChunkId};
use cellsync::wire::beacon::{Beacon, Boot, Role, Status};
use cellsync::wire::datagram::Alert;
use cellsync::wire::holder_hints::HolderHint;

use crate::board::Board;
use crate::network::ip;
use crate::requests::{Behavior, bad_hash};
use crate::scenario::{Scenario, for_each_seed};
use crate::world::Plan;

const MINUTE: u64 = 60_000;

/// A colony with chunks, in which one storage cell starts to lie.
fn with_liar(plan: Plan, behavior: Behavior) -> (Scenario, usize) {
    with_liar_of_role(plan, behavior, Role::Storage)
}

/// The same with a liar of this role.
fn with_liar_of_role(plan: Plan, behavior: Behavior, role: Role) -> (Scenario, usize) {
    let mut scenario = Scenario::settled(plan);
    scenario.put(200, 5);
    let cells = scenario.world.with_role(role);
    let liar = scenario.world.rng.choice(cells).unwrap();
    scenario.checker.lost_bytes += scenario.checker.bytes_without(&scenario.world, &[liar]);
    scenario.world.boards[liar].behavior = behavior;
    scenario.checker.deadlines_apply = false;
    (scenario, liar)
}

fn random_id(scenario: &mut Scenario) -> CellId {
    let mut bytes = [0; 16];
    scenario.world.rng.fill(&mut bytes);
    CellId::from_random(bytes)
}

#[test]
fn forged_alerts_change_only_counters() {
    for_each_seed("forged_alerts", &[6, 12], 4, |plan| {
        let mut scenario = Scenario::settled(plan);
        let chunks = scenario.put(100, 5);
        let before = scenario.world.holders();
        for chunk in chunks {
            let holder = before[&chunk][0];
            let (node_id, culprit) = (random_id(&mut scenario), scenario.world.boards[holder].id());
            let alert = Alert { node_id, culprit, chunk, found: bad_hash(chunk) };
            scenario.world.input_all(&Input::Copy(CopyInput::Alert(alert)));
            scenario.pass(200);
        }
        scenario.assert_nothing_moves_for(20 * MINUTE);
        assert_eq!(scenario.world.holders(), before);
        for index in scenario.world.running() {
            let activity = scenario.activity(index);
            assert_eq!(activity.alerts, 100);
            let is_unharmed = activity.isolated.is_empty() && activity.bad_copies == 0 && activity.audits_bad == 0;
            assert!(is_unharmed && activity.alerts_false > 0, "{activity:?}");
        }
    });
}

#[test]
fn a_cell_that_sends_bad_bytes_is_isolated_and_its_chunks_heal() {
    for_each_seed("a_cell_that_sends_bad_bytes", &[8, 12, 20], 4, |plan| {
        let (mut scenario, liar) = with_liar(plan, Behavior::BadBytes);
        let culprit = scenario.world.boards[liar].id();
        scenario.until(60 * MINUTE, "every other cell isolates it", |scenario| {
            let mut others = scenario.world.running().into_iter().filter(|&index| index != liar);
            others.all(|index| scenario.activity(index).isolated.contains(&culprit))
        });
        let is_healed = |scenario: &Scenario| scenario.checker.is_fully_replicated(&scenario.world);
        scenario.until(10 * MINUTE, "its chunks are fully replicated elsewhere", is_healed);
        scenario.assert_nothing_moves_for(15 * MINUTE);
        scenario.checker.assert_moved_at_most_lost(&scenario.world);
    });
}

/// The cell with the highest-ranked id is the only guard of a small colony. No guard audits itself, so its bad copies
/// were never found.
#[test]
fn an_only_guard_that_sends_bad_bytes_is_isolated_too() {
    for_each_seed("an_only_guard", &[8, 12], 4, |plan| {
        let (mut scenario, liar) = with_liar_of_role(plan, Behavior::BadBytes, Role::Guard);
        assert_eq!(scenario.world.with_role(Role::Guard), [liar]);
        let is_healed = |scenario: &Scenario| scenario.checker.is_fully_replicated(&scenario.world);
        scenario.until(60 * MINUTE, "five honest copies of each", is_healed);
        scenario.assert_nothing_moves_for(15 * MINUTE);
        scenario.checker.assert_moved_at_most_lost(&scenario.world);
    });
}

#[test]
fn audits_of_an_idle_colony_stay_within_their_rates() {
    for_each_seed("audits_of_an_idle_colony", &[3, 12], 2, |plan| {
        let mut scenario = Scenario::settled(plan);
        scenario.put(200, 5);
        let (before, seconds) = (scenario.world.moved, 600);
        scenario.assert_nothing_moves_for(seconds * 1000);
        let audited = scenario.world.moved.audited - before.audited;
        let guards = scenario.world.with_role(Role::Guard).len() as u64;
        let others = scenario.world.boards.len() as u64 - guards;
        let rate = scenario.world.plan.settings.audit_rate;
        let allowed = (guards * rate + others * rate / 8) * seconds;
        assert!(audited * 10 <= allowed * 11, "{audited} bytes were audited, and {allowed} are allowed");
        assert!(audited * 10 >= others * rate / 8 * seconds * 9, "{audited} bytes are too few");
    });
}

#[test]
fn a_cell_that_claims_every_chunk_hides_at_most_one_copy() {
    for_each_seed("a_cell_that_claims_every_chunk", &[8, 12], 4, |plan| {
        let (mut scenario, liar) = with_liar(plan, Behavior::ClaimsAll);
        let other = scenario.world.running().into_iter().find(|&index| index != liar).unwrap();
        scenario.destroy(other);
        let fewest = |scenario: &Scenario| scenario.world.holders().values().map(Vec::len).min();
        scenario.until(10 * MINUTE, "four honest copies of each", |scenario| fewest(scenario) >= Some(4));
        scenario.checker.assert_moved_at_most_lost(&scenario.world);
    });
}

#[test]
fn each_holder_sends_to_a_cell_that_claims_no_chunk_only_once() {
    for_each_seed("each_holder_sends_to_a_cell", &[8, 12], 4, |plan| {
        let (mut scenario, _) = with_liar(plan, Behavior::ClaimsNothing);
        let is_healed = |scenario: &Scenario| scenario.checker.is_fully_replicated(&scenario.world);
        scenario.until(30 * MINUTE, "its chunks are fully replicated elsewhere", is_healed);
        scenario.assert_nothing_moves_for(30 * MINUTE);
        assert!(scenario.world.moved.healed <= 5 * scenario.checker.lost_bytes, "{:?}", scenario.world.moved);
    });
}

#[test]
fn a_cell_that_drops_chunks_does_not_stop_healing() {
    for_each_seed("a_cell_that_drops_chunks", &[8, 12], 4, |plan| {
        let (mut scenario, liar) = with_liar(plan, Behavior::DropsChunks);
        let other = scenario.world.running().into_iter().find(|&index| index != liar).unwrap();
        scenario.destroy(other);
        // Its old copies are good, and it serves them.
        let is_healed = |scenario: &Scenario| {
            let old = &scenario.world.boards[liar].disk;
            let holders = scenario.world.holders();
            holders.iter().all(|(id, holders)| holders.len() + usize::from(old.get(id).is_some()) >= 5)
        };
        scenario.until(40 * MINUTE, "five copies of each", is_healed);
    });
}

#[test]
fn forged_hints_move_no_byte_and_hide_no_loss() {
    for_each_seed("forged_hints", &[8, 12], 4, |plan| {
        let mut scenario = Scenario::settled(plan);
        let chunks = scenario.put(100, 5);
        let mut holders: Vec<CellId> = scenario.world.boards.iter().map(Board::id).collect();
        holders.push(random_id(&mut scenario));
        let hint = |id: &ChunkId| HolderHint { id: *id, holders: holders.clone() };
        let forged = Input::Copy(CopyInput::Hints(chunks.iter().map(hint).collect()));
        for _ in 0..10 {
            scenario.world.input_all(&forged);
            scenario.assert_nothing_moves_for(MINUTE);
        }
        let index = scenario.world.random_running(1)[0];
        scenario.destroy(index);
        for _ in 0..60 {
            scenario.world.input_all(&forged);
            scenario.pass(5_000);
        }
        scenario.until_fully_replicated();
        scenario.checker.assert_moved_at_most_lost(&scenario.world);
    });
}

#[test]
fn forged_beacons_move_no_byte_and_have_no_lasting_effect() {
    for_each_seed("forged_beacons", &[12], 4, |plan| {
        let mut scenario = Scenario::settled(plan);
        scenario.put(100, 5);
        let from = ip(5_000);
        for _ in 0..40 {
            for _ in 0..50 {
                let beacon = forged_beacon(random_id(&mut scenario), Status::Active);
                scenario.world.input_all(&Input::Member(MemberInput::Beacon { from, beacon }));
            }
            for index in 0..12 {
                let beacon = forged_beacon(scenario.world.boards[index].id(), Status::Leaving);
                scenario.world.input_all(&Input::Member(MemberInput::Beacon { from, beacon }));
            }
            scenario.assert_nothing_moves_for(500);
        }
        scenario.assert_nothing_moves_for(10 * MINUTE);
        assert!(scenario.has_correct_roles());
        let index = scenario.world.random_running(1)[0];
        scenario.destroy(index);
        scenario.until_fully_replicated();
        scenario.checker.assert_moved_at_most_lost(&scenario.world);
    });
}

fn forged_beacon(node_id: CellId, status: Status) -> Beacon {
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
fn a_cloned_board_takes_a_new_id_and_nothing_is_lost() {
    for_each_seed("a_cloned_board", &[6, 12], 4, |plan| {
        let mut scenario = Scenario::settled(plan);
        scenario.put(100, 5);
        let original = scenario.world.random_running(1)[0];
        let disk = scenario.world.boards[original].disk.clone();
        let clone = scenario.world.add_with_disk(disk, 0);
        let id = scenario.world.boards[original].id();
        let is_renamed = |scenario: &Scenario| scenario.world.boards[clone].id() != id;
        scenario.until(20_000, "the clone has another id", is_renamed);
        assert_eq!(scenario.world.boards[original].id(), id);
        scenario.assert_nothing_moves_for(20 * MINUTE);
        let mut events = scenario.world.events();
        assert!(events.any(|(index, _, event)| index == clone && matches!(event, Event::Renamed { .. })));
        drop(events);
        scenario.destroy(original);
        scenario.until_fully_replicated();
    });
}
