//! The limits of a store: reserve, quota and quarantine.

use std::fs;

use cellsync::store::{FileStore, OpenError, PutOutcome, Store, StoreError, StoreOptions};

use crate::disk::free_bytes;
use crate::harness::{
    assert_all_good, bytes, count, counted, damage, file_of, filled, new_cell, open, put, quarantined, wait_until,
};

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

/// Past its limit the quarantine deletes only files whose chunks are stored again. It deleted the oldest, by the clock
/// of a board that may have started in 1970, and with them the only copies.
#[test]
fn the_quarantine_deletes_no_only_copy() {
    let dir = new_cell();
    let store = open(dir.path());
    let quarantine = dir.path().join("quarantine");
    let mib = 1 << 20;
    let content = |n| bytes(n, 2 * mib);
    let ids: Vec<_> = (0..36).map(|n| put(&store, &content(n)).unwrap().0).collect();
    for id in &ids {
        assert!(store.quarantine(id).unwrap());
    }
    assert_eq!(count(&quarantine), 36, "64 MiB and four");
    assert_eq!(store.usage().chunks, 0);
    for n in 0..6 {
        put(&store, &content(n)).unwrap();
    }
    assert_eq!(count(&quarantine), 32);
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(quarantined(dir.path(), id).exists(), n >= 4, "{n}");
    }
    // A good copy is stored of two of them only.
    let another = put(&store, &content(100)).unwrap().0;
    for _ in 0..2 {
        assert!(store.quarantine(&another).unwrap());
        put(&store, &content(100)).unwrap();
    }
    assert_eq!(ids.iter().filter(|id| quarantined(dir.path(), id).exists()).count(), 30);
}

/// A full cell could not replace its bad copy: the quarantine occupied the room.
#[test]
fn a_full_store_replaces_its_quarantined_copy() {
    let dir = new_cell();
    let mib = 1_u64 << 20;
    let options = StoreOptions { reserve_bytes: Some(0), quota_bytes: Some(4 * mib), ..StoreOptions::default() };
    let store = FileStore::open(dir.path(), &options).unwrap();
    counted(&store);
    let content = |n| bytes(n, 1 << 20);
    let ids: Vec<_> = (0..4).map(|n| put(&store, &content(n)).unwrap().0).collect();
    for id in &ids[..2] {
        assert!(store.quarantine(id).unwrap());
    }
    assert_eq!(store.usage().free_bytes, 0, "unproved files use up room");
    assert!(matches!(put(&store, &content(9)), Err(StoreError::NoRoom { .. })));
    assert_eq!(put(&store, &content(0)).unwrap().1, PutOutcome::Stored);
    assert!(!quarantined(dir.path(), &ids[0]).exists() && quarantined(dir.path(), &ids[1]).exists());
    assert_eq!(store.usage().free_bytes, 0);
    drop(store);
    let store = FileStore::open(dir.path(), &options).unwrap();
    counted(&store);
    assert_eq!(store.usage().free_bytes, 0, "at the next start too");
}

#[test]
fn a_quarantined_file_that_is_good_returns() {
    let dir = new_cell();
    let store = open(dir.path());
    let (good, _) = put(&store, &bytes(1, 100_000)).unwrap();
    let (bad, _) = put(&store, &bytes(2, 100_000)).unwrap();
    let (replaced, _) = put(&store, &bytes(3, 100_000)).unwrap();
    damage(&file_of(dir.path(), &bad), 5);
    for id in [good, bad, replaced] {
        assert!(store.quarantine(&id).unwrap());
    }
    put(&store, &bytes(3, 100_000)).unwrap();
    let mut ids = vec![good, bad, replaced];
    ids.sort_unstable();
    assert_eq!(store.quarantined(None, 9).unwrap(), ids);
    assert_eq!(store.quarantined(Some(&ids[0]), 1).unwrap(), ids[1..2]);
    let restored: Vec<_> = ids.iter().filter(|id| store.restore(id).unwrap()).collect();
    assert_eq!(restored, [&good]);
    assert_all_good(&store, &[good, replaced]);
    assert_eq!(counted(&store), (2, 200_000));
    assert!(store.record(&good).unwrap().is_some() && !store.contains(&bad).unwrap());
    assert!(!store.restore(&good).unwrap(), "it is stored");
}
