//! Looking at the copies of others: a guard's random audits, every other cell's audits of its own chunks' holders, the
//! check of every alert, and proof before an extra copy is given up.
//!
//! ```text
//!  guard:  random cell, random chunk ─▶ fetch, hash ── bad ─▶ strike, ALERT to all
//!  others: own random chunk, random holder of it ─▶ fetch, hash ─┬─ bad ─▶ strike, ALERT to all
//!          (at an eighth of a guard's rate)                      └─ missing, twice ─▶ it is no holder any more
//!  alert:  about our own copy ─▶ re-hash it          about a copy of what we hold too ─▶ fetch it, hash ── bad ─▶ strike
//!  extra:  store is full ─▶ those who rank before us, one after the other: fetch, hash ── all good ─▶ remove ours
//! ```
//!
//! An alert is a hint to look, never an order: whoever forges one costs us a fetch, and moves nothing. Only what we
//! hashed ourselves counts.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use crate::cell::context::{TaskIds, View};
use crate::cell::integrity::co_holders::{Choice, Shared};
use crate::cell::replicas::map::Holdings;
use crate::cell::token_bucket::Bucket;
use crate::cell::{AuditOutcome, AuditTarget, Output, Task, TaskId, rank};
use crate::id::CellId;
use crate::id::ChunkId;
use crate::time::Time;
use crate::wire::datagram::Alert;

/// A small chunk costs an audit as much as one of so many bytes: a colony of tiny chunks shall not be asked without end.
const MIN_COST_BYTES: u64 = 64 << 10;
/// The rate at which alerts are checked where guards are switched off, in bytes a second.
const MIN_CHECK_RATE: u64 = 1 << 20;
/// Checks of alerts that wait, at the most.
const MAX_CHECKS: usize = 256;
/// The same chunk on the same cell is looked at, and told of, once in so long, in milliseconds.
const AGAIN_MS: u64 = 600_000;
/// Pairs of cell and chunk that are remembered for that.
const MAX_RECENT: usize = 2048;
/// After a cell had nothing to audit, or did not answer, the next is tried after so long, in milliseconds.
pub(super) const PAUSE_MS: u64 = 2_000;
/// An extra copy is looked for so often while the store is full, in milliseconds.
const EXTRA_EVERY_MS: u64 = 5_000;
/// Chunks looked through for one that has too many copies, at a time.
const EXTRA_LOOK: usize = 1000;

/// Why a copy of another cell is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Guard,
    /// It is a copy of a chunk that we have too.
    Shared,
    /// It is such a copy, and was missing when it was audited before.
    Missed,
    Alert,
    Doubt,
    Extra,
}

/// What an audit showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cell) enum Finding {
    /// A bad copy, seen by ourselves. With the alert, if others are to be told.
    Bad {
        /// Whose.
        culprit: CellId,
        /// Which chunk.
        chunk: ChunkId,
        /// What its bytes hash to, if it was found by our own audit and others should look too.
        tell: Option<ChunkId>,
    },
    /// An alert that is not so.
    False(CellId, ChunkId),
    /// The cell does not have a chunk that it was believed to have, or said that it has.
    Absent(CellId, ChunkId),
    /// The cell said again that it has a chunk that it did not have before, and does not have it.
    Lie(CellId, ChunkId),
    /// A copy that was in doubt is good.
    Proved(CellId, ChunkId),
    /// Our copy of this chunk is one too many, and all who should have one have proved it.
    Extra(ChunkId),
}

/// Proofs that are gathered before an extra copy is given up.
#[derive(Debug)]
struct Extra {
    chunk: ChunkId,
    /// Those who have not proved their copy yet.
    left: Vec<CellId>,
}

#[derive(Debug)]
pub(in crate::cell) struct Audits {
    under_way: BTreeMap<TaskId, (CellId, Option<ChunkId>, Why)>,
    checks: VecDeque<(CellId, ChunkId, Why)>,
    recent: BTreeMap<(CellId, ChunkId), Time>,
    bucket: Bucket,
    shared: Shared,
    next_random: Time,
    next_extra: Time,
    extra_cursor: Option<ChunkId>,
    extra: Option<Extra>,
    pub(in crate::cell) done: u64,
    pub(in crate::cell) bad: u64,
    pub(in crate::cell) alerts: u64,
    pub(in crate::cell) alerts_false: u64,
}

impl Audits {
    pub(in crate::cell) fn new(rate: u64) -> Self {
        Self {
            under_way: BTreeMap::new(),
            checks: VecDeque::new(),
            recent: BTreeMap::new(),
            bucket: Bucket::new(rate.max(MIN_CHECK_RATE)),
            shared: Shared::new(rate),
            next_random: Time::default(),
            next_extra: Time::default(),
            extra_cursor: None,
            extra: None,
            done: 0,
            bad: 0,
            alerts: 0,
            alerts_false: 0,
        }
    }

