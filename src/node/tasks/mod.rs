//! Errands: what the core wants of other cells and of the disk, done on threads that may block.
//!
//! Each kind has its own places, so that the questions of a large colony do not hold up a transfer, nor an audit a
//! question. The places together are also the most threads that errands ever take: the pool that lends them keeps
//! them. An errand has so much time, waiting for its place included; what the core hears then is that it failed. An
//! errand that ends later than that still says what must not get lost: a copy that is here now, or is not any more.

// A shell: errands end by the clock.
#![allow(clippy::disallowed_methods)]

mod audit;
mod probe;
mod transfer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_lite::future;
use smol::Timer;
use smol::lock::Semaphore;

use crate::cell::{
    AuditOutcome, CopyInput, FetchOutcome, Input, MemberInput, SendOutcome, Task, TaskId, VerifyOutcome,
};
use crate::id::ChunkId;
use crate::net::client::{Http, Timeouts};
use crate::node::local_copies::LocalCopies;
use crate::node::mailbox::Mailbox;
use crate::node::tasks::probe::Probe;
use crate::node::tasks::transfer::Transfer;
use crate::store::{CopyState, Store};
use crate::wire::datagram::Alert;
use crate::wire::holder_hints::{HolderHint, write_holder_hints};

/// How many errands of each kind are under way at once.
const PROBES: usize = 16;
const ASKS: usize = 8;
const TRANSFERS: usize = 4;
const AUDITS: usize = 2;
const CHECKS: usize = 2;
const TELLS: usize = 2;
const ALERTS: usize = 2;

/// How long each may take. Longer than its calls to others can take in all, so it is the disk that is late, or what
/// was to be done before.
const ASK_LIMIT: Duration = Duration::from_mins(2);
const TRANSFER_LIMIT: Duration = Duration::from_mins(8);
const AUDIT_LIMIT: Duration = Duration::from_mins(8);
const CHECK_LIMIT: Duration = Duration::from_mins(5);
const TELL_LIMIT: Duration = Duration::from_mins(2);
/// After so long the doors that are left are not told of an alert any more: it was broadcast as well.
const ALERT_LIMIT: Duration = Duration::from_secs(30);

/// Ids in one request. For so few a cell lets nobody wait.
const IDS_AT_ONCE: usize = 1000;

/// Runs the tasks of the core, and reports the outcome of each.
pub(super) struct TaskRunner {
    copies: LocalCopies,
    mailbox: Mailbox,
    questions: Http,
    transfers: Http,
    warnings: Http,
    probes: Http,
    own_address: SocketAddr,
    places: Places,
}

struct Places {
    probes: Arc<Semaphore>,
    asks: Arc<Semaphore>,
    transfers: Arc<Semaphore>,
    audits: Arc<Semaphore>,
    checks: Arc<Semaphore>,
    tells: Arc<Semaphore>,
    alerts: Arc<Semaphore>,
}

