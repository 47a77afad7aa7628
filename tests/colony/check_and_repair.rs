//! `cellsync check`, which counts the copies of a file, and `cellsync repair`, which makes the missing ones.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{
    Colony, Finished, NO_AUDITS, Running, StoredFile, assert_facts, compressible_blocks, has_fact, run,
};
use crate::wait::TIMEOUT;

fn check(colony: &Colony, stored: &StoredFile, options: &[&str]) -> Finished {
    run(colony.tool("check").arg(&stored.manifest).args(options))
}

fn repair(colony: &Colony, stored: &StoredFile, options: &[&str]) -> Finished {
    run(colony.tool("repair").arg(&stored.manifest).args(options))
}

/// Asserts that the exit code is this, and that the last line on standard output, the verdict, has these facts.
#[track_caller]
fn assert_verdict(finished: &Finished, code: i32, facts: &[&str]) {
    assert_eq!(finished.code, code, "{}\n{}", finished.text(), finished.stderr);
    let line = finished.text().lines().last().unwrap_or_default();
    for fact in facts {
        assert!(has_fact(line, fact), "{fact:?} is not in: {}", finished.text());
    }
}

/// The ids of the cells that hold each chunk, as the JSON of a check reports them.
fn reported_holders(finished: &Finished) -> Vec<(String, BTreeSet<String>)> {
    let json = finished.json();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let chunks = json["chunks"].as_array().unwrap().iter();
    chunks.map(|chunk| (text(&chunk["id"]), chunk["holders"].as_array().unwrap().iter().map(text).collect())).collect()
}

/// Goal: a check reports what is on the disks. Method: compares every reported holder of a file on six cells with the
/// folders, before and after two cells are killed.
#[test]
fn a_check_reports_the_holders_of_each_chunk() {
    let mut colony = Colony::start(6);
    let stored = colony.put_bytes("file", &compressible_blocks(1, 12));
    let assert_on_disk = |colony: &Colony, checked: &Finished| {
        let reported = reported_holders(checked);
        assert_eq!(reported.iter().map(|(id, _)| id).collect::<Vec<_>>(), stored.ids.iter().collect::<Vec<_>>());
        for (id, holders) in reported {
            let holding = colony.running_cells().filter(|cell| cell.chunk_file(&id).exists());
            assert_eq!(holders, holding.map(|cell| cell.id.clone()).collect(), "{id}");
        }
    };
    for options in [&[][..], &["--deep"]] {
        assert_verdict(&check(&colony, &stored, options), 0, &["whole", "5 copies"]);
        let json = check(&colony, &stored, &[options, &["--json"]].concat()).expect_success();
        assert_eq!((&json.json()["verdict"], &json.json()["short"]), (&"whole".into(), &0.into()));
        assert_on_disk(&colony, &json);
    }
    assert_verdict(&check(&colony, &stored, &["--copies", "6"]), 3, &["12 of 12", "6 copies"]);

    colony.cells[0].kill();
    colony.cells[1].kill();
    let json = check(&colony, &stored, &["--json"]).expect_code(3);
    assert_on_disk(&colony, &json);
    let copies = colony.copies();
    let lost = |id: &String| (0..2).filter(|cell| copies[id].contains(cell)).count();
    let fewest = stored.ids.iter().map(|id| 5 - lost(id)).min().unwrap();
    let short = stored.ids.iter().filter(|id| lost(id) > 0).count();
    assert_eq!((&json.json()["fewest_copies"], &json.json()["short"]), (&fewest.into(), &short.into()));
    let short_check = check(&colony, &stored, &[]).expect_code(3);
    assert_verdict(&short_check, 3, &["short", &format!("{short} of 12"), "5 copies"]);
    let weakest = stored.ids.iter().position(|id| 5 - lost(id) == fewest).unwrap();
    let first = weakest << 20;
    let line = short_check.text().lines().find(|line| line.contains("weakest")).unwrap();
    let bytes = format!("{first}-{}", first + (1 << 20) - 1);
    assert_facts(line, &[&weakest.to_string(), &stored.ids[weakest][..8], &bytes]);
}

/// Goal: a colony that is too small is told apart from lost copies. Method: three cells with five copies wanted, then
/// with three.
#[test]
fn a_check_tells_a_small_colony_from_lost_copies() {
    let colony = Colony::start(3);
    let file = colony.write_file("file", &compressible_blocks(2, 2));
    run(colony.put().arg(&file)).expect_success();
    let stored = StoredFile::read(&colony.path("file.manifest"));
    assert_verdict(&check(&colony, &stored, &[]), 3, &["3", "add 2 cells"]);
    assert_verdict(&check(&colony, &stored, &["--copies", "3"]), 0, &["whole", "3 copies"]);
    let repaired = repair(&colony, &stored, &[]).expect_error(3, &["2 of 2", "3 cells"]);
    assert!(repaired.text().contains("0 copies made"), "{}", repaired.text());
    assert_verdict(&check(&colony, &stored, &["--copies", "0"]), 2, &[]);
    colony.write_file("nothing", b"");
    run(colony.put().arg("nothing")).expect_success();
    assert_verdict(&check(&colony, &StoredFile::read(&colony.path("nothing.manifest")), &[]), 0, &["empty"]);
}

