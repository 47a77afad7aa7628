//! `cellsync drain` and `cellsync scrub`: cells that are to be unplugged, and cells that look at all they hold.

use cellsync::wire::beacon::Status;
use rustix::process::Signal;

use crate::healing::quick;
use crate::house::{Colony, QUIET, Running, assert_facts, eventually, has_fact, light_blocks, run};

fn colony(cells: usize) -> Colony {
    Colony::start_with(cells, &quick().iter().map(String::as_str).collect::<Vec<_>>())
}

/// How the cell of this number speaks of itself.
fn status(colony: &Colony, cell: usize) -> Status {
    colony.http.status(&colony.cells[cell].url).unwrap().beacon.status
}

/// Goal: when a drain says that a cell can be unplugged, it can. Method: one of six cells is drained, by the first digits
/// of its id, and killed; every chunk has its five copies on the others then.
#[test]
fn a_drained_cell_can_be_unplugged_and_nothing_is_short() {
    let mut colony = colony(6);
    let bytes = light_blocks(1, 20);
    let stored = colony.put_bytes("file", &bytes);
    let held = colony.cells[0].chunks().len();
    assert!(held > 0);
    let drained = run(colony.tool("drain").arg(&colony.cells[0].id[..8])).succeeded();
    assert_facts(drained.text(), &["can be unplugged", &held.to_string(), &colony.cells[0].url]);

    let table = run(&mut colony.status()).succeeded();
    let row = table.text().lines().find(|line| line.starts_with(&colony.cells[0].id[..8])).unwrap();
    assert!(row.contains(" draining "), "{row}");
    let unplug = table.text().lines().find(|line| line.contains("can be unplugged")).unwrap();
    assert!(unplug.contains(&colony.cells[0].id[..8]), "{unplug}");
    // What is put now goes elsewhere, and what is counted are the others' copies.
    let other = colony.put_bytes("other", &light_blocks(2, 4));
    assert!(other.ids.iter().all(|id| !colony.cells[0].chunk_file(id).exists()));
    run(colony.tool("check").args([&stored.manifest])).succeeded();
    colony.cells[0].kill();
    run(colony.tool("check").args([&stored.manifest])).succeeded();
    assert!(colony.get_bytes(&stored.manifest) == bytes);
}

/// Goal: a drain that cannot go on says why and waits; Ctrl-C ends only the waiting; a cell that is added lets it end.
/// Method: five cells, five copies; then a sixth.
#[test]
fn a_drain_that_is_stuck_says_what_is_lacking_and_goes_on_by_itself() {
    let mut colony = colony(5);
    colony.put_bytes("file", &light_blocks(3, 5));
    let url = colony.cells[2].url.clone();
    let mut waiting = Running::start(colony.tool("drain").arg(&url));
    eventually("copies are stuck", || {
        colony.http.status(&url).unwrap().activity.drain.is_some_and(|drain| drain.stuck > 0)
    });
    // It looks twice a second; what it says then is read when it has ended.
    let looks = colony.http.status(&url).unwrap().uptime_s + 3;
    eventually("it has looked again", || colony.http.status(&url).unwrap().uptime_s >= looks);
    assert!(waiting.is_running());
    waiting.signal(Signal::INT);
    let stopped = waiting.ended().exits(1).says(&[&format!("cellsync drain {url} --undo")]);
    let stuck: Vec<&str> = stopped.stderr.lines().filter(|line| line.contains("add a cell")).collect();
    assert_eq!(stuck.len(), 1, "{}", stopped.stderr);
    assert_facts(stuck[0], &["4"]);
    assert_eq!(status(&colony, 2), Status::Draining);

    let options = quick();
    colony.join(&options.iter().map(String::as_str).collect::<Vec<_>>());
    let drained = run(colony.tool("drain").arg(colony.cells[2].door())).succeeded();
    assert_facts(drained.text(), &["can be unplugged", "5"]);
    let stays = run(colony.tool("drain").arg(&url).arg("--undo")).succeeded();
    assert_facts(stays.text(), &[&url]);
    eventually("it takes chunks again", || status(&colony, 2) == Status::Active);
    let told = run(colony.tool("drain").arg(&url).arg("--no-wait")).succeeded();
    assert_facts(told.text(), &[&url]);
    eventually("it is drained again", || status(&colony, 2) == Status::Draining);
}

/// Goal: a scrub finds what has rotted and says where. Method: a bit of one copy is flipped on the disk; one cell is
/// scrubbed that is sound, then all; when the copy was made good, all again.
#[test]
fn a_scrub_of_all_cells_names_the_one_with_a_bad_copy() {
    // No other cell finds it first.
    let colony = Colony::start_with(5, &QUIET);
    let stored = colony.put_bytes("file", &light_blocks(4, 8));
    colony.cells[3].flip(&stored.ids[5]);
    let one = run(colony.tool("scrub").arg(&colony.cells[1].url)).succeeded();
    assert_facts(one.text(), &["8 copies", "all good"]);
    let all = run(&mut colony.tool("scrub")).exits(5);
    assert_eq!(all.text().lines().count(), 5);
    for cell in &colony.cells {
        let line = all.text().lines().find(|line| line.contains(&cell.url)).unwrap();
        assert_facts(line, &["8 copies"]);
        let is_bad = line.contains("1 bad");
        assert_eq!((is_bad, line.ends_with("all good")), (cell.id == colony.cells[3].id, !is_bad), "{line}");
    }
    eventually("the copy is good again", || colony.cells[3].chunk_file(&stored.ids[5]).exists());
    colony.assert_all_chunks_are_what_they_are_named();
    eventually("nothing is bad any more", || run(&mut colony.tool("scrub")).code == 0);
    let begun = run(colony.tool("scrub").arg("--no-wait")).succeeded();
    assert_eq!(begun.text().lines().filter(|line| has_fact(line, "8 copies")).count(), 5);
}

/// Goal: a name that fits no cell, or none alone, is told with the names there are.
#[test]
fn a_cell_that_is_named_wrongly_is_told_in_one_line() {
    let colony = colony(2);
    let ids: Vec<&str> = colony.cells.iter().map(|cell| cell.id.as_str()).collect();
    let nobody = if ids.iter().any(|id| id.starts_with("0000")) { "ffff0000" } else { "0000" };
    for command in ["drain", "scrub"] {
        run(colony.tool(command).arg(nobody)).fails_in_one_line(2, &[nobody, ids[0], ids[1]]);
        run(colony.tool(command).arg("pi4")).fails_in_one_line(2, &["pi4", "HOST:PORT"]);
        run(colony.tool(command).arg("127.0.0.1:1")).fails_in_one_line(1, &["127.0.0.1:1"]);
    }
    run(&mut colony.tool("drain")).fails_in_one_line(2, &["cell"]);
}
