//! What a store on a disk promises beyond the trait: its folder, what it makes of damage, of a full or crowded disk
//! and of being killed.
// These are tests, though clippy knows so only inside of a `#[test]`; they wait with deadlines.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods)]
#![cfg(target_os = "linux")]

mod store_common;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use cellsync::id::ChunkId;
use cellsync::store::{DEFAULT_COPIES, FileStore, OpenError, PutOutcome, Store, StoreError, StoreOptions};
use store_common::{
    assert_all_good, bytes, cell, child, count, counted, file_of, filled, new_cell, open, put, stored, until,
    write_for_ever,
};

fn open_error(dir: &Path) -> OpenError {
    FileStore::open(dir, &StoreOptions::default()).map(drop).unwrap_err()
}

#[test]
fn a_file_is_exactly_the_chunk_under_its_hash() {
    let dir = new_cell();
    let store = open(dir.path());
    for len in [0, 1, 100_000] {
        let bytes = bytes(len as u64, len);
        let (id, _) = put(&store, &bytes).unwrap();
        assert_eq!(fs::read(file_of(dir.path(), &id)).unwrap(), bytes);
        assert_eq!(ChunkId::of(&bytes), id);
    }
    assert_eq!(count(&dir.path().join("tmp")), 0);
}

#[test]
fn a_folder_without_a_marker_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let error = open_error(dir.path());
    assert!(matches!(error, OpenError::NoMarker { .. }), "{error}");
    assert!(error.to_string().contains("--init"), "{error}");
    assert_eq!(count(dir.path()), 0);
    let missing = dir.path().join("missing");
    assert!(matches!(open_error(&missing), OpenError::NoMarker { .. }));
    assert!(!missing.exists());
}

#[test]
fn a_marker_that_cannot_be_used_is_refused() {
    for bad in ["", "{}", "not a marker", r#"{"version":2,"node_id":"00000000-0000-4000-8000-000000000000"}"#] {
        let dir = new_cell();
        fs::write(dir.path().join("cellsync.cell"), bad).unwrap();
        let error = open_error(dir.path());
        assert!(
            matches!(error, OpenError::MarkerDamaged { .. } | OpenError::MarkerVersion { version: 2, .. }),
            "{bad}: {error}"
        );
        assert!(
            matches!(
                FileStore::init(dir.path(), cell(2)),
                Err(OpenError::MarkerDamaged { .. } | OpenError::MarkerVersion { version: 2, .. })
            ),
            "{bad}"
        );
        assert_eq!(fs::read(dir.path().join("cellsync.cell")).unwrap(), bad.as_bytes());
    }
}

#[test]
fn only_an_empty_folder_becomes_a_cell() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("photo.jpg"), "").unwrap();
    let error = FileStore::init(dir.path(), cell(1)).unwrap_err();
    assert!(matches!(error, OpenError::NotEmpty { .. }), "{error}");
    assert_eq!(count(dir.path()), 1);
    // The folder of a cell that lost its marker holds chunks that a new cell must not take over silently.
    let (dir, _) = filled(1);
    fs::remove_file(dir.path().join("cellsync.cell")).unwrap();
    assert!(matches!(FileStore::init(dir.path(), cell(2)), Err(OpenError::NotEmpty { .. })));
}

#[test]
fn a_new_disk_and_an_init_cut_short_become_a_cell() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["lost+found", "chunks", "chunks/00", "tmp"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("cellsync.cell.new"), "{").unwrap();
    assert_eq!(FileStore::init(dir.path(), cell(1)).unwrap(), cell(1));
    assert_eq!(open(dir.path()).cell_id(), cell(1));
}

#[test]
fn a_cell_keeps_its_name_until_it_is_given_another() {
    let (dir, ids) = filled(3);
    assert_eq!(FileStore::init(dir.path(), cell(2)).unwrap(), cell(1));
    let store = open(dir.path());
    assert_eq!(store.cell_id(), cell(1));
    store.set_cell_id(cell(3)).unwrap();
    assert_eq!(store.cell_id(), cell(3));
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.cell_id(), cell(3));
    assert_eq!(store.list(None, 9).unwrap(), ids);
}

#[test]
fn a_folder_serves_one_store_at_a_time() {
    let dir = new_cell();
    let store = open(dir.path());
    let error = open_error(dir.path());
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    // One that is just ending is waited for.
    std::thread::scope(|scope| {
        let next = scope.spawn(|| open(dir.path()));
        drop(store);
        drop(next.join().unwrap());
    });
}

