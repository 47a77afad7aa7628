//! Holder queries: they keep the holders in the replica map correct by asking the cells themselves.
//!
//! The holders of every chunk are queried once per `belief_audit_ms`, a slice of the chunks at a time. A cell that
//! returns from the dead is queried about the chunks that it should hold, and a hint from another cell is checked by a
//! query before it is believed. An answer changes the map; a missing answer changes nothing, because silence is judged
//! elsewhere ([`crate::cell::membership`]).

use std::collections::{BTreeMap, BTreeSet};

use crate::cell::context::Context;
use crate::cell::input::{QueryOutcome, TaskId};
use crate::cell::output::{Output, Task};
use crate::cell::replicas::map::ReplicaMap;
use crate::cell::task_ids::TaskIds;
use crate::id::{CellId, ChunkId};
use crate::time::Time;
use crate::wire::holder_hints::{HolderHint, MAX_HOLDER_HINTS};
use crate::wire::id_lists::MAX_HAVE_IDS;

/// Chunks in one slice.
const SLICE: usize = 2000;
/// Maximum number of queries under way because of hints. Hints of an attacker must not cause queries without end; what
/// is skipped, a later slice finds.
const MAX_HINT_QUERIES: usize = 64;
/// Minimum interval between two queries of a cell because it returned, in milliseconds.
const RETURN_INTERVAL_MS: u64 = 60_000;

/// The queries to make: which cells, and about which chunks.
pub(in crate::cell) type Queries = BTreeMap<CellId, Vec<ChunkId>>;

/// Why a cell is queried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// For the healing round with this number.
    HealRound(u64),
    /// The cell is a holder, and its turn has come or it has returned.
    Check,
    Hint,
}

#[derive(Debug)]
struct Query {
    cell: CellId,
    chunks: Vec<ChunkId>,
    reason: Reason,
}

/// The result of a query.
#[derive(Debug)]
pub(in crate::cell) struct QueryResult {
    /// The cell that was queried.
    pub(in crate::cell) cell: CellId,
    /// Chunks for which the query changed the map.
    pub(in crate::cell) changed: Vec<ChunkId>,
    /// Chunks of the query that the cell has.
    pub(in crate::cell) present: Vec<ChunkId>,
    /// Chunks of the query that the cell does not have.
    pub(in crate::cell) absent: Vec<ChunkId>,
    /// The healing round for which it was queried.
    pub(in crate::cell) heal_round: Option<u64>,
    /// Did the cell answer? `None` if it was not asked.
    pub(in crate::cell) answered: Option<bool>,
}

#[derive(Debug, Default)]
pub(in crate::cell) struct HolderQueries {
    under_way: BTreeMap<TaskId, Query>,
    /// The last chunk of the previous slice; `None` before the first chunk.
    cursor: Option<ChunkId>,
    next_slice: Option<Time>,
    /// When each returned cell was last queried for that reason.
    returned: BTreeMap<CellId, Time>,
}

impl HolderQueries {
    /// Makes the queries of the healing round with this number.
    pub(in crate::cell) fn start_for_round(
        &mut self,
        context: &Context,
        round: u64,
        queries: Queries,
        task_ids: &mut TaskIds,
        out: &mut Vec<Output>,
    ) {
        self.start(context, queries, Reason::HealRound(round), task_ids, out);
    }

    /// Queries the holders of the next slice of chunks, if it is due. Returns the pairs of chunk and holder in it whose
    /// holder is no member.
    pub(in crate::cell) fn start_slice(
        &mut self,
        context: &Context,
        replicas: &ReplicaMap,
        task_ids: &mut TaskIds,
        rng: &mut fastrand::Rng,
        out: &mut Vec<Output>,
    ) -> Vec<(ChunkId, CellId)> {
        let mut unknown = Vec::new();
        let now = context.now;
        let period_ms = context.settings.belief_audit_ms.max(1000);
        let slices = replicas.len().div_ceil(SLICE).max(1) as u64;
        let Some(next) = self.next_slice else {
            // Cells that start together must not query together.
            self.next_slice = Some(now.plus_ms(rng.u64(0..=period_ms)));
            return unknown;
        };
        if now < next || replicas.len() == 0 {
            return unknown;
        }
        let pause_ms = period_ms / slices;
        self.next_slice = Some(now.plus_ms(pause_ms - pause_ms / 10 + rng.u64(0..=pause_ms / 5)));
        let mut queries = Queries::new();
        let (mut last, mut count) = (None, 0);
        for (id, chunk) in replicas.after(self.cursor.as_ref(), SLICE) {
            for cell in replicas.holders_of(chunk) {
                if context.address_of(&cell).is_some() {
                    queries.entry(cell).or_default().push(*id);
                } else if context.members.get(&cell).is_none() {
                    unknown.push((*id, cell));
                }
            }
            (last, count) = (Some(*id), count + 1);
        }
        self.cursor = last.filter(|_| count == SLICE);
        self.start(context, queries, Reason::Check, task_ids, out);
        unknown
    }

