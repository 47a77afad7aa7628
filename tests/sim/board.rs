//! One board: the real [`Cell`], a disk, and what `node::driver` does for the cell in the daemon. It wakes the cell,
//! performs its outputs, responds to requests, and reports outcomes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use cellsync::cell::{
    AuditTarget, Cell, CopyInput, Event, Input, LocalCopy, Output, Persist, SendOutcome, Settings, Task, Udp,
    VerifyOutcome,
};
use cellsync::id::{CellId, ChunkId};
use cellsync::time::Time;
use cellsync::wire::beacon::{Beacon, Boot, Role};
use cellsync::wire::datagram::Alert;

use crate::disk::Disk;
use crate::network::{Broadcasts, Channel, Delivery, Link, PORT, http_address, ip};
use crate::requests::{Behavior, Pending, Purpose, Request, RequestId, Response};
use crate::trace::Trace;

/// What arrives at a board.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    /// For the cell.
    Input(Input),
    /// A request of another board.
    Request { from: usize, id: RequestId, request: Request },
    /// The response to a request of this board.
    Response { id: RequestId, response: Response },
}

/// What a board sends.
#[derive(Debug, Clone)]
pub(crate) enum Packet {
    Request { to: SocketAddr, id: RequestId, request: Request },
    Response { to: usize, id: RequestId, response: Response },
    Beacon { to: IpAddr, beacon: Beacon },
    Alert(Alert),
}

/// A cell that asks to be woken more often in one quantum would hang the simulation.
const MAX_WAKES_PER_QUANTUM: u32 = 10_000;
/// Time to read and hash a copy.
const VERIFY_MS: u64 = 20;
const NEVER: Time = Time(u64::MAX);

pub(crate) struct Board {
    pub(crate) index: usize,
    pub(crate) behavior: Behavior,
    pub(crate) disk: Disk,
    /// Boards in different partitions do not reach each other.
    pub(crate) partition: u8,
    /// Does the network drop its broadcasts, and nothing else?
    pub(crate) broadcasts_dropped: bool,
    /// Bytes of copies that were sent to it and that it had no room for.
    pub(crate) refused_bytes: u64,
    /// It answers each request only after up to this time, in milliseconds.
    pub(crate) answer_ms: u64,
    /// Has it no clock? Then its boot numbers do not ascend.
    pub(crate) has_no_clock: bool,
    /// Is its program of an earlier version, which cannot tell how many copies chunks need?
    pub(crate) is_old: bool,
    /// It never starts again, and its disk is lost.
    pub(crate) destroyed: bool,
    /// When it was last switched on or off.
    pub(crate) power_changed_at: Time,
    /// The running cell; `None` while the board is off.
    pub(crate) cell: Option<Cell>,
    /// Beacons that the cell broadcasts in this quantum.
    pub(crate) beacons: Vec<Beacon>,
    pub(crate) outbox: Vec<(Time, Packet)>,
    pub(crate) outgoing: Channel,
    pub(crate) incoming: Channel,
    pub(crate) trace: Trace,
    /// Events of the cell, except [`Event::Active`].
    pub(crate) events: Vec<(Time, Event)>,
    link: Link,
    settings: Settings,
    rng: fastrand::Rng,
    wake_at: Time,
    /// Messages by the time of their arrival, and then in the order in which they were sent.
    inbox: BTreeMap<(Time, u64), Message>,
    message_count: u64,
    pending: BTreeMap<RequestId, Pending>,
    last_request: RequestId,
    outputs: Vec<Output>,
    watch: Option<String>,
}

