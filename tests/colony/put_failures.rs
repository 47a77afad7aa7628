//! Puts that fail, or make fewer copies than wanted.

use std::fs;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::{Colony, assert_facts, compressible_blocks, mixed_content, random_bytes, run, run_with_input};
use crate::interrupted::suspend_put;

/// Goal: a put without a colony reports that and leaves nothing. Method: a UDP port without cells, and an address
/// without a server.
#[test]
fn a_put_without_a_colony_is_exit_3() {
    let colony = Colony::start(0);
    let file = colony.write_file("file", b"x");
    run(colony.put().arg(&file)).expect_error(3, &[&colony.udp_port().to_string(), "--node"]);
    run(colony.put().arg(&file).args(["--node", "127.0.0.1:1"])).expect_error(3, &["http://127.0.0.1:1"]);
    assert_eq!(colony.files(), ["file"]);
}

/// Goal: a put never makes fewer copies than the user accepts; otherwise it makes as many as possible and reports the
/// number. Method: three, two and one of the cells for five copies, with and without `--min-copies`.
#[test]
fn a_put_to_few_cells_makes_fewer_copies_or_refuses() {
    let mut colony = Colony::start(3);
    let bytes = compressible_blocks(1, 3);
    let file = colony.write_file("file", &bytes);
    let put = run(colony.put().arg(&file)).expect_success();
    let put = put.expect_line(&["3 copies", "instead of 5", "the colony makes the others"]);
    assert_facts(put.text(), &["3", "5"]);
    assert!(colony.copies().values().all(|cells| cells.len() == 3));
    assert!(colony.get_bytes(&colony.path("file.manifest")) == bytes);

    colony.cells[0].kill();
    colony.wait_all_active();
    fs::remove_file(colony.path("file.manifest")).unwrap();
    run(colony.put().arg(&file).args(["--min-copies", "3"])).expect_error(3, &["2", "3", "--min-copies 2"]);
    assert_eq!(colony.files(), ["file"]);
    // Two copies are enough by default; warnings appear even with --quiet.
    let put = run(colony.put().arg(&file).arg("--quiet")).expect_success();
    put.expect_line(&["2 copies", "instead of 5", "the colony makes the others"]);

    colony.cells[1].kill();
    colony.wait_all_active();
    fs::remove_file(colony.path("file.manifest")).unwrap();
    let before = colony.count_copies();
    run(colony.put().arg(&file)).expect_error(3, &["1 cell accepts", "2 copies", "--min-copies 1"]);
    assert_eq!((colony.files(), colony.count_copies()), (vec!["file".to_owned()], before));
    run(colony.put().arg(&file).args(["--min-copies", "1"])).expect_success();
    fs::remove_file(colony.path("file.manifest")).unwrap();
    run(colony.put().arg(&file).args(["--copies", "1"])).expect_success();
}

/// Goal: one full cell does not prevent a put. Method: five cells, of which one has no room, and five copies wanted.
#[test]
fn a_full_cell_among_five_is_left_out() {
    let mut colony = Colony::start(4);
    colony.add_cell(&["--quota", "100 KiB"]);
    let bytes = random_bytes(5, 6 << 20);
    let file = colony.write_file("file", &bytes);
    let put = run(colony.put().arg(&file).arg("--json")).expect_success();
    assert_eq!((&put.json()["fewest_copies"], &put.json()["short_chunks"]), (&4.into(), &6.into()));
    put.expect_line(&["4 cells accept chunks", "4 copies"]);
    assert!(colony.cells[4].chunks().is_empty());
    assert!(colony.copies().values().all(|cells| cells.len() == 4));
    assert!(colony.get_bytes(&colony.path("file.manifest")) == bytes);
}

