//! `verify` on a disk: damage, a disk that cannot read, concurrent puts, and a process that cannot open files.

use std::fs::{self, File};
use std::process::Command;

use cellsync::id::ChunkId;
use cellsync::store::{CopyState, FileStore, PutOutcome, Store};

use crate::child::{Role, child};
use crate::disk::Disk;
use crate::harness::{
    assert_all_good, bytes, cell, count, counted, damage, file_of, get, metadata, new_cell, open, put, quarantined,
};

#[test]
fn verify_quarantines_a_damaged_copy() {
    let dir = new_cell();
    let store = open(dir.path());
    for how in ["a bit", "cut", "grown", "grown past the limit of chunks"] {
        let bytes = bytes(1, 100_000);
        let (id, outcome) = put(&store, &bytes).unwrap();
        assert_eq!(outcome, PutOutcome::Stored, "{how}");
        let path = file_of(dir.path(), &id);
        let set_len = |len| File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
        match how {
            "a bit" => damage(&path, 99_999),
            "cut" => set_len(99_999),
            "grown" => set_len(100_001),
            _ => set_len(3 << 20),
        }
        let bad_len = fs::metadata(&path).unwrap().len();
        assert_eq!(store.verify(&id).unwrap(), CopyState::Bad, "{how}");
        assert!(!store.contains(&id).unwrap(), "{how}");
        assert_eq!(store.record(&id).unwrap(), None, "{how}");
        assert_eq!(fs::metadata(quarantined(dir.path(), &id)).unwrap().len(), bad_len, "{how}");
        assert_eq!(store.verify(&id).unwrap(), CopyState::Missing, "{how}");
        fs::remove_file(quarantined(dir.path(), &id)).unwrap();
    }
}

#[test]
fn a_quarantined_copy_is_not_counted() {
    let dir = new_cell();
    let store = open(dir.path());
    put(&store, b"another").unwrap();
    let (id, _) = put(&store, &bytes(1, 100_000)).unwrap();
    damage(&file_of(dir.path(), &id), 5);
    assert_eq!(counted(&store), (2, 100_007));
    assert_eq!(store.verify(&id).unwrap(), CopyState::Bad);
    assert_eq!(counted(&store), (1, 7));
    store.flush().unwrap();
    drop(store);
    assert_eq!(counted(&open(dir.path())), (1, 7));
}

/// Goal: a power cut between the two steps of a quarantine leaves no bad copy that a put takes for a good one. Method: all
/// names of the chunk in quarantine are in use, and the last is a second name of its file.
#[test]
fn a_bad_copy_with_a_second_name_in_quarantine_loses_its_first() {
    let dir = new_cell();
    let store = open(dir.path());
    let bytes = bytes(1, 100_000);
    let (id, _) = put(&store, &bytes).unwrap();
    let file = file_of(dir.path(), &id);
    damage(&file, 5);
    let name = |n: u32| dir.path().join("quarantine").join(format!("{id}.{n}"));
    for path in [quarantined(dir.path(), &id), name(1), name(2)] {
        fs::write(path, "bad").unwrap();
    }
    fs::hard_link(&file, name(3)).unwrap();
    assert_eq!(store.verify(&id).unwrap(), CopyState::Bad);
    assert!(!file.exists() && name(3).exists());
    assert_eq!(put(&store, &bytes).unwrap().1, PutOutcome::Stored);
    assert_eq!(get(&store, &id).unwrap(), bytes);
}

/// Method: some threads verify and some put, at once, over a damaged copy, again and again.
#[test]
fn verify_never_quarantines_a_copy_that_a_put_just_stored() {
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
        assert_eq!(counted(&store), (1, 100_000));
        assert_ne!(ChunkId::of(&fs::read(quarantined(dir.path(), &id)).unwrap()), id);
    }
}

/// Method: a child without a file descriptor to spare verifies a good copy.
#[test]
fn a_copy_that_cannot_be_opened_is_left_alone() {
    let dir = new_cell();
    let (id, _) = put(&open(dir.path()), &bytes(1, 100_000)).unwrap();
    let mut poor = child(&Role::VerifyWithoutDescriptors(id), dir.path());
    let result = poor.lines("verified ").next().unwrap();
    // EMFILE
    assert!(result.contains("os error 24"), "{result}");
    drop(poor);
    let store = open(dir.path());
    assert_all_good(&store, &[id]);
    assert_eq!(store.verify(&id).unwrap(), CopyState::Good);
    assert!(!quarantined(dir.path(), &id).exists());
}

