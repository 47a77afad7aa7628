//! One cell: [`Cell::handle`] takes an input and appends what must be done.

use std::net::{IpAddr, SocketAddr};

use crate::cell::context::{Context, Unseen};
use crate::cell::copies::CopyManager;
use crate::cell::duplicate_id::DuplicateIdDetector;
use crate::cell::input::{Input, MemberInput, ProbeOutcome, StoreStats, TaskId};
use crate::cell::integrity::strikes::Strikes;
use crate::cell::membership::member::Member;
use crate::cell::membership::probes::Probes;
use crate::cell::membership::responsiveness::Responsiveness;
use crate::cell::membership::roles::{self, Differentiation};
use crate::cell::membership::static_peers::StaticPeers;
use crate::cell::membership::{Membership, Source};
use crate::cell::output::{Event, Output, Persist, Udp};
use crate::cell::saved_state::SavedState;
use crate::cell::settings::Settings;
use crate::id::CellId;
use crate::time::Time;
use crate::wire::beacon::{Beacon, Boot, Role, Status, WIRE_VERSION};
use crate::wire::peers::Presence;
use crate::wire::shared_chunks::{SharedChunk, SharedQuery};
use crate::wire::status::Activity;

/// Maximum time between two wake-ups, in milliseconds.
const MAX_SLEEP_MS: u64 = 1000;

/// One cell: its own state, and what it knows about the colony.
pub struct Cell {
    pub(super) context: Context,
    boot: Boot,
    port: u16,
    differentiation: Differentiation,
    /// The role that the colony needs of this cell.
    pub(super) needed_role: Role,
    copies: CopyManager,
    /// Is the process about to stop?
    stopping: bool,
    next_beacon: Time,
    pub(super) peers: StaticPeers,
    probes: Probes,
    duplicate_id: DuplicateIdDetector,
    rng: fastrand::Rng,
}

