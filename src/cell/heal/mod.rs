//! Healing: an under-replicated chunk gets its missing copies.
//!
//! ```text
//!             copies fall             delay by urgency and rank        copies really missing?
//!   healthy ─────────────▶ shortage ──────────────────────────▶ round: query ─────▶ send ─▶ hints to holders
//!      ▲                      │ a holder returns                      │ enough found              │
//!      └──────────────────────┴───────────────────────────────────────┴───────────────────────────┘
//! ```
//!
//! Every holder sees the shortage, and they do not coordinate by messages. The holder that ranks first for the chunk
//! acts first; each of the others waits one step longer, and finds the chunk healed when its turn comes. The replica
//! map alone never moves a byte: it only decides which cells to query.
//!
//! [`Healer`] keeps the shortages and chooses the chunks of the next round. [`shortage`] computes when one is due,
//! [`round`] queries, sends and reports, [`backoff`] excludes targets for a while, [`holdoff`] delays new rounds, and
//! [`brake`] delays shortages when the network may be split.
//!
//! When a shortage is healed:
//!
//! | delay | default | where |
//! |---|---|---|
//! | one silent holder is all that is missing (last value of `heal_delay_ms`) | 120 s | [`shortage`] |
//! | else by copies left: 1, 2, 3, 4 or more (`heal_delay_ms`) | 0, 10, 30, 120 s | [`shortage`] |
//! | for each holder that ranks before this cell (`heal_step_ms`) | 20 s | [`shortage`] |
//! | after a copy has arrived, since its put may still be under way | third value of `heal_delay_ms` | `copies` |
//! | after the own copy has become suspect: most can be read again | last value of `heal_delay_ms` | `copies` |
//! | after a holder has returned | second value of `heal_delay_ms` | [`shortage`] |
//! | after a round that did not complete a chunk | 5 s, doubled up to 640 s | [`shortage`] |
//! | while no cell can store a copy | 600 s, or until the colony changes | [`shortage`] |
//! | after several cells have come or returned at once | 5 to 30 s | [`holdoff`] |
//! | after a third of the colony fell silent at once, with two or more copies left (`split_wait_ms`) | 15 min | [`brake`] |
//! | beyond two copies, while nobody has told how many a chunk needs | 15 min | `replicas::bare_records` |
//! | after start, for holders that have not been seen yet (`unheard_ms`) | 120 s | `context` |
//!
//! - A chunk has a shortage while the last count found fewer copies than the colony must keep, or while its holders
//!   must be queried because this cell is draining.
//! - One round runs at a time, with as many chunks as the rate allows in a few seconds, so that the answers are fresh
//!   when they are used. The chunks with the fewest copies come first.
//! - A chunk that no cell can store costs next to nothing until the colony changes, or its copies fall again.

mod backoff;
pub(super) mod brake;
mod holdoff;
mod round;
mod shortage;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::cell::context::Context;
use crate::cell::heal::backoff::Backoff;
use crate::cell::heal::brake::Brake;
use crate::cell::heal::holdoff::HoldOff;
use crate::cell::heal::round::Round;
use crate::cell::heal::shortage::{Shortage, copies_left};
use crate::cell::input::{SendOutcome, TaskId};
use crate::cell::output::{Event, Output};
use crate::cell::rank;
use crate::cell::replicas::map::ReplicaMap;
use crate::cell::replicas::queries::Queries;
use crate::cell::task_ids::TaskIds;
use crate::cell::token_bucket::TokenBucket;
use crate::id::{CellId, ChunkId};
use crate::time::Time;

/// Maximum number of chunks in one round.
const MAX_ROUND_CHUNKS: usize = 256;
/// A round has as many bytes as the rate allows in this time, in seconds.
const ROUND_S: u64 = 4;

#[derive(Debug)]
pub(super) struct Healer {
    shortages: BTreeMap<ChunkId, Shortage>,
    /// When the next shortage is due; `None` if none will be without an input.
    next_due: Option<Time>,
    round: Option<Round>,
    /// Rounds started.
    rounds: u64,
    hold_off: HoldOff,
    brake: Brake,
    backoff: Backoff,
    bucket: TokenBucket,
    /// Copies sent since the start.
    pub(super) copies_sent: u64,
    /// Their bytes.
    pub(super) bytes_sent: u64,
}

impl Healer {
    /// `rate` is in bytes per second.
    pub(super) fn new(rate: u64) -> Self {
        Self {
            shortages: BTreeMap::new(),
            next_due: None,
            round: None,
            rounds: 0,
            hold_off: HoldOff::default(),
            brake: Brake::default(),
            backoff: Backoff::default(),
            bucket: TokenBucket::new(rate),
            copies_sent: 0,
            bytes_sent: 0,
        }
    }

    /// Number of shortages.
    pub(super) fn shortages(&self) -> u64 {
        self.shortages.len() as u64
    }

