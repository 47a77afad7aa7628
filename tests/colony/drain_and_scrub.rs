//! `cellsync drain`, which prepares cells for removal, and `cellsync scrub`, which checks all copies of cells.

use cellsync::wire::beacon::Status;
use rustix::process::Signal;

use crate::harness::{Colony, NO_AUDITS, Running, assert_facts, compressible_blocks, fast_options, has_fact, run};
use crate::wait::wait_until;

fn colony(cells: usize) -> Colony {
    Colony::start_with(cells, &fast_options())
}

/// The status in the beacon of the cell with this index.
fn status(colony: &Colony, cell: usize) -> Status {
    colony.http.status(&colony.cells[cell].url).unwrap().beacon.status
}

/// Goal: when a drain reports that a cell can be unplugged, it can. Method: drains one of six cells, named by the first
/// digits of its id, and kills it: every chunk has five copies on the others.
#[test]
fn a_drained_cell_can_be_unplugged_without_loss() {
    let mut colony = colony(6);
    let bytes = compressible_blocks(1, 20);
    let stored = colony.put_bytes("file", &bytes);
    let held = colony.cells[0].chunks().len();
    assert!(held > 0);
    let drained = run(colony.tool("drain").arg(colony.cells[0].short_id())).expect_success();
    assert_facts(drained.text(), &["can be unplugged", &held.to_string(), &colony.cells[0].url]);

    let table = run(&mut colony.status()).expect_success();
    let row = table.text().lines().find(|line| line.starts_with(colony.cells[0].short_id())).unwrap();
    assert!(row.contains(" draining "), "{row}");
    let unplug = table.text().lines().find(|line| line.contains("can be unplugged")).unwrap();
    assert!(unplug.contains(colony.cells[0].short_id()), "{unplug}");
    // New chunks go to other cells, and only the copies on those count.
    let other = colony.put_bytes("other", &compressible_blocks(2, 4));
    assert!(other.ids.iter().all(|id| !colony.cells[0].chunk_file(id).exists()));
    run(colony.tool("check").args([&stored.manifest])).expect_success();
    colony.cells[0].kill();
    run(colony.tool("check").args([&stored.manifest])).expect_success();
    assert!(colony.get_bytes(&stored.manifest) == bytes);
}

/// Goal: a drain that cannot continue reports why and waits; Ctrl-C only ends the waiting; a new cell lets the drain
/// end. Method: five cells and five copies; then a sixth cell.
#[test]
fn a_stuck_drain_reports_the_cause_and_continues_later() {
    let mut colony = colony(5);
    colony.put_bytes("file", &compressible_blocks(3, 5));
    let url = colony.cells[2].url.clone();
    let mut waiting = Running::start(colony.tool("drain").arg(&url));
    wait_until("no other cell can take the copies", || {
        colony.http.status(&url).unwrap().activity.drain.is_some_and(|drain| drain.stuck > 0)
    });
    // The command polls twice a second. Its output is read when it has ended.
    let later = colony.http.status(&url).unwrap().uptime_s + 3;
    wait_until("the command has polled again", || colony.http.status(&url).unwrap().uptime_s >= later);
    assert!(waiting.is_running());
    waiting.signal(Signal::INT);
    let stopped = waiting.finish().expect_code(1).expect_last_line(&[&format!("cellsync drain {url} --undo")]);
    let stuck: Vec<&str> = stopped.stderr.lines().filter(|line| line.contains("add a cell")).collect();
    assert_eq!(stuck.len(), 1, "{}", stopped.stderr);
    assert_facts(stuck[0], &["4"]);
    assert_eq!(status(&colony, 2), Status::Draining);

    colony.add_cell(&fast_options());
    let drained = run(colony.tool("drain").arg(colony.cells[2].address())).expect_success();
    assert_facts(drained.text(), &["can be unplugged", "5"]);
    let undone = run(colony.tool("drain").arg(&url).arg("--undo")).expect_success();
    assert_facts(undone.text(), &[&url]);
    wait_until("the cell accepts chunks again", || status(&colony, 2) == Status::Active);
    let started = run(colony.tool("drain").arg(&url).arg("--no-wait")).expect_success();
    assert_facts(started.text(), &[&url]);
    wait_until("the cell is draining again", || status(&colony, 2) == Status::Draining);
}

/// Goal: a scrub finds bad copies and reports where they are. Method: flips a bit in one copy. Scrubs a good cell, then
/// all; when the copy was replaced, all again.
#[test]
fn a_scrub_of_all_cells_names_the_one_with_a_bad_copy() {
    // No other cell finds it first.
    let colony = Colony::start_with(5, &NO_AUDITS);
    let stored = colony.put_bytes("file", &compressible_blocks(4, 8));
    colony.cells[3].flip_bit(&stored.ids[5]);
    let one = run(colony.tool("scrub").arg(&colony.cells[1].url)).expect_success();
    assert_facts(one.text(), &["8 copies", "all good"]);
    let all = run(&mut colony.tool("scrub")).expect_code(5);
    assert_eq!(all.text().lines().count(), 5);
    for cell in &colony.cells {
        let line = all.text().lines().find(|line| line.contains(&cell.url)).unwrap();
        assert_facts(line, &["8 copies"]);
        let is_bad = line.contains("1 bad");
        assert_eq!((is_bad, line.ends_with("all good")), (cell.id == colony.cells[3].id, !is_bad), "{line}");
    }
    wait_until("the copy is good again", || colony.cells[3].chunk_file(&stored.ids[5]).exists());
    colony.assert_all_copies_good();
    wait_until("a scrub finds no bad copy", || run(&mut colony.tool("scrub")).code == 0);
    let begun = run(colony.tool("scrub").arg("--no-wait")).expect_success();
    assert_eq!(begun.text().lines().filter(|line| has_fact(line, "8 copies")).count(), 5);
}

/// Goal: an argument that matches no cell is reported with the cells that exist. Method: passes an unknown id, a name
/// and an address without a cell.
#[test]
fn an_unknown_cell_is_reported_with_the_candidates() {
    let colony = colony(2);
    let ids: Vec<&str> = colony.cells.iter().map(|cell| cell.id.as_str()).collect();
    let unknown = if ids.iter().any(|id| id.starts_with("0000")) { "ffff0000" } else { "0000" };
    for command in ["drain", "scrub"] {
        run(colony.tool(command).arg(unknown)).expect_error(2, &[unknown, ids[0], ids[1]]);
        run(colony.tool(command).arg("pi4")).expect_error(2, &["pi4", "HOST:PORT"]);
        run(colony.tool(command).arg("127.0.0.1:1")).expect_error(1, &["127.0.0.1:1"]);
    }
    run(&mut colony.tool("drain")).expect_error(2, &["cell"]);
}
