//! A running cell: the pure core put to work on real sockets, a real clock and a real disk.
//!
//! ```text
//!                       ┌──────────── main thread (smol) ────────────┐
//!   UDP ◀─ Radio ───────┤ Driver: one loop, sole owner of cell::Cell │◀─ Colony: bounded inbox ◀─┬── Api, Copies
//!                       └────────────┬───────────────────────────────┘                           │
//!                                    └──▶ Visit, Errands (threads, few of each kind) ────────────┘
//!                                             │ Transfer, audit           │
//!   TCP ◀── other cells ◀─────────────────────┘                           ▼
//!   TCP ──▶ Gateway (thread, smol) ──▶ Backend (tiny_http, workers) ──▶ Api ──▶ Copies ──▶ Store
//! ```
//!
//! Chunk bytes go from the server to the store and back, and between stores; the driver sees only decisions. What comes
//! to the disk and goes from it without the core having decided it, the core hears through `LocalCopies`.

// A shell: it starts the clocks.
#![allow(clippy::disallowed_methods)]

mod api;
mod bans;
mod driver;
mod event_log;
mod local_copies;
mod mailbox;
mod search;
mod service_manager;
mod tasks;
mod udp;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_lite::{StreamExt, future};

use crate::cell::Cell;
use crate::config::{Config, ConfigError};
use crate::id::CellId;
use crate::net::fd_limit;
use crate::net::{Backend, Gateway, GatewayLimits, GatewayStats, Upstream};
use crate::node::api::Api;
use crate::node::driver::Driver;
use crate::node::mailbox::Mailbox;
use crate::node::udp::BeaconSockets;
use crate::store::{FileStore, OpenError, Store, StoreOptions, panic_is_caught};
use crate::unix_time;
use crate::wire::beacon::Boot;

/// Descriptors that the process needs beside those of the connections it serves: catalogue, sockets, own calls to
/// others.
const DESCRIPTORS_ELSEWHERE: u64 = 128;

/// A cell that can hold fewer connections does not start: its clients would fail in ways that nobody could explain.
const MIN_CONNECTIONS: usize = 16;

/// How long requests under way may take to end when the cell stops, at the door and then behind it. The service waits 60 s
/// before it kills.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// Why a cell could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The settings cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data folder cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The TCP port cannot be had.
    #[error("cannot listen on {address} (TCP): {source}; choose another with --listen ADDRESS:PORT")]
    Listen {
        /// The address and port.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The UDP port cannot be had.
    #[error("cannot use UDP port {port}: {source}; choose another with --udp-port, the same for the whole colony")]
    Udp {
        /// The port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The process may not have as many files and connections open as a cell needs.
    #[error(
        "only {have} open files are allowed and a cell needs {need}; raise the limit (ulimit -n {need}, or LimitNOFILE= in its service)"
    )]
    Descriptors {
        /// The limit.
        have: u64,
        /// The least that a cell can do with.
        need: u64,
    },
    /// The system refused something else that is needed.
    #[error("{doing}: {source}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn system(doing: &'static str) -> impl FnOnce(io::Error) -> NodeError {
    move |source| NodeError::System { doing, source }
}

/// What a cell that has started tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// The cell's name.
    pub id: CellId,
    /// Where its door is.
    pub address: SocketAddr,
}

/// Makes the data folder a cell's, if it is empty or not there yet. Returns the name of the cell that lives there now.
pub fn init(config: &Config) -> Result<CellId, NodeError> {
    Ok(FileStore::init(&config.data, CellId::from_random(*uuid::Uuid::new_v4().as_bytes()))?)
}

/// Runs a cell until SIGTERM or SIGINT. `started` is called once, when the door is open.
pub fn run(config: &Config, started: impl FnOnce(Started)) -> Result<(), NodeError> {
    config.check()?;
    abort_on_panic();
    use_small_pages();
    let mut signals = async_signal::Signals::new([async_signal::Signal::Term, async_signal::Signal::Int])
        .map_err(system("catching signals"))?;
    let door_limits = fit_descriptors(config.gateway)?;

    // The ports first: a taken port is found before anything is written.
    let listener =
        TcpListener::bind(config.listen).map_err(|source| NodeError::Listen { address: config.listen, source })?;
    let address = listener.local_addr().map_err(system("reading the door's address"))?;
    let sockets = BeaconSockets::open(config.udp_port, config.loopback, config.listen.ip())
        .map_err(|source| NodeError::Udp { port: config.udp_port, source })?;
    if config.init {
        init(config)?;
    }
    let options = StoreOptions { reserve_bytes: config.reserve, quota_bytes: config.quota, ..StoreOptions::default() };
    let store = Arc::new(FileStore::open(&config.data, &options)?);
    let id = store.cell_id();

    let memory = driver::remembered(&*store);
    let (mailbox, inbox) = Mailbox::new(memory.draining);
    let cell = Cell::new(id, new_boot(), address.port(), &config.peers, config.settings, &memory, fastrand::u64(..));
    let driver = Driver::new(cell, sockets, Arc::clone(&store), address, (mailbox.clone(), inbox));
    let api = Arc::new(Api::new(Arc::clone(&store) as _, mailbox.clone()));
    let backend = Backend::start(&config.data.join("run"), Arc::clone(&api) as _, door_limits.max_connections)
        .map_err(system("starting the HTTP server"))?;

    let door = OpenDoor::open(listener, backend.upstream(), door_limits)?;
    if let Some(stats) = &door.stats {
        api.count_connections(Arc::clone(stats));
    }
    started(Started { id, address });
    service_manager::ready();

    let stopped = smol::block_on(async {
        let signalled = async {
            signals.next().await;
            service_manager::stopping();
            Some(leave(&api, &mailbox, door).await)
        };
        let lives = async {
            driver.run().await;
            None
        };
        let watched = async {
            service_manager::watch(&mailbox).await;
            None
        };
        future::or(signalled, future::or(lives, watched)).await
    });
    backend.stop(STOP_PATIENCE);
    match stopped {
        Some(Ok(Ok(()))) => {}
        Some(Ok(Err(error))) => return Err(system("opening the door")(error)),
        Some(Err(_)) | None => {
            return Err(system("running the cell")(io::Error::other("a part of it ended by itself")));
        }
    }
    if let Err(error) = Store::flush(&*store) {
        log::warn!("the catalogue was not written out and will be rebuilt: {error}");
    }
    log::info!("stopped");
    Ok(())
}

