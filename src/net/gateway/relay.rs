//! One exchange: the request goes to the backend over an upstream connection, and the response comes back.
//!
//! Both directions run at the same time, since a response can begin before the body is complete (mostly a refusal). The
//! client must keep the minimum rate in both, and the backend must respond in time.
//!
//! Bytes are copied through a buffer. To move them with splice(2) through a pipe took the same processor time (4 GiB
//! from a Unix socket to a TCP socket in pieces of 64 KiB, on loopback, Linux 6.18: 1.4 to 1.7 s copied, 1.3 to 1.6 s
//! spliced, and a little more for the receiver), and would need two more descriptors for each connection.

use std::cell::Cell;
use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{Async, future};

use crate::net::backend::CONNECTION_FIELD;
use crate::net::backend::upstream::UpstreamConnection;
use crate::net::gateway::admission::Stage;
use crate::net::gateway::buffer::Buffer;
use crate::net::gateway::head::request::{Persistence, RequestHead};
use crate::net::gateway::head::response;
use crate::net::gateway::head::response::{InvalidResponse, ResponseHead};
use crate::net::gateway::shared::SlotGuard;
use crate::net::gateway::timeout::with_timeout;
use crate::net::min_rate::MinRate;
use crate::wire::problem::Problem;

/// How an exchange ended.
pub(super) enum Outcome {
    /// Completely; the connection may carry another request.
    KeepAlive,
    /// Completely; it was the last exchange of its connection.
    Close,
    /// The client has disconnected or is too slow, or the response was cut off. The connection can only be closed.
    Aborted,
    /// Before a response had begun; the client gets this problem.
    Refused {
        /// What to answer.
        problem: Problem,
        /// Whether the method is `HEAD`.
        is_head: bool,
    },
}

/// Why an exchange did not complete.
enum RelayError {
    ClientDisconnected,
    /// The client is below the minimum rate.
    ClientTooSlow,
    Backend(BackendError),
}

/// Why the backend's response is missing or incomplete.
#[derive(Debug, thiserror::Error)]
enum BackendError {
    #[error("no progress for {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error("it closed the connection early")]
    Closed,
    #[error("connection failed: {0}")]
    Io(io::Error),
    #[error("the head is longer than the buffer")]
    HeadTooLong,
    #[error(transparent)]
    Head(InvalidResponse),
}

impl From<BackendError> for RelayError {
    fn from(error: BackendError) -> Self {
        Self::Backend(error)
    }
}

/// One exchange of one connection.
struct Relay<'a> {
    client: &'a Async<TcpStream>,
    upstream: &'a UpstreamConnection,
    guard: &'a SlotGuard,
    /// Bytes of the request body that have not been taken from the inbound buffer yet.
    body_left: Cell<u64>,
}

/// Relays a request whose head was checked, and its response. `inbound` may hold the beginning of the body, and bytes
/// after it, which stay there.
pub(super) async fn exchange(
    client: &Async<TcpStream>,
    guard: &SlotGuard,
    inbound: &mut Buffer,
    request: RequestHead,
) -> Outcome {
    let is_head = request.is_head;
    let refused = |status, detail: &'static str| Outcome::Refused { problem: Problem::new(status, detail), is_head };
    let timeout = Duration::from_millis(guard.shared.limits.response_timeout_ms);
    let upstream = match with_timeout(timeout, guard.shared.upstream.acquire()).await {
        Some(Ok(upstream)) => upstream,
        Some(Err(error)) if is_out_of_descriptors(&error) => {
            return refused(503, "this cell has no free file descriptor; retry later");
        }
        Some(Err(error)) => {
            log::error!("cannot connect to the backend: {error}");
            return refused(502, "internal error: the cell's HTTP backend is unavailable");
        }
        None => return refused(504, "the cell's HTTP backend accepts no connection; retry later"),
    };
    let relay = Relay { client, upstream: &upstream, guard, body_left: Cell::new(request.body_bytes) };
    let mut outbound = guard.shared.buffers.take();
    let (response, early) = match relay.send_request(&request, inbound, &mut outbound).await {
        Ok(response) => (response, relay.body_left.get() > 0),
        Err(RelayError::ClientDisconnected) => return Outcome::Aborted,
        Err(RelayError::ClientTooSlow) => return too_slow(guard),
        Err(RelayError::Backend(BackendError::Timeout(_))) => {
            return refused(504, "the cell did not respond in time; retry later");
        }
        Err(RelayError::Backend(error)) => {
            log::error!("no response from the backend: {error}");
            return refused(502, "internal error: the cell's HTTP backend sent no response");
        }
    };
    let persistence = response.persistence;
    guard.touch(if early { Stage::Body } else { Stage::Response });
    if let Err(error) = relay.forward_response(response, &mut outbound).await {
        return aborted(guard, &error);
    }
    if early {
        // The next request begins after the rest of this body.
        drop(outbound);
        if let Err(error) = relay.discard_body(inbound).await {
            return aborted(guard, &error);
        }
    } else if outbound.is_empty() {
        guard.shared.upstream.release(upstream);
    }
    if persistence == Persistence::Close { Outcome::Close } else { Outcome::KeepAlive }
}

