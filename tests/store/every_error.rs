//! Goal: an error of the disk at any call costs nothing that the store has acknowledged, leaves nothing half-done, and
//! keeps the store from nothing once the disk works again.
//!
//! Method: a store starts on a [`CachingDisk`] and does everything that stores do. In each run one call of the file
//! system fails with EIO, ENOSPC or EROFS: once, or all calls that write fail from then on until the fault is lifted.
//! Then the store must store again, without being opened anew, and its counts must be right; and a store that opens
//! what a power cut leaves, before the fault is lifted and after, must find what was promised.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once};
use std::thread;
use std::time::Duration;

use cellsync::id::ChunkId;
use cellsync::store::{FileStore, OpenError, Store, StoreError, StoreOptions, panic_is_caught};
use fuser::Errno;

use crate::caching_disk::{CachingDisk, Call, Cut, Fault, Moment, Operation, Tree};
use crate::every_cut::{FOLDER, check};
use crate::harness::{bytes, count, get};
use crate::promises::{Promises, PromisingStore, damage_chunk};
use crate::wait::{wait_at_most, wait_until};

/// Runs at a time: most of them wait for the store to try its disk again, which it does every 5 s.
const RUNNERS: usize = 16;

/// The store tries its disk every 5 s. This allows for a slow machine.
const RECOVERY: Duration = Duration::from_secs(30);

/// Of a call that is made more often, or does not write, only the first and the last one fail.
const MAX_RARE: u32 = 12;

/// When the fault begins to count calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum During {
    /// A start after a clean stop.
    Start,
    /// The same after a kill.
    StartAfterKill,
    Work,
}

type Saved = (Tree, Promises);

fn dir_on(disk: &CachingDisk) -> PathBuf {
    disk.path().join(FOLDER)
}

fn chunk(n: u64) -> Vec<u8> {
    bytes(n, 3000)
}

fn id(n: u64) -> ChunkId {
    ChunkId::of(&chunk(n))
}

/// Another chunk in the folder of the `n`-th: its fsync makes all changes of the folder durable.
fn neighbour(n: u64) -> Vec<u8> {
    (100..10_000).map(chunk).find(|chunk| ChunkId::of(chunk).shard() == id(n).shard()).unwrap()
}

/// A cell that was cleanly stopped, with good and bad copies, one of them in quarantine, and a saved state.
fn cell_with_all(disk: &CachingDisk) -> Saved {
    let dir = dir_on(disk);
    PromisingStore::init(disk, &dir).unwrap();
    let store = PromisingStore::open(disk, &dir);
    for n in 1..=6 {
        store.put(&chunk(n)).unwrap();
    }
    store.quarantine(&id(6)).unwrap();
    store.save_state(b"old").unwrap();
    damage_chunk(disk, &dir, &id(2));
    damage_chunk(disk, &dir, &id(5));
    store.store.flush().unwrap();
    drop(store);
    disk.write_all();
    disk.save()
}

/// All that a store does, as far as the disk lets it.
fn work(store: &PromisingStore) {
    let _ = store.put(&chunk(10));
    let _ = store.put(&chunk(1));
    let _ = store.put(&chunk(2));
    let _ = store.verify_bad(&id(5));
    let _ = store.quarantine(&id(3));
    let _ = store.restore(&id(6));
    let _ = store.remove(&id(4));
    let _ = store.save_state(b"new");
    let _ = store.put(&chunk(11));
    let _ = store.store.flush();
}

fn try_open(dir: &Path) -> Result<FileStore, OpenError> {
    FileStore::open(dir, &StoreOptions { reserve_bytes: Some(0), ..StoreOptions::default() })
}

/// The result of one run.
struct Run {
    /// How often each call was made in the part of the run that can meet the fault.
    calls: BTreeMap<Call, u32>,
    has_struck: bool,
    /// What power cuts before and after that leave.
    moments: Vec<Moment>,
}

fn run(disk: &CachingDisk, saved: &Saved, during: During, fault: Option<&Fault>) -> Run {
    let dir = dir_on(disk);
    disk.restore(saved);
    if during == During::StartAfterKill {
        fs::remove_file(dir.join("clean")).unwrap();
        disk.write_all();
    }
    disk.set_fault(fault.filter(|_| during != During::Work).cloned());
    // A start that meets the error may fail. The next one may not, even if the disk still cannot be written to.
    let store = try_open(&dir).or_else(|_| try_open(&dir)).unwrap();
    let store = PromisingStore { disk, store };
    if during == During::Work {
        wait_until("the start is over", || store.store.usage().counted && store.store.flush().is_ok());
        disk.set_fault(fault.cloned());
    }
    let is_counted = || store.store.usage().counted && store.store.flush().is_ok();
    if fault.is_none() {
        wait_until("all calls of the start were made", is_counted);
    }
    let calls_of_start = disk.calls();
    work(&store);
    let at = format!("during {fault:?}");
    let mut moments = vec![disk.cut(Cut::NothingUnwritten, &at), disk.cut(Cut::NamesOnly, &at)];
    let calls = if during == During::Work { disk.calls() } else { calls_of_start };
    let has_struck = disk.has_struck();
    disk.set_fault(None);

    wait_at_most(RECOVERY, "the store stores again", || store.put(&neighbour(3)).is_ok());
    for n in [1, 2, 10, 11] {
        store.put(&chunk(n)).unwrap();
        assert_eq!(get(&store.store, &id(n)).unwrap(), chunk(n));
    }
    store.save_state(b"new").unwrap();
    wait_at_most(RECOVERY, "the store has counted", || store.store.usage().counted);
    let known: Vec<_> = disk.promise(|promises| promises.chunks.keys().copied().collect());
    let lens: Vec<_> = known.iter().filter_map(|id| get(&store.store, id)).map(|bytes| bytes.len() as u64).collect();
    if fault.is_none_or(|fault| !fault.lasts && fault.call.0 != Operation::Remove) {
        wait_until("nothing half-written is left", || count(&dir.join("tmp")) == 0);
    }
    // A trial of the disk that began during the fault can end after it.
    let expected = (lens.len() as u64, lens.iter().sum(), false);
    let found = || {
        let usage = store.store.usage();
        (usage.chunks, usage.bytes, usage.read_only)
    };
    wait_at_most(RECOVERY, &format!("{expected:?} are counted, not {:?}", found()), || found() == expected);
    let at = format!("after {fault:?}");
    moments.extend([disk.cut(Cut::NothingUnwritten, &at), disk.cut(Cut::NamesOnly, &at)]);
    Run { calls, has_struck, moments }
}

