//! Membership: the cells of the colony, and whether each is alive.
//!
//! ```text
//!            beacon                      5 s of silence              probe fails
//!   unknown ───────▶ active ─────────────────────────────▶ silent ───────────────▶ dead
//!                      ▲ └── "leaving" ──▶ left               │ any response: stays silent
//!                      └──────────── beacon ──────────────────┴──────────────────────┘
//! ```
//!
//! Silence alone is not death: a Wi-Fi access point that drops broadcasts for a while would otherwise make the colony
//! heal everything. A probe fails when nothing responds, or a cell with another id does. The 503 of a busy cell, or the
//! 404 of an old version that has no such path, is a response: a server is running there.

pub(super) mod member;
pub(super) mod probes;
pub(super) mod responsiveness;
pub(super) mod roles;
pub(super) mod static_peers;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::cell::duplicate_id::REPORT_INTERVAL_MS;
use crate::cell::input::ProbeOutcome;
use crate::cell::membership::member::{Departure, Liveness, Member};
use crate::cell::membership::probes::Probes;
use crate::cell::membership::table::MemberTable;
use crate::cell::output::{Event, Output};
use crate::cell::settings::Settings;
use crate::id::CellId;
use crate::time::Time;
use crate::wire::beacon::{Beacon, Status};
use crate::wire::peers::Presence;

/// Maximum number of members. Forged beacons must not fill the memory of a small board.
pub const MAX_MEMBERS: usize = 4096;

/// Maximum number of probes of members under way.
const MAX_PROBES: usize = 16;

/// How the status of a cell was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// By a beacon, or by a probe of a static peer, which counts as one.
    Beacon,
    /// By a probe of a silent member: it is alive, but its beacons still do not arrive.
    Probe,
}

pub(super) struct Membership {
    settings: Settings,
    members: MemberTable,
    /// Has it been reported that the table is full?
    full_reported: bool,
    /// Number of active members.
    active: usize,
    /// Before this time, nothing changes without an input.
    next_change: Time,
    /// Members whose presence, status or role has changed since [`Self::take_changes`].
    changed: BTreeSet<CellId>,
    /// Of those, the members that were dead or had left, and are active again.
    returned: BTreeSet<CellId>,
    /// When a duplicate of a member's id was last reported.
    duplicates: BTreeMap<CellId, Time>,
}

