//! Integrity: bad copies are found and replaced, cells with bad copies are isolated, and false alerts change nothing.
//! And the role that finds them: which cells are guards.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use cellsync::id::{CellId, ChunkId};
use cellsync::net::udp::LOOPBACK_BROADCAST;
use cellsync::wire::beacon::Role;
use cellsync::wire::datagram::{Alert, Datagram};
use cellsync::wire::status::CellStatus;

use crate::harness::{
    BadCell, Cell, Colony, NO_AUDITS, assert_facts, compressible_blocks, fast_options, observe_for, run, wait_within,
};

/// Starts a colony whose cells audit fast and take their roles soon.
fn start(cells: usize) -> Colony {
    let settings = ["audit_rate=\"64 MiB\"", "differentiate_after_ms=1500", "role_stable_ms=1000"];
    let settings = settings.iter().flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]);
    let options: Vec<String> = fast_options().into_iter().chain(settings).collect();
    Colony::start_with(cells, &options)
}

/// The indices of the running cells that are guards.
fn guards(colony: &Colony) -> Vec<usize> {
    let role = |cell: &Cell| colony.http.status(&cell.url).map(|status| status.beacon.role).ok();
    let running = colony.cells.iter().enumerate().filter(|(_, cell)| cell.is_running());
    running.filter(|(_, cell)| role(cell) == Some(Role::Guard)).map(|(index, _)| index).collect()
}

/// Goal: a bad copy is found without a scrub and replaced. Method: flips a bit on the disk of a cell that is not the
/// guard, because a guard does not audit itself. A guard or another holder finds the bad copy and alerts the colony;
/// the cell checks its copy, moves it to quarantine, and fetches a good one.
#[test]
fn audits_find_a_bad_copy_and_the_cell_replaces_it() {
    let colony = start(5);
    let stored = colony.put_bytes("file", &compressible_blocks(11, 6));
    wait_within(Duration::from_secs(10), "one cell is a guard", || guards(&colony).len() == 1);
    let guard = guards(&colony)[0];
    let culprit = colony.cells.iter().position(|cell| cell.url != colony.cells[guard].url).unwrap();
    let (cell, id) = (&colony.cells[culprit], &stored.ids[0]);
    cell.flip_bit(id);
    assert!(!cell.has_good_copy(id));
    wait_within(Duration::from_secs(10), "the copy is good again", || cell.has_good_copy(id));
    assert_eq!(cell.quarantined(), 1, "the bad copy is kept for examination");
    let activity = || colony.http.status(&cell.url).unwrap().activity;
    wait_within(Duration::from_secs(10), "the replacement is counted", || activity().refetched_copies == 1);
    assert_eq!(activity().bad_copies, 1);
    assert!(activity().alerts >= 1);
    colony.assert_all_copies_good();
}

/// Goal: `cellsync scrub` finds a bad copy that no other cell has audited. Method: flips a bit in a colony without
/// audits.
#[test]
fn a_scrub_on_demand_finds_a_bad_copy() {
    let colony = Colony::start_with(3, &NO_AUDITS);
    let stored = colony.put_bytes("file", &compressible_blocks(12, 6));
    let cell = &colony.cells[1];
    cell.flip_bit(&stored.ids[2]);
    let finished = run(colony.tool("scrub").arg(cell.short_id())).expect_code(5);
    assert_facts(finished.text(), &["1 bad"]);
    wait_within(Duration::from_secs(10), "the copy is good again", || cell.has_good_copy(&stored.ids[2]));
    assert_eq!(cell.quarantined(), 1);
}

/// Goal: forged alerts change nothing but counters. Method: sends one for each of a hundred good chunks, half of them
/// as datagrams and half over HTTP.
#[test]
fn forged_alerts_change_nothing_but_counters() {
    let colony = start(6);
    let stored = colony.put_bytes("file", &compressible_blocks(13, 100));
    let before = colony.copies();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_broadcast(true).unwrap();
    for (number, id) in stored.ids.iter().enumerate() {
        let culprit = before[id].iter().next().copied().unwrap();
        let alert = Alert {
            node_id: CellId::from_random([7; 16]),
            culprit: colony.cells[culprit].id.parse().unwrap(),
            chunk: id.parse().unwrap(),
            found: ChunkId::of(b"forged"),
        };
        if number % 2 == 0 {
            let sent = socket.send_to(&Datagram::Alert(alert).encode(), (LOOPBACK_BROADCAST, colony.udp_port()));
            sent.unwrap();
        } else {
            for cell in &colony.cells {
                colony.http.send_alert(&cell.url, &alert).unwrap();
            }
        }
    }
    let alerts_false = || colony.statuses().iter().map(|status| status.activity.alerts_false).sum::<u64>();
    // The culprit and the other holders check each alert. Some datagrams may be lost.
    wait_within(Duration::from_secs(30), "the alerts are checked", || alerts_false() >= 200);
    observe_for(Duration::from_secs(3));
    for CellStatus { activity, .. } in colony.statuses() {
        let changes = (activity.healed_copies, activity.refetched_copies, activity.bad_copies, activity.short);
        assert_eq!(changes, (0, 0, 0, 0), "{activity:?}");
        assert!(activity.isolated.is_empty() && activity.alerts >= 50, "{activity:?}");
    }
    assert_eq!(colony.copies(), before);
    assert!(colony.cells.iter().all(|cell| cell.quarantined() == 0));
}

