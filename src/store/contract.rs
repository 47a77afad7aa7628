//! The contract of a store: the trait, its types and its errors.

use std::io::{self, Read};
use std::path::PathBuf;

use crate::human;
use crate::id::{CellId, ChunkId};
use crate::store::damage::is_damage;

/// The most bytes that [`Store::save_state`] accepts: 64 KiB.
pub const MAX_STATE_BYTES: usize = 64 << 10;

/// The metadata of a put. A store may lose it; the chunk then has [`DEFAULT_COPIES`](crate::id::DEFAULT_COPIES) as a
/// guess, no holders and no owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutMetadata {
    /// How many copies the colony should keep, 1 to 255.
    pub copies: u8,
    /// Is `copies` a guess, the default? So it is in a record that was made from the file alone, or stored by a cell
    /// that does not know the number itself.
    pub bare: bool,
    /// The cells that should hold a copy, this one included; at most [`MAX_HOLDERS`](crate::id::MAX_HOLDERS).
    pub holders: Vec<CellId>,
    /// SHA-256 of the token that authorises deletion. Without an owner, no token does.
    pub owner: Option<[u8; 32]>,
    /// When the chunk arrived, in seconds since 1970 by this cell's clock.
    pub stored_at_s: u64,
}

/// What a successful [`Store::put`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The chunk is new, or replaced a bad copy: its bytes were written.
    Stored,
    /// A good copy was stored already: nothing was written.
    AlreadyPresent,
}

/// The result of [`Store::verify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyState {
    /// The bytes hash to the chunk's id.
    Good,
    /// The bytes were wrong. The copy is in quarantine now; the chunk is not stored.
    Bad,
    /// The disk cannot read the copy now. Nothing is known about its bytes, and it stays where it is: the fault can be
    /// a passing one.
    Unreadable,
    /// The chunk is not stored.
    Missing,
}

/// A chunk opened for reading.
pub struct OpenChunk {
    /// Length of the chunk in bytes.
    pub len: u64,
    /// Yields exactly `len` bytes, or an error. The bytes are not verified: the receiver must hash them.
    pub reader: Box<dyn Read + Send>,
}

/// How much a store holds and how much more it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Number of chunks stored.
    pub chunks: u64,
    /// Sum of their lengths in bytes.
    pub bytes: u64,
    /// Bytes of chunks that can still be added within the quota and the reserve.
    pub free_bytes: u64,
    /// False while the store counts its chunks after an unclean stop; `chunks` and `bytes` are too low until then.
    pub counted: bool,
    /// Whether the disk can only be read: every put fails with [`StoreError::ReadOnly`] until it can be written to.
    pub read_only: bool,
}

/// What a store knows about a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Length of the chunk in bytes.
    pub len: u64,
    /// The metadata of its put, with the holders as [`Store::set_holders`] last set them.
    pub metadata: PutMetadata,
    /// When the copy was last verified and good, in seconds since 1970; 0 for never.
    pub scrubbed_at_s: u64,
}

/// Why a store operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The body is not the chunk that was announced.
    #[error("the body hashes to {found}, not to {expected}; nothing was stored")]
    WrongHash {
        /// The announced id.
        expected: ChunkId,
        /// The id of the bytes that came.
        found: ChunkId,
    },
    /// The body ended before its declared length.
    #[error("the body ended after {}; nothing was stored", human::part(*received_bytes, *expected_bytes, "byte"))]
    Truncated {
        /// Declared length.
        expected_bytes: u64,
        /// Bytes received.
        received_bytes: u64,
    },
    /// Reading the body from its sender failed.
    #[error("cannot read the body: {0}; nothing was stored")]
    Body(#[source] io::Error),
    /// The chunk, or the state to save, exceeds its maximum. Nothing was read or written.
    #[error("{len_bytes} bytes exceed the limit of {limit_bytes} bytes")]
    TooLarge {
        /// Length of what was to be stored.
        len_bytes: u64,
        /// The most that is accepted.
        limit_bytes: u64,
    },
    /// The bytes do not fit within the reserve, the quota or the disk.
    #[error(
        "no room: {} needed, {} free; free space or use another cell",
        human::count(*needed_bytes, "byte"), human::count(*free_bytes, "byte")
    )]
    NoRoom {
        /// Length of what was to be stored.
        needed_bytes: u64,
        /// Bytes that are left within the quota and the reserve.
        free_bytes: u64,
    },
    /// A quota is set, and the store does not know yet how much of it is used.
    #[error("still counting chunks after an unclean stop, so the quota cannot be checked; retry later")]
    Counting,
    /// The disk can be read but not written to. Nothing was stored.
    #[error("{} is on a disk that cannot be written to; check the disk, or use another cell", path.display())]
    ReadOnly {
        /// The data folder.
        path: PathBuf,
    },
    /// The disk failed, see [`StoreError::is_unreadable`].
    #[error("cannot {operation} {}: {source}", path.display())]
    Disk {
        /// What failed, as a verb that takes the path: `open`, `fsync`.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl StoreError {
    /// Whether the disk could not read what was asked of it. Other failures, such as a lack of file descriptors, mean
    /// nothing about the disk.
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::Disk { source, .. } if is_damage(source))
    }
}

