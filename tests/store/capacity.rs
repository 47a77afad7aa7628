//! The limits of a store: reserve, quota and quarantine.

use std::fs;

use cellsync::store::{FileStore, OpenError, Store, StoreError, StoreOptions};

use crate::disk::free_bytes;
use crate::harness::{bytes, count, counted, filled, new_cell, open, put, quarantined, wait_until};

#[test]
fn a_put_does_not_touch_the_reserve() {
    let dir = new_cell();
    // Other tests change the free space of this disk meanwhile: one undisturbed attempt is enough.
    wait_until("less than 5 MiB free beside the reserve and the ballast", || {
        let reserve_bytes = Some(free_bytes(dir.path()) - (5 << 20));
        let options = StoreOptions { reserve_bytes, ..StoreOptions::default() };
        FileStore::open(dir.path(), &options).unwrap().usage().free_bytes < 5 << 20
    });
    let options = StoreOptions { reserve_bytes: Some(u64::MAX / 4), ..StoreOptions::default() };
    let store = FileStore::open(dir.path(), &options).unwrap();
    let error = put(&store, b"x").unwrap_err();
    assert!(matches!(error, StoreError::NoRoom { needed_bytes: 1, free_bytes: 0 }), "{error}");
    assert_eq!(count(&dir.path().join("tmp")), 0);
}

#[test]
fn a_quota_admits_no_put_until_the_chunks_are_counted() {
    let (dir, _) = filled(1);
    fs::remove_file(dir.path().join("clean")).unwrap();
    let options = StoreOptions { reserve_bytes: Some(0), quota_bytes: Some(1 << 20), ..StoreOptions::default() };
    let shard = dir.path().join("chunks/00");
    // A shard folder that cannot be made is an error at open.
    fs::remove_dir(&shard).unwrap();
    fs::write(&shard, "").unwrap();
    let error = FileStore::open(dir.path(), &options).map(drop).unwrap_err();
    let OpenError::Disk { path, .. } = error else { panic!("{error}") };
    assert_eq!(path, shard);
    fs::remove_file(&shard).unwrap();
    let store = FileStore::open(dir.path(), &options).unwrap();
    if !store.usage().counted {
        assert!(matches!(put(&store, b"x"), Err(StoreError::Counting) | Ok(_)));
    }
    counted(&store);
    put(&store, b"x").unwrap();
    assert_eq!(counted(&store), (2, 1001));
}

#[test]
fn the_quarantine_deletes_the_oldest_past_its_limit() {
    let dir = new_cell();
    let store = open(dir.path());
    let quarantine = dir.path().join("quarantine");
    let mib = 1 << 20;
    let ids: Vec<_> = (0..36).map(|n| put(&store, &bytes(n, 2 * mib)).unwrap().0).collect();
    for id in &ids {
        assert!(store.quarantine(id).unwrap());
    }
    assert_eq!(count(&quarantine), 32);
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(quarantined(dir.path(), id).exists(), n >= 4, "{n}");
    }
    assert_eq!(store.usage().chunks, 0);
}