impl Membership {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            members: MemberTable::default(),
            full_reported: false,
            active: 0,
            next_change: Time::default(),
            changed: BTreeSet::new(),
            returned: BTreeSet::new(),
            duplicates: BTreeMap::new(),
        }
    }

    /// All members, in order of their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (CellId, &Member)> {
        self.members.iter().map(|(id, member)| (*id, member))
    }

    /// Takes the members that have changed, each with whether it has returned.
    pub(super) fn take_changes(&mut self) -> Vec<(CellId, bool)> {
        let returned = std::mem::take(&mut self.returned);
        std::mem::take(&mut self.changed).into_iter().map(|id| (id, returned.contains(&id))).collect()
    }

    /// Number of members.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Number of active members.
    pub(super) fn active_count(&self) -> usize {
        self.active
    }

    pub(super) fn get(&self, id: &CellId) -> Option<&Member> {
        self.members.get(id)
    }

    /// The active members.
    pub(super) fn active(&self, now: Time) -> impl Iterator<Item = (CellId, &Member)> {
        self.iter().filter(move |(_, member)| self.presence(now, member) == Presence::Active)
    }

    pub(super) fn presence(&self, now: Time, member: &Member) -> Presence {
        match member.liveness {
            Liveness::Active if now.since_ms(member.last_heard) > self.settings.silent_after_ms => Presence::Silent,
            Liveness::Active => Presence::Active,
            Liveness::Silent => Presence::Silent,
            Liveness::Dead => Presence::Dead,
            Liveness::Left => Presence::Left,
        }
    }

    /// Handles the status of a cell.
    pub(super) fn status_received(
        &mut self,
        now: Time,
        address: SocketAddr,
        beacon: &Beacon,
        source: Source,
        out: &mut Vec<Output>,
    ) {
        let id = beacon.node_id;
        let Some(member) = self.members.get_mut(&id) else {
            if beacon.status != Status::Leaving && self.make_room(out) {
                self.members.insert(id, Member::new(now, address, beacon));
                self.active += 1;
                self.next_change = self.next_change.min(now.plus_ms(self.settings.silent_after_ms));
                self.changed.insert(id);
                out.push(Output::Event(Event::Active(id, address)));
            }
            return;
        };
        if member.address != address && !member.may_move(now, self.settings.beacon_ms) {
            if !member.has_boot_of(beacon) && beacon.status != Status::Leaving {
                self.report_duplicate(now, id, address, out);
            }
            return;
        }
        // A late datagram of a process that has ended must not make its successor leave.
        if beacon.status == Status::Leaving && !member.has_boot_of(beacon) {
            return;
        }
        let before = member.liveness;
        if member.address != address && member.probing {
            // The probe of the old address says nothing about the new one.
            self.next_change = self.next_change.min(member.schedule_probe(now));
        }
        if member.status != beacon.status || member.role != beacon.role {
            self.changed.insert(id);
        }
        member.update(address, beacon);
        let departs = matches!(beacon.status, Status::Leaving | Status::Draining);
        match member.departure {
            Departure::None => {
                if departs {
                    member.departure = Departure::Announced;
                    self.next_change = self.next_change.min(member.schedule_probe(now));
                }
            }
            Departure::Announced | Departure::Confirmed => {
                if !departs {
                    member.departure = Departure::None;
                    self.changed.insert(id);
                }
            }
        }
        if beacon.status == Status::Leaving {
            member.liveness = Liveness::Left;
            self.next_change = self.next_change.min(member.last_heard.plus_ms(self.settings.forget_ms));
            self.active -= usize::from(before == Liveness::Active);
            if before != Liveness::Left {
                self.changed.insert(id);
                out.push(Output::Event(Event::Left(id)));
            }
            return;
        }
        match source {
            Source::Beacon => {
                member.last_heard = now;
                member.liveness = Liveness::Active;
                if before != Liveness::Active {
                    self.active += 1;
                    self.next_change = self.next_change.min(now.plus_ms(self.settings.silent_after_ms));
                    self.changed.insert(id);
                    if matches!(before, Liveness::Dead | Liveness::Left) {
                        self.returned.insert(id);
                    }
                    out.push(Output::Event(Event::Active(id, address)));
                }
            }
            Source::Probe => {}
        }
    }

    /// Handles the outcome of a probe of this address, for all silent or departing members there; forged beacons can
    /// give many members one address. A silent member is dead if nothing responds, or another cell does.
    pub(super) fn probe_done(&mut self, now: Time, address: SocketAddr, outcome: &ProbeOutcome, out: &mut Vec<Output>) {
        let next_probe = now.plus_ms(self.settings.probe_ms);
        for (id, member) in self.members.iter_mut() {
            let is_silent = member.liveness == Liveness::Silent;
            let departs = member.departure == Departure::Announced;
            if !(is_silent || departs) || member.address != address {
                continue;
            }
            self.next_change = self.next_change.min(member.schedule_probe(next_probe));
            if departs && member.confirms_departure(*id, outcome) {
                member.departure = Departure::Confirmed;
                self.changed.insert(*id);
            }
            let is_alive = match outcome {
                ProbeOutcome::Unreachable => false,
                ProbeOutcome::Responding => true,
                ProbeOutcome::Cell(_, beacon) => beacon.node_id == *id,
            };
            if is_silent && !is_alive {
                member.liveness = Liveness::Dead;
                // An announced departure needs no confirmation any more.
                member.departure = Departure::None;
                self.next_change = self.next_change.min(member.last_heard.plus_ms(self.settings.forget_ms));
                self.changed.insert(*id);
                out.push(Output::Event(Event::Dead(*id)));
            }
        }
    }

    /// Detects silence, starts the probes that are due, and forgets members that are long gone.
    pub(super) fn advance(&mut self, now: Time, probes: &mut Probes, out: &mut Vec<Output>) {
        if now < self.next_change {
            return;
        }
        let Settings { silent_after_ms, forget_ms, .. } = self.settings;
        self.members.retain(|member| !member.is_gone() || now.since_ms(member.last_heard) <= forget_ms);
        let under_way = self.members.values().filter(|member| member.needs_probes() && member.probing).count();
        let mut due = Vec::new();
        let mut next = Time(u64::MAX);
        for (id, member) in self.members.iter_mut() {
            if member.liveness == Liveness::Active && now.since_ms(member.last_heard) > silent_after_ms {
                member.liveness = Liveness::Silent;
                member.schedule_probe(now);
                self.active -= 1;
                self.changed.insert(*id);
                out.push(Output::Event(Event::Silent(*id)));
            }
            if let Some(at) = member.probe_due() {
                next = next.min(at);
                if now >= at {
                    due.push((at, *id));
                }
            }
            next = next.min(match member.liveness {
                Liveness::Active => member.last_heard.plus_ms(silent_after_ms),
                Liveness::Silent => continue,
                Liveness::Dead | Liveness::Left => member.last_heard.plus_ms(forget_ms),
            });
        }
        self.next_change = next;
        // The longest waiting first: forged ids that sort first must not keep the others from being probed.
        due.sort_unstable();
        for (_, id) in due.into_iter().take(MAX_PROBES.saturating_sub(under_way)) {
            if let Some(member) = self.members.get_mut(&id) {
                member.probing = true;
                out.push(probes.start(member.address.to_string(), false));
            }
        }
    }

    /// A beacon with the id of a member came from another address and another start: reports it once a minute.
    fn report_duplicate(&mut self, now: Time, id: CellId, address: SocketAddr, out: &mut Vec<Output>) {
        let is_recent = |reported: &Time| now.since_ms(*reported) < REPORT_INTERVAL_MS;
        if !self.duplicates.get(&id).is_some_and(is_recent) {
            self.duplicates.retain(|_, reported| is_recent(reported));
            self.duplicates.insert(id, now);
            out.push(Output::Event(Event::DuplicateId(id, address.ip())));
        }
    }

    /// Makes room for one more member. If the table is full, it removes the gone member whose last
    /// beacon is the oldest.
    fn make_room(&mut self, out: &mut Vec<Output>) -> bool {
        if self.members.len() < MAX_MEMBERS {
            self.full_reported = false;
            return true;
        }
        let gone = self.members.iter().filter(|(_, member)| member.is_gone());
        let Some(id) = gone.min_by_key(|(_, member)| member.last_heard).map(|(id, _)| *id) else {
            if !std::mem::replace(&mut self.full_reported, true) {
                out.push(Output::Event(Event::MemberTableFull));
            }
            return false;
        };
        self.members.remove(&id);
        true
    }
}
