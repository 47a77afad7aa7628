//! Verifying a copy byte by byte, and moving a bad one into quarantine.
//!
//! A copy is bad if its bytes do not hash to its id, or if the disk cannot read them. A failure of this process (no
//! descriptor, no memory) proves nothing about the copy, which then stays as it is.

// A shell: it reads the wall clock for the time of a verification.
#![allow(clippy::disallowed_methods)]

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Advice, fadvise};

use crate::id::{ChunkId, MAX_CHUNK_BYTES};
use crate::store::contract::{CopyState, StoreError};
use crate::store::files::change::Change;
use crate::store::files::fs::{file_len, is_damage, open_without_atime, sync_folder};
use crate::store::files::hash::hash_body;
use crate::store::files::inner::Inner;
use crate::store::files::quarantine;
use crate::unix_time;

/// How often a copy is inspected again because another was put in its place meanwhile.
const MAX_TRIES: u32 = 8;

/// Where the bytes are read from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// From the page cache, if they are there.
    CacheOrDisk,
    /// From the disk, and dropped from the page cache: a scrub examines the disk, and must not displace what others use
    /// in a small board's memory.
    Disk,
}

enum Inspection {
    Good,
    /// Bad, with what identifies this file. While the file is open its inode number is not reused; if it could not be
    /// opened, the time of its last change distinguishes it from a later file too.
    Bad(Box<Metadata>, Option<File>),
    Missing,
}

impl Inner {
    /// Verifies a copy on the disk, and records the time if it is good.
    pub(super) fn verify(&self, id: &ChunkId) -> Result<CopyState, StoreError> {
        let state = self.check(id, Source::Disk)?;
        if state == CopyState::Good {
            let now_s = unix_time::now_s();
            self.queue.push(id, Change::scrubbed(now_s));
        }
        Ok(state)
    }

    /// Whether a good copy of this length is stored. Verifies every byte; a bad copy goes into quarantine.
    pub(super) fn has_good_copy(&self, id: &ChunkId, len: u64) -> Result<bool, StoreError> {
        let path = self.folder.chunk(id);
        if file_len(&path).map_err(StoreError::disk("find", &path))? != Some(len) {
            return Ok(false);
        }
        Ok(self.check(id, Source::CacheOrDisk)? == CopyState::Good)
    }

    fn check(&self, id: &ChunkId, from: Source) -> Result<CopyState, StoreError> {
        for _ in 0..MAX_TRIES {
            let (inspected, _open) = match self.inspect(id, from)? {
                Inspection::Good => return Ok(CopyState::Good),
                Inspection::Missing => return Ok(CopyState::Missing),
                Inspection::Bad(meta, open) => (meta, open),
            };
            // A put can have replaced the copy with a good one since.
            let is_same = |now: &Metadata| {
                (now.dev(), now.ino(), now.ctime(), now.ctime_nsec())
                    == (inspected.dev(), inspected.ino(), inspected.ctime(), inspected.ctime_nsec())
            };
            if self.quarantine_if(id, is_same)? {
                log::warn!("moved the bad copy of chunk {} into quarantine", id.short());
                return Ok(CopyState::Bad);
            }
        }
        let path = self.folder.chunk(id);
        Err(StoreError::disk("verify", &path)(io::Error::other("the file was replaced again and again")))
    }

    fn inspect(&self, id: &ChunkId, from: Source) -> Result<Inspection, StoreError> {
        let path = self.folder.chunk(id);
        if file_len(&path).map_err(StoreError::disk("find", &path))?.is_none() {
            return Ok(Inspection::Missing);
        }
        let mut file = match open_without_atime(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Inspection::Missing),
            Err(e) if is_damage(&e) => {
                let meta = fs::symlink_metadata(&path).map_err(StoreError::disk("read the metadata of", &path))?;
                return Ok(Inspection::Bad(Box::new(meta), None));
            }
            Err(e) => return Err(StoreError::disk("open", &path)(e)),
        };
        let meta = file.metadata().map_err(StoreError::disk("read the metadata of", &path))?;
        let len = meta.len();
        let is_good = if len > MAX_CHUNK_BYTES as u64 {
            false
        } else {
            drop_from_cache(&file, from);
            let found = hash_body(&mut file, len, |_| Ok(()));
            drop_from_cache(&file, from);
            match found {
                Ok(found) => found == *id,
                Err(StoreError::Truncated { .. }) => false,
                Err(StoreError::Body(e)) if is_damage(&e) => false,
                Err(StoreError::Body(e)) => return Err(StoreError::disk("read", &path)(e)),
                Err(e) => return Err(e),
            }
        };
        Ok(if is_good { Inspection::Good } else { Inspection::Bad(Box::new(meta), Some(file)) })
    }

    /// Moves a chunk's file into quarantine, durably, if it is stored and `is_meant` accepts it.
    pub(super) fn quarantine_if(
        &self,
        id: &ChunkId,
        is_meant: impl FnOnce(&Metadata) -> bool,
    ) -> Result<bool, StoreError> {
        let quarantine = self.folder.quarantine();
        let _change = self.begin_change()?;
        let moved_from = self.take_out(id, "move into quarantine", |file| {
            let is_meant = is_meant(&fs::symlink_metadata(file)?);
            if is_meant {
                quarantine::admit(&quarantine, file)?;
            }
            Ok(is_meant)
        })?;
        if let Some(shard) = moved_from {
            // The new name first: a power cut between the two leaves the copy in at least one of the folders.
            sync_folder(&quarantine).and_then(|()| shard.sync()).map_err(StoreError::disk("fsync", &quarantine))?;
            quarantine::trim(&quarantine).map_err(StoreError::disk("trim", &quarantine))?;
        }
        Ok(moved_from.is_some())
    }
}

/// Drops a file's bytes from the page cache. Where the kernel cannot do that, the file is read as it is.
fn drop_from_cache(file: &File, from: Source) {
    if from == Source::Disk {
        let _ = fadvise(file, 0, None, Advice::DontNeed);
    }
}
