//! The inputs of a cell: what happened, and the outcomes of the tasks that it asked for.
//!
//! An [`Input`] is nested by the part of the core that handles it: [`MemberInput`] concerns the other cells,
//! [`CopyInput`] concerns chunks and their copies.

use std::net::{IpAddr, SocketAddr};

use crate::id::{CellId, ChunkId};
use crate::wire::beacon::Beacon;
use crate::wire::datagram::Alert;
use crate::wire::holder_hints::HolderHint;
use crate::wire::shared_chunks::SharedChunk;

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The time of the last [`Output::WakeAt`](crate::cell::Output::WakeAt) has come, or the cell has just started.
    /// Carries the present state of the store.
    Wake(StoreStats),
    /// Something concerns the other cells of the colony.
    Member(MemberInput),
    /// Something concerns copies of chunks.
    Copy(CopyInput),
    /// The process is about to stop: announce it to the colony. Later inputs about copies have no effect.
    Shutdown,
}

impl From<MemberInput> for Input {
    fn from(input: MemberInput) -> Self {
        Self::Member(input)
    }
}

impl From<CopyInput> for Input {
    fn from(input: CopyInput) -> Self {
        Self::Copy(input)
    }
}

/// An input about the other cells of the colony.
#[derive(Debug, Clone)]
pub enum MemberInput {
    /// A beacon has arrived.
    Beacon {
        /// Source address of the datagram.
        from: IpAddr,
        /// The beacon.
        beacon: Beacon,
    },
    /// A probe datagram has arrived. Its sender waits for a [`Udp::ProbeReply`](crate::cell::Udp::ProbeReply).
    ProbeRequest {
        /// Where the reply goes.
        from: SocketAddr,
    },
    /// A [`Task::Probe`](crate::cell::Task::Probe) has ended.
    ProbeDone {
        /// Which task.
        task_id: TaskId,
        /// Its outcome.
        outcome: ProbeOutcome,
    },
    /// Another cell has asked to be a static peer of this one (`POST /join`).
    Join {
        /// Its address, as `HOST:PORT`.
        address: String,
    },
}

/// An input about copies of chunks.
#[derive(Debug, Clone)]
pub enum CopyInput {
    /// These copies are in the store: pages of the listing after the start, and later each copy that a put stores.
    Present(Vec<LocalCopy>),
    /// The listing after the start is complete.
    ListingDone,
    /// A copy is no longer in the store: it was bad, or it was removed.
    Gone(ChunkId),
    /// A [`Task::QueryHave`](crate::cell::Task::QueryHave) has ended.
    QueryDone {
        /// Which task.
        task_id: TaskId,
        /// Its outcome.
        outcome: QueryOutcome,
    },
    /// A [`Task::QueryShared`](crate::cell::Task::QueryShared) has ended.
    SharedDone {
        /// Which task.
        task_id: TaskId,
        /// Its outcome.
        outcome: SharedOutcome,
    },
    /// A put of a chunk that was in the store already has stated how many copies the colony must keep.
    CopiesStated {
        /// The chunk.
        chunk: ChunkId,
        /// The number, 1 to 255.
        copies: u8,
    },
    /// A [`Task::Send`](crate::cell::Task::Send) has ended.
    SendDone {
        /// Which task.
        task_id: TaskId,
        /// Its outcome.
        outcome: SendOutcome,
    },
    /// A [`Task::Fetch`](crate::cell::Task::Fetch) has ended.
    FetchDone {
        /// Which task.
        task_id: TaskId,
        /// Its outcome.
        outcome: FetchOutcome,
    },
    /// A [`Task::Audit`](crate::cell::Task::Audit) has ended.
    AuditDone {
        /// Which task.
        task_id: TaskId,
        /// Its outcome.
        outcome: AuditOutcome,
    },
    /// A local copy was hashed: by a [`Task::Verify`](crate::cell::Task::Verify) or
    /// [`Task::VerifyFinally`](crate::cell::Task::VerifyFinally), or at the request of another program.
    VerifyDone {
        /// The chunk.
        chunk: ChunkId,
        /// The result.
        outcome: VerifyOutcome,
    },
    /// The disk could not read a local copy that was needed: for a request, or to send it to another cell.
    ReadFailed(ChunkId),
    /// Another cell reports where copies are (`POST /chunks/holders`). The cells that it names are queried before this
    /// is believed.
    Hints(Vec<HolderHint>),
    /// Another cell reports a bad copy, by datagram or `POST /alert`.
    Alert(Alert),
    /// Start draining (`true`): copy all chunks to other cells and accept no new ones. Or stop draining (`false`).
    Drain(bool),
    /// Start a full scrub: hash all local copies now.
    Scrub,
}