impl Cell {
    /// A cell that is about to start. The first input must be [`Input::Wake`].
    ///
    /// `boot` differs at each start, and a later start has a higher one. `port` is the port of the cell's HTTP
    /// interface, `peers` are its configured static peers as `HOST:PORT`, `state` is what it last saved. All random
    /// choices derive from `seed`.
    pub fn new(
        id: CellId,
        boot: Boot,
        port: u16,
        peers: &[String],
        settings: Settings,
        state: &SavedState,
        seed: u64,
    ) -> Self {
        let context = Context {
            now: Time::default(),
            id,
            role: Role::Stem,
            store: StoreStats::default(),
            draining: state.draining,
            failing: state.failing,
            unseen: Unseen::BeforeStart,
            members: Membership::new(settings),
            strikes: Strikes::new(&state.strikes, &state.isolated, &settings),
            responsiveness: Responsiveness::default(),
            settings,
        };
        Self {
            copies: CopyManager::new(state, &settings),
            context,
            boot,
            port,
            differentiation: Differentiation::default(),
            needed_role: roles::needed(&id, std::iter::empty()),
            stopping: false,
            next_beacon: Time::default(),
            peers: StaticPeers::new(peers, settings),
            probes: Probes::default(),
            duplicate_id: DuplicateIdDetector::default(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Handles what happened at the time `now` and appends what must be done. `now` must not be earlier than in the
    /// call before.
    pub fn handle(&mut self, now: Time, input: &Input, out: &mut Vec<Output>) {
        self.context.now = now;
        match input {
            Input::Wake(store) => self.wake(now, *store, out),
            Input::Member(input) => self.handle_member(now, input, out),
            Input::Copy(input) => {
                if !self.stopping {
                    self.copies.handle(&mut self.context, input, &mut self.rng, out);
                }
            }
            Input::Shutdown => {
                self.stopping = true;
                self.send_beacon(now, out);
            }
        }
    }

    /// The cell's id.
    pub fn id(&self) -> CellId {
        self.context.id
    }

    /// The cell's beacon at this time.
    pub fn beacon(&self, now: Time) -> Beacon {
        let cells = self.context.members.active_count();
        Beacon {
            node_id: self.context.id,
            port: self.port,
            status: self.status(),
            v: Some(WIRE_VERSION),
            boot: Some(self.boot),
            role: self.context.role,
            chunks: Some(self.context.store.chunks),
            free: Some(self.context.store.free_bytes),
            cells: Some(u32::try_from(cells).unwrap_or(u32::MAX).saturating_add(1)),
            clean_s: self.copies.clean_s(now),
        }
    }

    /// Healing, scrub, audits and draining, for `GET /status`.
    pub fn activity(&self) -> Activity {
        self.copies.activity(&self.context)
    }

    /// The chunks that this cell holds and believes another one to hold, for `GET /chunks/shared`; `None` if it does
    /// not know all of its chunks yet.
    pub fn shared(&self, query: &SharedQuery) -> Option<Vec<SharedChunk>> {
        self.copies.shared(query)
    }

    /// Is this cell's disk failing, so that it must take no new chunks?
    pub fn is_failing(&self) -> bool {
        self.context.failing
    }

    /// The other cells, in order of their ids.
    pub fn members(&self) -> impl Iterator<Item = (CellId, &Member)> {
        self.context.members.iter()
    }

    /// Whether this member is active, silent, dead or gone.
    pub fn presence(&self, now: Time, member: &Member) -> Presence {
        self.context.members.presence(now, member)
    }

    fn status(&self) -> Status {
        // Cells and clients of earlier versions send no chunks to a full cell, and do not know another such status.
        match (self.stopping, self.context.draining, self.context.store.full || self.context.failing) {
            (true, _, _) => Status::Leaving,
            (false, true, _) => Status::Draining,
            (false, false, true) => Status::Full,
            (false, false, false) => Status::Active,
        }
    }

    fn wake(&mut self, now: Time, store: StoreStats, out: &mut Vec<Output>) {
        let Self { context, copies, .. } = self;
        context.store = store;
        context.members.advance(now, &mut self.probes, out);
        // Once per wake-up, however many members have changed.
        let changes = context.members.take_changes();
        if !changes.is_empty() {
            self.needed_role = roles::needed(&context.id, context.members.active(now).map(|(id, _)| id));
            copies.members_changed(context, &changes, out);
        }
        self.peers.start_probes(now, &context.members, &mut self.probes, out);
        if let Some(role) = self.differentiation.update(now, context.role, self.needed_role, &context.settings) {
            context.role = role;
            out.push(Output::Event(Event::Role(role)));
        }
        if !self.stopping {
            copies.wake(context, &mut self.rng, out);
        }
        if now >= self.next_beacon {
            if !self.stopping {
                self.send_beacon(now, out);
            }
            // Cells that start together must not send together.
            let beacon_ms = self.context.settings.beacon_ms;
            let spread_ms = beacon_ms / 10;
            let jitter_ms = self.rng.u64(0..=spread_ms);
            self.next_beacon = now.plus_ms(beacon_ms - spread_ms / 2 + jitter_ms);
        }
        out.push(Output::WakeAt(self.next_beacon.min(now.plus_ms(MAX_SLEEP_MS))));
    }

    fn send_beacon(&self, now: Time, out: &mut Vec<Output>) {
        let beacon = self.beacon(now);
        for to in self.peers.beacon_addresses() {
            out.push(Output::Udp(Udp::Unicast { to, beacon: beacon.clone() }));
        }
        out.push(Output::Udp(Udp::Broadcast(beacon)));
    }

    fn handle_member(&mut self, now: Time, input: &MemberInput, out: &mut Vec<Output>) {
        match input {
            MemberInput::Beacon { from, beacon } => {
                if beacon.node_id == self.context.id {
                    self.handle_own_id(now, *from, beacon, out);
                } else {
                    let address = SocketAddr::new(*from, beacon.port);
                    self.context.members.status_received(now, address, beacon, Source::Beacon, out);
                    if let Some(clean_s) = beacon.clean_s {
                        self.copies.clean_reported(&mut self.context, beacon.node_id, clean_s, out);
                    }
                }
            }
            MemberInput::ProbeRequest { from } => {
                out.push(Output::Udp(Udp::ProbeReply { to: *from, beacon: self.beacon(now) }));
            }
            MemberInput::ProbeDone { task_id, outcome } => self.probe_done(now, *task_id, outcome, out),
            MemberInput::Join { address } => {
                if self.peers.add(now, address) {
                    self.peers.start_probes(now, &self.context.members, &mut self.probes, out);
                }
            }
        }
    }

    /// Handles a beacon with this cell's own id: an echo of its own broadcast, or a clone.
    fn handle_own_id(&mut self, now: Time, from: IpAddr, beacon: &Beacon, out: &mut Vec<Output>) {
        let Some(boot) = beacon.boot.filter(|_| beacon.status != Status::Leaving) else { return };
        let beacon_ms = self.context.settings.beacon_ms;
        let Some(response) = self.duplicate_id.beacon(now, self.boot, boot, beacon_ms) else { return };
        if response.report {
            out.push(Output::Event(Event::DuplicateId(self.context.id, from)));
        }
        if response.rename {
            let mut bytes = [0; 16];
            self.rng.fill(&mut bytes);
            let (from, to) = (self.context.id, CellId::from_random(bytes));
            self.context.id = to;
            out.push(Output::Persist(Persist::CellId(to)));
            out.push(Output::Event(Event::Renamed { from, to }));
        }
    }

    fn probe_done(&mut self, now: Time, task_id: TaskId, outcome: &ProbeOutcome, out: &mut Vec<Output>) {
        let Some(probed) = self.probes.end(task_id) else { return };
        let is_peer = self.peers.probe_done(now, &probed, self.context.id, outcome);
        let members = &mut self.context.members;
        // A static peer can be named by a host name, which is no member's address.
        if let Ok(address) = probed.parse() {
            members.probe_done(now, address, outcome, out);
        }
        if let ProbeOutcome::Cell(address, beacon) = outcome
            && beacon.node_id != self.context.id
        {
            let source = if is_peer { Source::Beacon } else { Source::Probe };
            members.status_received(now, *address, beacon, source, out);
        }
    }
}