/// Goal: a cell that fills up during a put is done without, and the put reports it. Method: four cells with room and one
/// whose quota is smaller than the file; then the same with a sixth cell, which takes the copies.
#[test]
fn a_cell_that_fills_up_during_a_put_is_done_without() {
    let mut colony = Colony::start(4);
    colony.add_cell(&["--quota", "5 MiB"]);
    let file = colony.write_file("file", &random_bytes(6, 12 << 20));
    let put = run(colony.put().arg(&file).arg("--json")).expect_success();
    assert_eq!(put.json()["fewest_copies"], 4);
    put.expect_line(&["of 12 chunks", "fewer than 5 copies", "the colony makes the others"]);
    let held = colony.cells[4].chunks().len();
    assert!((1..12).contains(&held), "{held}");

    colony.add_cell(&[""; 0]);
    let put = run(colony.put().arg(&file).args(["--json", "--force"])).expect_success();
    assert_eq!((&put.json()["fewest_copies"], &put.json()["short_chunks"]), (&5.into(), &0.into()));
    colony.assert_all_copies_good();
}

/// Goal: a put that cannot fit does not begin, reports what is missing, and begins if the user insists. Method: cells
/// whose quota is smaller than the file, which compresses well; and one that fits with fewer copies.
#[test]
fn a_put_without_room_does_not_begin() {
    let colony = Colony::start_with(3, &["--quota", "8 MiB"]);
    let bytes = compressible_blocks(7, 14);
    let file = colony.write_file("file", &bytes);
    let facts = ["2 copies need up to 28.1 MiB", "there is 24.0 MiB", "--min-copies 1", "--no-room-check"];
    run(colony.put().arg(&file)).expect_error(3, &facts);
    assert_eq!((colony.files(), colony.count_copies()), (vec!["file".to_owned()], 0));
    // In a pipe its size is unknown.
    run_with_input(colony.put().args(["-", "-o", "piped.manifest"]), &bytes).expect_success();
    let put = run(colony.put().arg(&file).args(["--no-room-check", "--copies", "3"])).expect_success();
    put.expect_line(&["if the data does not compress", "1 copy"]);
    assert!(colony.get_bytes(&colony.path("file.manifest")) == bytes);
}

/// Goal: a full colony is reported. Method: cells whose quota is smaller than a chunk; then cells that fill up during
/// the put.
#[test]
fn a_put_to_a_full_colony_is_exit_3() {
    let colony = Colony::start_with(2, &["--quota", "100 KiB"]);
    let file = colony.write_file("file", &random_bytes(1, 300_000));
    run(colony.put().arg(&file)).expect_error(3, &["2 of 2"]);
    assert_eq!(colony.files(), ["file"]);

    let colony = Colony::start_with(2, &["--quota", "3 MiB"]);
    let file = colony.write_file("file", &random_bytes(2, 8 << 20));
    run(colony.put().arg(&file)).expect_error(3, &["2 copies need up to 16", "there is 6"]);
    assert_eq!((colony.files(), colony.count_copies()), (vec!["file".to_owned()], 0));
    run(colony.put().arg(&file).arg("--no-room-check")).expect_code(3).expect_last_line(&[
        "2 of 2",
        "no room",
        "file.manifest.part",
    ]);
    assert!(!colony.path("file.manifest").exists());
    assert!(colony.cells.iter().all(|cell| !cell.has_staged_chunk()));
    colony.assert_all_copies_good();
}

/// Goal: a colony that disappears during a put costs only time. Method: kills all cells during a put, restarts them on
/// the same folders, and repeats the put.
#[test]
fn a_put_resumes_when_a_vanished_colony_is_back() {
    let mut colony = Colony::start(5);
    let bytes = random_bytes(3, 20 << 20);
    let file = colony.write_file("file", &bytes);
    let mut put = colony.put();
    put.args(["--compress", "1", "--jobs", "1", "--json"]).arg(&file);
    let mut first = suspend_put(&colony, &mut put, 4);
    for cell in &mut colony.cells {
        cell.kill();
    }
    first.signal(Signal::CONT);
    first.finish().expect_code(3).expect_last_line(&["of 5", "file.manifest.part"]);
    assert_eq!(colony.files(), ["file", "file.manifest.part"]);

    let before = colony.count_copies();
    assert!(before > 0);
    for cell in &mut colony.cells {
        cell.restart();
    }
    colony.wait_all_active();
    let report = run(&mut put).expect_success().json();
    assert_eq!(report["sent_copies"].as_u64(), Some(colony.count_copies() - before));
    assert!(colony.copies().values().all(|cells| cells.len() == 5));
    assert!(colony.get_bytes(&colony.path("file.manifest")) == bytes);
}

