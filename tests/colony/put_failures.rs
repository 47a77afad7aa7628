//! Puts that cannot succeed, or only just.

use std::fs;
use std::process::Command;

use rustix::process::Signal;

use crate::house::{Colony, assert_facts, light_blocks, mixed, noise, run, run_with_input};
use crate::interrupted::half_way;

/// Goal: a put without a colony says so and leaves nothing. Method: a port on which nobody lives, and a door behind
/// which nobody does.
#[test]
fn without_a_cell_a_put_is_exit_3() {
    let colony = Colony::start(0);
    let file = colony.file("file", b"x");
    run(colony.put().arg(&file)).fails_in_one_line(3, &[&colony.udp_port().to_string(), "--node"]);
    run(colony.put().arg(&file).args(["--node", "127.0.0.1:1"])).fails_in_one_line(3, &["http://127.0.0.1:1"]);
    assert_eq!(colony.files(), ["file"]);
}

/// Goal: never fewer copies than the user accepts; as many as there can be otherwise, and it is said. Method: two and
/// three cells where five copies are wanted.
#[test]
fn with_too_few_cells_a_put_makes_fewer_copies_or_refuses() {
    let mut colony = Colony::start(3);
    let bytes = light_blocks(1, 3);
    let file = colony.file("file", &bytes);
    let put = run(colony.put().arg(&file)).succeeded();
    let put = put.warns(&["3", "5"]);
    assert_facts(put.text(), &["3", "5"]);
    assert!(colony.copies().values().all(|cells| cells.len() == 3));
    assert!(colony.get_bytes(&colony.path("file.manifest")) == bytes);

    colony.cells[0].kill();
    colony.know_each_other();
    fs::remove_file(colony.path("file.manifest")).unwrap();
    run(colony.put().arg(&file).args(["--min-copies", "3"])).fails_in_one_line(3, &["2", "3"]);
    assert_eq!(colony.files(), ["file"]);
    run(colony.put().arg(&file).args(["--min-copies", "2"])).succeeded();
}

/// Goal: a full colony is said to be full. Method: cells whose quota is less than a chunk; then cells that fill up on
/// the way.
#[test]
fn without_room_a_put_is_exit_3() {
    let colony = Colony::start_with(2, &["--quota", "100 KiB"]);
    let file = colony.file("file", &noise(1, 300_000));
    run(colony.put().arg(&file)).fails_in_one_line(3, &["2 of 2"]);
    assert_eq!(colony.files(), ["file"]);

    let colony = Colony::start_with(2, &["--quota", "3 MiB"]);
    let file = colony.file("file", &noise(2, 8 << 20));
    run(colony.put().arg(&file)).exits(3).says(&["2 of 2", "no room", "file.manifest.part"]);
    assert!(!colony.path("file.manifest").exists());
    assert!(colony.cells.iter().all(|cell| !cell.is_taking_a_chunk()));
    colony.assert_all_chunks_are_what_they_are_named();
}

/// Goal: a colony that goes away in the middle costs only time. Method: kills all cells while a put is under way,
/// starts them again on the same folders, and puts again.
#[test]
fn a_colony_that_vanishes_half_way_is_exit_3_and_the_put_goes_on_when_it_is_back() {
    let mut colony = Colony::start(5);
    let bytes = noise(3, 20 << 20);
    let file = colony.file("file", &bytes);
    let mut put = colony.put();
    put.args(["--compress", "1", "--jobs", "1", "--json"]).arg(&file);
    let mut first = half_way(&colony, &mut put, 4);
    for cell in &mut colony.cells {
        cell.kill();
    }
    first.signal(Signal::CONT);
    first.ended().exits(3).says(&["of 5", "file.manifest.part"]);
    assert_eq!(colony.files(), ["file", "file.manifest.part"]);

    let before = colony.count_copies();
    assert!(before > 0);
    for cell in &mut colony.cells {
        cell.restart();
    }
    colony.know_each_other();
    let told = run(&mut put).succeeded().json();
    assert_eq!(told["sent_copies"].as_u64(), Some(colony.count_copies() - before));
    assert!(colony.copies().values().all(|cells| cells.len() == 5));
    assert!(colony.get_bytes(&colony.path("file.manifest")) == bytes);
}

/// Goal: a cell that dies is replaced, for the chunks under way and for those to come. Method: of six cells, one is
/// killed in the middle; five copies are wanted.
#[test]
fn a_cell_that_dies_during_a_put_is_replaced_by_another() {
    let mut colony = Colony::start(6);
    let bytes = noise(4, 16 << 20);
    let file = colony.file("file", &bytes);
    let mut put = colony.put();
    put.args(["--compress", "1", "--jobs", "1", "--json"]).arg(&file);
    let mut put = half_way(&colony, &mut put, 4);
    colony.cells[2].kill();
    put.signal(Signal::CONT);
    let put = put.ended().succeeded();
    assert_eq!((&put.json()["short_chunks"], &put.json()["fewest_copies"]), (&0.into(), &5.into()));
    put.warns(&[&colony.cells[2].url]);
    // Copies on the dead cell count: it had acknowledged them before.
    let copies = colony.copies();
    assert!(copies.values().all(|cells| cells.len() >= 5), "{copies:?}");
    assert!(colony.get_bytes(&colony.path("file.manifest")) == bytes);
}