    /// Is it the first time in a while that we hear of this?
    fn is_news(&mut self, now: Time, cell: CellId, chunk: ChunkId) -> bool {
        self.recent.retain(|_, then| now.since_ms(*then) < AGAIN_MS);
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

    /// Somebody says that a cell has a bad copy.
    pub(in crate::cell) fn alerted(&mut self, view: &View, holdings: &Holdings, alert: &Alert, out: &mut Vec<Output>) {
        self.alerts += 1;
        let Alert { culprit, chunk, .. } = *alert;
        let is_there = culprit == view.id || view.door(&culprit).is_some();
        if alert.node_id == view.id || !is_there || !holdings.has(&chunk) || self.checks.len() >= MAX_CHECKS {
            return;
        }
        if !self.is_news(view.now, culprit, chunk) {
            return;
        }
        if culprit == view.id {
            out.push(Output::Task(Task::Verify(chunk)));
        } else {
            self.checks.push_back((culprit, chunk, Why::Alert));
        }
    }

    /// A cell says that it has a chunk for which its word is not enough any more: its copy is looked at.
    pub(in crate::cell) fn doubt(&mut self, cell: CellId, chunk: ChunkId) {
        let doubt = (cell, chunk, Why::Doubt);
        if self.checks.len() < MAX_CHECKS && !self.checks.contains(&doubt) {
            self.checks.push_back(doubt);
        }
    }

    /// Our own copy was looked at because of an alert, or for another reason; was there an alert, and is it not so?
    pub(in crate::cell) fn own_copy_is_good(&mut self, own: CellId, chunk: ChunkId) -> bool {
        let alerted = self.recent.contains_key(&(own, chunk));
        self.alerts_false += u64::from(alerted);
        alerted
    }

    fn is_busy(&self, why: Why) -> bool {
        self.under_way.values().any(|(_, _, other)| *other == why)
    }

    /// Looks at what may be looked at now: one copy at a time for each reason.
    pub(in crate::cell) fn advance(
        &mut self,
        view: &View,
        holdings: &Holdings,
        is_guard: bool,
        task_ids: &mut TaskIds,
        rng: &mut fastrand::Rng,
        out: &mut Vec<Output>,
    ) {
        let is_busy = self.is_busy(Why::Alert) || self.is_busy(Why::Doubt);
        if !is_busy && !self.checks.is_empty() && self.bucket.is_open(view.now) {
            while let Some((cell, chunk, why)) = self.checks.pop_front() {
                if let Some(door) = view.door(&cell) {
                    self.look(cell, door, AuditTarget::Chunk(chunk), why, task_ids, out);
                    break;
                }
            }
        }
        if is_guard
            && view.settings.audit_rate > 0
            && view.now >= self.next_random
            && !self.is_busy(Why::Guard)
            && self.bucket.is_open(view.now)
        {
            let others: Vec<(CellId, SocketAddr)> = view
                .members
                .iter()
                .filter(|(_, m)| m.is_active() && m.chunks() != Some(0))
                .map(|(id, m)| (id, m.door))
                .collect();
            if let Some((cell, door)) = rng.choice(others) {
                let mut anywhere = [0; 32];
                rng.fill(&mut anywhere);
                self.look(cell, door, AuditTarget::After(ChunkId::from_bytes(anywhere)), Why::Guard, task_ids, out);
            }
        }
        if !is_guard
            && !self.is_busy(Why::Shared)
            && !self.is_busy(Why::Missed)
            && let Some(Choice { cell, door, chunk, missed }) = self.shared.choose(view, holdings, rng)
        {
            let why = if missed { Why::Missed } else { Why::Shared };
            self.look(cell, door, AuditTarget::Chunk(chunk), why, task_ids, out);
        }
        self.advance_extra(view, holdings, task_ids, out);
    }

    fn look(
        &mut self,
        cell: CellId,
        of: SocketAddr,
        pick: AuditTarget,
        why: Why,
        task_ids: &mut TaskIds,
        out: &mut Vec<Output>,
    ) {
        let chunk = match pick {
            AuditTarget::Chunk(chunk) => Some(chunk),
            AuditTarget::After(_) => None,
        };
        let task_id = task_ids.next();
        self.under_way.insert(task_id, (cell, chunk, why));
        out.push(Output::Task(Task::Audit { task_id, from: of, target: pick }));
    }

    /// Takes in what an audit showed.
    pub(in crate::cell) fn audited(&mut self, now: Time, task_id: TaskId, how: AuditOutcome) -> Option<Finding> {
        let (cell, asked, why) = self.under_way.remove(&task_id)?;
        let is_shared = matches!(why, Why::Shared | Why::Missed);
        if let AuditOutcome::Good { len, .. } | AuditOutcome::Bad { len, .. } = how {
            self.done += 1;
            let cost = u64::from(len).max(MIN_COST_BYTES);
            if is_shared {
                self.shared.spend(cost);
            } else {
                self.bucket.spend(cost);
            }
        } else if is_shared {
            self.shared.pause(now);
        } else if why == Why::Guard {
            self.next_random = now.plus_ms(PAUSE_MS);
        }
        match (how, why) {
            (AuditOutcome::Bad { chunk, found, .. }, _) => {
                self.bad += 1;
                self.extra = self.extra.take().filter(|_| why != Why::Extra);
                let is_news = self.is_news(now, cell, chunk);
                if !is_news {
                    // A cell with one bad chunk that it does not mend is not looked at without end.
                    self.next_random = now.plus_ms(PAUSE_MS);
                }
                let tell = (why != Why::Alert && is_news).then_some(found);
                Some(Finding::Bad { culprit: cell, chunk, tell })
            }
            (AuditOutcome::Good { chunk, .. }, Why::Alert) => {
                self.alerts_false += 1;
                Some(Finding::False(cell, chunk))
            }
            (AuditOutcome::Good { chunk, .. }, Why::Doubt) => Some(Finding::Proved(cell, chunk)),
            (AuditOutcome::Good { chunk, .. }, Why::Guard | Why::Shared | Why::Missed) => {
                // If it goes bad again, that is news.
                self.recent.remove(&(cell, chunk));
                None
            }
            (AuditOutcome::Good { .. }, Why::Extra) => {
                let extra = self.extra.as_mut()?;
                extra.left.retain(|holder| *holder != cell);
                let chunk = extra.chunk;
                if !extra.left.is_empty() {
                    return None;
                }
                self.extra = None;
                self.next_extra = now;
                Some(Finding::Extra(chunk))
            }
            (AuditOutcome::Missing, Why::Doubt) => Some(Finding::Lie(cell, asked?)),
            (AuditOutcome::Missing, Why::Shared) => {
                self.shared.missed(now, cell, asked?);
                None
            }
            (AuditOutcome::Missing, Why::Extra | Why::Alert | Why::Missed) => {
                self.extra = self.extra.take().filter(|_| why != Why::Extra);
                Some(Finding::Absent(cell, asked?))
            }
            (AuditOutcome::Failed, Why::Extra) => {
                self.extra = None;
                None
            }
            _ => None,
        }
    }

    /// The store is full: can a copy of ours be given up?
    ///
    /// Only if as many cells as the chunk wants copies rank before us for it, and each has just proved its own. Those
    /// that rank first can then never find enough before them, so however many cells try this at once, and whatever
    /// they believe, as many copies as are wanted stay.
    pub(in crate::cell) fn look_for_extra(&mut self, view: &View, holdings: &Holdings) {
        if self.extra.is_some() || view.now < self.next_extra {
            return;
        }
        self.next_extra = view.now.plus_ms(EXTRA_EVERY_MS);
        let (mut last, mut count) = (None, 0);
        for (id, holding) in holdings.after(self.extra_cursor.as_ref(), EXTRA_LOOK) {
            (last, count) = (Some(*id), count + 1);
            let mine = rank::draw(id, &view.id);
            let mut before: Vec<(u64, CellId)> = holdings
                .names_of(holding)
                .filter(|cell| view.counts(cell) && view.door(cell).is_some())
                .map(|cell| (rank::draw(id, &cell), cell))
                .filter(|(drawn, _)| *drawn > mine)
                .collect();
            if before.len() >= usize::from(holding.copies) {
                before.sort_unstable();
                let first = before.into_iter().rev().take(holding.copies.into());
                self.extra = Some(Extra { chunk: *id, left: first.map(|(_, cell)| cell).collect() });
                break;
            }
        }
        self.extra_cursor = if self.extra.is_some() || count == EXTRA_LOOK { last } else { None };
    }

    fn advance_extra(&mut self, view: &View, holdings: &Holdings, task_ids: &mut TaskIds, out: &mut Vec<Output>) {
        if self.is_busy(Why::Extra) || !self.bucket.is_open(view.now) {
            return;
        }
        let Some(extra) = &self.extra else { return };
        let next = extra.left.first().copied().filter(|_| holdings.has(&extra.chunk));
        match next.and_then(|cell| Some((cell, view.door(&cell)?))) {
            Some((cell, door)) => self.look(cell, door, AuditTarget::Chunk(extra.chunk), Why::Extra, task_ids, out),
            None => self.extra = None,
        }
    }
}
