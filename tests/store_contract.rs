//! The promises of `Store`, on every implementation. Each test names one promise of the trait's text.
// These are tests, though clippy knows so only inside of a `#[test]`; they wait with deadlines.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use cellsync::id::CellId;
use cellsync::id::{ChunkId, MAX_CHUNK_BYTES};
use cellsync::store::{
    CopyState, MAX_HOLDERS, MAX_STATE_BYTES, MemoryStore, PutMetadata, PutOutcome, Store, StoreError,
};
#[cfg(target_os = "linux")]
use cellsync::store::{FileStore, StoreOptions};

const QUOTA: u64 = 8 << 20;

/// Runs a test on each kind of store, empty and with a quota of 8 MiB.
fn on_each(test: impl Fn(&dyn Store)) {
    test(&MemoryStore::new(QUOTA));
    #[cfg(target_os = "linux")]
    {
        let dir = tempfile::tempdir().unwrap();
        FileStore::init(dir.path(), CellId::from_random([1; 16])).unwrap();
        let options = StoreOptions { reserve_bytes: Some(0), quota_bytes: Some(QUOTA), ..StoreOptions::default() };
        test(&FileStore::open(dir.path(), &options).unwrap());
    }
}

fn metadata() -> PutMetadata {
    let holders = (0..5).map(|n| CellId::from_random([n; 16])).collect();
    PutMetadata { copies: 5, holders, owner: Some([9; 32]), stored_at_s: 1_790_000_000 }
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

fn put(store: &dyn Store, bytes: &[u8]) -> Result<(ChunkId, PutOutcome), StoreError> {
    store.put(Some(&ChunkId::of(bytes)), bytes.len() as u64, &mut &*bytes, &metadata())
}

fn get(store: &dyn Store, id: &ChunkId) -> Option<Vec<u8>> {
    let mut chunk = store.open(id).unwrap()?;
    let mut bytes = Vec::new();
    chunk.reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, chunk.len);
    Some(bytes)
}

/// Nothing is here, nothing is counted.
fn assert_empty(store: &dyn Store) {
    assert_eq!(store.list(None, 10).unwrap(), []);
    let usage = store.usage();
    assert_eq!((usage.chunks, usage.bytes), (0, 0));
    assert_eq!(usage.free_bytes, QUOTA);
}

/// Hands out a few bytes at a time, as a slow network does, and is interrupted now and then.
struct Trickle<'a>(&'a [u8], bool);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let count = buffer.len().min(1000);
        self.0.read(&mut buffer[..count])
    }
}

/// Fails after its bytes.
struct Broken<'a>(&'a [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            count => Ok(count),
        }
    }
}

#[test]
fn what_was_put_is_found_and_reads_back() {
    on_each(|store| {
        for len in [0, 1, 65_535, 65_536, 65_537, 1 << 20, MAX_CHUNK_BYTES] {
            let bytes = bytes(len as u64, len);
            let id = ChunkId::of(&bytes);
            assert!(!store.contains(&id).unwrap());
            assert_eq!(put(store, &bytes).unwrap(), (id, PutOutcome::Stored));
            assert!(store.contains(&id).unwrap());
            assert_eq!(get(store, &id).unwrap(), bytes);
            let record = store.record(&id).unwrap().unwrap();
            assert_eq!((record.len, record.metadata, record.scrubbed_at_s), (len as u64, metadata(), 0));
        }
    });
}

#[test]
fn without_a_name_the_store_names_the_chunk() {
    on_each(|store| {
        let bytes = bytes(1, 70_000);
        let id = ChunkId::of(&bytes);
        for expected in [PutOutcome::Stored, PutOutcome::AlreadyPresent] {
            assert_eq!(store.put(None, 70_000, &mut &*bytes, &metadata()).unwrap(), (id, expected));
        }
        assert_eq!(store.usage().chunks, 1);
    });
}

#[test]
fn no_more_than_the_declared_length_is_read() {
    on_each(|store| {
        let two = bytes(2, 2000);
        let mut body = &*two;
        let (id, _) = store.put(None, 1000, &mut body, &metadata()).unwrap();
        assert_eq!(id, ChunkId::of(&two[..1000]));
        assert_eq!(body.len(), 1000);
        // Nor when the chunk is here already.
        let mut body = &*two;
        store.put(Some(&id), 1000, &mut body, &metadata()).unwrap();
        assert_eq!(body.len(), 1000);
    });
}