/// Goal: that the manifest cannot be written is found out before anything is sent. Method: folders that are not
/// there, that are files, and that are mounted read-only in a namespace of its own.
#[test]
fn a_manifest_that_cannot_be_written_is_one_line_and_nothing_is_sent() {
    let colony = Colony::start(1);
    let file = colony.file("file", b"x");
    run(colony.put().arg(&file).args(["-o", "no/such/folder/m"])).fails_in_one_line(1, &["no/such/folder/m"]);
    run(colony.put().arg(&file).args(["-o", "file/m"])).fails_in_one_line(1, &["file/m"]);
    fs::create_dir(colony.path("folder")).unwrap();
    run(colony.put().arg(&file).args(["-o", "folder"])).fails_in_one_line(2, &["folder"]);
    run(colony.put().arg(&file).args(["-o", "folder", "--force"])).fails_in_one_line(2, &["folder"]);
    run(colony.put().arg(&file).args(["-o", "new/"])).fails_in_one_line(2, &["new/"]);
    run(colony.put().arg(&file).args(["-o", "-"])).fails_in_one_line(2, &["-o FILE"]);
    if crate::get_failures::namespaces_are_permitted() {
        let put = colony.put();
        let script = "mount -t tmpfs none ro && mount -o remount,ro ro && exec \"$@\" file -o ro/m";
        fs::create_dir(colony.path("ro")).unwrap();
        run(&mut crate::get_failures::in_namespace(&put, script)).fails_in_one_line(1, &["ro/m", "Read-only"]);
        fs::remove_dir(colony.path("ro")).unwrap();
    }
    assert_eq!(colony.files(), ["file", "folder"]);
    assert_eq!(colony.count_copies(), 0);
}

/// Goal: the key of an earlier upload is not lost by accident. Method: puts a second file under the same name, without
/// and with `--force`.
#[test]
fn a_manifest_that_is_there_is_written_over_only_by_force() {
    let colony = Colony::start(1);
    let stored = colony.put_bytes("file", b"the first");
    let earlier = fs::read(&stored.manifest).unwrap();
    let file = colony.file("file", b"the second");
    run(colony.put().arg(&file)).fails_in_one_line(2, &["file.manifest", "--force"]);
    assert_eq!(fs::read(&stored.manifest).unwrap(), earlier);
    assert_eq!(colony.get_bytes(&stored.manifest), b"the first");
    run(colony.put().arg(&file).arg("--force")).succeeded();
    assert_eq!(colony.get_bytes(&stored.manifest), b"the second");
    assert_eq!(colony.files(), ["file", "file.manifest"]);
}

/// Goal: every mistake on a command line is one line and exit 2, and does nothing. Method: a list of mistakes.
#[test]
fn mistakes_on_the_command_line_are_one_line_each_and_exit_2() {
    let colony = Colony::start(0);
    colony.file("file", &mixed(1));
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
            .fails_in_one_line(2, &["cellsync-put: "]);
    }
    for words in [&[][..], &["file"], &["m.manifest", "--check", "-o", "x"], &["m.manifest", "--jobs", "0"]] {
        run(Command::new(env!("CARGO_BIN_EXE_cellsync-get")).current_dir(colony.path("")).args(words))
            .fails_in_one_line(2, &["cellsync-get: "]);
    }
    for words in [&[][..], &["dance"], &["status", "--udp-port", "0"]] {
        run(Command::new(env!("CARGO_BIN_EXE_cellsync")).args(words)).fails_in_one_line(2, &["cellsync"]);
    }
    run(colony.put().arg("missing")).fails_in_one_line(1, &["missing"]);
    assert_eq!(colony.files(), ["file"]);
}

/// Goal: cells that are lost on the way do not lower what is enough: a put that began with five copies never ends
/// well with one. Method: four of five cells are killed in the middle of a put; they are started again, and it is
/// gone on with.
#[test]
fn cells_lost_during_a_put_do_not_make_one_copy_enough() {
    let mut colony = Colony::start(5);
    let file = colony.file("file", &noise(8, 12 << 20));
    let mut put = colony.put();
    put.args(["--compress", "1", "--jobs", "1", "--json"]).arg(&file);
    let mut first = half_way(&colony, &mut put, 3);
    for cell in &mut colony.cells[..4] {
        cell.kill();
    }
    first.signal(Signal::CONT);
    first.ended().exits(3).says(&["of 5", "--min-copies", "file.manifest.part"]);
    assert_eq!(colony.files(), ["file", "file.manifest.part"]);
    for cell in &mut colony.cells[..4] {
        cell.restart();
    }
    colony.know_each_other();
    assert_eq!(run(&mut put).succeeded().json()["fewest_copies"], 5);
}

/// Goal: no slip of the hand destroys the file or the only key. Method: manifests and outputs that are the source, the
/// manifest itself, or the manifest of another upload, some with `--force`.
#[test]
fn neither_the_source_nor_a_manifest_is_written_over_by_mistake() {
    let colony = Colony::start(5);
    let file = colony.file("file", b"precious");
    run(colony.put().arg(&file).args(["-o", "file", "--force"])).fails_in_one_line(2, &["file"]);
    assert_eq!(fs::read(&file).unwrap(), b"precious");

    let stored = colony.put_bytes("file", b"precious");
    let manifest = fs::read(&stored.manifest).unwrap();
    let itself = ["-o", "file.manifest", "--force"];
    run(colony.get().arg(&stored.manifest).args(itself)).fails_in_one_line(2, &["file.manifest"]);
    let mut piped = colony.put();
    run_with_input(piped.args(["-", "-o", "file.manifest"]), b"else").fails_in_one_line(2, &["file.manifest"]);
    // The journal of some other put gives no right to it either.
    colony.file("file.manifest.part", b"");
    run(colony.put().arg(&file)).fails_in_one_line(2, &["file.manifest"]);
    run_with_input(piped.args(["--json"]), b"else").fails_in_one_line(2, &["file.manifest"]);
    assert_eq!(fs::read(&stored.manifest).unwrap(), manifest);
}
