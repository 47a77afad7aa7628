//! The trace: a hash of everything that a cell puts out, and when. Two runs that differ anywhere have different traces.
//!
//! The trace must survive refactoring, so that a change which should not alter what cells decide can be checked by
//! comparing traces from before and after. Therefore nothing that is hashed depends on the name of a type, a variant or
//! a field. [`Sink`] writes each output as a sequence of 64-bit numbers:
//!
//! | value | numbers |
//! |---|---|
//! | enum | the tag of the leaf variant, then its fields |
//! | struct | its fields |
//! | number, time in ms | itself |
//! | bool | 0 or 1 |
//! | `Option` | 0; or 1, then the value |
//! | list | its length, then its elements |
//! | id of a cell or a chunk | its 16 or 32 bytes |
//! | text | its length in bytes, then its bytes |
//! | IP address | 4 or 6, then its 4 or 16 bytes |
//! | socket address | the IP address, the port, and for IPv6 the flow information and the scope |
//!
//! Bytes are written as big-endian words of 8, the last one padded with zeros.
//!
//! The `match` arm of a variant passes its number to [`Sink::tag`]. The rules:
//!
//! - A tag belongs to a leaf variant, and no other leaf of any enum has the same one. An enum inside a variant adds no
//!   tag for the outer variant (`Output::Event(Event::MemberTableFull)` has one tag), so variants can move into nested enums and
//!   out of them.
//! - A tag, the order of the fields and the encoding of a field never change, whatever their names and types become.
//!   The tag of a variant that was removed is not used again.
//! - No `match` here has a wildcard arm and no pattern has `..`: a new variant or field does not compile until it is
//!   hashed. A new variant takes the next free number of its group: outputs from 1, log events from 101, the choice of
//!   an audit from 201, a cell's status from 211, roles from 221. A new field is written after the others.
//!
//! With `TRACES=path` set, [`append_to_file`] collects the traces of all worlds.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use cellsync::cell::{AuditTarget, Event, Isolation, Output, Persist, SavedState, Strike, Task, Udp};
use cellsync::id::{CellId, ChunkId};
use cellsync::time::Time;
use cellsync::wire::beacon::{Beacon, Boot, Role, Status};
use cellsync::wire::datagram::Alert;
use cellsync::wire::holder_hints::HolderHint;

use crate::world::Plan;

/// A hash like FNV-1a, of 64-bit numbers instead of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trace(u64);

impl Default for Trace {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Trace {
    pub(crate) fn value(self) -> u64 {
        self.0
    }

    pub(crate) fn add(&mut self, now: Time, output: &Output) {
        self.number(now.0);
        self.output(output);
    }
}

impl Sink for Trace {
    fn number(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    }
}

/// Appends the line `name cells seed trace` of one world to the file that the variable `TRACES` names, if it is set.
///
/// Tests run in parallel and some run several worlds with one seed, so the lines have no fixed order: sort them before
/// comparing. The name changes with the test; when tests are renamed, compare the other columns alone.
pub(crate) fn append_to_file(plan: &Plan, trace: u64) {
    let Some(path) = std::env::var_os("TRACES") else { return };
    let line = format!("{} {} {} {trace:016x}\n", plan.name, plan.cells, plan.seed);
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    // In one write, so that the lines of parallel tests do not mix.
    file.write_all(line.as_bytes()).unwrap();
}

/// Takes outputs as numbers. The module's documentation describes the encoding.
pub(crate) trait Sink {
    fn number(&mut self, number: u64);

    /// The tag of a leaf variant: unique, and never changed.
    fn tag(&mut self, tag: u64) {
        self.number(tag);
    }

