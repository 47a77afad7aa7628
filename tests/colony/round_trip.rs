//! A put and a get return the same bytes, as long as one copy of each chunk exists.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use cellsync::id::BLOCK_BYTES;

use crate::harness::{Colony, StoredFile, compressible_blocks, mixed_content, random_bytes, run, run_with_input};

/// Goal: a put makes five copies of each chunk, which anyone can verify, and a manifest without names and addresses; a
/// get restores the file. Method: puts mixed content to eight cells and reads every file that results.
#[test]
fn a_put_stores_five_good_copies_and_a_get_restores_them() {
    let colony = Colony::start(8);
    let bytes = mixed_content(1);
    let file = colony.write_file("holiday.raw", &bytes);
    let report = run(colony.put().arg(&file).args(["--json", "--compress", "1"])).expect_success().json();
    let stored = StoredFile::read(&colony.path("holiday.raw.manifest"));

    let blocks = bytes.len().div_ceil(BLOCK_BYTES);
    assert_eq!(stored.ids.len(), blocks);
    let copies = colony.copies();
    assert_eq!(copies.keys().collect::<BTreeSet<_>>(), stored.ids.iter().collect::<BTreeSet<_>>());
    assert!(copies.values().all(|cells| cells.len() == 5), "{copies:?}");
    // One of the eight may get none of the six chunks by chance, in one run of fifty; two of them do in one of 20,000.
    let holders = copies.values().flatten().collect::<BTreeSet<_>>().len();
    assert!(holders >= 7, "the chunks are on different cells: {holders} hold some");
    colony.assert_all_copies_good();
    assert_eq!(
        (report["chunks"].as_u64(), report["sent_copies"].as_u64()),
        (Some(blocks as u64), Some(5 * blocks as u64))
    );

    assert_eq!(fs::metadata(&stored.manifest).unwrap().permissions().mode() & 0o7777, 0o600);
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let named = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let expected = ["version", "key", "size", "chunk_size", "copies", "mode", "mtime_ns", "chunks"];
    assert_eq!(keys(&stored.json), named(&expected));
    assert!(stored.json["chunks"].as_array().unwrap().iter().all(|chunk| keys(chunk) == named(&["index", "id"])));
    assert_eq!(stored.json["size"], bytes.len());
    let text = fs::read_to_string(&stored.manifest).unwrap();
    for secret in ["holiday", "127.0.0.1", "/", &colony.cells[0].id, colony.cells[0].short_id()] {
        // The key is URL-safe base64 and the ids are hexadecimal, so neither contains any of these by chance.
        assert!(!text.contains(secret), "{secret:?} is in {text}");
    }
    assert_eq!(colony.files(), ["holiday.raw", "holiday.raw.manifest"], "no journal and no temporary file is left");

    fs::remove_file(&file).unwrap();
    let got = run(colony.get().arg(&stored.manifest)).expect_success();
    assert!(got.stderr.is_empty(), "{}", got.stderr);
    assert!(fs::read(&file).unwrap() == bytes, "restored under the name from the manifest's name");
}

/// Goal: no size is special. Method: empty, one byte, exactly a block, and one byte more; without compression and with
/// the strongest.
#[test]
fn files_of_every_special_size_come_back() {
    let colony = Colony::start(3);
    for (level, size) in [("0", 0), ("9e", 0), ("0", 1), ("9e", 1), ("0", BLOCK_BYTES), ("9e", BLOCK_BYTES + 1)] {
        let bytes = random_bytes(size as u64, size);
        let file = colony.write_file("file", &bytes);
        run(colony.put().args(["--copies", "3", "--force", "--compress", level]).arg(&file)).expect_success();
        let stored = StoredFile::read(&colony.path("file.manifest"));
        assert_eq!(stored.ids.len(), size.div_ceil(BLOCK_BYTES));
        assert!(colony.get_bytes(&stored.manifest) == bytes, "{size} bytes at level {level}");
    }
}