/// Whether the process or the system has no free descriptor, in contrast to a backend that is gone.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| {
        let errno = rustix::io::Errno::from_raw_os_error(code);
        errno == rustix::io::Errno::MFILE || errno == rustix::io::Errno::NFILE
    })
}

fn too_slow(guard: &SlotGuard) -> Outcome {
    guard.shared.stats.too_slow.add();
    Outcome::Aborted
}

/// Ends an exchange after its response had begun.
fn aborted(guard: &SlotGuard, error: &RelayError) -> Outcome {
    match error {
        RelayError::ClientTooSlow => return too_slow(guard),
        RelayError::Backend(error) => log::warn!("response cut off: {error}"),
        RelayError::ClientDisconnected => {}
    }
    Outcome::Aborted
}

impl Relay<'_> {
    /// Sends the request upstream, and reads the head of the response.
    async fn send_request(
        &self,
        request: &RequestHead,
        inbound: &mut Buffer,
        outbound: &mut Buffer,
    ) -> Result<ResponseHead, RelayError> {
        let mut head = request.upstream_head.clone();
        head.extend_from_slice(format!("{CONNECTION_FIELD}: {}\r\n\r\n", self.upstream.id).as_bytes());
        let mut receiving = std::pin::pin!(self.receive_head(request, outbound));
        let sending = async {
            self.write_upstream(&head).await?;
            if request.expects_continue && inbound.is_empty() {
                self.write_client(b"HTTP/1.1 100 Continue\r\n\r\n", &mut self.min_rate()).await?;
            }
            self.send_body(inbound).await
        };
        let first = future::or(async { Err(sending.await) }, async { Ok((&mut receiving).await) }).await;
        match first {
            Ok(early) => early,
            // The request is sent, or the backend stopped reading it. In both cases a response must follow.
            Err(Ok(()) | Err(RelayError::Backend(BackendError::Io(_)))) => {
                if self.body_left.get() == 0 {
                    self.guard.touch(Stage::Response);
                }
                let timeout = self.response_timeout();
                with_timeout(timeout, receiving).await.unwrap_or(Err(BackendError::Timeout(timeout).into()))
            }
            Err(Err(error)) => Err(error),
        }
    }

    /// Sends the request body upstream.
    async fn send_body(&self, inbound: &mut Buffer) -> Result<(), RelayError> {
        let mut rate = self.min_rate();
        while self.body_left.get() > 0 {
            let part = self.buffered_body(inbound);
            if part.is_empty() {
                self.read_client(inbound, &mut rate).await?;
            } else {
                let count = part.len();
                self.write_upstream(part).await?;
                self.consume_body(inbound, count);
            }
        }
        Ok(())
    }

    /// Reads the rest of the request body and discards it.
    async fn discard_body(&self, inbound: &mut Buffer) -> Result<(), RelayError> {
        let mut rate = self.min_rate();
        while self.body_left.get() > 0 {
            let count = self.buffered_body(inbound).len();
            self.consume_body(inbound, count);
            if self.body_left.get() > 0 {
                self.read_client(inbound, &mut rate).await?;
            }
        }
        Ok(())
    }

    /// The part of the buffer that belongs to this request's body.
    fn buffered_body<'b>(&self, inbound: &'b Buffer) -> &'b [u8] {
        let filled = inbound.filled();
        filled.get(..up_to(self.body_left.get(), filled.len())).unwrap_or_default()
    }

    fn consume_body(&self, inbound: &mut Buffer, count: usize) {
        inbound.consume(count);
        self.body_left.set(self.body_left.get().saturating_sub(count as u64));
    }

    /// Reads the head of the response into the buffer. Bytes of the body that arrive with it stay there.
    async fn receive_head(&self, request: &RequestHead, outbound: &mut Buffer) -> Result<ResponseHead, RelayError> {
        loop {
            self.read_upstream(outbound).await?;
            let persistence = if self.guard.shared.stopping.get() { Persistence::Close } else { request.persistence };
            match response::parse(outbound.filled(), request.is_head, persistence).map_err(BackendError::Head)? {
                Some(response) => {
                    outbound.consume(response.head_bytes);
                    return Ok(response);
                }
                None if outbound.spare().is_empty() => return Err(BackendError::HeadTooLong.into()),
                None => {}
            }
        }
    }

    /// Sends the response to the client.
    async fn forward_response(&self, response: ResponseHead, outbound: &mut Buffer) -> Result<(), RelayError> {
        let mut rate = self.min_rate();
        let mut left = response.body_bytes;
        // The head and the beginning of the body leave in one packet.
        let mut first = response.client_head;
        let count = up_to(left, outbound.filled().len());
        first.extend_from_slice(outbound.filled().get(..count).unwrap_or_default());
        self.write_client(&first, &mut rate).await?;
        drop(first);
        outbound.consume(count);
        left = left.saturating_sub(count as u64);
        let timeout = self.response_timeout();
        while left > 0 {
            let read = with_timeout(timeout, self.read_upstream(outbound)).await;
            read.unwrap_or(Err(BackendError::Timeout(timeout).into()))?;
            let count = up_to(left, outbound.filled().len());
            self.write_client(outbound.filled().get(..count).unwrap_or_default(), &mut rate).await?;
            outbound.consume(count);
            left = left.saturating_sub(count as u64);
        }
        Ok(())
    }

    fn min_rate(&self) -> MinRate {
        let limits = &self.guard.shared.limits;
        MinRate::new(limits.min_rate_bytes, Duration::from_millis(limits.min_rate_window_ms))
    }

    fn response_timeout(&self) -> Duration {
        Duration::from_millis(self.guard.shared.limits.response_timeout_ms)
    }

    async fn read_client(&self, inbound: &mut Buffer, rate: &mut MinRate) -> Result<(), RelayError> {
        let spare = inbound.spare();
        // Not beyond this body: the next request stays in the socket until its turn.
        let limit = up_to(self.body_left.get(), spare.len());
        let began = Instant::now();
        let mut client = self.client;
        let read = with_timeout(rate.time_left(), client.read(spare.get_mut(..limit).unwrap_or_default())).await;
        let count = match read {
            None => return Err(RelayError::ClientTooSlow),
            Some(Ok(0) | Err(_)) => return Err(RelayError::ClientDisconnected),
            Some(Ok(count)) => count,
        };
        rate.record(count as u64, began.elapsed());
        inbound.add(count);
        self.guard.touch(Stage::Body);
        Ok(())
    }

    async fn write_client(&self, mut bytes: &[u8], rate: &mut MinRate) -> Result<(), RelayError> {
        let mut client = self.client;
        while !bytes.is_empty() {
            let began = Instant::now();
            let count = match with_timeout(rate.time_left(), client.write(bytes)).await {
                None => return Err(RelayError::ClientTooSlow),
                Some(Ok(0) | Err(_)) => return Err(RelayError::ClientDisconnected),
                Some(Ok(count)) => count,
            };
            rate.record(count as u64, began.elapsed());
            bytes = bytes.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    async fn read_upstream(&self, outbound: &mut Buffer) -> Result<(), RelayError> {
        let mut upstream: &Async<_> = &self.upstream.stream;
        match upstream.read(outbound.spare()).await.map_err(BackendError::Io)? {
            0 => Err(BackendError::Closed.into()),
            count => {
                outbound.add(count);
                Ok(())
            }
        }
    }

    async fn write_upstream(&self, bytes: &[u8]) -> Result<(), RelayError> {
        let timeout = self.response_timeout();
        let mut upstream: &Async<_> = &self.upstream.stream;
        match with_timeout(timeout, upstream.write_all(bytes)).await {
            None => Err(BackendError::Timeout(timeout).into()),
            Some(written) => Ok(written.map_err(BackendError::Io)?),
        }
    }
}

/// The smaller of a number of bytes to come and a number of bytes in memory.
fn up_to(left: u64, buffered: usize) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(buffered)
}