#[test]
fn what_was_half_written_is_gone_after_a_start() {
    let dir = new_cell();
    fs::write(dir.path().join("tmp/0"), "half").unwrap();
    fs::create_dir(dir.path().join("tmp/folder")).unwrap();
    let store = open(dir.path());
    assert_eq!(count(&dir.path().join("tmp")), 0);
    let bytes = bytes(1, 70_000);
    store.put(None, 80_000, &mut &*bytes, &store_common::metadata()).unwrap_err();
    store.put(Some(&ChunkId::of(b"other")), 70_000, &mut &*bytes, &store_common::metadata()).unwrap_err();
    assert_eq!(count(&dir.path().join("tmp")), 0);
}

#[test]
fn files_that_are_no_chunks_are_left_alone_and_unseen() {
    let (dir, ids) = filled(20);
    let shard = dir.path().join("chunks/ab");
    let elsewhere = ChunkId::from_bytes([0xcd; 32]).to_string();
    for name in ["notes.txt", "AB".repeat(32).as_str(), &elsewhere] {
        fs::write(shard.join(name), "x").unwrap();
    }
    fs::create_dir(shard.join("ab".repeat(32))).unwrap();
    let before = count(&shard);
    fs::remove_file(dir.path().join("clean")).unwrap();
    let store = open(dir.path());
    counted(&store);
    assert_eq!(store.list(None, 100).unwrap(), ids);
    assert_eq!(store.usage().chunks, 20);
    assert!(!store.contains(&"ab".repeat(32).parse().unwrap()).unwrap());
    assert_eq!(count(&shard), before);
}

#[test]
fn records_and_counts_outlive_a_restart() {
    let (dir, ids) = filled(300);
    let store = open(dir.path());
    let usage = store.usage();
    assert_eq!((usage.chunks, usage.bytes, usage.counted), (300, 300_000, true));
    for id in &ids {
        assert_eq!(store.record(id).unwrap().unwrap().metadata, store_common::metadata());
    }
}

/// A file put there or taken away while the cell was off, as from a backup.
#[test]
fn files_that_come_and_go_while_the_cell_is_off_are_found_out() {
    let (dir, ids) = filled(50);
    let extra = bytes(1000, 500);
    let id = ChunkId::of(&extra);
    fs::write(file_of(dir.path(), &id), &extra).unwrap();
    fs::remove_file(file_of(dir.path(), &ids[0])).unwrap();
    let store = open(dir.path());
    assert!(store.contains(&id).unwrap());
    assert_eq!(store.record(&ids[0]).unwrap(), None);
    until("the record of the found file", || store.record(&id).unwrap().is_some());
    let record = store.record(&id).unwrap().unwrap();
    assert_eq!((record.len, record.metadata.copies, record.metadata.holders.len()), (500, DEFAULT_COPIES, 0));
    until("the count", || store.usage().bytes == 49 * 1000 + 500);
    assert_eq!(store.usage().chunks, 50);
    // What is then told about it counts.
    put(&store, &extra).unwrap();
    store.flush().unwrap();
    assert_eq!(store.record(&id).unwrap().unwrap().metadata, store_common::metadata());
}

#[test]
fn a_copy_of_the_wrong_length_is_replaced_by_the_good_bytes() {
    let dir = new_cell();
    let store = open(dir.path());
    let bytes = bytes(1, 5000);
    let (id, _) = put(&store, &bytes).unwrap();
    File::options().write(true).open(file_of(dir.path(), &id)).unwrap().set_len(4000).unwrap();
    assert_eq!(put(&store, &bytes).unwrap(), (id, PutOutcome::Stored));
    assert_eq!(fs::read(file_of(dir.path(), &id)).unwrap(), bytes);
    drop(store);
    let store = open(dir.path());
    counted(&store);
    assert_eq!((store.usage().chunks, store.usage().bytes), (1, 5000));
}

/// Turns one bit of a chunk's file, as an ageing SD card does.
fn damage(dir: &Path, id: &ChunkId) {
    let file = File::options().read(true).write(true).open(file_of(dir, id)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 5000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 5000).unwrap();
}

