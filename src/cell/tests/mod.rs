//! Behaviours of one cell, told step by step: inputs at given moments, outputs looked at. No clock runs here.

mod audits;
mod copies;
mod hostile;

use std::net::{IpAddr, SocketAddr};

use super::*;
use crate::id::CellId;
use crate::time::Time;
use crate::wire::beacon::{Beacon, Boot, Role, Status};
use crate::wire::peers::Presence;

const SECOND: u64 = 1000;

fn name(byte: u8) -> CellId {
    CellId::from_bytes([byte; 16])
}

fn beacon(byte: u8, boot: u64) -> Beacon {
    Beacon {
        node_id: name(byte),
        port: 8000 + u16::from(byte),
        status: Status::Active,
        v: Some(1),
        boot: Some(Boot(boot)),
        role: Role::Storage,
        chunks: Some(1),
        free: Some(1 << 30),
        cells: Some(2),
        clean_s: None,
    }
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

/// A cell under test and its clock.
struct World {
    cell: Cell,
    now: Time,
    wake_at: Time,
    store: StoreStats,
}

impl World {
    fn new(peers: &[&str]) -> Self {
        Self::with(peers, Settings::default())
    }

    fn with(peers: &[&str], settings: Settings) -> Self {
        let doors: Vec<String> = peers.iter().map(|&door| door.to_owned()).collect();
        let cell = Cell::new(name(1), Boot(100), 8001, &doors, settings, &SavedState::default(), 42);
        Self { cell, now: Time(5), wake_at: Time(5), store: StoreStats { chunks: 3, free_bytes: 7, full: false } }
    }

    fn give(&mut self, input: &Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.cell.handle(self.now, input, &mut out);
        out
    }

    /// Lets so much time pass, wakes the cell whenever it asked for it, and gathers what it does.
    fn pass(&mut self, ms: u64) -> Vec<Output> {
        let end = self.now.plus_ms(ms);
        let mut out = Vec::new();
        while self.wake_at <= end {
            self.now = self.wake_at;
            for output in self.give(&Input::Wake(self.store)) {
                match output {
                    Output::WakeAt(time) => self.wake_at = time,
                    output => out.push(output),
                }
            }
        }
        self.now = end;
        out
    }

    fn hear(&mut self, byte: u8, boot: u64) -> Vec<Output> {
        self.give(&Input::Member(MemberInput::Beacon { from: ip(byte), beacon: beacon(byte, boot) }))
    }

    fn presence_of(&self, byte: u8) -> Option<Presence> {
        let member = self.cell.members().find(|(id, _)| *id == name(byte))?.1;
        Some(self.cell.presence(self.now, member))
    }
}

fn visits(out: &[Output]) -> Vec<&str> {
    out.iter()
        .filter_map(
            |o| if let Output::Task(Task::Probe { address: door, .. }) = o { Some(door.as_str()) } else { None },
        )
        .collect()
}

fn events(out: &[Output]) -> Vec<&Event> {
    out.iter().filter_map(|o| if let Output::Event(event) = o { Some(event) } else { None }).collect()
}

#[test]
fn a_cell_says_each_second_what_it_is() {
    let mut world = World::new(&[]);
    let out = world.pass(60 * SECOND);
    let beacons: Vec<_> = out
        .iter()
        .filter_map(|o| if let Output::Udp(Udp::Broadcast(beacon)) = o { Some(beacon) } else { None })
        .collect();
    assert!((55..=61).contains(&beacons.len()), "{}", beacons.len());
    let last = beacons.last().unwrap();
    assert_eq!((last.node_id, last.port, last.status, last.boot), (name(1), 8001, Status::Active, Some(Boot(100))));
    assert_eq!((last.chunks, last.free, last.cells), (Some(3), Some(7), Some(1)));
}

#[test]
fn a_probe_is_answered_at_once_to_the_one_who_asked() {
    let mut world = World::new(&[]);
    world.hear(2, 1);
    let by = SocketAddr::new(ip(9), 40_000);
    let out = world.give(&Input::Member(MemberInput::ProbeRequest { from: by }));
    let [Output::Udp(Udp::ProbeReply { to, beacon })] = &out[..] else { panic!("{out:?}") };
    assert_eq!((*to, beacon.cells), (by, Some(2)));
}

#[test]
fn five_seconds_of_silence_end_activity_and_only_a_failed_probe_means_death() {
    let mut world = World::new(&[]);
    let door = SocketAddr::new(ip(2), 8002);
    assert_eq!(events(&world.hear(2, 1)), [&Event::Active(name(2), door)]);
    world.pass(5 * SECOND);
    assert_eq!(world.presence_of(2), Some(Presence::Active), "exactly 5 s is not more than 5 s");

    let out = world.pass(2 * SECOND);
    assert_eq!(world.presence_of(2), Some(Presence::Silent));
    assert_eq!(events(&out), [&Event::Silent(name(2))]);
    assert_eq!(visits(&out), ["10.0.0.2:8002"]);
    assert!(visits(&world.pass(3 * SECOND)).is_empty(), "one visit at a time");

    // Alive, though not heard: it is not dead, takes no new chunks, and is asked again.
    let out = world.give(&Input::Member(MemberInput::ProbeDone {
        address: "10.0.0.2:8002".into(),
        outcome: ProbeOutcome::Cell(door, beacon(2, 1)),
    }));
    assert!(events(&out).is_empty());
    assert_eq!(world.presence_of(2), Some(Presence::Silent));
    assert_eq!(visits(&world.pass(4 * SECOND)), ["10.0.0.2:8002"]);

    let out = world.give(&Input::Member(MemberInput::ProbeDone {
        address: "10.0.0.2:8002".into(),
        outcome: ProbeOutcome::Unreachable,
    }));
    assert_eq!(events(&out), [&Event::Dead(name(2))]);
    assert_eq!(world.presence_of(2), Some(Presence::Dead));

    assert_eq!(events(&world.hear(2, 2)), [&Event::Active(name(2), door)], "and back from the dead");
}

#[test]
fn another_cell_that_took_over_the_address_is_no_sign_of_life() {
    let mut world = World::new(&[]);
    world.hear(2, 1);
    world.pass(7 * SECOND);
    let door = SocketAddr::new(ip(2), 8002);
    let out = world.give(&Input::Member(MemberInput::ProbeDone {
        address: "10.0.0.2:8002".into(),
        outcome: ProbeOutcome::Cell(door, beacon(3, 1)),
    }));
    assert!(events(&out).contains(&&Event::Dead(name(2))), "{out:?}");
}

/// A cell that was too busy to tell its status was declared dead, and with it everything it holds.
#[test]
fn any_answer_is_a_sign_of_life_but_only_a_beacon_makes_a_silent_cell_active() {
    let mut world = World::new(&[]);
    world.hear(2, 1);
    world.pass(7 * SECOND);
    for _ in 0..5 {
        let out = world.give(&Input::Member(MemberInput::ProbeDone {
            address: "10.0.0.2:8002".into(),
            outcome: ProbeOutcome::Responding,
        }));
        assert_eq!(events(&out), [] as [&Event; 0]);
        assert_eq!(world.presence_of(2), Some(Presence::Silent));
        assert_eq!(visits(&world.pass(4 * SECOND)), ["10.0.0.2:8002"], "and it is asked again");
    }
    world.hear(2, 1);
    assert_eq!(world.presence_of(2), Some(Presence::Active));
}

#[test]
fn a_silent_cell_at_whose_door_we_answer_ourselves_is_dead() {
    let mut world = World::new(&[]);
    world.hear(2, 1);
    world.pass(7 * SECOND);
    let own = world.cell.beacon(world.now);
    let answer = ProbeOutcome::Cell(SocketAddr::new(ip(2), 8002), own);
    let out = world.give(&Input::Member(MemberInput::ProbeDone { address: "10.0.0.2:8002".into(), outcome: answer }));
    assert_eq!(events(&out), [&Event::Dead(name(2))]);
}

#[test]
fn who_says_that_it_leaves_is_gone_at_once_and_late_last_words_do_not_harm_its_next_start() {
    let mut world = World::new(&[]);
    world.hear(2, 1);
    let leaving = Beacon { status: Status::Leaving, ..beacon(2, 1) };
    let out = world.give(&Input::Member(MemberInput::Beacon { from: ip(2), beacon: leaving.clone() }));
    assert_eq!(events(&out), [&Event::Left(name(2))]);
    assert_eq!(world.presence_of(2), Some(Presence::Left));

    world.hear(2, 2);
    world.give(&Input::Member(MemberInput::Beacon { from: ip(2), beacon: leaving }));
    assert_eq!(world.presence_of(2), Some(Presence::Active));
}

#[test]
fn a_leaving_cell_says_so_and_falls_silent() {
    let mut world = World::new(&[]);
    let out = world.give(&Input::Shutdown);
    assert!(matches!(&out[..], [Output::Udp(Udp::Broadcast(Beacon { status: Status::Leaving, .. }))]), "{out:?}");
    assert!(!world.pass(5 * SECOND).iter().any(|o| matches!(o, Output::Udp(Udp::Broadcast(_)))));
}

#[test]
fn a_cell_with_two_addresses_stays_at_the_one_where_it_is_heard() {
    let mut world = World::new(&[]);
    world.hear(2, 1);
    for _ in 0..10 {
        world.pass(SECOND);
        world.hear(2, 1);
        let other = world.give(&Input::Member(MemberInput::Beacon { from: ip(77), beacon: beacon(2, 1) }));
        assert!(events(&other).is_empty());
        assert_eq!(world.cell.members().next().unwrap().1.door.ip(), ip(2));
    }
    world.pass(3 * SECOND);
    world.give(&Input::Member(MemberInput::Beacon { from: ip(77), beacon: beacon(2, 1) }));
    assert_eq!(world.cell.members().next().unwrap().1.door.ip(), ip(77), "it moved when the first fell quiet");
}

#[test]
fn of_two_cells_with_one_name_the_newer_takes_another() {
    for (their_boot, we_rename) in [(99, true), (101, false)] {
        let mut world = World::new(&[]);
        let clone = Beacon { port: 9999, ..beacon(1, their_boot) };
        let mut out = Vec::new();
        for _ in 0..4 {
            out.extend(world.give(&Input::Member(MemberInput::Beacon { from: ip(50), beacon: clone.clone() })));
            world.pass(SECOND);
        }
        assert!(events(&out).contains(&&Event::DuplicateId(name(1), ip(50))), "both tell of it");
        let renamed =
            out.iter().find_map(|o| if let Output::Persist(Persist::CellId(id)) = o { Some(*id) } else { None });
        assert_eq!(renamed.is_some(), we_rename);
        assert_eq!(world.cell.id() != name(1), we_rename);
    }
}

/// Every few forged beacons brought another name, a write to the disk and two lines in the log.
#[test]
fn forged_clones_bring_one_new_name_and_a_line_a_minute() {
    let mut world = World::new(&[]);
    let mut out = Vec::new();
    for _ in 0..600 {
        let forged = Beacon { node_id: world.cell.id(), ..beacon(1, 99) };
        out.extend(world.give(&Input::Member(MemberInput::Beacon { from: ip(50), beacon: forged })));
        out.extend(world.pass(SECOND));
    }
    assert_eq!(out.iter().filter(|o| matches!(o, Output::Persist(Persist::CellId(_)))).count(), 1);
    let told = events(&out).iter().filter(|event| matches!(event, Event::DuplicateId(..))).count();
    assert!((9..=10).contains(&told), "{told}");
}

#[test]
fn an_echo_of_our_own_beacon_is_neither_a_member_nor_a_clone() {
    let mut world = World::new(&[]);
    for _ in 0..10 {
        let own = world.cell.beacon(world.now);
        assert!(world.give(&Input::Member(MemberInput::Beacon { from: ip(1), beacon: own })).is_empty());
        world.pass(SECOND);
    }
    assert_eq!(world.cell.members().count(), 0);
}

#[test]
fn a_static_peer_stays_active_by_visits_alone_and_gets_unicast_beacons() {
    let mut world = World::new(&["10.9.9.9:8080"]);
    let address = SocketAddr::new(IpAddr::from([10, 9, 9, 9]), 8080);
    let mut announced = 0;
    for _ in 0..60 {
        for output in world.pass(SECOND) {
            if let Output::Task(Task::Probe { address: door, announce }) = output {
                announced += u32::from(announce);
                assert_eq!(door, "10.9.9.9:8080");
                let answer = ProbeOutcome::Cell(address, Beacon { port: 8080, ..beacon(9, 1) });
                world.give(&Input::Member(MemberInput::ProbeDone { address: door, outcome: answer }));
            }
        }
        assert_eq!(world.presence_of(9), Some(Presence::Active));
    }
    assert!((1..=2).contains(&announced), "{announced}");
    assert!(
        world.pass(2 * SECOND).iter().any(|o| matches!(o, Output::Udp(Udp::Unicast { to, .. }) if *to == address.ip()))
    );
}

#[test]
fn a_static_peer_that_does_not_answer_is_asked_less_and_less_but_for_ever() {
    let mut world = World::new(&["10.9.9.9:8080"]);
    let mut asked = 0;
    for _ in 0..3600 {
        for output in world.pass(SECOND) {
            if let Output::Task(Task::Probe { address: door, .. }) = output {
                asked += 1;
                world
                    .give(&Input::Member(MemberInput::ProbeDone { address: door, outcome: ProbeOutcome::Unreachable }));
            }
        }
    }
    assert!((80..=110).contains(&asked), "{asked}");
}

#[test]
fn a_cell_that_is_its_own_static_peer_leaves_itself_out() {
    let mut world = World::new(&["10.0.0.1:8001"]);
    assert_eq!(visits(&world.pass(2 * SECOND)), ["10.0.0.1:8001"]);
    let own = world.cell.beacon(world.now);
    let answer = ProbeOutcome::Cell(SocketAddr::new(ip(1), 8001), own);
    world.give(&Input::Member(MemberInput::ProbeDone { address: "10.0.0.1:8001".into(), outcome: answer }));
    assert!(visits(&world.pass(60 * SECOND)).is_empty());
    assert_eq!(world.cell.members().count(), 0);
}

#[test]
fn who_joins_is_visited_and_there_is_a_limit_to_joining() {
    let mut world = World::new(&[]);
    let out = world.give(&Input::Member(MemberInput::Join { address: "10.7.7.7:80".into() }));
    assert_eq!(visits(&out), ["10.7.7.7:80"]);
    assert!(
        world.give(&Input::Member(MemberInput::Join { address: "10.7.7.7:80".into() })).is_empty(),
        "known already"
    );
    for n in 0..2 * MAX_PEERS {
        world.give(&Input::Member(MemberInput::Join { address: format!("10.7.7.7:{}", 1000 + n) }));
    }
    assert_eq!(world.cell.peers.addresses().count(), 0);
    assert!(visits(&world.pass(SECOND)).len() <= MAX_PEERS);
}

#[test]
fn forged_beacons_cannot_fill_the_memory() {
    let mut world = World::new(&[]);
    world.hear(2, 1);
    let mut crowded = 0;
    for n in 0..3 * MAX_MEMBERS {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(n as u64).to_le_bytes());
        let forged = Beacon { node_id: CellId::from_bytes(bytes), ..beacon(3, 1) };
        let out = world.give(&Input::Member(MemberInput::Beacon { from: ip(3), beacon: forged }));
        crowded += events(&out).iter().filter(|event| ***event == Event::MemberTableFull).count();
    }
    assert_eq!(world.cell.members().count(), MAX_MEMBERS);
    assert_eq!(crowded, 1, "told once");
    assert_eq!(world.presence_of(2), Some(Presence::Active), "those known before stay");
}

#[test]
fn the_dead_are_forgotten_after_an_hour() {
    let mut world = World::new(&[]);
    world.hear(2, 1);
    for output in world.pass(7 * SECOND) {
        if let Output::Task(Task::Probe { address: door, .. }) = output {
            world.give(&Input::Member(MemberInput::ProbeDone { address: door, outcome: ProbeOutcome::Unreachable }));
        }
    }
    world.pass(3500 * SECOND);
    assert_eq!(world.presence_of(2), Some(Presence::Dead));
    world.pass(200 * SECOND);
    assert_eq!(world.presence_of(2), None);
}
