//! UDP: where beacons go, and the sockets for them. Used by cells and by clients.
//!
//! A broadcast to 255.255.255.255 leaves through one interface only, so each interface's own broadcast address is used.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Reaches every listener on the loopback interface.
pub const LOOPBACK_BROADCAST: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 255);

/// Interfaces beyond this many are not used.
const MAX_INTERFACES: usize = 32;

/// A network that can be reached by broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    /// Our own address on it.
    pub own: Ipv4Addr,
    /// Its broadcast address.
    pub broadcast: Ipv4Addr,
}

/// Lists the networks to which beacons and probes go.
///
/// With `loopback` it is the loopback interface and nothing else. Otherwise: every interface that is up, has an IPv4
/// address and a broadcast address, and is not loopback. `only` restricts the list to the interface with that
/// address.
pub fn networks(loopback: bool, only: Option<Ipv4Addr>) -> io::Result<Vec<Network>> {
    if loopback {
        return Ok(vec![Network { own: only.unwrap_or(Ipv4Addr::LOCALHOST), broadcast: LOOPBACK_BROADCAST }]);
    }
    let mut networks: Vec<Network> = if_addrs::get_if_addrs()?
        .into_iter()
        .filter(|interface| interface.is_oper_up() && !interface.is_loopback())
        .filter_map(|interface| match interface.addr {
            if_addrs::IfAddr::V4(v4) => Some(Network { own: v4.ip, broadcast: v4.broadcast? }),
            if_addrs::IfAddr::V6(_) => None,
        })
        .filter(|network| only.is_none_or(|only| only == network.own))
        .collect();
    networks.sort_unstable();
    networks.dedup();
    networks.truncate(MAX_INTERFACES);
    Ok(networks)
}

/// A socket that hears what is broadcast to this port.
///
/// `SO_REUSEADDR` lets several cells and clients of one machine, also under different users, share the port: each
/// hears every broadcast. (A unicast to a shared port reaches only the one that bound it last.)
pub fn listener(port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    Ok(socket.into())
}

/// A socket that sends from this address, and hears the answers to what it sent.
pub fn sender(own: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddrV4::new(own, 0))?;
    socket.set_broadcast(true)?;
    Ok(socket)
}

/// The address by which a cell at `door` can reach this machine. Sends nothing: the system only looks up the route.
pub fn own_address_towards(door: SocketAddr) -> io::Result<IpAddr> {
    let any: SocketAddr =
        if door.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (std::net::Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(door)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_loopback_nothing_else_is_ever_named() {
        let found = networks(true, None).unwrap();
        assert_eq!(found, [Network { own: Ipv4Addr::LOCALHOST, broadcast: LOOPBACK_BROADCAST }]);
    }

    #[test]
    fn two_listeners_share_a_port_and_both_hear_a_broadcast() {
        let first = listener(0).unwrap();
        let port = first.local_addr().unwrap().port();
        let second = listener(port).unwrap();
        let sender = sender(Ipv4Addr::new(127, 0, 0, 5)).unwrap();
        sender.send_to(b"hello", (LOOPBACK_BROADCAST, port)).unwrap();
        for socket in [first, second] {
            socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
            let mut buffer = [0; 16];
            let (len, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..len], from.ip()), (&b"hello"[..], IpAddr::from([127, 0, 0, 5])));
        }
    }

    #[test]
    fn our_own_address_towards_loopback_is_loopback() {
        assert_eq!(own_address_towards("127.0.0.1:9".parse().unwrap()).unwrap(), Ipv4Addr::LOCALHOST);
    }
}