#[test]
fn a_body_may_come_in_pieces() {
    on_each(|store| {
        let bytes = bytes(3, 100_000);
        let id = ChunkId::of(&bytes);
        store.put(Some(&id), 100_000, &mut Trickle(&bytes, false), &metadata()).unwrap();
        assert_eq!(get(store, &id).unwrap(), bytes);
    });
}

#[test]
fn bytes_that_are_not_what_they_were_said_to_be_are_not_kept() {
    on_each(|store| {
        let bytes = bytes(4, 70_000);
        let expected = ChunkId::of(b"something else");
        let error = store.put(Some(&expected), 70_000, &mut &*bytes, &metadata()).unwrap_err();
        let right = matches!(error, StoreError::WrongHash { expected: e, found } if e == expected && found == ChunkId::of(&bytes));
        assert!(right, "{error}");
        assert_empty(store);
    });
}

#[test]
fn a_body_that_ends_early_or_breaks_is_not_kept() {
    on_each(|store| {
        let bytes = bytes(5, 70_000);
        let id = ChunkId::of(&bytes);
        let error = store.put(Some(&id), 70_001, &mut &*bytes, &metadata()).unwrap_err();
        assert!(matches!(error, StoreError::Truncated { expected_bytes: 70_001, received_bytes: 70_000 }), "{error}");
        let error = store.put(Some(&id), 70_001, &mut Broken(&bytes), &metadata()).unwrap_err();
        assert!(matches!(error, StoreError::Body(_)), "{error}");
        assert_empty(store);
    });
}

#[test]
fn a_chunk_over_the_limit_is_refused_unread() {
    on_each(|store| {
        let len = MAX_CHUNK_BYTES as u64 + 1;
        let mut body = io::repeat(0);
        let error = store.put(None, len, &mut body, &metadata()).unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { len_bytes, .. } if len_bytes == len), "{error}");
        let error = store.put(None, u64::MAX, &mut Broken(&[]), &metadata()).unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
        assert_empty(store);
    });
}

#[test]
fn a_chunk_that_is_here_is_checked_but_not_kept_twice() {
    on_each(|store| {
        let bytes = bytes(6, 70_000);
        let (id, _) = put(store, &bytes).unwrap();
        assert_eq!(put(store, &bytes).unwrap(), (id, PutOutcome::AlreadyPresent));
        let mut wrong = bytes.clone();
        wrong[69_999] ^= 1;
        let error = store.put(Some(&id), 70_000, &mut &*wrong, &metadata()).unwrap_err();
        assert!(matches!(error, StoreError::WrongHash { .. }), "{error}");
        let error = store.put(Some(&id), 70_000, &mut &bytes[1..], &metadata()).unwrap_err();
        assert!(matches!(error, StoreError::Truncated { .. }), "{error}");
        assert_eq!((store.usage().chunks, store.usage().bytes), (1, 70_000));
        assert_eq!(get(store, &id).unwrap(), bytes);
    });
}

#[test]
fn the_first_word_about_a_chunk_holds() {
    on_each(|store| {
        let bytes = bytes(7, 1000);
        let (id, _) = put(store, &bytes).unwrap();
        // Or else whoever puts a chunk again could take it from its owner.
        let other = PutMetadata { copies: 1, holders: Vec::new(), owner: Some([1; 32]), stored_at_s: 5 };
        store.put(Some(&id), 1000, &mut &*bytes, &other).unwrap();
        store.flush().unwrap();
        assert_eq!(store.record(&id).unwrap().unwrap().metadata, metadata());
    });
}

#[test]
fn more_holders_than_are_kept_do_no_harm() {
    on_each(|store| {
        let bytes = bytes(8, 10);
        let holders: Vec<_> = (0..100).map(|n| CellId::from_random([n; 16])).collect();
        let crowd = PutMetadata { holders: holders.clone(), ..metadata() };
        let (id, _) = store.put(None, 10, &mut &*bytes, &crowd).unwrap();
        for _ in 0..2 {
            assert_eq!(store.record(&id).unwrap().unwrap().metadata.holders, holders[..MAX_HOLDERS]);
            store.flush().unwrap();
        }
    });
}