/// Goal: a cell that dies is replaced, for the chunks in progress and for those to come. Method: kills one of six cells
/// during a put with five copies.
#[test]
fn a_cell_that_dies_during_a_put_is_replaced() {
    let mut colony = Colony::start(6);
    let bytes = random_bytes(4, 16 << 20);
    let file = colony.write_file("file", &bytes);
    let mut put = colony.put();
    put.args(["--compress", "1", "--jobs", "1", "--json"]).arg(&file);
    let mut put = suspend_put(&colony, &mut put, 4);
    colony.cells[2].kill();
    put.signal(Signal::CONT);
    let put = put.finish().expect_success();
    assert_eq!((&put.json()["short_chunks"], &put.json()["fewest_copies"]), (&0.into(), &5.into()));
    put.expect_line(&[&colony.cells[2].url]);
    // The copies on the dead cell count, because it had acknowledged them.
    let copies = colony.copies();
    assert!(copies.values().all(|cells| cells.len() >= 5), "{copies:?}");
    assert!(colony.get_bytes(&colony.path("file.manifest")) == bytes);
}

/// Goal: a manifest that cannot be written is reported before anything is sent. Method: paths in folders that do not
/// exist, that are files, or that are mounted read-only.
#[test]
fn an_unwritable_manifest_is_found_before_sending() {
    let colony = Colony::start(1);
    let file = colony.write_file("file", b"x");
    run(colony.put().arg(&file).args(["-o", "no/such/folder/m"])).expect_error(2, &["no/such/folder/m"]);
    run(colony.put().arg(&file).args(["-o", "file/m"])).expect_error(2, &["file/m"]);
    fs::create_dir(colony.path("folder")).unwrap();
    run(colony.put().arg(&file).args(["-o", "folder"])).expect_error(2, &["folder"]);
    run(colony.put().arg(&file).args(["-o", "folder", "--force"])).expect_error(2, &["folder"]);
    run(colony.put().arg(&file).args(["-o", "new/"])).expect_error(2, &["new/"]);
    run(colony.put().arg(&file).args(["-o", "-"])).expect_error(2, &["-o FILE"]);
    if crate::get_failures::namespaces_are_permitted() {
        let put = colony.put();
        let script = "mount -t tmpfs none ro && mount -o remount,ro ro && exec \"$@\" file -o ro/m";
        fs::create_dir(colony.path("ro")).unwrap();
        run(&mut crate::get_failures::in_namespace(&put, script)).expect_error(1, &["ro/m", "Read-only"]);
        fs::remove_dir(colony.path("ro")).unwrap();
    }
    assert_eq!(colony.files(), ["file", "folder"]);
    assert_eq!(colony.count_copies(), 0);
}

/// Goal: the key of an earlier upload is not lost by accident. Method: puts a second file under the same name, without
/// and with `--force`.
#[test]
fn only_force_overwrites_a_manifest() {
    let colony = Colony::start(1);
    let stored = colony.put_bytes("file", b"the first");
    let earlier = fs::read(&stored.manifest).unwrap();
    let file = colony.write_file("file", b"the second");
    run(colony.put().arg(&file)).expect_error(2, &["file.manifest", "--force"]);
    assert_eq!(fs::read(&stored.manifest).unwrap(), earlier);
    assert_eq!(colony.get_bytes(&stored.manifest), b"the first");
    run(colony.put().arg(&file).arg("--force")).expect_success();
    assert_eq!(colony.get_bytes(&stored.manifest), b"the second");
    assert_eq!(colony.files(), ["file", "file.manifest"]);
}

