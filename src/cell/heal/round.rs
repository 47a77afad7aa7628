//! A healing round: for some chunks it queries the other cells, sends the missing copies, and sends hints to
//! all holders.
//!
//! ```text
//!   querying ── all have answered, or timeout ──▶ plan ──▶ sending ── nothing queued or under way ──▶ end: send hints
//! ```
//!
//! Invariants:
//!
//! - No byte is sent before the plan is made, and the plan counts all copies that are recorded or reported.
//! - The plan does not grow. What is learned later saves a copy or moves it to the next target: a holder returns, a
//!   target refuses.
//! - A copy goes only to a cell that was queried and does not have the chunk. Targets are chosen by rendezvous hashing,
//!   so that two cells that heal a chunk at the same time choose the same targets, and the second finds the copy there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::cell::context::Context;
use crate::cell::heal::backoff::Backoff;
use crate::cell::heal::shortage::{copies_left, own_copy_counts};
use crate::cell::input::{SendOutcome, TaskId};
use crate::cell::output::{Event, Output, Persist, Task};
use crate::cell::placement::{Candidate, order_for_chunk};
use crate::cell::replicas::map::{LocalChunk, ReplicaMap};
use crate::cell::replicas::queries::Queries;
use crate::cell::task_ids::TaskIds;
use crate::cell::token_bucket::TokenBucket;
use crate::id::{CellId, ChunkId, MAX_HOLDERS};
use crate::time::Time;
use crate::wire::holder_hints::HolderHint;

/// Maximum number of copies under way.
const MAX_SENDS: usize = 4;
/// In a colony with up to this many other cells all are queried; in a larger one the known holders and the likeliest
/// targets.
const QUERY_ALL: usize = 64;
/// Likeliest targets to query in a larger colony.
const QUERY_TARGETS: usize = 12;
/// A round continues without the missing answers after this time, in milliseconds.
const ANSWER_TIMEOUT_MS: u64 = 20_000;
/// A round is abandoned after this time, in milliseconds.
const ROUND_TIMEOUT_MS: u64 = 900_000;

#[derive(Debug, Default)]
pub(super) struct Round {
    number: u64,
    started: Time,
    chunks: BTreeMap<ChunkId, ChunkPlan>,
    /// Number of queries without an answer.
    unanswered: usize,
    /// Is the plan made? Later answers change the replica map, but not the plan.
    planned: bool,
    /// One entry for each copy to send.
    queue: VecDeque<ChunkId>,
    under_way: BTreeMap<TaskId, (ChunkId, CellId)>,
    copies_sent: u64,
    bytes_sent: u64,
}

/// What the round knows and does about one chunk.
#[derive(Debug, Default)]
struct ChunkPlan {
    /// Number of cells that reported that they have it.
    present: usize,
    /// Cells that reported that they do not have it.
    absent: Vec<CellId>,
    /// Those of them that it can be sent to, the best first.
    targets: VecDeque<CellId>,
    /// Targets that it is being sent to.
    under_way: Vec<CellId>,
    /// New holders.
    new_holders: Vec<CellId>,
}

