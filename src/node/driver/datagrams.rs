//! Receiving datagrams: each valid one becomes an input of the core.

// Reads the clock: it pauses after an error.
#![allow(clippy::disallowed_methods)]

use std::time::Duration;

use async_net::UdpSocket;
use futures_lite::future;
use smol::Timer;

use crate::cell::{CopyInput, Input, MemberInput};
use crate::node::mailbox::Mailbox;
use crate::wire::datagram::{Datagram, MAX_DATAGRAM_BYTES};

/// Pause after a failed receive, so that a lasting error does not become a busy loop.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Receives datagrams without end. Invalid ones are ignored.
pub(super) async fn receive(socket: UdpSocket, mailbox: Mailbox) {
    // One byte more than allowed, to recognize datagrams that are too long.
    let mut buffer = [0; MAX_DATAGRAM_BYTES + 1];
    loop {
        let (len, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // For example an ICMP error for an earlier datagram.
                log::debug!("cannot receive a datagram: {error}");
                Timer::after(ERROR_PAUSE).await;
                continue;
            }
        };
        // While datagrams are queued, `recv_from` does not yield. In a flood no other task would run.
        future::yield_now().await;
        let input = match Datagram::parse(buffer.get(..len).unwrap_or_default()) {
            Ok(Datagram::Beacon(beacon)) => Input::Member(MemberInput::Beacon { from: from.ip(), beacon }),
            Ok(Datagram::Probe) => Input::Member(MemberInput::ProbeRequest { from }),
            Ok(Datagram::Alert(alert)) => Input::Copy(CopyInput::Alert(alert)),
            Err(error) => {
                log::debug!("ignoring a datagram from {from}: {error}");
                continue;
            }
        };
        mailbox.send_datagram(input);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Under a flood of datagrams only this loop ran, and the cell sent no beacons.
    #[test]
    fn receiving_yields_after_each_datagram() {
        let socket = smol::Async::<std::net::UdpSocket>::bind(([127, 0, 0, 1], 0)).unwrap();
        let to = socket.get_ref().local_addr().unwrap();
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..50 {
            sender.send_to(&Datagram::Probe.encode(), to).unwrap();
        }
        let (mailbox, messages) = Mailbox::new(false);
        let mut receiving = std::pin::pin!(receive(socket.into(), mailbox));
        smol::block_on(async {
            for received in 0..3 {
                assert!(future::poll_once(&mut receiving).await.is_none());
                assert_eq!(messages.len(), received);
            }
        });
    }
}
