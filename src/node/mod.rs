//! A running cell: the core ([`crate::cell`]) connected to sockets, a clock and a disk.
//!
//! ```text
//!                        ┌──────────── main thread (smol) ────────────┐
//!   UDP ◀─ BeaconSockets ┤ Driver: one loop, the only owner of Cell   │◀─ Mailbox (bounded) ◀─┬── Api, LocalCopies
//!                        └────────────┬───────────────────────────────┘                       │
//!                                     └──▶ TaskRunner: threads, few of each kind ─────────────┘
//!                                             │ probe, send, fetch, audit …   │
//!   TCP ◀── other cells ◀─────────────────────┘                               ▼
//!   TCP ──▶ Gateway (own thread, smol) ──▶ Backend (tiny_http, workers) ──▶ Api ──▶ LocalCopies ──▶ Store
//! ```
//!
//! Chunk bytes go from the backend to the store and back, and from store to store; the driver handles decisions only.
//! The core learns through `local_copies::LocalCopies` of every copy that appears or disappears without its decision.

mod api;
mod bans;
mod driver;
mod error;
mod event_log;
mod gateway;
mod local_copies;
mod mailbox;
mod read_back;
mod search;
mod service_manager;
mod tasks;
mod udp;

use std::env;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_lite::{StreamExt, future};

use crate::cell::Cell;
use crate::config::Config;
use crate::id::CellId;
use crate::net::Backend;
use crate::node::api::Api;
use crate::node::driver::Driver;
use crate::node::gateway::GatewayThread;
use crate::node::mailbox::Mailbox;
use crate::node::udp::BeaconSockets;
use crate::store::{FileStore, Store, StoreOptions, panic_is_caught};
use crate::unix_time;
use crate::wire::beacon::Boot;

pub use crate::node::error::NodeError;

/// How long requests in progress may take to finish when the cell stops: once in the gateway, then in the backend. The
/// systemd unit kills the process after 60 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A cell that has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// Its id.
    pub id: CellId,
    /// The address that it listens on.
    pub address: SocketAddr,
}

/// Turns the data folder into a cell's, if it is empty or does not exist. Returns the id of the cell in the folder.
pub fn init(config: &Config) -> Result<CellId, NodeError> {
    Ok(FileStore::init(&config.data, CellId::from_random(*uuid::Uuid::new_v4().as_bytes()))?)
}

/// Runs a cell until SIGTERM or SIGINT. Calls `started` once, when the cell accepts requests.
pub fn run(config: &Config, started: impl FnOnce(Started)) -> Result<(), NodeError> {
    config.check()?;
    abort_on_panic();
    disable_huge_pages();
    let mut signals = async_signal::Signals::new([async_signal::Signal::Term, async_signal::Signal::Int])
        .map_err(NodeError::Signals)?;
    let gateway_limits = gateway::fit_limits(config.gateway)?;

    // The ports come first, so that nothing is written if one is taken.
    let listen_error = |source| NodeError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).map_err(listen_error)?;
    let address = listener.local_addr().map_err(listen_error)?;
    let sockets = BeaconSockets::open(config.udp_port, config.loopback, config.listen.ip())
        .map_err(|source| NodeError::Udp { port: config.udp_port, source })?;
    if config.init {
        init(config)?;
    }
    let options = StoreOptions { reserve_bytes: config.reserve, quota_bytes: config.quota, ..StoreOptions::default() };
    let store = Arc::new(FileStore::open(&config.data, &options)?);
    let id = store.cell_id();

    let state = driver::saved_state::load(&*store);
    let (mailbox, messages) = Mailbox::new(state.draining);
    let cell = Cell::new(id, new_boot(), address.port(), &config.peers, config.settings, &state, fastrand::u64(..));
    let driver = Driver::new(cell, sockets, Arc::clone(&store), address, (mailbox.clone(), messages));
    let api = Arc::new(Api::new(driver.copies().clone(), mailbox.clone()));
    remove_earlier_socket(&config.data);
    let backend = Backend::start(&socket_folders(&config.data), Arc::clone(&api) as _, gateway_limits.max_connections)
        .map_err(NodeError::Backend)?;

    let gateway = GatewayThread::start(listener, backend.upstream(), gateway_limits, STOP_TIMEOUT)?;
    if let Some(stats) = &gateway.stats {
        api.set_gateway_stats(Arc::clone(stats));
    }
    started(Started { id, address });
    service_manager::ready();

    let stopped = smol::block_on(async {
        let until_signal = async {
            signals.next().await;
            service_manager::stopping();
            stop(&api, &mailbox, gateway).await
        };
        let running = async {
            future::or(driver.run(config.read_back_rate), service_manager::watch(&mailbox)).await;
            Err(NodeError::StoppedUnexpectedly)
        };
        future::or(until_signal, running).await
    });
    backend.stop(STOP_TIMEOUT);
    stopped?;
    if let Err(error) = Store::flush(&*store) {
        log::warn!("cannot write the catalogue; it will be rebuilt at the next start: {error}");
    }
    log::info!("stopped");
    Ok(())
}

/// Where the backend's private socket can be, in order of preference. The data folder comes last: not every file system
/// has sockets, and a disk can be full or read-only.
fn socket_folders(data: &Path) -> Vec<PathBuf> {
    // systemd separates several folders by colons.
    let of_service = env::var_os("RUNTIME_DIRECTORY").and_then(|folders| env::split_paths(&folders).next());
    let of_user = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let folders = [of_service, of_user].into_iter().flatten().filter(|folder| folder.is_absolute());
    folders.chain([env::temp_dir(), data.to_owned()]).collect()
}

/// Removes the socket that an earlier release had in the data folder. It does no harm where that fails.
fn remove_earlier_socket(data: &Path) {
    let folder = data.join("run");
    if fs::remove_file(folder.join("door.sock")).is_ok() {
        let _ = fs::remove_dir(folder);
    }
}

/// Announces the stop to the colony and stops the gateway.
async fn stop(api: &Api, mailbox: &Mailbox, gateway: GatewayThread) -> Result<(), NodeError> {
    log::info!("stopping: announcing it to the colony and finishing the requests in progress");
    api.refuse_puts();
    mailbox.leave().await;
    let stopped = gateway.stop().await;
    // Announced twice, because datagrams get lost.
    mailbox.leave().await;
    stopped
}

/// Aborts the process if a thread panics, so that no half-dead cell stays behind that looks alive; systemd starts it
/// again. The only panic that is caught is that of opening a damaged catalogue.
fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if panic_is_caught() {
            log::debug!("caught a panic: {info}");
        } else {
            print(info);
            std::process::abort();
        }
    }));
}

/// With transparent huge pages each thread's stack takes 2 MiB instead of some kilobytes, and an idle cell 27 MB
/// instead of 4 (resident size, measured on arm64). No allocation here is large enough to gain from them.
fn disable_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        log::debug!("cannot disable transparent huge pages: {error}");
    }
}

/// A number that is larger at each start, as far as the board's clock permits.
#[expect(clippy::disallowed_methods, reason = "a boot number contains the time of the start")]
fn new_boot() -> Boot {
    Boot(unix_time::now_s() << 32 | u64::from(fastrand::u32(..)))
}