/// The door, which runs on a thread of its own.
struct OpenDoor {
    thread: JoinHandle<io::Result<()>>,
    /// None if it could not open; the thread tells why.
    stats: Option<Arc<GatewayStats>>,
    /// The door closes when this is dropped.
    stop: smol::channel::Sender<()>,
}

impl OpenDoor {
    fn open(listener: TcpListener, upstream: Arc<Upstream>, limits: GatewayLimits) -> Result<Self, NodeError> {
        let (stop, stops) = smol::channel::bounded::<()>(1);
        let (stats, door_stats) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("door".into()).spawn(move || {
            smol::block_on(async move {
                let listener = async_net::TcpListener::try_from(listener)?;
                let door = Gateway::new(listener, upstream, limits);
                // Taken by the one that started this thread.
                drop(stats.send(door.stats()));
                door.run(stops, STOP_PATIENCE).await;
                Ok(())
            })
        });
        let thread = thread.map_err(system("starting the door"))?;
        Ok(Self { thread, stats: door_stats.recv().ok(), stop })
    }

    /// Finishes what is under way and closes the door. Returns how its thread ended.
    async fn close(self) -> std::thread::Result<io::Result<()>> {
        drop(self.stop);
        smol::unblock(move || self.thread.join()).await
    }
}

/// Takes leave of the colony and closes the door.
async fn leave(api: &Api, mailbox: &Mailbox, door: OpenDoor) -> std::thread::Result<io::Result<()>> {
    log::info!("stopping: telling the colony and finishing what is under way");
    api.leave();
    mailbox.leave().await;
    let ended = door.close().await;
    // Once more, for whom the first did not reach: datagrams get lost.
    mailbox.leave().await;
    ended
}

/// A panicked thread must not leave a ghost behind that looks alive: the process ends, and whoever watches over it
/// starts it again. The one exception is the catalogue's, which is caught where it is opened.
fn abort_on_panic() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if panic_is_caught() {
            log::debug!("caught: {info}");
        } else {
            say(info);
            std::process::abort();
        }
    }));
}

/// Where the kernel gives huge pages to all who do not refuse them, each thread's stack takes 2 MiB for some kilobytes: an
/// idle cell 27 MB instead of 4 (measured on arm64). Nothing here is large enough to gain by them.
fn use_small_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        log::debug!("huge pages cannot be refused: {error}");
    }
}

/// As many connections as the limit on descriptors has room for.
fn fit_descriptors(limits: GatewayLimits) -> Result<GatewayLimits, NodeError> {
    let want = descriptors_for(limits.max_connections);
    let have = fd_limit::raise(want).map_err(system("raising the limit on open files"))?;
    fit(limits, have)
}

/// Descriptors that the process needs with so many connections.
fn descriptors_for(connections: usize) -> u64 {
    connections as u64 * fd_limit::PER_CONNECTION + DESCRIPTORS_ELSEWHERE
}

fn fit(mut limits: GatewayLimits, have: u64) -> Result<GatewayLimits, NodeError> {
    let need = descriptors_for(limits.max_connections.min(MIN_CONNECTIONS));
    if have < need {
        return Err(NodeError::Descriptors { have, need });
    }
    let fit = fd_limit::connections_that_fit(have, DESCRIPTORS_ELSEWHERE);
    if fit < limits.max_connections {
        log::warn!(
            "only {have} open files are allowed: at most {fit} connections at once instead of {}",
            limits.max_connections
        );
        limits.max_connections = fit;
        limits.max_connections_per_address = limits.max_connections_per_address.min(fit);
    }
    Ok(limits)
}

/// Later starts get larger numbers, as far as the clock of the board can tell.
fn new_boot() -> Boot {
    let seconds = unix_time::now_s();
    Boot(seconds << 32 | u64::from(fastrand::u32(..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_with_few_descriptors_takes_fewer_connections_and_with_too_few_it_does_not_start() {
        let limits = GatewayLimits::default();
        let fits = |have| fit(limits, have).map(|limits| (limits.max_connections, limits.max_connections_per_address));
        assert_eq!(fits(u64::MAX).unwrap(), (256, 64));
        assert_eq!(fits(1024).unwrap(), (179, 64));
        assert_eq!(fits(208).unwrap(), (16, 16));
        for have in [207, 60, 0] {
            let error = fits(have).unwrap_err().to_string();
            assert!(error.contains(&format!("only {have} open files")) && error.contains("ulimit -n 208"), "{error}");
        }
        assert_eq!(fit(GatewayLimits { max_connections: 2, ..limits }, 138).unwrap().max_connections, 2);
    }
}