/// Goal: `-` is standard input and output, and nothing else is written there. Method: pipes.
#[test]
fn standard_input_comes_back_on_standard_output() {
    let colony = Colony::start(3);
    let bytes = mixed_content(2);
    let mut put = colony.put();
    let put = run_with_input(put.args(["-", "-o", "m", "--copies", "2", "--quiet", "--compress", "1"]), &bytes)
        .expect_success();
    assert!(put.stdout.is_empty() && put.stderr.is_empty());
    let got = run(colony.get().args(["m", "-o", "-"])).expect_success();
    assert!(got.stdout == bytes);
    assert!(got.stderr.is_empty(), "{}", got.stderr);
    run_with_input(colony.put().arg("-"), b"").expect_error(2, &["-o"]);
    run(colony.get().args(["m", "-o", "-", "--json"])).expect_error(2, &["--json"]);
    assert_eq!(colony.files(), ["m"]);
}

/// Goal: a directory is restored with all metadata that it needs. Method: nested folders, an empty file, an empty
/// folder, a program, a link, a dangling link, and names that are not ASCII.
#[test]
fn a_directory_comes_back_with_links_and_permissions() {
    let colony = Colony::start(3);
    let tree = colony.path("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::create_dir(tree.join("empty folder")).unwrap();
    fs::write(tree.join("a/b/größe"), mixed_content(3)).unwrap();
    fs::write(tree.join("a/empty"), b"").unwrap();
    fs::write(tree.join("program"), b"#!/bin/sh\n").unwrap();
    fs::set_permissions(tree.join("program"), PermissionsExt::from_mode(0o750)).unwrap();
    fs::set_permissions(tree.join("a"), PermissionsExt::from_mode(0o700)).unwrap();
    symlink("a/b/größe", tree.join("link")).unwrap();
    symlink("nowhere", tree.join("dangling")).unwrap();

    run(colony.put().args(["tree", "--copies", "2", "--compress", "1"])).expect_success();
    let manifest = fs::read_to_string(colony.path("tree.manifest")).unwrap();
    assert!(manifest.contains(r#""content":"tar""#) && !manifest.contains("program"), "a file name is in the manifest");
    run(colony.get().args(["tree.manifest", "-o", "again"])).expect_success();

    let again = colony.path("again");
    assert_eq!(listing(&again), listing(&tree));
    assert_eq!(fs::read(again.join("link")).unwrap(), fs::read(tree.join("link")).unwrap());
    run(colony.get().args(["tree.manifest", "-o", "again"])).expect_error(2, &["again"]);
    run(colony.get().args(["tree.manifest", "-o", "again", "--force"])).expect_error(2, &["again"]);
    run(colony.put().args(["tree", "-o", "tree/m"])).expect_error(2, &["tree/m"]);
    assert_eq!(colony.files(), ["again", "tree", "tree.manifest"]);
}

/// Goal: a directory is restored into an existing empty one, which may be a mount point or the current directory, and
/// nothing that exists is replaced. Method: the same manifest three times.
#[test]
fn a_directory_is_restored_into_an_empty_one() {
    let colony = Colony::start(2);
    let tree = colony.path("tree");
    fs::create_dir_all(tree.join("closed")).unwrap();
    fs::write(tree.join("closed/file"), b"bytes").unwrap();
    fs::set_permissions(tree.join("closed"), PermissionsExt::from_mode(0o500)).unwrap();
    fs::set_permissions(&tree, PermissionsExt::from_mode(0o750)).unwrap();
    run(colony.put().args(["tree", "--copies", "2"])).expect_success();
    let empty = colony.path("empty");
    fs::create_dir(&empty).unwrap();
    run(colony.get().args(["tree.manifest", "-o", "empty"])).expect_success();
    assert_eq!(listing(&empty), listing(&tree));
    run(colony.get().args(["tree.manifest", "-o", "empty"])).expect_error(2, &["empty", "-o PATH"]);

    let here = colony.path("here");
    fs::create_dir_all(here.join("lost+found")).unwrap();
    run(colony.get().current_dir(&here).args(["../tree.manifest", "-o", "."])).expect_success();
    fs::remove_dir(here.join("lost+found")).unwrap();
    assert_eq!(listing(&here), listing(&tree));
    assert_eq!(colony.files(), ["empty", "here", "tree", "tree.manifest"]);
}

/// Goal: a file has the mode and the time of its manifest, whatever the umask is; without them, it is private. Method:
/// manifests with and without these keys, and an output that exists with a wider mode.
#[test]
fn a_file_has_the_mode_and_time_of_its_manifest() {
    let colony = Colony::start(2);
    let stored = colony.put_bytes("file", b"bytes");
    let restored = |mode: Option<u32>, mtime_ns: Option<i64>| {
        let mut manifest = stored.json.clone();
        let keys = manifest.as_object_mut().unwrap();
        for (key, value) in [("mode", mode.map(i64::from)), ("mtime_ns", mtime_ns)] {
            keys.remove(key);
            keys.extend(value.map(|value| (key.to_owned(), value.into())));
        }
        fs::write(&stored.manifest, manifest.to_string()).unwrap();
        run(colony.get().arg(&stored.manifest).args(["-o", "out", "--force"])).expect_success();
        let metadata = fs::metadata(colony.path("out")).unwrap();
        (metadata.mode() & 0o7777, metadata.mtime(), metadata.mtime_nsec())
    };
    assert_eq!(restored(Some(0o757), Some(-463_449_599_999_999_999)), (0o757, -463_449_600, 1));
    assert_eq!(restored(Some(0o040), Some(1_700_000_000_123_456_789)), (0o040, 1_700_000_000, 123_456_789));
    assert_eq!(restored(Some(0o777), None).0, 0o777);
    assert_eq!(restored(None, None).0, 0o600);
}

/// The names, permissions, sizes and link targets of all entries of a directory.
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

/// Goal: any four cells may be lost. Method: kills four of five cells, each of which has every chunk.
#[test]
fn one_cell_of_five_is_enough_to_restore_a_file() {
    let mut colony = Colony::start(5);
    let bytes = mixed_content(4);
    let stored = colony.put_bytes("file", &bytes);
    for cell in &mut colony.cells[..4] {
        cell.kill();
    }
    assert!(colony.get_bytes(&stored.manifest) == bytes);
}

/// Goal: the same where no cell has every chunk. Method: kills four holders of the first chunk in a colony of eight;
/// every other chunk keeps a copy too.
#[test]
fn four_holders_of_a_chunk_may_die() {
    let mut colony = Colony::start(8);
    let bytes = compressible_blocks(5, 12);
    let stored = colony.put_bytes("file", &bytes);
    let holders = colony.copies()[&stored.ids[0]].clone();
    for holder in holders.into_iter().take(4) {
        colony.cells[holder].kill();
    }
    assert!(colony.get_bytes(&stored.manifest) == bytes);
    // The same when the killed cells are known to be dead.
    colony.wait_all_active();
    assert!(colony.get_bytes(&stored.manifest) == bytes);
}

/// Goal: no name of a file is special to the programs. Method: stores and restores files whose names are a word of the
/// command line, begin with a dash, or are not UTF-8.
#[test]
fn files_of_every_name_come_back() {
    let colony = Colony::start(1);
    for name in [&b"help"[..], b"--version", b"-dash-file", b"a=b", b"caf\xe9 \xff", b"new\nline"] {
        let name = OsStr::from_bytes(name);
        let path = colony.path("").join(name);
        fs::write(&path, name.as_bytes()).unwrap();
        run(colony.put().args(["--copies=1", "--"]).arg(name)).expect_success();
        fs::remove_file(&path).unwrap();
        let mut manifest = name.to_owned();
        manifest.push(".manifest");
        let report = run(colony.get().args(["--json", "--"]).arg(&manifest)).expect_success().json();
        assert_eq!(report["size"], name.len());
        assert_eq!(fs::read(&path).unwrap(), name.as_bytes());
        run(colony.tool("check").args(["--json", "--"]).arg(&manifest)).expect_success().json();
        fs::remove_file(&path).unwrap();
        fs::remove_file(colony.path("").join(manifest)).unwrap();
    }
    assert!(colony.files().is_empty());
}

/// Goal: a failed program before the pipe does not become an upload of nothing. Method: empty input and an empty pipe
/// with a name, without and with the option that accepts them.
#[test]
fn an_empty_input_is_stored_only_on_request() {
    let colony = Colony::start(1);
    let put = |words: &[&str]| {
        let mut put = colony.put();
        run_with_input(put.args(["-o", "m", "--copies", "1"]).args(words), b"")
    };
    put(&["-"]).expect_error(1, &["standard input is empty", "nothing was stored", "--allow-empty"]);
    put(&["/dev/stdin"]).expect_error(1, &["/dev/stdin is empty", "nothing was stored", "--allow-empty"]);
    assert!(colony.files().is_empty() && colony.copies().is_empty());
    put(&["-", "--allow-empty"]).expect_success();
    assert_eq!(colony.get_bytes(&colony.path("m")), b"");
}

/// Goal: a user learns what to do with the manifest. Method: reads what a put prints, and what it does not print when
/// only errors or JSON are wanted.
#[test]
fn a_put_says_that_its_manifest_is_the_only_key() {
    let colony = Colony::start(1);
    let file = colony.write_file("file", b"bytes");
    let put = |words: &[&str]| {
        run(colony.put().arg(&file).args(["--force", "--copies", "1"]).args(words)).expect_success().text().to_owned()
    };
    let printed = put(&[]);
    let reminder = "file.manifest is the only key to this upload: keep a copy of it elsewhere";
    assert!(printed.lines().count() == 2 && printed.lines().last().unwrap().ends_with(reminder), "{printed}");
    assert!(printed.contains("(5 B, 1 chunk) on 1 cell: 1 copy of each"), "{printed}");
    assert_eq!(put(&["--quiet"]), "");
    assert!(!put(&["--json"]).contains("only key"));
}

/// Goal: the settings of a user's file are those of a put, unless options give others. Method: reads the numbers of
/// copies from the manifests.
#[test]
fn a_put_takes_its_settings_from_the_users_file() {
    let colony = Colony::start(3);
    let folder = colony.path("../cellsync");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("client.toml"), "copies = 2\nmin_copies = 2\ncompress = \"0\"").unwrap();
    let file = colony.write_file("file", &compressible_blocks(6, 1));
    let put = |words: &[&str]| {
        let report = run(colony.put().arg(&file).args(["--force", "--json"]).args(words)).expect_success().json();
        (report["sent_copies"].as_u64().unwrap(), report["sealed_bytes"].as_u64().unwrap())
    };
    let (copies, sealed_bytes) = put(&[]);
    assert_eq!((copies, sealed_bytes), put(&["--copies", "2", "--compress", "0"]));
    let (copies, other_bytes) = put(&["--copies", "1", "--compress", "9e"]);
    assert!(copies == 1 && other_bytes != sealed_bytes, "{copies} {other_bytes}");
    fs::write(folder.join("client.toml"), "copies = 5\nmin_copies = 4").unwrap();
    run(colony.put().arg(&file).arg("--force")).expect_error(3, &["3 cells", "4 copies", "--min-copies 3"]);
    assert_eq!(put(&["--min-copies", "3"]).0, 3);
    fs::write(folder.join("client.toml"), "copies = 1\nexclude = [\"*.o\"]").unwrap();
    let tree = colony.path("tree");
    fs::create_dir(&tree).unwrap();
    for name in ["a", "a.o", "b.tmp"] {
        fs::write(tree.join(name), name).unwrap();
    }
    let stored = run(colony.put().args(["tree", "--exclude=*.tmp"])).expect_success();
    assert!(stored.stderr.contains("leaving out *.o, as client.toml says"), "{}", stored.stderr);
    run(colony.get().args(["tree.manifest", "-o", "restored"])).expect_success();
    let names: Vec<_> =
        fs::read_dir(colony.path("restored")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["a"]);
    fs::write(folder.join("client.toml"), format!("nodes = [\"{}\"]", colony.cells[0].url)).unwrap();
    let mut status = Command::new(env!("CARGO_BIN_EXE_cellsync"));
    let status = run(status.args(["status", "--json"]).env("XDG_CONFIG_HOME", colony.path(".."))).expect_success();
    assert_eq!(status.json()["cells"].as_array().unwrap().len(), 3);
}