/// Goal: missing chunks are reported by their bytes and do not stop a repair of the others. Method: deletes the copies
/// of one chunk on all cells, and of another on all cells but one.
#[test]
fn a_missing_chunk_is_exit_4_and_the_others_are_repaired() {
    let colony = Colony::start(5);
    let stored = colony.put_bytes("file", &compressible_blocks(3, 4));
    for (number, cell) in colony.cells.iter().enumerate() {
        fs::remove_file(cell.chunk_file(&stored.ids[1])).unwrap();
        if number != 3 {
            fs::remove_file(cell.chunk_file(&stored.ids[2])).unwrap();
        }
    }
    let missing = ["1 of 4", "1048576-2097151"];
    assert_verdict(&check(&colony, &stored, &[]), 4, &missing);
    assert_verdict(&check(&colony, &stored, &["--deep"]), 4, &missing);
    let repaired = repair(&colony, &stored, &[]).expect_error(4, &missing);
    assert_facts(repaired.text(), &["2 chunks", "5 copies", "4 copies"]);
    assert_eq!(colony.copies()[&stored.ids[2]].len(), 5);
    colony.assert_all_copies_good();
}

/// Goal: a repair makes every missing copy, on distinct cells, and no other; a second repair has nothing to do. Method:
/// deletes random copies on eight cells and kills one cell, then counts the files.
#[test]
fn a_repair_makes_all_missing_copies_and_no_others() {
    let mut colony = Colony::start(8);
    let bytes = compressible_blocks(4, 24);
    let stored = colony.put_bytes("file", &bytes);
    for id in &stored.ids {
        let holders: Vec<usize> = colony.copies()[id].iter().copied().collect();
        for cell in &holders[..fastrand::usize(0..4)] {
            fs::remove_file(colony.cells[*cell].chunk_file(id)).unwrap();
        }
    }
    colony.cells[7].kill();
    let running_copies = |colony: &Colony, id: &String| colony.copies()[id].iter().filter(|cell| **cell != 7).count();
    let missing: usize = stored.ids.iter().map(|id| 5 - running_copies(&colony, id)).sum();
    let short = stored.ids.iter().filter(|id| running_copies(&colony, id) < 5).count();
    assert!(missing > 0);
    let repaired = repair(&colony, &stored, &["--json"]).expect_success().json();
    assert_eq!(
        ["short", "made_copies", "still_short"].map(|key| repaired[key].as_u64()),
        [short, missing, 0].map(|number| Some(number as u64)),
    );
    for id in &stored.ids {
        assert_eq!(running_copies(&colony, id), 5, "{id}");
    }
    colony.assert_all_copies_good();
    assert_verdict(&check(&colony, &stored, &["--deep"]), 0, &["whole"]);
    assert_verdict(&repair(&colony, &stored, &[]), 0, &["5 copies", "nothing"]);
    assert_verdict(&repair(&colony, &stored, &["--copies", "7"]), 0, &["24 chunks", "7 copies", "48 copies"]);
    assert!(colony.get_bytes(&stored.manifest) == bytes);
}

/// Goal: only a deep check finds bad copies. Method: flips bits in some copies.
#[test]
fn only_a_deep_check_finds_bad_copies_and_names_them() {
    let colony = Colony::start_with(6, &NO_AUDITS);
    let stored = colony.put_bytes("file", &compressible_blocks(5, 20));
    let copies = colony.copies();
    let mut flipped = BTreeSet::new();
    for index in [3, 17] {
        for &cell in copies[&stored.ids[index]].iter().take(2) {
            colony.cells[cell].flip_bit(&stored.ids[index]);
            flipped.insert((index as u64, colony.cells[cell].url.clone()));
        }
    }
    assert_verdict(&check(&colony, &stored, &[]), 0, &["whole"]);
    let deep = check(&colony, &stored, &["--deep", "--json"]).expect_code(3).json();
    let bad = deep["bad_copies"].as_array().unwrap();
    assert_eq!(bad.len(), 4, "{bad:?}");
    for copy in bad {
        let cell = copy["cell"].as_str().unwrap();
        let url = cell.split(['(', ')']).nth(1).unwrap().to_owned();
        assert!(flipped.contains(&(copy["index"].as_u64().unwrap(), url)), "{copy} is good");
    }
    assert_eq!((&deep["short"], &deep["fewest_copies"], &deep["by_copies"]["3"]), (&2.into(), &3.into(), &2.into()));
}

