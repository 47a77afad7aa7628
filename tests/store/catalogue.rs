//! The catalogue: a lost, damaged or foreign one costs records but never a chunk, and is rebuilt from the files.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use cellsync::id::{ChunkId, DEFAULT_COPIES};
use cellsync::store::Store;

use crate::harness::{assert_all_good, bytes, cell, file_of, filled, metadata, open, put, wait_until};

/// Opens a store whose catalogue was damaged. Every chunk must be there at once and every record in time, and new
/// records must survive a restart.
fn assert_recovers(dir: &Path, ids: &[ChunkId], what: &str) {
    let store = open(dir);
    assert_eq!(store.list(None, usize::MAX).unwrap(), ids, "{what}");
    assert_all_good(&store, ids);
    wait_until(&format!("records after {what}"), || ids.iter().all(|id| store.record(id).unwrap().is_some()));
    let (id, _) = put(&store, &bytes(77_777, 100)).unwrap();
    store.flush().unwrap();
    drop(store);
    let store = open(dir);
    assert_eq!(store.record(&id).unwrap().unwrap().metadata, metadata(), "{what}");
    assert!(store.quarantine(&id).unwrap());
    store.flush().unwrap();
}

#[test]
fn a_lost_catalogue_is_rebuilt() {
    let (dir, ids) = filled(200);
    fs::remove_dir_all(dir.path().join("catalogue")).unwrap();
    assert_recovers(dir.path(), &ids, "losing it");
}

#[test]
fn an_unfinished_snapshot_does_not_cost_the_catalogue() {
    let (dir, ids) = filled(200);
    fs::write(dir.path().join("catalogue/snap.0000000000000000.generating"), "x").unwrap();
    let store = open(dir.path());
    // The records are those of the puts, and not rebuilt.
    assert_eq!(store.record(&ids[0]).unwrap().unwrap().metadata, metadata());
    assert!(!dir.path().join("catalogue.bad").exists());
}

/// Goal: no damage to sled's files makes a store fail, panic or hang. Method: flipped bits near the head of each kind
/// of file, and files that are cut, emptied or overwritten; the store must recover each time.
#[test]
fn a_damaged_catalogue_is_rebuilt() {
    let (dir, ids) = filled(400);
    let catalogue = dir.path().join("catalogue");
    let mut rng = fastrand::Rng::with_seed(1);
    let damage = |name: &str, how: &mut dyn FnMut(&File, u64)| {
        let mut is_damaged = false;
        for entry in fs::read_dir(&catalogue).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_str().unwrap().starts_with(name) && entry.path().is_file() {
                let file = File::options().read(true).write(true).open(entry.path()).unwrap();
                how(&file, file.metadata().unwrap().len());
                is_damaged = true;
            }
        }
        if is_damaged {
            assert_recovers(dir.path(), &ids, name);
        }
    };
    for name in ["db", "conf", "snap"] {
        for _ in 0..6 {
            damage(name, &mut |file, len| {
                // sled's log is mostly empty here: the bytes that matter are at its head.
                let at = rng.u64(0..len.min(40_000));
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).unwrap();
                file.write_all_at(&[byte[0] ^ (1 << rng.u32(0..8))], at).unwrap();
            });
        }
        damage(name, &mut |file, len| file.set_len(len / 3).unwrap());
        damage(name, &mut |file, _| file.set_len(0).unwrap());
        damage(name, &mut |file, len| file.write_all_at(&vec![0xff; usize::try_from(len).unwrap()], 0).unwrap());
    }
}

/// Twice, as only the last catalogue that was set aside is kept.
#[test]
fn a_catalogue_of_unknown_layout_is_set_aside() {
    let (dir, ids) = filled(20);
    for _ in 0..2 {
        let catalogue = dir.path().join("catalogue");
        let db = sled::Config::new().path(&catalogue).open().unwrap();
        db.insert("layout", &[9]).unwrap();
        drop(db);
        assert_recovers(dir.path(), &ids, "an unknown layout");
        assert!(dir.path().join("catalogue.bad").exists());
    }
}

/// A start reads all records in pages, perhaps before the catalogue is rebuilt.
#[test]
fn records_without_a_catalogue_come_from_the_files() {
    let (dir, ids) = filled(100);
    fs::remove_dir_all(dir.path().join("catalogue")).unwrap();
    // Files in place of the folders keep the catalogue closed.
    fs::write(dir.path().join("catalogue.bad"), "").unwrap();
    fs::write(dir.path().join("catalogue"), "").unwrap();
    let store = open(dir.path());
    let records = store.records(None, 1000).unwrap();
    assert!(records.iter().map(|(id, _)| id).eq(&ids));
    for (id, record) in records {
        let meta = fs::metadata(file_of(dir.path(), &id)).unwrap();
        let stored_at = meta.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!((record.len, record.scrubbed_at_s), (1000, 0));
        let found = record.metadata;
        assert_eq!((found.copies, found.bare, found.holders.len(), found.owner), (DEFAULT_COPIES, true, 0, None));
        assert_eq!(found.stored_at_s, stored_at);
    }
}

/// Also the default number: a guess is not the same as a number that was told.
#[test]
fn copies_that_were_told_survive_a_restart() {
    let (dir, ids) = filled(50);
    fs::remove_dir_all(dir.path().join("catalogue")).unwrap();
    let store = open(dir.path());
    let is_bare = |store: &dyn Store, id| store.record(id).unwrap().is_some_and(|record| record.metadata.bare);
    wait_until("bare records", || ids.iter().all(|id| is_bare(&store, id)));
    // A quarantined copy that returns has lost its record too.
    store.set_copies(&ids[0], 2);
    assert!(store.quarantine(&ids[0]).unwrap() && store.restore(&ids[0]).unwrap() && is_bare(&store, &ids[0]));
    for (n, id) in ids.iter().enumerate().skip(1) {
        store.set_copies(id, u8::try_from(n).unwrap());
    }
    store.flush().unwrap();
    drop(store);
    let store = open(dir.path());
    assert!(is_bare(&store, &ids[0]));
    for (n, id) in ids.iter().enumerate().skip(1) {
        let metadata = store.record(id).unwrap().unwrap().metadata;
        assert_eq!((usize::from(metadata.copies), metadata.bare), (n, false));
    }
}

#[test]
fn holders_survive_a_restart() {
    let (dir, ids) = filled(50);
    let store = open(dir.path());
    let holders = [cell(8), cell(9)];
    for id in &ids {
        store.set_holders(id, &holders);
    }
    store.flush().unwrap();
    drop(store);
    let store = open(dir.path());
    for (_, record) in store.records(None, 50).unwrap() {
        assert_eq!(record.metadata.holders, holders);
        assert_eq!(record.metadata.owner, metadata().owner);
    }
}