/// A put of a chunk that was here in a damaged copy was acknowledged, and the damaged copy was all there was.
#[test]
fn a_damaged_copy_of_the_right_length_is_set_aside_and_the_good_bytes_are_stored() {
    let dir = new_cell();
    let store = open(dir.path());
    counted(&store);
    let bytes = bytes(1, 100_000);
    let (id, _) = put(&store, &bytes).unwrap();
    let usage = store.usage();
    for (expected, quarantined) in [(Some(&id), 1), (None, 1)] {
        damage(dir.path(), &id);
        let again = store.put(expected, bytes.len() as u64, &mut &bytes[..], &store_common::metadata()).unwrap();
        assert_eq!(again, (id, PutOutcome::Stored), "{expected:?}");
        assert_eq!(fs::read(file_of(dir.path(), &id)).unwrap(), bytes);
        assert_eq!(count(&dir.path().join("quarantine")), quarantined);
        assert_eq!((store.usage().chunks, store.usage().bytes), (usage.chunks, usage.bytes));
        assert_eq!(put(&store, &bytes).unwrap().1, PutOutcome::AlreadyPresent, "now it is good");
    }
    assert_eq!(count(&dir.path().join("tmp")), 0);
}

#[test]
fn a_body_that_is_wrong_itself_does_not_bring_a_damaged_copy_back() {
    let dir = new_cell();
    let store = open(dir.path());
    counted(&store);
    let bytes = bytes(1, 100_000);
    let (id, _) = put(&store, &bytes).unwrap();
    damage(dir.path(), &id);
    let error = store.put(Some(&id), 100_000, &mut std::io::repeat(0), &store_common::metadata()).unwrap_err();
    assert!(matches!(error, StoreError::WrongHash { .. }), "{error}");
    assert!(!store.contains(&id).unwrap());
    assert_eq!((store.usage().chunks, store.usage().bytes), (0, 0));
    assert_eq!(count(&dir.path().join("quarantine")), 1);
}

/// Of many that find the damage together, none may set aside what another has just stored.
#[test]
fn a_damaged_copy_is_set_aside_once_however_many_put_the_chunk() {
    let dir = new_cell();
    let store = open(dir.path());
    counted(&store);
    let bytes = bytes(1, 100_000);
    let (id, _) = put(&store, &bytes).unwrap();
    for _ in 0..20 {
        damage(dir.path(), &id);
        fs::remove_dir_all(dir.path().join("quarantine")).unwrap();
        fs::create_dir(dir.path().join("quarantine")).unwrap();
        std::thread::scope(|scope| {
            for n in 0..8 {
                let (store, bytes) = (&store, &bytes);
                let expected = (n % 2 == 0).then_some(&id);
                scope.spawn(move || {
                    store.put(expected, bytes.len() as u64, &mut &bytes[..], &store_common::metadata()).unwrap();
                    assert_all_good(store, &[id]);
                });
            }
        });
        assert_eq!((store.usage().chunks, store.usage().bytes), (1, 100_000));
        let aside = fs::read(dir.path().join("quarantine").join(id.to_string())).unwrap();
        assert_ne!(ChunkId::of(&aside), id, "a good copy was set aside");
    }
}

#[test]
fn a_chunk_cut_short_under_the_reader_is_an_error_not_an_end() {
    let dir = new_cell();
    let store = open(dir.path());
    let (id, _) = put(&store, &bytes(1, 5000)).unwrap();
    let mut open = store.open(&id).unwrap().unwrap();
    File::options().write(true).open(file_of(dir.path(), &id)).unwrap().set_len(100).unwrap();
    let error = open.reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}

/// Opens a store whose catalogue was treated badly: every chunk must be there, and in time every record.
fn assert_recovers(dir: &Path, ids: &[ChunkId], what: &str) {
    let store = open(dir);
    assert_eq!(store.list(None, usize::MAX).unwrap(), ids, "{what}");
    assert_all_good(&store, ids);
    until(&format!("records after {what}"), || ids.iter().all(|id| store.record(id).unwrap().is_some()));
    let (id, _) = put(&store, &bytes(77_777, 100)).unwrap();
    store.flush().unwrap();
    drop(store);
    let store = open(dir);
    assert_eq!(store.record(&id).unwrap().unwrap().metadata, store_common::metadata(), "{what}");
    assert!(store.quarantine(&id).unwrap());
    store.flush().unwrap();
}

#[test]
fn a_lost_catalogue_is_made_anew() {
    let (dir, ids) = filled(200);
    fs::remove_dir_all(dir.path().join("catalogue")).unwrap();
    assert_recovers(dir.path(), &ids, "losing it");
}

