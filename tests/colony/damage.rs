//! Disks that lie, and chunks that are nowhere.

use std::collections::BTreeSet;
use std::fs;

use cellsync::id::BLOCK_BYTES;

use crate::house::{Colony, QUIET, assert_facts, light_blocks, run};

/// Goal: a bad copy costs nothing but a warning that names its cell. Method: of each of 24 chunks one copy is good, at
/// random, and four are flipped: there is no way to the file that asks no bad one.
#[test]
fn bad_copies_are_passed_over_and_their_cells_named() {
    let colony = Colony::start_with(5, &QUIET);
    let bytes = light_blocks(1, 24);
    let stored = colony.put_bytes("file", &bytes);
    let mut flipped = BTreeSet::new();
    for id in &stored.ids {
        let good = fastrand::usize(0..5);
        for (_, cell) in colony.cells.iter().enumerate().filter(|(number, _)| *number != good) {
            cell.flip(id);
            flipped.insert((id.clone(), cell.url.clone()));
        }
    }
    let restored = colony.path("restored");
    let got = run(colony.get().arg(&stored.manifest).arg("-o").arg(&restored).arg("--json")).succeeded();
    assert!(fs::read(&restored).unwrap() == bytes);
    let json = got.json();
    let bad = json["bad_copies"].as_array().unwrap();
    assert!(!bad.is_empty());
    for copy in bad {
        let (id, cell) = (copy["chunk"].as_str().unwrap(), copy["cell"].as_str().unwrap());
        assert!(flipped.iter().any(|(chunk, url)| chunk == id && cell.contains(url)), "{copy}: that copy is good");
        let first = copy["index"].as_u64().unwrap() * BLOCK_BYTES as u64;
        let line = got.stderr.lines().find(|line| line.contains(cell) && line.contains(&id[..8])).expect("it is told");
        assert!(line.contains(&format!("{first}-")), "{line}");
    }
    assert_eq!(got.stderr.lines().count(), bad.len());
    // The same is seen when nothing is written.
    let checked = run(colony.get().arg(&stored.manifest).arg("--check")).succeeded();
    assert_facts(checked.text(), &["restored", "bad"]);
}

/// Goal: damage beyond repair is no file. Method: all copies of one chunk are flipped.
#[test]
fn a_chunk_with_only_bad_copies_is_exit_5_and_no_file() {
    let colony = Colony::start_with(3, &QUIET);
    let stored = colony.put_bytes("file", &light_blocks(2, 4));
    for cell in &colony.cells {
        cell.flip(&stored.ids[2]);
    }
    let mut get = colony.get();
    get.arg(&stored.manifest).args(["-o", "restored"]);
    let failed = run(&mut get).fails_in_one_line(5, &["2097152-3145727"]);
    assert!(colony.cells.iter().all(|cell| failed.stderr.contains(&cell.url)), "{}", failed.stderr);
    assert_eq!(colony.files(), ["file", "file.manifest"]);
    run(colony.get().arg(&stored.manifest).arg("--check")).fails_in_one_line(5, &["2097152-3145727"]);
}

/// Goal: what is missing is said by its bytes, and is no file. Method: one chunk's file is deleted on all cells; then
/// the last one's too, which is shorter.
#[test]
fn a_chunk_that_is_nowhere_is_exit_4_and_its_bytes_are_named() {
    let colony = Colony::start(3);
    let mut bytes = light_blocks(3, 4);
    bytes.extend(b"the rest");
    let stored = colony.put_bytes("file", &bytes);
    let remove = |index: usize| {
        for cell in &colony.cells {
            fs::remove_file(cell.chunk_file(&stored.ids[index])).unwrap();
        }
    };
    remove(1);
    let mut get = colony.get();
    get.arg(&stored.manifest).args(["-o", "restored"]);
    run(&mut get).fails_in_one_line(4, &["1 of 5", "3", "1048576-2097151"]);
    remove(4);
    run(&mut get).fails_in_one_line(4, &["2 of 5", "1048576-2097151", "4194304-4194311"]);
    assert_eq!(colony.files(), ["file", "file.manifest"]);
}
