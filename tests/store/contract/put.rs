//! `Store::put`: what is stored, what is refused, concurrent puts.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::Barrier;
use std::thread;

use cellsync::id::{ChunkId, MAX_CHUNK_BYTES};
use cellsync::store::{PutOutcome, StoreError};

use crate::contract::{assert_empty, on_each};
use crate::harness::{bytes, get, metadata, put};

/// Yields a few bytes at a time, as a slow network does, and every other read is interrupted.
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
fn a_put_chunk_is_stored_and_reads_back() {
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
fn a_put_without_an_expected_id_returns_the_id() {
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
fn a_put_reads_exactly_the_declared_length() {
    on_each(|store| {
        let two = bytes(2, 2000);
        let mut body = &*two;
        let (id, _) = store.put(None, 1000, &mut body, &metadata()).unwrap();
        assert_eq!(id, ChunkId::of(&two[..1000]));
        assert_eq!(body.len(), 1000);
        // Also when the chunk is stored already.
        let mut body = &*two;
        store.put(Some(&id), 1000, &mut body, &metadata()).unwrap();
        assert_eq!(body.len(), 1000);
    });
}

#[test]
fn a_body_may_come_in_pieces_with_interruptions() {
    on_each(|store| {
        let bytes = bytes(3, 100_000);
        let id = ChunkId::of(&bytes);
        store.put(Some(&id), 100_000, &mut Trickle(&bytes, false), &metadata()).unwrap();
        assert_eq!(get(store, &id).unwrap(), bytes);
    });
}

#[test]
fn a_body_with_another_hash_is_not_stored() {
    on_each(|store| {
        let bytes = bytes(4, 70_000);
        let announced = ChunkId::of(b"something else");
        let error = store.put(Some(&announced), 70_000, &mut &*bytes, &metadata()).unwrap_err();
        let StoreError::WrongHash { expected, found } = error else { panic!("{error}") };
        assert_eq!((expected, found), (announced, ChunkId::of(&bytes)));
        assert_empty(store);
    });
}

#[test]
fn a_body_that_ends_early_or_fails_is_not_stored() {
    on_each(|store| {
        let bytes = bytes(5, 70_000);
        let id = ChunkId::of(&bytes);
        let error = store.put(Some(&id), 70_001, &mut &*bytes, &metadata()).unwrap_err();
        let StoreError::Truncated { expected_bytes: 70_001, received_bytes: 70_000 } = error else { panic!("{error}") };
        let error = store.put(Some(&id), 70_001, &mut Broken(&bytes), &metadata()).unwrap_err();
        assert!(matches!(error, StoreError::Body(_)), "{error}");
        assert_empty(store);
    });
}

#[test]
fn a_chunk_over_the_limit_is_refused_unread() {
    on_each(|store| {
        let len = MAX_CHUNK_BYTES as u64 + 1;
        let mut unreadable = Broken(&[]);
        for len in [len, u64::MAX] {
            let error = store.put(None, len, &mut unreadable, &metadata()).unwrap_err();
            let StoreError::TooLarge { len_bytes, limit_bytes } = error else { panic!("{error}") };
            assert_eq!((len_bytes, limit_bytes), (len, MAX_CHUNK_BYTES as u64));
        }
        assert_empty(store);
    });
}

#[test]
fn a_stored_chunk_is_not_stored_twice_but_its_body_is_verified() {
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
fn a_put_over_the_quota_is_refused_unless_the_chunk_is_stored() {
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

#[test]
fn concurrent_puts_do_not_exceed_the_quota() {
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
fn concurrent_puts_of_one_chunk_store_it_once() {
    on_each(|store| {
        for round in 0..20 {
            let bytes = bytes(round, 100_000);
            let start = Barrier::new(32);
            let stored = thread::scope(|scope| {
                let put = || {
                    start.wait();
                    let (id, outcome) = put(store, &bytes).unwrap();
                    assert!(store.contains(&id).unwrap());
                    outcome
                };
                let puts: Vec<_> = (0..32).map(|_| scope.spawn(put)).collect();
                puts.into_iter().map(|put| put.join().unwrap()).filter(|put| *put == PutOutcome::Stored).count()
            });
            // All 32 together take less than half of the quota, so none is refused.
            assert_eq!(stored, 1);
            assert_eq!(store.usage().chunks, round + 1);
        }
    });
}

#[test]
fn concurrent_puts_of_different_chunks_store_all() {
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