#[test]
fn a_snapshot_cut_short_does_not_block_the_catalogue() {
    let (dir, ids) = filled(200);
    fs::write(dir.path().join("catalogue/snap.0000000000000000.generating"), "x").unwrap();
    let store = open(dir.path());
    // The records are still those that were put, not found again.
    assert_eq!(store.record(&ids[0]).unwrap().unwrap().metadata, store_common::metadata());
    assert!(!dir.path().join("catalogue.bad").exists());
}

#[test]
fn a_damaged_catalogue_is_made_anew() {
    let (dir, ids) = filled(400);
    let catalogue = dir.path().join("catalogue");
    let mut rng = fastrand::Rng::with_seed(1);
    let damage = |name: &str, how: &mut dyn FnMut(&File, u64)| {
        let mut some = false;
        for entry in fs::read_dir(&catalogue).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_str().unwrap().starts_with(name) && entry.path().is_file() {
                let file = File::options().read(true).write(true).open(entry.path()).unwrap();
                how(&file, file.metadata().unwrap().len());
                some = true;
            }
        }
        if some {
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

/// A catalogue that belongs to no layout we know is set aside, and only the newest of those is kept.
#[test]
fn a_foreign_catalogue_is_set_aside() {
    let (dir, ids) = filled(20);
    for _ in 0..2 {
        let catalogue = dir.path().join("catalogue");
        let db = sled::Config::new().path(&catalogue).open().unwrap();
        db.insert("layout", &[9]).unwrap();
        drop(db);
        assert_recovers(dir.path(), &ids, "a foreign layout");
        assert!(dir.path().join("catalogue.bad").exists());
    }
}

#[test]
fn the_reserve_is_kept() {
    let dir = new_cell();
    let disk = rustix::fs::statvfs(dir.path()).unwrap();
    let free = disk.f_bavail * disk.f_frsize;
    let options = StoreOptions { reserve_bytes: Some(free - (5 << 20)), ..StoreOptions::default() };
    let store = FileStore::open(dir.path(), &options).unwrap();
    // The ballast counts among what is used.
    assert!(store.usage().free_bytes < 5 << 20);
    drop(store);
    let options = StoreOptions { reserve_bytes: Some(u64::MAX / 4), ..StoreOptions::default() };
    let store = FileStore::open(dir.path(), &options).unwrap();
    let error = put(&store, b"x").unwrap_err();
    assert!(matches!(error, StoreError::NoRoom { needed_bytes: 1, free_bytes: 0 }), "{error}");
    assert_eq!(count(&dir.path().join("tmp")), 0);
}

#[test]
fn without_a_count_a_quota_cannot_be_kept() {
    let (dir, _) = filled(1);
    fs::remove_file(dir.path().join("clean")).unwrap();
    // A folder that cannot be read keeps the count from ending.
    fs::remove_dir(dir.path().join("chunks/00")).unwrap();
    let options = StoreOptions { reserve_bytes: Some(0), quota_bytes: Some(1 << 20), ..StoreOptions::default() };
    fs::write(dir.path().join("chunks/00"), "").unwrap();
    let error = FileStore::open(dir.path(), &options).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Disk { .. }), "{error}");
    fs::remove_file(dir.path().join("chunks/00")).unwrap();
    let store = FileStore::open(dir.path(), &options).unwrap();
    if !store.usage().counted {
        assert!(matches!(put(&store, b"x"), Err(StoreError::Counting) | Ok(_)));
    }
    counted(&store);
    put(&store, b"x").unwrap();
    assert_eq!((store.usage().chunks, store.usage().bytes), (2, 1001));
}

#[test]
fn a_count_noted_at_a_clean_stop_does_not_outlive_a_change() {
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

#[test]
fn the_quarantine_has_its_limit_and_the_oldest_go_first() {
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
        assert_eq!(quarantine.join(id.to_string()).exists(), n >= 4, "{n}");
    }
    assert_eq!(store.usage().chunks, 0);
}

#[test]
fn a_removed_copy_is_neither_here_nor_in_quarantine_nor_counted() {
    let (dir, ids) = filled(5);
    let store = open(dir.path());
    assert!(store.remove(&ids[0]).unwrap());
    assert!(!dir.path().join("clean").exists());
    assert!(!file_of(dir.path(), &ids[0]).exists());
    assert_eq!(count(&dir.path().join("quarantine")), 0);
    assert_eq!((store.usage().chunks, store.usage().bytes), (4, 4000));
    store.flush().unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!((store.usage().chunks, store.usage().bytes), (4, 4000));
    assert_eq!(store.list(None, 9).unwrap(), ids[1..]);
}

