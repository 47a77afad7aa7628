//! Where a cell keeps its copies.
//!
//! [`Store`] is the promise; `files` keeps it on a disk, `memory` keeps as much of it as memory can (for tests). Both
//! run the same contract suite. Bytes go straight from the network into a store and back: they never pass through the
//! cell's core, and no more than a buffer of them is in memory at a time.

#[cfg(target_os = "linux")]
mod files;
mod in_memory;

use std::io::{self, Read};

use crate::id::CellId;
use crate::id::ChunkId;

#[cfg(target_os = "linux")]
pub use crate::store::files::{FileStore, OpenError, StoreOptions, panic_is_caught};
pub use crate::store::in_memory::MemoryStore;

/// What a put tells about a chunk besides its bytes. Hints: all of it can be lost and found again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutMetadata {
    /// How many copies the colony is to keep; 1 to 255.
    pub copies: u8,
    /// The cells chosen to hold a copy, this one included; at most [`MAX_HOLDERS`].
    pub holders: Vec<CellId>,
    /// SHA-256 of the token that may delete the chunk; without it nobody can.
    pub owner: Option<[u8; 32]>,
    /// When the chunk came, in seconds since 1970 by this cell's own clock.
    pub stored_at_s: u64,
}

pub use crate::id::{DEFAULT_COPIES, MAX_HOLDERS};

/// The most that [`Store::save_state`] takes, in bytes.
pub const MAX_STATE_BYTES: usize = 64 << 10;

/// Did a put bring something new?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The chunk was not here before.
    Stored,
    /// The chunk was here already; nothing was written.
    AlreadyPresent,
}

/// What a look at every byte of a copy told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyState {
    /// The copy is whole.
    Good,
    /// It was damaged, or the disk could not give it. It is set aside now: the chunk is no longer here.
    Bad,
    /// The chunk is not here.
    Missing,
}

/// A chunk opened for reading. The reader yields exactly `len` bytes, or an error.
pub struct OpenChunk {
    /// Length in bytes.
    pub len: u64,
    /// The bytes, not verified: whoever receives them hashes them.
    pub reader: Box<dyn Read + Send>,
}

/// How much a store holds and how much more it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Chunks held.
    pub chunks: u64,
    /// Bytes of those chunks.
    pub bytes: u64,
    /// Bytes that may still be added before the reserve or the quota is reached.
    pub free_bytes: u64,
    /// False while `chunks` and `bytes` are still being counted after an unclean stop.
    pub counted: bool,
}