/// Goal: bad copies are replaced by good ones. Method: flips bits in two copies of one chunk, and in one copy of
/// another; of seven cells, two have room for new copies.
#[test]
fn a_deep_repair_replaces_bad_copies() {
    let colony = Colony::start_with(7, &NO_AUDITS);
    let bytes = compressible_blocks(6, 6);
    let stored = colony.put_bytes("file", &bytes);
    let copies = colony.copies();
    let mut flipped = Vec::new();
    for (index, bad) in [(1, 2), (4, 1)] {
        for &cell in copies[&stored.ids[index]].iter().take(bad) {
            colony.cells[cell].flip_bit(&stored.ids[index]);
            flipped.push((format!("{}-", index << 20), colony.cells[cell].url.as_str()));
        }
    }
    let names_a_flipped = |line: &&str| flipped.iter().any(|(bytes, url)| line.contains(bytes) && line.contains(url));
    let repaired = repair(&colony, &stored, &["--deep"]).expect_success();
    assert_facts(repaired.text(), &["2 chunks", "5 copies", "3 copies"]);
    assert_eq!(repaired.stderr.lines().filter(names_a_flipped).count(), 3);
    for id in &stored.ids {
        // A cell that found its copy bad may have fetched a good one too.
        assert!(colony.cells.iter().filter(|cell| cell.has_good_copy(id)).count() >= 5, "{id}");
    }
    assert!(colony.get_bytes(&stored.manifest) == bytes);
}

/// Goal: a repair does not copy bad bytes, and reports a chunk without good copies. Method: deletes all copies of a
/// chunk but one, and flips a bit in that one.
#[test]
fn a_chunk_with_only_bad_copies_is_exit_5_and_not_copied() {
    let colony = Colony::start_with(5, &NO_AUDITS);
    let stored = colony.put_bytes("file", &compressible_blocks(7, 3));
    let id = &stored.ids[1];
    for cell in &colony.cells[1..] {
        fs::remove_file(cell.chunk_file(id)).unwrap();
    }
    colony.cells[0].flip_bit(id);
    let repaired = repair(&colony, &stored, &[]).expect_code(5);
    repaired.expect_line(&["1", &colony.cells[0].url]).expect_last_line(&["1048576-2097151"]);
    assert!(colony.cells[1..].iter().all(|cell| !cell.chunk_file(id).exists()));
}

/// A server without chunks that never answers requests with one method. The receiver gets a message for each of those.
fn hanging_server(method: &'static str) -> (String, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (send, requests) = mpsc::channel();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let first = lines.next().unwrap().unwrap();
            if first.starts_with(method) {
                open.push(stream);
                // Fails if the test has failed meanwhile.
                let _ = send.send(());
            } else {
                let status = if first.starts_with("POST /chunks/have ") { "200 OK" } else { "404 Not Found" };
                drop(write!(stream, "HTTP/1.0 {status}\r\nContent-Length: 0\r\n\r\n"));
            }
        }
    });
    (url, requests)
}

/// Goal: Ctrl-C stops a repair at once and in order, whatever it waits for. Method: a server that does not answer when
/// it is asked for its chunks, or when it is to store a copy.
#[test]
fn a_repair_stops_at_once_and_can_be_repeated() {
    let colony = Colony::start(1);
    let file = colony.write_file("file", &compressible_blocks(8, 2));
    run(colony.put().arg(&file).args(["--copies", "1"])).expect_success();
    for method in ["POST", "PUT"] {
        let (url, requests) = hanging_server(method);
        let mut command = colony.tool("repair");
        command.args(["file.manifest", "--copies", "2", "--node", &colony.cells[0].url, "--node", &url]);
        let mut repair = Running::start(&mut command);
        requests.recv_timeout(TIMEOUT).unwrap();
        let signalled = Instant::now();
        repair.signal(Signal::INT);
        repair.finish().expect_error(1, &["stopped"]);
        assert!(signalled.elapsed() < Duration::from_secs(10), "it waited for {method}");
    }
    let stored = StoredFile::read(&colony.path("file.manifest"));
    assert_verdict(&repair(&colony, &stored, &[]), 0, &["1 copy", "nothing"]);
}

/// Goal: a check without a colony, or of a file that is not a manifest, reports that. Method: kills the only cell;
/// passes another file, and none.
#[test]
fn a_check_without_colony_or_manifest_is_one_line() {
    let mut colony = Colony::start(1);
    let stored = colony.put_bytes("file", b"x");
    for command in ["check", "repair"] {
        run(colony.tool(command).arg("file")).expect_error(1, &["file", "not a CellSync manifest"]);
        run(colony.tool(command).arg("none")).expect_error(1, &["none", "No such file"]);
    }
    colony.cells[0].kill();
    for command in ["check", "repair"] {
        run(colony.tool(command).arg(&stored.manifest)).expect_error(3, &[&colony.udp_port().to_string()]);
    }
}
