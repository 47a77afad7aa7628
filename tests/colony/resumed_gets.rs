//! An interrupted get continues with what it has: it fetches nothing twice but what was in flight.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::harness::{Colony, NO_AUDITS, Running, StoredFile, random_bytes, run};
use crate::wait::wait_until;

/// How often a get is killed in one test. `CELLSYNC_KILLS` sets another number.
fn kills() -> usize {
    std::env::var("CELLSYNC_KILLS").map_or(5, |text| text.parse().unwrap())
}

/// The number of whole lines of a log after its first one; 0 if there is none.
fn log_lines(log: &Path) -> usize {
    fs::read_to_string(log).unwrap_or_default().matches('\n').count().saturating_sub(1)
}

/// Starts a get and suspends it when the condition holds. `None` if it ended first.
fn get_until(command: &mut Command, condition: impl Fn() -> bool) -> Option<Running> {
    let mut get = Running::start(command);
    wait_until("the get proceeds", || condition() || !get.is_running());
    get.suspend().then_some(get)
}

/// Starts a get and kills it when its log has this many lines, or a few more. Returns how many it has then, or `None` if
/// the get ended first.
fn kill_at(command: &mut Command, log: &Path, lines: usize) -> Option<usize> {
    let mut get = get_until(command, || log_lines(log) >= lines)?;
    get.kill();
    assert_eq!(get.finish().code, -9);
    Some(log_lines(log))
}

/// Blocks with data, with holes, and with both: the last one is short.
fn file_with_holes(seed: u64, mib: usize) -> Vec<u8> {
    let mut bytes = random_bytes(seed, mib << 20);
    bytes[(2 << 20) + 5000..(5 << 20) - 7000].fill(0);
    bytes[(9 << 20)..(10 << 20)].fill(0);
    let length = bytes.len();
    bytes[length - 300_000..].fill(0);
    bytes.truncate(length - 777);
    bytes
}

/// The sizes of chunks by their ids.
fn chunk_sizes(colony: &Colony, stored: &StoredFile) -> BTreeMap<String, u64> {
    let size = |id: &String| colony.cells.iter().find_map(|cell| fs::metadata(cell.chunk_file(id)).ok()).unwrap().len();
    stored.ids.iter().map(|id| (id.clone(), size(id))).collect()
}

/// Goal: a get that is killed over and over is equal in the end, and keeps every block that it had. Method: kills gets
/// of a file with holes at random numbers of blocks. What the last one fetched are exactly the chunks of the blocks that
/// were not in the log when the one before was killed.
#[test]
fn a_killed_get_of_a_file_continues_and_fetches_nothing_twice() {
    let colony = Colony::start_with(3, &NO_AUDITS);
    let bytes = file_with_holes(1, 40);
    let file = colony.write_file("file", &bytes);
    run(colony.put().args(["--compress", "1", "--copies", "2"]).arg(&file)).expect_success();
    let stored = StoredFile::read(&colony.path("file.manifest"));
    let sizes = chunk_sizes(&colony, &stored);
    let (out, log) = (colony.path("out"), colony.path("out.cellsync-part.log"));
    let mut get = colony.get();
    get.args(["--jobs", "2", "--json", "-o"]).arg(&out).arg(&stored.manifest);
    let (mut killed, mut reused) = (0, 0);
    for _ in 0..100 * kills() {
        let mut lines = 0;
        // Some gets are killed more than once.
        for _ in 0..fastrand::usize(1..4) {
            let Some(now) = kill_at(&mut get, &log, lines + fastrand::usize(0..=stored.ids.len() - lines)) else {
                break;
            };
            killed += 1;
            assert!(now >= lines, "a get that continues dropped blocks");
            lines = now;
        }
        if !out.exists() {
            let report = run(&mut get).expect_success().json();
            let kept: usize = bytes.chunks(1 << 20).take(lines).map(<[u8]>::len).sum();
            assert_eq!(report["reused_bytes"], kept, "{report}");
            let fetched: u64 = stored.ids.iter().skip(lines).map(|id| sizes[id]).sum();
            assert_eq!(report["fetched_bytes"], fetched, "{report}");
            assert_eq!(report["size"], bytes.len());
            reused += lines;
        }
        assert!(fs::read(&out).unwrap() == bytes);
        assert_eq!(colony.files(), ["file", "file.manifest", "out"]);
        fs::remove_file(&out).unwrap();
        if killed >= kills() {
            break;
        }
    }
    assert!(killed >= kills(), "too few gets were killed in time");
    assert!(reused > killed, "{reused} blocks were reused: the test kills too early");
}