#[test]
fn what_is_not_here_is_said_not_to_be() {
    on_each(|store| {
        let id = ChunkId::of(b"never put");
        assert!(store.open(&id).unwrap().is_none());
        assert!(!store.contains(&id).unwrap());
        assert_eq!(store.record(&id).unwrap(), None);
        assert!(!store.quarantine(&id).unwrap());
        assert!(!store.remove(&id).unwrap());
        assert_eq!(store.verify(&id).unwrap(), CopyState::Missing);
        store.set_holders(&id, &metadata().holders);
        for _ in 0..2 {
            assert_eq!(store.record(&id).unwrap(), None);
            assert_eq!(store.records(None, 10).unwrap(), []);
            store.flush().unwrap();
        }
        assert_empty(store);
    });
}

#[test]
fn a_list_is_in_order_and_goes_on_after_any_id() {
    on_each(|store| {
        let ids: BTreeSet<_> = (0..600).map(|n| put(store, &bytes(n, 16)).unwrap().0).collect();
        let ids: Vec<_> = ids.into_iter().collect();
        assert_eq!(store.list(None, usize::MAX).unwrap(), ids);
        assert_eq!(store.list(None, 0).unwrap(), []);
        for page in [1, 7, 599, 600] {
            let mut listed = Vec::new();
            loop {
                let next = store.list(listed.last(), page).unwrap();
                assert!(next.len() <= page);
                if next.is_empty() {
                    break;
                }
                listed.extend(next);
            }
            assert_eq!(listed, ids, "in pages of {page}");
        }
        // An id that is not here is as good a place to go on from.
        let between = ChunkId::from_bytes([0x80; 32]);
        let after: Vec<_> = ids.iter().filter(|id| **id > between).copied().collect();
        assert_eq!(store.list(Some(&between), 600).unwrap(), after);
        assert_eq!(store.list(Some(&ChunkId::from_bytes([0xff; 32])), 600).unwrap(), []);
    });
}

#[test]
fn records_come_in_the_same_order_in_pages() {
    on_each(|store| {
        let ids: BTreeSet<_> = (0..600).map(|n| put(store, &bytes(n, 16)).unwrap().0).collect();
        for page in [1, 7, 600, usize::MAX] {
            let mut listed: Vec<(ChunkId, _)> = Vec::new();
            loop {
                let next = store.records(listed.last().map(|(id, _)| id), page).unwrap();
                assert!(next.len() <= page);
                if next.is_empty() {
                    break;
                }
                listed.extend(next);
            }
            assert!(listed.iter().map(|(id, _)| id).eq(&ids), "in pages of {page}");
            for (id, record) in listed {
                assert_eq!(Some(&record), store.record(&id).unwrap().as_ref());
                assert_eq!((record.len, record.metadata), (16, metadata()));
            }
        }
        assert_eq!(store.records(None, 0).unwrap(), []);
    });
}

#[test]
fn the_quota_is_kept_and_what_is_here_needs_no_room() {
    on_each(|store| {
        let mib = 1 << 20;
        for n in 0..7 {
            put(store, &bytes(n, mib)).unwrap();
        }
        assert_eq!(store.usage().free_bytes, 1 << 20);
        put(store, &bytes(7, mib)).unwrap();
        let error = put(store, &bytes(8, 1)).unwrap_err();
        assert!(matches!(error, StoreError::NoRoom { needed_bytes: 1, free_bytes: 0 }), "{error}");
        assert_eq!(put(store, &bytes(0, mib)).unwrap().1, PutOutcome::AlreadyPresent);
        assert_eq!(store.usage().chunks, 8);
        assert_eq!(get(store, &ChunkId::of(&bytes(3, mib))).unwrap(), bytes(3, mib));
    });
}

/// Many threads at the last free bytes: what is on its way counts.
#[test]
fn puts_at_once_do_not_pass_the_quota() {
    on_each(|store| {
        let start = Barrier::new(32);
        let stored = thread::scope(|scope| {
            let put = |n| {
                start.wait();
                put(store, &bytes(n, 1 << 20)).is_ok()
            };
            let puts: Vec<_> = (0..32).map(|n| scope.spawn(move || put(n))).collect();
            puts.into_iter().map(|put| u64::from(put.join().unwrap())).sum::<u64>()
        });
        assert_eq!(store.usage().chunks, stored);
        assert!((1..=8).contains(&stored), "{stored}");
    });
}

