//! Wear: a store writes nothing while it is idle or only read, so that cards last and disks sleep.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use cellsync::store::{CopyState, Store};

use crate::child::{Role, child};
use crate::harness::{bytes, counted, file_of, filled, get, new_cell, open, put, wait_until};

/// Method: the kernel counts what a child writes, while that has nothing to do but hints that change nothing.
#[test]
fn an_idle_store_writes_nothing() {
    let (dir, _) = filled(200);
    let mut idle = child(&Role::Idle, dir.path());
    let mut lines = idle.lines("settled");
    assert!(lines.next().is_some());
    let written = || {
        let io = fs::read_to_string(format!("/proc/{}/io", idle.0.id())).unwrap();
        io.lines().filter(|line| line.contains("write_bytes") || line.contains("syscw")).collect::<Vec<_>>().join("\n")
    };
    // The last hints are still on their way to the catalogue, and made durable some seconds later.
    let mut before = written();
    let mut since = Instant::now();
    wait_until("six seconds without writes", || {
        let now = written();
        if now != before {
            (before, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_secs(6)
    });
    // Longer than the writer waits before it makes records durable.
    let end = Instant::now() + Duration::from_secs(7);
    wait_until("seven seconds", || Instant::now() > end);
    assert_eq!(written(), before);
}

#[test]
fn saving_the_same_state_again_writes_nothing() {
    let dir = new_cell();
    let store = open(dir.path());
    store.save_state(b"a").unwrap();
    let inode = || fs::metadata(dir.path().join("facts")).unwrap().ino();
    let before = inode();
    store.save_state(b"a").unwrap();
    assert_eq!(inode(), before);
    store.save_state(b"b").unwrap();
    assert_ne!(inode(), before);
}

fn set_accessed(path: &Path, time: SystemTime) {
    File::open(path).unwrap().set_times(fs::FileTimes::new().set_accessed(time)).unwrap();
}

/// Asserts that `read` leaves the access time as it is. Method: an access long ago, which `relatime` updates at the
/// next ordinary read.
fn assert_keeps_access_time(path: &Path, read: impl FnOnce()) {
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    set_accessed(path, long_ago);
    read();
    assert_eq!(fs::metadata(path).unwrap().accessed().unwrap(), long_ago);
}

#[test]
fn reading_a_chunk_writes_nothing() {
    let dir = new_cell();
    let store = open(dir.path());
    let (id, _) = put(&store, &bytes(1, 1000)).unwrap();
    assert_keeps_access_time(&file_of(dir.path(), &id), || assert_eq!(get(&store, &id).unwrap().len(), 1000));
}

#[test]
fn verifying_a_chunk_updates_no_access_time() {
    let dir = new_cell();
    let store = open(dir.path());
    let (id, _) = put(&store, &bytes(1, 1000)).unwrap();
    assert_keeps_access_time(&file_of(dir.path(), &id), || assert_eq!(store.verify(&id).unwrap(), CopyState::Good));
}

/// Regression: an idle colony wrote to all its disks, as each audit's listing updated a folder's access time.
#[test]
fn listing_chunks_writes_nothing() {
    let dir = new_cell();
    let store = open(dir.path());
    let (id, _) = put(&store, &bytes(1, 1000)).unwrap();
    counted(&store);
    assert_keeps_access_time(file_of(dir.path(), &id).parent().unwrap(), || {
        assert_eq!(store.list(None, 10).unwrap(), [id]);
        assert_eq!(store.records(None, 10).unwrap().len(), 1);
    });
}
