//! A get waits for cells that stop responding, and asks others meanwhile.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::{BadCell, Cell, Colony, NO_AUDITS, Running, StoredFile, assert_facts, random_bytes, run};
use crate::wait::wait_until;

/// Bytes that the entries of a directory occupy, with all that is below them.
fn occupied_bytes(folder: &Path, except: &[String]) -> u64 {
    // Entries come and go meanwhile.
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let others =
        entries.filter(|entry| entry.file_name().to_str().is_none_or(|name| !except.contains(&name.to_owned())));
    let occupied = |path: &Path| match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => occupied_bytes(path, &[]),
        metadata => metadata.map_or(0, |metadata| metadata.blocks() * 512),
    };
    others.map(|entry| occupied(&entry.path())).sum()
}

/// Starts a get to the path `restored` and suspends it when it has written some MiB, so that a test can act in the
/// middle of it. A get that ends first is repeated.
fn suspend_get(colony: &Colony, command: &mut Command) -> Running {
    let before = colony.files();
    for _ in 0..100 {
        let mut get = Running::start(command);
        wait_until("the get writes", || occupied_bytes(&colony.path(""), &before) >= 3 << 20 || !get.is_running());
        if get.suspend() {
            return get;
        }
        let restored = colony.path("restored");
        if restored.is_dir() { fs::remove_dir_all(restored).unwrap() } else { fs::remove_file(restored).unwrap() }
    }
    panic!("the get always ended first");
}

/// A get of `file` that is suspended in the middle, and the bytes of the file.
fn suspended_get(colony: &Colony, options: &[&str]) -> (Running, Vec<u8>) {
    let bytes = random_bytes(1, 64 << 20);
    let stored = colony.put_bytes("file", &bytes);
    let mut get = colony.get();
    get.arg(&stored.manifest).args(["-o", "restored", "--jobs", "1"]).args(options);
    (suspend_get(colony, &mut get), bytes)
}

