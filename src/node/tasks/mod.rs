//! Tasks: what the core wants done on other cells and on the disk, run on threads that may block.
//!
//! Each kind of task has its own slots, so that the queries of a large colony do not delay a transfer, nor an audit a
//! query. The sum of the slots is the maximum number of threads for tasks. Each kind has a timeout, which includes the
//! wait for a slot; at the timeout the core receives a failure as its outcome. A task that ends later still reports
//! what must not be lost: a copy that is in the store now, or is no longer.

// Reads the clock: alerts end after a time.
#![allow(clippy::disallowed_methods)]

mod audit;
mod probe;
mod query;
mod slots;
mod transfer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cell::{
    AuditOutcome, AuditTarget, CopyInput, FetchOutcome, Input, MemberInput, QueryOutcome, SendOutcome, SharedOutcome,
    Task, TaskId, VerifyOutcome,
};
use crate::id::{CellId, ChunkId};
use crate::net::client::{Http, Timeouts};
use crate::node::local_copies::LocalCopies;
use crate::node::mailbox::Mailbox;
use crate::node::tasks::probe::Probe;
use crate::node::tasks::slots::Slots;
use crate::node::tasks::transfer::Transfer;
use crate::store::Store;
use crate::wire::datagram::Alert;
use crate::wire::holder_hints::{HolderHint, write_holder_hints};
use crate::wire::shared_chunks::SharedQuery;

/// Slots of each kind of task.
const PROBES: usize = 16;
const QUERIES: usize = 8;
const TRANSFERS: usize = 4;
const AUDITS: usize = 2;
/// Verifications and removals of local copies.
const CHECKS: usize = 2;
const HINTS: usize = 2;
const ALERTS: usize = 2;

/// Timeout of each kind of task. It is longer than the requests of the task can take, so it ends only tasks that wait
/// for a hung disk or for a slot.
const QUERY_TIMEOUT: Duration = Duration::from_mins(2);
const TRANSFER_TIMEOUT: Duration = Duration::from_mins(8);
const AUDIT_TIMEOUT: Duration = Duration::from_mins(8);
const CHECK_TIMEOUT: Duration = Duration::from_mins(5);
const HINT_TIMEOUT: Duration = Duration::from_mins(2);
/// No request of an alert starts after this time; all cells have received the broadcast as well.
const ALERT_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs the tasks of the core, and reports the outcome of each.
pub(super) struct TaskRunner {
    copies: LocalCopies,
    mailbox: Mailbox,
    /// Where other cells reach this one.
    own_address: SocketAddr,
    probe_http: Http,
    query_http: Http,
    transfer_http: Http,
    alert_http: Http,
    probes: Slots,
    queries: Slots,
    transfers: Slots,
    audits: Slots,
    checks: Slots,
    hints: Slots,
    alerts: Slots,
}

impl TaskRunner {
    /// `own_address` is where other cells reach this one.
    pub(super) fn new(store: Arc<dyn Store>, mailbox: Mailbox, own_address: SocketAddr) -> Self {
        Self {
            copies: LocalCopies::new(store, mailbox.clone()),
            mailbox,
            own_address,
            probe_http: Http::new(Timeouts::PROBE, 1, 32),
            query_http: Http::new(Timeouts::QUERY, 1, 32),
            transfer_http: Http::new(Timeouts::TRANSFER, 1, 8),
            alert_http: Http::new(Timeouts::PROBE, 1, 8),
            // A probe does not wait for a disk, and its request has a timeout.
            probes: Slots::new(PROBES, Duration::MAX),
            queries: Slots::new(QUERIES, QUERY_TIMEOUT),
            transfers: Slots::new(TRANSFERS, TRANSFER_TIMEOUT),
            audits: Slots::new(AUDITS, AUDIT_TIMEOUT),
            checks: Slots::new(CHECKS, CHECK_TIMEOUT),
            hints: Slots::new(HINTS, HINT_TIMEOUT),
            alerts: Slots::new(ALERTS, ALERT_TIMEOUT),
        }
    }

