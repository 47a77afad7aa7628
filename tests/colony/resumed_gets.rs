//! An interrupted get continues with what it has: it fetches nothing twice but what was in flight.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
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
            let Some(now) = kill_at(&mut get, &log, lines + fastrand::usize(0..stored.ids.len() - lines)) else {
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
