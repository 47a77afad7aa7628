//! The gateway: the only part of a cell that the network reaches over TCP. It admits connections, checks each request,
//! and relays it to the backend.
//!
//! # What it protects against
//!
//! | attack or fault | answer |
//! |---|---|
//! | heads that never end, or arrive a byte at a time | size limit: 431; deadline: 408 |
//! | bodies that are too large, or lengths that make `tiny_http` fail | 413 |
//! | bodies that arrive too slowly, clients that never read | minimum rate: connection closed |
//! | idle connections | idle timeout: connection closed |
//! | more connections than slots, from one client or from many | the longest silent one is closed, or 503 |
//! | request smuggling, which needs two parsers that disagree | each head is parsed once and written anew ([`head`]) |
//! | forged private fields, such as another client address | dropped |
//! | no free file descriptor | pause before the next `accept`; one idle connection is closed |
//! | a backend that hangs or has failed | 504, 502 |
//!
//! [`GatewayLimits`] holds the numbers. The gateway has no TLS and no authorization, and the meaning of a request is up
//! to the handler.
//!
//! # The life of a connection
//!
//! ```text
//!            accept: a slot is free, or is taken from the longest silent connection; otherwise 503
//!               │
//!               ▼
//!   ┌───────▶ Idle ────── silent for idle_timeout_ms ────────────────────────────────▶ closed
//!   │           │ first byte
//!   │           ▼
//!   │         Head ────── invalid, too large or late: 4xx, 501, 505 ─────────────────▶ closed
//!   │           │ complete: checked and written anew
//!   │           ▼
//!   │         Body ────── below the minimum rate; no backend: 502, 503, 504 ─────────▶ closed
//!   │           │ complete
//!   │           ▼
//!   │       Response ──── below the minimum rate; backend failed: 502, late: 504 ────▶ closed
//!   │           │ complete
//!   └───────────┘ unless the client, or a stop of the gateway, ends the connection
//! ```
//!
//! Idle, Head and Body can lose their slot to another connection; Response cannot. A response that begins before the
//! body is complete, mostly a refusal, is sent at once; the connection stays in Body.
//!
//! One thread runs all connections, each as a task. A task takes a buffer only when bytes arrive, so an idle connection
//! costs a socket and a few hundred bytes.

// Timeouts need the clock.
#![allow(clippy::disallowed_methods)]

mod admission;
mod buffer;
mod connection;
mod head;
pub(super) mod limits;
mod relay;
mod shared;
pub(super) mod stats;
mod timeout;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smol::channel::{Receiver, bounded};
use smol::{Async, LocalExecutor, Timer, future};

use crate::net::backend::upstream::Upstream;
use crate::net::gateway::admission::{Admission, ClientNetwork, Slots};
use crate::net::gateway::buffer::BufferPool;
use crate::net::gateway::head::response;
use crate::net::gateway::limits::GatewayLimits;
use crate::net::gateway::shared::{Shared, SlotGuard};
use crate::net::gateway::stats::GatewayStats;
use crate::net::gateway::timeout::with_timeout;
use crate::wire::problem::Problem;

/// First and longest pause after a failed `accept`; it doubles from one to the other. Without a pause, a process that
/// has no free descriptor would do nothing but fail.
const ACCEPT_PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Connections beyond the limit that are answered with 503 at one time; more are closed without an answer.
const MAX_REJECTING: usize = 16;

/// Kernel buffer for the response to one client, in bytes. The kernel's own choice grows to megabytes for a client that
/// reads slowly; a gigabit network needs about half of this.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// A TCP listener with limits, in front of a [`Backend`](crate::net::Backend).
pub struct Gateway {
    listener: async_net::TcpListener,
    upstream: Arc<Upstream>,
    limits: GatewayLimits,
    stats: Arc<GatewayStats>,
}

impl Gateway {
    /// Creates a gateway that accepts connections from `listener` and relays their requests to `upstream`.
    pub fn new(listener: async_net::TcpListener, upstream: Arc<Upstream>, limits: GatewayLimits) -> Self {
        Self { listener, upstream, limits, stats: Arc::default() }
    }