/// Goal: invalid arguments are reported in one line, and nothing is done. Method: a list of mistakes for each program.
#[test]
fn invalid_arguments_are_one_line_and_exit_2() {
    let colony = Colony::start(0);
    colony.write_file("file", &mixed_content(1));
    for words in [
        &[][..],
        &["file", "more"],
        &["file", "--colour"],
        &["file", "--copies", "0"],
        &["file", "--copies", "33"],
        &["file", "--copies", "many"],
        &["file", "--copies", "3", "--min-copies", "4"],
        &["file", "--min-copies", "0"],
        &["file", "--compress", "10"],
        &["file", "--compress", "e"],
        &["file", "--jobs", "0"],
        &["file", "--jobs", "65"],
        &["file", "--udp-port", "0"],
        &["file", "--udp-port", "65536"],
        &["file", "--node", "https://127.0.0.1:1"],
        &["file", "--node", ""],
        &["-"],
    ] {
        run(Command::new(env!("CARGO_BIN_EXE_cellsync-put")).current_dir(colony.path("")).args(words))
            .expect_error(2, &["cellsync-put: "]);
    }
    for words in [&[][..], &["file"], &["m.manifest", "--check", "-o", "x"], &["m.manifest", "--jobs", "0"]] {
        run(Command::new(env!("CARGO_BIN_EXE_cellsync-get")).current_dir(colony.path("")).args(words))
            .expect_error(2, &["cellsync-get: "]);
    }
    for words in [&[][..], &["dance"], &["status", "--udp-port", "0"]] {
        run(Command::new(env!("CARGO_BIN_EXE_cellsync")).args(words)).expect_error(2, &["cellsync"]);
    }
    run(colony.put().arg("missing")).expect_error(1, &["missing"]);
    assert_eq!(colony.files(), ["file"]);
}

/// Goal: a put never succeeds with fewer copies than two, or than the user accepts. Method: kills four of five cells
/// during a put, restarts them, and repeats the put.
#[test]
fn a_put_that_loses_all_cells_but_one_fails() {
    let mut colony = Colony::start(5);
    let file = colony.write_file("file", &random_bytes(8, 12 << 20));
    let mut put = colony.put();
    put.args(["--compress", "1", "--jobs", "1", "--json"]).arg(&file);
    let mut first = suspend_put(&colony, &mut put, 3);
    for cell in &mut colony.cells[..4] {
        cell.kill();
    }
    first.signal(Signal::CONT);
    first.finish().expect_code(3).expect_last_line(&["of 5", "the 2 required", "--min-copies", "file.manifest.part"]);
    assert_eq!(colony.files(), ["file", "file.manifest.part"]);
    for cell in &mut colony.cells[..4] {
        cell.restart();
    }
    colony.wait_all_active();
    assert_eq!(run(&mut put).expect_success().json()["fewest_copies"], 5);
}

/// Goal: no mistake destroys the file or the only key. Method: names the source, the manifest itself, or the manifest
/// of another upload as the output, some with `--force`.
#[test]
fn no_put_or_get_overwrites_its_source_or_a_manifest() {
    let colony = Colony::start(5);
    let file = colony.write_file("file", b"precious");
    run(colony.put().arg(&file).args(["-o", "file", "--force"])).expect_error(2, &["file"]);
    assert_eq!(fs::read(&file).unwrap(), b"precious");

    let stored = colony.put_bytes("file", b"precious");
    let manifest = fs::read(&stored.manifest).unwrap();
    let itself = ["-o", "file.manifest", "--force"];
    run(colony.get().arg(&stored.manifest).args(itself)).expect_error(2, &["file.manifest"]);
    let mut piped = colony.put();
    run_with_input(piped.args(["-", "-o", "file.manifest"]), b"else").expect_error(2, &["file.manifest"]);
    // Nor does the journal of another put permit it.
    colony.write_file("file.manifest.part", b"");
    run(colony.put().arg(&file)).expect_error(2, &["file.manifest"]);
    run_with_input(piped.args(["--json"]), b"else").expect_error(2, &["file.manifest"]);
    assert_eq!(fs::read(&stored.manifest).unwrap(), manifest);
}
