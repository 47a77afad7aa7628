//! The world: boards, one network, and virtual time.
//!
//! ```text
//!   quantum:  each board runs alone                                         (any number of threads)
//!             then all messages are transmitted, in the order of the boards (one thread)
//! ```
//!
//! A message that is sent in a quantum arrives in a later one. So the boards do not depend on each other within a
//! quantum, and the trace does not depend on the number of threads.

use std::collections::{BTreeMap, BTreeSet};

use cellsync::cell::{CopyInput, Event, Input, LocalCopy, MemberInput, Settings};
use cellsync::id::{CellId, ChunkId};
use cellsync::time::Time;
use cellsync::wire::beacon::Role;

use crate::board::{Board, Message, Packet};
use crate::disk::{Disk, PutResult};
use crate::network::{self, Broadcast, Broadcasts, CONNECT_MS, Channel, Link, STALL_MS, mix};
use crate::requests::{Behavior, Purpose, Request, RequestId, Response};
use crate::trace::{self, Sink as _, Trace};

/// The parameters of a world.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The name of the test, or its beginning, for the command that replays it.
    pub(crate) name: &'static str,
    pub(crate) seed: u64,
    pub(crate) cells: usize,
    pub(crate) settings: Settings,
    pub(crate) link: Link,
    pub(crate) quantum_ms: u64,
    pub(crate) threads: usize,
    /// Capacity of each disk.
    pub(crate) disk_bytes: u64,
    /// The cells start within this time.
    pub(crate) start_within_ms: u64,
}

impl Plan {
    pub(crate) fn new(name: &'static str, cells: usize, seed: u64) -> Self {
        Self {
            name,
            seed,
            cells,
            settings: Settings::default(),
            link: Link::WIRED,
            quantum_ms: 50,
            threads: 1,
            disk_bytes: 64 << 30,
            start_within_ms: 2_000,
        }
    }
}

/// Why a chunk that is sent to heal has too few copies: the first of these that is true.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Causes {
    /// Enough cells hold it, and the sender can reach them.
    pub(crate) none: u64,
    /// A holder drains.
    pub(crate) drain: u64,
    /// The disk of a holder is failing, or cannot read the copy.
    pub(crate) unreadable: u64,
    /// A holder is off, or on the other side of a partition.
    pub(crate) away: u64,
    /// Copies are bad, or were lost with their boards.
    pub(crate) lost: u64,
}

