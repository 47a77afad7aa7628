//! Stops: what survives a clean one and a kill.

use cellsync::id::ChunkId;
use cellsync::store::Store;

use crate::child::{Role, child};
use crate::harness::{assert_all_good, count, counted, filled, metadata, new_cell, open, put};

#[test]
fn records_and_counts_survive_a_clean_stop() {
    let (dir, ids) = filled(300);
    let store = open(dir.path());
    let usage = store.usage();
    assert_eq!((usage.chunks, usage.bytes, usage.counted), (300, 300_000, true));
    for id in &ids {
        assert_eq!(store.record(id).unwrap().unwrap().metadata, metadata());
    }
}

#[test]
fn a_change_deletes_the_clean_stop_note() {
    let (dir, _) = filled(3);
    let clean = dir.path().join("clean");
    let store = open(dir.path());
    assert!(clean.exists());
    put(&store, b"new").unwrap();
    assert!(!clean.exists());
    store.flush().unwrap();
    assert!(clean.exists());
    store.quarantine(&ChunkId::of(b"new")).unwrap();
    assert!(!clean.exists());
}

/// Goal: a kill loses no acknowledged chunk and leaves no half-written file. Method: a child puts as fast as it can and
/// is killed, again and again.
#[test]
fn acknowledged_chunks_survive_kills() {
    let dir = new_cell();
    let mut acknowledged = Vec::new();
    for round in 1..=6 {
        let mut writer = child(&Role::Put { threads: 8 }, dir.path());
        let mut stored = writer.stored();
        acknowledged.extend(stored.by_ref().take(round * 37));
        writer.0.kill().unwrap();
        acknowledged.extend(stored);
        drop(writer);
        let store = open(dir.path());
        assert_all_good(&store, &acknowledged);
        assert_eq!(count(&dir.path().join("tmp")), 0);
        let all = store.list(None, usize::MAX).unwrap();
        assert_eq!(counted(&store).0, all.len() as u64);
        assert_all_good(&store, &all);
    }
}
