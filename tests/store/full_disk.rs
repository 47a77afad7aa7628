//! A full disk: puts are refused, and everything else continues.

use std::fs::{self, File};
use std::path::Path;

use cellsync::id::ChunkId;
use cellsync::store::{FileStore, Store, StoreError};

use crate::child::{Role, child};
use crate::disk::{Disk, free_bytes};
use crate::harness::{assert_all_good, bytes, cell, count, open, put, wait_until};

const DISK_MIB: u64 = 24;

/// Puts chunks of this length until one does not fit.
fn fill(store: &FileStore, ids: &mut Vec<ChunkId>, len: usize) {
    for n in 0.. {
        match put(store, &bytes(n * 1_000_003 + len as u64, len)) {
            Ok((id, _)) => ids.push(id),
            Err(StoreError::NoRoom { needed_bytes, .. }) => {
                assert_eq!(needed_bytes, len as u64);
                return;
            }
            Err(e) => panic!("{e}"),
        }
    }
}

/// Takes all space that is left, as another program does.
fn take_all_space(mut file: &File) {
    std::io::copy(&mut std::io::repeat(1), &mut file).unwrap_err();
}

fn has_record_of_all(store: &FileStore, ids: &[ChunkId]) -> bool {
    ids.iter().all(|id| store.record(id).unwrap().is_some())
}

fn assert_nothing_staged(dir: &Path) {
    assert_eq!(count(&dir.join("tmp")), 0);
}

#[test]
fn a_disk_filled_by_the_store_can_still_be_read() {
    let Some(disk) = Disk::new(DISK_MIB) else { return };
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    let mut ids = Vec::new();
    let store = open(&dir);
    for len in [1 << 20, 100_000, 10_000, 1000] {
        fill(&store, &mut ids, len);
    }
    assert!(store.usage().free_bytes < 4096);
    assert_nothing_staged(&dir);
    assert_all_good(&store, &ids);
    store.flush().unwrap();
    drop(store);
    let store = open(&dir);
    assert_all_good(&store, &ids);
    assert_eq!(store.usage().chunks, ids.len() as u64);
    assert!(has_record_of_all(&store, &ids));
}

/// Method: another file takes all space while the store is open, then once more after the store has released its
/// ballast.
#[test]
fn a_disk_filled_by_others_can_be_read_and_opened() {
    let Some(disk) = Disk::new(DISK_MIB) else { return };
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    let store = open(&dir);
    let mut ids = Vec::new();
    for n in 0..50 {
        ids.push(put(&store, &bytes(n, 20_000)).unwrap().0);
    }
    let hog_path = disk.path().join("hog");
    let hog = File::create(&hog_path).unwrap();
    take_all_space(&hog);
    let error = put(&store, &bytes(99, 20_000)).unwrap_err();
    assert!(matches!(error, StoreError::NoRoom { needed_bytes: 20_000, .. }), "{error}");
    assert_nothing_staged(&dir);
    assert_all_good(&store, &ids);
    drop(store);
    // The ballast's space lets the catalogue open, and is not available to chunks.
    let store = open(&dir);
    assert!(!dir.join("ballast").exists());
    assert_all_good(&store, &ids);
    wait_until("records in the ballast's space", || has_record_of_all(&store, &ids));
    assert!(put(&store, &bytes(99, 20_000)).is_err());
    drop(store);
    // Without it the catalogue stays closed, and the chunks can be read.
    take_all_space(&hog);
    let store = open(&dir);
    assert_all_good(&store, &ids);
    let _ = store.flush();
    drop(store);
    drop(hog);
    fs::remove_file(&hog_path).unwrap();
    let store = open(&dir);
    assert_all_good(&store, &ids);
    wait_until("records with free space", || has_record_of_all(&store, &ids));
    put(&store, &bytes(99, 20_000)).unwrap();
    store.flush().unwrap();
    assert!(dir.join("ballast").exists());
}

/// Goal: nothing half-written stays when the system itself reports a full disk, wherever that happens. Method: another
/// file takes all space while the store puts.
#[test]
fn a_disk_that_fills_up_during_puts_keeps_nothing_half_written() {
    let Some(disk) = Disk::new(DISK_MIB) else { return };
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    let store = open(&dir);
    let mut ids = Vec::new();
    let hog = File::create(disk.path().join("hog")).unwrap();
    let mut refused = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| take_all_space(&hog));
        for n in 0.. {
            match put(&store, &bytes(n, 200_000)) {
                Ok((id, _)) => ids.push(id),
                Err(StoreError::NoRoom { .. }) if refused == 20 => break,
                Err(StoreError::NoRoom { .. }) => refused += 1,
                Err(e) => panic!("{e}"),
            }
        }
    });
    assert!(free_bytes(disk.path().as_path()) < 8 << 20);
    assert_nothing_staged(&dir);
    assert_eq!(store.usage().chunks, ids.len() as u64);
    assert_all_good(&store, &store.list(None, usize::MAX).unwrap());
    assert_all_good(&store, &ids);
}

/// A cell that drains because its disk is full must be able to save that it drains.
#[test]
fn the_state_is_saved_on_a_full_disk_in_place_of_the_ballast() {
    let Some(disk) = Disk::new(DISK_MIB) else { return };
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    let store = open(&dir);
    store.save_state(b"old").unwrap();
    let hog = File::create(disk.path().join("hog")).unwrap();
    take_all_space(&hog);
    let state = bytes(1, 60_000);
    store.save_state(&state).unwrap();
    assert!(!dir.join("ballast").exists());
    // Without any space the earlier state stays.
    take_all_space(&hog);
    let error = store.save_state(&bytes(2, 60_000)).unwrap_err();
    assert!(matches!(error, StoreError::NoRoom { .. }), "{error}");
    assert_eq!(store.load_state().unwrap().unwrap(), state);
    assert_nothing_staged(&dir);
    drop(store);
    assert_eq!(open(&dir).load_state().unwrap().unwrap(), state);
}

/// Only the last inodes are left to the store's own files, though there are bytes enough.
#[test]
fn a_disk_without_inodes_has_no_room() {
    let Some(disk) = Disk::new(DISK_MIB) else { return };
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    let store = open(&dir);
    let mut ids = Vec::new();
    fill(&store, &mut ids, 8);
    assert!(free_bytes(&dir) > 1 << 20);
    assert_eq!(store.usage().free_bytes, 0);
    assert_nothing_staged(&dir);
    assert_eq!(store.usage().chunks, ids.len() as u64);
    assert_all_good(&store, &ids);
    drop(store);
    assert_all_good(&open(&dir), &ids);
}

#[test]
fn acknowledged_chunks_survive_kills_on_a_nearly_full_disk() {
    let Some(disk) = Disk::new(DISK_MIB) else { return };
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    let mut acknowledged = Vec::new();
    for _ in 0..4 {
        let mut writer = child(&Role::Put { threads: 8 }, &dir);
        let mut stored = writer.stored();
        acknowledged.extend(stored.by_ref().take(300).take_while(|_| free_bytes(&dir) > 1 << 20));
        writer.0.kill().unwrap();
        acknowledged.extend(stored);
        drop(writer);
        assert_all_good(&open(&dir), &acknowledged);
    }
}
