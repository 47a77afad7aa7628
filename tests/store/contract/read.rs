//! Looking chunks up and listing them.

use std::collections::BTreeSet;

use cellsync::id::ChunkId;
use cellsync::store::CopyState;

use crate::contract::{QUOTA_BYTES, assert_empty, before_and_after_flush, on_each};
use crate::harness::{bytes, counted, metadata, put};

#[test]
fn a_chunk_that_was_never_put_is_not_found() {
    on_each(|store| {
        let id = ChunkId::of(b"never put");
        assert!(store.open(&id).unwrap().is_none());
        assert!(!store.contains(&id).unwrap());
        assert_eq!(store.record(&id).unwrap(), None);
        assert!(!store.quarantine(&id).unwrap());
        assert!(!store.remove(&id).unwrap());
        assert_eq!(store.verify(&id).unwrap(), CopyState::Missing);
        assert_eq!(store.verify_finally(&id).unwrap(), CopyState::Missing);
        store.set_holders(&id, &metadata().holders);
        before_and_after_flush(store, || {
            assert_eq!(store.record(&id).unwrap(), None);
            assert_eq!(store.records(None, 10).unwrap(), []);
        });
        assert_empty(store);
    });
}

#[test]
fn list_pages_are_in_order_and_continue_after_any_id() {
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
        // Also after an id that is not stored.
        let between = ChunkId::from_bytes([0x80; 32]);
        let after: Vec<_> = ids.iter().filter(|id| **id > between).copied().collect();
        assert_eq!(store.list(Some(&between), 600).unwrap(), after);
        assert_eq!(store.list(Some(&ChunkId::from_bytes([0xff; 32])), 600).unwrap(), []);
    });
}

#[test]
fn record_pages_are_in_order_and_agree_with_single_records() {
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
fn usage_counts_chunks_and_bytes() {
    on_each(|store| {
        put(store, &bytes(1, 1000)).unwrap();
        put(store, &bytes(2, 2000)).unwrap();
        let usage = store.usage();
        assert_eq!((usage.chunks, usage.bytes, usage.free_bytes), (2, 3000, QUOTA_BYTES - 3000));
        assert_eq!(counted(store), (2, 3000));
        store.flush().unwrap();
        assert_eq!(counted(store), (2, 3000));
    });
}