/// Identifies a task, so that its outcome can be matched to it. Probes are numbered apart from all other tasks; among
/// either, no two tasks since the start of the cell have the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u64);

/// The state of the local store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreStats {
    /// Number of chunks stored.
    pub chunks: u64,
    /// Bytes that can still be stored.
    pub free_bytes: u64,
    /// Is there no space for another chunk of the maximum size?
    pub full: bool,
    /// Can the disk only be read?
    pub read_only: bool,
    /// Number of reads of copies since the start.
    pub reads: u64,
}

/// A copy in the local store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalCopy {
    /// The chunk.
    pub id: ChunkId,
    /// Its length in bytes.
    pub len: u32,
    /// Number of copies that the colony must keep.
    pub copies: u8,
    /// Is `copies` a guess, because the record is bare?
    pub bare: bool,
    /// Known holders, with or without this cell.
    pub holders: Vec<CellId>,
}

/// Which chunk of another cell is audited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditTarget {
    /// This chunk.
    Chunk(ChunkId),
    /// The first chunk after this id in the cell's listing (`GET /chunks?after=ID&limit=1`); after the last one, its
    /// first.
    After(ChunkId),
}

/// The outcome of a [`Task::Probe`](crate::cell::Task::Probe).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// No connection, or no response in time.
    Unreachable,
    /// An HTTP response other than a valid status: a cell that is too busy (503), or one of an old version without
    /// `/status`. It proves that a server is running, and nothing more.
    Responding,
    /// A cell: its address and its status.
    Cell(SocketAddr, Beacon),
}

/// The outcome of a [`Task::QueryHave`](crate::cell::Task::QueryHave).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryOutcome {
    /// The other cell has these of the chunks.
    Answered(Vec<ChunkId>),
    /// It did not answer, or not in time.
    Unanswered,
    /// It was not asked: the query waited too long for its turn on this cell.
    NotAsked,
}

/// The outcome of a [`Task::QueryShared`](crate::cell::Task::QueryShared).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SharedOutcome {
    /// The other cell holds these chunks, in ascending order. If they are as many as an answer can have, there may be
    /// more after the last one.
    Answered(Vec<SharedChunk>),
    /// It is of a version that does not know the request.
    CannotTell,
    /// It did not answer, not in time, or was not asked.
    Unanswered,
}

/// The outcome of a [`Task::Send`](crate::cell::Task::Send).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendOutcome {
    /// The other cell has stored the copy durably.
    Stored,
    /// The other cell has no space, or accepts no chunks.
    Refused,
    /// The other cell failed, or did not answer in time.
    Failed,
    /// The local copy does not hash to its id. Nothing was sent, and the copy is in quarantine.
    OwnCopyBad,
    /// The local copy does not exist any more.
    OwnCopyGone,
    /// The local copy could not be read now. The other cell is not at fault. If the disk is, that is reported apart, as
    /// [`CopyInput::ReadFailed`].
    OwnCopyUnreadable,
}

/// The outcome of a [`Task::Fetch`](crate::cell::Task::Fetch).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchOutcome {
    /// The chunk arrived, hashes to its id, and is stored durably.
    Stored,
    /// The other cell does not have it.
    Missing,
    /// The bytes do not hash to the chunk's id. Nothing was stored.
    Bad {
        /// Their hash.
        found: ChunkId,
    },
    /// The other cell did not answer, or not in time.
    Failed,
    /// The local store has no space, or its disk failed.
    NoRoom,
}

/// The outcome of a [`Task::Audit`](crate::cell::Task::Audit).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditOutcome {
    /// The complete copy arrived and hashes to its id.
    Good {
        /// The chunk.
        chunk: ChunkId,
        /// Its length in bytes.
        len: u32,
    },
    /// A complete response arrived and does not hash to the chunk's id.
    Bad {
        /// The chunk.
        chunk: ChunkId,
        /// The hash of the bytes.
        found: ChunkId,
        /// Their number.
        len: u32,
    },
    /// The cell does not have the chunk, or has no chunks at all.
    Missing,
    /// The cell did not answer, or not in time.
    Failed,
}

/// The result of hashing a local copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyOutcome {
    /// The copy hashes to its id.
    Good,
    /// It does not, and is in quarantine.
    Bad,
    /// There is no copy.
    Missing,
    /// The disk cannot read the copy now. It stays where it is.
    Unreadable,
    /// The copy was not examined: a lack of file descriptors, or a timeout.
    Failed,
}
