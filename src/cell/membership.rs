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

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::roll::Roll;
use super::{Answer, CLONE_TOLD_MS, Event, Output, Settings, Time};
use crate::wire::CellId;
use crate::wire::api::Presence;
use crate::wire::beacon::{Beacon, Boot, Role, Status};

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
    /// Bytes it may still take, if it told.
    pub free_bytes: Option<u64>,
    /// Chunks it holds, if it told.
    pub chunks: Option<u64>,
    /// Which of its starts this is, if it told.
    pub boot: Option<Boot>,
    /// When it was last heard.
    pub last_heard: Time,
    standing: Standing,
    farewell: Farewell,
    cloned_at: Option<Time>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Active,
    Silent { next_visit: Time, visiting: bool },
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
    Said {
        next_visit: Time,
        visiting: bool,
    },
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
            Standing::Silent { .. } => Presence::Silent,
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
        if member.door != door && !member.may_move(now, door, beacon, self.settings, out) {
            return;
        }
        // The last words of a process that has ended since must not make its restarted cell leave.
        if beacon.status == Status::Leaving && member.boot != beacon.boot {
            return;
        }
        let was = member.standing;
        if member.door != door
            && let Standing::Silent { visiting: true, .. } = was
        {
            // The visit to the old door says nothing about the new one.
            member.standing = Standing::Silent { next_visit: now, visiting: false };
            self.next_age = self.next_age.min(now);
        }
        if member.door != door
            && let Farewell::Said { visiting: true, .. } = member.farewell
        {
            member.farewell = Farewell::Said { next_visit: now, visiting: false };
            self.next_age = self.next_age.min(now);
        }
        if member.status != beacon.status || member.role != beacon.role {
            self.changed.insert(id);
        }
        member.update(door, beacon);
        let goes = matches!(beacon.status, Status::Leaving | Status::Draining);
        match member.farewell {
            Farewell::None if goes => {
                member.farewell = Farewell::Said { next_visit: now, visiting: false };
                self.next_age = self.next_age.min(now);
            }
            Farewell::Said { .. } | Farewell::Confirmed if !goes => {
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
    pub(super) fn visited(&mut self, now: Time, door: &str, answer: &Answer, out: &mut Vec<Output>) {
        let next_visit = now.plus_ms(self.settings.visit_ms);
        for (id, member) in self.members.iter_mut() {
            let is_silent = matches!(member.standing, Standing::Silent { .. });
            let is_going = matches!(member.farewell, Farewell::Said { .. });
            if !(is_silent || is_going) || member.door.to_string() != door {
                continue;
            }
            if is_going && member.confirms(*id, answer) {
                member.farewell = Farewell::Confirmed;
                self.changed.insert(*id);
            } else if is_going {
                member.farewell = Farewell::Said { next_visit, visiting: false };
                self.next_age = self.next_age.min(next_visit);
            }
            if !is_silent {
                continue;
            }
            let lives = match answer {
                Answer::Nobody => false,
                Answer::Somebody => true,
                Answer::Cell(_, beacon) => beacon.node_id == *id,
            };
            if lives {
                member.standing = Standing::Silent { next_visit, visiting: false };
                self.next_age = self.next_age.min(next_visit);
            } else {
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
        let visiting = |m: &Member| {
            matches!(m.standing, Standing::Silent { visiting: true, .. })
                || matches!(m.farewell, Farewell::Said { visiting: true, .. })
        };
        let under_way = self.members.values().filter(|member| visiting(member)).count();
        let mut due = Vec::new();
        let mut next = Time(u64::MAX);
        for (id, member) in self.members.iter_mut() {
            if member.standing == Standing::Active && now.since_ms(member.last_heard) > silent_after_ms {
                member.standing = Standing::Silent { next_visit: now, visiting: false };
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
                Standing::Silent { .. } => continue,
                Standing::Dead | Standing::Left => member.last_heard.plus_ms(forget_ms),
            });
        }
        self.next_age = next;
        // Who has waited longest first: forged names that sort first must not keep the others from being looked at.
        due.sort_unstable();
        for (_, id) in due.into_iter().take(MAX_VISITS.saturating_sub(under_way)) {
            if let Some(member) = self.members.get_mut(&id) {
                member.begin_visit();
                out.push(Output::Visit { door: member.door.to_string(), announce: false });
            }
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
                out.push(Output::Event(Event::Crowded));
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
        matches!(self.standing, Standing::Active | Standing::Silent { .. })
    }

    /// Do its copies count? It may be silent, and it may have said that it goes: they count until that is certain.
    pub(super) fn holds_what_it_has(&self) -> bool {
        match self.standing {
            Standing::Active | Standing::Silent { .. } | Standing::Left => self.farewell != Farewell::Confirmed,
            Standing::Dead => false,
        }
    }

    /// When it is to be visited next: because it is silent, or because it says that it goes.
    fn visit_due(&self) -> Option<Time> {
        let silent = match self.standing {
            Standing::Silent { next_visit, visiting: false } => Some(next_visit),
            _ => None,
        };
        let going = match self.farewell {
            Farewell::Said { next_visit, visiting: false } => Some(next_visit),
            _ => None,
        };
        silent.into_iter().chain(going).min()
    }

    fn begin_visit(&mut self) {
        if let Standing::Silent { visiting, .. } = &mut self.standing {
            *visiting = true;
        }
        if let Farewell::Said { visiting, .. } = &mut self.farewell {
            *visiting = true;
        }
    }

    /// Does this answer, from the cell's door, bear out that it goes?
    fn confirms(&self, id: CellId, answer: &Answer) -> bool {
        let said = if self.standing == Standing::Left { Status::Leaving } else { Status::Draining };
        match answer {
            Answer::Somebody => false,
            Answer::Cell(_, beacon) if beacon.node_id == id => beacon.status == said,
            Answer::Nobody | Answer::Cell(..) => said == Status::Leaving,
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
            free_bytes: beacon.free,
            chunks: beacon.chunks,
            boot: beacon.boot,
            last_heard: now,
            standing: Standing::Active,
            farewell: Farewell::None,
            cloned_at: None,
        }
    }

    fn update(&mut self, door: SocketAddr, beacon: &Beacon) {
        self.door = door;
        self.role = beacon.role;
        self.status = beacon.status;
        self.free_bytes = beacon.free;
        self.chunks = beacon.chunks;
        self.boot = beacon.boot;
    }

    /// A cell is at one address. One that is heard at two of them (two network cards, or a cloned SD card) stays
    /// where it was first heard until it has been quiet there for some beacons; a clone is told of once a minute.
    fn may_move(
        &mut self,
        now: Time,
        door: SocketAddr,
        beacon: &Beacon,
        settings: Settings,
        out: &mut Vec<Output>,
    ) -> bool {
        if self.standing != Standing::Active || now.since_ms(self.last_heard) > 5 * settings.beacon_ms / 2 {
            return true;
        }
        let told_lately = self.cloned_at.is_some_and(|then| now.since_ms(then) < CLONE_TOLD_MS);
        if beacon.boot != self.boot && beacon.status != Status::Leaving && !told_lately {
            self.cloned_at = Some(now);
            out.push(Output::Event(Event::Cloned(beacon.node_id, door.ip())));
        }
        false
    }
}