    /// The local copies that the tasks work on.
    pub(super) fn copies(&self) -> &LocalCopies {
        &self.copies
    }

    /// Runs a task and reports its outcome.
    pub(super) async fn run(self: Arc<Self>, task: Task) {
        match task {
            Task::Probe { task_id, address, announce } => self.probe(task_id, address, announce).await,
            Task::QueryHave { task_id, to, chunks } => self.query_have(task_id, to, chunks).await,
            Task::QueryShared { task_id, to, query } => self.query_shared(task_id, to, query).await,
            Task::Send { task_id, chunk, to, copies, bare, holders } => {
                self.send(task_id, self.transfer(chunk, to, (copies, bare), holders)).await;
            }
            Task::Fetch { task_id, chunk, from, copies, bare, holders } => {
                self.fetch(task_id, self.transfer(chunk, from, (copies, bare), holders)).await;
            }
            Task::Audit { task_id, from, target } => self.audit(task_id, from, target).await,
            Task::Verify(id) => self.verify(id, false).await,
            Task::VerifyFinally(id) => self.verify(id, true).await,
            Task::Remove(id) => self.remove(id).await,
            Task::SendHints { to, hints } => self.send_hints(to, hints).await,
            Task::SendAlert { alert, to } => self.send_alert(alert, to).await,
        }
    }

    async fn report(&self, input: impl Into<Input>) {
        self.mailbox.send_async(input.into()).await;
    }

    async fn probe(&self, task_id: TaskId, address: String, announce: bool) {
        let probe = Probe { address, announce, own_address: self.own_address, http: self.probe_http.clone() };
        if let Some(outcome) = self.probes.run(move || probe.perform(), drop).await {
            self.report(MemberInput::ProbeDone { task_id, outcome }).await;
        }
    }

    async fn query_have(&self, task_id: TaskId, to: SocketAddr, chunks: Vec<ChunkId>) {
        let http = self.query_http.clone();
        // A cell that was not asked, because the queries before this one took too long, has not failed to answer.
        let is_asked = Arc::new(AtomicBool::new(false));
        let query = {
            let is_asked = Arc::clone(&is_asked);
            move || {
                is_asked.store(true, Ordering::Relaxed);
                query::query_have(&http, to, chunks)
            }
        };
        let outcome = match self.queries.run(query, drop).await.flatten() {
            Some(has) => QueryOutcome::Answered(has),
            None if is_asked.load(Ordering::Relaxed) => QueryOutcome::Unanswered,
            None => QueryOutcome::NotAsked,
        };
        self.report(CopyInput::QueryDone { task_id, outcome }).await;
    }

    async fn query_shared(&self, task_id: TaskId, to: SocketAddr, query: SharedQuery) {
        let http = self.query_http.clone();
        let outcome = self.queries.run(move || query::query_shared(&http, to, &query), drop).await;
        self.report(CopyInput::SharedDone { task_id, outcome: outcome.unwrap_or(SharedOutcome::Unanswered) }).await;
    }

    /// `bare`: whether `copies` is a guess.
    fn transfer(&self, chunk: ChunkId, peer: SocketAddr, (copies, bare): (u8, bool), holders: Vec<CellId>) -> Transfer {
        let (local_copies, http) = (self.copies.clone(), self.transfer_http.clone());
        Transfer { local_copies, http, chunk, peer, copies, bare, holders }
    }

    async fn send(&self, task_id: TaskId, transfer: Transfer) {
        let (chunk, late_copies) = (transfer.chunk, self.copies.clone());
        let is_lost = |outcome| matches!(outcome, SendOutcome::OwnCopyBad | SendOutcome::OwnCopyGone);
        let too_late = move |outcome| {
            if is_lost(outcome) {
                late_copies.report_gone(&chunk);
            }
        };
        let outcome = self.transfers.run(move || transfer.send(), too_late).await.unwrap_or(SendOutcome::Failed);
        self.report(CopyInput::SendDone { task_id, outcome }).await;
        if is_lost(outcome) {
            // Reported by its id too: the core may have abandoned the healing round of this task.
            let copies = self.copies.clone();
            smol::unblock(move || copies.report_gone(&chunk)).await;
        }
    }