#[test]
fn the_same_chunk_put_by_many_at_once_is_kept_once() {
    on_each(|store| {
        for round in 0..20 {
            let bytes = bytes(round, 100_000);
            let start = Barrier::new(32);
            let stored = thread::scope(|scope| {
                let put = || {
                    start.wait();
                    let (id, put) = put(store, &bytes).unwrap();
                    assert!(store.contains(&id).unwrap());
                    put
                };
                let puts: Vec<_> = (0..32).map(|_| scope.spawn(put)).collect();
                puts.into_iter().map(|put| put.join().unwrap()).filter(|put| *put == PutOutcome::Stored).count()
            });
            // 32 at once are a third of the quota: some may find no room for a chunk that is not here yet, none does.
            assert_eq!(stored, 1);
            assert_eq!(store.usage().chunks, round + 1);
        }
    });
}

#[test]
fn different_chunks_put_by_many_at_once_are_all_kept() {
    on_each(|store| {
        let ids: BTreeSet<_> = thread::scope(|scope| {
            let put = |thread: u64| (0..20).map(|n| put(store, &bytes(thread * 100 + n, 5000)).unwrap().0).collect();
            let puts: Vec<_> = (0..32).map(|n| scope.spawn(move || -> Vec<ChunkId> { put(n) })).collect();
            puts.into_iter().flat_map(|put| put.join().unwrap()).collect()
        });
        assert_eq!(store.list(None, usize::MAX).unwrap(), ids.iter().copied().collect::<Vec<_>>());
        let usage = store.usage();
        assert_eq!((usage.chunks, usage.bytes), (640, 640 * 5000));
    });
}

#[test]
fn a_bad_copy_set_aside_is_gone_and_may_come_again() {
    on_each(|store| {
        let bytes = bytes(9, 70_000);
        let (id, _) = put(store, &bytes).unwrap();
        let mut open = store.open(&id).unwrap().unwrap();
        assert!(store.quarantine(&id).unwrap());
        assert!(!store.contains(&id).unwrap());
        assert_eq!(store.record(&id).unwrap(), None);
        assert_empty(store);
        assert!(!store.quarantine(&id).unwrap());
        // An open chunk stays readable while others come and go.
        let mut read = Vec::new();
        open.reader.read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
        assert_eq!(put(store, &bytes).unwrap(), (id, PutOutcome::Stored));
        assert_eq!(store.record(&id).unwrap().unwrap().metadata, metadata());
    });
}

#[test]
fn a_good_copy_is_found_good_and_when_is_noted() {
    on_each(|store| {
        let (id, _) = put(store, &bytes(10, 100_000)).unwrap();
        let now_s = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let before_s = now_s();
        assert_eq!(store.verify(&id).unwrap(), CopyState::Good);
        let after_s = now_s();
        for _ in 0..2 {
            let record = store.record(&id).unwrap().unwrap();
            assert!((before_s..=after_s).contains(&record.scrubbed_at_s), "{}", record.scrubbed_at_s);
            assert_eq!(record.metadata, metadata());
            store.flush().unwrap();
        }
        let (empty, _) = put(store, &[]).unwrap();
        assert_eq!(store.verify(&empty).unwrap(), CopyState::Good);
    });
}

#[test]
fn a_removed_copy_is_gone_and_may_come_again() {
    on_each(|store| {
        let bytes = bytes(11, 70_000);
        let (id, _) = put(store, &bytes).unwrap();
        let mut open = store.open(&id).unwrap().unwrap();
        assert!(store.remove(&id).unwrap());
        assert!(!store.contains(&id).unwrap());
        assert_eq!(store.verify(&id).unwrap(), CopyState::Missing);
        // Nothing that is said of it now brings its record back.
        store.set_holders(&id, &metadata().holders);
        for _ in 0..2 {
            assert_eq!(store.record(&id).unwrap(), None);
            assert_eq!(store.records(None, 10).unwrap(), []);
            store.flush().unwrap();
        }
        assert_empty(store);
        assert!(!store.remove(&id).unwrap());
        // An open chunk stays readable while others come and go.
        let mut read = Vec::new();
        open.reader.read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
        let other = PutMetadata { copies: 2, holders: Vec::new(), owner: None, stored_at_s: 5 };
        assert_eq!(store.put(Some(&id), 70_000, &mut &*bytes, &other).unwrap(), (id, PutOutcome::Stored));
        for _ in 0..2 {
            assert_eq!(store.record(&id).unwrap().unwrap().metadata, other);
            store.flush().unwrap();
        }
    });
}

