//! A probe of another cell over HTTP: whether it is alive, and its status.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::cell::ProbeOutcome;
use crate::net::client::{CallError, Http};
use crate::net::udp::own_address_towards;
use crate::wire::peers::Peers;

pub(super) struct Probe {
    /// The address, as `HOST:PORT`.
    pub(super) address: String,
    /// Ask that cell to add this one to its static peers?
    pub(super) announce: bool,
    /// Where other cells reach this one.
    pub(super) own_address: SocketAddr,
    pub(super) http: Http,
}

impl Probe {
    /// Blocks.
    pub(super) fn perform(&self) -> ProbeOutcome {
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

    /// If this cell listens on all addresses, it announces the one from which it reaches the other cell.
    fn announce_to(&self, url: &str, address: SocketAddr) -> Result<Peers, CallError> {
        let own = self.own_address.ip();
        let own: IpAddr = if own.is_unspecified() { own_address_towards(address).unwrap_or(own) } else { own };
        self.http.join(url, &format!("http://{}", SocketAddr::new(own, self.own_address.port())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::client::Timeouts;
    use crate::net::test_server::{TestServer, response, unreachable_address};

    fn probe(address: SocketAddr) -> ProbeOutcome {
        let http = Http::new(Timeouts::PROBE, 0, 0);
        Probe { address: address.to_string(), announce: false, own_address: address, http }.perform()
    }

    #[test]
    fn a_response_without_status_is_not_unreachable() {
        for status in [503, 404, 200] {
            let server = TestServer::always(response(status, b"{}"));
            assert_eq!(probe(server.address), ProbeOutcome::Responding, "{status}");
        }
        assert_eq!(probe(unreachable_address()), ProbeOutcome::Unreachable);
    }
}