    async fn fetch(&self, task_id: TaskId, transfer: Transfer) {
        let (chunk, late_copies) = (transfer.chunk, self.copies.clone());
        let too_late = move |outcome| {
            if outcome == FetchOutcome::Stored {
                late_copies.report_if_present(&chunk);
            }
        };
        let outcome = self.transfers.run(move || transfer.fetch(), too_late).await.unwrap_or(FetchOutcome::Failed);
        self.report(CopyInput::FetchDone { task_id, outcome }).await;
    }

    async fn audit(&self, task_id: TaskId, from: SocketAddr, target: AuditTarget) {
        let http = self.transfer_http.clone();
        let outcome = self.audits.run(move || audit::audit(&http, from, target), drop).await;
        self.report(CopyInput::AuditDone { task_id, outcome: outcome.unwrap_or(AuditOutcome::Failed) }).await;
    }

    async fn verify(&self, id: ChunkId, finally: bool) {
        let is_lost = |outcome| matches!(outcome, VerifyOutcome::Bad | VerifyOutcome::Missing);
        let (copies, late_copies) = (self.copies.clone(), self.copies.clone());
        let verify = move || copies.verify_for_core(&id, finally);
        let too_late = move |outcome| {
            if is_lost(outcome) {
                late_copies.report_gone(&id);
            } else if outcome == VerifyOutcome::Unreadable {
                late_copies.report_read_error(&id);
            }
        };
        let outcome = self.checks.run(verify, too_late).await.unwrap_or(VerifyOutcome::Failed);
        self.report(CopyInput::VerifyDone { chunk: id, outcome }).await;
        if is_lost(outcome) {
            self.report_if_present(id).await;
        }
    }

    /// To be called after a report that a copy is gone, see [`LocalCopies`].
    async fn report_if_present(&self, id: ChunkId) {
        let copies = self.copies.clone();
        smol::unblock(move || copies.report_if_present(&id)).await;
    }

    /// The core does not count the copy any more. If it cannot be removed, it is reported again.
    async fn remove(&self, id: ChunkId) {
        let copies = self.copies.clone();
        let remove = move || {
            if let Err(error) = copies.store.remove(&id) {
                log::warn!("cannot remove the extra copy of chunk {}: {error}", id.short());
                copies.report_if_present(&id);
            }
        };
        if self.checks.run(remove, drop).await.is_none() {
            self.report_if_present(id).await;
        }
    }

    async fn send_hints(&self, to: SocketAddr, hints: Vec<HolderHint>) {
        let http = self.query_http.clone();
        let send = move || {
            let url = format!("http://{to}");
            for body in write_holder_hints(&hints) {
                // Hints may be lost: the other cell's own queries find the copies later.
                if let Err(error) = http.send_holder_hints(&url, &body) {
                    return log::debug!("cannot send hints to {to}: {error}");
                }
            }
        };
        self.hints.run(send, drop).await;
    }

    /// Sends an alert by HTTP. Without a free slot it is dropped, and the broadcast must be enough.
    async fn send_alert(&self, alert: Alert, to: Vec<SocketAddr>) {
        let http = self.alert_http.clone();
        let send = move || {
            let started = Instant::now();
            for address in to {
                if started.elapsed() >= ALERT_TIMEOUT {
                    return;
                }
                if let Err(error) = http.send_alert(&format!("http://{address}"), &alert) {
                    log::debug!("cannot send an alert to {address}: {error}");
                }
            }
        };
        self.alerts.try_run(send).await;
    }
}

#[cfg(test)]
mod tests;
