//! Power cuts: what the store acknowledged is durable, byte for byte.
//!
//! Method: a child puts chunks on a real ext4 and prints each id once it is acknowledged. Meanwhile the file system is
//! shut down without committing its journal, which loses everything that was not fsynced, and mounted again. Killing
//! the child would prove nothing: the kernel writes out what a dead process has left.

use cellsync::id::ChunkId;
use cellsync::store::{FileStore, Store};

use crate::child::{Role, child, nth_state};
use crate::disk::Disk;
use crate::harness::{assert_all_good, cell, counted, metadata, open, put, quarantined, wait_until};

#[test]
fn acknowledged_chunks_survive_power_cuts() {
    let Some(disk) = Disk::new(192) else { return };
    let mut acknowledged = Vec::new();
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    for round in 1..=8 {
        // With many threads one fsync of the journal can hide that another is missing, so every other round has one.
        let threads = if round % 2 == 0 { 8 } else { 1 };
        let mut writer = child(&Role::Put { threads }, &dir);
        let mut stored = writer.stored();
        acknowledged.extend(stored.by_ref().take(round * 23));
        disk.cut();
        writer.0.kill().unwrap();
        acknowledged.extend(stored);
        drop(writer);
        disk.mount_again();
        let store = open(&dir);
        assert_eq!(store.cell_id(), cell(1));
        assert_all_good(&store, &acknowledged);
        // No name, acknowledged or not, stands for other bytes than its own.
        let all = store.list(None, usize::MAX).unwrap();
        assert_all_good(&store, &all);
        assert_eq!(counted(&store).0, all.len() as u64);
        put(&store, format!("round {round}").as_bytes()).unwrap();
        acknowledged.push(ChunkId::of(format!("round {round}").as_bytes()));
    }
}

#[test]
fn records_and_counts_survive_a_power_cut_after_a_flush() {
    let Some(disk) = Disk::new(64) else { return };
    for round in 0..5_u8 {
        let dir = disk.path().join(format!("cell{round}"));
        FileStore::init(&dir, cell(round)).unwrap();
        let store = open(&dir);
        let ids: Vec<_> = (0..100).map(|n| put(&store, &[round, n]).unwrap().0).collect();
        store.flush().unwrap();
        disk.cut();
        drop(store);
        disk.mount_again();
        let store = open(&dir);
        for id in &ids {
            assert_eq!(store.record(id).unwrap().unwrap().metadata, metadata(), "round {round}");
        }
        assert!(store.usage().counted);
    }
}

#[test]
fn init_quarantine_and_a_new_cell_id_survive_power_cuts() {
    let Some(disk) = Disk::new(64) else { return };
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    disk.cut();
    disk.mount_again();
    let store = open(&dir);
    let (id, _) = put(&store, b"bad").unwrap();
    store.quarantine(&id).unwrap();
    disk.cut();
    drop(store);
    disk.mount_again();
    let store = open(&dir);
    assert!(!store.contains(&id).unwrap());
    assert!(quarantined(&dir, &id).exists());
    store.set_cell_id(cell(2)).unwrap();
    disk.cut();
    drop(store);
    disk.mount_again();
    assert_eq!(open(&dir).cell_id(), cell(2));
}

#[test]
fn a_removal_survives_a_power_cut_and_the_counts_agree() {
    let Some(disk) = Disk::new(64) else { return };
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    let mut store = open(&dir);
    let ids: Vec<_> = (0..10_u8).map(|n| put(&store, &[n; 100]).unwrap().0).collect();
    store.flush().unwrap();
    for (n, id) in ids.iter().enumerate() {
        assert!(store.remove(id).unwrap());
        // With and without a clean-stop note.
        if n % 2 == 0 {
            store.flush().unwrap();
        }
        disk.cut();
        drop(store);
        disk.mount_again();
        store = open(&dir);
        assert!(!store.contains(id).unwrap(), "{n}");
        let left = 9 - n as u64;
        assert_eq!(counted(&store), (left, left * 100), "{n}");
        wait_until("no record of the chunk", || store.records(None, 100).unwrap().len() as u64 == left);
    }
}

/// The state must be the last acknowledged one or the one that was being saved; never none, never a mixture.
#[test]
fn the_saved_state_survives_power_cuts() {
    let Some(disk) = Disk::new(64) else { return };
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    for round in 1..=6 {
        let mut writer = child(&Role::SaveStates, &dir);
        let mut saved = writer.lines("saved ").filter_map(|n| n.parse::<usize>().ok());
        let mut last = saved.by_ref().nth(round * 7).unwrap();
        disk.cut();
        writer.0.kill().unwrap();
        last = saved.last().unwrap_or(last);
        drop(writer);
        disk.mount_again();
        let state = open(&dir).load_state().unwrap().unwrap();
        assert!((last..=last + 1).any(|n| state == nth_state(n)), "round {round}: {last} was acknowledged");
    }
}
