//! UDP for beacons and probes: the networks they are broadcast to, and the sockets. Used by cells and clients.
//!
//! The system sends a broadcast to 255.255.255.255 through one interface only. To reach all networks, each interface's
//! own broadcast address is used.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// The broadcast address of the loopback interface.
pub const LOOPBACK_BROADCAST: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 255);

/// Largest number of networks that are used; the others are ignored.
const MAX_INTERFACES: usize = 32;

/// A network that can be reached by broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    /// This machine's address on it.
    pub own: Ipv4Addr,
    /// Its broadcast address.
    pub broadcast: Ipv4Addr,
}

/// Lists the networks that beacons and probes are broadcast to.
///
/// With `loopback`, that is the loopback interface alone. Without it, those are all other interfaces that are up and
/// have an IPv4 address and a broadcast address. `only` restricts the list to the interface with that address.
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

/// Opens a socket that receives broadcasts to this port.
///
/// `SO_REUSEADDR` lets several cells and clients on one machine, also of different users, share the port: each receives
/// every broadcast. (A unicast to a shared port reaches only the socket that was bound last.)
pub fn listener(port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    Ok(socket.into())
}

/// Opens a socket that sends from this address and receives the replies.
pub fn sender(own: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddrV4::new(own, 0))?;
    socket.set_broadcast(true)?;
    Ok(socket)
}

/// The address by which a cell at `remote` can reach this machine. Sends nothing: the system only looks up the route.
pub fn own_address_towards(remote: SocketAddr) -> io::Result<IpAddr> {
    let any: SocketAddr =
        if remote.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (std::net::Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(remote)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_excludes_all_other_networks() {
        let found = networks(true, None).unwrap();
        assert_eq!(found, [Network { own: Ipv4Addr::LOCALHOST, broadcast: LOOPBACK_BROADCAST }]);
    }

    #[test]
    fn two_listeners_on_one_port_both_receive_a_broadcast() {
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
    fn the_own_address_towards_loopback_is_loopback() {
        assert_eq!(own_address_towards("127.0.0.1:9".parse().unwrap()).unwrap(), Ipv4Addr::LOCALHOST);
    }
}
