//! What a store acknowledged survives a power cut, byte for byte.
//!
//! A child puts chunks on a real ext4 and says each id once it was acknowledged. Meanwhile the file system is shut
//! down without writing out its journal, which loses all that was not fsynced, and mounted again. Killing the child
//! would prove nothing: the system writes out what a dead process left.
// These are tests, though clippy knows so only inside of a `#[test]`; they wait with deadlines.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods, clippy::exit)]
#![cfg(target_os = "linux")]

mod store_common;

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;

use cellsync::id::ChunkId;
use cellsync::store::{FileStore, Store};
use store_common::disk::Disk;
use store_common::{assert_all_good, cell, child, open, put, stored, until, write_for_ever};

#[test]
fn acknowledged_chunks_survive_power_cuts() {
    let Some(disk) = Disk::new(192) else { return };
    let mut acknowledged = Vec::new();
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    for round in 1..=8 {
        // One or many threads: with many, one fsync of the journal serves some that lack their own.
        let role = if round % 2 == 0 { "write" } else { "write alone" };
        let Some(mut writer) = child(role, &dir) else { return };
        let mut said = stored(writer.0.stdout.take().unwrap());
        acknowledged.extend(said.by_ref().take(round * 23));
        disk.cut();
        writer.0.kill().unwrap();
        acknowledged.extend(said);
        drop(writer);
        disk.mount_again();
        let store = open(&dir);
        assert_eq!(store.cell_id(), cell(1));
        assert_all_good(&store, &acknowledged);
        // No name stands for other bytes than its own, acknowledged or not.
        let all = store.list(None, usize::MAX).unwrap();
        assert_all_good(&store, &all);
        until("it is counted", || store.usage().counted);
        assert_eq!(store.usage().chunks, all.len() as u64);
        put(&store, format!("round {round}").as_bytes()).unwrap();
        acknowledged.push(ChunkId::of(format!("round {round}").as_bytes()));
    }
}

/// After `flush` the records and the counts are on the disk as well.
#[test]
fn records_survive_a_power_cut_after_a_flush() {
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
            assert_eq!(store.record(id).unwrap().unwrap().metadata, store_common::metadata(), "round {round}");
        }
        assert!(store.usage().counted);
    }
}

/// A new name and a copy set aside are safe when the call returns.
#[test]
fn a_name_and_a_quarantine_survive_a_power_cut() {
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
    assert!(dir.join("quarantine").join(id.to_string()).exists());
    store.set_cell_id(cell(2)).unwrap();
    disk.cut();
    drop(store);
    disk.mount_again();
    assert_eq!(open(&dir).cell_id(), cell(2));
}

/// A copy that was removed stays away, and the counts are those of what is left.
#[test]
fn a_removal_survives_a_power_cut() {
    let Some(disk) = Disk::new(64) else { return };
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    let mut store = open(&dir);
    let ids: Vec<_> = (0..10_u8).map(|n| put(&store, &[n; 100]).unwrap().0).collect();
    store.flush().unwrap();
    for (n, id) in ids.iter().enumerate() {
        assert!(store.remove(id).unwrap());
        // With and without a clean stop after it.
        if n % 2 == 0 {
            store.flush().unwrap();
        }
        disk.cut();
        drop(store);
        disk.mount_again();
        store = open(&dir);
        assert!(!store.contains(id).unwrap(), "{n}");
        until("it is counted", || store.usage().counted);
        let left = 9 - n as u64;
        assert_eq!((store.usage().chunks, store.usage().bytes), (left, left * 100), "{n}");
        until("no record is left", || store.records(None, 100).unwrap().len() as u64 == left);
    }
}

/// The facts that were acknowledged last are there, or the ones that were on their way; never none and never a mixture.
#[test]
fn facts_survive_power_cuts() {
    let Some(disk) = Disk::new(64) else { return };
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    for round in 1..=6 {
        let Some(mut writer) = child("keep", &dir) else { return };
        let lines = BufReader::new(writer.0.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut said = lines.filter_map(|line| line.strip_prefix("kept ")?.parse::<usize>().ok());
        let mut last = said.by_ref().nth(round * 7).unwrap();
        disk.cut();
        writer.0.kill().unwrap();
        last = said.last().unwrap_or(last);
        drop(writer);
        disk.mount_again();
        let kept = open(&dir).load_state().unwrap().unwrap();
        assert!((last..=last + 1).any(|n| kept == facts(n)), "round {round}: {last} was acknowledged");
    }
}

fn facts(n: usize) -> Vec<u8> {
    format!("{n} ").repeat(1 + n % 3000).into_bytes()
}

/// Not a test of its own: what the children run.
#[test]
fn child_process() {
    let Ok(role) = std::env::var("CELLSYNC_STORE_CHILD") else { return };
    let store = open(&PathBuf::from(std::env::var_os("CELLSYNC_STORE_DIR").unwrap()));
    if role == "keep" {
        for n in 0.. {
            if store.save_state(&facts(n)).is_err() {
                std::process::exit(0);
            }
            std::io::stdout().lock().write_all(format!("\nkept {n}\n").as_bytes()).unwrap();
        }
    }
    write_for_ever(&store, if role == "write" { 8 } else { 1 });
}
