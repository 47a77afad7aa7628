//! One of the 256 folders that hold the chunks: publishes files in it, makes their names durable, and counts them.
//!
//! A chunk is stored when its file is in its shard folder under its id. The name is durable after an fsync of the
//! folder. One fsync serves every rename made before it began (group commit):
//!
//! ```text
//! put A   rename ─┐
//! put B   rename ─┼─▶ A leads: fsync ────────▶ A and B return
//! put C        rename (during the fsync) ────▶ C leads the next: fsync ─▶ C returns
//! ```
//!
//! Until then the rename is in the shard's list, and a put that finds the chunk stored waits for the same fsync.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use crate::id::ChunkId;
use crate::store::contract::PutOutcome;
use crate::store::damage::is_damage;
use crate::store::files::capacity::{Capacity, ShardUsage};
use crate::store::files::data_folder::DataFolder;
use crate::store::files::fs::{file_len, sync_folder};
use crate::store::files::listing::{ChunkFile, chunk_file, chunk_ids, chunk_lens};
use crate::sync::lock;

/// A rename whose folder is not fsynced yet.
#[derive(Debug)]
struct Rename {
    id: ChunkId,
    /// Set once: `None` when the rename is durable, else the system's error number.
    outcome: OnceLock<Option<i32>>,
}

/// A visible name that may not be durable yet. Pass it to [`Shard::make_durable`] before anything relies on the chunk.
#[must_use]
pub(super) struct PublishedName(Option<Arc<Rename>>);

pub(super) struct Shard {
    path: PathBuf,
    capacity: Arc<Capacity>,
    state: Mutex<State>,
    synced: Condvar,
}

#[derive(Default)]
struct State {
    usage: ShardUsage,
    /// In the order of the renames: an fsync serves those that were listed when it began.
    renames: Vec<Arc<Rename>>,
    is_syncing: bool,
    /// Chunks stored or removed since a recount began, which may or may not have seen them.
    touched: Option<BTreeSet<ChunkId>>,
}

impl State {
    fn touch(&mut self, id: &ChunkId) {
        if let Some(touched) = &mut self.touched {
            touched.insert(*id);
        }
    }

    fn add(&mut self, capacity: &Capacity, len: u64) {
        let usage = ShardUsage { chunks: self.usage.chunks + 1, bytes: self.usage.bytes + len };
        self.set_usage(capacity, usage);
    }

    fn subtract(&mut self, capacity: &Capacity, len: u64) {
        let (chunks, bytes) = (self.usage.chunks.saturating_sub(1), self.usage.bytes.saturating_sub(len));
        self.set_usage(capacity, ShardUsage { chunks, bytes });
    }

    fn set_usage(&mut self, capacity: &Capacity, usage: ShardUsage) {
        capacity.correct(self.usage, usage);
        self.usage = usage;
    }

    /// A name that is not in the list was fsynced, by this process or at its start.
    fn published_name(&self, id: &ChunkId) -> PublishedName {
        PublishedName(self.renames.iter().find(|rename| rename.id == *id).map(Arc::clone))
    }
}

/// Returns all 256 shards, in order.
pub(super) fn all(folder: &DataFolder, capacity: &Arc<Capacity>) -> Vec<Shard> {
    let shard = |number| Shard {
        path: folder.shard(number),
        capacity: Arc::clone(capacity),
        state: Mutex::default(),
        synced: Condvar::new(),
    };
    (0..=u8::MAX).map(shard).collect()
}

impl Shard {
    fn file(&self, id: &ChunkId) -> PathBuf {
        self.path.join(id.to_string())
    }

    /// Renames a durable file `staged` to its id, unless a copy of that length is stored. `replace`: the disk cannot
    /// read the stored copy, so the new one replaces it.
    pub(super) fn publish(
        &self,
        id: &ChunkId,
        len: u64,
        staged: &Path,
        replace: bool,
    ) -> io::Result<(PutOutcome, PublishedName)> {
        let mut state = lock(&self.state);
        let before = match file_len(&self.file(id)) {
            // It had been counted with the length of the chunk, or not at all: see `recount`.
            Err(e) if replace && is_damage(&e) => Some(len),
            before => before?,
        };
        if before == Some(len) && !replace {
            return Ok((PutOutcome::AlreadyPresent, state.published_name(id)));
        }
        fs::rename(staged, self.file(id))?;
        // A copy of another length was bad, or the disk cannot read it. The rename has just replaced it.
        if let Some(bad_len) = before {
            state.subtract(&self.capacity, bad_len);
        }
        state.add(&self.capacity, len);
        state.touch(id);
        let rename = Arc::new(Rename { id: *id, outcome: OnceLock::new() });
        state.renames.push(Arc::clone(&rename));
        Ok((PutOutcome::Stored, PublishedName(Some(rename))))
    }

