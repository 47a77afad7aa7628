//! Finding cells by a broadcast probe.
//!
//! Every cell answers a probe within milliseconds by its beacon, which states how many active cells its sender knows.
//! If all beacons state the same number, that many cells have answered, and as many as are wanted, the search is over.
//! Otherwise late cells get a moment more, and then some cells are asked for their peers. If no cell answers, the
//! colony may be of cells of the first version, which only send beacons: then the search listens for those.

// A shell: it waits for datagrams.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::discover::colony::ColonyScope;
use crate::client::discover::found_cells::FoundCells;
use crate::net::client::Http;
use crate::net::udp;
use crate::wire::beacon::Beacon;
use crate::wire::datagram::{Datagram, MAX_DATAGRAM_BYTES};

/// An unanswered probe is sent again at these times after the first one, in milliseconds: datagrams get lost.
const PROBE_REPEATS_MS: [u64; 3] = [100, 300, 1000];
/// How long to wait for other cells after the first answer. Wi-Fi in power-saving mode delivers with a delay.
const LATE_ANSWER_TIMEOUT: Duration = Duration::from_millis(150);
/// If no cell has answered by this time, the search also listens for beacons. No earlier: the socket for that would
/// take the unicast datagrams of a cell on the same machine.
const LISTEN_AFTER: Duration = Duration::from_millis(400);
/// The end of the search. Cells send a beacon each second, and three beacons are not lost together.
const SEARCH_TIMEOUT: Duration = Duration::from_millis(3400);
/// As [`LATE_ANSWER_TIMEOUT`], when listening for beacons, which cells send each second.
const LATE_BEACON_TIMEOUT: Duration = Duration::from_millis(1200);
/// Pause between two attempts to receive.
const RECEIVE_INTERVAL: Duration = Duration::from_millis(1);
/// Datagrams received from one socket between two checks of the clock: a flood must not prolong the search.
const MAX_RECEIVED_AT_ONCE: usize = 256;
/// Cells that are asked for their peers.
const MAX_ASKED_CELLS: usize = 3;

/// Searches until `wanted` cells agree that they are all there are, or the time is up.
pub(in crate::client) fn probe(http: &Http, scope: &ColonyScope, wanted: usize) -> io::Result<FoundCells> {
    let mut found = FoundCells::default();
    let probes = ProbeSockets::open(scope)?;
    let began = Instant::now();
    let mut repeats = PROBE_REPEATS_MS.iter().map(|&ms| Duration::from_millis(ms));
    let mut next_probe = Some(Duration::ZERO);
    let mut listener = None;
    let mut first_answer = None;
    let mut cell_counts = BTreeMap::new();
    while began.elapsed() < SEARCH_TIMEOUT {
        if first_answer.is_none() && next_probe.is_some_and(|at| began.elapsed() >= at) {
            probes.send(scope.udp_port);
            next_probe = repeats.next();
        }
        if found.len() == 0 && listener.is_none() && began.elapsed() >= LISTEN_AFTER {
            // If this fails, there are still the answers to the probe.
            listener = udp::listener(scope.udp_port).and_then(nonblocking).ok();
        }
        let beacons: Vec<_> = probes.sockets.iter().chain(&listener).flat_map(receive).collect();
        let is_silent = beacons.is_empty();
        for (from, beacon) in beacons {
            first_answer.get_or_insert_with(Instant::now);
            cell_counts.insert(beacon.node_id, beacon.cells.unwrap_or(0));
            found.insert_sender(from, &beacon);
        }
        if agree(cell_counts.values(), found.len(), wanted) {
            return Ok(found);
        }
        let timeout = if listener.is_some() { LATE_BEACON_TIMEOUT } else { LATE_ANSWER_TIMEOUT };
        if first_answer.is_some_and(|at| at.elapsed() >= timeout) {
            break;
        }
        if is_silent {
            thread::sleep(RECEIVE_INTERVAL);
        }
    }
    for url in found.urls().iter().take(MAX_ASKED_CELLS) {
        found.insert_peers_of(http, url);
    }
    Ok(found)
}

/// Do the beacons show that these are all cells? `cell_counts` are the numbers of active cells that each of the cells
/// knows, itself included. A single answer proves nothing: a cell that has just started knows only itself.
fn agree<'a>(cell_counts: impl ExactSizeIterator<Item = &'a u32>, found: usize, wanted: usize) -> bool {
    found >= wanted.max(2) && cell_counts.len() >= found && { cell_counts }.all(|&cells| cells as usize == found)
}

/// One socket for each network, on ephemeral ports: answers arrive whatever else uses the colony's port.
struct ProbeSockets {
    sockets: Vec<UdpSocket>,
    targets: Vec<Ipv4Addr>,
}

impl ProbeSockets {
    fn open(scope: &ColonyScope) -> io::Result<Self> {
        let mut probes = Self { sockets: Vec::new(), targets: Vec::new() };
        let mut networks = udp::networks(scope.loopback, None)?;
        if !scope.loopback {
            // A cell on this very machine answers too, even if the cable is out.
            networks.extend(udp::networks(true, None)?);
        }
        for network in networks {
            // One interface that goes down just now must not stop the search on the others.
            if let Ok(socket) = udp::sender(network.own).and_then(nonblocking) {
                probes.sockets.push(socket);
                probes.targets.push(network.broadcast);
            }
        }
        Ok(probes)
    }

    fn send(&self, port: u16) {
        for (socket, target) in self.sockets.iter().zip(&self.targets) {
            // A probe that is lost is repeated.
            drop(socket.send_to(&Datagram::Probe.encode(), (*target, port)));
        }
    }
}

fn nonblocking(socket: UdpSocket) -> io::Result<UdpSocket> {
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The beacons that have arrived.
fn receive(socket: &UdpSocket) -> Vec<(SocketAddr, Beacon)> {
    let mut beacons = Vec::new();
    let mut buffer = [0; MAX_DATAGRAM_BYTES + 1];
    for _ in 0..MAX_RECEIVED_AT_ONCE {
        let Ok((len, from)) = socket.recv_from(&mut buffer) else { break };
        if let Ok(Datagram::Beacon(beacon)) = Datagram::parse(buffer.get(..len).unwrap_or_default()) {
            beacons.push((from, beacon));
        }
    }
    beacons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cells_that_agree_and_suffice_are_all_cells() {
        let agree = |counts: &[u32], found, wanted| agree(counts.iter(), found, wanted);
        assert!(agree(&[5; 5], 5, 5));
        assert!(agree(&[8; 8], 8, 5));
        assert!(!agree(&[1], 1, 5), "one that has just started");
        assert!(!agree(&[1], 1, 0), "not even if few are wanted");
        assert!(!agree(&[2, 2], 2, 5), "two that have just started");
        assert!(!agree(&[5, 5, 5, 5, 6], 5, 5), "one knows of another");
        assert!(!agree(&[5, 5, 5, 5, 4], 5, 5), "one does not know all, and perhaps others do not either");
        assert!(!agree(&[0; 5], 5, 5), "cells of the first version do not state it");
        assert!(!agree(&[5; 4], 5, 5), "not all found have answered");
    }
}