/// A start goes through all records in pages, perhaps before the catalogue is whole.
#[test]
fn records_of_a_store_without_a_catalogue_tell_what_the_files_tell() {
    let (dir, ids) = filled(100);
    fs::remove_dir_all(dir.path().join("catalogue")).unwrap();
    // Something in the place of the catalogue, so that it stays shut.
    fs::write(dir.path().join("catalogue.bad"), "").unwrap();
    fs::write(dir.path().join("catalogue"), "").unwrap();
    let store = open(dir.path());
    let records = store.records(None, 1000).unwrap();
    assert!(records.iter().map(|(id, _)| id).eq(&ids));
    for (id, record) in records {
        let meta = fs::metadata(file_of(dir.path(), &id)).unwrap();
        let stored_at = meta.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!((record.len, record.scrubbed_at_s), (1000, 0));
        assert_eq!(
            (record.metadata.copies, record.metadata.holders.len(), record.metadata.owner),
            (DEFAULT_COPIES, 0, None)
        );
        assert_eq!(record.metadata.stored_at_s, stored_at);
    }
}

#[test]
fn noted_holders_outlive_a_restart() {
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
        assert_eq!(record.metadata.owner, store_common::metadata().owner);
    }
}

#[test]
fn facts_outlive_a_restart_and_the_catalogue() {
    let (dir, _) = filled(1);
    open(dir.path()).save_state(b"strikes").unwrap();
    fs::remove_dir_all(dir.path().join("catalogue")).unwrap();
    fs::write(dir.path().join("tmp/facts"), "half").unwrap();
    let store = open(dir.path());
    assert_eq!(store.load_state().unwrap().unwrap(), b"strikes");
    assert_eq!(count(&dir.path().join("tmp")), 0);
}

#[test]
fn damaged_facts_are_forgotten_and_may_be_kept_anew() {
    let dir = new_cell();
    let store = open(dir.path());
    let path = dir.path().join("facts");
    store.save_state(b"three strikes").unwrap();
    let good = fs::read(&path).unwrap();
    let mut bad =
        vec![Vec::new(), b"\n".to_vec(), good[..good.len() - 1].to_vec(), [&good[..], &[b'x'; 70_000]].concat()];
    for at in [0, 64, good.len() - 1] {
        let mut one = good.clone();
        one[at] ^= 1;
        bad.push(one);
    }
    for (n, bad) in bad.into_iter().enumerate() {
        fs::write(&path, bad).unwrap();
        assert_eq!(store.load_state().unwrap(), None, "{n}");
        fs::write(&path, &good).unwrap();
        assert_eq!(store.load_state().unwrap().unwrap(), b"three strikes", "{n}");
    }
    fs::write(&path, "damaged").unwrap();
    store.save_state(b"four strikes").unwrap();
    assert_eq!(store.load_state().unwrap().unwrap(), b"four strikes");
}

/// Kills a store that puts as fast as it can; whatever it acknowledged must be here.
#[test]
fn a_killed_store_keeps_what_it_acknowledged() {
    let dir = new_cell();
    let mut acknowledged = Vec::new();
    for round in 1..=6 {
        let Some(mut writer) = child("write", dir.path()) else { return };
        let mut said = stored(writer.0.stdout.take().unwrap());
        acknowledged.extend(said.by_ref().take(round * 37));
        writer.0.kill().unwrap();
        acknowledged.extend(said);
        writer.0.wait().unwrap();
        let store = open(dir.path());
        assert_all_good(&store, &acknowledged);
        assert_eq!(count(&dir.path().join("tmp")), 0);
        counted(&store);
        let all = store.list(None, usize::MAX).unwrap();
        assert_eq!(store.usage().chunks, all.len() as u64);
        assert_all_good(&store, &all);
    }
}

/// Not a test of its own: what the children run.
#[test]
fn child_process() {
    let Ok(_) = std::env::var("CELLSYNC_STORE_CHILD") else { return };
    let dir = PathBuf::from(std::env::var_os("CELLSYNC_STORE_DIR").unwrap());
    let store = open(&dir);
    write_for_ever(&store, 8);
}

#[test]
fn the_name_of_a_cell_is_in_the_marker() {
    let dir = new_cell();
    let text = fs::read_to_string(dir.path().join("cellsync.cell")).unwrap();
    assert_eq!(text, format!("{{\"version\":1,\"node_id\":\"{}\"}}\n", cell(1)));
}
