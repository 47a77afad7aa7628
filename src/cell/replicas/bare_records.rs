//! Bare records: local chunks of which this cell does not know how many copies the colony must keep, and the questions
//! by which it learns that from co-holders (`GET /chunks/shared`).
//!
//! A record is bare after the catalogue was lost, when a quarantined copy has returned, or if a cell has sent the copy
//! that did not know the number either.
//!
//! ```text
//!             all that can be asked were asked about the prefix
//!             ┌─ somebody knows: the largest number ─────────────▶ Known
//!   Asking ───┤                                                     ▲ somebody knows it later, or a put states it
//!             └─ nobody does, for 15 min ────────────────────────▶ Guessed
//!
//!              healed to              a copy can be extra
//!   Asking     2 copies               no
//!   Guessed    5 copies (default)     no
//!   Known      the number             yes
//! ```
//!
//! - Prefix by prefix (the first byte of the ids), all other cells are asked, since those who hold a chunk are not
//!   known either. Each answer tells too that its sender holds the chunk.
//! - A cell is asked again after five minutes, then more and more rarely; one that is new or was not reached, at once.
//! - A co-holder that has forgotten this cell while it was away does not list the chunk. It is sent a hint, checks it
//!   by a query, and can tell the next time.
//! - Only the number of a bare record is taken from others. A liar who states a number that is too small has an effect
//!   only if no co-holder knows better, and then on this copy alone. One who states 255 makes the colony keep 32 copies
//!   of this chunk; anybody who can put a chunk can do that.
//! - What was learned is written to the catalogue as a hint. Lost with it, it is asked for again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::cell::context::Context;
use crate::cell::input::{SharedOutcome, TaskId};
use crate::cell::output::{Output, Persist, Task};
use crate::cell::replicas::map::ReplicaMap;
use crate::cell::task_ids::TaskIds;
use crate::cell::token_bucket::TokenBucket;
use crate::id::{CellId, ChunkId};
use crate::time::Time;
use crate::wire::holder_hints::{HolderHint, MAX_HOLDER_HINTS};
use crate::wire::shared_chunks::{IdPrefix, MAX_SHARED_CHUNKS, SharedChunk, SharedQuery};

/// The default number of copies applies when nobody could tell for this time, in milliseconds. In 15 minutes most
/// boards have rebooted, and most switches are repaired; meanwhile two copies suffice.
const GUESS_AFTER_MS: u64 = 900_000;
/// Maximum random pause before the first question, in milliseconds, after `silent_after_ms` in which the others are
/// heard. Cells that start together must not ask together.
const JITTER_MS: u64 = 5_000;
/// Minimum interval between two passes, in milliseconds.
const PASS_INTERVAL_MS: u64 = 10_000;
/// Pause before a cell that has answered is asked again, in milliseconds; it doubles each time.
const ANSWERED_MS: u64 = 300_000;
/// The same for a cell that has not answered.
const UNANSWERED_MS: u64 = 60_000;
/// Maximum number of doublings: the longest pause is eleven hours.
const MAX_DOUBLINGS: u8 = 7;
/// Maximum number of questions under way.
const MAX_QUESTIONS: usize = 4;
/// Rate of the questions, in lines of answers per second: less than 1 MiB/s.
const LINES_PER_S: u64 = 10_000;
/// A question costs at least as much as this number of lines, so that there are at most 40 per second.
const MIN_COST_LINES: u64 = 250;
/// Maximum number of pages that one cell is asked for, for one prefix: enough for 16 million chunks.
const MAX_PAGES: u8 = 64;
/// Number of prefixes.
const PREFIXES: usize = 256;

/// Since when there are bare records in a prefix about which nobody could tell anything yet.
#[derive(Debug, Clone, Copy)]
struct Wait {
    since: Time,
    /// Were all asked who could be?
    asked: bool,
}

/// When a cell is asked next.
#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    times: u8,
    not_before: Time,
}

/// A page to ask for.
#[derive(Debug, Clone, Copy)]
struct Page {
    cell: CellId,
    byte: u8,
    after: Option<ChunkId>,
    /// Number of pages before it.
    number: u8,
}

/// What co-holders have told about a chunk.
#[derive(Debug, Default)]
struct Told {
    /// The largest number of copies; `None` if nobody knows one.
    copies: Option<u8>,
    by: Vec<CellId>,
}

/// One pass through all prefixes that have bare records.
#[derive(Debug)]
struct Pass {
    /// The cells that are asked; without those that cannot tell, or have failed.
    cells: Vec<CellId>,
    byte: u8,
    queue: VecDeque<Page>,
    /// Cells that were sent hints.
    hinted: BTreeSet<CellId>,
    /// What was told about the chunks of the present prefix whose records are bare.
    told: BTreeMap<ChunkId, Told>,
}

#[derive(Debug)]
pub(in crate::cell) struct BareRecords {
    waits: Vec<Option<Wait>>,
    asked: BTreeMap<CellId, Asked>,
    pass: Option<Pass>,
    /// No pass starts before; `None` if there was no bare record.
    next_pass: Option<Time>,
    under_way: BTreeMap<TaskId, Page>,
    bucket: TokenBucket,
}