/// A set of chunks and a small piece of saved state.
///
/// Every method may be called from any thread at any time, and several threads may put the same chunk at once.
/// *Durable* means: survives a power cut.
pub trait Store: Send + Sync {
    /// Reads exactly `len` bytes from `body` and stores them under their SHA-256. If `expected` is given, the SHA-256
    /// must equal it.
    ///
    /// - After `Ok` the chunk is durable, and every later `open`, `contains` and `list` sees it.
    /// - After an error nothing of the body is stored or counted.
    /// - A body over [`MAX_CHUNK_BYTES`](crate::id::MAX_CHUNK_BYTES) is refused unread.
    /// - If the chunk is stored already, its copy is verified first. A good copy stays, and nothing is written; the
    ///   body is still read and verified. A bad copy goes into quarantine, and the chunk counts as new. So it does if
    ///   the disk cannot read the copy, which the new one then replaces.
    /// - The first put with holders or an owner determines the record's metadata; later puts do not change it.
    ///   Holders set by [`Store::set_holders`] stay. Until then, and after a put with bare metadata, the first put that
    ///   is not bare determines the copies.
    fn put(
        &self,
        expected: Option<&ChunkId>,
        len: u64,
        body: &mut dyn Read,
        metadata: &PutMetadata,
    ) -> Result<(ChunkId, PutOutcome), StoreError>;

    /// Opens a chunk, or returns `None` if it is not stored. An open chunk stays readable after its removal. An error
    /// means that the chunk can be stored or not.
    fn open(&self, id: &ChunkId) -> Result<Option<OpenChunk>, StoreError>;

    /// Whether the chunk is stored. Does not verify its bytes. An error means that this is unknown, and never that the
    /// chunk is gone.
    fn contains(&self, id: &ChunkId) -> Result<bool, StoreError>;

    /// Lists up to `limit` ids greater than `after`, in ascending order.
    fn list(&self, after: Option<&ChunkId>, limit: usize) -> Result<Vec<ChunkId>, StoreError>;

    /// Returns what is known about a chunk, or `None` if it is not stored. For some time after an unclean stop the
    /// result can be `None` for a stored chunk too.
    fn record(&self, id: &ChunkId) -> Result<Option<Record>, StoreError>;

    /// Lists up to `limit` chunks greater than `after` with their records, in ascending order. A chunk without a record
    /// gets one made from its bytes alone.
    ///
    /// Only an empty page is the last one: a page can be short because chunks were removed meanwhile. Reads no more
    /// than the page's ids and records.
    fn records(&self, after: Option<&ChunkId>, limit: usize) -> Result<Vec<(ChunkId, Record)>, StoreError>;

    /// Replaces the holders in a chunk's record, this cell included; those past [`MAX_HOLDERS`](crate::id::MAX_HOLDERS)
    /// are dropped. Does nothing if the chunk is not stored.
    ///
    /// A hint: the call does not wait for the disk, and the change can be lost without an error.
    fn set_holders(&self, id: &ChunkId, holders: &[CellId]);

    /// Sets the copies in a chunk's record, 1 to 255, if it is bare; then it no longer is. Does nothing to other
    /// records, or if the chunk is not stored. A hint, like [`Store::set_holders`].
    fn set_copies(&self, id: &ChunkId, copies: u8);

    /// Returns how full the store is. Cheap: reads counters only.
    fn usage(&self) -> Usage;

    /// Hashes every byte of a copy, read from the disk and not from a cache where the two can be told apart.
    ///
    /// - A good copy gets the time in its record. Like [`Store::set_holders`], that is a hint.
    /// - A bad copy goes into quarantine. A good copy that a concurrent put stores never does.
    /// - A copy that the disk cannot read stays as it is ([`CopyState::Unreadable`]).
    /// - An error means that the copy was not examined; it stays as it is.
    fn verify(&self, id: &ChunkId) -> Result<CopyState, StoreError>;

    /// Like [`Store::verify`] for the last of several attempts to read a copy: if the disk still cannot read it, it is
    /// bad and goes into quarantine. If it cannot be moved either, it stays and the result is an error or
    /// [`CopyState::Unreadable`].
    fn verify_finally(&self, id: &ChunkId) -> Result<CopyState, StoreError>;

    /// Moves a bad copy into quarantine, durably: the chunk is no longer stored and can be put again. Returns false if
    /// it is not stored.
    fn quarantine(&self, id: &ChunkId) -> Result<bool, StoreError>;

    /// Lists up to `limit` chunks greater than `after` that have bytes in quarantine, in ascending order. A store need
    /// not keep such bytes; one that does deletes them only when a good copy of the chunk is stored and their room is
    /// needed, and counts them as used.
    fn quarantined(&self, after: Option<&ChunkId>, limit: usize) -> Result<Vec<ChunkId>, StoreError>;

    /// Hashes the quarantined bytes of a chunk, and stores them again, durably, if they are good and the chunk is not
    /// stored. Returns whether it did. The record of the chunk is lost: it is bare.
    fn restore(&self, id: &ChunkId) -> Result<bool, StoreError>;

    /// Removes a copy, durably: the chunk is neither stored nor in quarantine. Returns false if it is not stored. After
    /// an error the chunk can be stored or not, and a power cut can bring it back.
    fn remove(&self, id: &ChunkId) -> Result<bool, StoreError>;

    /// Saves the cell's state, up to [`MAX_STATE_BYTES`], in place of the state saved before.
    ///
    /// After `Ok` the new state is durable and survives the loss of all records. Until then, and after an error, a
    /// power cut leaves the old state or the new one, whole. Saving the same state again writes nothing.
    fn save_state(&self, state: &[u8]) -> Result<(), StoreError>;

    /// Returns the last saved state, or `None` if there is none. Damaged state counts as none and is logged: a cell
    /// that has forgotten its state is better than one that does not start.
    fn load_state(&self) -> Result<Option<Vec<u8>>, StoreError>;

    /// Makes all records durable. For a clean stop: no promise of `put` depends on it.
    fn flush(&self) -> Result<(), StoreError>;
}
