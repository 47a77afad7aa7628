//! `cellsync check` and `cellsync repair`: how well a file is kept, and making the copies that are lacking.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::house::{Colony, DEADLINE, QUIET, Ran, Running, Stored, assert_facts, has_fact, light_blocks, run};

fn check(colony: &Colony, stored: &Stored, options: &[&str]) -> Ran {
    run(colony.tool("check").arg(&stored.manifest).args(options))
}

fn repair(colony: &Colony, stored: &Stored, options: &[&str]) -> Ran {
    run(colony.tool("repair").arg(&stored.manifest).args(options))
}

/// The last line on standard output is the answer.
#[track_caller]
fn verdict(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, code, "{}\n{}", ran.text(), ran.stderr);
    let line = ran.text().lines().last().unwrap_or_default();
    for word in words {
        assert!(has_fact(line, word), "{word:?} is not in: {}", ran.text());
    }
}

/// Which cells, by id, hold which chunk, as the check's JSON tells it.
fn told_holders(ran: &Ran) -> Vec<(String, BTreeSet<String>)> {
    let json = ran.json();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let chunks = json["chunks"].as_array().unwrap().iter();
    chunks.map(|chunk| (text(&chunk["id"]), chunk["holders"].as_array().unwrap().iter().map(text).collect())).collect()
}

/// Goal: a check tells what is on the disks. Method: six cells, a file; every holder that is told is compared with the
/// folders, before and after two cells are killed.
#[test]
fn a_check_tells_of_each_chunk_which_living_cells_have_it() {
    let mut colony = Colony::start(6);
    let stored = colony.put_bytes("file", &light_blocks(1, 12));
    let is_on_disk = |colony: &Colony, checked: &Ran| {
        let told = told_holders(checked);
        assert_eq!(told.iter().map(|(id, _)| id).collect::<Vec<_>>(), stored.ids.iter().collect::<Vec<_>>());
        for (id, holders) in told {
            let living = colony.cells.iter().filter(|cell| cell.is_running() && cell.chunk_file(&id).exists());
            assert_eq!(holders, living.map(|cell| cell.id.clone()).collect(), "{id}");
        }
    };
    for options in [&[][..], &["--deep"]] {
        verdict(&check(&colony, &stored, options), 0, &["whole", "5 copies"]);
        let json = check(&colony, &stored, &[options, &["--json"]].concat()).succeeded();
        assert_eq!((&json.json()["verdict"], &json.json()["short"]), (&"whole".into(), &0.into()));
        is_on_disk(&colony, &json);
    }
    verdict(&check(&colony, &stored, &["--copies", "6"]), 3, &["12 of 12", "6 copies"]);

    colony.cells[0].kill();
    colony.cells[1].kill();
    let json = check(&colony, &stored, &["--json"]).exits(3);
    is_on_disk(&colony, &json);
    let copies = colony.copies();
    let lost = |id: &String| (0..2).filter(|cell| copies[id].contains(cell)).count();
    let fewest = stored.ids.iter().map(|id| 5 - lost(id)).min().unwrap();
    let short = stored.ids.iter().filter(|id| lost(id) > 0).count();
    assert_eq!((&json.json()["fewest_copies"], &json.json()["short"]), (&fewest.into(), &short.into()));
    let words = check(&colony, &stored, &[]).exits(3);
    verdict(&words, 3, &["short", &format!("{short} of 12"), "5 copies"]);
    let weakest = stored.ids.iter().position(|id| 5 - lost(id) == fewest).unwrap();
    let first = weakest << 20;
    let line = words.text().lines().find(|line| line.contains("weakest")).unwrap();
    let bytes = format!("{first}-{}", first + (1 << 20) - 1);
    assert_facts(line, &[&weakest.to_string(), &stored.ids[weakest][..8], &bytes]);
}

/// Goal: a colony that is too small is told apart from copies that were lost. Method: three cells, five copies wanted,
/// then three.
#[test]
fn copies_on_all_cells_there_are_are_said_to_be_as_many_as_there_can_be() {
    let colony = Colony::start(3);
    let file = colony.file("file", &light_blocks(2, 2));
    run(colony.put().arg(&file)).succeeded();
    let stored = Stored::read(&colony.path("file.manifest"));
    verdict(&check(&colony, &stored, &[]), 3, &["3", "add 2 cells"]);
    verdict(&check(&colony, &stored, &["--copies", "3"]), 0, &["whole", "3 copies"]);
    let repaired = repair(&colony, &stored, &[]).fails_in_one_line(3, &["2 of 2", "3 cells"]);
    assert!(repaired.text().contains("0 copies made"), "{}", repaired.text());
    verdict(&check(&colony, &stored, &["--copies", "0"]), 2, &[]);
    colony.file("nothing", b"");
    run(colony.put().arg("nothing")).succeeded();
    verdict(&check(&colony, &Stored::read(&colony.path("nothing.manifest")), &[]), 0, &["empty"]);
}

