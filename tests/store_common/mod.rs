//! What the tests of the file store share.
// Each test program uses a part of it. These are tests, though clippy knows so only inside of a `#[test]`.
#![allow(dead_code, clippy::disallowed_methods, clippy::exit, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::print_stderr)]

pub(crate) mod disk;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cellsync::id::CellId;
use cellsync::id::ChunkId;
use cellsync::store::{FileStore, PutMetadata, PutOutcome, Store, StoreError, StoreOptions};

/// A child that dies with its guard.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs this test program once more, as a child that opens the store in `dir` and plays `role`.
pub(crate) fn child(role: &str, dir: &Path) -> Option<Killed> {
    // A child does not have children.
    if std::env::var_os("CELLSYNC_STORE_CHILD").is_some() {
        return None;
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_process", "--nocapture", "--quiet", "--test-threads=1"])
        .env("CELLSYNC_STORE_CHILD", role)
        .env("CELLSYNC_STORE_DIR", dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    Some(Killed(child))
}

/// Puts from this many threads and says each id once it was acknowledged; says no more after a failure.
pub(crate) fn write_for_ever(store: &FileStore, threads: usize) -> ! {
    let number = AtomicU64::new(u64::from(std::process::id()) << 32);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let n = number.fetch_add(1, Ordering::Relaxed);
                    let len = 3000 + usize::try_from(n % 100).unwrap() * 300;
                    let Ok((id, _)) = put(store, &bytes(n, len)) else { break };
                    // One write for a line, so that lines of two threads do not mix.
                    std::io::stdout().lock().write_all(format!("\nstored {id}\n").as_bytes()).unwrap();
                }
            });
        }
    });
    // Without a clean stop, as after any failure of the disk.
    std::process::exit(0)
}

/// What a writing child acknowledged; a line that its death cut short is none.
pub(crate) fn stored(stdout: ChildStdout) -> impl Iterator<Item = ChunkId> {
    let lines = BufReader::new(stdout).lines().map_while(Result::ok);
    lines.filter_map(|line| line.strip_prefix("stored ")?.parse().ok())
}

pub(crate) fn cell(n: u8) -> CellId {
    CellId::from_random([n; 16])
}

pub(crate) fn metadata() -> PutMetadata {
    PutMetadata { copies: 3, holders: (0..3).map(cell).collect(), owner: Some([9; 32]), stored_at_s: 1_790_000_000 }
}

pub(crate) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

pub(crate) fn open(dir: &Path) -> FileStore {
    FileStore::open(dir, &StoreOptions { reserve_bytes: Some(0), ..StoreOptions::default() }).unwrap()
}

pub(crate) fn put(store: &FileStore, bytes: &[u8]) -> Result<(ChunkId, PutOutcome), StoreError> {
    store.put(Some(&ChunkId::of(bytes)), bytes.len() as u64, &mut &*bytes, &metadata())
}

/// Every one of these is here and has the bytes that its name says.
pub(crate) fn assert_all_good(store: &FileStore, ids: &[ChunkId]) {
    let lost: Vec<_> = ids.iter().filter(|id| !is_good(store, id)).collect();
    assert!(lost.is_empty(), "{} of {} are lost, such as {}", lost.len(), ids.len(), lost[0]);
}

fn is_good(store: &FileStore, id: &ChunkId) -> bool {
    let Some(mut chunk) = store.open(id).unwrap() else { return false };
    let mut bytes = Vec::new();
    chunk.reader.read_to_end(&mut bytes).unwrap();
    ChunkId::of(&bytes) == *id
}

/// Waits for a condition.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The folder of a new cell.
pub(crate) fn new_cell() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    FileStore::init(dir.path(), cell(1)).unwrap();
    dir
}

/// Where a chunk's bytes are.
pub(crate) fn file_of(dir: &Path, id: &ChunkId) -> PathBuf {
    dir.join("chunks").join(format!("{:02x}", id.shard())).join(id.to_string())
}

/// Entries of a folder.
pub(crate) fn count(path: &Path) -> usize {
    std::fs::read_dir(path).unwrap().count()
}

/// Waits until the store has counted what it holds.
pub(crate) fn counted(store: &FileStore) {
    until("it is counted", || store.usage().counted);
}

/// Puts some chunks and stops cleanly.
pub(crate) fn filled(chunks: u64) -> (tempfile::TempDir, Vec<ChunkId>) {
    let dir = new_cell();
    let store = open(dir.path());
    let mut ids: Vec<_> = (0..chunks).map(|n| put(&store, &bytes(n, 1000)).unwrap().0).collect();
    store.flush().unwrap();
    ids.sort();
    (dir, ids)
}
