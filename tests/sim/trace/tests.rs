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

    fn query(&mut self) -> SharedQuery {
        let prefix = if self.is_changed() { "abc" } else { "ab" }.parse().unwrap();
        SharedQuery { node: self.cell(), prefix, after: self.option(Self::chunk) }
    }

    fn saved_state(&mut self) -> SavedState {
        SavedState {
            draining: self.is_changed(),
            scrub_position: self.option(Self::chunk),
            strikes: self.list(|v| Strike { culprit: v.cell(), chunk: v.chunk(), ago_ms: v.number() }),
            isolated: self.list(|v| Isolation { cell: v.cell(), left_ms: v.number() }),
            failing: self.is_changed(),
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
        Output::Task(Task::QueryHave { task_id: TaskId(v.number()), to: v.socket(), chunks: v.list(Values::chunk) }),
        Output::Task(Task::Send {
            task_id: TaskId(v.number()),
            chunk: v.chunk(),
            to: v.socket(),
            copies: v.byte(),
            holders: v.list(Values::cell),
            bare: v.is_changed(),
        }),
        Output::Task(Task::Fetch {
            task_id: TaskId(v.number()),
            chunk: v.chunk(),
            from: v.socket(),
            copies: v.byte(),
            holders: v.list(Values::cell),
            bare: v.is_changed(),
        }),
        Output::Task(Task::Audit { task_id: TaskId(v.number()), from: v.socket(), target: v.target() }),
        Output::Task(Task::Verify(v.chunk())),
        Output::Task(Task::Remove(v.chunk())),
        Output::Task(Task::SendHints { to: v.socket(), hints: v.list(Values::hint) }),
        Output::Task(Task::SendAlert { alert: v.alert(), to: v.list(Values::socket) }),
        Output::Persist(Persist::Holders { chunk: v.chunk(), holders: v.list(Values::cell) }),
        Output::Persist(Persist::State(v.saved_state())),
        Output::Task(Task::VerifyFinally(v.chunk())),
        Output::Task(Task::QueryShared { task_id: TaskId(v.number()), to: v.socket(), query: v.query() }),
        Output::Persist(Persist::Copies { chunk: v.chunk(), copies: v.byte() }),
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
        Event::OwnCopyUnreadable(v.chunk()),
        Event::OwnCopyReadable(v.chunk()),
        Event::DiskFailing(v.is_changed()),
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
    let mut outputs: Vec<Output> =
        statuses.into_iter().map(|status| Output::Udp(Udp::Broadcast(Beacon { status, ..beacon.clone() }))).collect();
    outputs.extend(roles.map(|role| Output::Event(Event::Role(role))));
    outputs.extend(
        [AuditTarget::Chunk(chunk), AuditTarget::After(chunk)]
            .map(|target| Output::Task(Task::Audit { task_id, from, target })),
    );
    outputs.extend([from, six(0, 0), six(1, 0), six(0, 1)].map(|address| Output::Event(Event::Active(id, address))));
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
    assert_eq!(trace, 0xb5cc_87a9_c6b1_6179, "{trace:#018x}");
}