impl Default for BareRecords {
    fn default() -> Self {
        Self {
            waits: vec![None; PREFIXES],
            asked: BTreeMap::new(),
            pass: None,
            next_pass: None,
            under_way: BTreeMap::new(),
            bucket: TokenBucket::new(LINES_PER_S),
        }
    }
}

impl BareRecords {
    /// The record of this local chunk is bare, and was not before.
    pub(in crate::cell) fn added(&mut self, now: Time, id: &ChunkId, replicas: &ReplicaMap) {
        let Some(wait) = self.waits.get_mut(usize::from(id.shard())) else { return };
        if wait.is_none_or(|wait| wait.asked) {
            // Those who were asked before were not asked about this chunk.
            self.asked.clear();
        }
        let is_only_one = replicas.bare_in(id.shard()) == 1;
        let since = wait.filter(|_| !is_only_one).map_or(now, |wait| wait.since);
        *wait = Some(Wait { since, asked: false });
    }

    /// Are co-holders still asked about some local chunk?
    pub(in crate::cell) fn is_asking(&self, replicas: &ReplicaMap) -> bool {
        (0..=u8::MAX).zip(&self.waits).any(|(byte, wait)| wait.is_some() && replicas.bare_in(byte) > 0)
    }

    /// Gives up waiting where nobody could tell for long: the default number applies. Returns the chunks.
    pub(in crate::cell) fn guess(&mut self, now: Time, replicas: &mut ReplicaMap) -> Vec<ChunkId> {
        let mut guessed = Vec::new();
        for (byte, wait) in (0..=u8::MAX).zip(&mut self.waits) {
            if wait.take_if(|wait| wait.asked && now.since_ms(wait.since) >= GUESS_AFTER_MS).is_some() {
                guessed.extend(replicas.guess_bare_in(byte));
            }
        }
        guessed
    }

    /// Asks what is to be asked now. Returns the chunks whose number has become known.
    pub(in crate::cell) fn advance(
        &mut self,
        context: &Context,
        replicas: &mut ReplicaMap,
        task_ids: &mut TaskIds,
        rng: &mut fastrand::Rng,
        out: &mut Vec<Output>,
    ) -> Vec<ChunkId> {
        if replicas.bare() == 0 {
            if self.next_pass.is_some() {
                *self = Self { under_way: std::mem::take(&mut self.under_way), ..Self::default() };
            }
            return Vec::new();
        }
        let next_pass = *self
            .next_pass
            .get_or_insert_with(|| context.now.plus_ms(context.settings.silent_after_ms + rng.u64(0..=JITTER_MS)));
        if self.pass.is_none() && context.now >= next_pass {
            self.pass = self.start_pass(context, replicas, rng);
            self.next_pass = Some(context.now.plus_ms(PASS_INTERVAL_MS));
        }
        let mut known = Vec::new();
        loop {
            self.ask(context, task_ids, out);
            let Some(pass) = &mut self.pass else { return known };
            if !pass.queue.is_empty() || !self.under_way.is_empty() {
                return known;
            }
            let told = std::mem::take(&mut pass.told);
            for (id, copies) in told.iter().filter_map(|(id, told)| Some((*id, told.copies?))) {
                if replicas.set_copies(&id, copies) {
                    out.push(Output::Persist(Persist::Copies { chunk: id, copies }));
                    known.push(id);
                }
            }
            for (cell, hints) in hints(replicas, pass, &told, context.id) {
                if let Some(to) = context.address_of(&cell) {
                    out.push(Output::Task(Task::SendHints { to, hints }));
                    // It can tell soon.
                    pass.hinted.insert(cell);
                }
            }
            if let Some(Some(wait)) = self.waits.get_mut(usize::from(pass.byte)) {
                wait.asked = true;
            }
            let next = pass.byte.checked_add(1).and_then(|byte| next_bare(replicas, byte));
            if let Some(byte) = next {
                pass.begin(byte);
            } else {
                let hinted = std::mem::take(&mut pass.hinted);
                for cell in std::mem::take(&mut pass.cells) {
                    let pause_ms = if hinted.contains(&cell) { UNANSWERED_MS } else { ANSWERED_MS };
                    self.set_asked(context.now, cell, pause_ms);
                }
                self.pass = None;
                self.next_pass = Some(context.now.plus_ms(PASS_INTERVAL_MS));
            }
        }
    }

    /// A pass, if some cell is to be asked, or nobody was asked about some prefix. If there is nobody to ask, the pass
    /// ends at once, and the prefixes count as asked.
    fn start_pass(&mut self, context: &Context, replicas: &ReplicaMap, rng: &mut fastrand::Rng) -> Option<Pass> {
        self.asked.retain(|cell, _| context.members.get(cell).is_some());
        let is_due = |cell: &CellId| self.asked.get(cell).is_none_or(|asked| asked.not_before <= context.now);
        let others = context.reachable().filter(|(cell, member)| member.chunks() != Some(0) && is_due(cell));
        let mut cells: Vec<CellId> = others.map(|(cell, _)| cell).collect();
        let is_unasked = |wait: &Option<Wait>| wait.is_some_and(|wait| !wait.asked);
        if cells.is_empty() && !self.waits.iter().any(is_unasked) {
            return None;
        }
        rng.shuffle(&mut cells);
        let mut pass = Pass { cells, byte: 0, queue: VecDeque::new(), hinted: BTreeSet::new(), told: BTreeMap::new() };
        pass.begin(next_bare(replicas, 0)?);
        Some(pass)
    }

