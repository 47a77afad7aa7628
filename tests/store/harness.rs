//! What the tests of the store share.
#![cfg_attr(not(target_os = "linux"), allow(dead_code))]

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use cellsync::id::{CellId, ChunkId};
#[cfg(target_os = "linux")]
use cellsync::store::{FileStore, StoreOptions};
use cellsync::store::{PutMetadata, PutOutcome, Store, StoreError};

pub(crate) use crate::wait::wait_until;

pub(crate) fn cell(n: u8) -> CellId {
    CellId::from_random([n; 16])
}

pub(crate) fn metadata() -> PutMetadata {
    PutMetadata {
        copies: 3,
        bare: false,
        holders: (0..3).map(cell).collect(),
        owner: Some([9; 32]),
        stored_at_s: 1_790_000_000,
    }
}

/// Random bytes, the same for the same seed and length.
pub(crate) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

pub(crate) fn put(store: &dyn Store, bytes: &[u8]) -> Result<(ChunkId, PutOutcome), StoreError> {
    store.put(Some(&ChunkId::of(bytes)), bytes.len() as u64, &mut &*bytes, &metadata())
}

/// Reads a chunk, unverified.
pub(crate) fn get(store: &dyn Store, id: &ChunkId) -> Option<Vec<u8>> {
    let mut chunk = store.open(id).unwrap()?;
    let mut bytes = Vec::new();
    chunk.reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, chunk.len);
    Some(bytes)
}

/// Asserts that every one of these chunks is stored and its bytes hash to its id.
pub(crate) fn assert_all_good(store: &dyn Store, ids: &[ChunkId]) {
    let is_good = |id: &ChunkId| get(store, id).is_some_and(|bytes| ChunkId::of(&bytes) == *id);
    let lost: Vec<_> = ids.iter().filter(|id| !is_good(id)).collect();
    assert!(lost.is_empty(), "{} of {} are lost, such as {}", lost.len(), ids.len(), lost[0]);
}

/// Waits until the store has counted its chunks, and returns their number and bytes.
pub(crate) fn counted(store: &dyn Store) -> (u64, u64) {
    wait_until("counted", || store.usage().counted);
    let usage = store.usage();
    (usage.chunks, usage.bytes)
}

/// Makes the data folder of a new cell.
#[cfg(target_os = "linux")]
pub(crate) fn new_cell() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    FileStore::init(dir.path(), cell(1)).unwrap();
    dir
}

#[cfg(target_os = "linux")]
pub(crate) fn open(dir: &Path) -> FileStore {
    FileStore::open(dir, &StoreOptions { reserve_bytes: Some(0), ..StoreOptions::default() }).unwrap()
}

/// Makes a data folder with this many chunks of 1000 bytes that was cleanly stopped. Returns their ids in order.
#[cfg(target_os = "linux")]
pub(crate) fn filled(chunks: u64) -> (tempfile::TempDir, Vec<ChunkId>) {
    let dir = new_cell();
    let store = open(dir.path());
    let mut ids: Vec<_> = (0..chunks).map(|n| put(&store, &bytes(n, 1000)).unwrap().0).collect();
    store.flush().unwrap();
    ids.sort();
    (dir, ids)
}

/// The file with a chunk's bytes.
pub(crate) fn file_of(dir: &Path, id: &ChunkId) -> PathBuf {
    dir.join("chunks").join(format!("{:02x}", id.shard())).join(id.to_string())
}

/// The file of a chunk in quarantine.
pub(crate) fn quarantined(dir: &Path, id: &ChunkId) -> PathBuf {
    dir.join("quarantine").join(id.to_string())
}

/// Number of entries in a folder.
pub(crate) fn count(path: &Path) -> usize {
    fs::read_dir(path).unwrap().count()
}

/// Flips one bit of a file, as an ageing SD card does.
#[cfg(unix)]
pub(crate) fn damage(path: &Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    file.sync_all().unwrap();
}
