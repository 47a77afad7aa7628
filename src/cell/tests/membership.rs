//! Beacons, silence, death, departure, duplicate ids, static peers.

use super::*;

/// Lets time pass until cell 2 is silent and probed. Returns the id of the probe.
fn until_probed(cell: &mut TestCell) -> TaskId {
    let out = cell.pass(7 * SECOND);
    let [(task_id, "10.0.0.2:8002")] = probes(&out)[..] else { panic!("{out:?}") };
    task_id
}

#[test]
fn a_cell_broadcasts_a_beacon_every_second() {
    let mut cell = TestCell::new(&[]);
    let out = cell.pass(60 * SECOND);
    let beacon = |output| if let &Output::Udp(Udp::Broadcast(ref beacon)) = output { Some(beacon) } else { None };
    let beacons: Vec<_> = out.iter().filter_map(beacon).collect();
    assert!((55..=61).contains(&beacons.len()), "{}", beacons.len());
    let last = beacons.last().unwrap();
    assert_eq!((last.node_id, last.port, last.status, last.boot), (id(1), 8001, Status::Active, Some(Boot(100))));
    assert_eq!((last.chunks, last.free, last.cells), (Some(3), Some(7), Some(1)));
}

#[test]
fn a_probe_datagram_is_answered_at_once_to_its_sender() {
    let mut cell = TestCell::new(&[]);
    cell.beacon_from(2, 1);
    let from = SocketAddr::new(ip(9), 40_000);
    let out = cell.input(MemberInput::ProbeRequest { from });
    let [Output::Udp(Udp::ProbeReply { to, beacon })] = &out[..] else { panic!("{out:?}") };
    assert_eq!((*to, beacon.cells), (from, Some(2)));
}

#[test]
fn only_a_failed_probe_makes_a_silent_cell_dead() {
    let mut cell = TestCell::new(&[]);
    assert_eq!(events(&cell.beacon_from(2, 1)), [&Event::Active(id(2), address(2))]);
    cell.pass(5 * SECOND);
    assert_eq!(cell.presence_of(2), Some(Presence::Active), "exactly 5 s is not longer than 5 s");

    let out = cell.pass(2 * SECOND);
    assert_eq!(cell.presence_of(2), Some(Presence::Silent));
    assert_eq!(events(&out), [&Event::Silent(id(2))]);
    let [(first, "10.0.0.2:8002")] = probes(&out)[..] else { panic!("{out:?}") };
    assert_eq!(probes(&cell.pass(3 * SECOND)), [], "one probe at a time");

    // It is alive though its beacons do not arrive: it is not dead, gets no new chunks, and is probed again.
    let out = cell.probe_done(first, ProbeOutcome::Cell(address(2), beacon(2, 1)));
    assert_eq!(events(&out), [] as [&Event; 0]);
    assert_eq!(cell.presence_of(2), Some(Presence::Silent));
    let out = cell.pass(4 * SECOND);
    let [(second, "10.0.0.2:8002")] = probes(&out)[..] else { panic!("{out:?}") };

    assert_eq!(cell.probe_done(first, ProbeOutcome::Unreachable), [], "that probe has ended");
    let out = cell.probe_done(second, ProbeOutcome::Unreachable);
    assert_eq!(events(&out), [&Event::Dead(id(2))]);
    assert_eq!(cell.presence_of(2), Some(Presence::Dead));

    assert_eq!(events(&cell.beacon_from(2, 2)), [&Event::Active(id(2), address(2))], "it has returned");
}

#[test]
fn another_cell_at_the_same_address_is_no_sign_of_life() {
    let mut cell = TestCell::new(&[]);
    cell.beacon_from(2, 1);
    let probe = until_probed(&mut cell);
    let out = cell.probe_done(probe, ProbeOutcome::Cell(address(2), beacon(3, 1)));
    assert!(events(&out).contains(&&Event::Dead(id(2))), "{out:?}");
}

/// A cell that was too busy to send its status was declared dead, and with it all its copies.
#[test]
fn any_response_is_a_sign_of_life_but_only_a_beacon_makes_active() {
    let mut cell = TestCell::new(&[]);
    cell.beacon_from(2, 1);
    let mut probe = until_probed(&mut cell);
    for _ in 0..5 {
        assert_eq!(cell.probe_done(probe, ProbeOutcome::Responding), []);
        assert_eq!(cell.presence_of(2), Some(Presence::Silent));
        let out = cell.pass(4 * SECOND);
        let [(again, "10.0.0.2:8002")] = probes(&out)[..] else { panic!("{out:?}") };
        probe = again;
    }
    cell.beacon_from(2, 1);
    assert_eq!(cell.presence_of(2), Some(Presence::Active));
}