/// Suspends a get of this manifest to `out` after some blocks, and kills it.
fn interrupt(colony: &Colony, manifest: &Path) -> PathBuf {
    let out = colony.path("out");
    for _ in 0..100 {
        let mut get = colony.get();
        get.args(["--jobs", "1", "-o"]).arg(&out).arg(manifest);
        if kill_at(&mut get, &colony.path("out.cellsync-part.log"), 4).is_some() {
            return colony.path("out.cellsync-part");
        }
        fs::remove_file(&out).unwrap();
    }
    panic!("the get always ended first");
}

/// Goal: bytes that changed on the disk meanwhile never get into the restored file. Method: changes a byte of the third
/// block of a partial file.
#[test]
fn a_damaged_partial_file_is_noticed() {
    let colony = Colony::start_with(2, &NO_AUDITS);
    let bytes = random_bytes(2, 30 << 20);
    let stored = colony.put_bytes("file", &bytes);
    let partial = interrupt(&colony, &stored.manifest);
    let mut file = fs::OpenOptions::new().write(true).open(&partial).unwrap();
    file.seek(SeekFrom::Start((2 << 20) + 12_345)).unwrap();
    file.write_all(&[!bytes[(2 << 20) + 12_345]]).unwrap();
    drop(file);
    let report = run(colony.get().args(["--json", "-o", "out"]).arg(&stored.manifest)).expect_success().json();
    assert_eq!(report["reused_bytes"], 2 << 20, "{report}");
    assert!(fs::read(colony.path("out")).unwrap() == bytes);
}

/// Goal: an unfinished restore of another manifest is neither mixed nor lost, and a message says what it is. Method: gets
/// another file to the same path, with and without `--force`, and beside it.
#[test]
fn the_partial_file_of_another_manifest_is_refused_and_reported() {
    let colony = Colony::start_with(2, &NO_AUDITS);
    let bytes = random_bytes(3, 30 << 20);
    let stored = colony.put_bytes("file", &bytes);
    let other = colony.put_bytes("other", b"other bytes");
    let partial = interrupt(&colony, &stored.manifest);
    let before = fs::read(&partial).unwrap();

    let refused = run(colony.get().args(["-o", "out"]).arg(&other.manifest));
    refused.expect_error(2, &["out.cellsync-part", "rm -r -- ", "--force"]);
    assert!(fs::read(&partial).unwrap() == before);
    let beside = run(colony.get().args(["-o", "beside"]).arg(&other.manifest)).expect_success();
    beside.expect_line(&["rm -r -- ", "out.cellsync-part "]);
    let quiet = run(colony.get().args(["-o", "quiet", "--quiet"]).arg(&other.manifest)).expect_success();
    assert_eq!(quiet.stderr, "");

    run(colony.get().args(["-o", "out", "--force"]).arg(&other.manifest)).expect_success();
    assert_eq!(fs::read(colony.path("out")).unwrap(), b"other bytes");
    fs::remove_file(colony.path("out")).unwrap();
    // The file of a user that happens to have the name.
    fs::write(&partial, b"precious").unwrap();
    for options in [&["-o", "out"][..], &["-o", "out", "--force"]] {
        run(colony.get().args(options).arg(&stored.manifest)).expect_error(2, &["out.cellsync-part", "move it away"]);
    }
    assert_eq!(fs::read(&partial).unwrap(), b"precious");
}

