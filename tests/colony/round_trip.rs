//! What is put comes back, as long as one copy of each chunk lives.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use cellsync::id::BLOCK_BYTES;

use crate::house::{Colony, Stored, light_blocks, mixed, noise, run, run_with_input};

/// Goal: five copies of each chunk, bytes that anybody can check, a manifest that tells nothing but what it must.
/// Method: puts mixed bytes over eight cells, looks at every file that this made, and gets them back.
#[test]
fn every_chunk_is_on_five_cells_under_its_own_hash_and_the_file_comes_back() {
    let colony = Colony::start(8);
    let bytes = mixed(1);
    let file = colony.file("holiday.raw", &bytes);
    let told = run(colony.put().arg(&file).args(["--json", "--compress", "1"])).succeeded().json();
    let stored = Stored::read(&colony.path("holiday.raw.manifest"));

    let blocks = bytes.len().div_ceil(BLOCK_BYTES);
    assert_eq!(stored.ids.len(), blocks);
    let copies = colony.copies();
    assert_eq!(copies.keys().collect::<BTreeSet<_>>(), stored.ids.iter().collect::<BTreeSet<_>>());
    assert!(copies.values().all(|cells| cells.len() == 5), "{copies:?}");
    assert_eq!(copies.values().flatten().collect::<BTreeSet<_>>().len(), 8, "all cells have a part of it");
    colony.assert_all_chunks_are_what_they_are_named();
    assert_eq!((told["chunks"].as_u64(), told["sent_copies"].as_u64()), (Some(blocks as u64), Some(5 * blocks as u64)));

    assert_eq!(fs::metadata(&stored.manifest).unwrap().permissions().mode() & 0o7777, 0o600);
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let named = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!(keys(&stored.json), named(&["version", "key", "size", "chunk_size", "copies", "chunks"]));
    assert!(stored.json["chunks"].as_array().unwrap().iter().all(|chunk| keys(chunk) == named(&["index", "id"])));
    assert_eq!(stored.json["size"], bytes.len());
    let text = fs::read_to_string(&stored.manifest).unwrap();
    for secret in ["holiday", "127.0.0.1", "/", &colony.cells[0].id, &colony.cells[0].id[..8]] {
        // The key is base64 and the ids are hexadecimal: neither has a slash, and both are far from the others.
        assert!(!text.contains(secret), "{secret:?} is in {text}");
    }
    assert_eq!(colony.files(), ["holiday.raw", "holiday.raw.manifest"], "no journal, nothing temporary");

    fs::remove_file(&file).unwrap();
    let said = run(colony.get().arg(&stored.manifest)).succeeded();
    assert!(said.stderr.is_empty(), "{}", said.stderr);
    assert!(fs::read(&file).unwrap() == bytes, "under the name that the manifest's name says");
}

/// Goal: no size is special. Method: none, one byte, a block exactly, and one byte more; compressed as hard as can be
/// and not at all.
#[test]
fn files_of_every_awkward_size_come_back() {
    let colony = Colony::start(3);
    for (level, size) in [("0", 0), ("9e", 0), ("0", 1), ("9e", 1), ("0", BLOCK_BYTES), ("9e", BLOCK_BYTES + 1)] {
        let bytes = noise(size as u64, size);
        let file = colony.file("file", &bytes);
        run(colony.put().args(["--copies", "3", "--force", "--compress", level]).arg(&file)).succeeded();
        let stored = Stored::read(&colony.path("file.manifest"));
        assert_eq!(stored.ids.len(), size.div_ceil(BLOCK_BYTES));
        assert!(colony.get_bytes(&stored.manifest) == bytes, "{size} bytes at level {level}");
    }
}

/// Goal: `-` is standard input and output, and there is nothing else on them. Method: pipes.
#[test]
fn standard_input_comes_back_on_standard_output() {
    let colony = Colony::start(3);
    let bytes = mixed(2);
    let mut put = colony.put();
    let put =
        run_with_input(put.args(["-", "-o", "m", "--copies", "2", "--quiet", "--compress", "1"]), &bytes).succeeded();
    assert!(put.stdout.is_empty() && put.stderr.is_empty());
    let got = run(colony.get().args(["m", "-o", "-"])).succeeded();
    assert!(got.stdout == bytes);
    assert!(got.stderr.is_empty(), "{}", got.stderr);
    run_with_input(colony.put().arg("-"), b"").fails_in_one_line(2, &["-o"]);
    run(colony.get().args(["m", "-o", "-", "--json"])).fails_in_one_line(2, &["--json"]);
    // An empty pipe is an empty file.
    run_with_input(colony.put().args(["-", "-o", "empty", "--copies", "2"]), b"").succeeded();
    assert!(run(colony.get().args(["empty", "-o", "-"])).succeeded().stdout.is_empty());
    assert_eq!(colony.files(), ["empty", "m"]);
}

