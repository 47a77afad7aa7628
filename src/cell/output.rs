//! The outputs of a cell: what its driver must do.
//!
//! An [`Output`] is nested by who performs it. All of them must be performed in order, with one exception: while a
//! [`Persist::State`] is pending, outputs that do not wait for it may overtake those that do
//! ([`Output::waits_for_state`]).

use std::net::{IpAddr, SocketAddr};

use crate::cell::input::{AuditTarget, TaskId};
use crate::cell::saved_state::SavedState;
use crate::id::{CellId, ChunkId};
use crate::time::Time;
use crate::wire::beacon::{Beacon, Role};
use crate::wire::datagram::Alert;
use crate::wire::holder_hints::HolderHint;
use crate::wire::shared_chunks::SharedQuery;

/// What must be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram.
    Udp(Udp),
    /// Start something that takes time. Its outcome returns as an input.
    Task(Task),
    /// Write to the store.
    Persist(Persist),
    /// Wake the cell at this time, with [`Input::Wake`](crate::cell::Input::Wake). A later one replaces an earlier one.
    WakeAt(Time),
    /// Report an event to the log.
    Event(Event),
}

/// A datagram to send, on the colony's UDP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Udp {
    /// A beacon to every broadcast address.
    Broadcast(Beacon),
    /// A beacon to one cell.
    Unicast {
        /// The cell's address.
        to: IpAddr,
        /// The beacon.
        beacon: Beacon,
    },
    /// A beacon in reply to a probe.
    ProbeReply {
        /// The sender of the probe.
        to: SocketAddr,
        /// The beacon.
        beacon: Beacon,
    },
}

/// A task: it uses the network or the disk, and can take long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Ask the cell at this address for its status. Ends as [`MemberInput::ProbeDone`](crate::cell::MemberInput).
    Probe {
        /// Identifies the task in the input.
        task_id: TaskId,
        /// The address, as `HOST:PORT`.
        address: String,
        /// Also ask that cell to add this one to its static peers (`POST /join`)?
        announce: bool,
    },
    /// Ask the cell at this address which of these chunks it has (`POST /chunks/have`). Ends as
    /// [`CopyInput::QueryDone`](crate::cell::CopyInput).
    QueryHave {
        /// Identifies the task in the input.
        task_id: TaskId,
        /// The address of the cell.
        to: SocketAddr,
        /// The chunks.
        chunks: Vec<ChunkId>,
    },
    /// Ask the cell at this address which chunks it shares with this one, and how many copies of them the colony must
    /// keep (`GET /chunks/shared`). Ends as [`CopyInput::SharedDone`](crate::cell::CopyInput).
    QueryShared {
        /// Identifies the task in the input.
        task_id: TaskId,
        /// The address of the cell.
        to: SocketAddr,
        /// Which chunks.
        query: SharedQuery,
    },
    /// Hash the local copy of a chunk and send it to the cell at this address. Ends as
    /// [`CopyInput::SendDone`](crate::cell::CopyInput).
    Send {
        /// Identifies the task in the input.
        task_id: TaskId,
        /// The chunk.
        chunk: ChunkId,
        /// The address of the cell.
        to: SocketAddr,
        /// Number of copies that the colony must keep.
        copies: u8,
        /// Is that number a guess?
        bare: bool,
        /// The holders once the copy is there.
        holders: Vec<CellId>,
    },
    /// Fetch a chunk from the cell at this address, which must not forward the request (`X-Hops: 0`); hash and store
    /// it. Ends as [`CopyInput::FetchDone`](crate::cell::CopyInput).
    Fetch {
        /// Identifies the task in the input.
        task_id: TaskId,
        /// The chunk.
        chunk: ChunkId,
        /// The address of the cell.
        from: SocketAddr,
        /// Number of copies that the colony must keep.
        copies: u8,
        /// Is that number a guess?
        bare: bool,
        /// The known holders.
        holders: Vec<CellId>,
    },
    /// Fetch a chunk from the cell at this address, which must not forward the request; hash and discard it. Ends as
    /// [`CopyInput::AuditDone`](crate::cell::CopyInput).
    Audit {
        /// Identifies the task in the input.
        task_id: TaskId,
        /// The address of the cell.
        from: SocketAddr,
        /// Which chunk.
        target: AuditTarget,
    },
    /// Hash a local copy and put a bad one into quarantine. Ends as [`CopyInput::VerifyDone`](crate::cell::CopyInput).
    Verify(ChunkId),
    /// The same for the last of several attempts to read a copy: one that the disk still cannot read is bad.
    VerifyFinally(ChunkId),
    /// Remove a local copy: there are more than the colony must keep. Returns nothing if it succeeds.
    Remove(ChunkId),
    /// Report to the cell at this address where copies are (`POST /chunks/holders`). Returns nothing.
    SendHints {
        /// The address of the cell.
        to: SocketAddr,
        /// Where the copies are.
        hints: Vec<HolderHint>,
    },
    /// Broadcast an alert, and send it to the cells at these addresses (`POST /alert`). Returns nothing.
    SendAlert {
        /// The alert.
        alert: Alert,
        /// The addresses of the cells.
        to: Vec<SocketAddr>,
    },
}

