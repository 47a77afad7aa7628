//! What cells say to each other over HTTP, with the bytes left out; and how a cell answers at its door, honest or not.

use std::net::SocketAddr;

use cellsync::cell::{Answer, Audited, Fetched, Held, Input, News, Pick, Sent, Ticket};
use cellsync::id::ChunkId;
use cellsync::wire::beacon::{Alert, Beacon};

use crate::disk::{Disk, Taken};

/// Binds an answer to its call.
pub(crate) type CallId = u64;

/// What a chunk is fetched for: audits do not count as bytes moved to heal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Mend,
    Audit,
}

#[derive(Debug, Clone)]
pub(crate) enum Request {
    Status,
    Have(Vec<ChunkId>),
    Put { held: Held, good: bool },
    Get { pick: Pick, purpose: Purpose },
    News(Vec<News>),
    Alert(Alert),
}

#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Nobody answered; the network says so, not a cell.
    Nobody,
    Status(SocketAddr, Beacon),
    Have(Vec<ChunkId>),
    Put(Sent),
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
    Visit(String),
    Ask(Ticket),
    Send(Ticket),
    Fetch(Ticket, Held),
    Audit(Ticket),
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
    pub(crate) fn put(self, disk: &mut Disk, held: &Held, good: bool) -> (Reply, bool) {
        if !good {
            return (Reply::Put(Sent::Failed), false);
        }
        if self == Self::DropsChunks {
            return (Reply::Put(Sent::Stored), false);
        }
        if disk.memory.draining {
            return (Reply::Put(Sent::Refused), false);
        }
        match disk.put(held) {
            Taken::New => (Reply::Put(Sent::Stored), true),
            Taken::HereAlready => (Reply::Put(Sent::Stored), false),
            Taken::NoRoom => (Reply::Put(Sent::Refused), false),
        }
    }

    /// Answers a `GET /chunk/{id}` with `X-Hops: 0`.
    pub(crate) fn get(self, disk: &Disk, pick: Pick, purpose: Purpose) -> Reply {
        let chunk = match pick {
            Pick::Chunk(id) => Some(id),
            Pick::After(id) => disk.after(&id),
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
            (Self::Visit(door), Reply::Status(address, beacon)) => {
                Input::Visited { door, answer: Answer::Cell(address, beacon) }
            }
            (Self::Visit(door), _) => Input::Visited { door, answer: Answer::Nobody },
            (Self::Ask(ticket), Reply::Have(ids)) => Input::Answered { ticket, has: Some(ids) },
            (Self::Ask(ticket), _) => Input::Answered { ticket, has: None },
            (Self::Send(ticket), Reply::Put(sent)) => Input::Sent(ticket, sent),
            (Self::Send(ticket), _) => Input::Sent(ticket, Sent::Failed),
            (Self::Fetch(ticket, held), Reply::Bytes { chunk, len, good, .. }) => {
                let fetched = if good {
                    match disk.put(&Held { len, ..held }) {
                        Taken::NoRoom => Fetched::NoRoom,
                        Taken::New | Taken::HereAlready => Fetched::Stored,
                    }
                } else {
                    Fetched::Bad { found: bad_hash(chunk) }
                };
                Input::Fetched(ticket, fetched)
            }
            (Self::Fetch(ticket, _), Reply::NotHere) => Input::Fetched(ticket, Fetched::Missing),
            (Self::Fetch(ticket, _), _) => Input::Fetched(ticket, Fetched::Failed),
            (Self::Audit(ticket), Reply::Bytes { chunk, len, good, .. }) => {
                let audited = if good {
                    Audited::Good { chunk, len }
                } else {
                    Audited::Bad { chunk, found: bad_hash(chunk), len }
                };
                Input::Audited(ticket, audited)
            }
            (Self::Audit(ticket), Reply::NotHere) => Input::Audited(ticket, Audited::Missing),
            (Self::Audit(ticket), _) => Input::Audited(ticket, Audited::Failed),
        }
    }
}
