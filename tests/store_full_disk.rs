//! A full disk: puts are refused, everything else goes on.
// These are tests, though clippy knows so only inside of a `#[test]`; they wait with deadlines.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods)]
#![cfg(target_os = "linux")]

mod store_common;

use std::fs;
use std::path::PathBuf;

use cellsync::id::ChunkId;
use cellsync::store::{FileStore, Store, StoreError};
use store_common::disk::{Disk, free_bytes};
use store_common::{assert_all_good, bytes, cell, child, open, put, stored, until, write_for_ever};

/// Puts chunks of this length until there is no room for one.
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

#[test]
fn a_disk_filled_by_the_store_goes_on_reading() {
    let Some(disk) = Disk::new(24) else { return };
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    let mut ids = Vec::new();
    let store = open(&dir);
    for len in [1 << 20, 100_000, 10_000, 1000] {
        fill(&store, &mut ids, len);
    }
    assert!(store.usage().free_bytes < 4096);
    assert!(fs::read_dir(dir.join("tmp")).unwrap().next().is_none());
    assert_all_good(&store, &ids);
    store.flush().unwrap();
    drop(store);
    let store = open(&dir);
    assert_all_good(&store, &ids);
    assert_eq!(store.usage().chunks, ids.len() as u64);
    assert!(ids.iter().all(|id| store.record(id).unwrap().is_some()));
}

/// Somebody else takes the last byte while the store is open, and it is opened again on the full disk.
#[test]
fn a_disk_filled_by_others_goes_on_reading_and_opens_with_the_ballast() {
    let Some(disk) = Disk::new(24) else { return };
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    let store = open(&dir);
    let mut ids = Vec::new();
    for n in 0..50 {
        ids.push(put(&store, &bytes(n, 20_000)).unwrap().0);
    }
    let hog = disk.path().join("hog");
    let mut file = fs::File::create(&hog).unwrap();
    std::io::copy(&mut std::io::repeat(1), &mut file).unwrap_err();
    let error = put(&store, &bytes(99, 20_000)).unwrap_err();
    assert!(matches!(error, StoreError::NoRoom { needed_bytes: 20_000, .. }), "{error}");
    assert!(fs::read_dir(dir.join("tmp")).unwrap().next().is_none());
    assert_all_good(&store, &ids);
    drop(store);
    // With the ballast's room the catalogue opens; what chunks may use is none of it.
    let store = open(&dir);
    assert!(!dir.join("ballast").exists());
    assert_all_good(&store, &ids);
    until("records in the ballast's room", || ids.iter().all(|id| store.record(id).unwrap().is_some()));
    assert!(put(&store, &bytes(99, 20_000)).is_err());
    drop(store);
    // Without it nothing opens but the chunks.
    std::io::copy(&mut std::io::repeat(1), &mut file).unwrap_err();
    let store = open(&dir);
    assert_all_good(&store, &ids);
    let _ = store.flush();
    drop(store);
    drop(file);
    fs::remove_file(&hog).unwrap();
    let store = open(&dir);
    assert_all_good(&store, &ids);
    until("records with room again", || ids.iter().all(|id| store.record(id).unwrap().is_some()));
    put(&store, &bytes(99, 20_000)).unwrap();
    store.flush().unwrap();
    assert!(dir.join("ballast").exists());
}

/// The disk runs full under a store that is writing, with nothing left for the ballast's ordinary way: the system's
/// own "no space" comes up in every place it can.
#[test]
fn running_out_of_space_in_the_middle_keeps_nothing_half_written() {
    let Some(disk) = Disk::new(24) else { return };
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    let store = open(&dir);
    let mut ids = Vec::new();
    let hog = fs::File::create(disk.path().join("hog")).unwrap();
    let mut refused = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| std::io::copy(&mut std::io::repeat(1), &mut &hog).unwrap_err());
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
    assert!(fs::read_dir(dir.join("tmp")).unwrap().next().is_none());
    assert_eq!(store.usage().chunks, ids.len() as u64);
    assert_all_good(&store, &store.list(None, usize::MAX).unwrap());
    assert_all_good(&store, &ids);
}

/// A cell that drains because it is full must be able to remember that it does.
#[test]
fn facts_are_kept_on_a_full_disk_in_the_room_of_the_ballast() {
    let Some(disk) = Disk::new(24) else { return };
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    let store = open(&dir);
    store.save_state(b"old").unwrap();
    let mut file = fs::File::create(disk.path().join("hog")).unwrap();
    std::io::copy(&mut std::io::repeat(1), &mut file).unwrap_err();
    let facts = bytes(1, 60_000);
    store.save_state(&facts).unwrap();
    assert!(!dir.join("ballast").exists());
    // With nothing left at all the old ones stay.
    std::io::copy(&mut std::io::repeat(1), &mut file).unwrap_err();
    let error = store.save_state(&bytes(2, 60_000)).unwrap_err();
    assert!(matches!(error, StoreError::NoRoom { .. }), "{error}");
    assert_eq!(store.load_state().unwrap().unwrap(), facts);
    assert!(fs::read_dir(dir.join("tmp")).unwrap().next().is_none());
    drop(store);
    assert_eq!(open(&dir).load_state().unwrap().unwrap(), facts);
}

/// The system's own "no space" where the count of free bytes does not foretell it: there are no inodes left.
#[test]
fn a_disk_without_inodes_has_no_room() {
    let Some(disk) = Disk::new(24) else { return };
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    let store = open(&dir);
    let mut ids = Vec::new();
    fill(&store, &mut ids, 8);
    assert!(store.usage().free_bytes > 1 << 20);
    assert!(fs::read_dir(dir.join("tmp")).unwrap().next().is_none());
    assert_eq!(store.usage().chunks, ids.len() as u64);
    assert_all_good(&store, &ids);
    drop(store);
    assert_all_good(&open(&dir), &ids);
}

/// Killed on a disk that is nearly full, again and again.
#[test]
fn a_store_killed_on_a_full_disk_opens() {
    let Some(disk) = Disk::new(24) else { return };
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    let mut acknowledged = Vec::new();
    for _ in 0..4 {
        let Some(mut writer) = child("write", &dir) else { return };
        let mut said = stored(writer.0.stdout.take().unwrap());
        acknowledged.extend(said.by_ref().take(300).take_while(|_| free_bytes(&dir) > 1 << 20));
        writer.0.kill().unwrap();
        acknowledged.extend(said);
        drop(writer);
        assert_all_good(&open(&dir), &acknowledged);
    }
}

/// Not a test of its own: what the children run.
#[test]
fn child_process() {
    if std::env::var_os("CELLSYNC_STORE_CHILD").is_none() {
        return;
    }
    write_for_ever(&open(&PathBuf::from(std::env::var_os("CELLSYNC_STORE_DIR").unwrap())), 8);
}
