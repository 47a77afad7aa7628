//! One exchange: the request goes in over a private line, the answer comes out.
//!
//! Both directions run at once, since an answer may come before the whole body is in (a refusal, mostly). The client
//! is held to a floor on its speed in both, and the server to a time for its answer.

use std::cell::Cell;
use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{Async, future};

use crate::net::backend::upstream::UpstreamConnection;
use crate::net::gateway::admission::Stage;
use crate::net::gateway::buffer::Inbox;
use crate::net::gateway::head;
use crate::net::gateway::head::{Answer, LINE_FIELD, Persistence, Request};
use crate::net::gateway::min_rate::Pace;
use crate::net::gateway::{Seat, add, within};
use crate::wire::problem::Problem;

/// How an exchange ended.
pub(super) enum End {
    /// As it should; another may follow.
    Next,
    /// As it should, and it was the last of its connection.
    Last,
    /// In the middle of an answer, or the client has gone. All that can be done is to close.
    Broken,
    /// Before an answer had begun, so the client can be told.
    Refused {
        /// What to tell.
        problem: Problem,
        /// Was it asked with `HEAD`?
        is_head: bool,
    },
}

/// What went wrong on the way.
enum Fault {
    /// The client has gone.
    Client,
    /// The client is slower than it may be.
    Slow,
    /// The line has ended, or what came over it makes no sense.
    Upstream(String),
    /// The server took too long.
    Late,
}

/// One connection's exchange, with all it needs.
struct Relay<'a> {
    client: &'a Async<TcpStream>,
    line: &'a UpstreamConnection,
    seat: &'a Seat,
    /// Bytes of the body that the client has not handed over yet.
    unread: Cell<u64>,
}

/// Relays a request whose head was judged, and its answer. The beginning of the body may be in the inbox already;
/// what follows the body there is left alone.
pub(super) async fn exchange(client: &Async<TcpStream>, seat: &Seat, inbox: &mut Inbox, request: Request) -> End {
    let is_head = request.is_head;
    let refused = |status, detail: &'static str| End::Refused { problem: Problem::new(status, detail), is_head };
    let patience = Duration::from_millis(seat.hall.limits.response_timeout_ms);
    let line = match within(patience, seat.hall.upstream.take()).await {
        Some(Ok(line)) => line,
        Some(Err(error)) if is_shortage(&error) => return refused(503, "this cell is out of descriptors; try again"),
        Some(Err(error)) => {
            log::error!("no line to the HTTP server: {error}");
            return refused(502, "the cell's own server is not there");
        }
        None => return refused(504, "the cell's own server does not answer"),
    };
    let relay = Relay { client, line: &line, seat, unread: Cell::new(request.body_bytes) };
    let mut outbox = seat.hall.buffers.lend();
    let (answered, early) = match relay.ask(&request, inbox, &mut outbox).await {
        Ok(answer) => (answer, relay.unread.get() > 0),
        Err(Fault::Client) => return End::Broken,
        Err(Fault::Slow) => return slow(seat),
        Err(Fault::Late) => return refused(504, "the cell did not answer in time"),
        Err(Fault::Upstream(error)) => {
            log::error!("the HTTP server gave no answer: {error}");
            return refused(502, "the cell's own server gave no answer");
        }
    };
    let announced = answered.persistence;
    seat.touch(if early { Stage::Body } else { Stage::Answer });
    if let Err(fault) = relay.pass_on(answered, &mut outbox).await {
        return broken(seat, &fault);
    }
    if early {
        // The rest of the body has to come out of the connection before the next request can.
        drop(outbox);
        if let Err(fault) = relay.discard(inbox).await {
            return broken(seat, &fault);
        }
    } else if outbox.is_empty() {
        seat.hall.upstream.give_back(line);
    }
    if announced == Persistence::Ends { End::Last } else { End::Next }
}