/// Goal: chunks that are nowhere are told by their bytes, and no repair pretends. Method: one chunk's file is deleted on
/// all cells, another's on all but one.
#[test]
fn a_chunk_that_is_nowhere_is_exit_4_and_the_others_are_repaired_all_the_same() {
    let colony = Colony::start(5);
    let stored = colony.put_bytes("file", &light_blocks(3, 4));
    for (number, cell) in colony.cells.iter().enumerate() {
        fs::remove_file(cell.chunk_file(&stored.ids[1])).unwrap();
        if number != 3 {
            fs::remove_file(cell.chunk_file(&stored.ids[2])).unwrap();
        }
    }
    let missing = ["1 of 4", "1048576-2097151"];
    verdict(&check(&colony, &stored, &[]), 4, &missing);
    verdict(&check(&colony, &stored, &["--deep"]), 4, &missing);
    let repaired = repair(&colony, &stored, &[]).fails_in_one_line(4, &missing);
    assert_facts(repaired.text(), &["2 chunks", "5 copies", "4 copies"]);
    assert_eq!(colony.copies()[&stored.ids[2]].len(), 5);
    colony.assert_all_chunks_are_what_they_are_named();
}

/// Goal: a repair makes every copy that is lacking, on distinct cells, and no other. Method: of eight cells, copies are
/// deleted at random behind the cells' backs; one cell is killed; afterwards the folders are counted.
#[test]
fn a_repair_brings_every_chunk_back_to_its_copies_and_a_second_has_nothing_to_do() {
    let mut colony = Colony::start(8);
    let bytes = light_blocks(4, 24);
    let stored = colony.put_bytes("file", &bytes);
    for id in &stored.ids {
        let holders: Vec<usize> = colony.copies()[id].iter().copied().collect();
        for cell in &holders[..fastrand::usize(0..4)] {
            fs::remove_file(colony.cells[*cell].chunk_file(id)).unwrap();
        }
    }
    colony.cells[7].kill();
    let living = |colony: &Colony, id: &String| colony.copies()[id].iter().filter(|cell| **cell != 7).count();
    let lacking: usize = stored.ids.iter().map(|id| 5 - living(&colony, id)).sum();
    let short = stored.ids.iter().filter(|id| living(&colony, id) < 5).count();
    assert!(lacking > 0);
    let repaired = repair(&colony, &stored, &["--json"]).succeeded().json();
    assert_eq!(
        ["short", "made_copies", "still_short"].map(|key| repaired[key].as_u64()),
        [short, lacking, 0].map(|number| Some(number as u64)),
    );
    for id in &stored.ids {
        assert_eq!(living(&colony, id), 5, "{id}");
    }
    colony.assert_all_chunks_are_what_they_are_named();
    verdict(&check(&colony, &stored, &["--deep"]), 0, &["whole"]);
    verdict(&repair(&colony, &stored, &[]), 0, &["5 copies", "nothing"]);
    verdict(&repair(&colony, &stored, &["--copies", "7"]), 0, &["24 chunks", "7 copies", "48 copies"]);
    assert!(colony.get_bytes(&stored.manifest) == bytes);
}

/// Goal: only a deep check finds what rots. Method: bits of some copies are flipped on the disks.
#[test]
fn a_deep_check_counts_only_copies_that_are_good_and_names_the_bad_ones() {
    let colony = Colony::start_with(6, &QUIET);
    let stored = colony.put_bytes("file", &light_blocks(5, 20));
    let copies = colony.copies();
    let mut flipped = BTreeSet::new();
    for index in [3, 17] {
        for &cell in copies[&stored.ids[index]].iter().take(2) {
            colony.cells[cell].flip(&stored.ids[index]);
            flipped.insert((index as u64, colony.cells[cell].url.clone()));
        }
    }
    verdict(&check(&colony, &stored, &[]), 0, &["whole"]);
    let deep = check(&colony, &stored, &["--deep", "--json"]).exits(3).json();
    let bad = deep["bad_copies"].as_array().unwrap();
    assert_eq!(bad.len(), 4, "{bad:?}");
    for copy in bad {
        let cell = copy["cell"].as_str().unwrap();
        let url = cell.split(['(', ')']).nth(1).unwrap().to_owned();
        assert!(flipped.contains(&(copy["index"].as_u64().unwrap(), url)), "{copy} is good");
    }
    assert_eq!((&deep["short"], &deep["fewest_copies"], &deep["by_copies"]["3"]), (&2.into(), &3.into(), &2.into()));
}

