//! What a store writes while nothing happens, and while it is only read: nothing, so that cards last and disks sleep.
// These are tests, though clippy knows so only inside of a `#[test]`; they wait with deadlines.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods)]
#![cfg(target_os = "linux")]

mod store_common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use cellsync::store::Store;
use store_common::{bytes, child, counted, file_of, filled, new_cell, open, put, until};

/// An idle store writes nothing, so that cards last and disks sleep; nor does one that is told what it knows.
#[test]
fn nothing_is_written_while_nothing_happens() {
    let (dir, _) = filled(200);
    let Some(mut idle) = child("idle", dir.path()) else { return };
    let mut said = BufReader::new(idle.0.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap() == "settled"));
    let written = || {
        let io = fs::read_to_string(format!("/proc/{}/io", idle.0.id())).unwrap();
        io.lines().filter(|line| line.contains("write_bytes") || line.contains("syscw")).collect::<Vec<_>>().join("\n")
    };
    // What it was told last is on its way to the catalogue; that is done in far less time than the keeper waits with the
    // disk.
    let mut before = written();
    let mut since = std::time::Instant::now();
    until("a second of quiet", || {
        let now = written();
        if now != before {
            (before, since) = (now, std::time::Instant::now());
        }
        since.elapsed() > Duration::from_secs(1)
    });
    // Three times as long as sled's own rhythm, and past the keeper's.
    let quiet = std::time::Instant::now() + Duration::from_secs(7);
    until("seven seconds", || std::time::Instant::now() > quiet);
    assert_eq!(written(), before);
}

/// Not a test of its own: what the child runs.
#[test]
fn child_process() {
    let Ok(_) = std::env::var("CELLSYNC_STORE_CHILD") else { return };
    let store = open(&PathBuf::from(std::env::var_os("CELLSYNC_STORE_DIR").unwrap()));
    // Says so once all is settled, then waits to be killed. Of what it is told meanwhile nothing is news; that a
    // copy was looked at is, but can wait for the disk for much longer than anybody waits here.
    counted(&store);
    store.flush().unwrap();
    for (n, (id, record)) in store.records(None, 1000).unwrap().iter().enumerate() {
        store.set_holders(id, &record.metadata.holders);
        if n == 0 {
            assert_eq!(store.verify(id).unwrap(), cellsync::store::CopyState::Good);
        }
    }
    writeln!(std::io::stdout(), "\nsettled").unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn the_same_facts_again_write_nothing() {
    let dir = new_cell();
    let store = open(dir.path());
    store.save_state(b"a").unwrap();
    let number = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(dir.path().join("facts")).unwrap());
    let before = number();
    store.save_state(b"a").unwrap();
    assert_eq!(number(), before);
    store.save_state(b"b").unwrap();
    assert_ne!(number(), before);
}

/// Goal: reading chunks wears no card out. Method: a chunk that was last read long ago is read through the store; the
/// file system has noted nothing of it, where an ordinary read would have been noted (`relatime` notes the first read
/// in a day).
#[test]
fn reading_a_chunk_writes_nothing() {
    let dir = new_cell();
    let store = open(dir.path());
    let (id, _) = put(&store, &bytes(1, 1000)).unwrap();
    let path = file_of(dir.path(), &id);
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let times = fs::FileTimes::new().set_accessed(long_ago);
    File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
    let mut read = Vec::new();
    store.open(&id).unwrap().unwrap().reader.read_to_end(&mut read).unwrap();
    assert_eq!(read.len(), 1000);
    assert_eq!(fs::metadata(&path).unwrap().accessed().unwrap(), long_ago);
}

/// An idle colony wrote to all its disks: each time a guard asked for the next of a cell's chunks, the file system noted
/// that the folder was read.
#[test]
fn listing_chunks_writes_nothing() {
    let dir = new_cell();
    let store = open(dir.path());
    let (id, _) = put(&store, &bytes(1, 1000)).unwrap();
    counted(&store);
    let folder = file_of(dir.path(), &id).parent().unwrap().to_owned();
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let opened = File::open(&folder).unwrap();
    opened.set_times(fs::FileTimes::new().set_accessed(long_ago)).unwrap();
    assert_eq!(store.list(None, 10).unwrap(), [id]);
    assert_eq!(store.records(None, 10).unwrap().len(), 1);
    assert_eq!(fs::metadata(&folder).unwrap().accessed().unwrap(), long_ago);
}
