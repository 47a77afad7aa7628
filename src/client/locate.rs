//! Finding the colony.
//!
//! A probe by broadcast is answered by every cell within milliseconds, and each answer says how many cells its sender knows:
//! when so many have answered, all are found. If some do not, one cell's `GET /peers` names them. If nobody answers, the
//! colony may be of older cells that only beacon: then beacons are listened for.

// A shell: it waits for datagrams.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};

use crate::net::client::Http;
use crate::net::discovery;
use crate::wire::CellId;
use crate::wire::api::{CellView, Presence};
use crate::wire::beacon::{Beacon, Datagram, MAX_DATAGRAM_BYTES, Role, Status};

/// A probe that brought nothing is repeated after these times from the first, in milliseconds: datagrams get lost.
const PROBE_AGAIN_MS: [u64; 3] = [100, 300, 1000];
/// After the first answer, the others get this long before a cell is asked for the rest.
const OTHERS: Duration = Duration::from_millis(60);
/// When nobody has answered a probe for so long, plain beacons are listened for too. Not earlier: the socket for that
/// would take the unicasts of a cell on the same machine.
const LISTEN_AFTER: Duration = Duration::from_millis(400);
/// After this there is no colony. Older cells beacon each second, and three beacons are not lost together.
const GIVE_UP: Duration = Duration::from_millis(3400);
/// Beacons of older cells come within a second of each other.
const BEACONS: Duration = Duration::from_millis(1200);

/// Where to look for cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Doors of cells to start from, as `http://HOST:PORT`. When there are any, nothing is broadcast.
    pub nodes: Vec<String>,
    /// UDP port of the colony.
    pub udp_port: u16,
    /// Look on the loopback interface only.
    pub loopback: bool,
}

/// A cell that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownCell {
    /// Its door, as `http://HOST:PORT`.
    pub url: String,
    /// Its name; older servers do not tell.
    pub id: Option<CellId>,
    /// What it does.
    pub role: Role,
    /// Whether it takes chunks.
    pub status: Status,
    /// Bytes it may still take, if it told.
    pub free_bytes: Option<u64>,
}

impl KnownCell {
    /// How the cell is called in messages.
    pub fn name(&self) -> String {
        self.id.map_or_else(|| self.url.clone(), |id| format!("{} ({})", id.short(), self.url))
    }
}

/// Finds the active cells: at least one, or none at all if nobody answers. Each is named once.
pub fn locate(http: &Http, place: &Place) -> io::Result<Vec<KnownCell>> {
    let mut found = if place.nodes.is_empty() { probe(http, place)? } else { ask(http, &place.nodes) };
    found.sort_by(|a, b| a.url.cmp(&b.url));
    found.retain(|cell| cell.status != Status::Leaving);
    Ok(found)
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

    fn named(&mut self, url: &str) {
        if let Some(address) = resolve(url) {
            self.0.entry(address).or_insert_with(|| stranger(url));
        }
    }

    fn into_cells(self) -> Vec<KnownCell> {
        self.0.into_values().collect()
    }
}

fn stranger(url: &str) -> KnownCell {
    let url = url.trim_end_matches('/').to_owned();
    KnownCell { url, id: None, role: Role::Stem, status: Status::Active, free_bytes: None }
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
                    ..stranger(url)
                },
            ),
            // An older server has no such path; it is a cell all the same.
            Err(error) if !error.is_unreachable() => found.insert(address, stranger(url)),
            Err(_) => continue,
        }
        ask_for_peers(http, url, &mut found);
    }
    found.into_cells()
}

fn ask_for_peers(http: &Http, url: &str, found: &mut Found) -> bool {
    let Ok(peers) = http.peers(url) else { return false };
    for cell in &peers.cells {
        found.told(cell);
    }
    for url in &peers.peers {
        found.named(url);
    }
    true
}

fn probe(http: &Http, place: &Place) -> io::Result<Vec<KnownCell>> {
    let mut found = Found::default();
    let probes = Probes::open(place)?;
    let started = Instant::now();
    let mut again = PROBE_AGAIN_MS.iter().map(|&ms| Duration::from_millis(ms));
    let mut next_probe = Some(Duration::ZERO);
    let mut ears = None;
    let mut first_answer = None;
    let mut expected = 0;
    while started.elapsed() < GIVE_UP {
        if first_answer.is_none() && next_probe.is_some_and(|at| started.elapsed() >= at) {
            probes.send(place.udp_port);
            next_probe = again.next();
        }
        if found.0.is_empty() && ears.is_none() && started.elapsed() >= LISTEN_AFTER {
            // Without it there is still the probe.
            ears = discovery::listener(place.udp_port).and_then(nonblocking).ok();
        }
        let sockets = probes.sockets.iter().chain(&ears);
        let mut heard_any = false;
        for beacon in sockets.flat_map(receive_all) {
            heard_any = true;
            let (from, beacon) = beacon;
            first_answer.get_or_insert_with(Instant::now);
            expected = expected.max(beacon.cells.unwrap_or(0) as usize);
            found.heard(from, &beacon);
        }
        if expected > 0 && found.0.len() >= expected {
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
    // One that answers is enough.
    let _ = urls.iter().take(3).any(|url| ask_for_peers(http, url, &mut found));
    Ok(found.into_cells())
}

/// One socket for each network, on ephemeral ports: answers reach whoever asked, whatever else uses the colony's port.
struct Probes {
    sockets: Vec<UdpSocket>,
    targets: Vec<std::net::Ipv4Addr>,
}

impl Probes {
    fn open(place: &Place) -> io::Result<Self> {
        let mut probes = Self { sockets: Vec::new(), targets: Vec::new() };
        let mut networks = discovery::networks(place.loopback, None)?;
        if !place.loopback {
            // A cell on this very machine hears it too, even with the cable out.
            networks.extend(discovery::networks(true, None)?);
        }
        for network in networks {
            // An interface that goes down just now is no reason to give up on the others.
            if let Ok(socket) = discovery::sender(network.own).and_then(nonblocking) {
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

fn receive_all(socket: &UdpSocket) -> Vec<(SocketAddr, Beacon)> {
    let mut beacons = Vec::new();
    let mut buffer = [0; MAX_DATAGRAM_BYTES + 1];
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
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
        let cell = |url: &str| KnownCell { id: Some(CellId::from_bytes([1; 16])), ..stranger(url) };
        found.insert("127.0.0.1:1".parse().unwrap(), cell("http://127.0.0.1:1"));
        found.insert("127.0.0.2:1".parse().unwrap(), cell("http://127.0.0.2:1"));
        found.named("http://127.0.0.1:1/");
        assert_eq!(found.into_cells().len(), 1);
    }
}
