//! Quarantine, removal and the saved state.

use std::io::Read;

use cellsync::store::{CopyState, MAX_STATE_BYTES, PutMetadata, PutOutcome, StoreError};

use crate::contract::{assert_empty, before_and_after_flush, on_each};
use crate::harness::{bytes, counted, metadata, put};

#[test]
fn a_quarantined_chunk_is_not_stored_and_can_be_put_again() {
    on_each(|store| {
        let bytes = bytes(9, 70_000);
        let (id, _) = put(store, &bytes).unwrap();
        let mut open = store.open(&id).unwrap().unwrap();
        assert!(store.quarantine(&id).unwrap());
        assert!(!store.contains(&id).unwrap());
        assert_eq!(store.record(&id).unwrap(), None);
        // Its room may still be in use.
        assert_eq!(counted(store), (0, 0));
        assert!(!store.quarantine(&id).unwrap());
        // An open chunk stays readable.
        let mut read = Vec::new();
        open.reader.read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
        assert_eq!(put(store, &bytes).unwrap(), (id, PutOutcome::Stored));
        assert_eq!(store.record(&id).unwrap().unwrap().metadata, metadata());
    });
}

#[test]
fn a_removed_chunk_is_not_stored_and_can_be_put_again() {
    on_each(|store| {
        let bytes = bytes(11, 70_000);
        let (id, _) = put(store, &bytes).unwrap();
        let mut open = store.open(&id).unwrap().unwrap();
        assert!(store.remove(&id).unwrap());
        assert!(!store.contains(&id).unwrap());
        assert_eq!(store.verify(&id).unwrap(), CopyState::Missing);
        // A hint does not bring its record back.
        store.set_holders(&id, &metadata().holders);
        before_and_after_flush(store, || {
            assert_eq!(store.record(&id).unwrap(), None);
            assert_eq!(store.records(None, 10).unwrap(), []);
        });
        assert_empty(store);
        assert!(!store.remove(&id).unwrap());
        // An open chunk stays readable.
        let mut read = Vec::new();
        open.reader.read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
        // The metadata of its earlier life does not count.
        let other = PutMetadata { copies: 2, bare: false, holders: Vec::new(), owner: None, stored_at_s: 5 };
        assert_eq!(store.put(Some(&id), 70_000, &mut &*bytes, &other).unwrap(), (id, PutOutcome::Stored));
        before_and_after_flush(store, || {
            assert_eq!(store.record(&id).unwrap().unwrap().metadata, other);
        });
    });
}

#[test]
fn load_state_returns_the_last_saved_state() {
    on_each(|store| {
        assert_eq!(store.load_state().unwrap(), None);
        let largest = bytes(14, MAX_STATE_BYTES);
        for state in [b"one".as_slice(), b"", b"two\n", b"two\n", &largest] {
            store.save_state(state).unwrap();
            assert_eq!(store.load_state().unwrap().unwrap(), state);
        }
        let error = store.save_state(&bytes(14, MAX_STATE_BYTES + 1)).unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
        assert_eq!(store.load_state().unwrap().unwrap(), largest);
        assert_empty(store);
    });
}
