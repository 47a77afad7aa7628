//! HTTP requests between cells, without the bytes of chunks, and how honest and lying cells respond.

use std::net::SocketAddr;

use cellsync::cell::{
    AuditOutcome, AuditTarget, CopyInput, FetchOutcome, Input, LocalCopy, MemberInput, ProbeOutcome, QueryOutcome,
    SendOutcome, SharedOutcome, TaskId,
};
use cellsync::id::ChunkId;
use cellsync::wire::beacon::Beacon;
use cellsync::wire::datagram::Alert;
use cellsync::wire::holder_hints::HolderHint;
use cellsync::wire::shared_chunks::{SharedChunk, SharedQuery};

use crate::disk::{Disk, PutResult};

/// Identifies a request of one cell, and its response.
pub(crate) type RequestId = u64;

/// Why a chunk is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Refetch,
    Audit,
}

#[derive(Debug, Clone)]
pub(crate) enum Request {
    Status,
    Have(Vec<ChunkId>),
    /// Is the copy that is sent good?
    Put {
        copy: LocalCopy,
        good: bool,
    },
    Get {
        target: AuditTarget,
        purpose: Purpose,
    },
    Hints(Vec<HolderHint>),
    Alert(Alert),
    Shared(SharedQuery),
}

#[derive(Debug, Clone)]
pub(crate) enum Response {
    /// There is no response: the request or the response is lost, or the cell is down.
    TimedOut,
    Status(SocketAddr, Beacon),
    Have(Vec<ChunkId>),
    Put(SendOutcome),
    Chunk {
        chunk: ChunkId,
        len: u32,
        good: bool,
        purpose: Purpose,
    },
    NotFound,
    Shared(Vec<SharedChunk>),
}

/// A task of the cell whose request is under way.
#[derive(Debug, Clone)]
pub(crate) enum Pending {
    Probe(TaskId),
    QueryHave(TaskId),
    Send(TaskId),
    Fetch(TaskId, LocalCopy),
    Audit(TaskId),
    QueryShared(TaskId),
}

/// How a cell responds to requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behavior {
    Honest,
    /// Claims to have every chunk.
    ClaimsAll,
    /// Claims to have no chunk.
    ClaimsNothing,
    /// Sends bad bytes.
    BadBytes,
    /// Acknowledges copies without storing them.
    DropsChunks,
}

/// The hash of the bad bytes that are sent for this chunk.
pub(crate) fn bad_hash(chunk: ChunkId) -> ChunkId {
    ChunkId::from_bytes(chunk.as_bytes().map(|byte| !byte))
}

impl Behavior {
    /// Responds to `POST /chunks/have`.
    pub(crate) fn have(self, disk: &Disk, mut ids: Vec<ChunkId>) -> Response {
        match self {
            Self::ClaimsAll => {}
            Self::ClaimsNothing => ids.clear(),
            Self::Honest | Self::BadBytes | Self::DropsChunks => ids.retain(|id| disk.has(id)),
        }
        Response::Have(ids)
    }

    /// Responds to `PUT /chunk/{id}`. True if a new copy was stored.
    pub(crate) fn put(self, disk: &mut Disk, copy: &LocalCopy, good: bool) -> (Response, bool) {
        if !good {
            return (Response::Put(SendOutcome::Failed), false);
        }
        if self == Self::DropsChunks {
            return (Response::Put(SendOutcome::Stored), false);
        }
        if disk.state.draining {
            return (Response::Put(SendOutcome::Refused), false);
        }
        match disk.put(copy) {
            PutResult::Stored => (Response::Put(SendOutcome::Stored), true),
            PutResult::AlreadyPresent => (Response::Put(SendOutcome::Stored), false),
            PutResult::NoRoom => (Response::Put(SendOutcome::Refused), false),
        }
    }

    /// Responds to `GET /chunk/{id}` with `X-Hops: 0`.
    pub(crate) fn get(self, disk: &Disk, target: AuditTarget, purpose: Purpose) -> Response {
        let chunk = match target {
            AuditTarget::Chunk(id) => Some(id),
            AuditTarget::After(id) => disk.after(&id),
        };
        match chunk.and_then(|id| Some((id, disk.get(&id)?))) {
            Some((chunk, copy)) => {
                Response::Chunk { chunk, len: copy.len, good: copy.good && self != Self::BadBytes, purpose }
            }
            None => Response::NotFound,
        }
    }
}

impl Pending {
    /// The input that reports the end of the task. A good fetched copy is stored.
    pub(crate) fn end(self, response: Response, disk: &mut Disk) -> Input {
        match self {
            Self::Probe(task_id) => {
                let outcome = match response {
                    Response::Status(address, beacon) => ProbeOutcome::Cell(address, beacon),
                    _ => ProbeOutcome::Unreachable,
                };
                Input::Member(MemberInput::ProbeDone { task_id, outcome })
            }
            Self::QueryHave(task_id) => {
                let outcome = match response {
                    Response::Have(ids) => QueryOutcome::Answered(ids),
                    _ => QueryOutcome::Unanswered,
                };
                Input::Copy(CopyInput::QueryDone { task_id, outcome })
            }
            Self::QueryShared(task_id) => {
                let outcome = match response {
                    Response::Shared(chunks) => SharedOutcome::Answered(chunks),
                    Response::NotFound => SharedOutcome::CannotTell,
                    _ => SharedOutcome::Unanswered,
                };
                Input::Copy(CopyInput::SharedDone { task_id, outcome })
            }
            Self::Send(task_id) => {
                let outcome = if let Response::Put(outcome) = response { outcome } else { SendOutcome::Failed };
                Input::Copy(CopyInput::SendDone { task_id, outcome })
            }
            Self::Fetch(task_id, copy) => {
                let outcome = match response {
                    Response::Chunk { len, good: true, .. } => match disk.put(&LocalCopy { len, ..copy }) {
                        PutResult::NoRoom => FetchOutcome::NoRoom,
                        PutResult::Stored | PutResult::AlreadyPresent => FetchOutcome::Stored,
                    },
                    Response::Chunk { chunk, good: false, .. } => FetchOutcome::Bad { found: bad_hash(chunk) },
                    Response::NotFound => FetchOutcome::Missing,
                    _ => FetchOutcome::Failed,
                };
                Input::Copy(CopyInput::FetchDone { task_id, outcome })
            }
            Self::Audit(task_id) => {
                let outcome = match response {
                    Response::Chunk { chunk, len, good: true, .. } => AuditOutcome::Good { chunk, len },
                    Response::Chunk { chunk, len, good: false, .. } => {
                        AuditOutcome::Bad { chunk, found: bad_hash(chunk), len }
                    }
                    Response::NotFound => AuditOutcome::Missing,
                    _ => AuditOutcome::Failed,
                };
                Input::Copy(CopyInput::AuditDone { task_id, outcome })
            }
        }
    }
}