impl Round {
    /// A round that starts now, with these queries.
    pub(super) fn new(number: u64, now: Time, queries: &Queries) -> Self {
        let ids: BTreeSet<ChunkId> = queries.values().flatten().copied().collect();
        let chunks = ids.into_iter().map(|id| (id, ChunkPlan::default())).collect();
        Self { number, started: now, chunks, unanswered: queries.len(), ..Self::default() }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Must it be abandoned?
    pub(super) fn is_overdue(&self, now: Time) -> bool {
        now.since_ms(self.started) > ROUND_TIMEOUT_MS
    }

    /// Records the answer of a cell: which of the chunks in its query it has, and which not.
    pub(super) fn query_done(&mut self, context: &Context, cell: CellId, present: &[ChunkId], absent: &[ChunkId]) {
        if self.planned {
            return;
        }
        self.unanswered = self.unanswered.saturating_sub(1);
        for id in present.iter().filter(|_| context.counts_copies_on(&cell)) {
            if let Some(plan) = self.chunks.get_mut(id) {
                plan.present += 1;
            }
        }
        for id in absent {
            if let Some(plan) = self.chunks.get_mut(id) {
                plan.absent.push(cell);
            }
        }
    }

    /// Makes the plan when all cells have answered, and sends the copies that may be sent now. True if the round is
    /// over.
    pub(super) fn advance(
        &mut self,
        context: &Context,
        replicas: &ReplicaMap,
        backoff: &Backoff,
        bucket: &mut TokenBucket,
        task_ids: &mut TaskIds,
        out: &mut Vec<Output>,
    ) -> bool {
        if self.unanswered > 0 && context.now.since_ms(self.started) < ANSWER_TIMEOUT_MS {
            return false;
        }
        if !self.planned {
            self.planned = true;
            self.plan(context, replicas, backoff);
        }
        while self.under_way.len() < MAX_SENDS && !self.queue.is_empty() && bucket.is_open(context.now) {
            let Some(id) = self.queue.pop_front() else { break };
            if let Some(send) = self.send(context, replicas, backoff, id, task_ids) {
                bucket.spend(replicas.len_of(&id));
                out.push(send);
            }
        }
        self.queue.is_empty() && self.under_way.is_empty()
    }

    /// Queues the missing copies.
    fn plan(&mut self, context: &Context, replicas: &ReplicaMap, backoff: &Backoff) {
        for (id, plan) in &mut self.chunks {
            let Some(chunk) = replicas.get(id) else { continue };
            let recorded = usize::from(copies_left(context, replicas, chunk));
            let reported = plan.present + usize::from(own_copy_counts(context, chunk));
            let missing = usize::from(chunk.wanted()).saturating_sub(recorded.max(reported));
            let candidates: Vec<(CellId, Candidate)> = std::mem::take(&mut plan.absent)
                .into_iter()
                .filter(|cell| !backoff.is_paused(context.now, cell))
                .filter_map(|cell| Some((cell, context.candidate(&cell, chunk.len())?)))
                .collect();
            plan.targets = order_for_chunk(id, &candidates).into();
            self.queue.extend(std::iter::repeat_n(*id, missing.min(plan.targets.len())));
        }
    }

    /// Sends the next copy of this chunk; `None` if it is no longer missing, or has no target.
    fn send(
        &mut self,
        context: &Context,
        replicas: &ReplicaMap,
        backoff: &Backoff,
        id: ChunkId,
        task_ids: &mut TaskIds,
    ) -> Option<Output> {
        let (plan, chunk) = (self.chunks.get_mut(&id)?, replicas.get(&id)?);
        // Holders may have returned since the plan was made.
        let copies = usize::from(copies_left(context, replicas, chunk)) + plan.under_way.len();
        if copies >= usize::from(chunk.wanted()) {
            return None;
        }
        let target = plan.next_target(context, backoff, chunk)?;
        let to = context.address_of(&target)?;
        let mut holders: Vec<CellId> = replicas
            .holders_of(chunk)
            .filter(|cell| context.counts_copies_on(cell))
            .chain(plan.under_way.iter().copied())
            .collect();
        holders.push(target);
        if !context.draining {
            holders.push(context.id);
        }
        holders.truncate(MAX_HOLDERS);
        plan.under_way.push(target);
        let task_id = task_ids.next();
        self.under_way.insert(task_id, (id, target));
        let (copies, bare) = (chunk.copies(), chunk.is_bare());
        Some(Output::Task(Task::Send { task_id, chunk: id, to, copies, bare, holders }))
    }

    /// Records the outcome of sending a copy. Returns the chunk and the target; `None` if the copy is not of this
    /// round.
    pub(super) fn send_done(
        &mut self,
        replicas: &mut ReplicaMap,
        task_id: TaskId,
        outcome: SendOutcome,
    ) -> Option<(ChunkId, CellId)> {
        let (id, target) = self.under_way.remove(&task_id)?;
        let plan = self.chunks.get_mut(&id)?;
        plan.under_way.retain(|cell| *cell != target);
        match outcome {
            SendOutcome::Stored => {
                replicas.set_holder(&id, target, true);
                plan.new_holders.push(target);
                self.copies_sent += 1;
                self.bytes_sent += replicas.len_of(&id);
            }
            SendOutcome::Refused | SendOutcome::Failed => self.queue.push_back(id),
            SendOutcome::OwnCopyBad | SendOutcome::OwnCopyGone | SendOutcome::OwnCopyUnreadable => {
                self.queue.retain(|queued| *queued != id);
            }
        }
        Some((id, target))
    }

    /// Ends the round: sends all holders hints about the new copies. Returns the chunks of the round, each with the
    /// number of cells that reported that they have it, or have stored it.
    pub(super) fn end(self, context: &Context, replicas: &ReplicaMap, out: &mut Vec<Output>) -> Vec<(ChunkId, usize)> {
        let mut present = Vec::with_capacity(self.chunks.len());
        let mut hints: BTreeMap<CellId, Vec<HolderHint>> = BTreeMap::new();
        for (id, plan) in self.chunks {
            present.push((id, plan.present + plan.new_holders.len()));
            if plan.new_holders.is_empty() {
                continue;
            }
            let mut holders: Vec<CellId> = replicas.holders(&id).collect();
            for cell in &holders {
                // Its copy came with the holders at that time; later ones are unknown to it.
                let others: Vec<CellId> = plan.new_holders.iter().copied().filter(|new| new != cell).collect();
                if !others.is_empty() {
                    hints.entry(*cell).or_default().push(HolderHint { id, holders: others });
                }
            }
            holders.push(context.id);
            holders.sort_unstable();
            out.push(Output::Persist(Persist::Holders { chunk: id, holders }));
        }
        for (cell, hints) in hints {
            if let Some(to) = context.address_of(&cell) {
                out.push(Output::Task(Task::SendHints { to, hints }));
            }
        }
        if self.copies_sent > 0 {
            out.push(Output::Event(Event::HealDone { copies: self.copies_sent, bytes: self.bytes_sent }));
        }
        present
    }
}

impl ChunkPlan {
    /// The best remaining target.
    fn next_target(&mut self, context: &Context, backoff: &Backoff, chunk: &LocalChunk) -> Option<CellId> {
        loop {
            let target = self.targets.pop_front()?;
            if !backoff.is_paused(context.now, &target) && context.candidate(&target, chunk.len()).is_some() {
                return Some(target);
            }
        }
    }
}

/// The queries for a round about these chunks.
pub(super) fn queries(context: &Context, replicas: &ReplicaMap, chunks: &[ChunkId]) -> Queries {
    let reachable: Vec<CellId> = context.reachable().map(|(cell, _)| cell).collect();
    if reachable.len() <= QUERY_ALL {
        return if chunks.is_empty() {
            Queries::new()
        } else {
            reachable.into_iter().map(|cell| (cell, chunks.to_vec())).collect()
        };
    }
    let mut queries = Queries::new();
    for id in chunks {
        let Some(chunk) = replicas.get(id) else { continue };
        let known: BTreeSet<CellId> =
            replicas.holders_of(chunk).filter(|cell| context.address_of(cell).is_some()).collect();
        // If no other holder is known, the holders were forgotten and can be anywhere.
        let cells: BTreeSet<CellId> = if known.is_empty() {
            reachable.iter().copied().collect()
        } else {
            let others = reachable.iter().filter(|cell| !known.contains(cell));
            let candidates: Vec<_> =
                others.filter_map(|cell| Some((*cell, context.candidate(cell, chunk.len())?))).collect();
            order_for_chunk(id, &candidates).into_iter().take(QUERY_TARGETS).chain(known.iter().copied()).collect()
        };
        for cell in cells {
            queries.entry(cell).or_default().push(*id);
        }
    }
    queries
}
