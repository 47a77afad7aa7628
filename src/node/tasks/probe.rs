//! A probe of another cell over HTTP: is it alive, and what is its status?

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::cell::ProbeOutcome;
use crate::net::client::{CallError, Http};
use crate::net::udp::own_address_towards;
use crate::wire::peers::Peers;

pub(super) struct Probe {
    pub(super) address: String,
    pub(super) announce: bool,
    pub(super) own_address: SocketAddr,
    pub(super) http: Http,
}

impl Probe {
    /// Blocks. Gives the address back with the outcome.
    pub(super) fn perform(self) -> (String, ProbeOutcome) {
        let outcome = self.outcome();
        (self.address, outcome)
    }

    fn outcome(&self) -> ProbeOutcome {
        let Some(address) = self.address.to_socket_addrs().ok().and_then(|mut all| all.next()) else {
            return ProbeOutcome::Unreachable;
        };
        let url = format!("http://{address}");
        let status = match self.http.status(&url) {
            Ok(status) => status,
            Err(error) => {
                log::debug!("cannot probe {address}: {error}");
                return if error.is_unreachable() { ProbeOutcome::Unreachable } else { ProbeOutcome::Responding };
            }
        };
        if self.announce
            && let Err(error) = self.announce_to(&url, address)
        {
            log::debug!("cannot join {address}: {error}");
        }
        ProbeOutcome::Cell(address, status.beacon)
    }

    fn announce_to(&self, url: &str, address: SocketAddr) -> Result<Peers, CallError> {
        let own = self.own_address.ip();
        let own: IpAddr = if own.is_unspecified() { own_address_towards(address).unwrap_or(own) } else { own };
        self.http.join(url, &format!("http://{}", SocketAddr::new(own, self.own_address.port())))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::net::client::Timeouts;

    fn probe(address: SocketAddr) -> ProbeOutcome {
        let http = Http::new(Timeouts::PROBE, 0, 0);
        Probe { address: address.to_string(), announce: false, own_address: address, http }.perform().1
    }

    #[test]
    fn a_response_without_status_is_not_unreachable() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for answer in ["503 Service Unavailable", "404 Not Found", "200 OK"] {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let (mut line, _) = listener.accept().unwrap();
                    assert!(line.read(&mut [0; 4096]).unwrap() > 0);
                    write!(line, "HTTP/1.1 {answer}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}").unwrap();
                });
                assert_eq!(probe(address), ProbeOutcome::Responding, "{answer}");
            });
        }
        drop(listener);
        assert_eq!(probe(address), ProbeOutcome::Unreachable);
    }
}
