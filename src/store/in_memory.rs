//! A store in memory, for tests of what stands above it. It keeps every promise but the one about power cuts.

// A shell: it notes by the wall clock when a copy was looked at.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::id::CellId;
use crate::id::{ChunkId, MAX_CHUNK_BYTES};
use crate::store::{
    CopyState, MAX_HOLDERS, MAX_STATE_BYTES, OpenChunk, PutMetadata, PutOutcome, Record, Store, StoreError, Usage,
};
use crate::sync::lock;
use crate::unix_time;

/// Chunks in a map, up to a quota.
#[derive(Debug)]
pub struct MemoryStore {
    quota: u64,
    chunks: Mutex<BTreeMap<ChunkId, Kept>>,
    state: Mutex<Option<Vec<u8>>>,
}

#[derive(Debug)]
struct Kept {
    bytes: Arc<[u8]>,
    metadata: PutMetadata,
    /// Did no put tell anything of the chunk but its bytes?
    bare: bool,
    scrubbed_at_s: u64,
}

impl Kept {
    fn record(&self) -> Record {
        Record { len: self.bytes.len() as u64, metadata: self.metadata.clone(), scrubbed_at_s: self.scrubbed_at_s }
    }
}

impl MemoryStore {
    /// An empty store for up to `quota` bytes.
    pub fn new(quota: u64) -> Self {
        Self { quota, chunks: Mutex::default(), state: Mutex::default() }
    }

    fn chunks(&self) -> MutexGuard<'_, BTreeMap<ChunkId, Kept>> {
        lock(&self.chunks)
    }

    fn state(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        lock(&self.state)
    }
}

fn used(chunks: &BTreeMap<ChunkId, Kept>) -> u64 {
    chunks.values().map(|kept| kept.bytes.len() as u64).sum()
}

impl Store for MemoryStore {
    fn put(
        &self,
        expected: Option<&ChunkId>,
        len: u64,
        body: &mut dyn Read,
        metadata: &PutMetadata,
    ) -> Result<(ChunkId, PutOutcome), StoreError> {
        if len > MAX_CHUNK_BYTES as u64 {
            return Err(StoreError::TooLarge { len });
        }
        let room = |chunks: &BTreeMap<ChunkId, Kept>| {
            let free = self.quota.saturating_sub(used(chunks));
            if len > free { Err(StoreError::NoRoom { needed: len, free }) } else { Ok(()) }
        };
        if expected.is_none_or(|id| !self.chunks().contains_key(id)) {
            room(&self.chunks())?;
        }
        let mut bytes = Vec::new();
        body.take(len).read_to_end(&mut bytes).map_err(StoreError::Body)?;
        if bytes.len() as u64 != len {
            return Err(StoreError::Truncated { expected: len, got: bytes.len() as u64 });
        }
        let found = ChunkId::of(&bytes);
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            return Err(StoreError::WrongHash { expected: *expected, found });
        }
        let mut metadata = metadata.clone();
        metadata.holders.truncate(MAX_HOLDERS);
        let bare = metadata.holders.is_empty() && metadata.owner.is_none();
        let mut chunks = self.chunks();
        if let Some(kept) = chunks.get_mut(&found) {
            if kept.bare && !bare {
                let holders = std::mem::take(&mut kept.metadata.holders);
                kept.metadata = if holders.is_empty() { metadata } else { PutMetadata { holders, ..metadata } };
                kept.bare = false;
            }
            return Ok((found, PutOutcome::AlreadyPresent));
        }
        room(&chunks)?;
        chunks.insert(found, Kept { bytes: bytes.into(), metadata, bare, scrubbed_at_s: 0 });
        Ok((found, PutOutcome::Stored))
    }

    fn open(&self, id: &ChunkId) -> Result<Option<OpenChunk>, StoreError> {
        Ok(self.chunks().get(id).map(|kept| OpenChunk {
            len: kept.bytes.len() as u64,
            reader: Box::new(Cursor::new(Arc::clone(&kept.bytes))),
        }))
    }

    fn contains(&self, id: &ChunkId) -> Result<bool, StoreError> {
        Ok(self.chunks().contains_key(id))
    }

    fn list(&self, after: Option<&ChunkId>, limit: usize) -> Result<Vec<ChunkId>, StoreError> {
        let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(*id));
        Ok(self.chunks().range((from, Bound::Unbounded)).take(limit).map(|(id, _)| *id).collect())
    }

    fn record(&self, id: &ChunkId) -> Result<Option<Record>, StoreError> {
        Ok(self.chunks().get(id).map(Kept::record))
    }

    fn records(&self, after: Option<&ChunkId>, limit: usize) -> Result<Vec<(ChunkId, Record)>, StoreError> {
        let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(*id));
        let chunks = self.chunks();
        Ok(chunks.range((from, Bound::Unbounded)).take(limit).map(|(id, kept)| (*id, kept.record())).collect())
    }

    fn set_holders(&self, id: &ChunkId, holders: &[CellId]) {
        if let Some(kept) = self.chunks().get_mut(id) {
            kept.metadata.holders = holders.iter().take(MAX_HOLDERS).copied().collect();
        }
    }

    fn usage(&self) -> Usage {
        let chunks = self.chunks();
        let bytes = used(&chunks);
        let free_bytes = self.quota.saturating_sub(bytes);
        Usage { chunks: chunks.len() as u64, bytes, free_bytes, counted: true }
    }

    fn verify(&self, id: &ChunkId) -> Result<CopyState, StoreError> {
        let mut chunks = self.chunks();
        let Some(kept) = chunks.get_mut(id) else { return Ok(CopyState::Missing) };
        if ChunkId::of(&kept.bytes) == *id {
            kept.scrubbed_at_s = unix_time::now_s();
            return Ok(CopyState::Good);
        }
        chunks.remove(id);
        Ok(CopyState::Bad)
    }

    fn quarantine(&self, id: &ChunkId) -> Result<bool, StoreError> {
        Ok(self.chunks().remove(id).is_some())
    }

    fn remove(&self, id: &ChunkId) -> Result<bool, StoreError> {
        Ok(self.chunks().remove(id).is_some())
    }

    fn save_state(&self, state: &[u8]) -> Result<(), StoreError> {
        if state.len() > MAX_STATE_BYTES {
            return Err(StoreError::TooLarge { len: state.len() as u64 });
        }
        *self.state() = Some(state.to_vec());
        Ok(())
    }

    fn load_state(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.state().clone())
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
