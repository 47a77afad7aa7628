//! The protocol of the colony: what a cell decides.
//!
//! [`Cell::handle`] is the only way in: it gets the time and one [`Input`], and appends the [`Output`]s to be
//! performed. What an output brings about comes back as another input. So the same code runs in the daemon
//! (`node::driver` performs the outputs on real sockets) and in a simulation (which performs them in virtual time).
//!
//! Pure: no clock, socket, disk or thread; randomness comes from the seed given at the start. Chunk bytes never pass
//! through here, only decisions about them.

mod membership;
mod peers;
pub mod placement;

use std::net::{IpAddr, SocketAddr};

pub use membership::{MAX_MEMBERS, Member};
pub use peers::MAX_PEERS;

use crate::wire::CellId;
use crate::wire::api::Presence;
use crate::wire::beacon::{Beacon, Boot, Role, Status, WIRE_VERSION};
use membership::{Heard, Membership};
use peers::Peers;

/// A moment, in milliseconds since some moment before the cell started. It never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(pub u64);

impl Time {
    /// The moment this many milliseconds later.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds since `earlier`; 0 if that is later.
    pub const fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The rhythm of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Time between two beacons, in milliseconds. All cells of a colony should have the same.
    pub beacon_ms: u64,
    /// A cell not heard for longer than this leaves the active list, in milliseconds; at least three beacons long, so
    /// that one lost datagram is no silence.
    pub silent_after_ms: u64,
    /// Time between two HTTP probes of a cell that is silent, and of a static peer whose beacons do not arrive, in
    /// milliseconds; at most half of `silent_after_ms`, so that a static peer stays active by them.
    pub visit_ms: u64,
    /// How long a dead or departed cell is remembered, in milliseconds.
    pub forget_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { beacon_ms: 1000, silent_after_ms: 5000, visit_ms: 2500, forget_ms: 3_600_000 }
    }
}

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

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The moment named by the last [`Output::WakeAt`] has come (or the cell starts). With what the store says now.
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
    /// An [`Output::Visit`] ended.
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
    /// [`Input::Visited`].
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
}

/// Beacons of a foreign cell with our own name: how often and how long it must be heard before that is believed. A
/// single stray datagram of our own previous run is no clone.
const CLONE_SIGHTINGS: u32 = 3;
const CLONE_WINDOW_MS: u64 = 10_000;
/// People are told of clones so often at the most, in milliseconds.
const CLONE_TOLD_MS: u64 = 60_000;

#[derive(Debug)]
struct CloneWatch {
    boot: Boot,
    first: Time,
    sightings: u32,
}

/// One cell's view of the colony, and its own part in it.
pub struct Cell {
    id: CellId,
    boot: Boot,
    port: u16,
    settings: Settings,
    role: Role,
    store: StoreFacts,
    leaving: bool,
    next_beacon: Time,
    members: Membership,
    peers: Peers,
    clone_watch: Option<CloneWatch>,
    clone_told: Option<Time>,
    /// Has the cell taken another name since it started?
    renamed: bool,
    rng: fastrand::Rng,
}

impl Cell {
    /// A cell that is about to start: everything it needs to know of itself. `doors` are its static peers, as
    /// `HOST:PORT`.
    pub fn new(id: CellId, boot: Boot, port: u16, doors: &[String], settings: Settings, seed: u64) -> Self {
        Self {
            id,
            boot,
            port,
            settings,
            role: Role::Stem,
            store: StoreFacts::default(),
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
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Wake(store) => self.wake(now, store, out),
            Input::Heard { from, beacon } => self.heard(now, SocketAddr::new(from, beacon.port), &beacon, out),
            Input::Probed { by } => out.push(Output::Answer(by, self.beacon(now))),
            Input::Visited { door, answer } => self.visited(now, &door, &answer, out),
            Input::Join { door } => {
                if self.peers.join(now, &door) {
                    self.peers.visits(now, &self.members, out);
                }
            }
            Input::Leave => {
                self.leaving = true;
                self.send_beacon(now, out);
            }
        }
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
            role: self.role,
            chunks: Some(self.store.chunks),
            free: Some(self.store.free_bytes),
            cells: Some(u32::try_from(self.members.active(now).count()).unwrap_or(u32::MAX).saturating_add(1)),
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
        match (self.leaving, self.store.full) {
            (true, _) => Status::Leaving,
            (false, true) => Status::Full,
            (false, false) => Status::Active,
        }
    }

    fn wake(&mut self, now: Time, store: StoreFacts, out: &mut Vec<Output>) {
        self.store = store;
        self.members.age(now, out);
        self.peers.visits(now, &self.members, out);
        if now >= self.next_beacon {
            if !self.leaving {
                self.send_beacon(now, out);
            }
            // Cells that start together must not stay in step, or each second brings one burst.
            let spread = self.settings.beacon_ms / 10;
            let jitter_ms = self.rng.u64(0..=spread);
            self.next_beacon = now.plus_ms(self.settings.beacon_ms - spread / 2 + jitter_ms);
        }
        out.push(Output::WakeAt(self.next_beacon));
    }

    fn send_beacon(&self, now: Time, out: &mut Vec<Output>) {
        let beacon = self.beacon(now);
        for address in self.peers.addresses() {
            out.push(Output::SendTo(address, beacon.clone()));
        }
        out.push(Output::Broadcast(beacon));
    }

    fn heard(&mut self, now: Time, door: SocketAddr, beacon: &Beacon, out: &mut Vec<Output>) {
        if beacon.node_id == self.id {
            self.heard_own_name(now, door.ip(), beacon, out);
        } else {
            self.members.heard(now, door, beacon, Heard::Beacon, out);
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
            out.push(Output::Event(Event::Cloned(self.id, from)));
        }
        if self.boot > boot && !self.renamed {
            self.renamed = true;
            let from = self.id;
            let mut bytes = [0; 16];
            self.rng.fill(&mut bytes);
            self.id = CellId::from_random(bytes);
            out.push(Output::Rename(self.id));
            out.push(Output::Event(Event::Renamed { from, to: self.id }));
        }
    }

    fn visited(&mut self, now: Time, door: &str, answer: &Answer, out: &mut Vec<Output>) {
        let is_peer = self.peers.visited(now, door, self.id, answer);
        self.members.visited(now, door, answer, out);
        if let Answer::Cell(address, beacon) = answer
            && beacon.node_id != self.id
        {
            let how = if is_peer { Heard::Beacon } else { Heard::Visit };
            self.members.heard(now, *address, beacon, how, out);
        }
    }
}

#[cfg(test)]
mod tests;
