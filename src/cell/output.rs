//! What a cell wants done, and what it has to tell.

use std::net::{IpAddr, SocketAddr};

use crate::cell::{Memory, News, Pick, Ticket};
use crate::id::CellId;
use crate::id::ChunkId;
use crate::time::Time;
use crate::wire::beacon::{Alert, Beacon, Role};

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this beacon to every broadcast address.
    Broadcast(Beacon),
    /// Send this beacon to the cell at this address, on the colony's UDP port.
    SendTo(IpAddr, Beacon),
    /// Answer a probe.
    Answer(SocketAddr, Beacon),
    /// Ask the cell behind this door for its status, and with `announce` let it know ours (`POST /join`). Comes back as
    /// [`crate::cell::Input::Visited`].
    Visit {
        /// The door, as `HOST:PORT`.
        door: String,
        /// Should the other cell know this one as a static peer?
        announce: bool,
    },
    /// Wake the cell at this moment. A later one takes the place of an earlier one.
    WakeAt(Time),
    /// Keep this as the cell's name from now on, across restarts.
    Rename(CellId),
    /// Ask the cell at this door which of these chunks it has (`POST /chunks/have`). Comes back as
    /// [`crate::cell::Input::Answered`].
    Ask {
        /// To be given back.
        ticket: Ticket,
        /// The door.
        to: SocketAddr,
        /// The chunks.
        ids: Vec<ChunkId>,
    },
    /// Send our copy of a chunk to the cell at this door, hashed before it leaves. Comes back as [`crate::cell::Input::Sent`].
    Send {
        /// To be given back.
        ticket: Ticket,
        /// The chunk.
        chunk: ChunkId,
        /// The door.
        to: SocketAddr,
        /// Copies that the colony is to keep.
        copies: u8,
        /// Who will have one then.
        holders: Vec<CellId>,
    },
    /// Get a chunk from the cell at this door (it alone, `X-Hops: 0`), verify it, and keep it. Comes back as
    /// [`crate::cell::Input::Fetched`].
    Fetch {
        /// To be given back.
        ticket: Ticket,
        /// The chunk.
        chunk: ChunkId,
        /// The door.
        from: SocketAddr,
        /// Copies that the colony is to keep.
        copies: u8,
        /// Who has one.
        holders: Vec<CellId>,
    },
    /// Get a chunk from the cell at this door (it alone), hash it, and throw it away. Comes back as
    /// [`crate::cell::Input::Audited`].
    Audit {
        /// To be given back.
        ticket: Ticket,
        /// The door.
        of: SocketAddr,
        /// Which one.
        pick: Pick,
    },
    /// Re-hash our copy; a bad one goes into quarantine. Comes back as [`crate::cell::Input::Verified`].
    Verify(ChunkId),
    /// Remove our copy: it is one too many.
    Remove(ChunkId),
    /// Tell the cell at this door where copies are (`POST /chunks/holders`).
    Tell {
        /// The door.
        to: SocketAddr,
        /// Where they are.
        news: Vec<News>,
    },
    /// Broadcast an alert, and `POST /alert` it to these doors.
    Alert {
        /// What it says.
        alert: Alert,
        /// The doors.
        to: Vec<SocketAddr>,
    },
    /// Note in the catalogue who holds a chunk that is here. A hint: it need not be safe at once.
    Note {
        /// The chunk.
        chunk: ChunkId,
        /// The cells, this one included.
        holders: Vec<CellId>,
    },
    /// Keep this across restarts, safe before anything else is done.
    Keep(Memory),
    /// Something that people may want to read in the log.
    Event(Event),
}

/// A change in the colony, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A cell is heard that was not known, or not active.
    Active(CellId, SocketAddr),
    /// A cell has not been heard for too long.
    Silent(CellId),
    /// A silent cell did not answer a probe either.
    Dead(CellId),
    /// A cell said that it leaves.
    Left(CellId),
    /// Two cells use the same name: the SD card of one was cloned from the other's.
    Cloned(CellId, IpAddr),
    /// This cell gave up its name to the older cell that uses it too.
    Renamed {
        /// The name until now.
        from: CellId,
        /// The name from now on.
        to: CellId,
    },
    /// There are more cells than can be remembered.
    Crowded,
    /// The cell took a role.
    Role(Role),
    /// So many chunks lack copies, and this cell sees to it.
    Short {
        /// How many.
        chunks: usize,
        /// The fewest copies that one of them has.
        fewest: usize,
    },
    /// A round of healing ended: so many copies were sent, of so many bytes.
    Healed {
        /// Copies.
        copies: u64,
        /// Bytes.
        bytes: u64,
    },
    /// Another cell's copy was fetched and is bad.
    BadCopy {
        /// Whose.
        culprit: CellId,
        /// The chunk.
        chunk: ChunkId,
    },
    /// Our own copy was bad and is in quarantine.
    OwnCopyBad(ChunkId),
    /// A good copy took the place of a bad one.
    Mended(ChunkId),
    /// An alert was checked, and what it says is not so.
    FalseAlert {
        /// Who was said to have a bad copy.
        culprit: CellId,
        /// The chunk.
        chunk: ChunkId,
    },
    /// A cell is isolated: it had too many bad copies.
    Isolated(CellId),
    /// A cell is no longer isolated.
    Pardoned(CellId),
    /// The cell hands its copies on, or stopped doing so.
    Draining(bool),
    /// Every copy of a draining cell is elsewhere: it can be unplugged.
    Drained,
    /// All copies were re-hashed; so many were bad.
    Scrubbed {
        /// Bad ones.
        bad: u64,
    },
    /// A copy was one too many and was removed, for room.
    Removed(ChunkId),
}
