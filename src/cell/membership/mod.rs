//! Who is in the colony: a small record for each cell that was heard.
//!
//! ```text
//!            beacon                      5 s of silence              probe fails
//!   unknown ───────▶ active ─────────────────────────────▶ silent ───────────────▶ dead
//!                      ▲ └── "leaving" ──▶ left               │ any answer to it: stays silent
//!                      └──────────── beacon ──────────────────┴──────────────────────┘
//! ```
//!
//! Silence alone kills nobody: a Wi-Fi access point that swallows broadcasts for a while would otherwise set the
//! whole colony to healing. A probe fails when nothing answers, or a cell with another name does. A busy cell's 503,
//! or the 404 of an older server that knows no such path, is an answer: the door is open, and somebody is at home.

pub(super) mod responsiveness;
pub(super) mod roles;
pub(super) mod static_peers;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::cell::core::CLONE_TOLD_MS;
use crate::cell::membership::table::Roll;
use crate::cell::{Event, Output, ProbeOutcome, Settings, Task};
use crate::id::CellId;
use crate::time::Time;
use crate::wire::beacon::{Beacon, Role, Status};
use crate::wire::peers::Presence;

/// The most cells remembered. Strangers can forge beacons; they shall not fill the memory of a small board.
pub const MAX_MEMBERS: usize = 4096;

/// HTTP probes of silent cells under way at once.
const MAX_VISITS: usize = 16;

/// What is known of another cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where its HTTP door is.
    pub door: SocketAddr,
    /// What it does.
    pub role: Role,
    /// Whether it takes chunks.
    pub status: Status,
    /// When it was last heard.
    pub last_heard: Time,
    free_bytes: Told,
    chunks: Told,
    boot: Told,
    standing: Standing,
    farewell: Farewell,
    /// Is a visit under way, to find out about its silence or its farewell?
    visiting: bool,
    /// When the next one is due.
    next_visit: Time,
}

/// A number that a cell may have told, in the room of a number: the largest one stands for none. Every second all
/// records pass through the processor's cache, so each byte of them counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Active,
    Silent,
    Dead,
    Left,
}

/// What a cell said of its going, and whether that is so. A beacon is easily forged; were it enough, one datagram for
/// each cell would set the colony to copying all it has. So its copies count until a visit has shown the same. New
/// chunks go elsewhere at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Farewell {
    None,
    /// It said that it leaves, or is drained.
    Said,
    Confirmed,
}

/// How a cell's facts came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// By a beacon, or by a visit to a static peer, which stands for one.
    Beacon,
    /// By a visit to a silent cell: it lives, but it is still not heard.
    Visit,
}

pub(super) struct Membership {
    settings: Settings,
    members: Roll,
    crowded: bool,
    /// How many are active.
    actives: usize,
    /// Nothing changes by time alone before this moment.
    next_age: Time,
    /// Cells whose presence or status has changed since somebody last looked.
    changed: BTreeSet<CellId>,
    /// Of them, those that are back from the dead, or have left and come again.
    returned: BTreeSet<CellId>,
    /// When it was last told of a clone of this cell.
    clones: BTreeMap<CellId, Time>,
}