#[test]
fn noted_holders_take_the_place_of_those_before_and_nothing_else() {
    on_each(|store| {
        let bytes = bytes(12, 1000);
        let holders: Vec<_> = (50..150).map(|n| CellId::from_random([n; 16])).collect();
        // With and without the put's own record written down, and with other changes that wait.
        for flushed in [false, true] {
            let (id, _) = put(store, &bytes).unwrap();
            if flushed {
                store.flush().unwrap();
            }
            store.set_holders(&id, &holders[..3]);
            assert_eq!(store.verify(&id).unwrap(), CopyState::Good);
            put(store, &bytes).unwrap();
            let expected = PutMetadata { holders: holders[..3].to_vec(), ..metadata() };
            for _ in 0..2 {
                let record = store.record(&id).unwrap().unwrap();
                assert_eq!(record.metadata, expected);
                assert_ne!(record.scrubbed_at_s, 0);
                assert_eq!(store.records(None, 1).unwrap(), [(id, record)]);
                store.flush().unwrap();
            }
            store.set_holders(&id, &holders);
            for _ in 0..2 {
                assert_eq!(store.record(&id).unwrap().unwrap().metadata.holders, holders[..MAX_HOLDERS]);
                store.flush().unwrap();
            }
            store.remove(&id).unwrap();
        }
    });
}

/// Of a chunk that came without a word, healing knows the holders before its owner puts it again.
#[test]
fn what_the_cell_found_out_does_not_keep_a_put_from_telling_the_rest() {
    on_each(|store| {
        let bytes = bytes(13, 1000);
        let silent = PutMetadata { copies: 5, holders: Vec::new(), owner: None, stored_at_s: 1 };
        let holders = [CellId::from_random([77; 16])];
        for flushed in [false, true] {
            let (id, _) = store.put(None, 1000, &mut &*bytes, &silent).unwrap();
            store.set_holders(&id, &holders);
            if flushed {
                store.flush().unwrap();
            }
            put(store, &bytes).unwrap();
            let other = PutMetadata { owner: Some([1; 32]), ..metadata() };
            store.put(Some(&id), 1000, &mut &*bytes, &other).unwrap();
            for _ in 0..2 {
                let expected = PutMetadata { holders: holders.to_vec(), ..metadata() };
                assert_eq!(store.record(&id).unwrap().unwrap().metadata, expected);
                store.flush().unwrap();
            }
            store.remove(&id).unwrap();
        }
    });
}

#[test]
fn the_last_facts_are_kept() {
    on_each(|store| {
        assert_eq!(store.load_state().unwrap(), None);
        let largest = bytes(14, MAX_STATE_BYTES);
        for facts in [b"one".as_slice(), b"", b"two\n", b"two\n", &largest] {
            store.save_state(facts).unwrap();
            assert_eq!(store.load_state().unwrap().unwrap(), facts);
        }
        let error = store.save_state(&bytes(14, MAX_STATE_BYTES + 1)).unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
        assert_eq!(store.load_state().unwrap().unwrap(), largest);
        assert_empty(store);
    });
}

#[test]
fn usage_tells_what_is_here() {
    on_each(|store| {
        put(store, &bytes(1, 1000)).unwrap();
        put(store, &bytes(2, 2000)).unwrap();
        let usage = store.usage();
        assert_eq!((usage.chunks, usage.bytes, usage.free_bytes), (2, 3000, QUOTA - 3000));
        let deadline = Instant::now() + Duration::from_secs(20);
        while !store.usage().counted {
            assert!(Instant::now() < deadline, "it is never counted");
            thread::yield_now();
        }
        store.flush().unwrap();
        assert_eq!(store.usage().chunks, 2);
    });
}
