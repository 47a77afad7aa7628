//! Verifying a copy byte by byte, and moving a bad one into quarantine.
//!
//! A copy is bad if its bytes do not hash to its id. A disk that cannot read them proves nothing: the copy stays where
//! it is, unless this was the last of several attempts. Nor does a failure of this process (no descriptor, no memory).

// A shell: it reads the wall clock for the time of a verification.
#![allow(clippy::disallowed_methods)]

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Advice, fadvise};

use crate::id::{ChunkId, MAX_CHUNK_BYTES};
use crate::store::contract::{CopyState, StoreError};
use crate::store::damage::is_damage;
use crate::store::files::change::Change;
use crate::store::files::fs::{file_len, open_without_atime};
use crate::store::files::hash::hash_body;
use crate::store::files::inner::Inner;
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
    /// Bad, with what identifies this file. While the file is open its inode number is not reused.
    Bad(Box<Metadata>, File),
    /// The disk cannot read it, with what identifies this file if that could be read: if the file could not be opened,
    /// the time of its last change distinguishes it from a later file too.
    Unreadable(Option<Box<Metadata>>, io::Error),
    Missing,
}

/// What happens to a copy that the disk cannot read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IfUnreadable {
    Keep,
    Quarantine,
}

impl Inner {
    /// Verifies a copy on the disk, and records the time if it is good.
    pub(super) fn verify(&self, id: &ChunkId) -> Result<CopyState, StoreError> {
        self.verify_on_disk(id, IfUnreadable::Keep)
    }

    /// The same for the last of several attempts: a copy that the disk cannot read goes into quarantine.
    pub(super) fn verify_finally(&self, id: &ChunkId) -> Result<CopyState, StoreError> {
        self.verify_on_disk(id, IfUnreadable::Quarantine)
    }

    fn verify_on_disk(&self, id: &ChunkId, if_unreadable: IfUnreadable) -> Result<CopyState, StoreError> {
        let state = self.check(id, Source::Disk, if_unreadable)?;
        if state == CopyState::Good {
            let now_s = unix_time::now_s();
            self.queue.push(id, Change::scrubbed(now_s));
        }
        Ok(state)
    }

    /// The state of a copy that a put would find. Verifies every byte; a bad copy goes into quarantine.
    pub(super) fn stored_copy(&self, id: &ChunkId) -> Result<CopyState, StoreError> {
        self.check(id, Source::CacheOrDisk, IfUnreadable::Keep)
    }

    fn check(&self, id: &ChunkId, from: Source, if_unreadable: IfUnreadable) -> Result<CopyState, StoreError> {
        for _ in 0..MAX_TRIES {
            let (inspected, _open) = match self.inspect(id, from)? {
                Inspection::Good => return Ok(CopyState::Good),
                Inspection::Missing => return Ok(CopyState::Missing),
                Inspection::Bad(meta, open) => (meta, Some(open)),
                Inspection::Unreadable(Some(meta), _) if if_unreadable == IfUnreadable::Quarantine => (meta, None),
                Inspection::Unreadable(_, error) => {
                    log::warn!("cannot read the copy of chunk {}, check the disk: {error}", id.short());
                    return Ok(CopyState::Unreadable);
                }
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
        match file_len(&path) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(Inspection::Missing),
            Err(e) if is_damage(&e) => return Ok(Inspection::Unreadable(None, e)),
            Err(e) => return Err(StoreError::disk("find", &path)(e)),
        }
        let unreadable = |e| Ok(Inspection::Unreadable(fs::symlink_metadata(&path).ok().map(Box::new), e));
        let mut file = match open_without_atime(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Inspection::Missing),
            Err(e) if is_damage(&e) => return unreadable(e),
            Err(e) => return Err(StoreError::disk("open", &path)(e)),
        };
        let meta = match file.metadata() {
            Ok(meta) => meta,
            Err(e) if is_damage(&e) => return Ok(Inspection::Unreadable(None, e)),
            Err(e) => return Err(StoreError::disk("read the metadata of", &path)(e)),
        };
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
                Err(StoreError::Body(e)) if is_damage(&e) => {
                    return Ok(Inspection::Unreadable(Some(Box::new(meta)), e));
                }
                Err(StoreError::Body(e)) => return Err(StoreError::disk("read", &path)(e)),
                Err(e) => return Err(e),
            }
        };
        Ok(if is_good { Inspection::Good } else { Inspection::Bad(Box::new(meta), file) })
    }

    /// Moves a chunk's file into quarantine, durably, if it is stored and `is_meant` accepts it.
    pub(super) fn quarantine_if(
        &self,
        id: &ChunkId,
        is_meant: impl FnOnce(&Metadata) -> bool,
    ) -> Result<bool, StoreError> {
        let folder = self.folder.quarantine();
        let _change = self.begin_change()?;
        let mut failure = None;
        let moved_from = self.take_out(id, "move into quarantine", |file| {
            if !is_meant(&fs::symlink_metadata(file)?) {
                return Ok(false);
            }
            match self.quarantine.admit(id, file) {
                Err(e) if e.is_moved => failure = Some(e.error),
                Err(e) => return Err(e.error),
                Ok(()) => {}
            }
            Ok(true)
        });
        if let Some(e) = failure {
            self.shard(id).set_poisoned();
            return Err(StoreError::disk("fsync", &folder)(e));
        }
        if moved_from.is_err() {
            // The file may have been moved and moved back.
            let _ = self.shard(id).sync();
        }
        let moved_from = moved_from?;
        if let Some(shard) = moved_from {
            shard.sync().map_err(StoreError::disk("fsync", &self.folder.shard(id.shard())))?;
            if let Err(e) = self.quarantine.trim(|id| self.folder.chunk(id)) {
                log::warn!("cannot trim {}: {e}", folder.display());
            }
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
