//! The world: boards on one network, and virtual time.
//!
//! ```text
//!   quantum:  every cell lives through it by itself      (any number of threads)
//!             then all that they sent is put on its way, in the order of the cells      (one)
//! ```
//!
//! Nothing sent in a quantum arrives before the next one. So the cells of a quantum do not depend on each other, and
//! the trace not on the number of threads.

use std::collections::{BTreeMap, BTreeSet};

use cellsync::cell::{CopyInput, Event, Input, LocalCopy, MemberInput, Settings};
use cellsync::id::CellId;
use cellsync::id::ChunkId;
use cellsync::time::Time;
use cellsync::wire::beacon::Role;

use crate::calls::{CallId, Nature, Purpose, Reply, Request};
use crate::disk::{Disk, Taken};
use crate::host::{Host, Mail, Parcel};
use crate::network::{self, Air, CONNECT_MS, Link, STALL_MS, Wave, Wire, mix};
use crate::trace::{self, Sink as _, Trace};

/// What a world is made of.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Of the test, for the line that replays it.
    pub(crate) name: &'static str,
    pub(crate) seed: u64,
    pub(crate) cells: usize,
    pub(crate) settings: Settings,
    pub(crate) link: Link,
    pub(crate) quantum_ms: u64,
    pub(crate) threads: usize,
    /// Room on each disk.
    pub(crate) room_bytes: u64,
    /// Cells start within so long of each other.
    pub(crate) start_within_ms: u64,
}

impl Plan {
    pub(crate) fn new(name: &'static str, cells: usize, seed: u64) -> Self {
        Self {
            name,
            seed,
            cells,
            settings: Settings::default(),
            link: Link::WIRE,
            quantum_ms: 50,
            threads: 1,
            room_bytes: 64 << 30,
            start_within_ms: 2_000,
        }
    }
}