/// Is the process short of descriptors, rather than the server gone?
fn is_shortage(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| {
        let errno = rustix::io::Errno::from_raw_os_error(code);
        errno == rustix::io::Errno::MFILE || errno == rustix::io::Errno::NFILE
    })
}

fn slow(seat: &Seat) -> End {
    add(&seat.hall.stats.too_slow);
    End::Broken
}

fn broken(seat: &Seat, fault: &Fault) -> End {
    match fault {
        Fault::Slow => return slow(seat),
        Fault::Upstream(error) => log::warn!("an answer was cut off: {error}"),
        Fault::Late => log::warn!("an answer was cut off: the server stalled"),
        Fault::Client => {}
    }
    End::Broken
}

/// What the client wants, unless the door is closing.
fn persistence(request: &Request, seat: &Seat) -> Persistence {
    if seat.hall.stopping.get() { Persistence::Ends } else { request.persistence }
}

impl Relay<'_> {
    /// Sends the request in, and reads the head of the answer to it.
    async fn ask(&self, request: &Request, inbox: &mut Inbox, outbox: &mut Inbox) -> Result<Answer, Fault> {
        let answer_time = Duration::from_millis(self.seat.hall.limits.response_timeout_ms);
        let mut head = request.relayed.clone();
        head.extend_from_slice(format!("{LINE_FIELD}: {}\r\n\r\n", self.line.number).as_bytes());
        let mut answering = std::pin::pin!(self.answer(request, outbox));
        let uploading = async {
            self.tell(&head).await?;
            if request.expects_continue && inbox.is_empty() {
                self.say_continue().await?;
            }
            self.upload(inbox).await
        };
        let first = future::or(async { Err(uploading.await) }, async { Ok((&mut answering).await) }).await;
        match first {
            Ok(early) => early,
            // The body is in, or the server stopped taking it: an answer is due in either case.
            Err(Ok(()) | Err(Fault::Upstream(_))) => {
                if self.unread.get() == 0 {
                    self.seat.touch(Stage::Answer);
                }
                within(answer_time, answering).await.unwrap_or(Err(Fault::Late))
            }
            Err(Err(fault)) => Err(fault),
        }
    }

    async fn say_continue(&self) -> Result<(), Fault> {
        self.send(b"HTTP/1.1 100 Continue\r\n\r\n", &mut self.pace()).await
    }

    /// Carries the body in.
    async fn upload(&self, inbox: &mut Inbox) -> Result<(), Fault> {
        let mut pace = self.pace();
        while self.unread.get() > 0 {
            let part = self.body_part(inbox);
            if part.is_empty() {
                self.receive(inbox, &mut pace).await?;
            } else {
                let count = part.len();
                self.tell(part).await?;
                inbox.used(count);
                self.unread.set(self.unread.get().saturating_sub(count as u64));
            }
        }
        Ok(())
    }

    /// Throws the rest of the body away.
    async fn discard(&self, inbox: &mut Inbox) -> Result<(), Fault> {
        let mut pace = self.pace();
        while self.unread.get() > 0 {
            let count = self.body_part(inbox).len();
            inbox.used(count);
            self.unread.set(self.unread.get().saturating_sub(count as u64));
            if self.unread.get() > 0 {
                self.receive(inbox, &mut pace).await?;
            }
        }
        Ok(())
    }

    /// What the inbox holds of this request's body.
    fn body_part<'b>(&self, inbox: &'b Inbox) -> &'b [u8] {
        let filled = inbox.filled();
        let most = usize::try_from(self.unread.get()).unwrap_or(usize::MAX).min(filled.len());
        filled.get(..most).unwrap_or_default()
    }

    /// Reads the head of the answer into the outbox; bytes of the body that came with it stay there.
    async fn answer(&self, request: &Request, outbox: &mut Inbox) -> Result<Answer, Fault> {
        loop {
            self.hear(outbox).await?;
            match head::read_answer(outbox.filled(), request.is_head, persistence(request, self.seat)) {
                Ok(Some(answer)) => {
                    outbox.used(answer.head_bytes);
                    return Ok(answer);
                }
                Ok(None) if outbox.spare().is_empty() => {
                    return Err(Fault::Upstream("its head is too long".to_owned()));
                }
                Ok(None) => {}
                Err(error) => return Err(Fault::Upstream(error.to_owned())),
            }
        }
    }

    /// Carries the answer out.
    async fn pass_on(&self, answer: Answer, outbox: &mut Inbox) -> Result<(), Fault> {
        let mut pace = self.pace();
        let mut left = answer.body_bytes;
        // Head and beginning leave in one packet.
        let mut first = answer.relayed;
        let count = count_of(outbox, left);
        first.extend_from_slice(outbox.filled().get(..count).unwrap_or_default());
        self.send(&first, &mut pace).await?;
        drop(first);
        outbox.used(count);
        left = left.saturating_sub(count as u64);
        let stall = Duration::from_millis(self.seat.hall.limits.response_timeout_ms);
        while left > 0 {
            within(stall, self.hear(outbox)).await.unwrap_or(Err(Fault::Late))?;
            let count = count_of(outbox, left);
            self.send(outbox.filled().get(..count).unwrap_or_default(), &mut pace).await?;
            outbox.used(count);
            left = left.saturating_sub(count as u64);
        }
        Ok(())
    }

    fn pace(&self) -> Pace {
        let limits = &self.seat.hall.limits;
        Pace::new(limits.min_rate_bytes, Duration::from_millis(limits.min_rate_window_ms))
    }

    async fn receive(&self, inbox: &mut Inbox, pace: &mut Pace) -> Result<(), Fault> {
        let spare = inbox.spare();
        // No further than this body, so that the next request stays out until its turn.
        let most = usize::try_from(self.unread.get()).unwrap_or(usize::MAX).min(spare.len());
        let began = Instant::now();
        let mut client = self.client;
        let read = within(pace.patience(), client.read(spare.get_mut(..most).unwrap_or_default())).await;
        let count = match read {
            None => return Err(Fault::Slow),
            Some(Ok(0) | Err(_)) => return Err(Fault::Client),
            Some(Ok(count)) => count,
        };
        pace.moved(count as u64, began.elapsed());
        inbox.received(count);
        self.seat.touch(Stage::Body);
        Ok(())
    }

    async fn send(&self, mut bytes: &[u8], pace: &mut Pace) -> Result<(), Fault> {
        let mut client = self.client;
        while !bytes.is_empty() {
            let began = Instant::now();
            let count = match within(pace.patience(), client.write(bytes)).await {
                None => return Err(Fault::Slow),
                Some(Ok(0) | Err(_)) => return Err(Fault::Client),
                Some(Ok(count)) => count,
            };
            pace.moved(count as u64, began.elapsed());
            bytes = bytes.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    async fn hear(&self, outbox: &mut Inbox) -> Result<(), Fault> {
        let mut line: &Async<_> = &self.line.stream;
        match line.read(outbox.spare()).await {
            Ok(0) => Err(Fault::Upstream("it ended too early".to_owned())),
            Ok(count) => {
                outbox.received(count);
                Ok(())
            }
            Err(error) => Err(Fault::Upstream(error.to_string())),
        }
    }

    async fn tell(&self, bytes: &[u8]) -> Result<(), Fault> {
        let stall = Duration::from_millis(self.seat.hall.limits.response_timeout_ms);
        let mut line: &Async<_> = &self.line.stream;
        match within(stall, line.write_all(bytes)).await {
            None => Err(Fault::Late),
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(Fault::Upstream(error.to_string())),
        }
    }
}

/// How many of the bytes in the outbox belong to an answer of which `left` are to come.
fn count_of(outbox: &Inbox, left: u64) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(outbox.filled().len())
}
