//! Gets from disks with bad copies, and of chunks that no cell has.

use std::collections::BTreeSet;
use std::fs;

use cellsync::id::BLOCK_BYTES;

use crate::harness::{Colony, NO_AUDITS, assert_facts, compressible_blocks, run};

/// Goal: a bad copy costs a warning that names its cell, and nothing else. Method: of each of 24 chunks four copies are
/// flipped and one, at random, is good: every way to the file meets a bad one.
#[test]
fn bad_copies_are_skipped_and_their_cells_named() {
    let colony = Colony::start_with(5, &NO_AUDITS);
    let bytes = compressible_blocks(1, 24);
    let stored = colony.put_bytes("file", &bytes);
    let mut flipped = BTreeSet::new();
    for id in &stored.ids {
        let good = fastrand::usize(0..5);
        for (_, cell) in colony.cells.iter().enumerate().filter(|(number, _)| *number != good) {
            cell.flip_bit(id);
            flipped.insert((id.clone(), cell.url.clone()));
        }
    }
    let restored = colony.path("restored");
    let got = run(colony.get().arg(&stored.manifest).arg("-o").arg(&restored).arg("--json")).expect_success();
    assert!(fs::read(&restored).unwrap() == bytes);
    let json = got.json();
    let bad = json["bad_copies"].as_array().unwrap();
    assert!(!bad.is_empty());
    for copy in bad {
        let (id, cell) = (copy["chunk"].as_str().unwrap(), copy["cell"].as_str().unwrap());
        assert!(flipped.iter().any(|(chunk, url)| chunk == id && cell.contains(url)), "{copy}: that copy is good");
        let first = copy["index"].as_u64().unwrap() * BLOCK_BYTES as u64;
        let line = got
            .stderr
            .lines()
            .find(|line| line.contains(cell) && line.contains(&id[..8]))
            .expect("a warning for the copy");
        assert!(line.contains(&format!("{first}-")), "{line}");
    }
    assert_eq!(got.stderr.lines().count(), bad.len());
    // A check reports them too, and writes nothing.
    let checked = run(colony.get().arg(&stored.manifest).arg("--check")).expect_success();
    assert_facts(checked.text(), &["restored", "bad"]);
}

/// Goal: damage beyond repair restores no file. Method: flips a bit in all copies of one chunk.
#[test]
fn a_chunk_with_only_bad_copies_is_exit_5_and_no_file() {
    let colony = Colony::start_with(3, &NO_AUDITS);
    let stored = colony.put_bytes("file", &compressible_blocks(2, 4));
    for cell in &colony.cells {
        cell.flip_bit(&stored.ids[2]);
    }
    let mut get = colony.get();
    get.arg(&stored.manifest).args(["-o", "restored"]);
    let failed = run(&mut get).expect_error(5, &["2097152-3145727"]);
    assert!(colony.cells.iter().all(|cell| failed.stderr.contains(&cell.url)), "{}", failed.stderr);
    // What was verified is kept for the next try, under another name.
    assert!(!colony.path("restored").exists());
    run(colony.get().arg(&stored.manifest).arg("--check")).expect_error(5, &["2097152-3145727"]);
}

/// Goal: a missing chunk is reported by its bytes and restores no file. Method: deletes the copies of one chunk on all
/// cells; then those of the last chunk too, which is shorter.
#[test]
fn a_missing_chunk_is_exit_4_and_its_bytes_are_named() {
    let colony = Colony::start(3);
    let mut bytes = compressible_blocks(3, 4);
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
    run(&mut get).expect_error(4, &["1 of 5", "3", "1048576-2097151"]);
    remove(4);
    run(&mut get).expect_error(4, &["2 of 5", "1048576-2097151", "4194304-4194311"]);
    assert_eq!(colony.files(), ["file", "file.manifest"]);
}
