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
//!
//! An fsync that fails leaves unknown which of the listed names are durable, and a later one that succeeds proves
//! nothing about them: the kernel may have dropped what it could not write. So their puts fail, and their files are
//! deleted unless they replaced others. The folder is *poisoned*: no put succeeds in it, not even that of a chunk stored
//! long ago, before another fsync does. A name that stays visible is *unproven*: the chunk can be read, but a put writes
//! and renames it again.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::id::ChunkId;
use crate::store::contract::PutOutcome;
use crate::store::damage::is_damage;
use crate::store::files::capacity::{Capacity, ShardUsage};
use crate::store::files::data_folder::DataFolder;
use crate::store::files::fs::{file_len, remove_file, rename, sync_folder};
use crate::store::files::listing::{ChunkFile, chunk_file, chunk_ids, chunk_lens};
use crate::sync::lock;

/// A rename whose folder is not fsynced yet.
#[derive(Debug)]
struct Rename {
    id: ChunkId,
    /// No file had the name before.
    is_new: bool,
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
    /// The last fsync failed.
    is_poisoned: bool,
    unproven: Unproven,
    /// Chunks stored or removed since a recount began, which may or may not have seen them.
    touched: Option<BTreeSet<ChunkId>>,
}

/// Visible names that may never become durable.
#[derive(Default)]
struct Unproven {
    /// All names are, except for these `ids`; otherwise only these are.
    all: bool,
    ids: BTreeSet<ChunkId>,
}

impl Unproven {
    fn contains(&self, id: &ChunkId) -> bool {
        self.all != self.ids.contains(id)
    }

    fn set(&mut self, id: &ChunkId, is_unproven: bool) {
        if self.all == is_unproven {
            self.ids.remove(id);
        } else {
            self.ids.insert(*id);
        }
    }
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

    /// A name that is neither in the list nor unproven was fsynced, by this process or at its start.
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