    fn output(&mut self, output: &Output) {
        match output {
            Output::Udp(Udp::Broadcast(beacon)) => {
                self.tag(1);
                self.beacon(beacon);
            }
            Output::Udp(Udp::Unicast { to, beacon }) => {
                self.tag(2);
                self.ip(*to);
                self.beacon(beacon);
            }
            Output::Udp(Udp::ProbeReply { to, beacon }) => {
                self.tag(3);
                self.socket(*to);
                self.beacon(beacon);
            }
            // Traces are older than the ids of probes. The id carries no decision, so it is left out.
            Output::Task(Task::Probe { task_id: _, address, announce }) => {
                self.tag(4);
                self.text(address);
                self.number(u64::from(*announce));
            }
            Output::WakeAt(time) => {
                self.tag(5);
                self.number(time.0);
            }
            Output::Persist(Persist::CellId(id)) => {
                self.tag(6);
                self.cell(id);
            }
            Output::Task(Task::QueryHave { task_id, to, chunks }) => {
                self.tag(7);
                self.number(task_id.0);
                self.socket(*to);
                self.list(chunks, Self::chunk);
            }
            Output::Task(Task::Send { task_id, chunk, to, copies, holders }) => {
                self.tag(8);
                self.number(task_id.0);
                self.chunk(chunk);
                self.socket(*to);
                self.number(u64::from(*copies));
                self.list(holders, Self::cell);
            }
            Output::Task(Task::Fetch { task_id, chunk, from, copies, holders }) => {
                self.tag(9);
                self.number(task_id.0);
                self.chunk(chunk);
                self.socket(*from);
                self.number(u64::from(*copies));
                self.list(holders, Self::cell);
            }
            Output::Task(Task::Audit { task_id, from, target }) => {
                self.tag(10);
                self.number(task_id.0);
                self.socket(*from);
                self.target(target);
            }
            Output::Task(Task::Verify(chunk)) => {
                self.tag(11);
                self.chunk(chunk);
            }
            Output::Task(Task::Remove(chunk)) => {
                self.tag(12);
                self.chunk(chunk);
            }
            Output::Task(Task::SendHints { to, hints }) => {
                self.tag(13);
                self.socket(*to);
                self.list(hints, Self::hint);
            }
            Output::Task(Task::SendAlert { alert, to }) => {
                self.tag(14);
                self.alert(alert);
                self.list(to, |sink, to| sink.socket(*to));
            }
            Output::Persist(Persist::Holders { chunk, holders }) => {
                self.tag(15);
                self.chunk(chunk);
                self.list(holders, Self::cell);
            }
            Output::Persist(Persist::State(state)) => {
                self.tag(16);
                self.saved_state(state);
            }
            Output::Event(event) => self.event(event),
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Active(id, door) => {
                self.tag(101);
                self.cell(id);
                self.socket(*door);
            }
            Event::Silent(id) => {
                self.tag(102);
                self.cell(id);
            }
            Event::Dead(id) => {
                self.tag(103);
                self.cell(id);
            }
            Event::Left(id) => {
                self.tag(104);
                self.cell(id);
            }
            Event::DuplicateId(id, other) => {
                self.tag(105);
                self.cell(id);
                self.ip(*other);
            }
            Event::Renamed { from, to } => {
                self.tag(106);
                self.cell(from);
                self.cell(to);
            }
            Event::MemberTableFull => self.tag(107),
            Event::Role(role) => {
                self.tag(108);
                self.role(*role);
            }
            Event::HealStarted { chunks, fewest_copies } => {
                self.tag(109);
                self.number(*chunks as u64);
                self.number(*fewest_copies as u64);
            }
            Event::HealDone { copies, bytes } => {
                self.tag(110);
                self.number(*copies);
                self.number(*bytes);
            }
            Event::BadCopy { culprit, chunk } => {
                self.tag(111);
                self.cell(culprit);
                self.chunk(chunk);
            }
            Event::OwnCopyBad(chunk) => {
                self.tag(112);
                self.chunk(chunk);
            }
            Event::Refetched(chunk) => {
                self.tag(113);
                self.chunk(chunk);
            }
            Event::FalseAlert { culprit, chunk } => {
                self.tag(114);
                self.cell(culprit);
                self.chunk(chunk);
            }
            Event::Isolated(id) => {
                self.tag(115);
                self.cell(id);
            }
            Event::IsolationEnded(id) => {
                self.tag(116);
                self.cell(id);
            }
            Event::Draining(on) => {
                self.tag(117);
                self.number(u64::from(*on));
            }
            Event::Drained => self.tag(118),
            Event::ScrubDone { bad } => {
                self.tag(119);
                self.number(*bad);
            }
            Event::ExtraCopyRemoved(chunk) => {
                self.tag(120);
                self.chunk(chunk);
            }
        }
    }

    fn target(&mut self, target: &AuditTarget) {
        match target {
            AuditTarget::Chunk(chunk) => {
                self.tag(201);
                self.chunk(chunk);
            }
            AuditTarget::After(chunk) => {
                self.tag(202);
                self.chunk(chunk);
            }
        }
    }