/// What the catalogue knows about a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Length of the chunk in bytes.
    pub len: u64,
    /// What the put told.
    pub metadata: PutMetadata,
    /// When the copy was last re-hashed, in seconds since 1970; 0 for never.
    pub scrubbed_at_s: u64,
}

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The bytes are not what they were said to be; nothing was kept.
    #[error("the bytes hash to {found}, not to {expected}")]
    WrongHash {
        /// The name they came under.
        expected: ChunkId,
        /// The name they have.
        found: ChunkId,
    },
    /// The body ended before its declared length; nothing was kept.
    #[error("the body ended after {got} of {expected} bytes")]
    Truncated {
        /// Declared length, in bytes.
        expected: u64,
        /// What came, in bytes.
        got: u64,
    },
    /// Reading the body from the sender failed; nothing was kept.
    #[error("reading the body: {0}")]
    Body(#[source] io::Error),
    /// The chunk, or what is to be kept of facts, is larger than it may be; nothing was read or written.
    #[error("{len} bytes are over the limit")]
    TooLarge {
        /// Length, in bytes.
        len: u64,
    },
    /// The reserve or the quota would be touched, or the disk is full; nothing was kept.
    #[error("no room: {needed} bytes are needed and {free} may still be used")]
    NoRoom {
        /// Bytes of the chunk.
        needed: u64,
        /// Bytes that may still be used.
        free: u64,
    },
    /// A quota is set and what it holds is still being counted.
    #[error("the chunks are still being counted after an unclean stop")]
    Counting,
    /// The disk failed.
    #[error("{doing}: {source}")]
    Disk {
        /// What was being done, with the path.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A place for chunks.
///
/// All calls may be made from any thread at any time, and the same chunk may be put by several at once.
pub trait Store: Send + Sync {
    /// Reads exactly `len` bytes from `body` and keeps them under their SHA-256, which must be `expected` where that
    /// is given.
    ///
    /// When this returns `Ok`, the bytes survive a power cut and every later `open`, `has` and `list` sees them. When
    /// it returns an error, nothing of them is kept or counted. A chunk that is here already is not written again,
    /// if its bytes are still good; its body is read and checked all the same, and its note counts only where nothing
    /// better is known. A damaged copy is set aside, and the chunk counts as new. At most a buffer of the body is in
    /// memory at a time.
    fn put(
        &self,
        expected: Option<&ChunkId>,
        len: u64,
        body: &mut dyn Read,
        metadata: &PutMetadata,
    ) -> Result<(ChunkId, PutOutcome), StoreError>;

    /// Opens a chunk, or `None` if it is not here. An open chunk stays readable while others come and go.
    fn open(&self, id: &ChunkId) -> Result<Option<OpenChunk>, StoreError>;

    /// Is the chunk here? Says nothing about whether its bytes are still good.
    fn contains(&self, id: &ChunkId) -> Result<bool, StoreError>;

    /// Up to `limit` ids in ascending order, those greater than `after`.
    fn list(&self, after: Option<&ChunkId>, limit: usize) -> Result<Vec<ChunkId>, StoreError>;

    /// What is known about a chunk that is here. A record can be missing for a while after an unclean stop; the chunk
    /// is here all the same.
    fn record(&self, id: &ChunkId) -> Result<Option<Record>, StoreError>;

    /// Up to `limit` chunks in ascending order, those greater than `after`, with what is known about each; of one
    /// without a record that is what its file alone tells. An empty page is the last; a shorter one need not be, as chunks
    /// go meanwhile. Costs no more than reading the page's ids and records.
    fn records(&self, after: Option<&ChunkId>, limit: usize) -> Result<Vec<(ChunkId, Record)>, StoreError>;

    /// Notes who is believed to have a copy of a chunk, this cell included, in place of who was believed to; no more
    /// than [`MAX_HOLDERS`]. A hint: it does not wait for the disk, can be lost, and says nothing if it is. Of a chunk
    /// that is not here nothing is noted.
    fn set_holders(&self, id: &ChunkId, holders: &[CellId]);

    /// How full the store is. Cheap: touches no more than the file system's own counters.
    fn usage(&self) -> Usage;

    /// Hashes the copy that is here, from the disk and not from memory where that can be told apart, and notes when, if
    /// it is good; that note is a hint like those of [`Store::set_holders`]. A bad copy, also one that the disk cannot
    /// give, is set aside as [`Store::quarantine`] does it, but never one that a put brings meanwhile. An error means
    /// that nobody knows; the copy is left as it is.
    fn verify(&self, id: &ChunkId) -> Result<CopyState, StoreError>;

    /// Sets a bad copy aside, durably: the chunk is no longer here and may be put again. False if it is not here.
    fn quarantine(&self, id: &ChunkId) -> Result<bool, StoreError>;

    /// Removes a copy that is one too many, durably: the chunk is no longer here, nor set aside. False if it is not
    /// here. After an error it can be here or not, and after a power cut again.
    fn remove(&self, id: &ChunkId) -> Result<bool, StoreError>;

    /// Keeps up to [`MAX_STATE_BYTES`] that the cell must not forget, in place of what was kept before. When this
    /// returns `Ok` they survive a power cut, and the loss of all records; until then what was kept before does. The
    /// same facts again write nothing.
    fn save_state(&self, state: &[u8]) -> Result<(), StoreError>;

    /// What was kept last. `None` if nothing ever was, or if it was damaged since, which the log tells: a cell that
    /// has forgotten is better than one that does not start.
    fn load_state(&self) -> Result<Option<Vec<u8>>, StoreError>;

    /// Writes out what was not yet written of the catalogue. For a clean stop; no promise of `put` waits for it.
    fn flush(&self) -> Result<(), StoreError>;
}
