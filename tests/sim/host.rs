//! One board: the real [`Cell`], a disk, and what the node's driver does for the cell on a real board: wake it when it
//! asked for it, perform what it puts out, answer at its door, and tell it what came of everything.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use cellsync::cell::{
    AuditTarget, Cell, CopyInput, Event, Input, LocalCopy, Output, Persist, SavedState, SendOutcome, Settings, Task,
    Udp, VerifyOutcome,
};
use cellsync::id::CellId;
use cellsync::id::ChunkId;
use cellsync::time::Time;
use cellsync::wire::beacon::{Beacon, Boot, Role};
use cellsync::wire::datagram::Alert;

use crate::calls::{CallId, Nature, Pending, Purpose, Reply, Request};
use crate::disk::Disk;
use crate::network::{Air, Fate, Link, PORT, Wire, address, door};
use crate::trace::Trace;

/// What waits for a cell.
#[derive(Debug, Clone)]
pub(crate) enum Mail {
    Input(Input),
    /// Somebody calls at the door.
    Call {
        from: usize,
        id: CallId,
        request: Request,
    },
    /// A call of this cell has ended.
    Reply {
        id: CallId,
        reply: Reply,
    },
}

/// What a cell gives to the network.
#[derive(Debug, Clone)]
pub(crate) enum Parcel {
    Call { to: SocketAddr, id: CallId, request: Request },
    Reply { to: usize, id: CallId, reply: Reply },
    Beacon { to: IpAddr, beacon: Beacon },
    Alert(Alert),
}

/// A board that falls asleep for ever would never be woken; one that never sleeps would hang the simulation.
const MAX_WAKES_A_QUANTUM: u32 = 10_000;
/// Reading and hashing a copy takes so long.
const VERIFY_MS: u64 = 20;
const NEVER: Time = Time(u64::MAX);

pub(crate) struct Host {
    pub(crate) index: usize,
    pub(crate) nature: Nature,
    pub(crate) disk: Disk,
    /// Cells on different sides of a cut do not reach each other.
    pub(crate) side: u8,
    /// The network swallows its broadcasts, and nothing else.
    pub(crate) muted: bool,
    /// It will never start again, and its disk is gone.
    pub(crate) gone: bool,
    /// When it was switched on or off last.
    pub(crate) turned: Time,
    /// The running cell; none while the board is off.
    pub(crate) cell: Option<Cell>,
    /// The cell's beacons of this quantum.
    pub(crate) waves: Vec<Beacon>,
    pub(crate) outbox: Vec<(Time, Parcel)>,
    pub(crate) outgoing: Wire,
    pub(crate) incoming: Wire,
    pub(crate) trace: Trace,
    /// What the cell told for the log, but for who became active.
    pub(crate) events: Vec<(Time, Event)>,
    link: Link,
    settings: Settings,
    rng: fastrand::Rng,
    wake_at: Time,
    mail: BTreeMap<(Time, u64), Mail>,
    mails: u64,
    pending: BTreeMap<CallId, Pending>,
    calls: CallId,
    outputs: Vec<Output>,
    watched: Option<String>,
}