/// Bytes of chunks that crossed the network, by what for; and how many copies were sent to heal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) healed: u64,
    pub(crate) mended: u64,
    pub(crate) audited: u64,
    pub(crate) copies: u64,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) hosts: Vec<Host>,
    pub(crate) now: Time,
    pub(crate) rng: fastrand::Rng,
    pub(crate) moved: Moved,
    air: Air,
    starts: BTreeSet<(Time, usize)>,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let rng = fastrand::Rng::with_seed(mix(plan.seed));
        let air = Air::default();
        let starts = BTreeSet::new();
        let mut world = Self { plan, hosts: Vec::new(), now: Time(1_000), rng, moved: Moved::default(), air, starts };
        for _ in 0..world.plan.cells {
            let wait_ms = world.rng.u64(0..=world.plan.start_within_ms);
            world.add(wait_ms);
        }
        world
    }

    /// A new board, switched on in so many milliseconds.
    pub(crate) fn add(&mut self, wait_ms: u64) -> usize {
        let mut bytes = [0; 16];
        self.rng.fill(&mut bytes);
        let disk = Disk::new(CellId::from_random(bytes), self.plan.room_bytes);
        self.add_with(disk, wait_ms)
    }

    /// A new board with this disk in it.
    pub(crate) fn add_with(&mut self, disk: Disk, wait_ms: u64) -> usize {
        let index = self.hosts.len();
        let seed = self.rng.u64(..);
        self.hosts.push(Host::new(index, disk, self.plan.settings, self.plan.link, seed));
        self.starts.insert((self.now.plus_ms(wait_ms), index));
        index
    }

    /// The power of this board fails, and comes back after so long.
    pub(crate) fn reboot(&mut self, index: usize, down_ms: u64) {
        self.crash(index);
        self.starts.insert((self.now.plus_ms(down_ms), index));
    }

    /// This board dies for ever, with its disk.
    pub(crate) fn kill(&mut self, index: usize) {
        self.crash(index);
        self.hosts[index].gone = true;
        self.starts.retain(|(_, starting)| *starting != index);
    }

    fn crash(&mut self, index: usize) {
        let later = self.now.plus_ms(STALL_MS);
        for (caller, id) in self.hosts[index].crash(self.now) {
            self.hosts[caller].post(later, Mail::Reply { id, reply: Reply::Nobody });
        }
    }

    /// Gives this to a cell now.
    pub(crate) fn give(&mut self, index: usize, input: Input) {
        self.hosts[index].post(self.now, Mail::Input(input));
    }

    pub(crate) fn give_all(&mut self, input: &Input) {
        for index in self.up() {
            self.give(index, input.clone());
        }
    }

    /// A client puts a chunk on these cells, which all acknowledge it. Those without room refuse; the others are given.
    pub(crate) fn put(&mut self, id: ChunkId, len: u32, copies: u8, on: &[usize]) -> Vec<usize> {
        let holders: Vec<CellId> = on.iter().map(|&index| self.hosts[index].id()).collect();
        let held = LocalCopy { id, len, copies, holders };
        let mut took = on.to_vec();
        took.retain(|&index| {
            let taken = self.hosts[index].disk.put(&held);
            if taken == Taken::New {
                self.hosts[index].post(self.now, Mail::Input(Input::Copy(CopyInput::Present(vec![held.clone()]))));
            }
            taken != Taken::NoRoom
        });
        took
    }

    pub(crate) fn up(&self) -> Vec<usize> {
        self.hosts.iter().filter(|host| host.is_up()).map(|host| host.index).collect()
    }

    /// So many different running cells, at random.
    pub(crate) fn some_up(&mut self, count: usize) -> Vec<usize> {
        let up = self.up();
        self.rng.choose_multiple(up, count)
    }

    pub(crate) fn with_role(&self, role: Role) -> Vec<usize> {
        self.up().into_iter().filter(|&index| self.hosts[index].role(self.now) == Some(role)).collect()
    }

    /// The boards that hold a whole copy of each chunk: those that run or will run again, and do not lie.
    pub(crate) fn holders(&self) -> BTreeMap<ChunkId, Vec<usize>> {
        self.holders_among(|host| !host.gone)
    }

    /// The same, of those boards for which this is true.
    pub(crate) fn holders_among(&self, there: impl Fn(&Host) -> bool) -> BTreeMap<ChunkId, Vec<usize>> {
        let mut copies: Vec<(ChunkId, usize)> = Vec::new();
        for host in self.hosts.iter().filter(|host| there(host) && host.nature == Nature::Honest) {
            copies.extend(host.disk.copies().filter(|(_, copy)| copy.good).map(|(id, _)| (*id, host.index)));
        }
        // Sorted first: entries found one by one would make the judge slower than the judged.
        copies.sort_unstable();
        let of_each = copies.chunk_by(|(one, _), (next, _)| one == next);
        of_each.map(|copies| (copies[0].0, copies.iter().map(|(_, index)| *index).collect())).collect()
    }

    /// All that happened since the start that people are told, but for who became active.
    pub(crate) fn events(&self) -> impl Iterator<Item = (usize, Time, &Event)> {
        self.hosts.iter().flat_map(|host| host.events.iter().map(|(at, event)| (host.index, *at, event)))
    }

    /// One number for all that all cells decided.
    pub(crate) fn trace(&self) -> u64 {
        let mut all = Trace::default();
        for host in &self.hosts {
            all.number(host.trace.value());
        }
        all.value()
    }

    /// Lets one quantum pass.
    pub(crate) fn step(&mut self) {
        while let Some(&(at, index)) = self.starts.first()
            && at <= self.now
        {
            self.starts.pop_first();
            self.hosts[index].start(self.now);
        }
        let (from, until) = (self.now, self.now.plus_ms(self.plan.quantum_ms));
        let each = self.hosts.len().div_ceil(self.plan.threads).max(1);
        let air = &self.air;
        let live = |hosts: &mut [Host]| hosts.iter_mut().for_each(|host| host.live(air, from, until));
        std::thread::scope(|scope| {
            let mut parts = self.hosts.chunks_mut(each);
            let own = parts.next();
            parts.for_each(|part| drop(scope.spawn(move || live(part))));
            own.map(live);
        });
        self.now = until;
        self.put_on_its_way();
    }

    fn put_on_its_way(&mut self) {
        self.air.salt = self.rng.u64(..);
        self.air.waves.clear();
        for index in 0..self.hosts.len() {
            let host = &mut self.hosts[index];
            let (from, side) = (host.address(), host.side);
            self.air.waves.extend(host.waves.drain(..).map(|beacon| Wave::new(from, side, beacon)));
            for (at, parcel) in host.take_parcels() {
                self.carry(index, at, parcel);
            }
        }
        // In the order in which cells keep their members: the next record is near the one before. With a thousand
        // cells it makes the simulation several times as fast.
        self.air.waves.sort_by_key(|wave| wave.by);
    }

    fn carry(&mut self, from: usize, at: Time, parcel: Parcel) {
        match parcel {
            Parcel::Beacon { to, beacon } => {
                let to = network::index(to);
                if self.reaches(from, to) {
                    let input = Input::Member(MemberInput::Beacon { from: network::address(from), beacon });
                    self.hosts[to].post(at.max(self.now), Mail::Input(input));
                }
            }
            Parcel::Alert(alert) => {
                for to in self.up() {
                    if self.reaches(from, to) && self.rng.u16(..1000) >= self.plan.link.lost {
                        self.hosts[to].post(self.now, Mail::Input(Input::Copy(CopyInput::Alert(alert))));
                    }
                }
            }
            Parcel::Call { to, id, request } => {
                let here = network::index(to.ip());
                if to.port() != network::PORT || !self.reaches(from, here) {
                    return self.fail(from, id, at.plus_ms(CONNECT_MS));
                }
                if self.breaks() {
                    return self.fail(from, id, at.plus_ms(STALL_MS));
                }
                let bytes = match &request {
                    Request::Put { held, .. } => held.len,
                    _ => 0,
                };
                if bytes > 0 {
                    self.moved.healed += u64::from(bytes);
                    self.moved.copies += 1;
                }
                let arrives = self.transfer(from, here, at, bytes);
                self.hosts[here].post(arrives, Mail::Call { from, id, request });
            }
            Parcel::Reply { to, id, reply } => {
                if !self.reaches(from, to) || self.breaks() {
                    return self.fail(to, id, at.plus_ms(STALL_MS));
                }
                let bytes = match &reply {
                    Reply::Bytes { len, purpose, .. } => {
                        match purpose {
                            Purpose::Refetch => self.moved.mended += u64::from(*len),
                            Purpose::Audit => self.moved.audited += u64::from(*len),
                        }
                        *len
                    }
                    _ => 0,
                };
                let arrives = self.transfer(from, to, at, bytes);
                self.hosts[to].post(arrives, Mail::Reply { id, reply });
            }
        }
    }

    /// When this many bytes arrive, not before the next quantum.
    fn transfer(&mut self, from: usize, to: usize, at: Time, bytes: u32) -> Time {
        let sent = at.plus_ms(self.rng.u64(1..=self.plan.link.latency_ms));
        let passed = if bytes == 0 || from == to {
            sent
        } else {
            let mut outgoing = self.hosts[from].outgoing;
            let into = &mut self.hosts[to].incoming;
            let passed = Wire::transfer(&mut outgoing, into, sent, u64::from(bytes), &self.plan.link);
            self.hosts[from].outgoing = outgoing;
            passed
        };
        passed.max(self.now)
    }

    fn fail(&mut self, caller: usize, id: CallId, at: Time) {
        if self.hosts[caller].is_up() {
            self.hosts[caller].post(at.max(self.now), Mail::Reply { id, reply: Reply::Nobody });
        }
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        let Some(there) = self.hosts.get(to) else { return false };
        there.is_up() && there.side == self.hosts[from].side
    }

    fn breaks(&mut self) -> bool {
        self.plan.link.broken > 0 && self.rng.u16(..1000) < self.plan.link.broken
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Plan { name, seed, cells, .. } = self.plan;
            eprintln!("at {} ms of the simulation; to see it again:", self.now.0);
            eprintln!("SEED={seed} CELLS={cells} cargo test --test sim {name}");
        } else {
            trace::append_to_file(&self.plan, self.trace());
        }
    }
}
