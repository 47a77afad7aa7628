//! Gets that fail leave nothing behind.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::harness::{Colony, compressible_blocks, random_bytes, run};

/// Whether this user may create namespaces. If not, the parts of tests that need them are skipped with a message; with
/// `CELLSYNC_REQUIRE_ROOT_TESTS` set they fail instead.
pub(crate) fn namespaces_are_permitted() -> bool {
    let permitted = Command::new("unshare").args(["-rm", "true"]).output().is_ok_and(|output| output.status.success());
    if !permitted {
        assert!(std::env::var_os("CELLSYNC_REQUIRE_ROOT_TESTS").is_none(), "user namespaces are not permitted here");
        eprintln!("skipped: user namespaces are not permitted here");
    }
    permitted
}

/// A shell script in a mount namespace of its own, with a command as its arguments.
pub(crate) fn in_namespace(command: &Command, script: &str) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["-rm", "sh", "-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        unshare.current_dir(folder);
    }
    unshare
}

/// Goal: an invalid manifest is reported in one line, which tells a damaged one from another file. Method: passes a
/// truncated manifest, other JSON, a newer version, random bytes, a directory and no file.
#[test]
fn an_invalid_manifest_is_one_line_and_exit_1() {
    let colony = Colony::start(1);
    let stored = colony.put_bytes("file", &compressible_blocks(1, 3));
    let whole = fs::read(&stored.manifest).unwrap();
    let mut newer = stored.json.clone();
    newer["version"] = 3.into();
    let mut keyless = stored.json.clone();
    keyless["key"] = "short".into();
    let mut gap = stored.json.clone();
    gap["chunks"].as_array_mut().unwrap().remove(1);
    for (what, bytes) in [
        ("truncated", whole[..whole.len() / 2].to_vec()),
        ("truncated", whole[..whole.len() - 2].to_vec()),
        ("truncated", Vec::new()),
        ("not a CellSync manifest", br#"{"name":"other","version":1}"#.to_vec()),
        ("not a CellSync manifest", b"[1,2,3]".to_vec()),
        ("not a CellSync manifest", random_bytes(1, 1000)),
        ("version 3", newer.to_string().into_bytes()),
        ("damaged", keyless.to_string().into_bytes()),
        ("damaged", gap.to_string().into_bytes()),
    ] {
        colony.write_file("bad.manifest", &bytes);
        run(colony.get().arg("bad.manifest")).expect_error(1, &["bad.manifest", what]);
        assert_eq!(colony.files(), ["bad.manifest", "file", "file.manifest"], "{what}");
    }
    fs::remove_file(colony.path("bad.manifest")).unwrap();
    run(colony.get().arg("bad.manifest")).expect_error(1, &["bad.manifest", "No such file"]);
    run(colony.get().args([".", "-o", "x"])).expect_error(1, &["directory"]);
    run(colony.get().args(["/dev/zero", "-o", "x"])).expect_code(1);
    assert_eq!(colony.files(), ["file", "file.manifest"]);
}

/// Goal: a manifest is not trusted to fit its chunks. Method: uses a manifest with the key of another put, and one with
/// another size.
#[test]
fn a_manifest_that_contradicts_its_chunks_is_exit_5() {
    let colony = Colony::start(1);
    let other = colony.put_bytes("other", b"other");
    let stored = colony.put_bytes("file", &compressible_blocks(1, 2));
    let mut wrong_key = stored.json.clone();
    wrong_key["key"] = other.json["key"].clone();
    let mut wrong_size = stored.json.clone();
    wrong_size["size"] = ((2 << 20) - 1).into();
    let before = colony.files();
    for bad in [wrong_key, wrong_size] {
        fs::write(&stored.manifest, bad.to_string()).unwrap();
        run(colony.get().arg(&stored.manifest).args(["-o", "x"])).expect_error(5, &[]);
        assert_eq!(colony.files(), before);
    }
}

/// Goal: an existing file is safe. Method: gets without and with `--force`, and a get with `--force` that fails.
#[test]
fn only_force_overwrites_a_file_and_only_with_a_complete_one() {
    let colony = Colony::start(1);
    let stored = colony.put_bytes("file", b"as it was");
    colony.write_file("file", b"changed since");
    run(colony.get().arg(&stored.manifest)).expect_error(2, &["file", "--force"]);
    assert_eq!(fs::read(colony.path("file")).unwrap(), b"changed since");
    run(colony.get().arg(&stored.manifest).arg("--force")).expect_success();
    assert_eq!(fs::read(colony.path("file")).unwrap(), b"as it was");

    colony.cells[0].flip_bit(&stored.ids[0]);
    colony.write_file("file", b"changed again");
    run(colony.get().arg(&stored.manifest).arg("--force")).expect_error(5, &["0-", &colony.cells[0].url]);
    assert_eq!(fs::read(colony.path("file")).unwrap(), b"changed again");
    run(colony.get().arg(&stored.manifest).args(["-o", "no/folder/x"])).expect_error(2, &["no/folder/x"]);
    run(colony.get().arg(&stored.manifest).args(["-o", "."])).expect_error(2, &[]);
    run(colony.get().arg(&stored.manifest).args(["-o", "x/"])).expect_error(2, &["x/"]);
    assert_eq!(colony.files(), ["file", "file.manifest"]);
}

/// Goal: a get without a colony reports that. Method: kills the only cell.
#[test]
fn a_get_without_a_colony_is_exit_3_and_no_file() {
    let mut colony = Colony::start(1);
    let stored = colony.put_bytes("file", b"x");
    colony.cells[0].kill();
    let port = colony.udp_port().to_string();
    run(colony.get().arg(&stored.manifest).args(["-o", "x"])).expect_error(3, &[&port]);
    run(colony.status().stdin(Stdio::null())).expect_error(3, &[&port]);
    assert_eq!(colony.files(), ["file", "file.manifest"]);
}

/// Goal: a full disk is reported, and the partial file is removed. Method: gets a file of 3 MiB to a file system of 1
/// MiB in memory, in a mount namespace.
#[test]
fn a_get_to_a_full_disk_is_exit_1_and_leaves_nothing() {
    let colony = Colony::start(1);
    let stored = colony.put_bytes("file", &compressible_blocks(1, 3));
    fs::create_dir(colony.path("small")).unwrap();
    if !namespaces_are_permitted() {
        return;
    }
    let script = "mount -t tmpfs -o size=1m none small || exit 99
        \"$@\" -o small/x; code=$?; ls -A small; exit $code";
    let mut get = colony.get();
    get.arg(&stored.manifest);
    let failed = run(&mut in_namespace(&get, script)).expect_error(1, &["small/x", "No space left"]);
    assert_eq!(failed.text(), "");
}

/// Goal: a reader that ends early ends a program quietly. Method: closes the pipe to the standard output of each program
/// early.
#[test]
fn a_closed_standard_output_ends_a_program_quietly() {
    let colony = Colony::start(1);
    let stored = colony.put_bytes("file", &compressible_blocks(1, 3));
    let run_closing_stdout = |command: &mut Command, after_bytes: usize| {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut some = vec![0; after_bytes];
        stdout.read_exact(&mut some).unwrap();
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    // The restored file could not be written: the exit code is that of a program which ends by SIGPIPE.
    let (code, stderr) = run_closing_stdout(colony.get().arg(&stored.manifest).args(["-o", "-"]), 10);
    assert_eq!((code, stderr.as_str()), (Some(141), ""));
    // Only the report could not be written.
    for command in [
        colony.get().arg(&stored.manifest).args(["-o", "x", "--json"]),
        colony.put().arg("file").args(["-o", "again"]),
        &mut colony.status(),
        colony.tool("check").args(["--json", "--copies", "1"]).arg(&stored.manifest),
        Command::new(env!("CARGO_BIN_EXE_cellsync-put")).arg("--help"),
    ] {
        let (code, stderr) = run_closing_stdout(command, 0);
        assert!(!stderr.contains("standard output") && !stderr.contains("panicked"), "{command:?}: {stderr}");
        assert_eq!(code, Some(0), "{command:?}: {stderr}");
    }
    assert!(fs::read(colony.path("x")).unwrap() == fs::read(colony.path("file")).unwrap());
    std::io::stdout().flush().unwrap();
}