    /// Queries a cell that has returned about the chunks that it should hold.
    pub(in crate::cell) fn start_for_returned(
        &mut self,
        context: &Context,
        replicas: &ReplicaMap,
        cell: CellId,
        task_ids: &mut TaskIds,
        out: &mut Vec<Output>,
    ) {
        self.returned.retain(|_, then| context.now.since_ms(*then) < RETURN_INTERVAL_MS);
        if self.returned.contains_key(&cell) {
            return;
        }
        self.returned.insert(cell, context.now);
        let shared = replicas.shared_with(&cell);
        if !shared.is_empty() {
            self.start(context, BTreeMap::from([(cell, shared)]), Reason::Check, task_ids, out);
        }
    }

    /// Queries the cells that these hints name.
    pub(in crate::cell) fn start_for_hints(
        &mut self,
        context: &Context,
        replicas: &ReplicaMap,
        hints: &[HolderHint],
        task_ids: &mut TaskIds,
        out: &mut Vec<Output>,
    ) {
        let mut queries: BTreeMap<CellId, BTreeSet<ChunkId>> = BTreeMap::new();
        for HolderHint { id, holders } in hints.iter().take(MAX_HOLDER_HINTS).filter(|hint| replicas.contains(&hint.id))
        {
            for cell in holders.iter().filter(|cell| **cell != context.id && !replicas.is_holder(id, cell)) {
                if context.counts_copies_on(cell) && context.address_of(cell).is_some() {
                    queries.entry(*cell).or_default().insert(*id);
                }
            }
        }
        let hinted = self.under_way.values().filter(|query| query.reason == Reason::Hint);
        let hinted: BTreeSet<CellId> = hinted.map(|query| query.cell).collect();
        let under_way = hinted.len();
        queries.retain(|cell, _| !hinted.contains(cell));
        let queries = queries.into_iter().take(MAX_HINT_QUERIES.saturating_sub(under_way));
        let queries = queries.map(|(cell, chunks)| (cell, chunks.into_iter().collect())).collect();
        self.start(context, queries, Reason::Hint, task_ids, out);
    }

    fn start(
        &mut self,
        context: &Context,
        queries: Queries,
        reason: Reason,
        task_ids: &mut TaskIds,
        out: &mut Vec<Output>,
    ) {
        // First the cells that have answered before: an attacker's cells that hang must not delay them.
        let (first, last): (Vec<_>, Vec<_>) =
            queries.into_iter().partition(|(cell, _)| context.responsiveness.answered_last(cell));
        for (cell, mut chunks) in first.into_iter().chain(last) {
            let Some(to) = context.address_of(&cell) else { continue };
            chunks.truncate(MAX_HAVE_IDS);
            let task_id = task_ids.next();
            out.push(Output::Task(Task::QueryHave { task_id, to, chunks: chunks.clone() }));
            self.under_way.insert(task_id, Query { cell, chunks, reason });
        }
    }

    /// Handles the end of a query. Returns `None` if there is no such query.
    pub(in crate::cell) fn query_done(
        &mut self,
        replicas: &mut ReplicaMap,
        task_id: TaskId,
        outcome: &QueryOutcome,
    ) -> Option<QueryResult> {
        let Query { cell, chunks, reason } = self.under_way.remove(&task_id)?;
        let heal_round = match reason {
            Reason::HealRound(number) => Some(number),
            Reason::Check | Reason::Hint => None,
        };
        let (changed, present, absent) = (Vec::new(), Vec::new(), Vec::new());
        let mut result = QueryResult { cell, changed, present, absent, heal_round, answered: Some(true) };
        let has = match outcome {
            QueryOutcome::Answered(has) => has,
            QueryOutcome::Unanswered => return Some(QueryResult { answered: Some(false), ..result }),
            QueryOutcome::NotAsked => return Some(QueryResult { answered: None, ..result }),
        };
        let has: BTreeSet<&ChunkId> = has.iter().collect();
        for id in chunks {
            let holds = has.contains(&id);
            if holds {
                result.present.push(id);
            } else {
                result.absent.push(id);
            }
            if replicas.set_holder(&id, cell, holds) {
                result.changed.push(id);
            }
        }
        Some(result)
    }
}
