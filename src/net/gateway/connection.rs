//! One connection: wait for a request, read and check its head, relay the exchange or refuse it, and repeat.

use std::io;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use smol::Async;
use smol::io::{AsyncReadExt, AsyncWriteExt};

use crate::net::gateway::admission::Stage;
use crate::net::gateway::buffer::Buffer;
use crate::net::gateway::head::request;
use crate::net::gateway::head::request::{HeadScanner, RequestHead};
use crate::net::gateway::head::response;
use crate::net::gateway::relay;
use crate::net::gateway::relay::Outcome;
use crate::net::gateway::shared::SlotGuard;
use crate::net::gateway::timeout::with_timeout;
use crate::wire::problem::Problem;

/// How long, and how many bytes, a closing connection is still read. A client may be sending when it is refused. If the
/// gateway closed the socket with unread bytes, the client's system would discard the refusal before the client reads
/// it.
const LINGER: (Duration, usize) = (Duration::from_secs(1), 256 * 1024);

/// Why a connection yielded no request.
enum NoRequest {
    /// The client has disconnected, or was silent for too long.
    Disconnected,
    /// The request is refused.
    Refused { problem: Problem, is_head: bool },
}

/// Serves a connection until it ends.
pub(super) async fn serve(stream: Arc<Async<TcpStream>>, client: IpAddr, guard: SlotGuard) {
    let shared = &guard.shared;
    let mut leftover = None;
    loop {
        let mut inbound = match leftover.take() {
            Some(buffer) => buffer,
            None => match wait_for_request(&stream, &guard).await {
                Some(buffer) => buffer,
                None => return,
            },
        };
        let outcome = match read_request(&stream, client, &guard, &mut inbound).await {
            Ok(request) => {
                shared.stats.requests.add();
                relay::exchange(&stream, &guard, &mut inbound, request).await
            }
            Err(NoRequest::Disconnected) => return,
            Err(NoRequest::Refused { problem, is_head }) => Outcome::Refused { problem, is_head },
        };
        match outcome {
            Outcome::KeepAlive if !shared.stopping.get() => {
                guard.touch(Stage::Idle);
                // Pipelined requests stay in the buffer. An empty one returns to the pool while the connection is idle.
                leftover = (!inbound.is_empty()).then_some(inbound);
            }
            Outcome::KeepAlive | Outcome::Close => {
                guard.touch(Stage::Head);
                return close(&stream, b"").await;
            }
            Outcome::Aborted => return,
            Outcome::Refused { problem, is_head } => {
                shared.stats.count_refusal(problem.status);
                log::debug!("request from {client} refused: {} {}", problem.status, problem.detail);
                guard.touch(Stage::Head);
                return close(&stream, &response::refusal(&problem, is_head)).await;
            }
        }
    }
}

/// Waits for the first byte of a request, and only then takes a buffer. `None`: disconnected, or silent for too long.
async fn wait_for_request(stream: &Async<TcpStream>, guard: &SlotGuard) -> Option<Buffer> {
    let mut byte = [0];
    let idle = Duration::from_millis(guard.shared.limits.idle_timeout_ms);
    match with_timeout(idle, stream.peek(&mut byte)).await {
        Some(Ok(1)) => Some(guard.shared.buffers.take()),
        _ => None,
    }
}

/// Reads and checks a head. The bytes that follow it stay in the buffer.
async fn read_request(
    stream: &Async<TcpStream>,
    client: IpAddr,
    guard: &SlotGuard,
    inbound: &mut Buffer,
) -> Result<RequestHead, NoRequest> {
    let limits = &guard.shared.limits;
    let deadline = Instant::now() + Duration::from_millis(limits.head_timeout_ms);
    let mut scanner = HeadScanner::default();
    let length = loop {
        let fresh = inbound.filled().get(scanner.scanned..).unwrap_or_default();
        let found = scanner.scan(fresh).map_err(|problem| refused(problem, inbound))?;
        if scanner.scanned > limits.max_head_bytes {
            let problem = Problem::new(431, format!("the request head exceeds {} bytes", limits.max_head_bytes));
            return Err(refused(problem, inbound));
        }
        if let Some(length) = found {
            break length;
        }
        guard.touch(Stage::Head);
        let left = deadline.saturating_duration_since(Instant::now());
        let mut reader = stream;
        match with_timeout(left, reader.read(inbound.spare())).await {
            None => {
                let problem =
                    Problem::new(408, format!("the request head is incomplete after {} ms", limits.head_timeout_ms));
                return Err(refused(problem, inbound));
            }
            Some(Ok(0) | Err(_)) => return Err(NoRequest::Disconnected),
            Some(Ok(count)) => inbound.add(count),
        }
    };
    let head = inbound.filled().get(..length).unwrap_or_default();
    let request = request::check(head, client, limits).map_err(|problem| refused(problem, inbound))?;
    inbound.consume(length);
    Ok(request)
}

fn refused(problem: Problem, inbound: &Buffer) -> NoRequest {
    // A response to HEAD has no body, even if the rest of the request is invalid.
    let is_head = inbound.filled().trim_ascii_start().starts_with(b"HEAD ");
    NoRequest::Refused { problem, is_head }
}

/// Sends the last bytes, if there are any, and closes the connection after giving the client time to read them.
pub(super) async fn close(stream: &Async<TcpStream>, last_bytes: &[u8]) {
    let closing = async {
        let mut both = stream;
        both.write_all(last_bytes).await?;
        stream.get_ref().shutdown(Shutdown::Write)?;
        let mut discarded = [0; 1024];
        let mut left = LINGER.1;
        while left > 0 {
            let count = both.read(&mut discarded).await?;
            if count == 0 {
                break;
            }
            left = left.saturating_sub(count);
        }
        Ok::<(), io::Error>(())
    };
    // An error changes nothing: the connection is closed next in any case.
    drop(with_timeout(LINGER.0, closing).await);
}
