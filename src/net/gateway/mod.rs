//! The door: the only part of a cell that strangers reach over TCP.
//!
//! One thread runs all connections. Each is a task that holds a place in a table; a task waits without a
//! buffer until its client sends something, so an idle connection costs a socket and a few hundred bytes.
//!
//! What is not here: what a request means (the API's), who may make it, and TLS.

// A shell: it is here that connections meet the clock.
#![allow(clippy::disallowed_methods)]

mod admission;
mod buffer;
mod connection;
pub(super) mod head;
pub(super) mod limits;
mod min_rate;
mod relay;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use smol::channel::{Receiver, Sender, bounded};
use smol::{Async, LocalExecutor, Task, Timer, future};

use crate::net::backend::upstream::Upstream;
use crate::net::gateway::admission::{Group, Places, Stage, Verdict};
use crate::net::gateway::buffer::Buffers;
use crate::net::gateway::limits::GatewayLimits;
use crate::wire::problem::Problem;

/// How long accepting pauses after an error: from the first of these up to the second. Without a pause, a process
/// without a free descriptor would do nothing but fail to accept.
const ACCEPT_PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Connections beyond the limit that are told so at one time; more are closed without a word.
const MOST_TURNED_AWAY: usize = 16;

/// Bytes that the kernel holds for one client that reads slowly. Left alone it would be megabytes for each; a gigabit
/// network needs about half of this.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// The statuses that the door answers with by itself.
const REFUSALS: [u16; 12] = [400, 405, 408, 411, 413, 417, 431, 501, 502, 503, 504, 505];

/// What the door has done since it opened; read it at any time, from any thread.
#[derive(Debug, Default)]
pub struct GatewayStats {
    accepted: AtomicU64,
    accept_failures: AtomicU64,
    open: AtomicU64,
    evicted: AtomicU64,
    too_slow: AtomicU64,
    requests: AtomicU64,
    refused: [AtomicU64; REFUSALS.len()],
}

