//! Goal: whatever the store has acknowledged survives a power cut at each step of each operation.
//!
//! Method: the store works on a file system that keeps only what was fsynced ([`CachingDisk`]). After each step a copy
//! is made of what a power cut would leave: of all that was not fsynced nothing, the names, the bytes, everything, or a
//! random part. A store opens each copy, and what it finds there must agree with what had been promised at that step.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use cellsync::id::ChunkId;
use cellsync::store::{PutOutcome, Store};

use crate::caching_disk::{CachingDisk, Cut, Image, Moment, write_image};
use crate::harness::{bytes, cell, counted, file_of, get};
use crate::promises::{Found, PromisingStore, damage_chunk, is_quarantined};

/// How many folders are opened at a time: sled waits a while when it closes.
const CHECKERS: usize = 6;

/// The folder of the cell on the disk.
pub(crate) const FOLDER: &str = "srv/cell";

fn dir_on(disk: &CachingDisk) -> PathBuf {
    disk.path().join(FOLDER)
}

/// Fails if what the power cuts left breaks a promise. Returns how many different folders there were.
pub(crate) fn check(moments: Vec<Moment>) -> usize {
    let mut images: HashMap<Image, Vec<Moment>> = HashMap::new();
    for mut moment in moments {
        let image = std::mem::take(&mut moment.image);
        let moments = images.entry(image).or_default();
        if moments.iter().all(|other| other.promises != moment.promises) {
            moments.push(moment);
        }
    }
    let count = images.len();
    let (images, failures) = (Mutex::new(images.into_iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..CHECKERS {
            scope.spawn(|| {
                loop {
                    let next = images.lock().unwrap().next();
                    let Some((image, moments)) = next else { break };
                    let found = start_from(&image);
                    for Moment { at, cut, promises, .. } in &moments {
                        let kept = found.as_ref().map_err(Clone::clone).and_then(|found| found.keep(promises, *cut));
                        if let Err(why) = kept {
                            failures.lock().unwrap().push(format!("{at}, {cut:?}: {why}"));
                        }
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    let broken = failures.len();
    failures.truncate(10);
    assert!(failures.is_empty(), "{broken} of {count} power cuts break a promise:\n{}", failures.join("\n"));
    count
}

fn start_from(image: &Image) -> Result<Found, String> {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let folder = folder.unwrap();
    write_image(image, folder.path());
    Found::by_start(&folder.path().join(FOLDER))
}

/// Makes a cell that was cleanly stopped with these chunks, all durable.
fn new_cell(disk: &CachingDisk, chunks: &[Vec<u8>]) {
    let dir = dir_on(disk);
    PromisingStore::init(disk, &dir).unwrap();
    let store = PromisingStore::open(disk, &dir);
    for chunk in chunks {
        store.put(chunk).unwrap();
    }
    store.store.flush().unwrap();
    drop(store);
    disk.write_all();
}

/// Chunks of several lengths.
fn chunk(n: u64) -> Vec<u8> {
    bytes(n, 1000 + usize::try_from(n % 3).unwrap() * 70_000)
}

fn id(n: u64) -> ChunkId {
    ChunkId::of(&chunk(n))
}

#[test]
fn a_first_start_survives_a_power_cut_at_each_step() {
    let Some(disk) = CachingDisk::mount() else { return };
    disk.record();
    let dir = dir_on(&disk);
    PromisingStore::init(&disk, &dir).unwrap();
    let store = PromisingStore::open(&disk, &dir);
    store.put(&chunk(1)).unwrap();
    store.save_state(b"first").unwrap();
    store.store.flush().unwrap();
    drop(store);
    check(disk.moments());
}

/// New chunks, one that is stored, one with a bad copy, and several at once in one folder.
#[test]
fn puts_survive_a_power_cut_at_each_step() {
    let Some(disk) = CachingDisk::mount() else { return };
    let dir = dir_on(&disk);
    new_cell(&disk, &[chunk(1), chunk(2)]);
    damage_chunk(&disk, &dir, &id(2));
    disk.record();
    let store = PromisingStore::open(&disk, &dir);
    assert_eq!(store.put(&chunk(3)).unwrap(), PutOutcome::Stored);
    assert_eq!(store.put(&chunk(1)).unwrap(), PutOutcome::AlreadyPresent);
    assert_eq!(store.put(&chunk(2)).unwrap(), PutOutcome::Stored);
    let shard = id(4).shard();
    let same_folder: Vec<_> = (4..).filter(|n| id(*n).shard() == shard).take(2).collect();
    std::thread::scope(|scope| {
        for n in &same_folder {
            scope.spawn(|| store.put(&chunk(*n)).unwrap());
            scope.spawn(|| store.put(&chunk(*n)).unwrap());
        }
    });
    drop(store);
    check(disk.moments());
}

/// Removals, and what moves into quarantine, returns from it, and makes way when room is short.
#[test]
fn quarantine_and_removal_survive_a_power_cut_at_each_step() {
    for has_links in [true, false] {
        let Some(disk) = CachingDisk::mount() else { return };
        if !has_links {
            disk.forbid_links();
        }
        quarantine_and_remove(&disk);
    }
}

fn quarantine_and_remove(disk: &CachingDisk) {
    let dir = dir_on(disk);
    new_cell(disk, &[chunk(1), chunk(2), chunk(3), chunk(4)]);
    damage_chunk(disk, &dir, &id(2));
    disk.record();
    let store = PromisingStore::open(disk, &dir);
    counted(&store.store);
    assert!(store.quarantine(&id(1)).unwrap());
    store.verify_bad(&id(2)).unwrap();
    assert!(store.restore(&id(1)).unwrap());
    assert!(is_quarantined(&dir, &id(1)) && is_quarantined(&dir, &id(2)));
    assert!(store.remove(&id(3)).unwrap());
    // Only the file of the chunk that is stored again makes way.
    disk.set_free_bytes(Some(64 << 10));
    store.put(&bytes(7, 100_000)).unwrap_err();
    assert!(!is_quarantined(&dir, &id(1)) && is_quarantined(&dir, &id(2)));
    disk.set_free_bytes(None);
    store.put(&chunk(2)).unwrap();
    assert!(store.quarantine(&id(4)).unwrap());
    drop(store);
    check(disk.moments());
}

#[test]
fn a_saved_state_survives_a_power_cut_at_each_step() {
    let Some(disk) = CachingDisk::mount() else { return };
    let dir = dir_on(&disk);
    new_cell(&disk, &[]);
    disk.record();
    let store = PromisingStore::open(&disk, &dir);
    for state in [&b"one"[..], b"two, which is longer", b"two, which is longer", b"3"] {
        store.save_state(state).unwrap();
    }
    store.set_cell_id(cell(2)).unwrap();
    store.save_state(b"").unwrap();
    drop(store);
    check(disk.moments());
}

#[test]
fn starts_and_stops_survive_a_power_cut_at_each_step() {
    let Some(disk) = CachingDisk::mount() else { return };
    let dir = dir_on(&disk);
    new_cell(&disk, &[chunk(1)]);
    disk.record();
    for round in 2..5 {
        let store = PromisingStore::open(&disk, &dir);
        store.put(&chunk(round)).unwrap();
        store.remove(&id(round - 1)).unwrap();
        if round != 3 {
            store.store.flush().unwrap();
        }
    }
    check(disk.moments());
}

/// A chunk that a killed process left is acknowledged as already stored only if its name is durable. Method: the
/// process dies at each step of a put; the next one puts the chunk again, and then the power is cut.
#[test]
fn a_put_after_a_kill_survives_a_power_cut() {
    let Some(disk) = CachingDisk::mount() else { return };
    let dir = dir_on(&disk);
    new_cell(&disk, &[chunk(1)]);
    let before = disk.save();
    let mut moments = Vec::new();
    for step in 0.. {
        disk.restore(&before);
        let store = PromisingStore::open(&disk, &dir);
        counted(&store.store);
        disk.stop_after(step);
        let is_done = store.put(&chunk(3)).is_ok();
        drop(store);
        disk.go_on();
        let store = PromisingStore::open(&disk, &dir);
        let outcome = store.put(&chunk(3)).unwrap();
        assert!(!is_done || outcome == PutOutcome::AlreadyPresent);
        for cut in [Cut::NothingUnwritten, Cut::NamesOnly] {
            moments.push(disk.cut(cut, &format!("killed after step {step}")));
        }
        drop(store);
        if is_done {
            assert!(step > 4, "{step}");
            break;
        }
    }
    check(moments);
}

/// A put replaces the copy that the disk cannot read, and keeps it until then.
#[test]
fn replacing_an_unreadable_copy_survives_a_power_cut_at_each_step() {
    let Some(disk) = CachingDisk::mount() else { return };
    let dir = dir_on(&disk);
    new_cell(&disk, &[chunk(1)]);
    let store = PromisingStore::open(&disk, &dir);
    counted(&store.store);
    disk.set_unreadable(&file_of(Path::new(FOLDER), &id(1)));
    disk.record();
    assert_eq!(store.put(&chunk(1)).unwrap(), PutOutcome::Stored);
    assert_eq!(get(&store.store, &id(1)).unwrap(), chunk(1));
    drop(store);
    check(disk.moments());
}