impl Membership {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            members: Roll::default(),
            crowded: false,
            actives: 0,
            next_age: Time::default(),
            changed: BTreeSet::new(),
            returned: BTreeSet::new(),
            clones: BTreeMap::new(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (CellId, &Member)> {
        self.members.iter().map(|(id, member)| (*id, member))
    }

    /// Cells that have changed since this was last asked, each with whether it has returned.
    pub(super) fn take_changed(&mut self) -> Vec<(CellId, bool)> {
        let returned = std::mem::take(&mut self.returned);
        std::mem::take(&mut self.changed).into_iter().map(|id| (id, returned.contains(&id))).collect()
    }

    /// How many other cells are remembered.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// How many other cells are active.
    pub(super) fn actives(&self) -> usize {
        self.actives
    }

    pub(super) fn get(&self, id: &CellId) -> Option<&Member> {
        self.members.get(id)
    }

    pub(super) fn active(&self, now: Time) -> impl Iterator<Item = (CellId, &Member)> {
        self.iter().filter(move |(_, member)| self.presence(now, member) == Presence::Active)
    }

    pub(super) fn presence(&self, now: Time, member: &Member) -> Presence {
        match member.standing {
            Standing::Active if now.since_ms(member.last_heard) > self.settings.silent_after_ms => Presence::Silent,
            Standing::Active => Presence::Active,
            Standing::Silent => Presence::Silent,
            Standing::Dead => Presence::Dead,
            Standing::Left => Presence::Left,
        }
    }

    /// Takes in what a cell said of itself.
    pub(super) fn heard(&mut self, now: Time, door: SocketAddr, beacon: &Beacon, how: Heard, out: &mut Vec<Output>) {
        let id = beacon.node_id;
        let Some(member) = self.members.get_mut(&id) else {
            if beacon.status != Status::Leaving && self.make_room(out) {
                self.members.insert(id, Member::new(now, door, beacon));
                self.actives += 1;
                self.next_age = self.next_age.min(now.plus_ms(self.settings.silent_after_ms));
                self.changed.insert(id);
                out.push(Output::Event(Event::Active(id, door)));
            }
            return;
        };
        if member.door != door && !member.may_move(now, self.settings) {
            if Told::from(beacon.boot.map(|boot| boot.0)) != member.boot && beacon.status != Status::Leaving {
                self.heard_twice(now, id, door, out);
            }
            return;
        }
        // The last words of a process that has ended since must not make its restarted cell leave.
        if beacon.status == Status::Leaving && member.boot != beacon.boot.map(|boot| boot.0).into() {
            return;
        }
        let was = member.standing;
        if member.door != door && member.visiting {
            // The visit to the old door says nothing about the new one.
            self.next_age = self.next_age.min(member.visit_at(now));
        }
        if member.status != beacon.status || member.role != beacon.role {
            self.changed.insert(id);
        }
        member.update(door, beacon);
        let goes = matches!(beacon.status, Status::Leaving | Status::Draining);
        match member.farewell {
            Farewell::None if goes => {
                member.farewell = Farewell::Said;
                self.next_age = self.next_age.min(member.visit_at(now));
            }
            Farewell::Said | Farewell::Confirmed if !goes => {
                member.farewell = Farewell::None;
                self.changed.insert(id);
            }
            _ => {}
        }
        match (beacon.status, how) {
            (Status::Leaving, _) => {
                member.standing = Standing::Left;
                self.next_age = self.next_age.min(member.last_heard.plus_ms(self.settings.forget_ms));
                self.actives -= usize::from(was == Standing::Active);
                if was != Standing::Left {
                    self.changed.insert(id);
                    out.push(Output::Event(Event::Left(id)));
                }
            }
            (_, Heard::Beacon) => {
                member.last_heard = now;
                member.standing = Standing::Active;
                if was != Standing::Active {
                    self.actives += 1;
                    self.next_age = self.next_age.min(now.plus_ms(self.settings.silent_after_ms));
                    self.changed.insert(id);
                    if matches!(was, Standing::Dead | Standing::Left) {
                        self.returned.insert(id);
                    }
                    out.push(Output::Event(Event::Active(id, door)));
                }
            }
            (_, Heard::Visit) => {}
        }
    }

    /// Notes how a visit to this door ended. Only when nobody answers, or another cell does, is the silent one dead.
    pub(super) fn visited(&mut self, now: Time, door: &str, answer: &ProbeOutcome, out: &mut Vec<Output>) {
        let next_visit = now.plus_ms(self.settings.visit_ms);
        for (id, member) in self.members.iter_mut() {
            let is_silent = member.standing == Standing::Silent;
            let is_going = member.farewell == Farewell::Said;
            if !(is_silent || is_going) || member.door.to_string() != door {
                continue;
            }
            self.next_age = self.next_age.min(member.visit_at(next_visit));
            if is_going && member.confirms(*id, answer) {
                member.farewell = Farewell::Confirmed;
                self.changed.insert(*id);
            }
            if !is_silent {
                continue;
            }
            let lives = match answer {
                ProbeOutcome::Unreachable => false,
                ProbeOutcome::Responding => true,
                ProbeOutcome::Cell(_, beacon) => beacon.node_id == *id,
            };
            if !lives {
                member.standing = Standing::Dead;
                // Whatever it said of its going, there is nothing left to find out.
                member.farewell = Farewell::None;
                self.next_age = self.next_age.min(member.last_heard.plus_ms(self.settings.forget_ms));
                self.changed.insert(*id);
                out.push(Output::Event(Event::Dead(*id)));
            }
        }
    }

    /// Notices silence, asks for the visits that are due, and forgets who is long gone.
    pub(super) fn age(&mut self, now: Time, out: &mut Vec<Output>) {
        if now < self.next_age {
            return;
        }
        let Settings { silent_after_ms, forget_ms, .. } = self.settings;
        self.members.retain(|member| {
            !matches!(member.standing, Standing::Dead | Standing::Left) || now.since_ms(member.last_heard) <= forget_ms
        });
        let under_way = self.members.values().filter(|member| member.wants_visits() && member.visiting).count();
        let mut due = Vec::new();
        let mut next = Time(u64::MAX);
        for (id, member) in self.members.iter_mut() {
            if member.standing == Standing::Active && now.since_ms(member.last_heard) > silent_after_ms {
                member.standing = Standing::Silent;
                member.visit_at(now);
                self.actives -= 1;
                self.changed.insert(*id);
                out.push(Output::Event(Event::Silent(*id)));
            }
            if let Some(at) = member.visit_due() {
                next = next.min(at);
                if now >= at {
                    due.push((at, *id));
                }
            }
            next = next.min(match member.standing {
                Standing::Active => member.last_heard.plus_ms(silent_after_ms),
                Standing::Silent => continue,
                Standing::Dead | Standing::Left => member.last_heard.plus_ms(forget_ms),
            });
        }
        self.next_age = next;
        // Who has waited longest first: forged names that sort first must not keep the others from being looked at.
        due.sort_unstable();
        for (_, id) in due.into_iter().take(MAX_VISITS.saturating_sub(under_way)) {
            if let Some(member) = self.members.get_mut(&id) {
                member.visiting = true;
                out.push(Output::Task(Task::Probe { address: member.door.to_string(), announce: false }));
            }
        }
    }

    /// A cell with the name of this member speaks elsewhere, from another start: somebody is told once a minute.
    fn heard_twice(&mut self, now: Time, id: CellId, door: SocketAddr, out: &mut Vec<Output>) {
        let lately = |told: &Time| now.since_ms(*told) < CLONE_TOLD_MS;
        if !self.clones.get(&id).is_some_and(lately) {
            self.clones.retain(|_, told| lately(told));
            self.clones.insert(id, now);
            out.push(Output::Event(Event::DuplicateId(id, door.ip())));
        }
    }

    /// A place for one more: if there is none, the dead or departed cell that was heard longest ago gives up its own.
    fn make_room(&mut self, out: &mut Vec<Output>) -> bool {
        if self.members.len() < MAX_MEMBERS {
            self.crowded = false;
            return true;
        }
        let gone = |member: &Member| matches!(member.standing, Standing::Dead | Standing::Left);
        let oldest = self.members.iter().filter(|(_, member)| gone(member)).min_by_key(|(_, member)| member.last_heard);
        let Some(id) = oldest.map(|(id, _)| *id) else {
            if !std::mem::replace(&mut self.crowded, true) {
                out.push(Output::Event(Event::MemberTableFull));
            }
            return false;
        };
        self.members.remove(&id);
        true
    }
}

impl Member {
    /// Is it heard, or does it at least answer?
    pub(super) fn is_there(&self) -> bool {
        matches!(self.standing, Standing::Active | Standing::Silent)
    }