impl GatewayStats {
    /// Connections accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Times that accepting failed, mostly for want of descriptors.
    pub fn accept_failures(&self) -> u64 {
        self.accept_failures.load(Ordering::Relaxed)
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections closed to make room for others.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Connections closed because a body or an answer moved too slowly.
    pub fn too_slow(&self) -> u64 {
        self.too_slow.load(Ordering::Relaxed)
    }

    /// Requests let in.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Requests and connections refused at the door: each status with its count, those that occurred.
    pub fn refused(&self) -> Vec<(u16, u64)> {
        let counts = self.refused.iter().map(|count| count.load(Ordering::Relaxed));
        REFUSALS.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect()
    }

    fn refuse(&self, status: u16) {
        if let Some((_, count)) = REFUSALS.iter().zip(&self.refused).find(|(known, _)| **known == status) {
            add(count);
        }
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// A listener with limits, in front of a [`crate::net::Server`].
pub struct Gateway {
    listener: async_net::TcpListener,
    upstream: Arc<Upstream>,
    limits: GatewayLimits,
    stats: Arc<GatewayStats>,
}

impl Gateway {
    /// A door at `listener` that lets requests in to the server at the other end of `lines`.
    pub fn new(listener: async_net::TcpListener, upstream: Arc<Upstream>, limits: GatewayLimits) -> Self {
        Self { listener, upstream, limits, stats: Arc::default() }
    }

    /// The counters, which go on counting while the door runs.
    pub fn stats(&self) -> Arc<GatewayStats> {
        Arc::clone(&self.stats)
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Lets connections in until `stop` gets a message or is closed. Then no more are accepted, idle ones are closed,
    /// and requests that have begun get `patience` to end. Run it with `smol::block_on` on a thread of its own.
    pub async fn run(self, stop: Receiver<()>, patience: Duration) {
        let Self { listener, upstream, limits, stats } = self;
        let (emptied, all_gone) = bounded(1);
        let hall = Rc::new(Hall {
            limits,
            upstream,
            stats,
            places: RefCell::new(Places::new(limits.max_connections, limits.max_connections_per_address)),
            buffers: Buffers::new(limits.max_head_bytes),
            opened: Instant::now(),
            turned_away: Cell::new(0),
            stopping: Cell::new(false),
            emptied,
        });
        let executor = LocalExecutor::new();
        let accepting = future::or(accept(&executor, &listener, &hall), async {
            // A message or the end of all senders: both mean stop.
            stop.recv().await.ok();
        });
        executor.run(accepting).await;
        drop(listener);

        hall.stopping.set(true);
        let idle = hall.places.borrow_mut().dismiss_idle();
        drop(idle);
        if !hall.places.borrow().is_empty() {
            // In time or not, whoever is left is shown out next.
            let _ = executor.run(within(patience, all_gone.recv())).await;
        }
        // The tasks hold the hall, and the hall holds the tasks.
        let rest = hall.places.borrow_mut().dismiss_all();
        drop(rest);
        drop(executor);
        hall.upstream.close_idle();
    }
}

/// What all connections share.
struct Hall {
    limits: GatewayLimits,
    upstream: Arc<Upstream>,
    stats: Arc<GatewayStats>,
    places: RefCell<Places<Task<()>>>,
    buffers: Rc<Buffers>,
    opened: Instant,
    turned_away: Cell<usize>,
    stopping: Cell<bool>,
    emptied: Sender<()>,
}

impl Hall {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A connection's hold on its place; dropped with the connection's task, however that ends.
struct Seat {
    hall: Rc<Hall>,
    number: u64,
}

impl Seat {
    fn touch(&self, stage: Stage) {
        let now_ms = self.hall.now_ms();
        self.hall.places.borrow_mut().touch(self.number, stage, now_ms);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let hall = &self.hall;
        hall.stats.open.fetch_sub(1, Ordering::Relaxed);
        let task = hall.places.borrow_mut().leave(self.number);
        if let Some(task) = task {
            task.detach();
        }
        if hall.stopping.get() && hall.places.borrow().is_empty() {
            hall.emptied.try_send(()).ok();
        }
    }
}

async fn accept(executor: &LocalExecutor<'static>, listener: &async_net::TcpListener, hall: &Rc<Hall>) {
    let mut pause = ACCEPT_PAUSES.0;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                pause = ACCEPT_PAUSES.0;
                add(&hall.stats.accepted);
                admit(executor, stream.into(), address.ip(), hall);
            }
            // A client that gave up while it was queued.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                log::warn!("cannot accept a connection: {error}; trying again in {} ms", pause.as_millis());
                add(&hall.stats.accept_failures);
                // Most likely there is no free descriptor: an idle connection has one.
                let evicted = hall.places.borrow_mut().evict();
                if evicted.is_some() {
                    add(&hall.stats.evicted);
                }
                drop(evicted);
                Timer::after(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSES.1);
            }
        }
    }
}

fn admit(executor: &LocalExecutor<'static>, stream: Arc<Async<TcpStream>>, client: IpAddr, hall: &Rc<Hall>) {
    let socket = socket2::SockRef::from(stream.get_ref());
    // Both only make things better; a connection without them works.
    socket.set_tcp_nodelay(true).ok();
    socket.set_send_buffer_size(SEND_BUFFER_BYTES).ok();
    let verdict = hall.places.borrow_mut().admit(Group::of(client), hall.now_ms());
    match verdict {
        Verdict::Admitted(number, evicted) => {
            if evicted.is_some() {
                add(&hall.stats.evicted);
            }
            drop(evicted);
            hall.stats.open.fetch_add(1, Ordering::Relaxed);
            let seat = Seat { hall: Rc::clone(hall), number };
            let task = executor.spawn(connection::serve(stream, client, seat));
            // The place was made a moment ago and nothing ran since.
            let unseated = hall.places.borrow_mut().seat(number, task);
            drop(unseated);
        }
        Verdict::Full => turn_away(executor, stream, hall),
    }
}

/// Tells a connection for which there is no place to come back later.
fn turn_away(executor: &LocalExecutor<'static>, stream: Arc<Async<TcpStream>>, hall: &Rc<Hall>) {
    hall.stats.refuse(503);
    if hall.turned_away.get() >= MOST_TURNED_AWAY {
        return;
    }
    hall.turned_away.set(hall.turned_away.get() + 1);
    let hall = Rc::clone(hall);
    let task = executor.spawn(async move {
        let problem = Problem::new(503, "all connections of this cell are in use; try again, or ask another cell");
        connection::say_goodbye(&stream, &head::write_refusal(&problem, false)).await;
        hall.turned_away.set(hall.turned_away.get().saturating_sub(1));
    });
    task.detach();
}

/// The result of `work`, unless it takes longer than `time`.
async fn within<T>(time: Duration, work: impl Future<Output = T>) -> Option<T> {
    future::or(async { Some(work.await) }, async {
        Timer::after(time).await;
        None
    })
    .await
}
