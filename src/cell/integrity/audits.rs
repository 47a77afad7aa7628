//! Audits: a copy of another cell is fetched and hashed.
//!
//! ```text
//!  guard:        random cell, random chunk ─▶ fetch, hash ── bad ─▶ strike, alert to all
//!  other cells:  random local chunk, random holder ─▶ fetch, hash ─┬─ bad ──▶ strike, alert to all
//!                (at an eighth of a guard's rate)                  └─ missing, twice ─▶ no holder any more
//!  alert:        about a local copy ─▶ hash it       about a copy of a local chunk ─▶ fetch, hash ── bad ─▶ strike
//!  extra copy:   the store is full ─▶ fetch, hash copies that rank before the local one ── all good ─▶ remove it
//! ```
//!
//! An alert is a hint and not an order: a forged one costs a fetch and moves nothing. Only a copy that this cell has
//! hashed itself counts.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use crate::cell::context::Context;
use crate::cell::input::{AuditOutcome, AuditTarget, TaskId};
use crate::cell::integrity::co_holders::{CoHolderAudits, CoHolderCopy, PAUSE_MS};
use crate::cell::integrity::extra_copies::ExtraCopies;
use crate::cell::output::{Output, Task};
use crate::cell::replicas::map::ReplicaMap;
use crate::cell::task_ids::TaskIds;
use crate::cell::token_bucket::TokenBucket;
use crate::id::{CellId, ChunkId};
use crate::time::Time;
use crate::wire::beacon::Role;
use crate::wire::datagram::Alert;

/// Minimum cost of an audit, in bytes. Without it, a colony of tiny chunks would be audited without pause.
const MIN_COST_BYTES: u64 = 64 << 10;
/// Minimum rate at which alerts are checked, in bytes per second, even if `audit_rate` is 0.
const MIN_CHECK_RATE: u64 = 1 << 20;
/// Maximum number of waiting checks.
const MAX_CHECKS: usize = 256;
/// Minimum interval between two checks, or two alerts, about one pair of cell and chunk, in milliseconds.
const REPEAT_MS: u64 = 600_000;
/// Maximum number of pairs remembered for that.
const MAX_RECENT: usize = 2048;

/// Why a copy is audited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// This cell is a guard.
    Guard,
    /// It is another copy of a local chunk.
    CoHolder,
    /// The same, and it was missing in the audit before.
    CoHolderMissing,
    /// Another cell sent an alert about it.
    Alert,
    /// The cell claims to have it, and its word alone is not enough.
    Doubt,
    /// Proof before the local copy is removed as an extra one.
    ExtraCopy,
}

/// What an audit has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cell) enum Finding {
    /// The copy is bad.
    Bad {
        /// The cell that sent it.
        culprit: CellId,
        /// The chunk.
        chunk: ChunkId,
        /// The hash of its bytes, if an alert must be sent to the other cells.
        alert: Option<ChunkId>,
    },
    /// The alert about this copy is wrong.
    FalseAlert(CellId, ChunkId),
    /// A holder does not have the chunk.
    Missing(CellId, ChunkId),
    /// The cell claimed a second time that it has the chunk, and does not have it.
    FalseClaim(CellId, ChunkId),
    /// A doubted copy is good.
    Proved(CellId, ChunkId),
    /// The local copy of this chunk is an extra one, and all cells that must have one have proved theirs.
    ExtraCopy(ChunkId),
}

/// An audit under way.
#[derive(Debug, Clone, Copy)]
struct Audit {
    cell: CellId,
    /// `None` if the other cell chooses the chunk.
    chunk: Option<ChunkId>,
    reason: Reason,
}

#[derive(Debug)]
pub(in crate::cell) struct Audits {
    under_way: BTreeMap<TaskId, Audit>,
    /// Copies to audit because of alerts and doubts.
    checks: VecDeque<(CellId, ChunkId, Reason)>,
    /// When a pair of cell and chunk was last checked or reported.
    recent: BTreeMap<(CellId, ChunkId), Time>,
    bucket: TokenBucket,
    co_holders: CoHolderAudits,
    next_guard_audit: Time,
    extra_copies: ExtraCopies,
    /// Copies that were fetched and hashed.
    pub(in crate::cell) done: u64,
    /// Of those, the bad ones.
    pub(in crate::cell) bad: u64,
    /// Alerts received.
    pub(in crate::cell) alerts: u64,
    /// Alerts that were checked and are wrong.
    pub(in crate::cell) alerts_false: u64,
}

