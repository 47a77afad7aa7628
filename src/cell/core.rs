//! One cell: [`Cell::handle`] takes an input and appends what is to be done.

use std::net::{IpAddr, SocketAddr};

use crate::cell::copies::{Around, Living};
use crate::cell::membership::roles::{self, Differentiation};
use crate::cell::membership::static_peers::Peers;
use crate::cell::membership::{Heard, Member, Membership};
use crate::cell::{Event, Input, MemberInput, Output, Persist, ProbeOutcome, SavedState, Settings, StoreStats, Udp};
use crate::id::CellId;
use crate::time::Time;
use crate::wire::beacon::{Beacon, Boot, Role, Status, WIRE_VERSION};
use crate::wire::peers::Presence;
use crate::wire::status::Activity;

/// Beacons of a foreign cell with our own name: how often and how long it must be heard before that is believed. A
/// single stray datagram of our own previous run is no clone.
pub(super) const CLONE_SIGHTINGS: u32 = 3;
pub(super) const CLONE_WINDOW_MS: u64 = 10_000;
/// People are told of clones so often at the most, in milliseconds.
pub(super) const CLONE_TOLD_MS: u64 = 60_000;

/// A cell wakes at least so often, in milliseconds.
const MAX_SLEEP_MS: u64 = 1000;

#[derive(Debug)]
struct CloneWatch {
    boot: Boot,
    first: Time,
    sightings: u32,
}

/// One cell's view of the colony, and its own part in it.
pub struct Cell {
    pub(super) id: CellId,
    boot: Boot,
    port: u16,
    settings: Settings,
    differentiation: Differentiation,
    /// The role that the colony needs of this cell, as it last looked.
    pub(super) needed: Role,
    living: Living,
    store: StoreStats,
    leaving: bool,
    next_beacon: Time,
    members: Membership,
    pub(super) peers: Peers,
    clone_watch: Option<CloneWatch>,
    clone_told: Option<Time>,
    /// Has the cell taken another name since it started?
    renamed: bool,
    rng: fastrand::Rng,
}