    fn status(&mut self, status: Status) {
        self.tag(match status {
            Status::Active => 211,
            Status::Full => 212,
            Status::Draining => 213,
            Status::Leaving => 214,
            Status::Unknown => 215,
        });
    }

    fn role(&mut self, role: Role) {
        self.tag(match role {
            Role::Stem => 221,
            Role::Storage => 222,
            Role::Guard => 223,
        });
    }

    fn beacon(&mut self, beacon: &Beacon) {
        let Beacon { node_id, port, status, v, boot, role, chunks, free, cells, clean_s } = beacon;
        self.cell(node_id);
        self.number(u64::from(*port));
        self.status(*status);
        self.option(v.map(u64::from), Self::number);
        self.option(boot.map(|Boot(start)| start), Self::number);
        self.role(*role);
        self.option(*chunks, Self::number);
        self.option(*free, Self::number);
        self.option(cells.map(u64::from), Self::number);
        self.option(*clean_s, Self::number);
    }

    fn alert(&mut self, alert: &Alert) {
        let Alert { node_id, culprit, chunk, found } = alert;
        self.cell(node_id);
        self.cell(culprit);
        self.chunk(chunk);
        self.chunk(found);
    }

    fn hint(&mut self, hint: &HolderHint) {
        let HolderHint { id, holders } = hint;
        self.chunk(id);
        self.list(holders, Self::cell);
    }

    fn saved_state(&mut self, state: &SavedState) {
        let SavedState { draining, scrub_position, strikes, isolated } = state;
        self.number(u64::from(*draining));
        self.option(scrub_position.as_ref(), Self::chunk);
        self.list(strikes, |sink, Strike { culprit, chunk, ago_ms }| {
            sink.cell(culprit);
            sink.chunk(chunk);
            sink.number(*ago_ms);
        });
        self.list(isolated, |sink, Isolation { cell, left_ms }| {
            sink.cell(cell);
            sink.number(*left_ms);
        });
    }

    fn cell(&mut self, id: &CellId) {
        self.bytes(id.as_bytes());
    }

    fn chunk(&mut self, id: &ChunkId) {
        self.bytes(id.as_bytes());
    }

