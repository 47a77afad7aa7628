//! What a look at every byte of a copy makes of damage, of a disk that cannot give the bytes, of puts meanwhile, and
//! of a process that cannot look.
// These are tests, though clippy knows so only inside of a `#[test]`; they wait with deadlines.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods)]
#![cfg(target_os = "linux")]

mod store_common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cellsync::id::ChunkId;
use cellsync::store::{CopyState, FileStore, PutOutcome, Store, StoreError};
use store_common::disk::Disk;
use store_common::{assert_all_good, bytes, cell, child, open, put, until};

fn new_cell() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    FileStore::init(dir.path(), cell(1)).unwrap();
    dir
}

fn file_of(dir: &Path, id: &ChunkId) -> PathBuf {
    dir.join("chunks").join(format!("{:02x}", id.shard())).join(id.to_string())
}

fn quarantined(dir: &Path, id: &ChunkId) -> Option<Vec<u8>> {
    fs::read(dir.join("quarantine").join(id.to_string())).ok()
}

fn usage(store: &FileStore) -> (u64, u64) {
    until("it is counted", || store.usage().counted);
    (store.usage().chunks, store.usage().bytes)
}

/// Turns a bit of a file.
fn damage(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn a_damaged_copy_is_set_aside_and_no_longer_here() {
    let dir = new_cell();
    let store = open(dir.path());
    for how in ["a bit", "cut short", "grown", "grown past all chunks"] {
        let bytes = bytes(1, 100_000);
        let (id, stored) = put(&store, &bytes).unwrap();
        assert_eq!(stored, PutOutcome::Stored, "{how}");
        let path = file_of(dir.path(), &id);
        let set_len = |len| File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
        match how {
            "a bit" => damage(&path, 99_999),
            "cut short" => set_len(99_999),
            "grown" => set_len(100_001),
            _ => set_len(3 << 20),
        }
        let bad = fs::metadata(&path).unwrap().len();
        assert_eq!(store.verify(&id).unwrap(), CopyState::Bad, "{how}");
        assert!(!store.contains(&id).unwrap(), "{how}");
        assert_eq!(store.record(&id).unwrap(), None, "{how}");
        assert_eq!(fs::metadata(dir.path().join("quarantine").join(id.to_string())).unwrap().len(), bad, "{how}");
        assert_eq!(store.verify(&id).unwrap(), CopyState::Missing, "{how}");
        fs::remove_file(dir.path().join("quarantine").join(id.to_string())).unwrap();
    }
}

#[test]
fn what_was_set_aside_is_not_counted() {
    let dir = new_cell();
    let store = open(dir.path());
    put(&store, b"another").unwrap();
    let (id, _) = put(&store, &bytes(1, 100_000)).unwrap();
    damage(&file_of(dir.path(), &id), 5);
    assert_eq!(usage(&store), (2, 100_007));
    assert_eq!(store.verify(&id).unwrap(), CopyState::Bad);
    assert_eq!(usage(&store), (1, 7));
    store.flush().unwrap();
    drop(store);
    assert_eq!(usage(&open(dir.path())), (1, 7));
}

/// Goal: no look at a copy sets aside what a put has brought meanwhile. Method: some verify, some put, at once, over
/// and over a copy that was damaged.
#[test]
fn a_good_copy_that_comes_meanwhile_is_never_set_aside() {
    let dir = new_cell();
    let store = open(dir.path());
    let bytes = bytes(1, 100_000);
    let (id, _) = put(&store, &bytes).unwrap();
    for _ in 0..30 {
        damage(&file_of(dir.path(), &id), 5000);
        std::thread::scope(|scope| {
            for n in 0..8 {
                let (store, bytes) = (&store, &bytes);
                scope.spawn(move || {
                    if n % 2 == 0 {
                        put(store, bytes).unwrap();
                        assert_all_good(store, &[id]);
                    }
                    store.verify(&id).unwrap();
                });
            }
        });
        assert_eq!(store.verify(&id).unwrap(), CopyState::Good);
        assert_eq!(usage(&store), (1, 100_000));
        let aside = quarantined(dir.path(), &id).unwrap();
        assert_ne!(ChunkId::of(&aside), id, "a good copy was set aside");
    }
}

/// A process without a descriptor to spare knows nothing about a copy.
#[test]
fn a_copy_that_cannot_be_opened_just_now_is_left_alone() {
    let dir = new_cell();
    let (id, _) = put(&open(dir.path()), &bytes(1, 100_000)).unwrap();
    let Some(mut poor) = child(&format!("poor {id}"), dir.path()) else { return };
    let mut said = BufReader::new(poor.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    let verdict = said.find(|line| line.starts_with("verify: ")).unwrap();
    assert!(verdict.contains("os error 24"), "{verdict}");
    drop(poor);
    let store = open(dir.path());
    assert_all_good(&store, &[id]);
    assert_eq!(store.verify(&id).unwrap(), CopyState::Good);
    assert_eq!(quarantined(dir.path(), &id), None);
}

/// Goal: a scrub sees the disk, and leaves the memory to others. Method: a copy is damaged below the file system, which
/// keeps its bytes in memory; only who goes to the disk can see it.
#[test]
fn a_copy_is_read_from_the_disk_and_not_kept_in_memory() {
    let Some(disk) = Disk::new(24) else { return };
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    let store = open(&dir);
    let (first, second) = (bytes(1, 100_000), bytes(2, 100_000));
    let ids = [put(&store, &first).unwrap().0, put(&store, &second).unwrap().0];
    // Both are in memory, since they were written just now.
    assert_all_good(&store, &ids);
    damage(&disk.image(), disk.find_blocks(&first[..100])[0]);
    assert_all_good(&store, &ids);
    assert_eq!(store.verify(&ids[0]).unwrap(), CopyState::Bad);
    // The other one is good when it is looked at, and not in memory any more when it is damaged.
    assert_eq!(store.verify(&ids[1]).unwrap(), CopyState::Good);
    damage(&disk.image(), disk.find_blocks(&second[..100])[0]);
    let mut read = Vec::new();
    store.open(&ids[1]).unwrap().unwrap().reader.read_to_end(&mut read).unwrap();
    assert_ne!(ChunkId::of(&read), ids[1]);
}

/// Where the file system has lost a file's blocks, reading it is an error, not other bytes.
#[test]
fn a_copy_that_the_disk_cannot_give_is_set_aside() {
    let Some(disk) = Disk::new(24) else { return };
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    let store = open(&dir);
    // Holes are made where it is zero, so that the list of its blocks does not fit into the file's own record and fills
    // a block, which is then damaged.
    let mut bytes = bytes(1, 100_000);
    bytes.chunks_mut(4096).step_by(2).for_each(|block| block.fill(0));
    let (id, _) = put(&store, &bytes).unwrap();
    let path = file_of(&dir, &id);
    let file = File::options().write(true).open(&path).unwrap();
    for at in (0..90_000).step_by(8192) {
        let punch = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, punch, at, 4096).unwrap();
    }
    drop(file);
    store.flush().unwrap();
    drop(store);
    disk.unmount();
    // The head of such a list, and not anything else that begins with its first two bytes: entries, room for more than
    // the four that an inode has, no depth.
    let image = fs::read(disk.image()).unwrap();
    let number = |at: u64, offset: usize| {
        let at = usize::try_from(at).unwrap() + offset;
        u16::from_le_bytes([image[at], image[at + 1]])
    };
    let is_list = |at: &u64| {
        let [entries, room, depth] = [2, 4, 6].map(|offset| number(*at, offset));
        entries > 4 && entries <= room && [84, 340].contains(&room) && depth == 0
    };
    let lists: Vec<u64> = disk.find_blocks(&[0x0a, 0xf3]).into_iter().filter(is_list).collect();
    assert!(!lists.is_empty());
    for at in lists {
        damage(&disk.image(), at + 20);
    }
    disk.mount_again();
    assert_eq!(fs::metadata(&path).unwrap().len(), 100_000);
    let error = fs::read(&path).unwrap_err();
    let store = open(&dir);
    assert_eq!(store.verify(&id).unwrap(), CopyState::Bad, "{error}");
    assert!(!store.contains(&id).unwrap());
    assert_eq!(put(&store, &bytes).unwrap(), (id, PutOutcome::Stored));
    assert_eq!(store.verify(&id).unwrap(), CopyState::Good);
}

/// A file of which the file system tells nothing at all can neither be set aside nor replaced. The chunk is not here,
/// and all else goes on.
#[test]
fn a_copy_that_cannot_even_be_looked_at_is_not_here() {
    let Some(disk) = Disk::new(24) else { return };
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    let store = open(&dir);
    let bytes = bytes(1, 100_000);
    let (id, _) = put(&store, &bytes).unwrap();
    let (other, _) = put(&store, b"another").unwrap();
    store.flush().unwrap();
    drop(store);
    disk.unmount();
    // The file's first blocks lie past the end of the disk.
    let set = format!("set_inode_field /cell/chunks/{:02x}/{id} block[5] 0xffffff", id.shard());
    let output = Command::new("debugfs").args(["-w", "-R", &set]).arg(disk.image()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    disk.mount_again();
    fs::metadata(file_of(&dir, &id)).unwrap_err();
    fs::remove_file(dir.join("clean")).unwrap();
    let store = open(&dir);
    assert_eq!(store.verify(&id).unwrap(), CopyState::Missing);
    assert!(!store.contains(&id).unwrap());
    assert!(!store.remove(&id).unwrap());
    let error = put(&store, &bytes).unwrap_err();
    assert!(matches!(error, StoreError::Disk { .. }), "{error}");
    assert_eq!(usage(&store), (1, 7));
    assert_eq!(store.verify(&other).unwrap(), CopyState::Good);
    until("no record is left", || store.records(None, 9).unwrap().len() == 1);
}

/// Goal: scrubbing wears no card out. Method: as for reading chunks (`store_files`).
#[test]
fn verifying_notes_no_time_of_access() {
    let dir = new_cell();
    let store = open(dir.path());
    let (id, _) = put(&store, &bytes(1, 1000)).unwrap();
    let path = file_of(dir.path(), &id);
    let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    let times = fs::FileTimes::new().set_accessed(long_ago);
    File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
    assert_eq!(store.verify(&id).unwrap(), CopyState::Good);
    assert_eq!(fs::metadata(&path).unwrap().accessed().unwrap(), long_ago);
}

/// Not a test of its own: what the children run.
#[test]
fn child_process() {
    let Ok(role) = std::env::var("CELLSYNC_STORE_CHILD") else { return };
    let store = open(&PathBuf::from(std::env::var_os("CELLSYNC_STORE_DIR").unwrap()));
    let id: ChunkId = role.strip_prefix("poor ").unwrap().parse().unwrap();
    // Without a clean stop's note there is nothing that a change would first have to open.
    until("it is counted", || store.usage().counted);
    let files = rustix::process::Resource::Nofile;
    let limit = rustix::process::Rlimit { current: Some(0), ..rustix::process::getrlimit(files) };
    rustix::process::setrlimit(files, limit).unwrap();
    let verdict = match store.verify(&id) {
        Ok(checked) => format!("{checked:?}"),
        Err(StoreError::Disk { source, .. }) => source.to_string(),
        Err(e) => format!("another error: {e}"),
    };
    writeln!(std::io::stdout(), "\nverify: {verdict}").unwrap();
}
