//! What a cell is told: what happened, and what came of what it wanted done.

use std::net::{IpAddr, SocketAddr};

use crate::id::CellId;
use crate::id::ChunkId;
use crate::wire::beacon::{Alert, Beacon};

/// What the store tells the core about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreFacts {
    /// Chunks held.
    pub chunks: u64,
    /// Bytes that may still be taken.
    pub free_bytes: u64,
    /// Is there no room for another chunk?
    pub full: bool,
}

/// A copy that this cell has, and what is believed about the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The chunk.
    pub id: ChunkId,
    /// Its length, in bytes.
    pub len: u32,
    /// Copies that the colony is to keep.
    pub copies: u8,
    /// Cells that have one, as far as is known; this cell may be among them or not.
    pub holders: Vec<CellId>,
}

/// Binds what came of an output to the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Where a copy is said to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The chunk.
    pub id: ChunkId,
    /// Cells that are said to have it.
    pub holders: Vec<CellId>,
}

/// Which chunk of another cell is audited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// This one.
    Chunk(ChunkId),
    /// The first after this id that the cell lists (`GET /chunks?after=ID&limit=1`); after the last, its first.
    After(ChunkId),
}

/// What came of an [`crate::cell::Output::Send`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The other cell has it safe.
    Stored,
    /// The other cell has no room, or takes no chunks.
    Refused,
    /// It did not answer, or not in time, or failed.
    Failed,
    /// Our own copy did not hash to its name, so nothing was sent; it is in quarantine now.
    OwnCopyBad,
    /// Our own copy is not here any more.
    OwnCopyGone,
    /// Our own copy could not be read now; the other cell has nothing to do with it.
    OwnCopyUnread,
}

/// What came of an [`crate::cell::Output::Fetch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// It came, hashes to its name, and is safe here.
    Stored,
    /// The other cell does not have it.
    Missing,
    /// What came does not hash to the chunk's name; nothing was kept.
    Bad {
        /// What it hashes to.
        found: ChunkId,
    },
    /// The other cell did not answer, or not in time.
    Failed,
    /// There is no room for it here, or the disk failed.
    NoRoom,
}

/// What came of an [`crate::cell::Output::Audit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audited {
    /// The whole copy came and hashes to its name.
    Good {
        /// The chunk.
        chunk: ChunkId,
        /// Its length, in bytes.
        len: u32,
    },
    /// A whole answer came and does not hash to the chunk's name.
    Bad {
        /// The chunk.
        chunk: ChunkId,
        /// What the bytes hash to.
        found: ChunkId,
        /// Their length.
        len: u32,
    },
    /// The cell does not have the chunk, or any at all.
    Missing,
    /// It did not answer, or not in time.
    Failed,
}

/// What came of an [`crate::cell::Output::Verify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    /// The copy is whole.
    Good,
    /// It was not, and is in quarantine now.
    Bad,
    /// It is not here.
    Missing,
    /// The disk could not tell now.
    Unknown,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The moment named by the last [`crate::cell::Output::WakeAt`] has come (or the cell starts). With what the store says now.
    Wake(StoreFacts),
    /// A beacon came from this address.
    Heard {
        /// Source address of the datagram.
        from: IpAddr,
        /// What it said.
        beacon: Beacon,
    },
    /// A probe came from this address, which waits for an answer.
    Probed {
        /// Where the answer goes.
        by: SocketAddr,
    },
    /// An [`crate::cell::Output::Visit`] ended.
    Visited {
        /// The door that was visited, as the output named it.
        door: String,
        /// Who answered.
        answer: Answer,
    },
    /// Somebody asked that the cell behind this door (`HOST:PORT`) be known as a static peer.
    Join {
        /// The door, as `HOST:PORT`.
        door: String,
    },
    /// The cell is asked to stop.
    Leave,
    /// Copies that are here: those that the store lists after the start, and each that a put brings.
    Holds(Vec<Held>),
    /// All that was in the store at the start has been told.
    Counted,
    /// A copy is not here any more: it was found to be bad, or somebody removed it.
    Gone(ChunkId),
    /// What came of an [`crate::cell::Output::Ask`]: those of the ids that the cell has, or none if it did not answer.
    Answered {
        /// Of the output.
        ticket: Ticket,
        /// The ids.
        has: Option<Vec<ChunkId>>,
    },
    /// What came of an [`crate::cell::Output::Send`].
    Sent(Ticket, Sent),
    /// What came of an [`crate::cell::Output::Fetch`].
    Fetched(Ticket, Fetched),
    /// What came of an [`crate::cell::Output::Audit`].
    Audited(Ticket, Audited),
    /// What came of an [`crate::cell::Output::Verify`].
    Verified(ChunkId, Verified),
    /// Another cell says where copies are.
    Told(Vec<News>),
    /// Somebody says that a cell has a bad copy.
    Alerted(Alert),
    /// Hand all copies on and take no new ones; or, with false, stop doing so.
    Drain(bool),
    /// Re-hash all copies now.
    Scrub,
}

/// How a visit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// No connection, or no answer in time.
    Nobody,
    /// An HTTP answer that is no cell's status: a cell that is too busy (503), or one whose version knows no status. A
    /// sign of life, but of nothing more.
    Somebody,
    /// A cell: the address of its door, and what it says of itself.
    Cell(SocketAddr, Beacon),
}