impl Audits {
    /// `rate` is that of a guard, in bytes per second.
    pub(in crate::cell) fn new(rate: u64) -> Self {
        Self {
            under_way: BTreeMap::new(),
            checks: VecDeque::new(),
            recent: BTreeMap::new(),
            bucket: TokenBucket::new(rate.max(MIN_CHECK_RATE)),
            co_holders: CoHolderAudits::new(rate),
            next_guard_audit: Time::default(),
            extra_copies: ExtraCopies::default(),
            done: 0,
            bad: 0,
            alerts: 0,
            alerts_false: 0,
        }
    }

    /// Records a pair of cell and chunk. False if it was recorded within [`REPEAT_MS`].
    fn is_new(&mut self, now: Time, cell: CellId, chunk: ChunkId) -> bool {
        self.recent.retain(|_, then| now.since_ms(*then) < REPEAT_MS);
        if self.recent.contains_key(&(cell, chunk)) {
            return false;
        }
        if self.recent.len() >= MAX_RECENT
            && let Some(oldest) = self.recent.iter().min_by_key(|(_, then)| **then).map(|(pair, _)| *pair)
        {
            self.recent.remove(&oldest);
        }
        self.recent.insert((cell, chunk), now);
        true
    }

    /// Handles an alert: the copy will be checked.
    pub(in crate::cell) fn alert_received(
        &mut self,
        context: &Context,
        replicas: &ReplicaMap,
        alert: &Alert,
        out: &mut Vec<Output>,
    ) {
        self.alerts += 1;
        let Alert { culprit, chunk, .. } = *alert;
        let may_respond = culprit == context.id || context.address_of(&culprit).is_some();
        let is_own = alert.node_id == context.id;
        if is_own || !may_respond || !replicas.contains(&chunk) || self.checks.len() >= MAX_CHECKS {
            return;
        }
        if !self.is_new(context.now, culprit, chunk) {
            return;
        }
        if culprit == context.id {
            out.push(Output::Task(Task::Verify(chunk)));
        } else {
            self.checks.push_back((culprit, chunk, Reason::Alert));
        }
    }

    /// A cell claims to have a chunk, and its word alone is not enough: its copy will be audited.
    pub(in crate::cell) fn check_claim(&mut self, cell: CellId, chunk: ChunkId) {
        let check = (cell, chunk, Reason::Doubt);
        if self.checks.len() < MAX_CHECKS && !self.checks.contains(&check) {
            self.checks.push_back(check);
        }
    }

    /// A local copy was hashed and is good. True if there was an alert about it, which is wrong then.
    pub(in crate::cell) fn own_copy_good(&mut self, own: CellId, chunk: ChunkId) -> bool {
        let alerted = self.recent.contains_key(&(own, chunk));
        self.alerts_false += u64::from(alerted);
        alerted
    }

    fn is_under_way(&self, reason: Reason) -> bool {
        self.under_way.values().any(|audit| audit.reason == reason)
    }

    /// Starts the audits that are due, at most one for each reason at a time.
    pub(in crate::cell) fn advance(
        &mut self,
        context: &Context,
        replicas: &ReplicaMap,
        task_ids: &mut TaskIds,
        rng: &mut fastrand::Rng,
        out: &mut Vec<Output>,
    ) {
        let is_checking = self.is_under_way(Reason::Alert) || self.is_under_way(Reason::Doubt);
        if !is_checking && !self.checks.is_empty() && self.bucket.is_open(context.now) {
            while let Some((cell, chunk, reason)) = self.checks.pop_front() {
                if let Some(from) = context.address_of(&cell) {
                    out.push(self.start(cell, from, AuditTarget::Chunk(chunk), reason, task_ids));
                    break;
                }
            }
        }
        let is_guard = context.role == Role::Guard;
        if is_guard
            && context.settings.audit_rate > 0
            && context.now >= self.next_guard_audit
            && !self.is_under_way(Reason::Guard)
            && self.bucket.is_open(context.now)
        {
            let others: Vec<(CellId, SocketAddr)> = context
                .members
                .iter()
                .filter(|(_, member)| member.is_active() && member.chunks() != Some(0))
                .map(|(id, member)| (id, member.address))
                .collect();
            if let Some((cell, from)) = rng.choice(others) {
                let mut random = [0; 32];
                rng.fill(&mut random);
                let target = AuditTarget::After(ChunkId::from_bytes(random));
                out.push(self.start(cell, from, target, Reason::Guard, task_ids));
            }
        }
        if !is_guard
            && !self.is_under_way(Reason::CoHolder)
            && !self.is_under_way(Reason::CoHolderMissing)
            && let Some(copy) = self.co_holders.choose(context, replicas, rng)
        {
            let CoHolderCopy { cell, address, chunk, was_missing } = copy;
            let reason = if was_missing { Reason::CoHolderMissing } else { Reason::CoHolder };
            out.push(self.start(cell, address, AuditTarget::Chunk(chunk), reason, task_ids));
        }
        if !self.is_under_way(Reason::ExtraCopy)
            && self.bucket.is_open(context.now)
            && let Some((chunk, cell, from)) = self.extra_copies.next_audit(context, replicas)
        {
            out.push(self.start(cell, from, AuditTarget::Chunk(chunk), Reason::ExtraCopy, task_ids));
        }
    }

