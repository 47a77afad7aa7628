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

use std::collections::BTreeMap;
use std::net::SocketAddr;

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
    cloned_at: Option<Time>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Active,
    Silent { next_visit: Time, visiting: bool },
    Dead,
    Left,
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
    members: BTreeMap<CellId, Member>,
    crowded: bool,
}

impl Membership {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, members: BTreeMap::new(), crowded: false }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (CellId, &Member)> {
        self.members.iter().map(|(id, member)| (*id, member))
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
        member.update(door, beacon);
        match (beacon.status, how) {
            (Status::Leaving, _) => {
                member.standing = Standing::Left;
                if was != Standing::Left {
                    out.push(Output::Event(Event::Left(id)));
                }
            }
            (_, Heard::Beacon) => {
                member.last_heard = now;
                member.standing = Standing::Active;
                if was != Standing::Active {
                    out.push(Output::Event(Event::Active(id, door)));
                }
            }
            (_, Heard::Visit) => {}
        }
    }

    /// Notes how a visit to this door ended. Only when nobody answers, or another cell does, is the silent one dead.
    pub(super) fn visited(&mut self, now: Time, door: &str, answer: &Answer, out: &mut Vec<Output>) {
        for (id, member) in &mut self.members {
            if !matches!(member.standing, Standing::Silent { .. }) || member.door.to_string() != door {
                continue;
            }
            let lives = match answer {
                Answer::Nobody => false,
                Answer::Somebody => true,
                Answer::Cell(_, beacon) => beacon.node_id == *id,
            };
            if lives {
                let next_visit = now.plus_ms(self.settings.visit_ms);
                member.standing = Standing::Silent { next_visit, visiting: false };
            } else {
                member.standing = Standing::Dead;
                out.push(Output::Event(Event::Dead(*id)));
            }
        }
    }

    /// Notices silence, asks for the visits that are due, and forgets who is long gone.
    pub(super) fn age(&mut self, now: Time, out: &mut Vec<Output>) {
        let Settings { silent_after_ms, forget_ms, .. } = self.settings;
        self.members.retain(|_, member| {
            !matches!(member.standing, Standing::Dead | Standing::Left) || now.since_ms(member.last_heard) <= forget_ms
        });
        for (id, member) in &mut self.members {
            if member.standing == Standing::Active && now.since_ms(member.last_heard) > silent_after_ms {
                member.standing = Standing::Silent { next_visit: now, visiting: false };
                out.push(Output::Event(Event::Silent(*id)));
            }
        }
        let visiting = |m: &Member| matches!(m.standing, Standing::Silent { visiting: true, .. });
        let mut under_way = self.members.values().filter(|member| visiting(member)).count();
        for member in self.members.values_mut() {
            if under_way >= MAX_VISITS {
                break;
            }
            if let Standing::Silent { next_visit, visiting: false } = member.standing
                && now >= next_visit
            {
                member.standing = Standing::Silent { next_visit, visiting: true };
                out.push(Output::Visit { door: member.door.to_string(), announce: false });
                under_way += 1;
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