/// Goal: a cell that accepts chunks and serves bad bytes is isolated, and the other cells heal what it should hold.
/// Method: a bad cell in a colony of seven.
#[test]
fn a_cell_with_bad_copies_is_isolated_and_its_chunks_healed() {
    let colony = start(7);
    let bad_cell = BadCell::start(colony.udp_port());
    assert_isolated_and_healed(&colony, &bad_cell);
}

/// By the rule for roles, this id has the highest rank of all, so that its cell is the only guard.
const HIGHEST_RANK: &str = "ffffffff-ffff-4008-a9de-feb2d37fa1c8";

/// Goal: a bad cell that is the only guard is isolated too. (Once its bad copies were never found.) Method: a bad cell
/// with the id of highest rank.
#[test]
fn a_bad_cell_that_is_the_only_guard_is_isolated() {
    let colony = start(7);
    let bad_cell = BadCell::start_as(HIGHEST_RANK.parse().unwrap(), colony.udp_port());
    let is_storage = |status: &CellStatus| status.beacon.role == Role::Storage;
    let is_settled = || colony.statuses().iter().all(|status| is_storage(status) && status.beacon.cells == Some(8));
    wait_within(Duration::from_secs(20), "no other cell is a guard", is_settled);
    assert_isolated_and_healed(&colony, &bad_cell);
}

/// Puts a file while the bad cell is a member. Its chunks must get five copies on the other cells, and the cells that
/// find bad copies must isolate the bad cell.
fn assert_isolated_and_healed(colony: &Colony, bad_cell: &BadCell) {
    let is_member =
        |cell: &Cell| colony.http.peers(&cell.url).unwrap().cells.iter().any(|view| view.node_id == bad_cell.id);
    wait_within(Duration::from_secs(10), "the bad cell is a member", || colony.cells.iter().all(is_member));
    let stored = colony.put_bytes("file", &compressible_blocks(14, 40));
    let accepted = bad_cell.accepted().len();
    assert!(accepted >= 10, "the bad cell was given only {accepted} chunks");
    assert!(colony.fewest_copies(&stored, &[]) < 5);
    let limit = Duration::from_mins(1);
    let took = wait_within(limit, "every chunk has five good copies", || colony.fewest_copies(&stored, &[]) >= 5);
    let isolating = colony.statuses().iter().filter(|status| status.activity.isolated.contains(&bad_cell.id)).count();
    eprintln!("five good copies after {took:?}; {isolating} cells isolate the bad one");
    assert!(isolating >= 3, "{isolating}");
    assert_eq!(colony.get_bytes(&stored.manifest), compressible_blocks(14, 40));
    let isolates_no_other = |status: &CellStatus| status.activity.isolated.iter().all(|cell| *cell == bad_cell.id);
    assert!(colony.statuses().iter().all(isolates_no_other), "a good cell is isolated");
}

/// Goal: the number of guards follows the size of the colony, and a dead guard is replaced, without any vote. Method:
/// kills and restarts cells of a colony of twelve.
#[test]
fn guards_are_replaced_and_follow_the_size_of_the_colony() {
    let mut colony = start(12);
    let has_guards = |colony: &Colony, expected: usize| {
        let stems = colony.statuses().iter().filter(|status| status.beacon.role == Role::Stem).count();
        stems == 0 && guards(colony).len() == expected
    };
    wait_within(Duration::from_secs(10), "one of twelve cells is a guard", || has_guards(&colony, 1));
    let first = guards(&colony)[0];
    colony.cells[first].kill();
    wait_within(Duration::from_secs(20), "another cell is the guard", || {
        has_guards(&colony, 1) && guards(&colony)[0] != first
    });
    let running: Vec<usize> = (0..12).filter(|index| colony.cells[*index].is_running()).collect();
    for index in &running[3..] {
        colony.cells[*index].kill();
    }
    wait_within(Duration::from_secs(20), "none of three cells is a guard", || has_guards(&colony, 0));
    for cell in colony.cells.iter_mut().filter(|cell| !cell.is_running()) {
        cell.restart();
    }
    wait_within(Duration::from_secs(30), "one of twelve cells is a guard again", || has_guards(&colony, 1));
    assert_eq!(guards(&colony), [first], "the same members give the same guard");
}