    fn start(
        &mut self,
        cell: CellId,
        from: SocketAddr,
        target: AuditTarget,
        reason: Reason,
        task_ids: &mut TaskIds,
    ) -> Output {
        let chunk = match target {
            AuditTarget::Chunk(chunk) => Some(chunk),
            AuditTarget::After(_) => None,
        };
        let task_id = task_ids.next();
        self.under_way.insert(task_id, Audit { cell, chunk, reason });
        Output::Task(Task::Audit { task_id, from, target })
    }

    /// Handles the end of an audit.
    pub(in crate::cell) fn audit_done(&mut self, now: Time, task_id: TaskId, outcome: AuditOutcome) -> Option<Finding> {
        let Audit { cell, chunk: asked, reason } = self.under_way.remove(&task_id)?;
        match outcome {
            AuditOutcome::Good { len, .. } | AuditOutcome::Bad { len, .. } => {
                self.done += 1;
                let cost = u64::from(len).max(MIN_COST_BYTES);
                match reason {
                    Reason::CoHolder | Reason::CoHolderMissing => self.co_holders.spend(cost),
                    Reason::Guard | Reason::Alert | Reason::Doubt | Reason::ExtraCopy => self.bucket.spend(cost),
                }
            }
            AuditOutcome::Missing | AuditOutcome::Failed => match reason {
                Reason::CoHolder | Reason::CoHolderMissing => self.co_holders.pause(now),
                Reason::Guard => self.next_guard_audit = now.plus_ms(PAUSE_MS),
                Reason::Alert | Reason::Doubt | Reason::ExtraCopy => {}
            },
        }
        match outcome {
            AuditOutcome::Good { chunk, .. } => self.good_copy(now, cell, chunk, reason),
            AuditOutcome::Bad { chunk, found, .. } => {
                self.bad += 1;
                if reason == Reason::ExtraCopy {
                    self.extra_copies.cancel();
                }
                let is_new = self.is_new(now, cell, chunk);
                if !is_new {
                    // A cell that does not replace its bad copy must not be audited without pause.
                    self.next_guard_audit = now.plus_ms(PAUSE_MS);
                }
                let alert = (reason != Reason::Alert && is_new).then_some(found);
                Some(Finding::Bad { culprit: cell, chunk, alert })
            }
            AuditOutcome::Missing => self.missing_copy(now, cell, asked, reason),
            AuditOutcome::Failed => {
                if reason == Reason::ExtraCopy {
                    self.extra_copies.cancel();
                }
                None
            }
        }
    }

    fn good_copy(&mut self, now: Time, cell: CellId, chunk: ChunkId, reason: Reason) -> Option<Finding> {
        match reason {
            Reason::Guard | Reason::CoHolder | Reason::CoHolderMissing => {
                // If it becomes bad again, that is new.
                self.recent.remove(&(cell, chunk));
                None
            }
            Reason::Alert => {
                self.alerts_false += 1;
                Some(Finding::FalseAlert(cell, chunk))
            }
            Reason::Doubt => Some(Finding::Proved(cell, chunk)),
            Reason::ExtraCopy => self.extra_copies.proved(now, cell).map(Finding::ExtraCopy),
        }
    }

    fn missing_copy(&mut self, now: Time, cell: CellId, chunk: Option<ChunkId>, reason: Reason) -> Option<Finding> {
        match reason {
            Reason::Guard => None,
            Reason::CoHolder => {
                self.co_holders.missing(now, cell, chunk?);
                None
            }
            Reason::CoHolderMissing | Reason::Alert => Some(Finding::Missing(cell, chunk?)),
            Reason::Doubt => Some(Finding::FalseClaim(cell, chunk?)),
            Reason::ExtraCopy => {
                self.extra_copies.cancel();
                Some(Finding::Missing(cell, chunk?))
            }
        }
    }

    /// The store is full: looks for a local copy that can be removed.
    pub(in crate::cell) fn find_extra_copy(&mut self, context: &Context, replicas: &ReplicaMap) {
        self.extra_copies.find(context, replicas);
    }
}