/// Goal: Ctrl-C keeps what was restored, the message says how to continue, and two gets do not mix. Method: suspends a
/// get, starts a second one, sends SIGINT to the first, and repeats the command.
#[test]
fn a_get_stopped_by_ctrl_c_says_how_to_continue() {
    let colony = Colony::start_with(2, &NO_AUDITS);
    let bytes = random_bytes(4, 40 << 20);
    let stored = colony.put_bytes("file", &bytes);
    let log = colony.path("out.cellsync-part.log");
    let mut get = colony.get();
    get.args(["--jobs", "1", "-o", "out"]).arg(&stored.manifest);
    let mut first = get_until(&mut get, || log_lines(&log) >= 3).expect("a get in progress");
    run(&mut get).expect_error(1, &["out.cellsync-part", "in use"]);
    first.signal(Signal::INT);
    first.signal(Signal::CONT);
    first.finish().expect_error(1, &["stopped", "out.cellsync-part", "same command again"]);
    assert_eq!(colony.files(), ["file", "file.manifest", "out.cellsync-part", "out.cellsync-part.log"]);
    run(&mut get).expect_success().expect_line(&["resuming"]);
    assert!(fs::read(colony.path("out")).unwrap() == bytes);
    assert_eq!(colony.files(), ["file", "file.manifest", "out"]);
}

/// A tree with many small files, a large one, one with a hole, hard links, and directories that cannot be written to.
fn make_tree(root: &Path) {
    for directory in 0..6 {
        let path = root.join(format!("d{directory}"));
        fs::create_dir_all(path.join("closed")).unwrap();
        for number in 0..150 {
            fs::write(path.join(format!("f{number}")), random_bytes(number, 40 * usize::try_from(number).unwrap()))
                .unwrap();
            fs::write(path.join(format!("closed/f{number}")), random_bytes(number, 20_000)).unwrap();
        }
        fs::write(path.join("large"), random_bytes(directory, 5 << 20)).unwrap();
        fs::hard_link(path.join("f9"), path.join("name")).unwrap();
        fs::hard_link(path.join("large"), path.join("closed/large")).unwrap();
        std::os::unix::fs::symlink("f1", path.join("link")).unwrap();
        let mut sparse = fs::File::create(path.join("sparse")).unwrap();
        sparse.write_all(&random_bytes(directory, 1 << 20)).unwrap();
        sparse.seek(SeekFrom::Start(50 << 20)).unwrap();
        sparse.write_all(&random_bytes(directory, 1 << 20)).unwrap();
        for closed in [path.join("closed"), path] {
            fs::set_permissions(closed, fs::Permissions::from_mode(0o500)).unwrap();
        }
    }
}

/// Mode, time, number of names, target and content.
type Facts = (u32, i64, i64, u64, PathBuf, Vec<u8>);

/// Everything below a directory.
fn contents(root: &Path) -> BTreeMap<PathBuf, Facts> {
    let entries = walkdir::WalkDir::new(root).into_iter().map(|entry| entry.unwrap().into_path());
    let facts = |path: PathBuf| {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let target = fs::read_link(&path).unwrap_or_default();
        let bytes = if metadata.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let names = if metadata.is_file() { metadata.nlink() } else { 0 };
        let facts = (metadata.mode(), metadata.mtime(), metadata.mtime_nsec(), names, target, bytes);
        (path.strip_prefix(root).unwrap().to_owned(), facts)
    };
    entries.map(facts).collect()
}