/// The faults for these calls.
fn faults(calls: BTreeMap<Call, u32>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (call, count) in calls {
        let (operation, _) = call;
        let mut add = |nth, errno, lasts| faults.push(Fault { call: call.clone(), nth, errno, lasts });
        let is_rare = operation.writes() && count <= MAX_RARE;
        let nths: BTreeSet<_> = if is_rare { (1..=count).collect() } else { [1, count].into() };
        for nth in nths {
            add(nth, Errno::EIO, false);
            if operation.writes() && operation != Operation::Remove {
                add(nth, Errno::ENOSPC, false);
                add(nth, Errno::ENOSPC, true);
            }
        }
        if operation.writes() {
            add(1, Errno::EROFS, false);
            add(1, Errno::EROFS, true);
            add(1, Errno::EIO, true);
        }
    }
    faults
}

/// Panics of the store's own threads that would end a cell.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notes such panics.
fn watch_threads() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let thread = thread::current();
            let is_of_store = ["catalogue", "sled", "log flusher"]
                .iter()
                .any(|of| thread.name().is_some_and(|name| name.starts_with(of)));
            if is_of_store && !panic_is_caught() {
                PANICS.lock().unwrap().push(format!("{:?}: {info}", thread.name()));
            }
            before(info);
        }));
    });
}

fn fail_each_call(during: During) {
    let Some(disk) = CachingDisk::mount() else { return };
    watch_threads();
    let faults = faults(run(&disk, &cell_with_all(&disk), during, None).calls);
    let (count, faults) = (faults.len(), Mutex::new(faults.into_iter()));
    let (struck, moments, failed) = (Mutex::new(0), Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..RUNNERS {
            scope.spawn(|| {
                let disk = CachingDisk::mount().unwrap();
                let saved = cell_with_all(&disk);
                loop {
                    let fault = faults.lock().unwrap().next();
                    let Some(fault) = fault else { break };
                    match catch_unwind(AssertUnwindSafe(|| run(&disk, &saved, during, Some(&fault)))) {
                        Ok(run) => {
                            *struck.lock().unwrap() += usize::from(run.has_struck);
                            moments.lock().unwrap().extend(run.moments);
                        }
                        Err(_) => failed.lock().unwrap().push(fault),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {count} faults, see above for why: {failed:#?}", failed.len());
    assert_eq!(*PANICS.lock().unwrap(), [""; 0]);
    // The threads of the store do not make the same calls in each run.
    let struck = struck.into_inner().unwrap();
    assert!(struck * 4 >= count * 3, "only {struck} of {count} faults met their call");
    let mut moments = moments.into_inner().unwrap();
    for moment in &mut moments {
        // The index, which each run writes differently, promises nothing.
        moment.image.retain(|(path, _)| !path.contains("/catalogue"));
    }
    check(moments);
}

#[test]
fn an_error_at_any_call_of_the_start_loses_nothing() {
    fail_each_call(During::Start);
}

#[test]
fn an_error_at_any_call_of_a_start_after_a_kill_loses_nothing() {
    fail_each_call(During::StartAfterKill);
}

#[test]
fn an_error_at_any_call_of_the_work_loses_nothing() {
    fail_each_call(During::Work);
}

/// A disk that fails to write and does not become read-only was noticed at a start only.
#[test]
fn a_disk_that_fails_to_write_is_read_only_until_it_writes() {
    let Some(disk) = CachingDisk::mount() else { return };
    cell_with_all(&disk);
    let store = PromisingStore::open(&disk, &dir_on(&disk));
    wait_until("the start is over", || store.store.usage().counted && store.store.flush().is_ok());
    let write = (Operation::Write, format!("{FOLDER}/tmp/*"));
    disk.set_fault(Some(Fault { call: write.clone(), nth: 1, errno: Errno::EIO, lasts: false }));
    store.put(&chunk(10)).unwrap_err();
    // One bad block does not make a disk read-only: the store tries another one.
    wait_until("tried", || disk.calls().get(&write).is_some_and(|count| *count > 1));
    store.put(&chunk(10)).unwrap();
    disk.set_fault(Some(Fault { call: write, nth: 1, errno: Errno::EIO, lasts: true }));
    store.put(&chunk(11)).unwrap_err();
    wait_at_most(RECOVERY, "noticed", || store.store.usage().read_only);
    assert_eq!(store.store.usage().free_bytes, 0);
    assert!(matches!(store.put(&chunk(1)), Err(StoreError::ReadOnly { .. })));
    assert_eq!(get(&store.store, &id(1)).unwrap(), chunk(1));
    disk.set_fault(None);
    wait_at_most(RECOVERY, "writes", || !store.store.usage().read_only);
    store.put(&chunk(11)).unwrap();
}
