//! A chunk on its way in: a file in `tmp/` that is hashed while it is written, and then published under its id.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::id::ChunkId;
use crate::store::contract::StoreError;
use crate::store::files::hash::hash_body;

/// Makes the names in `tmp/` unique. One process owns the folder.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A file in `tmp/`, deleted when dropped unless it was published.
pub(super) struct StagedChunk {
    path: PathBuf,
    file: File,
    len: u64,
    is_published: bool,
}

impl Drop for StagedChunk {
    fn drop(&mut self) {
        if !self.is_published
            && let Err(e) = fs::remove_file(&self.path)
        {
            log::warn!("cannot remove {}: {e}", self.path.display());
        }
    }
}

impl StagedChunk {
    pub(super) fn create(tmp: &Path, len: u64) -> Result<Self, StoreError> {
        let path = tmp.join(format!("{:x}", NEXT.fetch_add(1, Ordering::Relaxed)));
        // A file with this name is one that an earlier process left when the disk became read-only.
        let file = File::create(&path).map_err(StoreError::disk_or_full("create", &path, len))?;
        Ok(Self { path, file, len, is_published: false })
    }

    /// Writes the whole body and returns its id.
    pub(super) fn fill(&mut self, body: &mut dyn Read) -> Result<ChunkId, StoreError> {
        let (file, path, len) = (&mut self.file, &self.path, self.len);
        hash_body(body, len, |piece| file.write_all(piece).map_err(StoreError::disk_or_full("write", path, len)))
    }

    /// Makes the bytes durable. fdatasync is enough: it includes the length, and no other metadata of the file matters.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(StoreError::disk_or_full("fsync", &self.path, self.len))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Call after the file was renamed: it must not be deleted any more.
    pub(super) fn set_published(&mut self) {
        self.is_published = true;
    }
}
