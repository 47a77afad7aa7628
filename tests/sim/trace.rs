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
//!   tag for the outer variant (`Output::Event(Event::MemberTableFull)` has one tag), so variants can move into nested
//!   enums and out of them.
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
use cellsync::wire::shared_chunks::SharedQuery;

use crate::world::{Causes, Moved, Plan};

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

/// Appends the line `name cells seed trace moved` of one world to the file that the variable `TRACES` names, if it is
/// set. `moved` are the bytes that were sent to heal, by cause, and fetched.
///
/// Tests run in parallel and some run several worlds with one seed, so the lines have no fixed order: sort them before
/// comparing. The name changes with the test; when tests are renamed, compare the other columns alone.
pub(crate) fn append_to_file(plan: &Plan, trace: u64, moved: &Moved) {
    let Some(path) = std::env::var_os("TRACES") else { return };
    let Moved { by_cause: Causes { none, drain, unreadable, away, lost }, refetched, audited, .. } = moved;
    let moved = format!(
        "none={none} drain={drain} unreadable={unreadable} away={away} lost={lost} refetched={refetched} audited={audited}"
    );
    let line = format!("{} {} {} {trace:016x} {moved}\n", plan.name, plan.cells, plan.seed);
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
            Output::Task(Task::QueryHave { task_id, to, chunks }) => {
                self.tag(7);
                self.number(task_id.0);
                self.socket(*to);
                self.list(chunks, Self::chunk);
            }
            Output::Task(Task::Send { task_id, chunk, to, copies, bare, holders }) => {
                self.tag(8);
                self.number(task_id.0);
                self.chunk(chunk);
                self.socket(*to);
                self.number(u64::from(*copies));
                self.list(holders, Self::cell);
                self.number(u64::from(*bare));
            }
            Output::Task(Task::Fetch { task_id, chunk, from, copies, bare, holders }) => {
                self.tag(9);
                self.number(task_id.0);
                self.chunk(chunk);
                self.socket(*from);
                self.number(u64::from(*copies));
                self.list(holders, Self::cell);
                self.number(u64::from(*bare));
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
            Output::Task(Task::VerifyFinally(chunk)) => {
                self.tag(17);
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
            Output::Task(Task::QueryShared { task_id, to, query }) => {
                self.tag(18);
                self.number(task_id.0);
                self.socket(*to);
                self.query(query);
            }
            Output::Persist(persist) => self.persist(persist),
            Output::Event(event) => self.event(event),
        }
    }

    fn persist(&mut self, persist: &Persist) {
        match persist {
            Persist::CellId(id) => {
                self.tag(6);
                self.cell(id);
            }
            Persist::Holders { chunk, holders } => {
                self.tag(15);
                self.chunk(chunk);
                self.list(holders, Self::cell);
            }
            Persist::State(state) => {
                self.tag(16);
                self.saved_state(state);
            }
            Persist::Copies { chunk, copies } => {
                self.tag(19);
                self.chunk(chunk);
                self.number(u64::from(*copies));
            }
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Active(id, address) => {
                self.tag(101);
                self.cell(id);
                self.socket(*address);
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
            Event::OwnCopyUnreadable(chunk) => {
                self.tag(121);
                self.chunk(chunk);
            }
            Event::OwnCopyReadable(chunk) => {
                self.tag(122);
                self.chunk(chunk);
            }
            Event::DiskFailing(failing) => {
                self.tag(123);
                self.number(u64::from(*failing));
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

    fn query(&mut self, query: &SharedQuery) {
        let SharedQuery { node, prefix, after } = query;
        self.cell(node);
        self.text(&prefix.to_string());
        self.option(after.as_ref(), Self::chunk);
    }

    fn saved_state(&mut self, state: &SavedState) {
        let SavedState { draining, scrub_position, strikes, isolated, failing } = state;
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
        self.number(u64::from(*failing));
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
mod tests;