/// Method: copies are damaged below the file system, which still has their good bytes in the page cache. Only a read
/// from the disk can notice.
#[test]
fn verify_reads_the_disk_and_leaves_nothing_in_the_page_cache() {
    let Some(disk) = Disk::new(24) else { return };
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    let store = open(&dir);
    let (first, second) = (bytes(1, 100_000), bytes(2, 100_000));
    let ids = [put(&store, &first).unwrap().0, put(&store, &second).unwrap().0];
    // Both were just written, so they are in the page cache.
    assert_all_good(&store, &ids);
    damage(&disk.image(), disk.find_blocks(&first[..100])[0]);
    assert_all_good(&store, &ids);
    assert_eq!(store.verify(&ids[0]).unwrap(), CopyState::Bad);
    // The other is verified while good, and no longer in the page cache when it is damaged.
    assert_eq!(store.verify(&ids[1]).unwrap(), CopyState::Good);
    damage(&disk.image(), disk.find_blocks(&second[..100])[0]);
    assert_ne!(ChunkId::of(&get(&store, &ids[1]).unwrap()), ids[1]);
}

/// Method: the list of a file's blocks is damaged, so that reading the file is an error and not other bytes. A put of
/// the chunk replaces the file.
#[test]
fn an_unreadable_copy_stays_until_a_put_replaces_it() {
    let Some(disk) = Disk::new(24) else { return };
    let dir = disk.path().join("cell");
    FileStore::init(&dir, cell(1)).unwrap();
    let store = open(&dir);
    // Holes where the bytes are zero make the list too long for the inode: it gets a block of its own, which can then
    // be damaged.
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
    // The head of an extent block: magic 0xf30a, more entries than the four that fit into an inode, depth 0, and a
    // first entry that does not begin at the file's block 0, which is a hole. The magic alone also occurs elsewhere,
    // and the folder of the shards can have an extent block too.
    let image = fs::read(disk.image()).unwrap();
    let number = |at: u64, offset: usize| {
        let at = usize::try_from(at).unwrap() + offset;
        u16::from_le_bytes([image[at], image[at + 1]])
    };
    let is_extent_block = |at: &u64| {
        let [entries, max_entries, depth, first_block] = [2, 4, 6, 12].map(|offset| number(*at, offset));
        entries > 4 && entries <= max_entries && [84, 340].contains(&max_entries) && depth == 0 && first_block != 0
    };
    let blocks: Vec<u64> = disk.find_blocks(&[0x0a, 0xf3]).into_iter().filter(is_extent_block).collect();
    assert!(!blocks.is_empty());
    for at in blocks {
        damage(&disk.image(), at + 20);
    }
    disk.mount_again();
    assert_eq!(fs::metadata(&path).unwrap().len(), 100_000);
    let error = fs::read(&path).unwrap_err();
    let store = open(&dir);
    assert_eq!(store.verify(&id).unwrap(), CopyState::Unreadable, "{error}");
    store.put(Some(&id), 100_000, &mut &bytes[..99], &metadata()).unwrap_err();
    assert!(path.exists() && store.contains(&id).unwrap());
    assert_eq!(put(&store, &bytes).unwrap(), (id, PutOutcome::Stored));
    assert_eq!(store.verify(&id).unwrap(), CopyState::Good);
    assert_eq!(counted(&store), (1, 100_000));
    assert_eq!(count(&dir.join("quarantine")), 0);
}

/// A file whose inode is damaged can be neither moved nor replaced. It must not be taken for one that is gone: other
/// cells could delete theirs, and its record would be lost.
#[test]
fn a_copy_with_a_damaged_inode_is_not_reported_gone() {
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
    // The file's first blocks are past the end of the disk.
    let set = format!("set_inode_field /cell/chunks/{:02x}/{id} block[5] 0xffffff", id.shard());
    let output = Command::new("debugfs").args(["-w", "-R", &set]).arg(disk.image()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    disk.mount_again();
    fs::metadata(file_of(&dir, &id)).unwrap_err();
    fs::remove_file(dir.join("clean")).unwrap();
    let store = open(&dir);
    assert_eq!(store.verify(&id).unwrap(), CopyState::Unreadable);
    assert_eq!(store.verify_finally(&id).unwrap(), CopyState::Unreadable);
    for error in [store.contains(&id).unwrap_err(), store.remove(&id).unwrap_err(), put(&store, &bytes).unwrap_err()] {
        assert!(error.is_unreadable(), "{error}");
    }
    assert_eq!(counted(&store), (1, 7));
    assert_eq!(store.verify(&other).unwrap(), CopyState::Good);
    store.flush().unwrap();
    assert_eq!(store.records(None, 9).unwrap().len(), 2);
}
