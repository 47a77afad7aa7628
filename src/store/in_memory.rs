//! A store in memory, for tests of the modules above. It keeps every promise of [`Store`] except durability.

// A shell: it reads the wall clock for the time of a verification.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use crate::id::{CellId, ChunkId, MAX_CHUNK_BYTES, MAX_HOLDERS};
use crate::store::contract::{
    CopyState, MAX_STATE_BYTES, OpenChunk, PutMetadata, PutOutcome, Record, Store, StoreError, Usage,
};
use crate::sync::lock;
use crate::unix_time;

type Chunks = BTreeMap<ChunkId, StoredChunk>;

/// Chunks in a map, up to a quota.
#[derive(Debug)]
pub struct MemoryStore {
    quota_bytes: u64,
    chunks: Mutex<Chunks>,
    state: Mutex<Option<Vec<u8>>>,
}

#[derive(Debug)]
struct StoredChunk {
    bytes: Arc<[u8]>,
    metadata: PutMetadata,
    /// No put has named holders or an owner yet: the first that does determines the metadata.
    open: bool,
    scrubbed_at_s: u64,
}

impl StoredChunk {
    fn record(&self) -> Record {
        Record { len: self.bytes.len() as u64, metadata: self.metadata.clone(), scrubbed_at_s: self.scrubbed_at_s }
    }

    fn set_copies(&mut self, copies: u8) {
        (self.metadata.copies, self.metadata.bare) = (copies, false);
    }
}

impl MemoryStore {
    /// Makes an empty store for up to `quota_bytes` bytes of chunks.
    pub fn new(quota_bytes: u64) -> Self {
        Self { quota_bytes, chunks: Mutex::default(), state: Mutex::default() }
    }

    fn free_bytes(&self, chunks: &Chunks) -> u64 {
        self.quota_bytes.saturating_sub(used_bytes(chunks))
    }

    fn check_room(&self, chunks: &Chunks, needed_bytes: u64) -> Result<(), StoreError> {
        let free_bytes = self.free_bytes(chunks);
        if needed_bytes > free_bytes { Err(StoreError::NoRoom { needed_bytes, free_bytes }) } else { Ok(()) }
    }
}

fn used_bytes(chunks: &Chunks) -> u64 {
    chunks.values().map(|chunk| chunk.bytes.len() as u64).sum()
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
            return Err(StoreError::TooLarge { len_bytes: len, limit_bytes: MAX_CHUNK_BYTES as u64 });
        }
        if expected.is_none_or(|id| !lock(&self.chunks).contains_key(id)) {
            self.check_room(&lock(&self.chunks), len)?;
        }
        let mut bytes = Vec::new();
        body.take(len).read_to_end(&mut bytes).map_err(StoreError::Body)?;
        let received_bytes = bytes.len() as u64;
        if received_bytes != len {
            return Err(StoreError::Truncated { expected_bytes: len, received_bytes });
        }
        let found = ChunkId::of(&bytes);
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            return Err(StoreError::WrongHash { expected: *expected, found });
        }
        let mut metadata = metadata.clone();
        metadata.holders.truncate(MAX_HOLDERS);
        let open = metadata.bare || (metadata.holders.is_empty() && metadata.owner.is_none());
        let mut chunks = lock(&self.chunks);
        if let Some(chunk) = chunks.get_mut(&found) {
            if chunk.open && !open {
                let holders = std::mem::take(&mut chunk.metadata.holders);
                chunk.metadata = if holders.is_empty() { metadata } else { PutMetadata { holders, ..metadata } };
                chunk.open = false;
            } else if chunk.metadata.bare && !metadata.bare {
                chunk.set_copies(metadata.copies);
            }
            return Ok((found, PutOutcome::AlreadyPresent));
        }
        self.check_room(&chunks, len)?;
        chunks.insert(found, StoredChunk { bytes: bytes.into(), metadata, open, scrubbed_at_s: 0 });
        Ok((found, PutOutcome::Stored))
    }

    fn open(&self, id: &ChunkId) -> Result<Option<OpenChunk>, StoreError> {
        Ok(lock(&self.chunks).get(id).map(|chunk| OpenChunk {
            len: chunk.bytes.len() as u64,
            reader: Box::new(Cursor::new(Arc::clone(&chunk.bytes))),
        }))
    }

    fn contains(&self, id: &ChunkId) -> Result<bool, StoreError> {
        Ok(lock(&self.chunks).contains_key(id))
    }

    fn list(&self, after: Option<&ChunkId>, limit: usize) -> Result<Vec<ChunkId>, StoreError> {
        let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(*id));
        Ok(lock(&self.chunks).range((from, Bound::Unbounded)).take(limit).map(|(id, _)| *id).collect())
    }

    fn record(&self, id: &ChunkId) -> Result<Option<Record>, StoreError> {
        Ok(lock(&self.chunks).get(id).map(StoredChunk::record))
    }

    fn records(&self, after: Option<&ChunkId>, limit: usize) -> Result<Vec<(ChunkId, Record)>, StoreError> {
        let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(*id));
        let chunks = lock(&self.chunks);
        Ok(chunks.range((from, Bound::Unbounded)).take(limit).map(|(id, chunk)| (*id, chunk.record())).collect())
    }

    fn set_holders(&self, id: &ChunkId, holders: &[CellId]) {
        if let Some(chunk) = lock(&self.chunks).get_mut(id) {
            chunk.metadata.holders = holders.iter().take(MAX_HOLDERS).copied().collect();
        }
    }

    fn set_copies(&self, id: &ChunkId, copies: u8) {
        if let Some(chunk) = lock(&self.chunks).get_mut(id).filter(|chunk| chunk.metadata.bare) {
            chunk.set_copies(copies);
        }
    }

    fn usage(&self) -> Usage {
        let chunks = lock(&self.chunks);
        let bytes = used_bytes(&chunks);
        Usage {
            chunks: chunks.len() as u64,
            bytes,
            free_bytes: self.free_bytes(&chunks),
            counted: true,
            read_only: false,
        }
    }

    fn verify(&self, id: &ChunkId) -> Result<CopyState, StoreError> {
        let mut chunks = lock(&self.chunks);
        let Some(chunk) = chunks.get_mut(id) else { return Ok(CopyState::Missing) };
        if ChunkId::of(&chunk.bytes) == *id {
            chunk.scrubbed_at_s = unix_time::now_s();
            return Ok(CopyState::Good);
        }
        chunks.remove(id);
        Ok(CopyState::Bad)
    }

    fn verify_finally(&self, id: &ChunkId) -> Result<CopyState, StoreError> {
        self.verify(id)
    }

    fn quarantine(&self, id: &ChunkId) -> Result<bool, StoreError> {
        Ok(lock(&self.chunks).remove(id).is_some())
    }

    fn quarantined(&self, _: Option<&ChunkId>, _: usize) -> Result<Vec<ChunkId>, StoreError> {
        Ok(Vec::new())
    }

    fn restore(&self, _: &ChunkId) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn remove(&self, id: &ChunkId) -> Result<bool, StoreError> {
        Ok(lock(&self.chunks).remove(id).is_some())
    }

    fn save_state(&self, state: &[u8]) -> Result<(), StoreError> {
        if state.len() > MAX_STATE_BYTES {
            let (len_bytes, limit_bytes) = (state.len() as u64, MAX_STATE_BYTES as u64);
            return Err(StoreError::TooLarge { len_bytes, limit_bytes });
        }
        *lock(&self.state) = Some(state.to_vec());
        Ok(())
    }

    fn load_state(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(lock(&self.state).clone())
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
