//! One look at another cell, over HTTP: does it live, and what does it say of itself?

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use smol::lock::Semaphore;

use crate::cell::{Answer, Input};
use crate::net::client::{CallError, Http};
use crate::net::udp::own_address_towards;
use crate::node::mailbox::Mailbox;
use crate::wire::api::Peers;

pub(in crate::node) struct Visit {
    pub(in crate::node) door: String,
    pub(in crate::node) announce: bool,
    pub(in crate::node) own_door: SocketAddr,
    pub(in crate::node) http: Http,
}

impl Visit {
    pub(in crate::node) async fn perform(self, mailbox: Mailbox, places: Arc<Semaphore>) {
        let place = places.acquire().await;
        let (door, answer) = smol::unblock(move || {
            let answer = self.ask();
            (self.door, answer)
        })
        .await;
        drop(place);
        mailbox.send_async(Input::Visited { door, answer }).await;
    }

    fn ask(&self) -> Answer {
        let Some(address) = self.door.to_socket_addrs().ok().and_then(|mut all| all.next()) else {
            return Answer::Nobody;
        };
        let url = format!("http://{address}");
        let status = match self.http.status(&url) {
            Ok(status) => status,
            Err(error) => {
                log::debug!("visit: {error}");
                return if error.is_unreachable() { Answer::Nobody } else { Answer::Somebody };
            }
        };
        if self.announce {
            match self.announce_to(&url, address) {
                Ok(_) => {}
                Err(error) => log::debug!("joining: {error}"),
            }
        }
        Answer::Cell(address, status.beacon)
    }

    fn announce_to(&self, url: &str, address: SocketAddr) -> Result<Peers, CallError> {
        let own = self.own_door.ip();
        let own: IpAddr = if own.is_unspecified() { own_address_towards(address).unwrap_or(own) } else { own };
        self.http.join(url, &format!("http://{}", SocketAddr::new(own, self.own_door.port())))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::net::client::Timeouts;

    fn visit(door: SocketAddr) -> Answer {
        let http = Http::new(Timeouts::PROBE, 0, 0);
        Visit { door: door.to_string(), announce: false, own_door: door, http }.ask()
    }

    #[test]
    fn a_visit_tells_an_answer_that_is_no_status_from_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let door = listener.local_addr().unwrap();
        for answer in ["503 Service Unavailable", "404 Not Found", "200 OK"] {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let (mut line, _) = listener.accept().unwrap();
                    assert!(line.read(&mut [0; 4096]).unwrap() > 0);
                    write!(line, "HTTP/1.1 {answer}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}").unwrap();
                });
                assert_eq!(visit(door), Answer::Somebody, "{answer}");
            });
        }
        drop(listener);
        assert_eq!(visit(door), Answer::Nobody);
    }
}
