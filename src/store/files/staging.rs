//! A chunk that is coming: its bytes go through a buffer into `tmp/` and are hashed on the way.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use crate::id::ChunkId;
use crate::store::StoreError;

/// All of a body that is in memory at a time.
const BUFFER_BYTES: usize = 64 * 1024;

/// Names in `tmp/` are unique within a process, and the folder belongs to one process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A file in `tmp/`, removed when dropped unless it was given a name.
pub(super) struct Incoming {
    path: PathBuf,
    file: File,
    len: u64,
    named: bool,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.named
            && let Err(e) = fs::remove_file(&self.path)
        {
            log::warn!("removing {}: {e}", self.path.display());
        }
    }
}

impl Incoming {
    pub(super) fn create(tmp: &Path, len: u64) -> Result<Self, StoreError> {
        let path = tmp.join(format!("{:x}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let file = File::create_new(&path).map_err(|e| disk_or_full(e, len, "making", &path))?;
        Ok(Self { path, file, len, named: false })
    }

    /// Writes the whole body and returns its id. An fdatasync is enough: it also writes the length, and no other fact
    /// about the file matters.
    pub(super) fn fill(&mut self, body: &mut dyn Read) -> Result<ChunkId, StoreError> {
        let (file, path, len) = (&mut self.file, &self.path, self.len);
        hash(body, len, |piece| file.write_all(piece).map_err(|e| disk_or_full(e, len, "writing", path)))
    }

    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(|e| disk_or_full(e, self.len, "fsync of", &self.path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file has its name now: it is no longer to be removed.
    pub(super) fn keep(&mut self) {
        self.named = true;
    }
}

/// Reads exactly `len` bytes of a body, hands each piece on, and returns the id of them all.
pub(super) fn hash(
    body: &mut dyn Read,
    len: u64,
    mut each: impl FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<ChunkId, StoreError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES.min(usize::try_from(len).unwrap_or(BUFFER_BYTES))];
    let mut body = body.take(len);
    let mut got = 0;
    while got < len {
        let count = match body.read(&mut buffer) {
            Ok(0) => return Err(StoreError::Truncated { expected: len, got }),
            Ok(count) => count,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(StoreError::Body(e)),
        };
        let piece = buffer.get(..count).ok_or_else(|| StoreError::Body(io::Error::other("read more than asked")))?;
        hasher.update(piece);
        each(piece)?;
        got += count as u64;
    }
    Ok(ChunkId::from_bytes(hasher.finalize().into()))
}

/// A full disk is no failure of the disk: there is no room.
pub(super) fn disk_or_full(e: io::Error, needed: u64, doing: &str, path: &Path) -> StoreError {
    match e.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::NoRoom { needed, free: 0 },
        _ => StoreError::disk(doing, path)(e),
    }
}