/// A write to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Persist {
    /// Record the holders of a local chunk in the index. They can be found again, so this need not be durable.
    Holders {
        /// The chunk.
        chunk: ChunkId,
        /// Its holders, this cell included.
        holders: Vec<CellId>,
    },
    /// Record the number of copies of a local chunk in the index, if its record is bare. It can be asked for again, so
    /// this need not be durable.
    Copies {
        /// The chunk.
        chunk: ChunkId,
        /// Number of copies that the colony must keep.
        copies: u8,
    },
    /// Save this state durably before any later output that waits for it is performed.
    State(SavedState),
    /// Save the cell's new id.
    CellId(CellId),
}

impl Output {
    /// Must this output wait while a [`Persist::State`] before it is pending?
    ///
    /// What other cells or the store do for this cell must not depend on a state that a power cut can undo. Signs of
    /// life do not wait: a slow disk must not make this cell look dead.
    pub(crate) fn waits_for_state(&self) -> bool {
        match self {
            Self::Udp(Udp::Broadcast(_) | Udp::Unicast { .. } | Udp::ProbeReply { .. })
            | Self::Task(Task::Probe { .. })
            | Self::WakeAt(_)
            | Self::Event(_) => false,
            Self::Task(
                Task::QueryHave { .. }
                | Task::QueryShared { .. }
                | Task::Send { .. }
                | Task::Fetch { .. }
                | Task::Audit { .. }
                | Task::Verify(_)
                | Task::VerifyFinally(_)
                | Task::Remove(_)
                | Task::SendHints { .. }
                | Task::SendAlert { .. },
            )
            | Self::Persist(
                Persist::Holders { .. } | Persist::Copies { .. } | Persist::State(_) | Persist::CellId(_),
            ) => true,
        }
    }
}

/// A change in the cell or the colony, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A cell is active that was unknown or not active.
    Active(CellId, SocketAddr),
    /// A cell has sent no beacon for too long.
    Silent(CellId),
    /// A silent cell has not answered a probe either.
    Dead(CellId),
    /// A cell has announced that it leaves.
    Left(CellId),
    /// Another cell, at this address, uses the same id: its SD card is a clone.
    DuplicateId(CellId, IpAddr),
    /// This cell has changed its id, because an older cell uses the same one.
    Renamed {
        /// The old id.
        from: CellId,
        /// The new id.
        to: CellId,
    },
    /// The member table is full: further cells are ignored.
    MemberTableFull,
    /// This cell has taken a role.
    Role(Role),
    /// This cell has started to heal under-replicated chunks.
    HealStarted {
        /// The number of under-replicated chunks.
        chunks: usize,
        /// The lowest number of copies that one of them has.
        fewest_copies: usize,
    },
    /// A healing round has ended.
    HealDone {
        /// Copies sent.
        copies: u64,
        /// Bytes sent.
        bytes: u64,
    },
    /// A copy that was fetched from another cell is bad.
    BadCopy {
        /// The cell that sent it.
        culprit: CellId,
        /// The chunk.
        chunk: ChunkId,
    },
    /// A local copy was bad and is in quarantine.
    OwnCopyBad(ChunkId),
    /// The disk could not read a local copy, which is suspect now.
    OwnCopyUnreadable(ChunkId),
    /// The disk can read a suspect copy again, and it is good.
    OwnCopyReadable(ChunkId),
    /// This cell's disk is failing (`true`), or can be read again (`false`).
    DiskFailing(bool),
    /// A good copy has replaced a local one that was lost.
    Refetched(ChunkId),
    /// An alert was checked and is wrong.
    FalseAlert {
        /// The cell that was said to have a bad copy.
        culprit: CellId,
        /// The chunk.
        chunk: ChunkId,
    },
    /// A cell is isolated because it had too many bad copies.
    Isolated(CellId),
    /// A cell is no longer isolated.
    IsolationEnded(CellId),
    /// Draining has started (`true`) or was cancelled (`false`).
    Draining(bool),
    /// Draining is complete: all chunks have enough copies elsewhere, and the cell can be unplugged.
    Drained,
    /// A full scrub has ended.
    ScrubDone {
        /// Bad copies that it found.
        bad: u64,
    },
    /// A local copy was removed to free space: there were more than the colony must keep.
    ExtraCopyRemoved(ChunkId),
}
