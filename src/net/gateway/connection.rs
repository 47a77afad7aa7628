//! The life of one connection: wait, read a head, judge it, relay the exchange or refuse it; and again.

use std::io;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use smol::Async;
use smol::io::{AsyncReadExt, AsyncWriteExt};

use crate::net::gateway::admission::Stage;
use crate::net::gateway::buffer::Inbox;
use crate::net::gateway::head;
use crate::net::gateway::head::{HeadScan, Request};
use crate::net::gateway::relay;
use crate::net::gateway::relay::End;
use crate::net::gateway::{Seat, add, within};
use crate::wire::problem::Problem;

/// A client that is refused may still be sending; closing on unread bytes makes its system throw away the answer
/// before it is read. So the rest is read for this long, and up to this much.
const GOODBYE: (Duration, usize) = (Duration::from_secs(1), 256 * 1024);

/// Why no request came out of a connection.
enum NoRequest {
    /// The client has gone, or was silent for too long; there is nobody to tell.
    Gone,
    /// What it sent cannot be let in.
    Refused { problem: Problem, is_head: bool },
}

/// Serves a connection until it ends.
pub(super) async fn serve(stream: Arc<Async<TcpStream>>, client: IpAddr, seat: Seat) {
    let hall = &seat.hall;
    let mut leftover = None;
    loop {
        let mut inbox = match leftover.take() {
            Some(inbox) => inbox,
            None => match wait(&stream, &seat).await {
                Some(inbox) => inbox,
                None => return,
            },
        };
        let end = match next_request(&stream, client, &seat, &mut inbox).await {
            Ok(request) => {
                add(&hall.stats.requests);
                relay::exchange(&stream, &seat, &mut inbox, request).await
            }
            Err(NoRequest::Gone) => return,
            Err(NoRequest::Refused { problem, is_head }) => End::Refused { problem, is_head },
        };
        match end {
            End::Next if !hall.stopping.get() => {
                seat.touch(Stage::Idle);
                // Without leftovers the buffer goes back while the connection rests.
                leftover = (!inbox.is_empty()).then_some(inbox);
            }
            End::Next | End::Last => {
                seat.touch(Stage::Head);
                return say_goodbye(&stream, b"").await;
            }
            End::Broken => return,
            End::Refused { problem, is_head } => {
                hall.stats.refuse(problem.status);
                log::debug!("{client} is refused: {} {}", problem.status, problem.detail);
                seat.touch(Stage::Head);
                return say_goodbye(&stream, &head::write_refusal(&problem, is_head)).await;
            }
        }
    }
}

/// Waits for the first byte of a request, without a buffer.
async fn wait(stream: &Async<TcpStream>, seat: &Seat) -> Option<Inbox> {
    let mut byte = [0];
    let idle = Duration::from_millis(seat.hall.limits.idle_timeout_ms);
    match within(idle, stream.peek(&mut byte)).await {
        Some(Ok(1)) => Some(seat.hall.buffers.lend()),
        _ => None,
    }
}

/// Reads and judges a head. What follows it stays in the inbox.
async fn next_request(
    stream: &Async<TcpStream>,
    client: IpAddr,
    seat: &Seat,
    inbox: &mut Inbox,
) -> Result<Request, NoRequest> {
    let limits = &seat.hall.limits;
    let deadline = Instant::now() + Duration::from_millis(limits.head_timeout_ms);
    let mut scan = HeadScan::default();
    let length = loop {
        let fresh = inbox.filled().get(scan.seen..).unwrap_or_default();
        let found = scan.more(fresh).map_err(|problem| refusal(problem, inbox))?;
        if scan.seen > limits.max_head_bytes {
            let problem = Problem::new(431, format!("the head is over {} bytes", limits.max_head_bytes));
            return Err(refusal(problem, inbox));
        }
        if let Some(length) = found {
            break length;
        }
        seat.touch(Stage::Head);
        let left = deadline.saturating_duration_since(Instant::now());
        let mut reader = stream;
        match within(left, reader.read(inbox.spare())).await {
            None => {
                let problem = Problem::new(408, "the head did not come in time");
                return Err(refusal(problem, inbox));
            }
            Some(Ok(0) | Err(_)) => return Err(NoRequest::Gone),
            Some(Ok(count)) => inbox.received(count),
        }
    };
    let head = inbox.filled().get(..length).unwrap_or_default();
    let request = head::judge(head, client, limits).map_err(|problem| refusal(problem, inbox))?;
    inbox.used(length);
    Ok(request)
}

fn refusal(problem: Problem, inbox: &Inbox) -> NoRequest {
    // The answer to HEAD has no body, whatever is wrong with the rest of the request.
    let is_head = inbox.filled().trim_ascii_start().starts_with(b"HEAD ");
    NoRequest::Refused { problem, is_head }
}

/// Sends the last words, if there are any, and gives the client time to read them.
pub(super) async fn say_goodbye(stream: &Async<TcpStream>, words: &[u8]) {
    let parting = async {
        let mut both = stream;
        both.write_all(words).await?;
        stream.get_ref().shutdown(Shutdown::Write)?;
        let mut nowhere = [0; 1024];
        let mut left = GOODBYE.1;
        while left > 0 {
            let count = both.read(&mut nowhere).await?;
            if count == 0 {
                break;
            }
            left = left.saturating_sub(count);
        }
        Ok::<(), io::Error>(())
    };
    // Whatever goes wrong now, the connection is closed next.
    drop(within(GOODBYE.0, parting).await);
}
