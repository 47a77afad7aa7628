//! Gets that cannot succeed, and leave nothing behind.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::house::{Colony, light_blocks, noise, run};

/// May this user make namespaces of its own? If not, what needs them is passed over, and it is said; on machines that
/// are made for tests, `CELLSYNC_REQUIRE_ROOT_TESTS=1` forbids that.
pub(crate) fn namespaces_are_permitted() -> bool {
    let permitted = Command::new("unshare").args(["-rm", "true"]).output().is_ok_and(|output| output.status.success());
    if !permitted {
        assert!(std::env::var_os("CELLSYNC_REQUIRE_ROOT_TESTS").is_none(), "user namespaces are not permitted here");
        eprintln!("passed over: user namespaces are not permitted here");
    }
    permitted
}

/// A command as the arguments of a shell script in a mount namespace of its own.
pub(crate) fn in_namespace(command: &Command, script: &str) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["-rm", "sh", "-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        unshare.current_dir(folder);
    }
    unshare
}

/// Goal: what is no manifest is told apart from what is damaged, in one line. Method: cuts a real one short, and
/// hands in others' JSON, a newer version, noise, a folder and nothing at all.
#[test]
fn what_is_no_manifest_is_one_line_and_exit_1() {
    let colony = Colony::start(1);
    let stored = colony.put_bytes("file", &light_blocks(1, 3));
    let whole = fs::read(&stored.manifest).unwrap();
    let mut newer = stored.json.clone();
    newer["version"] = 2.into();
    let mut keyless = stored.json.clone();
    keyless["key"] = "short".into();
    let mut gap = stored.json.clone();
    gap["chunks"].as_array_mut().unwrap().remove(1);
    for (what, bytes) in [
        ("cut short", whole[..whole.len() / 2].to_vec()),
        ("cut short", whole[..whole.len() - 2].to_vec()),
        ("cut short", Vec::new()),
        ("not a CellSync manifest", br#"{"name":"other","version":1}"#.to_vec()),
        ("not a CellSync manifest", b"[1,2,3]".to_vec()),
        ("not a CellSync manifest", noise(1, 1000)),
        ("version 2", newer.to_string().into_bytes()),
        ("damaged manifest", keyless.to_string().into_bytes()),
        ("damaged manifest", gap.to_string().into_bytes()),
    ] {
        colony.file("bad.manifest", &bytes);
        run(colony.get().arg("bad.manifest")).fails_in_one_line(1, &["bad.manifest", what]);
        assert_eq!(colony.files(), ["bad.manifest", "file", "file.manifest"], "{what}");
    }
    fs::remove_file(colony.path("bad.manifest")).unwrap();
    run(colony.get().arg("bad.manifest")).fails_in_one_line(1, &["bad.manifest", "No such file"]);
    run(colony.get().args([".", "-o", "x"])).fails_in_one_line(1, &["directory"]);
    run(colony.get().args(["/dev/zero", "-o", "x"])).exits(1);
    assert_eq!(colony.files(), ["file", "file.manifest"]);
}

/// Goal: another file's key is found out, not trusted. Method: a manifest with the key of another put, and one that
/// tells another size.
#[test]
fn a_manifest_that_does_not_fit_its_chunks_is_exit_5_and_no_file() {
    let colony = Colony::start(1);
    let other = colony.put_bytes("other", b"other");
    let stored = colony.put_bytes("file", &light_blocks(1, 2));
    let mut wrong_key = stored.json.clone();
    wrong_key["key"] = other.json["key"].clone();
    let mut wrong_size = stored.json.clone();
    wrong_size["size"] = ((2 << 20) - 1).into();
    let before = colony.files();
    for bad in [wrong_key, wrong_size] {
        fs::write(&stored.manifest, bad.to_string()).unwrap();
        run(colony.get().arg(&stored.manifest).args(["-o", "x"])).fails_in_one_line(5, &[]);
        assert_eq!(colony.files(), before);
    }
}

/// Goal: a file that is there is safe. Method: gets without and with `--force`, and one that fails with it.
#[test]
fn a_file_that_is_there_is_written_over_only_by_force_and_only_by_a_whole_one() {
    let colony = Colony::start(1);
    let stored = colony.put_bytes("file", b"as it was");
    colony.file("file", b"changed since");
    run(colony.get().arg(&stored.manifest)).fails_in_one_line(2, &["file", "--force"]);
    assert_eq!(fs::read(colony.path("file")).unwrap(), b"changed since");
    run(colony.get().arg(&stored.manifest).arg("--force")).succeeded();
    assert_eq!(fs::read(colony.path("file")).unwrap(), b"as it was");

    colony.cells[0].flip(&stored.ids[0]);
    colony.file("file", b"changed again");
    run(colony.get().arg(&stored.manifest).arg("--force")).fails_in_one_line(5, &["0-", &colony.cells[0].url]);
    assert_eq!(fs::read(colony.path("file")).unwrap(), b"changed again");
    run(colony.get().arg(&stored.manifest).args(["-o", "no/folder/x"])).fails_in_one_line(1, &["no/folder/x"]);
    run(colony.get().arg(&stored.manifest).args(["-o", "."])).fails_in_one_line(2, &[]);
    run(colony.get().arg(&stored.manifest).args(["-o", "x/"])).fails_in_one_line(2, &["x/"]);
    assert_eq!(colony.files(), ["file", "file.manifest"]);
}

/// Goal: without a colony a get says so. Method: its only cell is killed.
#[test]
fn without_a_cell_a_get_is_exit_3_and_no_file() {
    let mut colony = Colony::start(1);
    let stored = colony.put_bytes("file", b"x");
    colony.cells[0].kill();
    let port = colony.udp_port().to_string();
    run(colony.get().arg(&stored.manifest).args(["-o", "x"])).fails_in_one_line(3, &[&port]);
    run(colony.status().stdin(Stdio::null())).fails_in_one_line(3, &[&port]);
    assert_eq!(colony.files(), ["file", "file.manifest"]);
}

/// Goal: a full disk is said to be full, and what was written is taken away again. Method: a disk of 1 MiB in memory,
/// in a namespace of its own; the file has 3 MiB.
#[test]
fn a_full_disk_is_exit_1_and_nothing_is_left_on_it() {
    let colony = Colony::start(1);
    let stored = colony.put_bytes("file", &light_blocks(1, 3));
    fs::create_dir(colony.path("small")).unwrap();
    if !namespaces_are_permitted() {
        return;
    }
    let script = "mount -t tmpfs -o size=1m none small || exit 99
        \"$@\" -o small/x; code=$?; ls -A small; exit $code";
    let mut get = colony.get();
    get.arg(&stored.manifest);
    let failed = run(&mut in_namespace(&get, script)).fails_in_one_line(1, &["small/x", "No space left"]);
    assert_eq!(failed.text(), "");
}

/// Goal: a reader that has seen enough is no crash. Method: standard output is a pipe that is closed early, for each
/// program.
#[test]
fn a_closed_standard_output_is_no_panic() {
    let colony = Colony::start(1);
    let stored = colony.put_bytes("file", &light_blocks(1, 3));
    let ends = |command: &mut Command, reads: usize| {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut some = vec![0; reads];
        stdout.read_exact(&mut some).unwrap();
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    // What was asked for did not arrive.
    let (code, said) = ends(colony.get().arg(&stored.manifest).args(["-o", "-"]), 10);
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("standard output"), "{said}");
    // The work is done; only nobody listens to the news.
    for command in [
        colony.get().arg(&stored.manifest).args(["-o", "x", "--json"]),
        colony.put().arg("file").args(["-o", "again"]),
        &mut colony.status(),
        Command::new(env!("CARGO_BIN_EXE_cellsync-put")).arg("--help"),
    ] {
        let (code, said) = ends(command, 0);
        assert!(!said.contains("panicked"), "{command:?}: {said}");
        assert_eq!(code, Some(0), "{command:?}: {said}");
    }
    assert!(fs::read(colony.path("x")).unwrap() == fs::read(colony.path("file")).unwrap());
    std::io::stdout().flush().unwrap();
}
