//! Storing a chunk.

use std::io::{self, ErrorKind, Read};

use crate::id::{ChunkId, DEFAULT_COPIES, MAX_CHUNK_BYTES, MAX_HOLDERS};
use crate::store::contract::{CopyState, PutMetadata, PutOutcome, Record, StoreError};
use crate::store::files::capacity::Allocation;
use crate::store::files::change::Change;
use crate::store::files::fs::{file_len, open_without_atime};
use crate::store::files::hash::hash_body;
use crate::store::files::inner::Inner;
use crate::store::files::shard::PublishedName;
use crate::store::files::staging::StagedChunk;
use crate::unix_time;

impl Inner {
    pub(super) fn put(
        &self,
        expected: Option<&ChunkId>,
        len: u64,
        body: &mut dyn Read,
        metadata: &PutMetadata,
    ) -> Result<(ChunkId, PutOutcome), StoreError> {
        if len > MAX_CHUNK_BYTES as u64 {
            return Err(StoreError::TooLarge { len_bytes: len, limit_bytes: MAX_CHUNK_BYTES as u64 });
        }
        // Also for a chunk that is stored: a disk that the kernel has made read-only may never have had its name.
        let put = self.capacity.ensure_writable();
        let put = put.and_then(|()| self.try_put(expected, len, body, metadata));
        match put {
            Err(StoreError::Disk { source, .. }) if source.kind() == ErrorKind::ReadOnlyFilesystem => {
                self.capacity.set_read_only(&source);
                Err(self.capacity.read_only())
            }
            put => put,
        }
    }

    fn try_put(
        &self,
        expected: Option<&ChunkId>,
        len: u64,
        body: &mut dyn Read,
        metadata: &PutMetadata,
    ) -> Result<(ChunkId, PutOutcome), StoreError> {
        let present = match expected {
            Some(id) if self.shard(id).is_unproven(id) => None,
            Some(id) => (self.stored_copy(id)? == CopyState::Good).then_some(id),
            None => None,
        };
        let (id, outcome) = match present {
            Some(id) => self.put_present(id, len, body).map(|()| (*id, PutOutcome::AlreadyPresent))?,
            None => self.put_new(expected, len, body)?,
        };
        let mut metadata = metadata.clone();
        metadata.holders.truncate(MAX_HOLDERS);
        let record = Record { len, metadata, scrubbed_at_s: 0 };
        let change = match outcome {
            PutOutcome::Stored => Change::put(record),
            PutOutcome::AlreadyPresent => Change::fill(record),
        };
        self.queue.push(&id, change);
        Ok((id, outcome))
    }

    /// Stores a chunk again that is not stored and of which the quarantine has a good file. The file stays until its
    /// room is needed. Returns whether there was one.
    pub(super) fn restore(&self, id: &ChunkId) -> Result<bool, StoreError> {
        let path = self.folder.chunk(id);
        if file_len(&path).map_err(StoreError::disk("find", &path))?.is_some() {
            return Ok(false);
        }
        let folder = self.folder.quarantine();
        let good = self.quarantine.good_file(id).map_err(StoreError::disk("read", &folder))?;
        let Some((quarantined, len)) = good else { return Ok(false) };
        let mut file = open_without_atime(&quarantined).map_err(StoreError::disk("open", &quarantined))?;
        let stored_at_s = file.metadata().and_then(|meta| meta.modified()).map_or(0, unix_time::of_s);
        let (copies, bare) = (DEFAULT_COPIES, true);
        let metadata = PutMetadata { copies, bare, holders: Vec::new(), owner: None, stored_at_s };
        let (_, outcome) = self.put(Some(id), len, &mut file, &metadata)?;
        log::info!("the quarantined copy of chunk {} is good, and was stored again", id.short());
        Ok(outcome == PutOutcome::Stored)
    }

    /// Reads and verifies the body of a chunk that is stored already.
    fn put_present(&self, id: &ChunkId, len: u64, body: &mut dyn Read) -> Result<(), StoreError> {
        check_id(Some(id), hash_body(body, len, |_| Ok(()))?)?;
        let path = self.folder.chunk(id);
        match self.shard(id).find(id, len).map_err(StoreError::disk("find", &path))? {
            Some(name) => self.make_durable(id, len, &name),
            None => Err(StoreError::disk("store", &path)(io::Error::other("the stored copy went bad during the put"))),
        }
    }

    fn put_new(
        &self,
        expected: Option<&ChunkId>,
        len: u64,
        body: &mut dyn Read,
    ) -> Result<(ChunkId, PutOutcome), StoreError> {
        let _allocation = self.allocate(expected, len)?;
        let mut staged = StagedChunk::create(&self.folder.tmp(), len)?;
        let id = check_id(expected, staged.fill(body)?)?;
        staged.sync()?;
        // A copy can be stored already: one whose id was not announced, or one that another put stored meanwhile. A bad
        // one goes into quarantine here, so that `publish` finds only a good one, or one that the disk cannot read.
        let replace = self.stored_copy(&id)? == CopyState::Unreadable;
        let path = self.folder.chunk(&id);
        let _change = self.begin_change()?;
        let published = self.shard(&id).publish(&id, len, staged.path(), replace);
        let (outcome, name) = published.map_err(StoreError::disk_or_full("create", &path, len))?;
        if outcome == PutOutcome::Stored {
            staged.set_published();
        }
        self.make_durable(&id, len, &name)?;
        if outcome == PutOutcome::Stored
            && let Err(e) = self.quarantine.release(&id)
        {
            log::warn!("cannot release the quarantined copy of chunk {}: {e}", id.short());
        }
        Ok((id, outcome))
    }

    /// Sets room aside. If room is short, quarantined files whose chunks are stored again make way. So do those of this
    /// chunk once it is stored: without their room a full cell could never replace its bad copy.
    fn allocate(&self, expected: Option<&ChunkId>, len: u64) -> Result<Allocation<'_>, StoreError> {
        match self.capacity.allocate(len, 0) {
            Err(StoreError::NoRoom { .. }) => {
                if let Err(e) = self.quarantine.make_room(len, |id| self.folder.chunk(id)) {
                    log::warn!("cannot make room in the quarantine: {e}");
                }
                self.capacity.allocate(len, expected.map_or(0, |id| self.quarantine.bytes_of(id)))
            }
            allocated => allocated,
        }
    }

    fn make_durable(&self, id: &ChunkId, len: u64, name: &PublishedName) -> Result<(), StoreError> {
        let folder = self.folder.shard(id.shard());
        self.shard(id).make_durable(name).map_err(StoreError::disk_or_full("fsync", &folder, len))
    }
}

fn check_id(expected: Option<&ChunkId>, found: ChunkId) -> Result<ChunkId, StoreError> {
    match expected {
        Some(expected) if *expected != found => Err(StoreError::WrongHash { expected: *expected, found }),
        _ => Ok(found),
    }
}