    /// The gateway's counters.
    pub fn stats(&self) -> Arc<GatewayStats> {
        Arc::clone(&self.stats)
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves connections until `stop` gets a message or is closed. Then it accepts no more, closes those without a
    /// complete head, and gives the others up to `grace` to end. Run it with `smol::block_on` on a thread of its own.
    pub async fn run(self, stop: Receiver<()>, grace: Duration) {
        let Self { listener, upstream, limits, stats } = self;
        let (all_closed, closed) = bounded(1);
        let shared = Rc::new(Shared {
            limits,
            upstream,
            stats,
            slots: RefCell::new(Slots::new(limits.max_connections, limits.max_connections_per_address)),
            buffers: BufferPool::new(limits.max_head_bytes),
            started: Instant::now(),
            rejecting: Cell::new(0),
            stopping: Cell::new(false),
            all_closed,
        });
        let executor = LocalExecutor::new();
        let accepting = future::or(accept(&executor, &listener, &shared), async {
            stop.recv().await.ok();
        });
        executor.run(accepting).await;
        drop(listener);

        shared.stopping.set(true);
        let idle = shared.slots.borrow_mut().take_idle();
        drop(idle);
        if !shared.slots.borrow().is_empty() {
            // Connections that need longer are closed below.
            let _ = executor.run(with_timeout(grace, closed.recv())).await;
        }
        // The tasks own the shared state, and its slots own the tasks: emptying the slots breaks the cycle.
        let rest = shared.slots.borrow_mut().take_all();
        drop(rest);
        drop(executor);
        shared.upstream.close_idle();
    }
}

async fn accept(executor: &LocalExecutor<'static>, listener: &async_net::TcpListener, shared: &Rc<Shared>) {
    let mut pause = ACCEPT_PAUSES.0;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                pause = ACCEPT_PAUSES.0;
                shared.stats.accepted.add();
                admit(executor, stream.into(), address.ip(), shared);
            }
            // The client disconnected before the connection was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                log::warn!("cannot accept a connection: {error}; retrying in {} ms", pause.as_millis());
                shared.stats.accept_failures.add();
                // The usual cause is a lack of descriptors. Closing an idle connection frees one.
                let evicted = shared.slots.borrow_mut().evict();
                if evicted.is_some() {
                    shared.stats.evicted.add();
                }
                drop(evicted);
                Timer::after(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSES.1);
            }
        }
    }
}

fn admit(executor: &LocalExecutor<'static>, stream: Arc<Async<TcpStream>>, client: IpAddr, shared: &Rc<Shared>) {
    let socket = socket2::SockRef::from(stream.get_ref());
    // Both are optimizations; the connection works without them.
    socket.set_tcp_nodelay(true).ok();
    socket.set_send_buffer_size(SEND_BUFFER_BYTES).ok();
    let admission = shared.slots.borrow_mut().admit(ClientNetwork::of(client), shared.now_ms());
    match admission {
        Admission::Admitted(slot, evicted) => {
            if evicted.is_some() {
                shared.stats.evicted.add();
            }
            drop(evicted);
            shared.stats.open.add();
            let guard = SlotGuard { shared: Rc::clone(shared), slot };
            let task = executor.spawn(connection::serve(stream, client, guard));
            // The slot cannot have been freed: no task has run since it was assigned.
            let unassigned = shared.slots.borrow_mut().fill(slot, task);
            drop(unassigned);
        }
        Admission::Full => reject(executor, stream, shared),
    }
}

/// Answers a connection that got no slot with 503.
fn reject(executor: &LocalExecutor<'static>, stream: Arc<Async<TcpStream>>, shared: &Rc<Shared>) {
    shared.stats.count_refusal(503);
    if shared.rejecting.get() >= MAX_REJECTING {
        return;
    }
    shared.rejecting.set(shared.rejecting.get() + 1);
    let shared = Rc::clone(shared);
    let task = executor.spawn(async move {
        let problem = Problem::new(503, "all connections of this cell are in use; retry, or use another cell");
        connection::close(&stream, &response::refusal(&problem, false)).await;
        shared.rejecting.set(shared.rejecting.get().saturating_sub(1));
    });
    task.detach();
}
