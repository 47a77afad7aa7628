//! Finding the colony.
//!
//! A probe by broadcast is answered by every cell within milliseconds, and each answer says how many cells its sender
//! knows. When all of them say the same number, that many have answered, and they are as many as are wanted, they are
//! taken to be all. Otherwise the late ones get a moment more, and then cells are asked for others by `GET /peers`.
//! If nobody answers, the colony may be of older cells that only beacon: then beacons are listened for.

// A shell: it waits for datagrams.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};

use crate::client::discover::colony::{ColonyScope, KnownCell};
use crate::client::error::ClientError;
use crate::id::ChunkId;
use crate::net::client::{Http, Timeouts};
use crate::net::udp;
use crate::wire::beacon::{Beacon, Status};
use crate::wire::datagram::{Datagram, MAX_DATAGRAM_BYTES};
use crate::wire::peers::{CellView, Presence};

/// A probe that brought nothing is repeated after these times from the first, in milliseconds: datagrams get lost.
const PROBE_AGAIN_MS: [u64; 3] = [100, 300, 1000];
/// After the first answer, the others get this long before cells are asked for the rest: Wi-Fi in its power-saving mode
/// delivers only so often.
const OTHERS: Duration = Duration::from_millis(150);
/// Cells that one answer may name; a liar may name any number.
const MAX_CELLS: usize = 4096;
/// Cells that are asked for others.
const MAX_ASKED: usize = 3;
/// Datagrams read from one socket before the clock is looked at again: a flood must not keep us for ever.
const MAX_AT_ONCE: usize = 256;
/// When nobody has answered a probe for so long, plain beacons are listened for too. Not earlier: the socket for that
/// would take the unicasts of a cell on the same machine.
const LISTEN_AFTER: Duration = Duration::from_millis(400);
/// After this there is no colony. Older cells beacon each second, and three beacons are not lost together.
const GIVE_UP: Duration = Duration::from_millis(3400);
/// Beacons of older cells come within a second of each other.
const BEACONS: Duration = Duration::from_millis(1200);

/// Finds the active cells; none if nobody answers. Each is named once. When `wanted` of them have been found, and all
/// say that there are no others, no time is spent on looking for more.
pub fn find_cells(http: &Http, scope: &ColonyScope, wanted: usize) -> Result<Vec<KnownCell>, ClientError> {
    let http = &http.with_timeouts(Timeouts::PROBE);
    let mut found = if scope.nodes.is_empty() {
        probe(http, scope, wanted).map_err(ClientError::Discovery)?
    } else {
        ask(http, &scope.nodes)
    };
    found.sort_by(|a, b| a.url.cmp(&b.url));
    found.retain(|cell| cell.status != Status::Leaving);
    Ok(found)
}

/// Have all cells answered? `told` is how many cells each of those that answered knows, itself included. One quick
/// answer from a cell that has just started and knows nobody yet must not pass for a colony of one.
fn are_all(told: &[u32], found: usize, wanted: usize) -> bool {
    found >= wanted.max(2) && told.len() >= found && told.iter().all(|&cells| cells as usize == found)
}

/// Cells by their address, so that none is counted twice.
#[derive(Default)]
struct Found(BTreeMap<SocketAddr, KnownCell>);

impl Found {
    fn insert(&mut self, address: SocketAddr, cell: KnownCell) {
        // A cell may be reached by two addresses; by its name it is one.
        let known = cell.id.is_some() && self.0.iter().any(|(at, other)| other.id == cell.id && *at != address);
        if !known {
            self.0.insert(address, cell);
        }
    }

    fn heard(&mut self, from: SocketAddr, beacon: &Beacon) {
        let address = SocketAddr::new(from.ip(), beacon.port);
        let cell = KnownCell {
            url: format!("http://{address}"),
            id: Some(beacon.node_id),
            role: beacon.role,
            status: beacon.status,
            free_bytes: beacon.free,
        };
        self.insert(address, cell);
    }

    fn told(&mut self, view: &CellView) {
        if view.state != Presence::Active {
            return;
        }
        if let Some(address) = resolve(&view.url) {
            let cell = KnownCell {
                url: view.url.trim_end_matches('/').to_owned(),
                id: Some(view.node_id),
                role: view.role,
                status: view.status,
                free_bytes: view.free,
            };
            self.insert(address, cell);
        }
    }

