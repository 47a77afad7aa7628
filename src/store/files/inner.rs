//! The parts of an open store, shared by its callers and the catalogue writer.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::id::{ChunkId, DEFAULT_COPIES};
use crate::store::contract::{PutMetadata, Record, StoreError};
use crate::store::files::capacity::Capacity;
use crate::store::files::catalogue::{Catalogue, CatalogueError};
use crate::store::files::change::Change;
use crate::store::files::change_queue::ChangeQueue;
use crate::store::files::clean_stop::{ChangeGuard, CleanStop};
use crate::store::files::data_folder::DataFolder;
use crate::store::files::quarantine::Quarantine;
use crate::store::files::record::CatalogueEntry;
use crate::store::files::shard::Shard;
use crate::store::files::state_file::StateFile;
use crate::unix_time;

/// Dropped in this order: the catalogue closes before the folder's lock is released.
pub(super) struct Inner {
    pub(super) catalogue: Catalogue,
    pub(super) queue: ChangeQueue,
    pub(super) shards: Vec<Shard>,
    pub(super) clean_stop: CleanStop,
    pub(super) state_file: StateFile,
    pub(super) capacity: Arc<Capacity>,
    pub(super) quarantine: Quarantine,
    pub(super) folder: DataFolder,
}

impl Inner {
    #[allow(clippy::indexing_slicing)] // There are 256, one for each value of a byte.
    pub(super) fn shard(&self, id: &ChunkId) -> &Shard {
        &self.shards[usize::from(id.shard())]
    }

    /// Returns the record of each of these chunks, in the same order: the catalogue's, with the queued changes applied.
    pub(super) fn records_of(&self, ids: &[ChunkId]) -> Vec<Option<Record>> {
        // The queue first: a change that is written in between is in the catalogue by then.
        let queued = self.queue.queued(ids);
        let entries = match self.catalogue.get(ids) {
            Ok(entries) => entries,
            Err(CatalogueError::Closed) => vec![None; ids.len()],
            Err(e) => {
                self.queue.report_failure(e);
                vec![None; ids.len()]
            }
        };
        let apply = |((id, change), entry): ((&ChunkId, Option<Change>), Option<CatalogueEntry>)| match change {
            Some(change) => change.apply(entry, || self.record_from_file(id)),
            None => entry,
        };
        ids.iter().zip(queued).zip(entries).map(apply).map(|entry| Some(entry?.record)).collect()
    }

    /// Makes a record from a chunk's file alone: its length, its modification time, default metadata.
    pub(super) fn record_from_file(&self, id: &ChunkId) -> Option<Record> {
        let meta = fs::metadata(self.folder.chunk(id)).ok()?;
        let stored_at_s = unix_time::of_s(meta.modified().ok()?);
        let (copies, bare) = (DEFAULT_COPIES, true);
        let metadata = PutMetadata { copies, bare, holders: Vec::new(), owner: None, stored_at_s };
        Some(Record { len: meta.len(), metadata, scrubbed_at_s: 0 })
    }

    /// Call before a change to the chunks, and hold the guard until the change is durable: no clean-stop note is
    /// written meanwhile.
    pub(super) fn begin_change(&self) -> Result<ChangeGuard<'_>, StoreError> {
        self.clean_stop.begin_change().map_err(StoreError::disk("remove the clean-stop note in", self.folder.root()))
    }

    /// Takes a chunk's file out of its shard, and its record out of the catalogue. `take` moves or deletes the file and
    /// returns whether it did. The caller has begun a change, and makes the removal durable by [`Shard::sync`].
    pub(super) fn take_out(
        &self,
        id: &ChunkId,
        operation: &'static str,
        take: impl FnOnce(&Path) -> io::Result<bool>,
    ) -> Result<Option<&Shard>, StoreError> {
        let shard = self.shard(id);
        let is_taken = shard.take_out(id, |file| {
            let is_taken = take(file)?;
            if is_taken {
                // Under the shard's lock, so that it precedes the change of any later put.
                self.queue.push(id, Change::Remove);
            }
            Ok(is_taken)
        });
        let is_taken = is_taken.map_err(StoreError::disk(operation, &self.folder.chunk(id)))?;
        Ok(is_taken.then_some(shard))
    }

    /// Removes a chunk's file durably.
    pub(super) fn remove(&self, id: &ChunkId) -> Result<bool, StoreError> {
        let _change = self.begin_change()?;
        let removed_from = self.take_out(id, "remove", |file| fs::remove_file(file).map(|()| true))?;
        if let Some(shard) = removed_from {
            shard.sync().map_err(StoreError::disk("fsync", &self.folder.shard(id.shard())))?;
        }
        Ok(removed_from.is_some())
    }
}
