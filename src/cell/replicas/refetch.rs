//! Refetching: a local copy that was lost is replaced by a good one from another holder.
//!
//! Until then the chunk is not in the local store, and queries about it are answered accordingly. If no holder can send
//! a good copy now, it is tried again several times. Meanwhile the other holders find that this copy is missing, and
//! heal the chunk elsewhere.

use std::collections::{BTreeMap, VecDeque};

use crate::cell::context::Context;
use crate::cell::input::{FetchOutcome, LocalCopy, TaskId};
use crate::cell::output::{Output, Task};
use crate::cell::task_ids::TaskIds;
use crate::cell::token_bucket::TokenBucket;
use crate::id::{CellId, ChunkId};
use crate::time::Time;

/// Maximum number of chunks that wait for a good copy.
const MAX_WAITING: usize = 4096;
/// Maximum number of fetches under way.
const MAX_FETCHES: usize = 2;
/// How often all holders are tried before the chunk is abandoned.
const MAX_TRIES: u8 = 5;
/// Pause between two such tries, in milliseconds.
const RETRY_MS: u64 = 30_000;

/// A chunk that waits for a good copy.
#[derive(Debug)]
struct Refetch {
    lost: LocalCopy,
    /// Holders that were not asked in this try.
    sources: VecDeque<CellId>,
    not_before: Time,
    tries: u8,
}

/// How a fetch changed things.
#[derive(Debug)]
pub(in crate::cell) enum RefetchResult {
    /// The copy is back.
    Restored(LocalCopy),
    /// This cell sent bad bytes for this chunk.
    BadSource(CellId, ChunkId),
    /// Nothing has changed.
    Pending,
}

#[derive(Debug)]
pub(in crate::cell) struct Refetches {
    waiting: BTreeMap<ChunkId, Refetch>,
    under_way: BTreeMap<TaskId, (ChunkId, CellId)>,
    bucket: TokenBucket,
    /// Copies fetched since the start.
    pub(in crate::cell) fetched: u64,
}

impl Refetches {
    /// `rate` is in bytes per second.
    pub(in crate::cell) fn new(rate: u64) -> Self {
        Self { waiting: BTreeMap::new(), under_way: BTreeMap::new(), bucket: TokenBucket::new(rate), fetched: 0 }
    }

    /// A local copy was lost.
    pub(in crate::cell) fn add(&mut self, now: Time, lost: LocalCopy) {
        if self.waiting.len() < MAX_WAITING {
            let sources = lost.holders.iter().copied().collect();
            self.waiting.insert(lost.id, Refetch { lost, sources, not_before: now, tries: 0 });
        }
    }

    /// The chunk is in the store again.
    pub(in crate::cell) fn cancel(&mut self, id: &ChunkId) {
        self.waiting.remove(id);
    }

    /// Starts the fetches that are due.
    pub(in crate::cell) fn advance(&mut self, context: &Context, task_ids: &mut TaskIds, out: &mut Vec<Output>) {
        let mut abandoned = Vec::new();
        for (id, refetch) in &mut self.waiting {
            if self.under_way.len() >= MAX_FETCHES || !self.bucket.is_open(context.now) {
                break;
            }
            if context.now < refetch.not_before || self.under_way.values().any(|(fetched, _)| fetched == id) {
                continue;
            }
            let source = loop {
                let Some(cell) = refetch.sources.pop_front() else { break None };
                if let Some(address) = context.address_of(&cell).filter(|_| context.counts_copies_on(&cell)) {
                    break Some((cell, address));
                }
            };
            let Some((cell, from)) = source else {
                refetch.tries += 1;
                if refetch.tries >= MAX_TRIES {
                    abandoned.push(*id);
                }
                refetch.sources = refetch.lost.holders.iter().copied().collect();
                refetch.not_before = context.now.plus_ms(RETRY_MS);
                continue;
            };
            let task_id = task_ids.next();
            self.under_way.insert(task_id, (*id, cell));
            let LocalCopy { len, copies, bare, holders, .. } = refetch.lost.clone();
            self.bucket.spend(len.into());
            out.push(Output::Task(Task::Fetch { task_id, chunk: *id, from, copies, bare, holders }));
        }
        for id in abandoned {
            self.waiting.remove(&id);
        }
    }

    /// Handles the end of a fetch; `None` if there is no such fetch.
    pub(in crate::cell) fn fetch_done(&mut self, task_id: TaskId, outcome: FetchOutcome) -> Option<RefetchResult> {
        let (id, source) = self.under_way.remove(&task_id)?;
        match outcome {
            FetchOutcome::Stored => {
                self.fetched += 1;
                // A put may have stored it meanwhile.
                let refetch = self.waiting.remove(&id);
                Some(refetch.map_or(RefetchResult::Pending, |refetch| RefetchResult::Restored(refetch.lost)))
            }
            FetchOutcome::Bad { .. } => Some(RefetchResult::BadSource(source, id)),
            FetchOutcome::Missing | FetchOutcome::Failed => Some(RefetchResult::Pending),
            FetchOutcome::NoRoom => {
                self.waiting.remove(&id);
                Some(RefetchResult::Pending)
            }
        }
    }
}