    /// Number of shortages for which no cell can store a copy.
    pub(super) fn stuck_shortages(&self) -> u64 {
        self.shortages.values().filter(|shortage| shortage.is_stuck()).count() as u64
    }

    /// Seconds for which the brake is still on.
    pub(super) fn split_wait_s(&self, now: Time) -> Option<u64> {
        Some(self.brake.until(now)?.since_ms(now).div_ceil(1000))
    }

    /// Members have fallen silent, or returned.
    pub(super) fn members_changed(&mut self, context: &Context) {
        self.brake.update(&context.settings, &context.members);
    }

    /// Is there nothing to heal?
    pub(super) fn is_idle(&self) -> bool {
        self.shortages.is_empty() && self.round.is_none()
    }

    /// Counts the copies of a chunk. A new shortage is not due for `settle_ms`.
    pub(super) fn recount(&mut self, context: &Context, replicas: &ReplicaMap, id: &ChunkId, settle_ms: u64) {
        let Some(chunk) = replicas.get(id) else {
            self.shortages.remove(id);
            return;
        };
        let left = copies_left(context, replicas, chunk);
        // After a start the holders of some chunks may be unknown, and not all cells are up to answer.
        let holders_unknown =
            replicas.holders_of(chunk).next().is_none() && context.unseen.count(context.now) && !context.draining;
        let is_healthy = left >= chunk.wanted() || holders_unknown;
        match self.shortages.get_mut(id) {
            Some(shortage) if is_healthy && !shortage.must_query => drop(self.shortages.remove(id)),
            Some(shortage) => {
                shortage.recount(context, left);
                self.schedule_now(context.now);
            }
            None if is_healthy => {}
            None => {
                self.shortages.insert(*id, Shortage::new(left, context.now, settle_ms));
                self.schedule_now(context.now);
            }
        }
    }

    /// The holders of all chunks must be queried: this cell is draining.
    pub(super) fn query_all(&mut self, context: &Context, replicas: &ReplicaMap) {
        for id in replicas.ids() {
            self.query(context, replicas, id);
        }
    }

    /// The holders of this chunk must be queried, whatever the replica map contains.
    pub(super) fn query(&mut self, context: &Context, replicas: &ReplicaMap, id: &ChunkId) {
        self.recount(context, replicas, id, 0);
        self.shortages.entry(*id).or_insert(Shortage::to_query(context.now)).must_query = true;
        self.schedule_now(context.now);
    }

    /// This cell is no longer draining.
    pub(super) fn cancel_queries(&mut self, context: &Context, replicas: &ReplicaMap) {
        self.shortages.values_mut().for_each(|shortage| shortage.must_query = false);
        for id in replicas.ids() {
            self.recount(context, replicas, id, 0);
        }
    }

    /// This cell has changed: some cell may be able to store a copy now.
    pub(super) fn colony_changed(&mut self, now: Time, cell: &CellId) {
        self.backoff.cell_changed(now, cell);
        self.shortages.values_mut().for_each(|shortage| shortage.colony_changed(now));
        if !self.shortages.is_empty() {
            self.schedule_now(now);
        }
    }

    /// Updates the hold-off. `returned` is true if a cell has returned from the dead since the last call.
    pub(super) fn update_hold_off(&mut self, context: &Context, returned: bool) {
        let others = context.members.active_count();
        self.hold_off.update(context.now, context.settings.silent_after_ms, others, returned);
    }

    fn schedule_now(&mut self, now: Time) {
        self.next_due = Some(self.next_due.map_or(now, |next| next.min(now)));
    }

    /// Starts a round if one is due. Returns its number and the queries to make for it.
    pub(super) fn start_round(
        &mut self,
        context: &Context,
        replicas: &ReplicaMap,
        out: &mut Vec<Output>,
    ) -> Option<(u64, Queries)> {
        let now = context.now;
        if self.round.take_if(|round| round.is_overdue(now)).is_some() {
            // Its shortages are still there.
            self.schedule_now(now);
        }
        if self.round.is_some() || self.hold_off.is_active(now) || self.next_due.is_none_or(|next| now < next) {
            return None;
        }
        self.backoff.forget(now);
        let chunks = self.choose(context, replicas);
        let queries = round::queries(context, replicas, &chunks);
        if queries.is_empty() {
            return None;
        }
        let shortages = chunks.iter().filter_map(|id| self.shortages.get(id));
        let fewest = shortages.filter(|shortage| shortage.is_counted()).map(|shortage| shortage.copies_left).min();
        if let Some(fewest) = fewest {
            let (chunks, fewest_copies) = (self.shortages.len(), fewest.into());
            out.push(Output::Event(Event::HealStarted { chunks, fewest_copies }));
        }
        self.rounds += 1;
        self.round = Some(Round::new(self.rounds, now, &queries));
        Some((self.rounds, queries))
    }