impl Host {
    pub(crate) fn new(index: usize, disk: Disk, settings: Settings, link: Link, seed: u64) -> Self {
        Self {
            index,
            nature: Nature::Honest,
            disk,
            side: 0,
            muted: false,
            gone: false,
            turned: Time::default(),
            cell: None,
            waves: Vec::new(),
            outbox: Vec::new(),
            outgoing: Wire::default(),
            incoming: Wire::default(),
            trace: Trace::default(),
            events: Vec::new(),
            link,
            settings,
            rng: fastrand::Rng::with_seed(seed),
            wake_at: NEVER,
            mail: BTreeMap::new(),
            mails: 0,
            pending: BTreeMap::new(),
            calls: 0,
            outputs: Vec::new(),
            watched: std::env::var("WATCH").ok(),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.cell.is_some()
    }

    pub(crate) fn role(&self, now: Time) -> Option<Role> {
        self.cell.as_ref().map(|cell| cell.beacon(now).role)
    }

    /// Switches the board on: a new start of the cell, with what is on its disk.
    pub(crate) fn start(&mut self, now: Time) {
        let state: &SavedState = &self.disk.state;
        let seed = self.rng.u64(..);
        // Later starts have larger numbers, and no two cells the same.
        let boot = Boot((now.0 << 20) + self.index as u64 + 1);
        self.cell = Some(Cell::new(self.disk.id, boot, PORT, &[], self.settings, state, seed));
        self.wake_at = now;
        self.turned = now;
        let pages = self.disk.pages();
        let mut at = now.plus_ms(10);
        for page in pages {
            self.post(at, Mail::Input(Input::Copy(CopyInput::Present(page))));
            at = at.plus_ms(10);
        }
        self.post(at, Mail::Input(Input::Copy(CopyInput::ListingDone)));
    }

    /// The power fails. Gives those who have called and will get no answer.
    pub(crate) fn crash(&mut self, now: Time) -> Vec<(usize, CallId)> {
        self.cell = None;
        self.turned = now;
        self.wake_at = NEVER;
        self.pending.clear();
        self.waves.clear();
        self.disk.crash(&mut self.rng);
        let mails = std::mem::take(&mut self.mail).into_values();
        mails.filter_map(|mail| if let Mail::Call { from, id, .. } = mail { Some((from, id)) } else { None }).collect()
    }

    /// Leaves this for the cell; what comes at the same moment is opened in the order in which it was left.
    pub(crate) fn post(&mut self, at: Time, mail: Mail) {
        self.mails += 1;
        self.mail.insert((at, self.mails), mail);
    }

    /// Lives through one quantum.
    pub(crate) fn live(&mut self, air: &Air, from: Time, until: Time) {
        if !self.is_up() {
            return;
        }
        self.hear(air, from);
        let mut wakes = 0;
        loop {
            let posted = self.mail.first_key_value().map_or(NEVER, |((at, _), _)| *at);
            let next = posted.min(self.wake_at);
            if next >= until {
                break;
            }
            let now = next.max(from);
            if posted <= self.wake_at {
                let (_, mail) = self.mail.pop_first().unwrap();
                self.open(now, mail);
            } else {
                wakes += 1;
                assert!(wakes < MAX_WAKES_A_QUANTUM, "cell {} does not sleep any more at {now:?}", self.index);
                self.wake_at = NEVER;
                self.tell(now, &Input::Wake(self.disk.stats()));
            }
        }
    }

    /// Takes in all beacons that are in the air, in a row.
    fn hear(&mut self, air: &Air, now: Time) {
        for (number, wave) in air.waves.iter().enumerate() {
            if wave.side != self.side {
                continue;
            }
            let Some(cell) = &mut self.cell else { return };
            match air.fate(&self.link, number, self.index) {
                Fate::Lost => {}
                Fate::Once => cell.handle(now, &wave.heard, &mut self.outputs),
                Fate::Twice => {
                    cell.handle(now, &wave.heard, &mut self.outputs);
                    cell.handle(now, &wave.heard, &mut self.outputs);
                }
                Fate::LateBy(ms) => self.post(now.plus_ms(ms), Mail::Input(wave.heard.clone())),
            }
        }
        self.perform_all(now);
    }

    fn open(&mut self, now: Time, mail: Mail) {
        match mail {
            Mail::Input(input) => self.tell(now, &input),
            Mail::Call { from, id, request } => {
                if let Some(reply) = self.answer(now, request) {
                    self.outbox.push((now, Parcel::Reply { to: from, id, reply }));
                }
            }
            Mail::Reply { id, reply } => {
                if let Some(pending) = self.pending.remove(&id) {
                    let input = pending.end(reply, &mut self.disk);
                    self.tell(now, &input);
                }
            }
        }
    }

    /// Answers at the door.
    fn answer(&mut self, now: Time, request: Request) -> Option<Reply> {
        match request {
            Request::Status => {
                let beacon = self.cell.as_ref()?.beacon(now);
                Some(Reply::Status(door(self.index), beacon))
            }
            Request::Have(ids) => Some(self.nature.have(&self.disk, ids)),
            Request::Put { held, good } => {
                let (reply, new) = self.nature.put(&mut self.disk, &held, good);
                if new {
                    self.tell(now, &Input::Copy(CopyInput::Present(vec![held])));
                }
                Some(reply)
            }
            Request::Get { target, purpose } => Some(self.nature.get(&self.disk, target, purpose)),
            Request::Hints(hints) => {
                self.tell(now, &Input::Copy(CopyInput::Hints(hints)));
                None
            }
            Request::Alert(alert) => {
                self.tell(now, &Input::Copy(CopyInput::Alert(alert)));
                None
            }
        }
    }

    fn tell(&mut self, now: Time, input: &Input) {
        self.watch(now, input);
        let Some(cell) = &mut self.cell else { return };
        cell.handle(now, input, &mut self.outputs);
        self.perform_all(now);
    }

    fn perform_all(&mut self, now: Time) {
        let mut outputs = std::mem::take(&mut self.outputs);
        for output in outputs.drain(..) {
            self.trace.add(now, &output);
            self.watch(now, &output);
            self.perform(now, output);
        }
        self.outputs = outputs;
    }

    /// Prints what names the chunk or cell that somebody who replays a failure wants to watch.
    fn watch(&self, now: Time, what: &impl std::fmt::Debug) {
        if let Some(name) = &self.watched {
            let text = format!("{what:?}");
            if text.contains(name) {
                println!("{:>8} ms  cell {:<3} {text}", now.0, self.index);
            }
        }
    }

    /// What `node::driver` does on a real board.
    fn perform(&mut self, now: Time, output: Output) {
        match output {
            Output::Udp(udp) => self.send_udp(now, udp),
            Output::Task(task) => self.start_task(now, task),
            Output::Persist(Persist::Holders { chunk, holders }) => self.disk.note(&chunk, holders),
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
                if !self.muted {
                    self.waves.push(beacon);
                }
            }
            Udp::Unicast { to, beacon } => self.outbox.push((now, Parcel::Beacon { to, beacon })),
            // Clients are not simulated.
            Udp::ProbeReply { .. } => {}
        }
    }