    /// Returns the name of a copy of this length, if one is stored.
    pub(super) fn find(&self, id: &ChunkId, len: u64) -> io::Result<Option<PublishedName>> {
        let state = lock(&self.state);
        let is_stored = file_len(&self.file(id))? == Some(len);
        Ok(is_stored.then(|| state.published_name(id)))
    }

    /// Waits until a name is durable. If that fails, the files of all waiting names are deleted.
    pub(super) fn make_durable(&self, name: &PublishedName) -> io::Result<()> {
        let Some(rename) = &name.0 else { return Ok(()) };
        let mut state = lock(&self.state);
        loop {
            match rename.outcome.get() {
                Some(None) => return Ok(()),
                Some(Some(errno)) => return Err(io::Error::from_raw_os_error(*errno)),
                None if state.is_syncing => state = self.synced.wait(state).unwrap_or_else(PoisonError::into_inner),
                None => {
                    let served = state.renames.len();
                    state.is_syncing = true;
                    drop(state);
                    let result = sync_folder(&self.path);
                    state = lock(&self.state);
                    state.is_syncing = false;
                    self.set_outcomes(&mut state, served, result);
                    self.synced.notify_all();
                }
            }
        }
    }

    fn set_outcomes(&self, state: &mut State, served: usize, result: io::Result<()>) {
        match result {
            Ok(()) => {
                for rename in state.renames.drain(..served) {
                    let _ = rename.outcome.set(None);
                }
            }
            // A failed fsync leaves unknown which names are durable, and a later one that succeeds proves nothing about
            // them. All waiting files are deleted, also those renamed during the fsync.
            Err(e) => {
                let errno = e.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error());
                for rename in std::mem::take(&mut state.renames) {
                    let _ = self.remove(state, &rename.id, |path| fs::remove_file(path).map(|()| true));
                    let _ = rename.outcome.set(Some(errno));
                }
            }
        }
    }

    /// Takes a chunk's file out of the folder. `take` does it and returns whether it did. Returns false if it did not,
    /// or if the chunk is not stored.
    pub(super) fn take_out(&self, id: &ChunkId, take: impl FnOnce(&Path) -> io::Result<bool>) -> io::Result<bool> {
        let mut state = lock(&self.state);
        self.remove(&mut state, id, take)
    }

    fn remove(
        &self,
        state: &mut State,
        id: &ChunkId,
        take: impl FnOnce(&Path) -> io::Result<bool>,
    ) -> io::Result<bool> {
        let path = self.file(id);
        let Some(len) = file_len(&path)? else { return Ok(false) };
        if !take(&path)? {
            return Ok(false);
        }
        state.subtract(&self.capacity, len);
        state.touch(id);
        Ok(true)
    }

    /// Makes removals durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        sync_folder(&self.path)
    }

    /// Returns the stored ids greater than `after`, in ascending order.
    pub(super) fn ids(&self, after: Option<&ChunkId>) -> io::Result<Vec<ChunkId>> {
        chunk_ids(&self.path, after)
    }

    /// Sets the usage that the clean-stop note states.
    pub(super) fn set_usage(&self, usage: ShardUsage) {
        lock(&self.state).set_usage(&self.capacity, usage);
    }

    pub(super) fn usage(&self) -> ShardUsage {
        lock(&self.state).usage
    }

    /// Counts the files, corrects the usage, and returns the ids in ascending order. Puts and removals continue
    /// meanwhile; the chunks they touch are counted again. A file whose length the disk cannot read is not counted, but
    /// its id is returned: the chunk is stored.
    pub(super) fn recount(&self) -> io::Result<Vec<ChunkId>> {
        lock(&self.state).touched = Some(BTreeSet::new());
        let scan = chunk_lens(&self.path);
        let mut state = lock(&self.state);
        let touched = state.touched.take().unwrap_or_default();
        let mut lens = scan?;
        lens.retain(|(id, _)| !touched.contains(id));
        for id in &touched {
            match chunk_file(&self.file(id))? {
                ChunkFile::Readable(len) => lens.push((*id, Some(len))),
                ChunkFile::Unreadable => lens.push((*id, None)),
                ChunkFile::Missing => {}
            }
        }
        let counted = || lens.iter().filter_map(|(_, len)| *len);
        let usage = ShardUsage { chunks: counted().count() as u64, bytes: counted().sum() };
        state.set_usage(&self.capacity, usage);
        drop(state);
        let mut ids: Vec<_> = lens.into_iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        Ok(ids)
    }
}