    /// A URL and nothing else, as older servers tell of their peers.
    fn named(&mut self, url: &str) {
        if let Some(address) = resolve(url) {
            self.0.entry(address).or_insert_with(|| KnownCell::at(url));
        }
    }

    fn into_cells(self) -> Vec<KnownCell> {
        self.0.into_values().collect()
    }
}

fn resolve(url: &str) -> Option<SocketAddr> {
    let authority = url.strip_prefix("http://")?.split('/').next()?;
    let authority =
        if authority.rsplit(']').next()?.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    authority.to_socket_addrs().ok()?.next()
}

/// Asks the named cells for themselves and for those that they know.
fn ask(http: &Http, nodes: &[String]) -> Vec<KnownCell> {
    let mut found = Found::default();
    for url in nodes.iter().map(|url| url.trim_end_matches('/')) {
        let Some(address) = resolve(url) else { continue };
        match http.status(url) {
            Ok(status) => found.insert(
                address,
                KnownCell {
                    id: Some(status.beacon.node_id),
                    role: status.beacon.role,
                    status: status.beacon.status,
                    free_bytes: status.beacon.free,
                    ..KnownCell::at(url)
                },
            ),
            // An older server has no such path; it is a cell all the same, if it knows what a chunk is. A router's
            // web page, which has an answer to everything, is none.
            Err(error) if !error.is_unreachable() && !claims_anything(http, url) => {
                found.insert(address, KnownCell::at(url));
            }
            Err(_) => continue,
        }
        ask_for_peers(http, url, &mut found);
    }
    found.into_cells()
}

fn ask_for_peers(http: &Http, url: &str, found: &mut Found) {
    let Ok(peers) = http.peers(url) else { return };
    for cell in peers.cells.iter().take(MAX_CELLS) {
        found.told(cell);
    }
    // Those who tell of cells tell of all; their URLs would only name the same cells again, perhaps by other addresses.
    if peers.cells.is_empty() {
        for url in peers.peers.iter().take(MAX_CELLS) {
            found.named(url);
        }
    }
}

/// Does this server say that it has a chunk that cannot be?
fn claims_anything(http: &Http, url: &str) -> bool {
    let nobodys = ChunkId::of(&fastrand::u128(..).to_le_bytes());
    http.has_chunk(url, &nobodys).unwrap_or(true)
}

