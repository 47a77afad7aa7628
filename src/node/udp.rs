//! The cell's UDP sockets: one that receives, and one for each network that beacons are broadcast to.

// Reads the clock: the interfaces are listed at intervals.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::net::udp;
use crate::net::udp::Network;

/// Interval at which the interfaces are listed again: cables are plugged in, Wi-Fi comes and goes.
const LIST_INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct BeaconSockets {
    port: u16,
    loopback: bool,
    /// The only interface to use, by its address.
    only: Option<Ipv4Addr>,
    receiver: UdpSocket,
    senders: BTreeMap<Network, UdpSocket>,
    listed_at: Option<Instant>,
    /// Whether no network was found when they were last listed.
    is_cut_off: bool,
}

impl BeaconSockets {
    /// Opens the colony's UDP port. If `listen` is the address of an interface, only that interface is used.
    pub(super) fn open(port: u16, loopback: bool, listen: IpAddr) -> io::Result<Self> {
        let only = match listen {
            IpAddr::V4(address) if !address.is_unspecified() => Some(address),
            _ => None,
        };
        let receiver = udp::listener(port)?;
        receiver.set_nonblocking(true)?;
        Ok(Self { port, loopback, only, receiver, senders: BTreeMap::new(), listed_at: None, is_cut_off: false })
    }

    /// The receiving socket, for the task that reads from it.
    pub(super) fn receiver(&self) -> io::Result<async_net::UdpSocket> {
        Ok(smol::Async::new(self.receiver.try_clone()?)?.into())
    }

    /// Sends to every network. A datagram that cannot be sent is lost, like any other.
    pub(super) fn broadcast(&mut self, bytes: &[u8]) {
        self.list_networks();
        for (network, sender) in &self.senders {
            if let Err(error) = sender.send_to(bytes, (network.broadcast, self.port)) {
                log::debug!("cannot broadcast from {}: {error}", network.own);
                // The interface may have another address by now.
                self.listed_at = None;
            }
        }
    }

    /// Sends to one cell, on the colony's port.
    pub(super) fn send_to_cell(&self, to: IpAddr, bytes: &[u8]) {
        self.send_to(SocketAddr::new(to, self.port), bytes);
    }

    /// Sends to one address and port.
    pub(super) fn send_to(&self, to: SocketAddr, bytes: &[u8]) {
        // If only one interface is used, its socket sends: the reply must come from the address that serves HTTP.
        let own = self.only.and_then(|only| self.senders.iter().find(|(network, _)| network.own == only));
        let sender = own.map_or(&self.receiver, |(_, sender)| sender);
        if let Err(error) = sender.send_to(bytes, to) {
            log::debug!("cannot send a datagram to {to}: {error}");
        }
    }

    fn list_networks(&mut self) {
        if self.listed_at.is_some_and(|then| then.elapsed() < LIST_INTERVAL) {
            return;
        }
        self.listed_at = Some(Instant::now());
        let networks = match udp::networks(self.loopback, self.only) {
            Ok(networks) => networks,
            Err(error) => return log::warn!("cannot list the network interfaces: {error}"),
        };
        if self.is_newly_cut_off(&networks) {
            log::warn!("no network supports broadcast: only the peers in node.toml are found");
        }
        self.senders.retain(|network, _| networks.contains(network));
        for network in networks {
            if self.senders.contains_key(&network) {
                continue;
            }
            match udp::sender(network.own).and_then(|socket| socket.set_nonblocking(true).map(|()| socket)) {
                Ok(sender) => {
                    log::info!("sending beacons to {} from {}", network.broadcast, network.own);
                    self.senders.insert(network, sender);
                }
                Err(error) => log::warn!("cannot send beacons from {}: {error}", network.own),
            }
        }
    }

    /// True the first time that no network is found, until one is found again.
    fn is_newly_cut_off(&mut self, networks: &[Network]) -> bool {
        let before = std::mem::replace(&mut self.is_cut_off, networks.is_empty());
        self.is_cut_off && !before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losing_all_networks_is_reported_once_each_time() {
        let mut sockets = BeaconSockets::open(0, true, Ipv4Addr::LOCALHOST.into()).unwrap();
        let network = Network { own: Ipv4Addr::LOCALHOST, broadcast: udp::LOOPBACK_BROADCAST };
        let reported = [&[][..], &[], &[network], &[], &[]].map(|networks| sockets.is_newly_cut_off(networks));
        assert_eq!(reported, [true, false, false, true, false]);
    }
}