    fn ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => {
                self.number(4);
                self.bytes(&ip.octets());
            }
            IpAddr::V6(ip) => {
                self.number(6);
                self.bytes(&ip.octets());
            }
        }
    }

    fn socket(&mut self, socket: SocketAddr) {
        self.ip(socket.ip());
        self.number(u64::from(socket.port()));
        match socket {
            SocketAddr::V4(_) => {}
            SocketAddr::V6(socket) => {
                self.number(u64::from(socket.flowinfo()));
                self.number(u64::from(socket.scope_id()));
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }

    fn list<T>(&mut self, list: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.number(list.len() as u64);
        for element in list {
            each(self, element);
        }
    }

    fn option<T>(&mut self, option: Option<T>, some: impl FnOnce(&mut Self, T)) {
        match option {
            None => self.number(0),
            Some(value) => {
                self.number(1);
                some(self, value);
            }
        }
    }

    /// Bytes whose number is known to the reader: it is not written.
    fn bytes(&mut self, bytes: &[u8]) {
        for bytes in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            self.number(u64::from_be_bytes(word));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6};

    use cellsync::cell::TaskId;

    use super::*;

    const NOW: Time = Time(7);

    impl Sink for Vec<u64> {
        fn number(&mut self, number: u64) {
            self.push(number);
        }
    }

    fn trace(outputs: &[Output]) -> u64 {
        let mut trace = Trace::default();
        for output in outputs {
            trace.add(NOW, output);
        }
        trace.value()
    }

    /// Makes the values of fields, each different from the others. One of them can be changed.
    #[derive(Default)]
    struct Values {
        made: u64,
        changed: Option<u64>,
    }

    impl Values {
        fn is_changed(&mut self) -> bool {
            self.made += 1;
            self.changed == Some(self.made)
        }

        fn number(&mut self) -> u64 {
            let changed = self.is_changed();
            self.made + if changed { 1_000 } else { 0 }
        }

        fn byte(&mut self) -> u8 {
            self.number() as u8
        }

        fn cell(&mut self) -> CellId {
            CellId::from_bytes(u128::from(self.number()).to_be_bytes())
        }

        fn chunk(&mut self) -> ChunkId {
            let mut bytes = [0; 32];
            bytes[24..].copy_from_slice(&self.number().to_be_bytes());
            ChunkId::from_bytes(bytes)
        }

        fn ip(&mut self) -> IpAddr {
            Ipv4Addr::from(0x0a00_0000 + self.number() as u32).into()
        }

        fn socket(&mut self) -> SocketAddr {
            SocketAddr::new(self.ip(), self.number() as u16)
        }

        /// The change is one that padding with zeros could hide.
        fn text(&mut self) -> String {
            if self.is_changed() { "cell:80\0".into() } else { "cell:80".into() }
        }

        fn option<T>(&mut self, some: impl FnOnce(&mut Self) -> T) -> Option<T> {
            let is_changed = self.is_changed();
            Some(some(self)).filter(|_| !is_changed)
        }

        fn list<T>(&mut self, mut each: impl FnMut(&mut Self) -> T) -> Vec<T> {
            let is_changed = self.is_changed();
            let mut list = vec![each(self), each(self)];
            list.truncate(if is_changed { 1 } else { 2 });
            list
        }

        fn status(&mut self) -> Status {
            if self.is_changed() { Status::Full } else { Status::Active }
        }

        fn role(&mut self) -> Role {
            if self.is_changed() { Role::Guard } else { Role::Storage }
        }

        fn target(&mut self) -> AuditTarget {
            if self.is_changed() { AuditTarget::After(self.chunk()) } else { AuditTarget::Chunk(self.chunk()) }
        }

        fn beacon(&mut self) -> Beacon {
            Beacon {
                node_id: self.cell(),
                port: self.number() as u16,
                status: self.status(),
                v: self.option(Self::number).map(|v| v as u32),
                boot: self.option(Self::number).map(Boot),
                role: self.role(),
                chunks: self.option(Self::number),
                free: self.option(Self::number),
                cells: self.option(Self::number).map(|cells| cells as u32),
                clean_s: self.option(Self::number),
            }
        }

        fn alert(&mut self) -> Alert {
            Alert { node_id: self.cell(), culprit: self.cell(), chunk: self.chunk(), found: self.chunk() }
        }

        fn hint(&mut self) -> HolderHint {
            HolderHint { id: self.chunk(), holders: self.list(Self::cell) }
        }

        fn saved_state(&mut self) -> SavedState {
            SavedState {
                draining: self.is_changed(),
                scrub_position: self.option(Self::chunk),
                strikes: self.list(|v| Strike { culprit: v.cell(), chunk: v.chunk(), ago_ms: v.number() }),
                isolated: self.list(|v| Isolation { cell: v.cell(), left_ms: v.number() }),
            }
        }
    }

    /// One output of each leaf variant, in the order of the tags. A new variant is added at the end of its group, and
    /// changes the number in [`traces_stay_the_same`] once.
    fn one_of_each(v: &mut Values) -> Vec<Output> {
        let mut outputs = vec![
            Output::Udp(Udp::Broadcast(v.beacon())),
            Output::Udp(Udp::Unicast { to: v.ip(), beacon: v.beacon() }),
            Output::Udp(Udp::ProbeReply { to: v.socket(), beacon: v.beacon() }),
            Output::Task(Task::Probe { task_id: TaskId(1), address: v.text(), announce: v.is_changed() }),
            Output::WakeAt(Time(v.number())),
            Output::Persist(Persist::CellId(v.cell())),
            Output::Task(Task::QueryHave {
                task_id: TaskId(v.number()),
                to: v.socket(),
                chunks: v.list(Values::chunk),
            }),
            Output::Task(Task::Send {
                task_id: TaskId(v.number()),
                chunk: v.chunk(),
                to: v.socket(),
                copies: v.byte(),
                holders: v.list(Values::cell),
            }),
            Output::Task(Task::Fetch {
                task_id: TaskId(v.number()),
                chunk: v.chunk(),
                from: v.socket(),
                copies: v.byte(),
                holders: v.list(Values::cell),
            }),
            Output::Task(Task::Audit { task_id: TaskId(v.number()), from: v.socket(), target: v.target() }),
            Output::Task(Task::Verify(v.chunk())),
            Output::Task(Task::Remove(v.chunk())),
            Output::Task(Task::SendHints { to: v.socket(), hints: v.list(Values::hint) }),
            Output::Task(Task::SendAlert { alert: v.alert(), to: v.list(Values::socket) }),
            Output::Persist(Persist::Holders { chunk: v.chunk(), holders: v.list(Values::cell) }),
            Output::Persist(Persist::State(v.saved_state())),
        ];
        let events = [
            Event::Active(v.cell(), v.socket()),
            Event::Silent(v.cell()),
            Event::Dead(v.cell()),
            Event::Left(v.cell()),
            Event::DuplicateId(v.cell(), v.ip()),
            Event::Renamed { from: v.cell(), to: v.cell() },
            Event::MemberTableFull,
            Event::Role(v.role()),
            Event::HealStarted { chunks: v.number() as usize, fewest_copies: v.number() as usize },
            Event::HealDone { copies: v.number(), bytes: v.number() },
            Event::BadCopy { culprit: v.cell(), chunk: v.chunk() },
            Event::OwnCopyBad(v.chunk()),
            Event::Refetched(v.chunk()),
            Event::FalseAlert { culprit: v.cell(), chunk: v.chunk() },
            Event::Isolated(v.cell()),
            Event::IsolationEnded(v.cell()),
            Event::Draining(v.is_changed()),
            Event::Drained,
            Event::ScrubDone { bad: v.number() },
            Event::ExtraCopyRemoved(v.chunk()),
        ];
        outputs.extend(events.map(Output::Event));
        outputs
    }

    /// One output with each value of the enums inside outputs, all else being equal.
    fn one_of_each_inner() -> Vec<Output> {
        let beacon = Values::default().beacon();
        let statuses = [Status::Active, Status::Full, Status::Draining, Status::Leaving, Status::Unknown];
        let roles = [Role::Stem, Role::Storage, Role::Guard];
        let (id, task_id, from) = (beacon.node_id, TaskId(1), Values::default().socket());
        let chunk = Values::default().chunk();
        let six = |flow, scope| SocketAddrV6::new(Ipv6Addr::LOCALHOST, from.port(), flow, scope).into();
        let mut outputs: Vec<Output> = statuses
            .into_iter()
            .map(|status| Output::Udp(Udp::Broadcast(Beacon { status, ..beacon.clone() })))
            .collect();
        outputs.extend(roles.map(|role| Output::Event(Event::Role(role))));
        outputs.extend(
            [AuditTarget::Chunk(chunk), AuditTarget::After(chunk)]
                .map(|target| Output::Task(Task::Audit { task_id, from, target })),
        );
        outputs
            .extend([from, six(0, 0), six(1, 0), six(0, 1)].map(|address| Output::Event(Event::Active(id, address))));
        outputs
    }

    #[test]
    fn a_change_of_any_field_changes_the_trace() {
        let mut values = Values::default();
        let plain = one_of_each(&mut values);
        for field in 1..=values.made {
            let changed = one_of_each(&mut Values { made: 0, changed: Some(field) });
            for (was, is) in plain.iter().zip(&changed) {
                let traces = [was, is].map(|output| trace(std::slice::from_ref(output)));
                assert_eq!(was == is, traces[0] == traces[1], "field {field}: {was:?} and {is:?}");
            }
            assert_ne!(plain, changed, "field {field}");
        }
    }

    #[test]
    fn the_moment_and_the_order_of_outputs_change_the_trace() {
        let outputs = one_of_each(&mut Values::default());
        let mut later = Trace::default();
        later.add(Time(NOW.0 + 1), &outputs[0]);
        assert_ne!(trace(&outputs[..1]), later.value());
        assert_ne!(trace(&outputs[..2]), trace(&[outputs[1].clone(), outputs[0].clone()]));
    }

    #[test]
    fn no_two_variants_share_a_tag() {
        let tags: Vec<u64> = one_of_each(&mut Values::default())
            .iter()
            .map(|output| {
                let mut numbers = Vec::new();
                numbers.output(output);
                numbers[0]
            })
            .collect();
        assert!(tags.is_sorted_by(|one, next| one < next), "{tags:?}");
        let inner = one_of_each_inner();
        let traces: BTreeSet<u64> = inner.iter().map(|output| trace(std::slice::from_ref(output))).collect();
        assert_eq!(traces.len(), inner.len());
    }

    /// If this fails, traces from before and after the change cannot be compared: restore the encoding.
    #[test]
    fn traces_stay_the_same() {
        let outputs = [one_of_each(&mut Values::default()), one_of_each_inner()].concat();
        let trace = trace(&outputs);
        assert_eq!(trace, 0xd513_c7a4_10db_c682, "{trace:#018x}");
    }
}