    fn start_task(&mut self, now: Time, task: Task) {
        match task {
            Task::Probe { task_id, address, .. } => {
                let to = address.parse().unwrap();
                self.call(now, to, Request::Status, Some(Pending::Probe(task_id)));
            }
            Task::QueryHave { task_id, to, chunks } => {
                self.call(now, to, Request::Have(chunks), Some(Pending::QueryHave(task_id)));
            }
            Task::Send { task_id, chunk, to, copies, holders } => {
                self.send(now, to, LocalCopy { id: chunk, len: 0, copies, holders }, Pending::Send(task_id));
            }
            Task::Fetch { task_id, chunk, from, copies, holders } => {
                let copy = LocalCopy { id: chunk, len: 0, copies, holders };
                let request = Request::Get { target: AuditTarget::Chunk(chunk), purpose: Purpose::Refetch };
                self.call(now, from, request, Some(Pending::Fetch(task_id, copy)));
            }
            Task::Audit { task_id, from, target } => {
                let request = Request::Get { target, purpose: Purpose::Audit };
                self.call(now, from, request, Some(Pending::Audit(task_id)));
            }
            Task::Verify(chunk) => {
                let outcome = self.verify(&chunk);
                let input = Input::Copy(CopyInput::VerifyDone { chunk, outcome });
                self.post(now.plus_ms(VERIFY_MS), Mail::Input(input));
            }
            Task::Remove(chunk) => {
                self.disk.remove(&chunk);
            }
            Task::SendHints { to, hints } => self.call(now, to, Request::Hints(hints), None),
            Task::SendAlert { alert, to } => {
                self.outbox.push((now, Parcel::Alert(alert)));
                for to in to {
                    self.call(now, to, Request::Alert(alert), None);
                }
            }
        }
    }

    fn call(&mut self, now: Time, to: SocketAddr, request: Request, pending: Option<Pending>) {
        self.calls += 1;
        if let Some(pending) = pending {
            self.pending.insert(self.calls, pending);
        }
        self.outbox.push((now, Parcel::Call { to, id: self.calls, request }));
    }

    /// Hashes our copy and, if it is good, sends it. A liar sends other bytes.
    fn send(&mut self, now: Time, to: SocketAddr, held: LocalCopy, pending: Pending) {
        let sent = match self.verify(&held.id) {
            VerifyOutcome::Good => {
                let len = self.disk.get(&held.id).unwrap().len;
                let request = Request::Put { held: LocalCopy { len, ..held }, good: self.nature != Nature::BadBytes };
                return self.call(now, to, request, Some(pending));
            }
            VerifyOutcome::Bad => SendOutcome::OwnCopyBad,
            VerifyOutcome::Missing | VerifyOutcome::Unreadable => SendOutcome::OwnCopyGone,
        };
        self.calls += 1;
        self.pending.insert(self.calls, pending);
        self.post(now.plus_ms(VERIFY_MS), Mail::Reply { id: self.calls, reply: Reply::Put(sent) });
    }

    fn verify(&mut self, chunk: &ChunkId) -> VerifyOutcome {
        match self.disk.get(chunk).map(|copy| copy.good) {
            None => VerifyOutcome::Missing,
            Some(true) => VerifyOutcome::Good,
            Some(false) => {
                self.disk.quarantine(chunk);
                VerifyOutcome::Bad
            }
        }
    }

    /// Takes what the cell has for the network in this quantum.
    pub(crate) fn take_parcels(&mut self) -> VecDeque<(Time, Parcel)> {
        std::mem::take(&mut self.outbox).into()
    }

    /// The cell's name now.
    pub(crate) fn id(&self) -> CellId {
        self.disk.id
    }

    pub(crate) fn address(&self) -> IpAddr {
        address(self.index)
    }
}
