//! The HTTP interface of a cell, which is specified in [`crate::wire`]: each request is parsed into a [`Route`],
//! performed by the store or the driver, and answered.

// Reads the clock: for the uptime and for bans.
#![allow(clippy::disallowed_methods)]

mod maintenance;
mod put;
mod read;
mod response;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use smol::lock::{Semaphore, SemaphoreGuardArc};

use crate::net::{Exchange, GatewayStats, Handler};
use crate::node::api::response::{ErrorResponse, Response};
use crate::node::bans::Bans;
use crate::node::local_copies::LocalCopies;
use crate::node::mailbox::{ColonySnapshot, Mailbox};
use crate::node::search::Searches;
use crate::store::Store;
use crate::wire::routes::Route;
use crate::wire::status::{CellStatus, StoredChunk};

/// Maximum number of long lists in memory at once; further requests wait. One takes up to 6 MiB until its response was
/// sent, or until the core has taken it in.
const MAX_LONG_LISTS: usize = 3;
/// Up to this length (a thousand ids) a list is short and never waits: slow clients hold up long lists only.
const SHORT_LIST_BYTES: u64 = 64 << 10;
/// Maximum number of requests at once that re-hash copies; further ones wait. More would only slow down other requests,
/// which need the same disk.
const MAX_VERIFICATIONS: usize = 2;

pub(super) struct Api {
    store: Arc<dyn Store>,
    copies: LocalCopies,
    mailbox: Mailbox,
    searches: Searches,
    long_lists: Arc<Semaphore>,
    verifications: Semaphore,
    bans: Mutex<Bans>,
    gateway_stats: OnceLock<Arc<GatewayStats>>,
    started: Instant,
    is_stopping: AtomicBool,
}

impl Handler for Api {
    fn handle(&self, mut exchange: Exchange) {
        let response = match Route::parse(exchange.method(), exchange.target()) {
            Ok(route) => self.respond(route, &mut exchange),
            Err(error) => Err(error.into()),
        };
        match response {
            Ok(response) => response.send(exchange),
            Err(error) => error.send(exchange),
        }
    }
}

impl Api {
    pub(super) fn new(copies: LocalCopies, mailbox: Mailbox) -> Self {
        Self {
            store: Arc::clone(&copies.store),
            copies,
            searches: Searches::new(mailbox.clone()),
            mailbox,
            long_lists: Arc::new(Semaphore::new(MAX_LONG_LISTS)),
            verifications: Semaphore::new(MAX_VERIFICATIONS),
            bans: Mutex::default(),
            gateway_stats: OnceLock::new(),
            started: Instant::now(),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// Sets the source of the number of connections in `GET /status`.
    pub(super) fn set_gateway_stats(&self, stats: Arc<GatewayStats>) {
        // Called once, when the gateway has started.
        drop(self.gateway_stats.set(stats));
    }

    /// Refuses all further puts, because the cell is about to stop.
    pub(super) fn refuse_puts(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
    }

    fn respond(&self, route: Route, exchange: &mut Exchange) -> Result<Response, ErrorResponse> {
        match route {
            Route::PutChunk(id) => self.put(Some(&id), exchange).map(|_| Response::Empty),
            Route::PostChunk => self.put(None, exchange).and_then(|id| Response::json(&StoredChunk { id })),
            Route::GetChunk(id) => self.get(&id, exchange),
            Route::HeadChunk(id) => self.head(id),
            Route::Have => self.have(exchange),
            Route::List { after, limit } => self.list(after.as_ref(), limit),
            Route::Shared(query) => self.shared(query),
            Route::Verify => self.verify(exchange),
            Route::Holders => self.holders(exchange),
            Route::Peers => Response::json(&self.snapshot()?.peers()),
            Route::Join => self.join(exchange),
            Route::Alert => self.alert(exchange),
            Route::Drain => self.drain(),
            Route::Undrain => self.undrain(),
            Route::Scrub => self.scrub(),
            Route::Status => Response::json(&self.status()?),
            Route::Health => self.health(),
        }
    }

    /// A permit to read a list into memory; `None` if the list is short and needs none. Blocks.
    fn long_list_permit(&self, exchange: &Exchange) -> Option<SemaphoreGuardArc> {
        (exchange.body_bytes() > SHORT_LIST_BYTES).then(|| self.long_lists.acquire_arc_blocking())
    }

    fn snapshot(&self) -> Result<ColonySnapshot, ErrorResponse> {
        self.mailbox.snapshot().ok_or_else(ErrorResponse::driver_not_responding)
    }

    fn status(&self) -> Result<CellStatus, ErrorResponse> {
        let usage = self.store.usage();
        let ColonySnapshot { own, activity, .. } = self.snapshot()?;
        Ok(CellStatus {
            beacon: own,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            bytes: usage.bytes,
            counted: usage.counted,
            read_only: usage.read_only,
            read_back_left: self.copies.read_back().left() as u64,
            uptime_s: self.started.elapsed().as_secs(),
            connections: self.gateway_stats.get().map_or(0, |stats| stats.open()),
            activity,
        })
    }

    fn health(&self) -> Result<Response, ErrorResponse> {
        self.check_running()?;
        let status = self.snapshot()?.own.status;
        Response::json(&serde_json::json!({ "status": status }))
    }

    /// Fails if the cell is about to stop.
    fn check_running(&self) -> Result<(), ErrorResponse> {
        if self.is_stopping.load(Ordering::SeqCst) {
            return Err(ErrorResponse::new(503, "this cell is about to stop; use another cell"));
        }
        Ok(())
    }
}
