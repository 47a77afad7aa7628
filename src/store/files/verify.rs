//! Looking at every byte of a copy, and setting a bad one aside.
//!
//! A copy is bad when its bytes are not what its name says, or when the disk cannot give them. It is not bad because
//! this process could not look just now (no descriptor, no memory): then nobody knows, and nothing is touched.

// A shell: it notes by the wall clock when a copy was looked at.
#![allow(clippy::disallowed_methods)]

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;

use crate::id::{ChunkId, MAX_CHUNK_BYTES};
use crate::store::files::change::Change;
use crate::store::files::folder::sync_folder;
use crate::store::files::{Inner, open_quietly, quarantine, shard, staging};
use crate::store::{CopyState, StoreError};
use crate::unix_time;

/// A copy can be replaced while it is looked at, as often as somebody sets it aside and somebody else puts it anew.
const MAX_LOOKS: u32 = 8;

/// Where the bytes come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// From memory, if the kernel has them there.
    Anywhere,
    /// From the disk itself, and the kernel is not to keep them: a scrub wants to know of the disk, and must not drive
    /// what others use out of a small board's memory.
    Disk,
}

/// What a look at a copy tells.
enum Look {
    Good,
    /// Bad, with what tells this file from any that replaces it. An open file keeps its number from being given to
    /// another; where it cannot be opened, the time of its last change tells them apart too.
    Bad(Box<Metadata>, Option<fs::File>),
    Missing,
}

impl Inner {
    pub(super) fn verify(&self, id: &ChunkId) -> Result<CopyState, StoreError> {
        let checked = self.check(id, Source::Disk)?;
        if checked == CopyState::Good {
            let now_s = unix_time::now_s();
            self.desk.leave(id, Change::scrubbed(now_s));
        }
        Ok(checked)
    }

    /// Is a good copy of this length here? Looks at every byte of it; a damaged one goes into quarantine.
    pub(super) fn has_good(&self, id: &ChunkId, len: u64) -> Result<bool, StoreError> {
        let path = self.folder.chunk(id);
        if shard::file_len(&path).map_err(StoreError::disk("looking for", &path))? != Some(len) {
            return Ok(false);
        }
        Ok(self.check(id, Source::Anywhere)? == CopyState::Good)
    }

    fn check(&self, id: &ChunkId, from: Source) -> Result<CopyState, StoreError> {
        for _ in 0..MAX_LOOKS {
            let (seen, _open) = match self.look(id, from)? {
                Look::Good => return Ok(CopyState::Good),
                Look::Missing => return Ok(CopyState::Missing),
                Look::Bad(seen, open) => (seen, open),
            };
            // While it was read another may have stored good bytes in its place.
            let same = |now: &Metadata| {
                (now.dev(), now.ino(), now.ctime(), now.ctime_nsec())
                    == (seen.dev(), seen.ino(), seen.ctime(), seen.ctime_nsec())
            };
            if self.set_aside(id, same)? {
                log::warn!("the copy of chunk {} was damaged and is in quarantine now", id.short());
                return Ok(CopyState::Bad);
            }
        }
        let path = self.folder.chunk(id);
        Err(StoreError::disk("checking", &path)(io::Error::other("it was replaced again and again meanwhile")))
    }

    fn look(&self, id: &ChunkId, from: Source) -> Result<Look, StoreError> {
        let path = self.folder.chunk(id);
        if shard::file_len(&path).map_err(StoreError::disk("looking for", &path))?.is_none() {
            return Ok(Look::Missing);
        }
        let mut file = match open_quietly(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Look::Missing),
            Err(e) if is_damage(&e) => {
                let seen = fs::symlink_metadata(&path).map_err(StoreError::disk("looking at", &path))?;
                return Ok(Look::Bad(Box::new(seen), None));
            }
            Err(e) => return Err(StoreError::disk("opening", &path)(e)),
        };
        let seen = file.metadata().map_err(StoreError::disk("looking at", &path))?;
        let len = seen.len();
        let good = if len > MAX_CHUNK_BYTES as u64 {
            false
        } else {
            forget(&file, from);
            let found = staging::hash(&mut file, len, |_| Ok(()));
            forget(&file, from);
            match found {
                Ok(found) => found == *id,
                Err(StoreError::Truncated { .. }) => false,
                Err(StoreError::Body(e)) if is_damage(&e) => false,
                Err(StoreError::Body(e)) => return Err(StoreError::disk("reading", &path)(e)),
                Err(e) => return Err(e),
            }
        };
        Ok(if good { Look::Good } else { Look::Bad(Box::new(seen), Some(file)) })
    }

    /// Moves a chunk's file into quarantine, durably, if it is here and `is` the one that is meant.
    pub(super) fn set_aside(&self, id: &ChunkId, is: impl FnOnce(&Metadata) -> bool) -> Result<bool, StoreError> {
        let place = self.folder.quarantine();
        let _changing = self.begin_change()?;
        let moved = self.take_out(id, "moving a bad copy of", |file| {
            let meant = is(&fs::symlink_metadata(file)?);
            if meant {
                quarantine::admit(&place, file)?;
            }
            Ok(meant)
        })?;
        if let Some(shard) = moved {
            // The new name first: a power cut between the two leaves the copy in one place or the other.
            sync_folder(&place).and_then(|()| shard.sync()).map_err(StoreError::disk("fsync of", &place))?;
            quarantine::trim(&place).map_err(StoreError::disk("tidying", &place))?;
        }
        Ok(moved.is_some())
    }
}

/// The kernel drops what it has of a file in memory; a disk that it cannot do that for is read as it is.
fn forget(file: &fs::File, from: Source) {
    if from == Source::Disk {
        let _ = fadvise(file, 0, None, Advice::DontNeed);
    }
}

/// Does the error say that the disk does not have the bytes any more? The file systems' words for that: EIO for a
/// sector that cannot be read, EUCLEAN and EBADMSG for what does not agree with its own checksums, the rest from block
/// devices that know more.
pub(super) fn is_damage(error: &io::Error) -> bool {
    let words = [Errno::IO, Errno::UCLEAN, Errno::BADMSG, Errno::NODATA, Errno::ILSEQ, Errno::REMOTEIO];
    error.raw_os_error().is_some_and(|errno| words.iter().any(|word| word.raw_os_error() == errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_disk_says_of_its_bytes_is_damage() {
        for (errno, damage) in [
            (Errno::IO, true),
            (Errno::UCLEAN, true),
            (Errno::BADMSG, true),
            (Errno::MFILE, false),
            (Errno::NFILE, false),
            (Errno::NOMEM, false),
            (Errno::ACCESS, false),
        ] {
            assert_eq!(is_damage(&io::Error::from_raw_os_error(errno.raw_os_error())), damage, "{errno}");
        }
        assert!(!is_damage(&io::Error::other("something else")));
    }
}