#[test]
fn a_silent_cell_whose_address_is_our_own_is_dead() {
    let mut cell = TestCell::new(&[]);
    cell.beacon_from(2, 1);
    let probe = until_probed(&mut cell);
    let out = cell.probe_done(probe, ProbeOutcome::Cell(address(2), cell.own_beacon()));
    assert_eq!(events(&out), [&Event::Dead(id(2))]);
}

#[test]
fn a_probe_of_an_old_address_says_nothing_about_the_new_one() {
    let mut cell = TestCell::new(&[]);
    cell.beacon_from(2, 1);
    let probe = until_probed(&mut cell);
    cell.beacon(ip(77), beacon(2, 1));
    cell.pass(7 * SECOND);
    assert_eq!(cell.presence_of(2), Some(Presence::Silent));
    assert_eq!(cell.probe_done(probe, ProbeOutcome::Unreachable), []);
    assert_eq!(cell.presence_of(2), Some(Presence::Silent));
}

#[test]
fn a_leaving_cell_is_gone_and_its_late_datagrams_do_no_harm() {
    let mut cell = TestCell::new(&[]);
    cell.beacon_from(2, 1);
    let leaving = Beacon { status: Status::Leaving, ..beacon(2, 1) };
    let out = cell.beacon(ip(2), leaving.clone());
    assert_eq!(events(&out), [&Event::Left(id(2))]);
    assert_eq!(cell.presence_of(2), Some(Presence::Left));

    cell.beacon_from(2, 2);
    cell.beacon(ip(2), leaving);
    assert_eq!(cell.presence_of(2), Some(Presence::Active), "it has started again meanwhile");
}

#[test]
fn shutdown_is_announced_and_ends_the_beacons() {
    let mut cell = TestCell::new(&[]);
    let out = cell.input(Input::Shutdown);
    let [Output::Udp(Udp::Broadcast(beacon))] = &out[..] else { panic!("{out:?}") };
    assert_eq!(beacon.status, Status::Leaving);
    assert!(!cell.pass(5 * SECOND).iter().any(|output| matches!(output, Output::Udp(_))));
}

#[test]
fn a_cell_with_two_addresses_keeps_the_one_that_sends_beacons() {
    let mut cell = TestCell::new(&[]);
    let address_of_2 = |cell: &TestCell| cell.cell.members().next().unwrap().1.address.ip();
    cell.beacon_from(2, 1);
    for _ in 0..10 {
        cell.pass(SECOND);
        cell.beacon_from(2, 1);
        assert_eq!(cell.beacon(ip(77), beacon(2, 1)), []);
        assert_eq!(address_of_2(&cell), ip(2));
    }
    cell.pass(3 * SECOND);
    cell.beacon(ip(77), beacon(2, 1));
    assert_eq!(address_of_2(&cell), ip(77), "no beacon comes from the first address any more");
}

#[test]
fn of_two_cells_with_one_id_the_newer_takes_another() {
    for (their_boot, is_newer) in [(99, true), (101, false)] {
        let mut cell = TestCell::new(&[]);
        let clone = Beacon { port: 9999, ..beacon(1, their_boot) };
        let mut out = Vec::new();
        for _ in 0..4 {
            out.extend(cell.beacon(ip(50), clone.clone()));
            cell.pass(SECOND);
        }
        assert!(events(&out).contains(&&Event::DuplicateId(id(1), ip(50))), "both report it");
        let renamed = out.iter().any(|output| matches!(output, Output::Persist(Persist::CellId(_))));
        assert_eq!((renamed, cell.cell.id() != id(1)), (is_newer, is_newer));
    }
}

/// Every few forged beacons caused another id, a write to the disk and two lines in the log.
#[test]
fn forged_clones_cause_one_new_id_and_one_report_per_minute() {
    let mut cell = TestCell::new(&[]);
    let mut out = Vec::new();
    for _ in 0..600 {
        let forged = Beacon { node_id: cell.cell.id(), ..beacon(1, 99) };
        out.extend(cell.beacon(ip(50), forged));
        out.extend(cell.pass(SECOND));
    }
    assert_eq!(out.iter().filter(|output| matches!(output, Output::Persist(Persist::CellId(_)))).count(), 1);
    let reports = events(&out).iter().filter(|event| matches!(event, Event::DuplicateId(..))).count();
    assert!((9..=10).contains(&reports), "{reports}");
}

