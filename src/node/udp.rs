//! The cell's UDP sockets: one that hears, and one for each network that beacons go out on.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::net::udp;
use crate::net::udp::Network;

/// How often the interfaces are listed again: cables are plugged, Wi-Fi comes and goes.
const LIST_EVERY: Duration = Duration::from_secs(10);

pub(super) struct Radio {
    port: u16,
    loopback: bool,
    only: Option<Ipv4Addr>,
    hears: UdpSocket,
    senders: BTreeMap<Network, UdpSocket>,
    listed: Option<Instant>,
    /// Were there no networks when they were last listed?
    cut_off: bool,
}

impl Radio {
    /// Opens the colony's UDP port. `listen` restricts it to one interface, if it is the address of one.
    pub(super) fn open(port: u16, loopback: bool, listen: IpAddr) -> io::Result<Self> {
        let only = match listen {
            IpAddr::V4(address) if !address.is_unspecified() => Some(address),
            _ => None,
        };
        let hears = udp::listener(port)?;
        hears.set_nonblocking(true)?;
        Ok(Self { port, loopback, only, hears, senders: BTreeMap::new(), listed: None, cut_off: false })
    }

    /// The socket that hears, for the task that listens to it.
    pub(super) fn ears(&self) -> io::Result<async_net::UdpSocket> {
        Ok(smol::Async::new(self.hears.try_clone()?)?.into())
    }

    /// Sends to every network. A datagram that cannot be sent is lost, like any other.
    pub(super) fn broadcast(&mut self, bytes: &[u8]) {
        self.list();
        for (network, sender) in &self.senders {
            if let Err(error) = sender.send_to(bytes, (network.broadcast, self.port)) {
                log::debug!("no beacon through {}: {error}", network.own);
                // The interface may have another address by now.
                self.listed = None;
            }
        }
    }

    /// Sends to one cell, on the colony's port.
    pub(super) fn send(&self, to: IpAddr, bytes: &[u8]) {
        self.answer(SocketAddr::new(to, self.port), bytes);
    }

    /// Sends to one address and port.
    pub(super) fn answer(&self, to: SocketAddr, bytes: &[u8]) {
        // With one interface, its own socket: the answer must come from the address where the door is.
        let own = self.only.and_then(|only| self.senders.iter().find(|(network, _)| network.own == only));
        let sender = own.map_or(&self.hears, |(_, sender)| sender);
        if let Err(error) = sender.send_to(bytes, to) {
            log::debug!("nothing sent to {to}: {error}");
        }
    }

    fn list(&mut self) {
        if self.listed.is_some_and(|then| then.elapsed() < LIST_EVERY) {
            return;
        }
        self.listed = Some(Instant::now());
        let networks = match udp::networks(self.loopback, self.only) {
            Ok(networks) => networks,
            Err(error) => return log::warn!("cannot list the network interfaces: {error}"),
        };
        if self.newly_cut_off(&networks) {
            log::warn!("no network with broadcast is found: cells find each other only by peers in node.toml");
        }
        self.senders.retain(|network, _| networks.contains(network));
        for network in networks {
            if self.senders.contains_key(&network) {
                continue;
            }
            match udp::sender(network.own).and_then(|socket| socket.set_nonblocking(true).map(|()| socket)) {
                Ok(sender) => {
                    log::info!("beacons go to {} through {}", network.broadcast, network.own);
                    self.senders.insert(network, sender);
                }
                Err(error) => log::warn!("no beacons through {}: {error}", network.own),
            }
        }
    }

    /// Told once, until there is a network again.
    fn newly_cut_off(&mut self, networks: &[Network]) -> bool {
        let before = std::mem::replace(&mut self.cut_off, networks.is_empty());
        self.cut_off && !before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_without_a_network_says_so_once_each_time() {
        let mut radio = Radio::open(0, true, Ipv4Addr::LOCALHOST.into()).unwrap();
        let network = Network { own: Ipv4Addr::LOCALHOST, broadcast: udp::LOOPBACK_BROADCAST };
        let told = [&[][..], &[], &[network], &[], &[]].map(|networks| radio.newly_cut_off(networks));
        assert_eq!(told, [true, false, false, true, false]);
    }
}
