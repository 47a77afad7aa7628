//! The quarantine: files that were bad copies, or that the disk could not read for a long time.
//!
//! ```text
//! chunks/ab/<id> ── bad ──▶ quarantine/<id> ──┬─ hashes to its id again, chunk not stored ──▶ is put again
//!                                             └─ a good copy is stored, room is short ──────▶ deleted
//! ```
//!
//! A file is deleted only if a good copy of its chunk is stored: it was received again and hashed, or is hashed here
//! before the deletion. All others stay, and use up the quota. No deletion depends on the wall clock, which many boards
//! do not have.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use rustix::fs::{Advice, fadvise};

use crate::human;
use crate::id::{ChunkId, ID_HEX_LEN, MAX_CHUNK_BYTES};
use crate::store::files::capacity::Capacity;
use crate::store::files::fs::{file_len, open_without_atime, sync_folder};
use crate::store::files::hash::hash_body;
use crate::sync::lock;

/// Files are deleted when all of them together take more than this.
const MAX_BYTES: u64 = 64 << 20;
/// Maximum number of files of one chunk: `<id>`, `<id>.1`, `<id>.2` … A further one replaces the last, whose chunk was
/// received again after it.
const MAX_FILES_OF_CHUNK: usize = 4;

/// The quarantine of one store.
pub(super) struct Quarantine {
    path: PathBuf,
    capacity: Arc<Capacity>,
    /// The bytes of all files in it. Locked during every change of the folder, after the lock of a shard if both are.
    bytes: Mutex<u64>,
}

/// Why a file is not durably in the quarantine.
pub(super) struct NotAdmitted {
    pub(super) error: io::Error,
    /// It is there nevertheless, because it could not be moved back.
    pub(super) is_moved: bool,
}

struct QuarantinedFile {
    id: ChunkId,
    path: PathBuf,
    len: u64,
}

impl Quarantine {
    pub(super) fn new(path: PathBuf, capacity: &Arc<Capacity>) -> Self {
        let quarantine = Self { path, capacity: Arc::clone(capacity), bytes: Mutex::default() };
        match quarantine.files() {
            Ok(files) => quarantine.set_bytes(&mut lock(&quarantine.bytes), files.iter().map(|file| file.len).sum()),
            Err(e) => log::warn!("cannot list {}: {e}", quarantine.path.display()),
        }
        quarantine
    }

    /// Moves a chunk's file into the quarantine, and makes its name there durable. The caller then fsyncs the folder
    /// that the file comes from: a power cut before that leaves the file in at least one of them.
    pub(super) fn admit(&self, id: &ChunkId, file: &Path) -> Result<(), NotAdmitted> {
        let mut bytes = lock(&self.bytes);
        let stays = |error| NotAdmitted { error, is_moved: false };
        fs::symlink_metadata(file).map_err(stays)?;
        let names = self.names(id);
        let is_free = |path: &&PathBuf| fs::symlink_metadata(path).is_err_and(|e| e.kind() == ErrorKind::NotFound);
        // A power cut between link and removal leaves both names. A rename of one to the other would do nothing.
        let link = names.iter().find(|name| is_same_file(name, file));
        let Some(name) = link.or_else(|| names.iter().find(is_free)).or_else(|| names.last()) else { return Ok(()) };
        let len_of = |name| file_len(name).ok().flatten().unwrap_or_default();
        let before = len_of(name);
        let is_linked = link.is_some() || fs::hard_link(file, name).is_ok();
        let admitted = if is_linked { self.keep_link(file, name) } else { self.take(file, name) };
        let now = (*bytes + len_of(name)).saturating_sub(before);
        self.set_bytes(&mut bytes, now);
        admitted
    }

    /// A second name of the file is made durable before the first one goes, so that no fsync can leave it without.
    fn keep_link(&self, file: &Path, name: &Path) -> Result<(), NotAdmitted> {
        let removed = sync_folder(&self.path).and_then(|()| fs::remove_file(file));
        removed.map_err(|error| {
            if let Err(e) = fs::remove_file(name) {
                let (file, name) = (file.display(), name.display());
                log::warn!("cannot move {file} into quarantine, and its second name {name} stays: {e}; check the disk");
            }
            NotAdmitted { error, is_moved: false }
        })
    }

    /// For file systems without links, and if all names are in use.
    fn take(&self, file: &Path, name: &Path) -> Result<(), NotAdmitted> {
        fs::rename(file, name).map_err(|error| NotAdmitted { error, is_moved: false })?;
        sync_folder(&self.path).map_err(|error| {
            // Without a durable name here, any fsync of the other folder would leave the file in neither.
            let is_moved = fs::rename(name, file).is_err();
            NotAdmitted { error, is_moved }
        })
    }

    /// Deletes files until the others are within the limit, as far as good copies of their chunks are stored. `stored`
    /// is the file of a chunk in its shard folder.
    pub(super) fn trim(&self, stored: impl Fn(&ChunkId) -> PathBuf) -> io::Result<()> {
        self.trim_to(MAX_BYTES, stored)
    }