fn probe(http: &Http, scope: &ColonyScope, wanted: usize) -> io::Result<Vec<KnownCell>> {
    let mut found = Found::default();
    let probes = Probes::open(scope)?;
    let started = Instant::now();
    let mut again = PROBE_AGAIN_MS.iter().map(|&ms| Duration::from_millis(ms));
    let mut next_probe = Some(Duration::ZERO);
    let mut ears = None;
    let mut first_answer = None;
    let mut told = BTreeMap::new();
    while started.elapsed() < GIVE_UP {
        if first_answer.is_none() && next_probe.is_some_and(|at| started.elapsed() >= at) {
            probes.send(scope.udp_port);
            next_probe = again.next();
        }
        if found.0.is_empty() && ears.is_none() && started.elapsed() >= LISTEN_AFTER {
            // Without it there is still the probe.
            ears = udp::listener(scope.udp_port).and_then(nonblocking).ok();
        }
        let beacons: Vec<_> = probes.sockets.iter().chain(&ears).flat_map(receive_some).collect();
        let heard_any = !beacons.is_empty();
        for (from, beacon) in beacons {
            first_answer.get_or_insert_with(Instant::now);
            told.insert(beacon.node_id, beacon.cells.unwrap_or(0));
            found.heard(from, &beacon);
        }
        let numbers: Vec<u32> = told.values().copied().collect();
        if are_all(&numbers, found.0.len(), wanted) {
            return Ok(found.into_cells());
        }
        let wait_for_others = if ears.is_some() { BEACONS } else { OTHERS };
        if first_answer.is_some_and(|at| at.elapsed() >= wait_for_others) {
            break;
        }
        if !heard_any {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let urls: Vec<String> = found.0.values().map(|cell| cell.url.clone()).collect();
    for url in urls.iter().take(MAX_ASKED) {
        ask_for_peers(http, url, &mut found);
    }
    Ok(found.into_cells())
}

/// One socket for each network, on ephemeral ports: answers reach whoever asked, whatever else uses the colony's port.
struct Probes {
    sockets: Vec<UdpSocket>,
    targets: Vec<std::net::Ipv4Addr>,
}

impl Probes {
    fn open(scope: &ColonyScope) -> io::Result<Self> {
        let mut probes = Self { sockets: Vec::new(), targets: Vec::new() };
        let mut networks = udp::networks(scope.loopback, None)?;
        if !scope.loopback {
            // A cell on this very machine hears it too, even with the cable out.
            networks.extend(udp::networks(true, None)?);
        }
        for network in networks {
            // An interface that goes down just now is no reason to give up on the others.
            if let Ok(socket) = udp::sender(network.own).and_then(nonblocking) {
                probes.sockets.push(socket);
                probes.targets.push(network.broadcast);
            }
        }
        Ok(probes)
    }

    fn send(&self, port: u16) {
        for (socket, target) in self.sockets.iter().zip(&self.targets) {
            // Lost, like any datagram; the probe is repeated.
            drop(socket.send_to(&Datagram::Probe.encode(), (*target, port)));
        }
    }
}

fn nonblocking(socket: UdpSocket) -> io::Result<UdpSocket> {
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn receive_some(socket: &UdpSocket) -> Vec<(SocketAddr, Beacon)> {
    let mut beacons = Vec::new();
    let mut buffer = [0; MAX_DATAGRAM_BYTES + 1];
    for _ in 0..MAX_AT_ONCE {
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
    use crate::id::CellId;
    use crate::wire::beacon::Role;

    #[test]
    fn a_url_without_a_port_means_80_and_one_without_http_means_nothing() {
        assert_eq!(resolve("http://127.0.0.1:81/"), "127.0.0.1:81".parse().ok());
        assert_eq!(resolve("http://127.0.0.1"), "127.0.0.1:80".parse().ok());
        assert_eq!(resolve("http://[::1]:81"), "[::1]:81".parse().ok());
        assert_eq!(resolve("http://[::1]"), "[::1]:80".parse().ok());
        assert_eq!(resolve("127.0.0.1:81"), None);
        assert_eq!(resolve("http://"), None);
    }

    #[test]
    fn a_cell_that_is_reached_by_two_addresses_is_one_cell() {
        let mut found = Found::default();
        let cell = |url: &str| KnownCell { id: Some(CellId::from_bytes([1; 16])), ..KnownCell::at(url) };
        found.insert("127.0.0.1:1".parse().unwrap(), cell("http://127.0.0.1:1"));
        found.insert("127.0.0.2:1".parse().unwrap(), cell("http://127.0.0.2:1"));
        found.named("http://127.0.0.1:1/");
        let view = CellView {
            node_id: CellId::from_bytes([1; 16]),
            url: "http://127.0.0.3:1".into(),
            role: Role::Stem,
            status: Status::Active,
            state: Presence::Active,
            free: None,
            chunks: None,
            seen_ms: 0,
        };
        found.told(&view);
        assert_eq!(found.into_cells().len(), 1);
    }

    #[test]
    fn only_cells_that_agree_and_suffice_are_taken_to_be_all() {
        assert!(are_all(&[5; 5], 5, 5));
        assert!(are_all(&[8; 8], 8, 5));
        assert!(!are_all(&[1], 1, 5), "one that has just started and knows nobody");
        assert!(!are_all(&[1], 1, 0), "not even if few are wanted");
        assert!(!are_all(&[2, 2], 2, 5), "two that have just started");
        assert!(!are_all(&[5, 5, 5, 5, 6], 5, 5), "one knows of another");
        assert!(!are_all(&[5, 5, 5, 5, 4], 5, 5), "one has not heard all yet: who knows who else");
        assert!(!are_all(&[0; 5], 5, 5), "older cells do not tell");
        assert!(!are_all(&[5; 4], 5, 5), "not all found have answered");
    }
}