impl TaskRunner {
    /// `own_address` is where other cells reach this one.
    pub(super) fn new(store: Arc<dyn Store>, mailbox: Mailbox, own_address: SocketAddr) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            copies: LocalCopies::new(store, mailbox.clone()),
            mailbox,
            questions: Http::new(Timeouts::QUERY, 1, 32),
            transfers: Http::new(Timeouts::TRANSFER, 1, 8),
            warnings: Http::new(Timeouts::PROBE, 1, 8),
            probes: Http::new(Timeouts::PROBE, 1, 32),
            own_address,
            places: Places {
                probes: places(PROBES),
                asks: places(ASKS),
                transfers: places(TRANSFERS),
                audits: places(AUDITS),
                checks: places(CHECKS),
                tells: places(TELLS),
                alerts: places(ALERTS),
            },
        }
    }

    /// The copies that these errands are about.
    pub(super) fn copies(&self) -> &LocalCopies {
        &self.copies
    }

    /// Runs a task to its end and reports the outcome.
    pub(super) async fn run(self: Arc<Self>, task: Task) {
        match task {
            Task::Probe { task_id, address, announce } => self.probe(task_id, address, announce).await,
            Task::QueryHave { task_id, to, chunks } => self.ask(task_id, to, chunks).await,
            Task::Send { task_id, chunk, to, copies, holders } => {
                let transfer = self.transfer(chunk, to, copies, holders);
                self.send(task_id, transfer).await;
            }
            Task::Fetch { task_id, chunk, from, copies, holders } => {
                let transfer = self.transfer(chunk, from, copies, holders);
                self.fetch(task_id, transfer).await;
            }
            Task::Audit { task_id, from, target } => {
                let http = self.transfers.clone();
                let audit = move || audit::audit(&http, from, target);
                let outcome = errand(&self.places.audits, AUDIT_LIMIT, audit, drop).await;
                let outcome = outcome.unwrap_or(AuditOutcome::Failed);
                self.mailbox.send_async(Input::Copy(CopyInput::AuditDone { task_id, outcome })).await;
            }
            Task::Verify(id) => self.verify(id).await,
            Task::Remove(id) => self.remove(id).await,
            Task::SendHints { to, hints } => self.tell(to, hints).await,
            Task::SendAlert { alert, to } => self.alert(alert, to).await,
        }
    }

    async fn probe(&self, task_id: TaskId, address: String, announce: bool) {
        let probe = Probe { address, announce, own_address: self.own_address, http: self.probes.clone() };
        let place = self.places.probes.acquire().await;
        let outcome = smol::unblock(move || probe.perform()).await;
        drop(place);
        self.mailbox.send_async(Input::Member(MemberInput::ProbeDone { task_id, outcome })).await;
    }

    async fn ask(&self, task_id: TaskId, to: SocketAddr, ids: Vec<ChunkId>) {
        let http = self.questions.clone();
        let has = errand(&self.places.asks, ASK_LIMIT, move || ask(&http, to, ids), drop).await.flatten();
        self.mailbox.send_async(Input::Copy(CopyInput::QueryDone { task_id, has })).await;
    }

    fn transfer(&self, chunk: ChunkId, with: SocketAddr, copies: u8, holders: Vec<crate::id::CellId>) -> Transfer {
        let (store, http) = (Arc::clone(&self.copies.store), self.transfers.clone());
        Transfer { store, http, chunk, with, copies, holders }
    }

    async fn send(&self, task_id: TaskId, transfer: Transfer) {
        let (chunk, late) = (transfer.chunk, self.copies.clone());
        let lost = |sent| matches!(sent, SendOutcome::OwnCopyBad | SendOutcome::OwnCopyGone);
        let too_late = move |sent| {
            if lost(sent) {
                late.report_gone(&chunk);
            }
        };
        let sent = errand(&self.places.transfers, TRANSFER_LIMIT, move || transfer.send(), too_late).await;
        let sent = sent.unwrap_or(SendOutcome::Failed);
        self.mailbox.send_async(Input::Copy(CopyInput::SendDone { task_id, outcome: sent })).await;
        if lost(sent) {
            // Once more by its name: the round that wanted it sent may have been given up.
            let copies = self.copies.clone();
            smol::unblock(move || copies.report_gone(&chunk)).await;
        }
    }

    async fn fetch(&self, task_id: TaskId, transfer: Transfer) {
        let (chunk, late) = (transfer.chunk, self.copies.clone());
        let too_late = move |fetched| {
            if fetched == FetchOutcome::Stored {
                late.report_if_present(&chunk);
            }
        };
        let fetched = errand(&self.places.transfers, TRANSFER_LIMIT, move || transfer.fetch(), too_late).await;
        self.mailbox
            .send_async(Input::Copy(CopyInput::FetchDone { task_id, outcome: fetched.unwrap_or(FetchOutcome::Failed) }))
            .await;
    }

    async fn verify(&self, id: ChunkId) {
        let lost = |verified| matches!(verified, VerifyOutcome::Bad | VerifyOutcome::Missing);
        let (store, late) = (Arc::clone(&self.copies.store), self.copies.clone());
        let verify = move || match store.verify(&id) {
            Ok(CopyState::Good) => VerifyOutcome::Good,
            Ok(CopyState::Bad) => VerifyOutcome::Bad,
            Ok(CopyState::Missing) => VerifyOutcome::Missing,
            Err(error) => {
                log::warn!("cannot check the copy of chunk {}: {error}", id.short());
                VerifyOutcome::Unreadable
            }
        };
        let too_late = move |verified| {
            if lost(verified) {
                late.report_gone(&id);
            }
        };
        let verified =
            errand(&self.places.checks, CHECK_LIMIT, verify, too_late).await.unwrap_or(VerifyOutcome::Unreadable);
        self.mailbox.send_async(Input::Copy(CopyInput::VerifyDone { chunk: id, outcome: verified })).await;
        if lost(verified) {
            self.report_if_present(id).await;
        }
    }

    /// After the core was told that a copy is gone, see [`LocalCopies`].
    async fn report_if_present(&self, id: ChunkId) {
        let copies = self.copies.clone();
        smol::unblock(move || copies.report_if_present(&id)).await;
    }

    /// The core has forgotten the copy already. If it cannot be removed it is there all the same.
    async fn remove(&self, id: ChunkId) {
        let copies = self.copies.clone();
        let remove = move || {
            if let Err(error) = copies.store.remove(&id) {
                log::warn!("the copy of chunk {}, one too many, cannot be removed: {error}", id.short());
                copies.report_if_present(&id);
            }
        };
        if errand(&self.places.checks, CHECK_LIMIT, remove, drop).await.is_none() {
            self.report_if_present(id).await;
        }
    }

    async fn tell(&self, to: SocketAddr, hints: Vec<HolderHint>) {
        let http = self.questions.clone();
        let tell = move || {
            let url = format!("http://{to}");
            for body in write_holder_hints(&hints) {
                // A hint: if it does not arrive, the others' own audits find out.
                if let Err(error) = http.send_holder_hints(&url, &body) {
                    return log::debug!("telling where copies are: {error}");
                }
            }
        };
        errand(&self.places.tells, TELL_LIMIT, tell, drop).await;
    }

    /// The part of an alert that goes over HTTP. If too many are under way, the broadcast has to do.
    async fn alert(&self, alert: Alert, to: Vec<SocketAddr>) {
        let Some(place) = self.places.alerts.try_acquire_arc() else { return };
        let http = self.warnings.clone();
        smol::unblock(move || {
            let _place = place;
            let began = Instant::now();
            for door in to {
                if began.elapsed() >= ALERT_LIMIT {
                    return;
                }
                if let Err(error) = http.send_alert(&format!("http://{door}"), &alert) {
                    log::debug!("an alert: {error}");
                }
            }
        })
        .await;
    }
}