/// Goal: an outage of the whole colony does not end a get. Method: kills all cells in the middle of a get, and restarts
/// them when it waits. They have other ports then.
#[test]
fn a_get_continues_after_all_cells_have_restarted() {
    let mut colony = Colony::start_with(3, &NO_AUDITS);
    let (mut get, bytes) = suspended_get(&colony, &["--json"]);
    colony.cells.iter_mut().for_each(Cell::kill);
    get.signal(Signal::CONT);
    get.wait_for_line(&["no cell responds", "waiting", "2"]);
    colony.cells.iter_mut().for_each(Cell::restart);
    let got = get.finish().expect_success();
    let lines: Vec<&str> = got.stderr.lines().collect();
    assert!(lines.iter().any(|line| line.contains("again") && line.contains("continuing")), "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.contains("no cell responds")).count(), 1, "{lines:?}");
    assert!(fs::read(colony.path("restored")).unwrap() == bytes);
}

/// Goal: the same if cells hang instead, so that requests are neither refused nor answered. Method: suspends all cells in
/// the middle of a get, and lets them continue when the get has asked for chunks.
#[test]
fn a_get_continues_after_all_cells_hung() {
    let colony = Colony::start_with(3, &NO_AUDITS);
    let (mut get, bytes) = suspended_get(&colony, &[]);
    colony.cells.iter().for_each(Cell::suspend);
    get.signal(Signal::CONT);
    get.wait_for_line(&["no cell responds", "waiting"]);
    colony.cells.iter().for_each(Cell::resume);
    let got = get.finish().expect_success().expect_line(&["again", "continuing"]);
    assert_facts(&String::from_utf8(got.stdout).unwrap(), &["from 3 cells"]);
    assert!(fs::read(colony.path("restored")).unwrap() == bytes);
}

/// Goal: a directory is restored across an outage as a file is. Method: as above.
#[test]
fn a_get_of_a_directory_continues_after_an_outage() {
    let mut colony = Colony::start_with(3, &NO_AUDITS);
    let tree = colony.path("tree");
    fs::create_dir(&tree).unwrap();
    for n in 0..16 {
        fs::write(tree.join(n.to_string()), random_bytes(n, 4 << 20)).unwrap();
    }
    run(colony.put().args(["--compress", "1"]).arg(&tree)).expect_success();
    let mut get = colony.get();
    get.args(["tree.manifest", "-o", "restored", "--jobs", "1"]);
    let mut get = suspend_get(&colony, &mut get);
    colony.cells.iter_mut().for_each(Cell::kill);
    get.signal(Signal::CONT);
    get.wait_for_line(&["no cell responds"]);
    colony.cells.iter_mut().for_each(Cell::restart);
    get.finish().expect_success();
    for n in 0..16 {
        let name = n.to_string();
        assert!(
            fs::read(colony.path("restored").join(&name)).unwrap() == fs::read(tree.join(&name)).unwrap(),
            "{name}"
        );
    }
}

/// Goal: a chunk whose only holder is gone is awaited although other cells respond, and fetched when the holder is back.
/// Method: a file with one copy of each chunk on two cells, of which one is killed in the middle of a get and restarted
/// when the get waits.
#[test]
fn the_only_holder_of_a_chunk_is_awaited() {
    let mut colony = Colony::start_with(2, &NO_AUDITS);
    let bytes = random_bytes(2, 64 << 20);
    let file = colony.write_file("file", &bytes);
    run(colony.put().args(["--compress", "1", "--copies", "1", "--min-copies", "1"]).arg(&file)).expect_success();
    let stored = StoredFile::read(&colony.path("file.manifest"));
    let mut get = colony.get();
    get.arg(&stored.manifest).args(["-o", "restored", "--jobs", "1"]);
    let mut get = suspend_get(&colony, &mut get);
    // The holder of the last chunk, which the get does not have yet.
    let holders = colony.copies();
    let last = *holders[stored.ids.last().unwrap()].first().unwrap();
    colony.cells[last].kill();
    get.signal(Signal::CONT);
    get.wait_for_line(&["1 of 2 cells does not respond", "waiting"]);
    colony.cells[last].restart();
    get.finish().expect_success().expect_line(&["again", "continuing"]);
    assert!(fs::read(colony.path("restored")).unwrap() == bytes);
}

/// Goal: a salvage calls nothing lost that a cell which hangs may have, and keeps what it has read. Method: suspends the
/// holder of some chunks in the middle of a salvage: once until the get waits, and once for longer than the get waits.
#[test]
fn a_salvage_waits_for_cells_that_hang() {
    let colony = Colony::start_with(2, &NO_AUDITS);
    let bytes = random_bytes(6, 64 << 20);
    let file = colony.write_file("file", &bytes);
    run(colony.put().args(["--compress", "1", "--copies", "1", "--min-copies", "1"]).arg(&file)).expect_success();
    let stored = StoredFile::read(&colony.path("file.manifest"));
    let last = *colony.copies()[stored.ids.last().unwrap()].first().unwrap();
    let restored = colony.path("restored");
    let salvage = |wait| {
        let mut get = colony.get();
        get.arg(&stored.manifest).args(["-o", "restored", "--jobs", "1", "--json", "--salvage", "--wait", wait]);
        get
    };
    let mut get = suspend_get(&colony, &mut salvage("2m"));
    colony.cells[last].suspend();
    get.signal(Signal::CONT);
    get.wait_for_line(&["1 of 2 cells does not respond", "waiting"]);
    colony.cells[last].resume();
    get.finish().expect_success().expect_line(&["again", "continuing"]);
    assert!(fs::read(&restored).unwrap() == bytes);
    fs::remove_file(&restored).unwrap();

    let mut get = suspend_get(&colony, &mut salvage("1s"));
    colony.cells[last].suspend();
    get.signal(Signal::CONT);
    let failed =
        get.finish().expect_code(4).expect_last_line(&["1 cell stopped responding", "--wait", "cellsync-part"]);
    assert!(!failed.stderr.contains(" lost"), "{}", failed.stderr);
    colony.cells[last].resume();
    let report = run(&mut salvage("2m")).expect_success().json();
    assert!(report["reused_bytes"].as_u64() >= Some(1 << 20), "{report}");
    assert!(fs::read(&restored).unwrap() == bytes);
}

/// Goal: without patience a get fails as soon as the colony was searched. Method: kills all cells in the middle of a get
/// with `--wait 0`.
#[test]
fn a_get_without_patience_fails_after_one_search() {
    let mut colony = Colony::start_with(2, &NO_AUDITS);
    let (mut get, _) = suspended_get(&colony, &["--wait", "0"]);
    colony.cells.iter_mut().for_each(Cell::kill);
    get.signal(Signal::CONT);
    get.finish().expect_error(4, &["on no cell", "2 cells stopped responding", "--wait"]);
}

/// Goal: the wait that was asked for is the one that is named and made when cells hang, and no request fails. Method:
/// suspends all cells in the middle of a get with a short wait.
#[test]
fn a_short_wait_ends_although_cells_hang() {
    let colony = Colony::start_with(2, &NO_AUDITS);
    let (mut get, _) = suspended_get(&colony, &["--wait", "9s"]);
    colony.cells.iter().for_each(Cell::suspend);
    get.signal(Signal::CONT);
    get.wait_for_line(&["no cell responds", "waiting up to 9 s"]);
    get.finish().expect_code(4).expect_last_line(&["2 cells stopped responding", "--wait"]);
    colony.cells.iter().for_each(Cell::resume);
}

/// Goal: Ctrl-C ends a wait. Method: kills all cells in the middle of a get with a long wait, and sends SIGINT.
#[test]
fn ctrl_c_ends_a_wait() {
    let mut colony = Colony::start_with(2, &NO_AUDITS);
    let (mut get, _) = suspended_get(&colony, &["--wait", "24h"]);
    colony.cells.iter_mut().for_each(Cell::kill);
    get.signal(Signal::CONT);
    get.wait_for_line(&["no cell responds", "1 day"]);
    get.signal(Signal::INT);
    get.finish().expect_code(1).expect_last_line(&["stopped"]);
}

/// Goal: a cell that answers queries at once and sends chunks a byte at a time holds up a get only until other holders
/// are asked. Method: such a cell among real ones. It is asked by each worker at most twice (before the first fetches are
/// over, nobody knows that it is slow), and none of these requests is waited for.
#[test]
fn a_cell_that_trickles_is_left_behind() {
    let colony = Colony::start_with(3, &NO_AUDITS);
    let bytes = random_bytes(5, 48 << 20);
    let stored = colony.put_bytes("file", &bytes);
    let trickling = BadCell::start_trickling(colony.udp_port());
    let id = trickling.id.to_string();
    wait_until("the cells know the bad one", || {
        let knows =
            |cell: &Cell| colony.http.peers(&cell.url).unwrap().cells.iter().any(|view| view.node_id.to_string() == id);
        colony.cells.iter().all(knows)
    });
    let mut get = colony.get();
    get.arg(&stored.manifest).args(["-o", "restored", "--jobs", "1", "--json"]);
    let got = run(&mut get).expect_success();
    assert_eq!(got.stderr, "");
    assert!(fs::read(colony.path("restored")).unwrap() == bytes);
    let (workers, cells, chunks) = (4, 4, 48);
    let (requested, _) = trickling.trickled();
    assert!((1..=2 * workers).contains(&requested), "{requested} requests to the cell that trickles");
    wait_until("all of them are abandoned", || trickling.trickled() == (requested, requested));
    let requests = got.json()["requests"].as_u64().unwrap();
    let retries = u64::try_from(requested).unwrap();
    // The search for cells asks some of them for their peers.
    assert!(requests <= 2 * cells + chunks + retries, "{requests} requests");
}