impl Cell {
    /// A cell that is about to start: everything it needs to know of itself. `doors` are its static peers, as
    /// `HOST:PORT`; `memory` is what it last asked to be kept.
    pub fn new(
        id: CellId,
        boot: Boot,
        port: u16,
        doors: &[String],
        settings: Settings,
        memory: &SavedState,
        seed: u64,
    ) -> Self {
        Self {
            id,
            boot,
            port,
            settings,
            differentiation: Differentiation::new(),
            needed: roles::needed(&id, std::iter::empty()),
            living: Living::new(memory, &settings),
            store: StoreStats::default(),
            leaving: false,
            next_beacon: Time::default(),
            members: Membership::new(settings),
            peers: Peers::new(doors, settings),
            clone_watch: None,
            clone_told: None,
            renamed: false,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Takes in what happened and appends what is to be done.
    pub fn handle(&mut self, now: Time, input: &Input, out: &mut Vec<Output>) {
        match input {
            Input::Wake(store) => self.wake(now, *store, out),
            Input::Member(input) => self.handle_member(now, input, out),
            Input::Copy(input) => {
                if !self.leaving {
                    self.live(now, |living, around, rng| living.handle(around, input, rng, out));
                }
            }
            Input::Shutdown => {
                self.leaving = true;
                self.send_beacon(now, out);
            }
        }
    }

    fn handle_member(&mut self, now: Time, input: &MemberInput, out: &mut Vec<Output>) {
        match input {
            MemberInput::Beacon { from, beacon } => {
                self.heard(now, SocketAddr::new(*from, beacon.port), beacon, out);
            }
            MemberInput::ProbeRequest { from } => {
                out.push(Output::Udp(Udp::ProbeReply { to: *from, beacon: self.beacon(now) }));
            }
            MemberInput::ProbeDone { address, outcome } => self.visited(now, address, outcome, out),
            MemberInput::Join { address } => {
                if self.peers.join(now, address) {
                    self.peers.visits(now, &self.members, out);
                }
            }
        }
    }

    /// Calls one of the rules about copies with what is around the cell.
    fn live(&mut self, now: Time, rule: impl FnOnce(&mut Living, &Around, &mut fastrand::Rng)) {
        let around = Around {
            now,
            id: self.id,
            role: self.differentiation.role(),
            store: self.store,
            members: &self.members,
            settings: &self.settings,
        };
        rule(&mut self.living, &around, &mut self.rng);
    }

    /// What the cell does besides being there: healing, scrub, audits, draining.
    pub fn life(&self) -> Activity {
        self.living.facts()
    }

    /// The cell's name.
    pub fn id(&self) -> CellId {
        self.id
    }

    /// What the cell says of itself at this moment.
    pub fn beacon(&self, now: Time) -> Beacon {
        Beacon {
            node_id: self.id,
            port: self.port,
            status: self.status(),
            v: Some(WIRE_VERSION),
            boot: Some(self.boot),
            role: self.differentiation.role(),
            chunks: Some(self.store.chunks),
            free: Some(self.store.free_bytes),
            cells: Some(u32::try_from(self.members.actives()).unwrap_or(u32::MAX).saturating_add(1)),
            clean_s: self.living.clean_s(now),
        }
    }

    /// The other cells, in order of their names.
    pub fn members(&self) -> impl Iterator<Item = (CellId, &Member)> {
        self.members.iter()
    }

    /// Is this member active, silent, dead or gone?
    pub fn presence(&self, now: Time, member: &Member) -> Presence {
        self.members.presence(now, member)
    }

    fn status(&self) -> Status {
        match (self.leaving, self.living.is_draining(), self.store.full) {
            (true, _, _) => Status::Leaving,
            (false, true, _) => Status::Draining,
            (false, false, true) => Status::Full,
            (false, false, false) => Status::Active,
        }
    }

    fn wake(&mut self, now: Time, store: StoreStats, out: &mut Vec<Output>) {
        self.store = store;
        self.members.age(now, out);
        // Looked at once a second, however many come and go in it.
        let changes = self.members.take_changed();
        if !changes.is_empty() {
            self.needed = roles::needed(&self.id, self.members.active(now).map(|(id, _)| id));
            self.live(now, |living, around, _| living.colony_changed(around, &changes, out));
        }
        self.peers.visits(now, &self.members, out);
        if self.differentiation.look(now, self.needed, &self.settings) {
            out.push(Output::Event(Event::Role(self.differentiation.role())));
        }
        if !self.leaving {
            self.live(now, |living, around, rng| living.wake(around, rng, out));
        }
        if now >= self.next_beacon {
            if !self.leaving {
                self.send_beacon(now, out);
            }
            // Cells that start together must not stay in step, or each second brings one burst.
            let spread = self.settings.beacon_ms / 10;
            let jitter_ms = self.rng.u64(0..=spread);
            self.next_beacon = now.plus_ms(self.settings.beacon_ms - spread / 2 + jitter_ms);
        }
        // However slow its beacons are, a cell looks after its copies each second.
        out.push(Output::WakeAt(self.next_beacon.min(now.plus_ms(MAX_SLEEP_MS))));
    }

    fn send_beacon(&self, now: Time, out: &mut Vec<Output>) {
        let beacon = self.beacon(now);
        for address in self.peers.addresses() {
            out.push(Output::Udp(Udp::Unicast { to: address, beacon: beacon.clone() }));
        }
        out.push(Output::Udp(Udp::Broadcast(beacon)));
    }

    fn heard(&mut self, now: Time, door: SocketAddr, beacon: &Beacon, out: &mut Vec<Output>) {
        if beacon.node_id == self.id {
            self.heard_own_name(now, door.ip(), beacon, out);
        } else {
            self.members.heard(now, door, beacon, Heard::Beacon, out);
            if beacon.clean_s.is_some() {
                self.live(now, |living, around, _| living.heard(around, beacon, out));
            }
        }
    }

    /// Our own broadcast comes back to us; that is an echo. The same name with another boot is another cell.
    ///
    /// A new name is taken once after each start, which is all that a copied card needs. Who forges beacons could
    /// otherwise make the cell rename itself, and write to its disk, for ever.
    fn heard_own_name(&mut self, now: Time, from: IpAddr, beacon: &Beacon, out: &mut Vec<Output>) {
        let Some(boot) = beacon.boot else { return };
        if boot == self.boot || beacon.status == Status::Leaving {
            return;
        }
        let watch = match &mut self.clone_watch {
            Some(watch) if watch.boot == boot && now.since_ms(watch.first) <= CLONE_WINDOW_MS => watch,
            other => other.insert(CloneWatch { boot, first: now, sightings: 0 }),
        };
        watch.sightings += 1;
        if watch.sightings < CLONE_SIGHTINGS || now.since_ms(watch.first) < 2 * self.settings.beacon_ms * 9 / 10 {
            return;
        }
        self.clone_watch = None;
        if self.clone_told.is_none_or(|then| now.since_ms(then) >= CLONE_TOLD_MS) {
            self.clone_told = Some(now);
            out.push(Output::Event(Event::DuplicateId(self.id, from)));
        }
        if self.boot > boot && !self.renamed {
            self.renamed = true;
            let from = self.id;
            let mut bytes = [0; 16];
            self.rng.fill(&mut bytes);
            self.id = CellId::from_random(bytes);
            out.push(Output::Persist(Persist::CellId(self.id)));
            out.push(Output::Event(Event::Renamed { from, to: self.id }));
        }
    }

    fn visited(&mut self, now: Time, door: &str, answer: &ProbeOutcome, out: &mut Vec<Output>) {
        let is_peer = self.peers.visited(now, door, self.id, answer);
        self.members.visited(now, door, answer, out);
        if let ProbeOutcome::Cell(address, beacon) = answer
            && beacon.node_id != self.id
        {
            let how = if is_peer { Heard::Beacon } else { Heard::Visit };
            self.members.heard(now, *address, beacon, how, out);
        }
    }
}