    /// The chunks of the next round, those with the fewest copies first.
    fn choose(&mut self, context: &Context, replicas: &ReplicaMap) -> Vec<ChunkId> {
        let now = context.now;
        let brake = self.brake.until(now);
        let mut next: Option<Time> = None;
        let mut due = Vec::new();
        for (id, shortage) in &mut self.shortages {
            let brake = shortage.brake(now, brake);
            let at = shortage.due(context, replicas, id, brake);
            if at <= now {
                // With equal copies, first the chunks for which this cell ranks high. Others heal the rest.
                due.push((shortage.copies_left, Reverse(rank::draw(id, &context.id)), *id));
            } else {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        // The end of the round schedules the chunks that are not in it.
        self.next_due = next;
        due.sort_unstable();
        let budget = self.bucket.rate().saturating_mul(ROUND_S);
        let (mut chosen, mut bytes) = (Vec::new(), 0);
        let reachable: Vec<CellId> = context.reachable().map(|(cell, _)| cell).collect();
        for (left, _, id) in due {
            let Some(chunk) = replicas.get(&id) else { continue };
            let holders: BTreeSet<CellId> = replicas.holders_of(chunk).collect();
            if left < chunk.wanted() && reachable.iter().all(|cell| holders.contains(cell)) {
                // All reachable cells hold it: there is no cell to query, and none to send it to.
                if let Some(shortage) = self.shortages.get_mut(&id) {
                    shortage.set_stuck(now);
                }
                continue;
            }
            if !chosen.is_empty() && (chosen.len() >= MAX_ROUND_CHUNKS || bytes >= budget) {
                break;
            }
            bytes += u64::from(chunk.len()) * u64::from(chunk.wanted().saturating_sub(left).max(1));
            chosen.push(id);
        }
        chosen
    }

    /// A cell does not have these chunks. If this cell sent it one of them, it is unreliable.
    pub(super) fn chunks_absent(&mut self, now: Time, cell: CellId, absent: &[ChunkId]) {
        self.backoff.chunks_absent(now, cell, absent);
    }

    /// Records a cell's answer to its query for the round with this number: which of the chunks it has, and which not.
    /// An answer for an earlier round is ignored; each round queries anew.
    pub(super) fn query_done(
        &mut self,
        context: &Context,
        round: u64,
        cell: CellId,
        present: &[ChunkId],
        absent: &[ChunkId],
    ) {
        if let Some(round) = self.round.as_mut().filter(|now| now.number() == round) {
            round.query_done(context, cell, present, absent);
        }
    }

    /// Continues the round. When it is over, its shortages end, or wait for another round.
    pub(super) fn advance(
        &mut self,
        context: &Context,
        replicas: &ReplicaMap,
        task_ids: &mut TaskIds,
        out: &mut Vec<Output>,
    ) {
        let (backoff, bucket) = (&self.backoff, &mut self.bucket);
        let over = self.round.take_if(|round| round.advance(context, replicas, backoff, bucket, task_ids, out));
        let Some(round) = over else { return };
        for (id, present) in round.end(context, replicas, out) {
            self.chunk_done(context, replicas, &id, present);
        }
        self.schedule_now(context.now);
    }

    /// Records the outcome of sending a copy. Returns the chunk; `None` if the round was abandoned.
    pub(super) fn send_done(
        &mut self,
        now: Time,
        replicas: &mut ReplicaMap,
        task_id: TaskId,
        outcome: SendOutcome,
    ) -> Option<ChunkId> {
        let (id, target) = self.round.as_mut()?.send_done(replicas, task_id, outcome)?;
        self.backoff.send_done(now, id, target, outcome);
        if outcome == SendOutcome::Stored {
            self.copies_sent += 1;
            self.bytes_sent += replicas.len_of(&id);
        }
        Some(id)
    }

    /// A round with this chunk is over; `present` cells reported that they have it. Its shortage ends, or waits. For a
    /// draining cell recorded copies are not enough.
    fn chunk_done(&mut self, context: &Context, replicas: &ReplicaMap, id: &ChunkId, present: usize) {
        let wanted = replicas.get(id).map_or(0, |chunk| usize::from(chunk.wanted()));
        if let Some(shortage) = self.shortages.get_mut(id) {
            shortage.must_query &= present < wanted;
        }
        self.recount(context, replicas, id, 0);
        let Some(shortage) = self.shortages.get_mut(id) else { return };
        let Some(chunk) = replicas.get(id) else { return };
        let has_target = context.reachable().any(|(cell, _)| {
            context.candidate(&cell, chunk.len()).is_some()
                && !replicas.is_holder(id, &cell)
                && !self.backoff.is_unreliable(context.now, &cell)
        });
        // If enough copies are recorded, some cell has not answered yet, and is queried again.
        if !has_target && shortage.copies_left < chunk.wanted() {
            shortage.set_stuck(context.now);
        } else {
            shortage.back_off(context.now);
        }
    }
}