/// Bytes of chunks that were transferred, by purpose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) healed: u64,
    /// The same by cause.
    pub(crate) by_cause: Causes,
    pub(crate) refetched: u64,
    pub(crate) audited: u64,
    /// Number of copies sent to heal.
    pub(crate) copies: u64,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) boards: Vec<Board>,
    pub(crate) now: Time,
    pub(crate) rng: fastrand::Rng,
    pub(crate) moved: Moved,
    broadcasts: Broadcasts,
    starts: BTreeSet<(Time, usize)>,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let rng = fastrand::Rng::with_seed(mix(plan.seed));
        let mut world = Self {
            plan,
            boards: Vec::new(),
            now: Time(1_000),
            rng,
            moved: Moved::default(),
            broadcasts: Broadcasts::default(),
            starts: BTreeSet::new(),
        };
        for _ in 0..world.plan.cells {
            let wait_ms = world.rng.u64(0..=world.plan.start_within_ms);
            world.add(wait_ms);
        }
        world
    }

    /// Adds a board with an empty disk, which is switched on after `wait_ms`. Returns its index.
    pub(crate) fn add(&mut self, wait_ms: u64) -> usize {
        let mut bytes = [0; 16];
        self.rng.fill(&mut bytes);
        let disk = Disk::new(CellId::from_random(bytes), self.plan.disk_bytes);
        self.add_with_disk(disk, wait_ms)
    }

    /// Adds a board with this disk.
    pub(crate) fn add_with_disk(&mut self, disk: Disk, wait_ms: u64) -> usize {
        let index = self.boards.len();
        let seed = self.rng.u64(..);
        self.boards.push(Board::new(index, disk, self.plan.settings, self.plan.link, seed));
        self.starts.insert((self.now.plus_ms(wait_ms), index));
        index
    }

    /// The power of this board fails, and returns after `down_ms`.
    pub(crate) fn reboot(&mut self, index: usize, down_ms: u64) {
        self.crash(index);
        self.starts.insert((self.now.plus_ms(down_ms), index));
    }

    /// Destroys this board and its disk.
    pub(crate) fn destroy(&mut self, index: usize) {
        self.crash(index);
        self.boards[index].destroyed = true;
        self.starts.retain(|(_, starting)| *starting != index);
    }

    fn crash(&mut self, index: usize) {
        let later = self.now.plus_ms(STALL_MS);
        for (sender, id) in self.boards[index].crash(self.now) {
            self.boards[sender].deliver(later, Message::Response { id, response: Response::TimedOut });
        }
    }

    /// Gives an input to a cell.
    pub(crate) fn input(&mut self, index: usize, input: Input) {
        self.boards[index].deliver(self.now, Message::Input(input));
    }

    /// Gives an input to all running cells.
    pub(crate) fn input_all(&mut self, input: &Input) {
        for index in self.running() {
            self.input(index, input.clone());
        }
    }

    /// A client puts a chunk on these cells, which all acknowledge it. Returns those that had room for it.
    pub(crate) fn put(&mut self, id: ChunkId, len: u32, copies: u8, on: &[usize]) -> Vec<usize> {
        let holders: Vec<CellId> = on.iter().map(|&index| self.boards[index].id()).collect();
        let copy = LocalCopy { id, len, copies, bare: false, holders };
        let mut acknowledged = on.to_vec();
        acknowledged.retain(|&index| {
            let result = self.boards[index].disk.put(&copy);
            if result == PutResult::Stored {
                let input = Input::Copy(CopyInput::Present(vec![copy.clone()]));
                self.boards[index].deliver(self.now, Message::Input(input));
            }
            result != PutResult::NoRoom
        });
        acknowledged
    }

    /// The boards that are running.
    pub(crate) fn running(&self) -> Vec<usize> {
        self.boards.iter().filter(|board| board.is_running()).map(|board| board.index).collect()
    }

    /// This many different running boards, chosen at random.
    pub(crate) fn random_running(&mut self, count: usize) -> Vec<usize> {
        let running = self.running();
        self.rng.choose_multiple(running, count)
    }

    pub(crate) fn with_role(&self, role: Role) -> Vec<usize> {
        self.running().into_iter().filter(|&index| self.boards[index].role(self.now) == Some(role)).collect()
    }

    /// The boards that hold a good copy of each chunk, and are neither destroyed nor lying.
    pub(crate) fn holders(&self) -> BTreeMap<ChunkId, Vec<usize>> {
        self.holders_among(|board| !board.destroyed)
    }

    /// The same among the boards that `includes` accepts.
    pub(crate) fn holders_among(&self, includes: impl Fn(&Board) -> bool) -> BTreeMap<ChunkId, Vec<usize>> {
        let mut copies: Vec<(ChunkId, usize)> = Vec::new();
        for board in self.boards.iter().filter(|board| includes(board) && board.behavior == Behavior::Honest) {
            copies.extend(board.disk.copies().filter(|(_, copy)| copy.good).map(|(id, _)| (*id, board.index)));
        }
        // Sorted first. With a lookup for each copy, checking would take longer than the simulation itself.
        copies.sort_unstable();
        let of_each = copies.chunk_by(|(one, _), (next, _)| one == next);
        of_each.map(|copies| (copies[0].0, copies.iter().map(|(_, index)| *index).collect())).collect()
    }

    /// The events of all cells, except [`Event::Active`].
    pub(crate) fn events(&self) -> impl Iterator<Item = (usize, Time, &Event)> {
        self.boards.iter().flat_map(|board| board.events.iter().map(|(at, event)| (board.index, *at, event)))
    }

    /// One number for everything that all cells have put out.
    pub(crate) fn trace(&self) -> u64 {
        let mut all = Trace::default();
        for board in &self.boards {
            all.number(board.trace.value());
        }
        all.value()
    }

    /// Runs one quantum.
    pub(crate) fn step(&mut self) {
        while let Some(&(at, index)) = self.starts.first()
            && at <= self.now
        {
            self.starts.pop_first();
            self.boards[index].start(self.now);
        }
        let (from, until) = (self.now, self.now.plus_ms(self.plan.quantum_ms));
        let boards_per_thread = self.boards.len().div_ceil(self.plan.threads).max(1);
        let broadcasts = &self.broadcasts;
        let run = |boards: &mut [Board]| boards.iter_mut().for_each(|board| board.run_quantum(broadcasts, from, until));
        std::thread::scope(|scope| {
            let mut parts = self.boards.chunks_mut(boards_per_thread);
            let own = parts.next();
            parts.for_each(|part| drop(scope.spawn(move || run(part))));
            own.map(run);
        });
        self.now = until;
        self.transmit();
    }

    /// Transmits all messages that were sent in the quantum.
    fn transmit(&mut self) {
        self.broadcasts.salt = self.rng.u64(..);
        self.broadcasts.list.clear();
        for index in 0..self.boards.len() {
            let board = &mut self.boards[index];
            let (from, partition) = (board.ip(), board.partition);
            let beacons = board.beacons.drain(..);
            self.broadcasts.list.extend(beacons.map(|beacon| Broadcast::new(from, partition, beacon)));
            for (at, packet) in std::mem::take(&mut board.outbox) {
                self.transmit_packet(index, at, packet);
            }
        }
        // In the order of the member tables: the next member is near the one before. With a thousand cells that makes
        // the simulation several times as fast.
        self.broadcasts.list.sort_by_key(|broadcast| broadcast.from);
    }

    fn transmit_packet(&mut self, from: usize, at: Time, packet: Packet) {
        match packet {
            Packet::Beacon { to, beacon } => {
                let to = network::index_of(to);
                if self.reaches(from, to) {
                    let input = Input::Member(MemberInput::Beacon { from: network::ip(from), beacon });
                    self.boards[to].deliver(at.max(self.now), Message::Input(input));
                }
            }
            Packet::Alert(alert) => {
                for to in self.running() {
                    if self.reaches(from, to) && self.rng.u16(..1000) >= self.plan.link.lost {
                        self.boards[to].deliver(self.now, Message::Input(Input::Copy(CopyInput::Alert(alert))));
                    }
                }
            }
            Packet::Request { to, id, request } => {
                let receiver = network::index_of(to.ip());
                if to.port() != network::PORT || !self.reaches(from, receiver) {
                    return self.time_out(from, id, at.plus_ms(CONNECT_MS));
                }
                if self.is_broken() {
                    return self.time_out(from, id, at.plus_ms(STALL_MS));
                }
                let bytes = match &request {
                    Request::Put { copy, .. } => copy.len,
                    _ => 0,
                };
                if let Request::Put { copy, .. } = &request {
                    *self.cause(from, copy) += u64::from(bytes);
                    self.moved.healed += u64::from(bytes);
                    self.moved.copies += 1;
                }
                let arrives = self.transfer(from, receiver, at, bytes);
                self.boards[receiver].deliver(arrives, Message::Request { from, id, request });
            }
            Packet::Response { to, id, response } => {
                let at = at.plus_ms(self.rng.u64(0..=self.boards[from].answer_ms));
                if at.since_ms(self.now) > STALL_MS {
                    return self.time_out(to, id, self.now.plus_ms(STALL_MS));
                }
                if !self.reaches(from, to) || self.is_broken() {
                    return self.time_out(to, id, at.plus_ms(STALL_MS));
                }
                let bytes = match &response {
                    Response::Chunk { len, purpose, .. } => {
                        match purpose {
                            Purpose::Refetch => self.moved.refetched += u64::from(*len),
                            Purpose::Audit => self.moved.audited += u64::from(*len),
                        }
                        *len
                    }
                    _ => 0,
                };
                let arrives = self.transfer(from, to, at, bytes);
                self.boards[to].deliver(arrives, Message::Response { id, response });
            }
        }
    }

    /// The count of the cause for which this copy is sent.
    fn cause(&mut self, from: usize, copy: &LocalCopy) -> &mut u64 {
        let partition = self.boards[from].partition;
        let holders = || self.boards.iter().filter(|board| !board.destroyed && board.disk.get(&copy.id).is_some());
        let is_away = |board: &Board| !board.is_running() || board.partition != partition;
        let is_unreadable = |board: &Board| board.is_failing() || !board.disk.has(&copy.id);
        let counts = |board: &&Board| {
            let is_good = board.behavior == Behavior::Honest && board.disk.get(&copy.id).unwrap().good;
            !is_away(board) && !is_unreadable(board) && !board.disk.state.draining && is_good
        };
        let causes = &mut self.moved.by_cause;
        if holders().filter(counts).count() >= usize::from(copy.copies) {
            &mut causes.none
        } else if holders().any(|board| board.disk.state.draining) {
            &mut causes.drain
        } else if holders().any(is_unreadable) {
            &mut causes.unreadable
        } else if holders().any(is_away) {
            &mut causes.away
        } else {
            &mut causes.lost
        }
    }

    /// When this many bytes arrive; not before the next quantum.
    fn transfer(&mut self, from: usize, to: usize, at: Time, bytes: u32) -> Time {
        let sent = at.plus_ms(self.rng.u64(1..=self.plan.link.latency_ms));
        let arrives = if bytes == 0 || from == to {
            sent
        } else {
            let mut outgoing = self.boards[from].outgoing;
            let into = &mut self.boards[to].incoming;
            let arrives = Channel::transfer(&mut outgoing, into, sent, u64::from(bytes), &self.plan.link);
            self.boards[from].outgoing = outgoing;
            arrives
        };
        arrives.max(self.now)
    }

    fn time_out(&mut self, sender: usize, id: RequestId, at: Time) {
        if self.boards[sender].is_running() {
            let response = Message::Response { id, response: Response::TimedOut };
            self.boards[sender].deliver(at.max(self.now), response);
        }
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        let Some(receiver) = self.boards.get(to) else { return false };
        receiver.is_running() && receiver.partition == self.boards[from].partition
    }

    /// Is this request or response lost?
    fn is_broken(&mut self) -> bool {
        self.plan.link.broken > 0 && self.rng.u16(..1000) < self.plan.link.broken
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Plan { name, seed, cells, .. } = self.plan;
            eprintln!("failed at {} ms of virtual time; replay it with:", self.now.0);
            eprintln!("SEED={seed} CELLS={cells} cargo test --test sim {name}");
        } else {
            trace::append_to_file(&self.plan, self.trace(), &self.moved);
        }
    }
}
