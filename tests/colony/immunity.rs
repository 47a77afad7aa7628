//! Rotten copies are found and replaced, liars are set aside, and false alarms move nothing.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use cellsync::id::CellId;
use cellsync::id::ChunkId;
use cellsync::net::udp::LOOPBACK_BROADCAST;
use cellsync::wire::beacon::Role;
use cellsync::wire::datagram::{Alert, Datagram};
use cellsync::wire::status::CellStatus;

use super::healing::{quick, within};
use super::house::{Cell, Colony, QUIET, light_blocks};
use super::liar::Liar;

/// Guards that look often, and roles that are taken soon.
fn watchful() -> Vec<String> {
    let more = ["audit_rate=\"64 MiB\"", "differentiate_after_ms=1500", "role_stable_ms=1000"];
    let more = more.iter().flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]);
    quick().into_iter().chain(more).collect()
}

fn start(cells: usize) -> Colony {
    let options = watchful();
    Colony::start_with(cells, &options.iter().map(String::as_str).collect::<Vec<_>>())
}

fn quarantined(cell: &Cell) -> usize {
    fs::read_dir(cell.data.join("quarantine")).unwrap().count()
}

fn is_good(cell: &Cell, id: &str) -> bool {
    fs::read(cell.chunk_file(id)).is_ok_and(|bytes| ChunkId::of(&bytes).to_string() == id)
}

/// A bit flips on a disk behind the cell's back. A guard or another holder reads the copy, warns all; the cell looks at its
/// copy itself, sets it aside, and gets a good one from another.
#[test]
fn a_rotten_copy_is_found_by_audits_and_replaced() {
    let colony = start(5);
    let stored = colony.put_bytes("file", &light_blocks(11, 6));
    // Not on the guard: it does not audit itself.
    within("there is a guard", Duration::from_secs(10), || guards(&colony).len() == 1);
    let guard = guards(&colony)[0];
    let culprit = colony.cells.iter().position(|cell| cell.url != colony.cells[guard].url).unwrap();
    let (cell, id) = (&colony.cells[culprit], &stored.ids[0]);
    cell.flip(id);
    assert!(!is_good(cell, id));
    within("the copy is good again", Duration::from_secs(10), || is_good(cell, id));
    assert_eq!(quarantined(cell), 1, "the bad one is kept for people to look at");
    let life = colony.http.status(&cell.url).unwrap().activity;
    assert_eq!((life.bad_copies, life.mended_copies), (1, 1));
    assert!(life.alerts >= 1);
    colony.assert_all_chunks_are_what_they_are_named();
}

/// The numbers of the cells that are guards.
fn guards(colony: &Colony) -> Vec<usize> {
    let role = |cell: &Cell| colony.http.status(&cell.url).map(|status| status.beacon.role).ok();
    let living = colony.cells.iter().enumerate().filter(|(_, cell)| cell.is_running());
    living.filter(|(_, cell)| role(cell) == Some(Role::Guard)).map(|(number, _)| number).collect()
}

/// `cellsync scrub` finds what no other cell has audited: here none audits.
#[test]
fn a_scrub_on_demand_finds_a_rotten_copy() {
    let colony = Colony::start_with(3, &QUIET);
    let stored = colony.put_bytes("file", &light_blocks(12, 6));
    let cell = &colony.cells[1];
    cell.flip(&stored.ids[2]);
    let ran = super::house::run(colony.tool("scrub").arg(&cell.id[..8])).exits(5);
    assert!(ran.text().contains("1 bad"), "{}", ran.text());
    within("the copy is good again", Duration::from_secs(10), || is_good(cell, &stored.ids[2]));
    assert_eq!(quarantined(cell), 1);
}

/// One forged alert for each of a hundred good chunks, by datagram and by HTTP: only counters change.
#[test]
fn forged_alerts_change_nothing_but_counters() {
    let colony = start(6);
    let stored = colony.put_bytes("file", &light_blocks(13, 100));
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
    // Each is checked by its culprit and by the other holders; some datagrams may be lost.
    within("the alerts are checked", Duration::from_secs(30), || alerts_false() >= 200);
    let until = Instant::now() + Duration::from_secs(3);
    within("some time passes", Duration::from_secs(3), || Instant::now() > until);
    for status in colony.statuses() {
        let life = status.activity;
        assert_eq!((life.healed_copies, life.mended_copies, life.bad_copies, life.short), (0, 0, 0, 0), "{life:?}");
        assert!(life.isolated.is_empty() && life.alerts >= 50, "{life:?}");
    }
    assert_eq!(colony.copies(), before);
    assert!(colony.cells.iter().all(|cell| quarantined(cell) == 0));
}