/// The number of the block from which the restore in this folder continues.
fn checkpoint_block(folder: &Path) -> usize {
    let block = |name: &str| {
        let text = fs::read_to_string(folder.join(name)).unwrap_or_default();
        let line: serde_json::Value = serde_json::from_str(text.lines().next()?).ok()?;
        usize::try_from(line["block"].as_u64()?).ok()
    };
    ["checkpoint.0", "checkpoint.1"].into_iter().filter_map(block).max().unwrap_or_default()
}

/// Goal: the same for a directory. Method: kills gets of a tree at random blocks. What the last one fetched are exactly the
/// chunks from the block of the last checkpoint on.
#[test]
fn a_killed_get_of_a_directory_continues() {
    let colony = Colony::start_with(3, &NO_AUDITS);
    let tree = colony.path("tree");
    make_tree(&tree);
    run(colony.put().args(["--compress", "0", "--copies", "2"]).arg(&tree)).expect_success();
    let stored = StoredFile::read(&colony.path("tree.manifest"));
    let sizes = chunk_sizes(&colony, &stored);
    let expected = contents(&tree);
    let (out, folder) = (colony.path("out"), colony.path("out.cellsync-part"));
    let mut get = colony.get();
    get.args(["--jobs", "2", "--json", "-o"]).arg(&out).arg(&stored.manifest);
    let (mut killed, mut reused) = (0, 0);
    for _ in 0..100 * kills() {
        let mut block = 0;
        for _ in 0..fastrand::usize(1..4) {
            let wanted = block + fastrand::usize(0..=stored.ids.len() - block);
            let Some(mut running) = get_until(&mut get, || checkpoint_block(&folder) >= wanted) else { break };
            running.kill();
            assert_eq!(running.finish().code, -9);
            killed += 1;
            let now = checkpoint_block(&folder);
            assert!(now >= block, "a get that continues went back");
            block = now;
        }
        if !out.exists() {
            let report = run(&mut get).expect_success().json();
            let fetched: u64 = stored.ids.iter().skip(block).map(|id| sizes[id]).sum();
            assert_eq!(report["fetched_bytes"], fetched, "{report}");
            assert_eq!(report["reused_bytes"].as_u64() > Some(0), block > 0, "{report}");
            reused += block;
        }
        assert!(contents(&out) == expected);
        assert_eq!(colony.files(), ["out", "tree", "tree.manifest"]);
        remove_closed(&out);
        if killed >= kills() {
            break;
        }
    }
    remove_closed(&tree);
    assert!(killed >= kills(), "too few gets were killed in time");
    assert!(reused > killed, "{reused} blocks were reused: the test kills too early");
}

/// Removes a tree whose directories cannot be written to.
fn remove_closed(root: &Path) {
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.unwrap();
        if entry.file_type().is_dir() {
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o700)).unwrap();
        }
    }
    fs::remove_dir_all(root).unwrap();
}

/// Starts a get and kills it when the condition holds. Begins again with `reset` if it ended first.
fn kill_when(get: &mut Command, condition: impl Fn() -> bool, reset: impl Fn()) {
    for _ in 0..100 {
        if let Some(mut running) = get_until(get, &condition) {
            running.kill();
            assert_eq!(running.finish().code, -9);
            return;
        }
        reset();
    }
    panic!("the get always ended first");
}

/// What is done to an unfinished directory, and what is reported then.
type Change<'a> = (&'a dyn Fn(), &'a [&'a str]);