/// Goal: a directory comes back with all that makes it one. Method: nested folders, an empty file, an empty folder, a
/// program, a link, a link to nowhere, names that are no ASCII.
#[test]
fn a_directory_comes_back_with_links_and_permissions() {
    let colony = Colony::start(3);
    let tree = colony.path("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::create_dir(tree.join("nothing in it")).unwrap();
    fs::write(tree.join("a/b/größe"), mixed(3)).unwrap();
    fs::write(tree.join("a/empty"), b"").unwrap();
    fs::write(tree.join("program"), b"#!/bin/sh\n").unwrap();
    fs::set_permissions(tree.join("program"), PermissionsExt::from_mode(0o750)).unwrap();
    fs::set_permissions(tree.join("a"), PermissionsExt::from_mode(0o700)).unwrap();
    symlink("a/b/größe", tree.join("link")).unwrap();
    symlink("nowhere", tree.join("dangling")).unwrap();

    run(colony.put().args(["tree", "--copies", "2", "--compress", "1"])).succeeded();
    let manifest = fs::read_to_string(colony.path("tree.manifest")).unwrap();
    assert!(manifest.contains(r#""content":"tar""#) && !manifest.contains("program"), "names stay secret");
    run(colony.get().args(["tree.manifest", "-o", "again"])).succeeded();

    let again = colony.path("again");
    assert_eq!(listing(&again), listing(&tree));
    assert_eq!(fs::read(again.join("link")).unwrap(), fs::read(tree.join("link")).unwrap());
    run(colony.get().args(["tree.manifest", "-o", "again"])).fails_in_one_line(2, &["again"]);
    run(colony.get().args(["tree.manifest", "-o", "again", "--force"])).fails_in_one_line(2, &["again"]);
    run(colony.put().args(["tree", "-o", "tree/m"])).fails_in_one_line(2, &["tree/m"]);
    assert_eq!(colony.files(), ["again", "tree", "tree.manifest"]);
}

/// Names, permissions, sizes and targets of all that is in a directory.
fn listing(root: &std::path::Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(root).sort_by_file_name().into_iter().map(Result::unwrap);
    let line = |entry: walkdir::DirEntry| {
        let metadata = entry.metadata().unwrap();
        let name = entry.path().strip_prefix(root).unwrap().to_owned();
        let size = if metadata.is_file() { metadata.len() } else { 0 };
        format!("{name:?} {:o} {size} {:?}", metadata.permissions().mode(), fs::read_link(entry.path()).ok())
    };
    entries.map(line).collect()
}

/// Goal: any four cells may be lost. Method: of five cells each holds everything; four are killed.
#[test]
fn one_cell_of_five_is_enough_to_get_a_file_back() {
    let mut colony = Colony::start(5);
    let bytes = mixed(4);
    let stored = colony.put_bytes("file", &bytes);
    for cell in &mut colony.cells[..4] {
        cell.kill();
    }
    assert!(colony.get_bytes(&stored.manifest) == bytes);
}

/// Goal: the same where no cell has everything. Method: of eight cells, four holders of the first chunk are killed;
/// each other chunk has one left too.
#[test]
fn four_holders_of_a_chunk_may_die() {
    let mut colony = Colony::start(8);
    let bytes = light_blocks(5, 12);
    let stored = colony.put_bytes("file", &bytes);
    let holders = colony.copies()[&stored.ids[0]].clone();
    for holder in holders.into_iter().take(4) {
        colony.cells[holder].kill();
    }
    assert!(colony.get_bytes(&stored.manifest) == bytes);
    // And when the others know of their death.
    colony.know_each_other();
    assert!(colony.get_bytes(&stored.manifest) == bytes);
}