/// A cell takes chunks and gives back rubbish. Those who see it three times count on it no more, and what it should
/// have kept is kept by others.
#[test]
fn a_cell_that_serves_bad_bytes_is_isolated_and_its_chunks_heal_elsewhere() {
    let colony = start(7);
    let liar = Liar::start(colony.udp_port());
    is_found_out(&colony, &liar);
}

/// The rule by which cells become guards gives this id the highest rank of all: with it the liar is the only guard.
const HIGHEST_RANK: &str = "ffffffff-ffff-4008-a9de-feb2d37fa1c8";

/// The bad copies of a cell whose id made it the only guard were never found.
#[test]
fn a_liar_that_is_the_only_guard_is_isolated_too() {
    let colony = start(7);
    let liar = Liar::start_as(HIGHEST_RANK.parse().unwrap(), colony.udp_port());
    let is_storage = |status: &CellStatus| status.beacon.role == Role::Storage;
    let ready = || colony.statuses().iter().all(|status| is_storage(status) && status.beacon.cells == Some(8));
    within("no honest cell is a guard", Duration::from_secs(20), ready);
    is_found_out(&colony, &liar);
}

/// Chunks that are put with the liar in the colony come to have five honest copies, and those who see it isolate it.
fn is_found_out(colony: &Colony, liar: &Liar) {
    let knows = |cell: &Cell| colony.http.peers(&cell.url).unwrap().cells.iter().any(|view| view.node_id == liar.id);
    within("the liar is known", Duration::from_secs(10), || colony.cells.iter().all(knows));
    let stored = colony.put_bytes("file", &light_blocks(14, 40));
    assert!(liar.taken().len() >= 10, "the liar was given {} chunks", liar.taken().len());
    assert!(colony.fewest_copies(&stored, &[]) < 5);
    let rules = Duration::from_mins(1);
    let took = within("every chunk has five honest copies", rules, || colony.fewest_copies(&stored, &[]) >= 5);
    let isolated = colony.statuses().iter().filter(|status| status.activity.isolated.contains(&liar.id)).count();
    eprintln!("five honest copies after {took:?}; {isolated} cells isolate the liar");
    assert!(isolated >= 3, "{isolated}");
    assert_eq!(colony.get_bytes(&stored.manifest), light_blocks(14, 40));
    let honest = |status: &CellStatus| status.activity.isolated.iter().all(|cell| *cell == liar.id);
    assert!(colony.statuses().iter().all(honest), "nobody else is isolated");
}

/// Roles are taken by need, with no vote.
#[test]
fn a_guard_that_dies_is_replaced_and_roles_follow_the_size_of_the_colony() {
    let mut colony = start(12);
    let settled = |colony: &Colony, expected: usize| {
        let stems = colony.statuses().iter().filter(|status| status.beacon.role == Role::Stem).count();
        stems == 0 && guards(colony).len() == expected
    };
    within("one of twelve is a guard", Duration::from_secs(10), || settled(&colony, 1));
    let first = guards(&colony)[0];
    colony.cells[first].kill();
    within("another takes its place", Duration::from_secs(20), || settled(&colony, 1) && guards(&colony)[0] != first);
    let living: Vec<usize> = (0..12).filter(|number| colony.cells[*number].is_running()).collect();
    for number in &living[3..] {
        colony.cells[*number].kill();
    }
    within("of three none is a guard", Duration::from_secs(20), || settled(&colony, 0));
    for number in 0..12 {
        if !colony.cells[number].is_running() {
            colony.cells[number].restart();
        }
    }
    within("and of twelve there is one again", Duration::from_secs(30), || settled(&colony, 1));
    assert_eq!(guards(&colony), [first], "the same, since all know the same cells");
}
