//! What determines a record: the first put with metadata, `Store::set_holders`, `Store::verify`.

use cellsync::id::{CellId, MAX_HOLDERS};
use cellsync::store::{CopyState, PutMetadata};

use crate::contract::{before_and_after_flush, on_each};
use crate::harness::{bytes, cell, metadata, put};

fn cells(numbers: std::ops::Range<u8>) -> Vec<CellId> {
    numbers.map(cell).collect()
}

/// Otherwise anyone who puts a chunk again could take it from its owner.
#[test]
fn a_second_put_does_not_change_the_metadata() {
    on_each(|store| {
        let bytes = bytes(7, 1000);
        let (id, _) = put(store, &bytes).unwrap();
        let other = PutMetadata { copies: 1, bare: false, holders: Vec::new(), owner: Some([1; 32]), stored_at_s: 5 };
        store.put(Some(&id), 1000, &mut &*bytes, &other).unwrap();
        before_and_after_flush(store, || {
            assert_eq!(store.record(&id).unwrap().unwrap().metadata, metadata());
        });
    });
}

#[test]
fn put_drops_holders_past_the_limit() {
    on_each(|store| {
        let bytes = bytes(8, 10);
        let holders = cells(0..100);
        let many = PutMetadata { holders: holders.clone(), ..metadata() };
        let (id, _) = store.put(None, 10, &mut &*bytes, &many).unwrap();
        before_and_after_flush(store, || {
            assert_eq!(store.record(&id).unwrap().unwrap().metadata.holders, holders[..MAX_HOLDERS]);
        });
    });
}

#[test]
fn set_holders_replaces_the_holders_and_nothing_else() {
    on_each(|store| {
        let bytes = bytes(12, 1000);
        let holders = cells(50..150);
        // With the put's record written already or not, and among other changes.
        for flushed in [false, true] {
            let (id, _) = put(store, &bytes).unwrap();
            if flushed {
                store.flush().unwrap();
            }
            store.set_holders(&id, &holders[..3]);
            assert_eq!(store.verify(&id).unwrap(), CopyState::Good);
            put(store, &bytes).unwrap();
            let expected = PutMetadata { holders: holders[..3].to_vec(), ..metadata() };
            before_and_after_flush(store, || {
                let record = store.record(&id).unwrap().unwrap();
                assert_eq!(record.metadata, expected);
                assert_ne!(record.scrubbed_at_s, 0);
                assert_eq!(store.records(None, 1).unwrap(), [(id, record)]);
            });
            store.set_holders(&id, &holders);
            before_and_after_flush(store, || {
                assert_eq!(store.record(&id).unwrap().unwrap().metadata.holders, holders[..MAX_HOLDERS]);
            });
            store.remove(&id).unwrap();
        }
    });
}

/// A chunk that was put without metadata can have holders, found by healing, before its owner puts it again.
#[test]
fn holders_set_before_the_first_metadata_do_not_block_it() {
    on_each(|store| {
        let bytes = bytes(13, 1000);
        let none = PutMetadata { copies: 5, bare: false, holders: Vec::new(), owner: None, stored_at_s: 1 };
        let holders = cells(77..78);
        for flushed in [false, true] {
            let (id, _) = store.put(None, 1000, &mut &*bytes, &none).unwrap();
            store.set_holders(&id, &holders);
            if flushed {
                store.flush().unwrap();
            }
            put(store, &bytes).unwrap();
            let other = PutMetadata { owner: Some([1; 32]), ..metadata() };
            store.put(Some(&id), 1000, &mut &*bytes, &other).unwrap();
            let expected = PutMetadata { holders: holders.clone(), ..metadata() };
            before_and_after_flush(store, || {
                assert_eq!(store.record(&id).unwrap().unwrap().metadata, expected);
            });
            store.remove(&id).unwrap();
        }
    });
}

/// What another cell tells must not change what a put has stated.
#[test]
fn copies_are_set_in_bare_records_only() {
    on_each(|store| {
        let bytes = bytes(14, 1000);
        let bare = PutMetadata { copies: 5, bare: true, holders: cells(1..3), owner: None, stored_at_s: 1 };
        for (flushed, told) in [(false, 2), (true, 2), (false, 5), (true, 5)] {
            let flush = || {
                if flushed {
                    store.flush().unwrap();
                }
            };
            let copies_of = |id| {
                let metadata = store.record(id).unwrap().unwrap().metadata;
                (metadata.copies, metadata.bare)
            };
            let (id, _) = store.put(None, 1000, &mut &*bytes, &bare).unwrap();
            flush();
            store.put(None, 1000, &mut &*bytes, &bare).unwrap();
            before_and_after_flush(store, || assert_eq!(copies_of(&id), (5, true)));
            store.set_copies(&id, told);
            flush();
            store.set_copies(&id, 9);
            before_and_after_flush(store, || assert_eq!(copies_of(&id), (told, false)));
            // The first put with metadata determines it even so.
            put(store, &bytes).unwrap();
            flush();
            store.set_copies(&id, 9);
            before_and_after_flush(store, || {
                let expected = PutMetadata { holders: cells(1..3), ..metadata() };
                assert_eq!(store.record(&id).unwrap().unwrap().metadata, expected);
            });
            store.remove(&id).unwrap();
            store.set_copies(&id, 9);
            before_and_after_flush(store, || assert_eq!(store.record(&id).unwrap(), None));
        }
    });
}

#[test]
fn a_put_without_holders_states_the_copies_of_a_bare_record() {
    on_each(|store| {
        let bytes = bytes(15, 1000);
        let bare = PutMetadata { copies: 5, bare: true, holders: Vec::new(), owner: None, stored_at_s: 1 };
        let (id, _) = store.put(None, 1000, &mut &*bytes, &bare).unwrap();
        for copies in [4, 1] {
            store.put(None, 1000, &mut &*bytes, &PutMetadata { copies, bare: false, ..bare.clone() }).unwrap();
            before_and_after_flush(store, || {
                let metadata = store.record(&id).unwrap().unwrap().metadata;
                assert_eq!((metadata.copies, metadata.bare), (4, false));
            });
        }
    });
}

#[test]
fn verify_records_the_time_of_a_good_result() {
    on_each(|store| {
        let (id, _) = put(store, &bytes(10, 100_000)).unwrap();
        let now_s = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let before_s = now_s();
        assert_eq!(store.verify(&id).unwrap(), CopyState::Good);
        let after_s = now_s();
        before_and_after_flush(store, || {
            let record = store.record(&id).unwrap().unwrap();
            assert!((before_s..=after_s).contains(&record.scrubbed_at_s), "{}", record.scrubbed_at_s);
            assert_eq!(record.metadata, metadata());
        });
        let (empty, _) = put(store, &[]).unwrap();
        assert_eq!(store.verify(&empty).unwrap(), CopyState::Good);
    });
}