impl Board {
    pub(crate) fn new(index: usize, disk: Disk, settings: Settings, link: Link, seed: u64) -> Self {
        Self {
            index,
            behavior: Behavior::Honest,
            disk,
            partition: 0,
            broadcasts_dropped: false,
            refused_bytes: 0,
            answer_ms: 0,
            has_no_clock: false,
            is_old: false,
            destroyed: false,
            power_changed_at: Time::default(),
            cell: None,
            beacons: Vec::new(),
            outbox: Vec::new(),
            outgoing: Channel::default(),
            incoming: Channel::default(),
            trace: Trace::default(),
            events: Vec::new(),
            link,
            settings,
            rng: fastrand::Rng::with_seed(seed),
            wake_at: NEVER,
            inbox: BTreeMap::new(),
            message_count: 0,
            pending: BTreeMap::new(),
            last_request: 0,
            outputs: Vec::new(),
            watch: std::env::var("WATCH").ok(),
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.cell.is_some()
    }

    pub(crate) fn role(&self, now: Time) -> Option<Role> {
        self.cell.as_ref().map(|cell| cell.beacon(now).role)
    }

    /// Has the cell found its disk to be failing?
    pub(crate) fn is_failing(&self) -> bool {
        self.cell.as_ref().is_some_and(Cell::is_failing)
    }

    /// The cell's id.
    pub(crate) fn id(&self) -> CellId {
        self.disk.id
    }

    pub(crate) fn ip(&self) -> IpAddr {
        ip(self.index)
    }

    /// Switches the board on. The cell starts with what is on the disk.
    pub(crate) fn start(&mut self, now: Time) {
        let seed = self.rng.u64(..);
        // Later starts have higher numbers, and no two cells have the same.
        let time = if self.has_no_clock { self.rng.u64(..1 << 40) } else { now.0 };
        let boot = Boot((time << 20) + self.index as u64 + 1);
        self.cell = Some(Cell::new(self.disk.id, boot, PORT, &[], self.settings, &self.disk.state, seed));
        self.wake_at = now;
        self.power_changed_at = now;
        let mut at = now.plus_ms(10);
        for page in self.disk.pages() {
            self.deliver(at, Message::Input(Input::Copy(CopyInput::Present(page))));
            at = at.plus_ms(10);
        }
        self.deliver(at, Message::Input(Input::Copy(CopyInput::ListingDone)));
    }

    /// The power fails. Returns the boards whose requests get no response, with the ids of the requests.
    pub(crate) fn crash(&mut self, now: Time) -> Vec<(usize, RequestId)> {
        self.cell = None;
        self.power_changed_at = now;
        self.wake_at = NEVER;
        self.pending.clear();
        self.beacons.clear();
        self.disk.crash(&mut self.rng);
        let requests = std::mem::take(&mut self.inbox).into_values().filter_map(|message| match message {
            Message::Request { from, id, .. } => Some((from, id)),
            Message::Input(_) | Message::Response { .. } => None,
        });
        requests.collect()
    }

    /// Puts a message into the inbox.
    pub(crate) fn deliver(&mut self, at: Time, message: Message) {
        self.message_count += 1;
        self.inbox.insert((at, self.message_count), message);
    }

    /// Runs the cell for one quantum.
    pub(crate) fn run_quantum(&mut self, broadcasts: &Broadcasts, from: Time, until: Time) {
        if !self.is_running() {
            return;
        }
        self.receive_broadcasts(broadcasts, from);
        let mut wakes = 0;
        loop {
            let arrival = self.inbox.first_key_value().map_or(NEVER, |((at, _), _)| *at);
            let next = arrival.min(self.wake_at);
            if next >= until {
                break;
            }
            let now = next.max(from);
            if arrival <= self.wake_at {
                let (_, message) = self.inbox.pop_first().unwrap();
                self.handle(now, message);
            } else {
                wakes += 1;
                assert!(wakes < MAX_WAKES_PER_QUANTUM, "cell {} asks to be woken without end at {now:?}", self.index);
                self.wake_at = NEVER;
                self.input(now, &Input::Wake(self.disk.stats()));
            }
        }
    }

    fn receive_broadcasts(&mut self, broadcasts: &Broadcasts, now: Time) {
        for (number, broadcast) in broadcasts.list.iter().enumerate() {
            if broadcast.partition != self.partition {
                continue;
            }
            let Some(cell) = &mut self.cell else { return };
            match broadcasts.delivery(&self.link, number, self.index) {
                Delivery::Lost => {}
                Delivery::Once => cell.handle(now, &broadcast.input, &mut self.outputs),
                Delivery::Twice => {
                    cell.handle(now, &broadcast.input, &mut self.outputs);
                    cell.handle(now, &broadcast.input, &mut self.outputs);
                }
                Delivery::Late(ms) => self.deliver(now.plus_ms(ms), Message::Input(broadcast.input.clone())),
            }
        }
        self.perform_outputs(now);
    }

    fn handle(&mut self, now: Time, message: Message) {
        match message {
            Message::Input(input) => self.input(now, &input),
            Message::Request { from, id, request } => {
                if let Some(response) = self.respond(now, request) {
                    self.outbox.push((now, Packet::Response { to: from, id, response }));
                }
            }
            Message::Response { id, response } => {
                if let Some(pending) = self.pending.remove(&id) {
                    let input = pending.end(response, &mut self.disk);
                    self.input(now, &input);
                }
            }
        }
    }

    fn respond(&mut self, now: Time, request: Request) -> Option<Response> {
        match request {
            Request::Status => {
                let beacon = self.cell.as_ref()?.beacon(now);
                Some(Response::Status(http_address(self.index), beacon))
            }
            Request::Have(ids) => Some(self.behavior.have(&self.disk, ids)),
            // Unless it replaces a copy that cannot be read.
            Request::Put { copy, .. }
                if self.is_failing() && self.disk.has(&copy.id) == self.disk.get(&copy.id).is_some() =>
            {
                Some(Response::Put(SendOutcome::Refused))
            }
            Request::Put { copy, good } => {
                let (response, is_new) = self.behavior.put(&mut self.disk, &copy, good);
                if matches!(response, Response::Put(SendOutcome::Refused)) {
                    self.refused_bytes += u64::from(copy.len);
                }
                if matches!(response, Response::Put(SendOutcome::Stored)) && !is_new && !copy.bare {
                    let stated = CopyInput::CopiesStated { chunk: copy.id, copies: copy.copies };
                    self.input(now, &Input::Copy(stated));
                }
                if is_new {
                    self.input(now, &Input::Copy(CopyInput::Present(vec![copy])));
                }
                Some(response)
            }
            Request::Get { target, purpose } => {
                let response = self.behavior.get(&self.disk, target, purpose);
                if let Response::Chunk { chunk, .. } = response
                    && self.disk.read(&chunk).is_none()
                {
                    self.input(now, &Input::Copy(CopyInput::ReadFailed(chunk)));
                    return Some(Response::TimedOut);
                }
                Some(response)
            }
            Request::Hints(hints) => {
                self.input(now, &Input::Copy(CopyInput::Hints(hints)));
                None
            }
            Request::Alert(alert) => {
                self.input(now, &Input::Copy(CopyInput::Alert(alert)));
                None
            }
            // Cells of an earlier version do not know it.
            Request::Shared(_) if self.is_old => Some(Response::NotFound),
            Request::Shared(query) => {
                Some(self.cell.as_ref()?.shared(&query).map_or(Response::TimedOut, Response::Shared))
            }
        }
    }

    fn input(&mut self, now: Time, input: &Input) {
        self.print_if_watched(now, input);
        let Some(cell) = &mut self.cell else { return };
        cell.handle(now, input, &mut self.outputs);
        self.perform_outputs(now);
    }

    fn perform_outputs(&mut self, now: Time) {
        let mut outputs = std::mem::take(&mut self.outputs);
        for output in outputs.drain(..) {
            self.trace.add(now, &output);
            self.print_if_watched(now, &output);
            self.perform(now, output);
        }
        self.outputs = outputs;
    }

    /// Prints inputs and outputs that contain the text of the variable `WATCH`.
    fn print_if_watched(&self, now: Time, what: &impl std::fmt::Debug) {
        if let Some(watch) = &self.watch {
            let text = format!("{what:?}");
            if text.contains(watch) {
                println!("{:>8} ms  cell {:<3} {text}", now.0, self.index);
            }
        }
    }

    fn perform(&mut self, now: Time, output: Output) {
        match output {
            Output::Udp(udp) => self.send_udp(now, udp),
            Output::Task(task) => self.start_task(now, task),
            Output::Persist(Persist::Holders { chunk, holders }) => self.disk.set_holders(&chunk, holders),
            Output::Persist(Persist::Copies { chunk, copies }) => self.disk.set_copies(&chunk, copies),
            Output::Persist(Persist::State(state)) => self.disk.state = state,
            Output::Persist(Persist::CellId(id)) => self.disk.id = id,
            Output::WakeAt(time) => self.wake_at = time,
            // Nearly all events are of this kind, and no test needs them.
            Output::Event(Event::Active(..)) => {}
            Output::Event(event) => self.events.push((now, event)),
        }
    }

    fn send_udp(&mut self, now: Time, udp: Udp) {
        match udp {
            Udp::Broadcast(beacon) => {
                if !self.broadcasts_dropped {
                    self.beacons.push(beacon);
                }
            }
            Udp::Unicast { to, beacon } => self.outbox.push((now, Packet::Beacon { to, beacon })),
            // Clients are not simulated.
            Udp::ProbeReply { .. } => {}
        }
    }

    fn start_task(&mut self, now: Time, task: Task) {
        match task {
            Task::Probe { task_id, address, .. } => {
                let to = address.parse().unwrap();
                self.request(now, to, Request::Status, Some(Pending::Probe(task_id)));
            }
            Task::QueryHave { task_id, to, chunks } => {
                self.request(now, to, Request::Have(chunks), Some(Pending::QueryHave(task_id)));
            }
            Task::QueryShared { task_id, to, query } => {
                self.request(now, to, Request::Shared(query), Some(Pending::QueryShared(task_id)));
            }
            Task::Send { task_id, chunk, to, copies, bare, holders } => {
                self.send(now, to, LocalCopy { id: chunk, len: 0, copies, bare, holders }, Pending::Send(task_id));
            }
            Task::Fetch { task_id, chunk, from, copies, bare, holders } => {
                let copy = LocalCopy { id: chunk, len: 0, copies, bare, holders };
                let request = Request::Get { target: AuditTarget::Chunk(chunk), purpose: Purpose::Refetch };
                self.request(now, from, request, Some(Pending::Fetch(task_id, copy)));
            }
            Task::Audit { task_id, from, target } => {
                let request = Request::Get { target, purpose: Purpose::Audit };
                self.request(now, from, request, Some(Pending::Audit(task_id)));
            }
            Task::Verify(chunk) | Task::VerifyFinally(chunk) => {
                let outcome = self.verify(&chunk);
                let input = Input::Copy(CopyInput::VerifyDone { chunk, outcome });
                self.deliver(now.plus_ms(VERIFY_MS), Message::Input(input));
            }
            Task::Remove(chunk) => {
                self.disk.remove(&chunk);
            }
            Task::SendHints { to, hints } => self.request(now, to, Request::Hints(hints), None),
            Task::SendAlert { alert, to } => {
                self.outbox.push((now, Packet::Alert(alert)));
                for to in to {
                    self.request(now, to, Request::Alert(alert), None);
                }
            }
        }
    }

    fn request(&mut self, now: Time, to: SocketAddr, request: Request, pending: Option<Pending>) {
        self.last_request += 1;
        if let Some(pending) = pending {
            self.pending.insert(self.last_request, pending);
        }
        self.outbox.push((now, Packet::Request { to, id: self.last_request, request }));
    }

    /// Hashes the local copy and sends it if it is good. A cell with [`Behavior::BadBytes`] sends bad bytes.
    fn send(&mut self, now: Time, to: SocketAddr, copy: LocalCopy, pending: Pending) {
        let outcome = match self.verify(&copy.id) {
            VerifyOutcome::Good => {
                let len = self.disk.get(&copy.id).unwrap().len;
                let good = self.behavior != Behavior::BadBytes;
                let request = Request::Put { copy: LocalCopy { len, ..copy }, good };
                return self.request(now, to, request, Some(pending));
            }
            VerifyOutcome::Bad => SendOutcome::OwnCopyBad,
            VerifyOutcome::Unreadable => {
                self.deliver(now, Message::Input(Input::Copy(CopyInput::ReadFailed(copy.id))));
                SendOutcome::OwnCopyUnreadable
            }
            VerifyOutcome::Missing | VerifyOutcome::Failed => SendOutcome::OwnCopyGone,
        };
        self.last_request += 1;
        self.pending.insert(self.last_request, pending);
        let response = Message::Response { id: self.last_request, response: Response::Put(outcome) };
        self.deliver(now.plus_ms(VERIFY_MS), response);
    }

    fn verify(&mut self, chunk: &ChunkId) -> VerifyOutcome {
        if self.disk.get(chunk).is_none() {
            return VerifyOutcome::Missing;
        }
        match self.disk.read(chunk) {
            // Neither can it be moved into quarantine.
            None => VerifyOutcome::Unreadable,
            Some(true) => VerifyOutcome::Good,
            Some(false) => {
                self.disk.quarantine(chunk);
                VerifyOutcome::Bad
            }
        }
    }
}