    /// Do its copies count? It may be silent, and it may have said that it goes: they count until that is certain.
    pub(super) fn holds_what_it_has(&self) -> bool {
        match self.standing {
            Standing::Active | Standing::Silent | Standing::Left => self.farewell != Farewell::Confirmed,
            Standing::Dead => false,
        }
    }

    /// Bytes it may still take, if it told.
    pub fn free_bytes(&self) -> Option<u64> {
        self.free_bytes.into()
    }

    /// Chunks it holds, if it told.
    pub fn chunks(&self) -> Option<u64> {
        self.chunks.into()
    }

    /// Is it to be visited: because it is silent, or because it says that it goes?
    fn wants_visits(&self) -> bool {
        self.standing == Standing::Silent || self.farewell == Farewell::Said
    }

    /// When it is to be visited next.
    fn visit_due(&self) -> Option<Time> {
        (self.wants_visits() && !self.visiting).then_some(self.next_visit)
    }

    /// The next visit is due then, whatever became of the last one.
    fn visit_at(&mut self, when: Time) -> Time {
        (self.visiting, self.next_visit) = (false, when);
        when
    }

    /// Does this answer, from the cell's door, bear out that it goes?
    fn confirms(&self, id: CellId, answer: &ProbeOutcome) -> bool {
        let said = if self.standing == Standing::Left { Status::Leaving } else { Status::Draining };
        match answer {
            ProbeOutcome::Responding => false,
            ProbeOutcome::Cell(_, beacon) if beacon.node_id == id => beacon.status == said,
            ProbeOutcome::Unreachable | ProbeOutcome::Cell(..) => said == Status::Leaving,
        }
    }

    /// Was it heard when this was last looked at?
    pub(super) fn is_active(&self) -> bool {
        self.standing == Standing::Active
    }

    fn new(now: Time, door: SocketAddr, beacon: &Beacon) -> Self {
        Self {
            door,
            role: beacon.role,
            status: beacon.status,
            last_heard: now,
            free_bytes: beacon.free.into(),
            chunks: beacon.chunks.into(),
            boot: beacon.boot.map(|boot| boot.0).into(),
            standing: Standing::Active,
            farewell: Farewell::None,
            visiting: false,
            next_visit: now,
        }
    }

    fn update(&mut self, door: SocketAddr, beacon: &Beacon) {
        self.door = door;
        self.role = beacon.role;
        self.status = beacon.status;
        self.free_bytes = beacon.free.into();
        self.chunks = beacon.chunks.into();
        self.boot = beacon.boot.map(|boot| boot.0).into();
    }

    /// A cell is at one address. One that is heard at two of them (two network cards, or a cloned SD card) stays
    /// where it was first heard until it has been quiet there for some beacons.
    fn may_move(&self, now: Time, settings: Settings) -> bool {
        self.standing != Standing::Active || now.since_ms(self.last_heard) > 5 * settings.beacon_ms / 2
    }
}

impl From<Option<u64>> for Told {
    fn from(number: Option<u64>) -> Self {
        Self(number.unwrap_or(u64::MAX))
    }
}

impl From<Told> for Option<u64> {
    fn from(Told(number): Told) -> Self {
        (number != u64::MAX).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_small() {
        assert_eq!(size_of::<Member>(), 80);
    }
}