    fn ask(&mut self, context: &Context, task_ids: &mut TaskIds, out: &mut Vec<Output>) {
        let Some(pass) = &mut self.pass else { return };
        while self.under_way.len() < MAX_QUESTIONS && self.bucket.is_open(context.now) {
            let Some(page) = pass.queue.pop_front() else { return };
            let Some(to) = context.address_of(&page.cell) else {
                pass.cells.retain(|cell| *cell != page.cell);
                continue;
            };
            self.bucket.spend(MIN_COST_LINES);
            let task_id = task_ids.next();
            self.under_way.insert(task_id, page);
            let query = SharedQuery { node: context.id, prefix: IdPrefix::of_byte(page.byte), after: page.after };
            out.push(Output::Task(Task::QueryShared { task_id, to, query }));
        }
    }

    /// Handles the end of a question. Returns the cell and what it has stated about local chunks.
    pub(in crate::cell) fn question_done(
        &mut self,
        context: &Context,
        replicas: &ReplicaMap,
        task_id: TaskId,
        outcome: &SharedOutcome,
    ) -> Option<(CellId, Vec<SharedChunk>)> {
        let Page { cell, byte, number, .. } = self.under_way.remove(&task_id)?;
        let pass = self.pass.as_mut().filter(|pass| pass.byte == byte)?;
        let chunks = match outcome {
            SharedOutcome::Answered(chunks) => chunks,
            SharedOutcome::CannotTell | SharedOutcome::Unanswered => {
                // It would not answer about other prefixes either.
                pass.cells.retain(|other| *other != cell);
                let can_tell = matches!(outcome, SharedOutcome::Unanswered);
                self.set_asked(context.now, cell, if can_tell { UNANSWERED_MS } else { ANSWERED_MS });
                return None;
            }
        };
        self.bucket.spend((chunks.len() as u64).saturating_sub(MIN_COST_LINES));
        if chunks.len() >= MAX_SHARED_CHUNKS && number < MAX_PAGES {
            let after = chunks.last().map(|chunk| chunk.id);
            pass.queue.push_front(Page { cell, byte, after, number: number + 1 });
        }
        if !context.counts_copies_on(&cell) {
            return None;
        }
        Some((cell, chunks.iter().filter(|chunk| replicas.contains(&chunk.id)).copied().collect()))
    }

    /// A co-holder has told how many copies of this chunk the colony must keep; `None` if it does not know either.
    pub(in crate::cell) fn told(&mut self, replicas: &ReplicaMap, by: CellId, id: ChunkId, copies: Option<u8>) {
        if let Some(pass) = self.pass.as_mut().filter(|_| replicas.is_bare(&id)) {
            let told = pass.told.entry(id).or_default();
            told.copies = told.copies.max(copies);
            told.by.push(by);
        }
    }

    fn set_asked(&mut self, now: Time, cell: CellId, pause_ms: u64) {
        let Asked { times, .. } = self.asked.get(&cell).copied().unwrap_or_default();
        let not_before = now.plus_ms(pause_ms << times.min(MAX_DOUBLINGS));
        self.asked.insert(cell, Asked { times: times.saturating_add(1), not_before });
    }
}

impl Pass {
    /// Asks all cells about this prefix.
    fn begin(&mut self, byte: u8) {
        self.byte = byte;
        self.queue = self.cells.iter().map(|cell| Page { cell: *cell, byte, after: None, number: 0 }).collect();
    }
}

/// Hints for co-holders that were asked about the present prefix and have not listed a chunk: they do not believe that
/// this cell, `own`, holds it.
fn hints(
    replicas: &ReplicaMap,
    pass: &Pass,
    told: &BTreeMap<ChunkId, Told>,
    own: CellId,
) -> BTreeMap<CellId, Vec<HolderHint>> {
    let mut hints: BTreeMap<CellId, Vec<HolderHint>> = BTreeMap::new();
    for (id, chunk) in replicas.asking_in(pass.byte) {
        let told_by = told.get(id).map_or(&[][..], |told| &told.by);
        for cell in replicas.holders_of(chunk).filter(|cell| pass.cells.contains(cell) && !told_by.contains(cell)) {
            let hints = hints.entry(cell).or_default();
            if hints.len() < MAX_HOLDER_HINTS {
                hints.push(HolderHint { id: *id, holders: vec![own] });
            }
        }
    }
    hints
}

/// The first prefix from this one on that has bare records.
fn next_bare(replicas: &ReplicaMap, from: u8) -> Option<u8> {
    (from..=u8::MAX).find(|byte| replicas.bare_in(*byte) > 0)
}