    /// Renames a durable file `staged` to its id, unless a copy of that length is stored under a proven name.
    /// `replace`: the disk cannot read the stored copy, so the new one replaces it.
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
        if before == Some(len) && !replace && !state.unproven.contains(id) {
            return Ok((PutOutcome::AlreadyPresent, state.published_name(id)));
        }
        rename(staged, &self.file(id))?;
        // A copy of another length was bad, the disk cannot read it, or it may vanish. The rename has just replaced it.
        if let Some(bad_len) = before {
            state.subtract(&self.capacity, bad_len);
        }
        state.add(&self.capacity, len);
        state.touch(id);
        let rename = Arc::new(Rename { id: *id, is_new: before.is_none(), outcome: OnceLock::new() });
        state.renames.push(Arc::clone(&rename));
        Ok((PutOutcome::Stored, PublishedName(Some(rename))))
    }

    /// Returns the name of a copy of this length, if one is stored under a proven name.
    pub(super) fn find(&self, id: &ChunkId, len: u64) -> io::Result<Option<PublishedName>> {
        let state = lock(&self.state);
        let is_stored = file_len(&self.file(id))? == Some(len) && !state.unproven.contains(id);
        Ok(is_stored.then(|| state.published_name(id)))
    }

    /// Whether a put must write a chunk again even if its copy is good.
    pub(super) fn is_unproven(&self, id: &ChunkId) -> bool {
        lock(&self.state).unproven.contains(id)
    }

    /// Waits until a name is durable. If that fails, the files of all waiting names are deleted.
    pub(super) fn make_durable(&self, name: &PublishedName) -> io::Result<()> {
        let mut state = lock(&self.state);
        let Some(rename) = &name.0 else {
            return if state.is_poisoned { self.fsync(state).1 } else { Ok(()) };
        };
        loop {
            match rename.outcome.get() {
                Some(None) => return Ok(()),
                Some(Some(errno)) => return Err(io::Error::from_raw_os_error(*errno)),
                None if state.is_syncing => state = self.wait(state),
                None => state = self.fsync(state).0,
            }
        }
    }

    /// Fsyncs the folder, after the fsync in progress, and settles the listed renames by the result.
    fn fsync<'a>(&'a self, mut state: MutexGuard<'a, State>) -> (MutexGuard<'a, State>, io::Result<()>) {
        while state.is_syncing {
            state = self.wait(state);
        }
        let served = state.renames.len();
        state.is_syncing = true;
        drop(state);
        let result = sync_folder(&self.path);
        let mut state = lock(&self.state);
        state.is_syncing = false;
        match &result {
            Ok(()) => Self::set_durable(&mut state, served),
            Err(e) => self.poison(&mut state, e),
        }
        self.synced.notify_all();
        (state, result)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.synced.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn set_durable(state: &mut State, served: usize) {
        state.is_poisoned = false;
        for rename in state.renames.drain(..served) {
            state.unproven.set(&rename.id, false);
            let _ = rename.outcome.set(None);
        }
    }

    /// Takes all waiting files back, also those renamed during the fsync that failed. One that replaced another stays:
    /// it can be the only copy of a chunk that was acknowledged.
    fn poison(&self, state: &mut State, error: &io::Error) {
        log::error!("cannot fsync {}, so puts there fail until that succeeds: {error}", self.path.display());
        state.is_poisoned = true;
        let errno = error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error());
        for rename in std::mem::take(&mut state.renames) {
            // Unless its file is deleted: see `remove`.
            state.unproven.set(&rename.id, true);
            let take = |path: &Path| if rename.is_new { remove_file(path).map(|()| true) } else { Ok(false) };
            if let Err(e) = self.remove(state, &rename.id, take) {
                log::warn!("chunk {} may vanish at the next power cut: {e}", rename.id.short());
            }
            let _ = rename.outcome.set(Some(errno));
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
        state.unproven.set(id, false);
        state.subtract(&self.capacity, len);
        state.touch(id);
        Ok(true)
    }

    /// Makes removals durable. A failure that it meets concerns the waiting names as well: the kernel reports it once.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.fsync(lock(&self.state)).1
    }

    /// A removal that is visible may never become durable.
    pub(super) fn set_poisoned(&self) {
        lock(&self.state).is_poisoned = true;
    }

    /// Returns the stored ids greater than `after`, in ascending order.
    pub(super) fn ids(&self, after: Option<&ChunkId>) -> io::Result<Vec<ChunkId>> {
        chunk_ids(&self.path, after)
    }

    /// After a start that could not make the visible names durable: a put writes and renames each of them again.
    pub(super) fn set_all_unproven(&self) {
        let mut state = lock(&self.state);
        state.is_poisoned = true;
        state.unproven = Unproven { all: true, ids: BTreeSet::new() };
    }

    /// Whether all names and removals in the folder are durable, as far as is known.
    pub(super) fn is_proven(&self) -> bool {
        let state = lock(&self.state);
        !state.is_poisoned && !state.unproven.all && state.unproven.ids.is_empty()
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

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::io::Errno;

    use super::*;
    use crate::id::CellId;
    use crate::store::contract::{PutMetadata, Store, StoreError};
    use crate::store::files::faults::{Fault, Operation};
    use crate::store::files::file_store::{FileStore, StoreOptions};

    const CHUNK: &[u8] = b"a chunk";

    fn store() -> (tempfile::TempDir, FileStore) {
        let dir = tempfile::tempdir().unwrap();
        FileStore::init(dir.path(), CellId::from_bytes([1; 16])).unwrap();
        let options = StoreOptions { reserve_bytes: Some(0), ..StoreOptions::default() };
        let store = FileStore::open(dir.path(), &options).unwrap();
        (dir, store)
    }

    fn shard_of(dir: &Path, bytes: &[u8]) -> PathBuf {
        dir.join("chunks").join(format!("{:02x}", ChunkId::of(bytes).shard()))
    }

    fn file_of(dir: &Path, bytes: &[u8]) -> PathBuf {
        shard_of(dir, bytes).join(ChunkId::of(bytes).to_string())
    }

    /// With and without an announced id.
    fn put(store: &FileStore, bytes: &[u8], is_announced: bool) -> Result<PutOutcome, StoreError> {
        let metadata = PutMetadata { copies: 3, bare: false, holders: Vec::new(), owner: None, stored_at_s: 1 };
        let expected = ChunkId::of(bytes);
        let expected = is_announced.then_some(&expected);
        store.put(expected, bytes.len() as u64, &mut &*bytes, &metadata).map(|(_, outcome)| outcome)
    }

    #[test]
    fn a_name_whose_fsync_failed_is_taken_back() {
        let (dir, store) = store();
        let fault = Fault::new(Operation::SyncFolder, &shard_of(dir.path(), CHUNK), Errno::IO);
        put(&store, CHUNK, true).unwrap_err();
        assert!(!file_of(dir.path(), CHUNK).exists());
        assert_eq!(store.usage().chunks, 0);
        drop(fault);
        assert_eq!(put(&store, CHUNK, true).unwrap(), PutOutcome::Stored);
    }

    /// A put of a name that was never durable was acknowledged as already present: the failure to take it back was
    /// ignored. Method: fsync fails and the file cannot be removed, as after ext4 aborts its journal.
    #[test]
    fn a_name_that_was_never_durable_is_written_again() {
        for is_announced in [true, false] {
            let (dir, store) = store();
            let (shard, file) = (shard_of(dir.path(), CHUNK), file_of(dir.path(), CHUNK));
            let fsync = Fault::new(Operation::SyncFolder, &shard, Errno::IO);
            let remove = Fault::new(Operation::Remove, &file, Errno::ROFS);
            put(&store, CHUNK, is_announced).unwrap_err();
            assert!(file.exists());
            put(&store, CHUNK, is_announced).unwrap_err();
            drop((fsync, remove));
            // Proves nothing about the earlier rename.
            assert!(!store.remove(&ChunkId::of(b"none")).unwrap());
            assert_eq!(put(&store, CHUNK, is_announced).unwrap(), PutOutcome::Stored);
            assert_eq!(put(&store, CHUNK, is_announced).unwrap(), PutOutcome::AlreadyPresent);
            assert_eq!((store.usage().chunks, store.usage().bytes), (1, CHUNK.len() as u64));
            assert_eq!(fs::read(file).unwrap(), CHUNK);
        }
    }

    /// Method: the fsync of a removal fails in the folder of a chunk that was stored before.
    #[test]
    fn a_poisoned_folder_acknowledges_nothing_until_an_fsync() {
        let (dir, store) = store();
        let other =
            (0..100_000_u32).map(u32::to_le_bytes).find(|n| shard_of(dir.path(), n) == shard_of(dir.path(), CHUNK));
        let other = other.unwrap();
        put(&store, CHUNK, true).unwrap();
        put(&store, &other, true).unwrap();
        let fault = Fault::new(Operation::SyncFolder, &shard_of(dir.path(), CHUNK), Errno::IO);
        store.remove(&ChunkId::of(&other)).unwrap_err();
        for is_announced in [true, false] {
            put(&store, CHUNK, is_announced).unwrap_err();
        }
        assert!(file_of(dir.path(), CHUNK).exists());
        drop(fault);
        assert_eq!(put(&store, CHUNK, true).unwrap(), PutOutcome::AlreadyPresent);
    }

    /// The kernel reports a failure to one fsync only, which need not be that of the put. Method: a rename waits while
    /// the fsync of a removal fails.
    #[test]
    fn a_removal_whose_fsync_fails_fails_the_waiting_puts() {
        let (dir, store) = store();
        let capacity = Arc::new(Capacity::new(dir.path(), Some(0), None));
        drop(store);
        let folder = DataFolder::open(dir.path()).unwrap();
        let id = ChunkId::of(CHUNK);
        let shards = all(&folder, &capacity);
        let shard = &shards[usize::from(id.shard())];
        let staged = dir.path().join("tmp/1");
        fs::write(&staged, CHUNK).unwrap();
        let (_, name) = shard.publish(&id, CHUNK.len() as u64, &staged, false).unwrap();
        let fault = Fault::new(Operation::SyncFolder, &shard_of(dir.path(), CHUNK), Errno::IO);
        shard.sync().unwrap_err();
        drop(fault);
        assert_eq!(shard.make_durable(&name).unwrap_err().raw_os_error(), Some(Errno::IO.raw_os_error()));
        assert!(!file_of(dir.path(), CHUNK).exists());
    }
}