/// Goal: bad copies are replaced by good ones. Method: bits of two copies of a chunk are flipped, and of all copies but
/// one of another; a sixth and seventh cell can take what cells that keep their bad files cannot.
#[test]
fn a_deep_repair_makes_good_copies_in_place_of_bad_ones() {
    let colony = Colony::start_with(7, &QUIET);
    let bytes = light_blocks(6, 6);
    let stored = colony.put_bytes("file", &bytes);
    let copies = colony.copies();
    let mut flipped = Vec::new();
    for (index, bad) in [(1, 2), (4, 1)] {
        for &cell in copies[&stored.ids[index]].iter().take(bad) {
            colony.cells[cell].flip(&stored.ids[index]);
            flipped.push((format!("{}-", index << 20), colony.cells[cell].url.as_str()));
        }
    }
    let names_a_flipped = |line: &&str| flipped.iter().any(|(bytes, url)| line.contains(bytes) && line.contains(url));
    let repaired = repair(&colony, &stored, &["--deep"]).succeeded();
    assert_facts(repaired.text(), &["2 chunks", "5 copies", "3 copies"]);
    assert_eq!(repaired.stderr.lines().filter(names_a_flipped).count(), 3);
    let good = |id: &String| {
        let is_good =
            |path: &Path| fs::read(path).is_ok_and(|bytes| cellsync::id::ChunkId::of(&bytes).to_string() == *id);
        colony.cells.iter().filter(|cell| is_good(&cell.chunk_file(id))).count()
    };
    for id in &stored.ids {
        // Cells that found their copy bad may have fetched a good one by themselves, too.
        assert!(good(id) >= 5, "{id}");
    }
    assert!(colony.get_bytes(&stored.manifest) == bytes);
}

/// Goal: a repair does not spread what is bad, and says when nothing good is left. Method: all copies of a chunk but one
/// are deleted, and that one is flipped.
#[test]
fn a_chunk_of_which_there_are_only_bad_copies_is_exit_5_and_not_copied() {
    let colony = Colony::start_with(5, &QUIET);
    let stored = colony.put_bytes("file", &light_blocks(7, 3));
    let id = &stored.ids[1];
    for cell in &colony.cells[1..] {
        fs::remove_file(cell.chunk_file(id)).unwrap();
    }
    colony.cells[0].flip(id);
    let repaired = repair(&colony, &stored, &[]).exits(5);
    repaired.warns(&["1", &colony.cells[0].url]).says(&["1048576-2097151"]);
    assert!(colony.cells[1..].iter().all(|cell| !cell.chunk_file(id).exists()));
}

/// A server that has nothing, and never answers to one method; the other end hears when it is asked for that.
fn hangs(method: &'static str) -> (String, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, asked) = mpsc::channel();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let first = lines.next().unwrap().unwrap();
            if first.starts_with(method) {
                held.push(stream);
                // Nobody waits for it if the test has failed meanwhile.
                let _ = tell.send(());
            } else {
                let status = if first.starts_with("POST /chunks/have ") { "200 OK" } else { "404 Not Found" };
                drop(write!(stream, "HTTP/1.0 {status}\r\nContent-Length: 0\r\n\r\n"));
            }
        }
    });
    (url, asked)
}

/// Goal: Ctrl-C ends a repair at once and in order, whatever it waits for. Method: a server that does not answer when it
/// is asked what it has, or when it is to take a copy.
#[test]
fn a_repair_that_is_stopped_says_so_at_once_and_can_be_run_again() {
    let colony = Colony::start(1);
    let file = colony.file("file", &light_blocks(8, 2));
    run(colony.put().arg(&file).args(["--copies", "1"])).succeeded();
    for method in ["POST", "PUT"] {
        let (url, asked) = hangs(method);
        let mut command = colony.tool("repair");
        command.args(["file.manifest", "--copies", "2", "--node", &colony.cells[0].url, "--node", &url]);
        let mut repair = Running::start(&mut command);
        asked.recv_timeout(DEADLINE).unwrap();
        let asked_to_stop = Instant::now();
        repair.signal(Signal::INT);
        repair.ended().fails_in_one_line(1, &["stopped"]);
        assert!(asked_to_stop.elapsed() < Duration::from_secs(10), "it waited for {method}");
    }
    let stored = Stored::read(&colony.path("file.manifest"));
    verdict(&repair(&colony, &stored, &[]), 0, &["1 copy", "nothing"]);
}

/// Goal: a check says so when nothing answers, and when it is asked for what is no manifest.
#[test]
fn without_a_colony_or_a_manifest_a_check_is_one_line() {
    let mut colony = Colony::start(1);
    let stored = colony.put_bytes("file", b"x");
    for command in ["check", "repair"] {
        run(colony.tool(command).arg("file")).fails_in_one_line(1, &["file", "not a CellSync manifest"]);
        run(colony.tool(command).arg("none")).fails_in_one_line(1, &["none", "No such file"]);
    }
    colony.cells[0].kill();
    for command in ["check", "repair"] {
        run(colony.tool(command).arg(&stored.manifest)).fails_in_one_line(3, &[&colony.udp_port().to_string()]);
    }
}
