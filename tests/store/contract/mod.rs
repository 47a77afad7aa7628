//! The promises of the `Store` trait, checked on every implementation. Each test checks one promise of the trait's
//! docs.

mod put;
mod read;
mod records;
mod upkeep;

#[cfg(target_os = "linux")]
use cellsync::store::{FileStore, StoreOptions};
use cellsync::store::{MemoryStore, Store};

/// The quota of the stores under test: 8 MiB.
const QUOTA_BYTES: u64 = 8 << 20;

/// Runs a test on an empty store of each kind.
fn on_each(test: impl Fn(&dyn Store)) {
    test(&MemoryStore::new(QUOTA_BYTES));
    #[cfg(target_os = "linux")]
    {
        let dir = crate::harness::new_cell();
        let options =
            StoreOptions { reserve_bytes: Some(0), quota_bytes: Some(QUOTA_BYTES), ..StoreOptions::default() };
        test(&FileStore::open(dir.path(), &options).unwrap());
    }
}

/// Asserts that nothing is stored or counted.
fn assert_empty(store: &dyn Store) {
    assert_eq!(store.list(None, 10).unwrap(), []);
    let usage = store.usage();
    assert_eq!((usage.chunks, usage.bytes, usage.free_bytes), (0, 0, QUOTA_BYTES));
}

/// Runs a check on records that may only be queued, and again on the written ones.
fn before_and_after_flush(store: &dyn Store, check: impl Fn()) {
    check();
    store.flush().unwrap();
    check();
}
