//! What cells say to each other over HTTP, with the bytes left out; and how a cell answers at its door, honest or not.

use std::net::SocketAddr;

use cellsync::cell::{
    AuditOutcome, AuditTarget, CopyInput, FetchOutcome, Input, LocalCopy, MemberInput, ProbeOutcome, SendOutcome,
    TaskId,
};
use cellsync::id::ChunkId;
use cellsync::wire::beacon::Beacon;
use cellsync::wire::datagram::Alert;
use cellsync::wire::holder_hints::HolderHint;

use crate::disk::{Disk, Taken};

/// Binds an answer to its call.
pub(crate) type CallId = u64;

/// What a chunk is fetched for: audits do not count as bytes moved to heal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Refetch,
    Audit,
}

#[derive(Debug, Clone)]
pub(crate) enum Request {
    Status,
    Have(Vec<ChunkId>),
    Put { held: LocalCopy, good: bool },
    Get { target: AuditTarget, purpose: Purpose },
    Hints(Vec<HolderHint>),
    Alert(Alert),
}

#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Nobody answered; the network says so, not a cell.
    Nobody,
    Status(SocketAddr, Beacon),
    Have(Vec<ChunkId>),
    Put(SendOutcome),
    Bytes {
        chunk: ChunkId,
        len: u32,
        good: bool,
        purpose: Purpose,
    },
    NotHere,
}

/// A call that was made and whose end is waited for.
#[derive(Debug, Clone)]
pub(crate) enum Pending {
    Probe(TaskId),
    QueryHave(TaskId),
    Send(TaskId),
    Fetch(TaskId, LocalCopy),
    Audit(TaskId),
}

/// How a cell behaves at its door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    Honest,
    /// Says that it has every chunk that it is asked for.
    ClaimsAll,
    /// Says that it has none.
    ClaimsNothing,
    /// Answers every fetch with other bytes.
    BadBytes,
    /// Says that it stored what it threw away.
    DropsChunks,
}

/// Other bytes than those of this chunk hash to this.
pub(crate) fn bad_hash(chunk: ChunkId) -> ChunkId {
    ChunkId::from_bytes(chunk.as_bytes().map(|byte| !byte))
}

impl Nature {
    /// Answers a `POST /chunks/have`.
    pub(crate) fn have(self, disk: &Disk, mut ids: Vec<ChunkId>) -> Reply {
        match self {
            Self::ClaimsAll => {}
            Self::ClaimsNothing => ids.clear(),
            Self::Honest | Self::BadBytes | Self::DropsChunks => ids.retain(|id| disk.get(id).is_some()),
        }
        Reply::Have(ids)
    }

    /// Answers a `PUT /chunk/{id}`; true if the chunk is new here and the cell is to be told.
    pub(crate) fn put(self, disk: &mut Disk, held: &LocalCopy, good: bool) -> (Reply, bool) {
        if !good {
            return (Reply::Put(SendOutcome::Failed), false);
        }
        if self == Self::DropsChunks {
            return (Reply::Put(SendOutcome::Stored), false);
        }
        if disk.state.draining {
            return (Reply::Put(SendOutcome::Refused), false);
        }
        match disk.put(held) {
            Taken::New => (Reply::Put(SendOutcome::Stored), true),
            Taken::HereAlready => (Reply::Put(SendOutcome::Stored), false),
            Taken::NoRoom => (Reply::Put(SendOutcome::Refused), false),
        }
    }

    /// Answers a `GET /chunk/{id}` with `X-Hops: 0`.
    pub(crate) fn get(self, disk: &Disk, target: AuditTarget, purpose: Purpose) -> Reply {
        let chunk = match target {
            AuditTarget::Chunk(id) => Some(id),
            AuditTarget::After(id) => disk.after(&id),
        };
        match chunk.and_then(|id| Some((id, disk.get(&id)?))) {
            Some((chunk, copy)) => {
                Reply::Bytes { chunk, len: copy.len, good: copy.good && self != Self::BadBytes, purpose }
            }
            None => Reply::NotHere,
        }
    }
}

impl Pending {
    /// What the cell is told of the call's end, given what came back. What was fetched goes to the disk on the way.
    pub(crate) fn end(self, reply: Reply, disk: &mut Disk) -> Input {
        match (self, reply) {
            (Self::Probe(task_id), Reply::Status(server, beacon)) => {
                Input::Member(MemberInput::ProbeDone { task_id, outcome: ProbeOutcome::Cell(server, beacon) })
            }
            (Self::Probe(task_id), _) => {
                Input::Member(MemberInput::ProbeDone { task_id, outcome: ProbeOutcome::Unreachable })
            }
            (Self::QueryHave(task_id), Reply::Have(ids)) => {
                Input::Copy(CopyInput::QueryDone { task_id, has: Some(ids) })
            }
            (Self::QueryHave(task_id), _) => Input::Copy(CopyInput::QueryDone { task_id, has: None }),
            (Self::Send(task_id), Reply::Put(sent)) => Input::Copy(CopyInput::SendDone { task_id, outcome: sent }),
            (Self::Send(task_id), _) => Input::Copy(CopyInput::SendDone { task_id, outcome: SendOutcome::Failed }),
            (Self::Fetch(task_id, held), Reply::Bytes { chunk, len, good, .. }) => {
                let fetched = if good {
                    match disk.put(&LocalCopy { len, ..held }) {
                        Taken::NoRoom => FetchOutcome::NoRoom,
                        Taken::New | Taken::HereAlready => FetchOutcome::Stored,
                    }
                } else {
                    FetchOutcome::Bad { found: bad_hash(chunk) }
                };
                Input::Copy(CopyInput::FetchDone { task_id, outcome: fetched })
            }
            (Self::Fetch(task_id, _), Reply::NotHere) => {
                Input::Copy(CopyInput::FetchDone { task_id, outcome: FetchOutcome::Missing })
            }
            (Self::Fetch(task_id, _), _) => {
                Input::Copy(CopyInput::FetchDone { task_id, outcome: FetchOutcome::Failed })
            }
            (Self::Audit(task_id), Reply::Bytes { chunk, len, good, .. }) => {
                let audited = if good {
                    AuditOutcome::Good { chunk, len }
                } else {
                    AuditOutcome::Bad { chunk, found: bad_hash(chunk), len }
                };
                Input::Copy(CopyInput::AuditDone { task_id, outcome: audited })
            }
            (Self::Audit(task_id), Reply::NotHere) => {
                Input::Copy(CopyInput::AuditDone { task_id, outcome: AuditOutcome::Missing })
            }
            (Self::Audit(task_id), _) => Input::Copy(CopyInput::AuditDone { task_id, outcome: AuditOutcome::Failed }),
        }
    }
}