#[test]
fn an_echo_of_our_own_beacon_is_neither_a_member_nor_a_clone() {
    let mut cell = TestCell::new(&[]);
    for _ in 0..10 {
        assert_eq!(cell.beacon(ip(1), cell.own_beacon()), []);
        cell.pass(SECOND);
    }
    assert_eq!(cell.cell.members().count(), 0);
}

#[test]
fn a_static_peer_is_active_by_probes_alone_and_gets_beacons() {
    let mut cell = TestCell::new(&["10.9.9.9:8080"]);
    let peer = SocketAddr::from(([10, 9, 9, 9], 8080));
    let mut announced = 0;
    for _ in 0..60 {
        for output in cell.pass(SECOND) {
            if let Output::Task(Task::Probe { task_id, address, announce }) = output {
                announced += u32::from(announce);
                assert_eq!(address, "10.9.9.9:8080");
                cell.probe_done(task_id, ProbeOutcome::Cell(peer, Beacon { port: 8080, ..beacon(9, 1) }));
            }
        }
        assert_eq!(cell.presence_of(9), Some(Presence::Active));
    }
    assert!((1..=2).contains(&announced), "{announced}");
    let out = cell.pass(2 * SECOND);
    assert!(out.iter().any(|output| matches!(output, Output::Udp(Udp::Unicast { to, .. }) if *to == peer.ip())));
}

#[test]
fn an_unreachable_static_peer_is_probed_less_and_less_often() {
    let mut cell = TestCell::new(&["10.9.9.9:8080"]);
    let mut count = 0;
    for _ in 0..3600 {
        for (task_id, _) in probes(&cell.pass(SECOND)) {
            count += 1;
            cell.probe_done(task_id, ProbeOutcome::Unreachable);
        }
    }
    assert!((80..=110).contains(&count), "{count}");
}

#[test]
fn a_cell_that_is_its_own_static_peer_removes_itself() {
    let mut cell = TestCell::new(&["10.0.0.1:8001"]);
    let out = cell.pass(2 * SECOND);
    let [(probe, "10.0.0.1:8001")] = probes(&out)[..] else { panic!("{out:?}") };
    cell.probe_done(probe, ProbeOutcome::Cell(address(1), cell.own_beacon()));
    assert_eq!(probes(&cell.pass(60 * SECOND)), []);
    assert_eq!(cell.cell.members().count(), 0);
}

#[test]
fn a_cell_that_joins_is_probed_and_their_number_is_bounded() {
    let mut cell = TestCell::new(&[]);
    let join = |address: String| MemberInput::Join { address };
    let out = cell.input(join("10.7.7.7:80".into()));
    assert!(matches!(probes(&out)[..], [(_, "10.7.7.7:80")]), "{out:?}");
    assert_eq!(cell.input(join("10.7.7.7:80".into())), [], "it is a static peer already");
    let joined: Vec<Output> =
        (0..2 * MAX_PEERS).flat_map(|n| cell.input(join(format!("10.7.7.7:{}", 1000 + n)))).collect();
    assert_eq!(probes(&joined).len(), MAX_PEERS - 1);
    assert_eq!(probes(&cell.pass(SECOND)), []);
}

#[test]
fn forged_beacons_cannot_fill_the_memory() {
    let mut cell = TestCell::new(&[]);
    cell.beacon_from(2, 1);
    let mut reports = 0;
    for n in 0..3 * MAX_MEMBERS as u64 {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        let out = cell.beacon(ip(3), Beacon { node_id: CellId::from_bytes(bytes), ..beacon(3, 1) });
        reports += events(&out).iter().filter(|event| ***event == Event::MemberTableFull).count();
    }
    assert_eq!(cell.cell.members().count(), MAX_MEMBERS);
    assert_eq!(reports, 1);
    assert_eq!(cell.presence_of(2), Some(Presence::Active), "earlier members stay");
}

#[test]
fn a_dead_member_is_forgotten_after_an_hour() {
    let mut cell = TestCell::new(&[]);
    cell.beacon_from(2, 1);
    let probe = until_probed(&mut cell);
    cell.probe_done(probe, ProbeOutcome::Unreachable);
    cell.pass(3500 * SECOND);
    assert_eq!(cell.presence_of(2), Some(Presence::Dead));
    cell.pass(200 * SECOND);
    assert_eq!(cell.presence_of(2), None);
}
