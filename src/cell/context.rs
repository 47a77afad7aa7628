//! The context of all rules about copies: the present time, this cell, and what it knows about the other cells.

use std::net::SocketAddr;

use crate::cell::input::StoreStats;
use crate::cell::integrity::strikes::Strikes;
use crate::cell::membership::Membership;
use crate::cell::membership::member::Member;
use crate::cell::membership::responsiveness::Responsiveness;
use crate::cell::placement::Candidate;
use crate::cell::settings::Settings;
use crate::id::CellId;
use crate::time::Time;
use crate::wire::beacon::{Role, Status};

pub(super) struct Context {
    /// The time of the present input.
    pub(super) now: Time,
    /// This cell's id.
    pub(super) id: CellId,
    /// This cell's role.
    pub(super) role: Role,
    /// The local store at the last wake-up.
    pub(super) store: StoreStats,
    /// Is this cell draining?
    pub(super) draining: bool,
    /// Is this cell's disk failing, so that its copies do not count?
    pub(super) failing: bool,
    pub(super) unseen: Unseen,
    pub(super) members: Membership,
    pub(super) strikes: Strikes,
    pub(super) responsiveness: Responsiveness,
    pub(super) settings: Settings,
}

/// Whether copies count that are on cells not seen since this cell started. Cells that start together do not see each
/// other at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unseen {
    /// They count; the cell has not been woken yet.
    BeforeStart,
    /// They count until this time.
    CountUntil(Time),
    /// They do not count.
    Over,
}

impl Unseen {
    pub(super) fn count(self, now: Time) -> bool {
        match self {
            Self::BeforeStart => true,
            Self::CountUntil(end) => now < end,
            Self::Over => false,
        }
    }
}

impl Context {
    /// Is the cell trusted with copies: neither isolated nor unresponsive?
    fn is_trusted(&self, cell: &CellId) -> bool {
        !self.strikes.is_isolated(cell) && !self.responsiveness.is_unresponsive(cell)
    }

    /// Do copies on this cell count? Only its death makes them worthless, not its silence.
    pub(super) fn counts_copies_on(&self, cell: &CellId) -> bool {
        self.is_trusted(cell)
            && match self.members.get(cell) {
                Some(member) => member.copies_count(),
                None => self.unseen.count(self.now),
            }
    }

    /// For how long the cell has not been heard, in milliseconds, if its copies do not count for that reason alone: it is
    /// dead, or has left.
    pub(super) fn absent_for_ms(&self, cell: &CellId) -> Option<u64> {
        let member = self.members.get(cell).filter(|member| member.is_gone() && !member.copies_count())?;
        self.is_trusted(cell).then(|| self.now.since_ms(member.last_heard))
    }

    /// The address of the cell, if it may respond.
    pub(super) fn address_of(&self, cell: &CellId) -> Option<SocketAddr> {
        self.members.get(cell).filter(|member| member.may_respond()).map(|member| member.address)
    }

    /// All trusted cells that may respond.
    pub(super) fn reachable(&self) -> impl Iterator<Item = (CellId, &Member)> {
        self.members.iter().filter(|(id, member)| member.may_respond() && self.is_trusted(id))
    }

    /// The cell as a candidate for a chunk of this length; `None` if it cannot store it.
    pub(super) fn candidate(&self, cell: &CellId, len: u32) -> Option<Candidate> {
        let member = self.members.get(cell).filter(|_| self.is_trusted(cell))?;
        let has_room = member.free_bytes().is_none_or(|free| free >= len.into());
        let fits = member.is_active() && member.status == Status::Active && has_room;
        fits.then_some(Candidate { role: member.role, free_bytes: member.free_bytes() })
    }
}