/// Goal: a get that continues never calls a directory restored that is not as it was stored. Method: kills a get of a tree
/// in the middle, damages what it left in one way each time, and runs it again.
#[test]
fn a_continued_directory_that_was_changed_is_restored_anew() {
    let colony = Colony::start_with(2, &NO_AUDITS);
    let tree = colony.path("tree");
    make_tree(&tree);
    run(colony.put().args(["--compress", "0", "--copies", "2"]).arg(&tree)).expect_success();
    let expected = contents(&tree);
    let (out, folder) = (colony.path("out"), colony.path("out.cellsync-part"));
    let mut get = colony.get();
    get.args(["--jobs", "1", "-o", "out", "tree.manifest"]);
    let file = folder.join("tree/d0/closed/f7");
    let changes: [Change; 5] = [
        (&|| fs::remove_file(&file).unwrap(), &["starts anew", "d0/closed/f7 is gone"]),
        (
            &|| {
                let time = fs::metadata(&file).unwrap().modified().unwrap();
                let mut opened = fs::OpenOptions::new().write(true).open(&file).unwrap();
                opened.write_all(b"other bytes").unwrap();
                opened.set_modified(time).unwrap();
            },
            &["starts anew", "d0/closed/f7 has changed"],
        ),
        (
            &|| {
                let mut log = fs::OpenOptions::new().write(true).open(folder.join("entries")).unwrap();
                log.seek(SeekFrom::Start(1000)).unwrap();
                log.write_all(b"damage").unwrap();
            },
            &["starts anew", "damaged"],
        ),
        (&|| fs::write(folder.join("tree/d0/closed/added"), b"").unwrap(), &["resuming"]),
        (&|| {}, &["resuming"]),
    ];
    for (change, reported) in changes {
        // The first large file is behind all of `d0/closed`.
        kill_when(&mut get, || checkpoint_block(&folder) >= 12, || remove_closed(&out));
        // Others than root may not change what is in a closed directory.
        let reported = if rustix::process::geteuid().is_root() || reported.contains(&"damaged") {
            change();
            reported
        } else {
            &["resuming"]
        };
        run(&mut get).expect_success().expect_line(reported);
        assert!(contents(&out) == expected, "{reported:?}");
        assert_eq!(colony.files(), ["out", "tree", "tree.manifest"]);
        remove_closed(&out);
    }
    remove_closed(&tree);
}

/// Goal: a get to an existing directory that is killed while its entries get to their places is finished by the same
/// command. Method: kills it when some of 3,000 entries are there, checks that a get of something else is refused, and runs
/// it again.
#[test]
fn a_get_killed_while_it_moves_entries_is_finished() {
    let colony = Colony::start_with(2, &NO_AUDITS);
    let tree = colony.path("tree");
    fs::create_dir_all(tree.join("directory/deeper")).unwrap();
    fs::write(tree.join("directory/deeper/f"), b"content").unwrap();
    for number in 0..3_000 {
        fs::write(tree.join(format!("f{number}")), if number % 100 == 0 { &b"content"[..] } else { b"" }).unwrap();
    }
    fs::set_permissions(&tree, fs::Permissions::from_mode(0o750)).unwrap();
    run(colony.put().args(["--copies", "2"]).arg(&tree)).expect_success();
    let other = colony.path("other");
    fs::create_dir(&other).unwrap();
    run(colony.put().arg(&other)).expect_success();
    let expected = contents(&tree);
    let out = colony.path("out");
    fs::create_dir(&out).unwrap();
    let mut get = colony.get();
    get.args(["-o", "out", "tree.manifest"]);
    // The folder of the unfinished restore is there from the beginning.
    let is_moving = || fs::read_dir(&out).unwrap().take(2).count() == 2;
    let has_folder = || out.join("restore.cellsync-part").exists();
    let reset = || {
        fs::remove_dir_all(&out).unwrap();
        fs::create_dir(&out).unwrap();
    };
    kill_when(&mut get, || is_moving() && has_folder(), reset);
    assert!(has_folder());
    let left = fs::read_dir(out.join("restore.cellsync-part/tree")).unwrap().count();
    assert!((1..3_001).contains(&left), "{left} entries are still to be moved");
    let refused = run(colony.get().args(["-o", "out", "other.manifest"]));
    refused.expect_error(2, &["out/restore.cellsync-part"]);
    let report = run(get.arg("--json")).expect_success().json();
    assert_eq!(report["fetched_bytes"], 0, "{report}");
    assert!(contents(&out) == expected);
}
