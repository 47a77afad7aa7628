//! A directory comes back as it was, by `cellsync-get`, by GNU tar and by bsdtar.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::lgetxattr;
use walkdir::WalkDir;

use crate::harness::{Colony, ESCAPED_ATTRIBUTE, make_tree};

/// Entries of the tree, unless `ENTRIES` is set.
const ENTRIES: usize = 3000;

/// Goal: nothing that rsync can compare is lost, whichever program unpacks. Method: a tree with every kind of entry,
/// name, date, owner and attribute is put, restored in three ways, and compared by rsync, which also compares the
/// content, the nanoseconds, the hard links, the access control lists and the extended attributes.
#[test]
fn a_tree_of_every_kind_of_entry_comes_back_equal() {
    if !can_run() {
        return;
    }
    let colony = Colony::start(3);
    let entries = std::env::var("ENTRIES").map_or(ENTRIES, |entries| entries.parse().unwrap());
    let source = colony.path("source");
    let made = make_tree(&source, entries, 7);
    println!("{made:?}");
    assert!(made.sparse > 0 && made.hard_links > 0 && made.special > 0);
    let mut put = colony.put();
    put.args(["--copies", "2", "--compress", "0", "--json"]).arg(&source);
    // Not by the harness, which gives a process a minute.
    let stored = put.output().unwrap();
    let messages = String::from_utf8(stored.stderr).unwrap();
    assert_eq!(stored.status.code(), Some(6), "{messages}");
    let report: serde_json::Value = serde_json::from_slice(&stored.stdout).unwrap();
    assert_eq!(report["omissions"], made.special, "{messages}");
    assert!(!messages.contains('\x1b'), "names cannot control the terminal");

    let restored = colony.path("restored");
    let get = colony.get().arg("source.manifest").arg("-o").arg(&restored).output().unwrap();
    assert!(get.status.success(), "{}", String::from_utf8_lossy(&get.stderr));
    assert_equal(&source, &restored, false);
    fs::remove_dir_all(&restored).unwrap();

    let tar =
        ["tar", "--xattrs", "--xattrs-include=*", "--acls", "--warning=no-timestamp", "--warning=no-unknown-keyword"];
    for (program, limits) in [(&tar[..], false), (&["bsdtar", "--xattrs", "--acls"], true)] {
        fs::create_dir(&restored).unwrap();
        let mut get = colony.get().args(["source.manifest", "-o", "-"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).args(["--numeric-owner", "-xpf", "-"]).env("LC_ALL", "C.UTF-8");
        let unpacked = command.current_dir(&restored).stdin(get.stdout.take().unwrap()).output().unwrap();
        assert!(get.wait().unwrap().success());
        let messages = String::from_utf8_lossy(&unpacked.stderr);
        let start: String = messages.chars().take(2000).collect();
        assert!(unpacked.status.success() && messages.is_empty(), "{program:?}: {start}");
        assert_equal(&source, &restored, limits);
        fs::remove_dir_all(&restored).unwrap();
    }
}

/// Asserts that rsync finds no difference, and that files with holes take no more space than in the source. With
/// `limits`, differences that bsdtar makes from any archive are ignored.
#[track_caller]
fn assert_equal(source: &Path, restored: &Path, limits: bool) {
    let compared = Command::new("rsync")
        .args(["-aHAXcn", "-i", "--no-D", "--delete", "--numeric-ids", "--modify-window=-1", "--8-bit-output"])
        .arg(source.join(""))
        .arg(restored.join(""))
        .output()
        .unwrap();
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stderr));
    let mut differences = Vec::new();
    for line in compared.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let is_special = line.starts_with(b"skipping non-regular file");
        let is_limit = limits && is_limit_of_bsdtar(line, source);
        if !is_special && !is_limit {
            differences.push(String::from_utf8_lossy(line).chars().take(200).collect::<String>());
        }
    }
    let first = &differences[..differences.len().min(20)];
    assert!(differences.is_empty(), "{} differences: {first:#?}", differences.len());

    let space = |root: &Path| -> u64 {
        let files = WalkDir::new(root).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file());
        files.map(|entry| entry.metadata().unwrap().blocks()).sum()
    };
    let (before, after) = (space(source), space(restored));
    assert!(after <= before + before / 50, "{after} blocks instead of {before}");
}

/// Whether this line of rsync shows a limit of bsdtar 3.6: it reads -0.5 seconds as 0.5, does not undo the escapes in the
/// names of extended attributes, which are those of GNU tar, and does not set the time of the directory itself.
fn is_limit_of_bsdtar(line: &[u8], source: &Path) -> bool {
    let (flags, name) = line.split_at_checked(12).unwrap_or_default();
    // The target of a link follows. No name in the tree has a `>`.
    let arrow = name.windows(4).position(|bytes| bytes == b" -> " || bytes == b" => ");
    let name = &name[..arrow.unwrap_or(name.len())];
    let path = source.join(OsStr::from_bytes(&unescaped(name)));
    let Ok(metadata) = fs::symlink_metadata(&path) else { return false };
    let differs_in = |expected: &[u8]| flags[2..].iter().all(|flag| b". ".contains(flag) || expected.contains(flag));
    let is_before_1970 = metadata.mtime() < 0 && metadata.mtime_nsec() != 0;
    let has_escaped = lgetxattr(&path, ESCAPED_ATTRIBUTE, &mut [0_u8; 16]).is_ok();
    match (is_before_1970 || name == b"./", has_escaped) {
        (true, true) => differs_in(b"tx"),
        (true, false) => differs_in(b"t"),
        (false, true) => differs_in(b"x"),
        (false, false) => false,
    }
}

/// A name as rsync prints it, where `\#012` is a line break.
fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = name;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.strip_prefix(b"#").and_then(|digits| std::str::from_utf8(digits.get(..3)?).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = &after[4..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

/// Owners need root. rsync and bsdtar must be installed.
fn can_run() -> bool {
    let has =
        |program: &str| Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    let can_run = rustix::process::getuid().is_root() && has("rsync") && has("bsdtar") && has("tar");
    if !can_run {
        assert!(std::env::var_os("CELLSYNC_REQUIRE_ARCHIVERS").is_none(), "root, rsync, tar and bsdtar are missing");
        println!("skipped: needs root, rsync, tar and bsdtar");
    }
    can_run
}
