//! What the rules look at: one moment, this cell, and what it knows of the others.

use std::net::SocketAddr;

use crate::cell::Settings;
use crate::cell::integrity::strikes::Trust;
use crate::cell::membership::responsiveness::Voices;
use crate::cell::membership::{Member, Membership};
use crate::cell::placement::Candidate;
use crate::id::CellId;
use crate::time::Time;
use crate::wire::beacon::Status;

pub(super) struct View<'a> {
    pub(super) now: Time,
    pub(super) id: CellId,
    /// Does this cell hand its copies on?
    pub(super) draining: bool,
    /// Until then, holders that were never heard count.
    pub(super) unheard_until: Time,
    pub(super) members: &'a Membership,
    pub(super) trust: &'a Trust,
    pub(super) voices: &'a Voices,
    pub(super) settings: &'a Settings,
}

impl View<'_> {
    /// Does a copy on this cell count? Only death, not silence, makes it worthless.
    pub(super) fn counts(&self, cell: &CellId) -> bool {
        if self.trust.is_isolated(cell) || self.voices.is_mute(cell) {
            return false;
        }
        match self.members.get(cell) {
            Some(member) => member.holds_what_it_has(),
            None => self.now < self.unheard_until,
        }
    }

    /// The door of a cell that may answer.
    pub(super) fn door(&self, cell: &CellId) -> Option<SocketAddr> {
        self.members.get(cell).filter(|member| member.is_there()).map(|member| member.door)
    }

    /// All cells that may answer and whose word is worth something.
    pub(super) fn reachable(&self) -> impl Iterator<Item = (CellId, &Member)> {
        let is_fit = |id: &CellId| !self.trust.is_isolated(id) && !self.voices.is_mute(id);
        self.members.iter().filter(move |(id, member)| member.is_there() && is_fit(id))
    }

    /// Could the cell take a chunk of this length?
    pub(super) fn takes(&self, cell: &CellId, len: u32) -> Option<Candidate> {
        let is_fit = !self.trust.is_isolated(cell) && !self.voices.is_mute(cell);
        let member = self.members.get(cell).filter(|_| is_fit)?;
        let has_room = member.free_bytes().is_none_or(|free| free >= len.into());
        let fit = member.is_active() && member.status == Status::Active && has_room;
        fit.then_some(Candidate { role: member.role, free_bytes: member.free_bytes() })
    }
}

/// Numbers that bind answers to questions. Shared by all that asks.
#[derive(Debug, Default)]
pub(super) struct TaskIds(u64);

impl TaskIds {
    pub(super) fn next(&mut self) -> crate::cell::TaskId {
        self.0 += 1;
        crate::cell::TaskId(self.0)
    }
}