/// Asks a cell which of these it has. What it says of others is not listened to.
fn ask(http: &Http, to: SocketAddr, mut ids: Vec<ChunkId>) -> Option<Vec<ChunkId>> {
    ids.sort_unstable();
    let mut has = Vec::new();
    for some in ids.chunks(IDS_AT_ONCE) {
        if let Err(error) = http.have(&format!("http://{to}"), some, &mut |id| has.push(id)) {
            log::debug!("asking who has what: {error}");
            return None;
        }
        // A cell that answers more than it was asked must not fill the memory.
        has.retain(|id| ids.binary_search(id).is_ok());
        has.sort_unstable();
        has.dedup();
    }
    Some(has)
}

/// Does `work` on a thread once there is a place for it; `None` if it has not ended in time. Work that was begun goes on
/// all the same, keeps its place, and hands what came of it to `too_late`.
async fn errand<T: Send + 'static>(
    places: &Arc<Semaphore>,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
    too_late: impl FnOnce(T) + Send + 'static,
) -> Option<T> {
    // Whoever sets it first decides: the end of the work, or the end of the time.
    let decided = Arc::new(AtomicBool::new(false));
    let mut work = Box::pin({
        let (places, decided) = (Arc::clone(places), Arc::clone(&decided));
        async move {
            let place = places.acquire_arc().await;
            let work = move || {
                let _place = place;
                if decided.load(Ordering::SeqCst) {
                    return None;
                }
                let result = work();
                if decided.swap(true, Ordering::SeqCst) {
                    too_late(result);
                    return None;
                }
                Some(result)
            };
            smol::unblock(work).await
        }
    });
    let in_time = future::or(async { Some(work.as_mut().await) }, async {
        Timer::after(limit).await;
        None
    });
    match in_time.await {
        Some(result) => result,
        // It ended at the same moment.
        None if decided.swap(true, Ordering::SeqCst) => work.await,
        None => None,
    }
}

#[cfg(test)]
mod tests;