    /// Makes room for this many bytes, as far as that is possible.
    pub(super) fn make_room(&self, len: u64, stored: impl Fn(&ChunkId) -> PathBuf) -> io::Result<()> {
        let bytes = *lock(&self.bytes);
        self.trim_to(bytes.saturating_sub(len), stored)
    }

    fn trim_to(&self, max_bytes: u64, stored: impl Fn(&ChunkId) -> PathBuf) -> io::Result<()> {
        let mut bytes = lock(&self.bytes);
        if *bytes <= max_bytes {
            return Ok(());
        }
        for file in self.files()? {
            if *bytes <= max_bytes {
                break;
            }
            if hashes_to(&stored(&file.id), &file.id)?.is_some() {
                self.delete(&mut bytes, &file)?;
            }
        }
        Ok(())
    }

    /// A good copy of this chunk was received and is stored durably: its files are deleted if their room is needed.
    pub(super) fn release(&self, id: &ChunkId) -> io::Result<()> {
        let mut bytes = lock(&self.bytes);
        let room_is_short = || self.capacity.usage().free_bytes < MAX_CHUNK_BYTES as u64;
        if *bytes == 0 || (*bytes <= MAX_BYTES && !room_is_short()) {
            return Ok(());
        }
        self.files_of(id)?.iter().try_for_each(|file| self.delete(&mut bytes, file))
    }

    /// The bytes of this chunk's files.
    pub(super) fn bytes_of(&self, id: &ChunkId) -> u64 {
        let _bytes = lock(&self.bytes);
        self.files_of(id).map_or(0, |files| files.iter().map(|file| file.len).sum())
    }

    /// Up to `limit` chunks greater than `after` that have files in the quarantine, in ascending order.
    pub(super) fn ids(&self, after: Option<&ChunkId>, limit: usize) -> io::Result<Vec<ChunkId>> {
        let mut ids: Vec<ChunkId> = self.files()?.into_iter().map(|file| file.id).collect();
        ids.retain(|id| after.is_none_or(|after| id > after));
        ids.sort_unstable();
        ids.dedup();
        ids.truncate(limit);
        Ok(ids)
    }

    /// A file of this chunk whose bytes hash to its id, with its length; `None` if there is none.
    pub(super) fn good_file(&self, id: &ChunkId) -> io::Result<Option<(PathBuf, u64)>> {
        for QuarantinedFile { path, .. } in self.files_of(id)? {
            if let Some(len) = hashes_to(&path, id)? {
                return Ok(Some((path, len)));
            }
        }
        Ok(None)
    }

    fn delete(&self, bytes: &mut u64, file: &QuarantinedFile) -> io::Result<()> {
        let len = human::count(file.len, "byte");
        log::info!("deleting {} ({len}): its room is needed, and a good copy is stored", file.path.display());
        fs::remove_file(&file.path)?;
        let now = bytes.saturating_sub(file.len);
        self.set_bytes(bytes, now);
        Ok(())
    }

    fn set_bytes(&self, bytes: &mut u64, now: u64) {
        *bytes = now;
        self.capacity.set_quarantined(now);
    }

    /// The names that files of this chunk can have.
    fn names(&self, id: &ChunkId) -> Vec<PathBuf> {
        let name = |n| if n == 0 { id.to_string() } else { format!("{id}.{n}") };
        (0..MAX_FILES_OF_CHUNK).map(|n| self.path.join(name(n))).collect()
    }

    fn files_of(&self, id: &ChunkId) -> io::Result<Vec<QuarantinedFile>> {
        let file = |path: PathBuf| Ok(file_len(&path)?.map(|len| QuarantinedFile { id: *id, path, len }));
        self.names(id).into_iter().filter_map(|path| file(path).transpose()).collect()
    }

    /// All files whose names begin with an id, in order of their names.
    fn files(&self) -> io::Result<Vec<QuarantinedFile>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.get(..ID_HEX_LEN)).and_then(|id| ChunkId::from_str(id).ok());
            let Some(id) = id else { continue };
            let path = entry.path();
            // One whose length cannot be read stays.
            if let Ok(Some(len)) = file_len(&path) {
                files.push(QuarantinedFile { id, path, len });
            }
        }
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }
}

/// Are these two names of one file?
fn is_same_file(a: &Path, b: &Path) -> bool {
    let inode = |path: &Path| fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    matches!((inode(a), inode(b)), (Ok(a), Ok(b)) if a == b)
}

/// The length of a file that hashes to this id, read from the disk; `None` if it does not, cannot be read, or is missing.
fn hashes_to(path: &Path, id: &ChunkId) -> io::Result<Option<u64>> {
    let Some(len) = file_len(path).ok().flatten().filter(|len| *len <= MAX_CHUNK_BYTES as u64) else { return Ok(None) };
    let mut file = match open_without_atime(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    let found = hash_body(&mut file, len, |_| Ok(()));
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    Ok(found.is_ok_and(|found| found == *id).then_some(len))
}
