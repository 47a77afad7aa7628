//! Our own bad copies: a good one is fetched in the place of each, from whoever else has it.
//!
//! Until then the chunk is not here, and says so to whoever asks. If nobody can give a good copy now, it is tried again a
//! few times; the other holders, who find that we do not have it, heal it elsewhere.

use std::collections::{BTreeMap, VecDeque};

use crate::cell::context::{TaskIds, View};
use crate::cell::token_bucket::Bucket;
use crate::cell::{FetchOutcome, LocalCopy, Output, Task, TaskId};
use crate::id::CellId;
use crate::id::ChunkId;
use crate::time::Time;

/// Chunks that wait for a good copy, at the most.
const MAX_WAITING: usize = 4096;
/// Fetches under way at once.
const MAX_FETCHES: usize = 2;
/// All sources are tried so often.
const MAX_TRIES: u8 = 5;
/// Between two tries, in milliseconds.
const PAUSE_MS: u64 = 30_000;

#[derive(Debug)]
struct Mend {
    lost: LocalCopy,
    sources: VecDeque<CellId>,
    not_before: Time,
    tries: u8,
}

/// How a fetch ended, for those who keep count.
#[derive(Debug)]
pub(in crate::cell) enum Mended {
    /// The chunk is here again.
    Here(LocalCopy),
    /// The cell sent bad bytes.
    BadSource(CellId, ChunkId),
    /// Nothing has come of it yet.
    NotYet,
}

#[derive(Debug)]
pub(in crate::cell) struct Mends {
    waiting: BTreeMap<ChunkId, Mend>,
    fetches: BTreeMap<TaskId, (ChunkId, CellId)>,
    bucket: Bucket,
    pub(in crate::cell) copies: u64,
}

impl Mends {
    /// `rate` is in bytes a second.
    pub(in crate::cell) fn new(rate: u64) -> Self {
        Self { waiting: BTreeMap::new(), fetches: BTreeMap::new(), bucket: Bucket::new(rate), copies: 0 }
    }

    /// A copy of ours was bad and is gone.
    pub(in crate::cell) fn lost(&mut self, now: Time, lost: LocalCopy) {
        if self.waiting.len() < MAX_WAITING {
            let sources = lost.holders.iter().copied().collect();
            self.waiting.insert(lost.id, Mend { lost, sources, not_before: now, tries: 0 });
        }
    }

    /// The chunk has come by itself.
    pub(in crate::cell) fn came(&mut self, id: &ChunkId) {
        self.waiting.remove(id);
    }

    /// Fetches what may be fetched now.
    pub(in crate::cell) fn advance(&mut self, view: &View, task_ids: &mut TaskIds, out: &mut Vec<Output>) {
        let mut given_up = Vec::new();
        for (id, mend) in &mut self.waiting {
            if self.fetches.len() >= MAX_FETCHES || !self.bucket.is_open(view.now) {
                break;
            }
            if view.now < mend.not_before || self.fetches.values().any(|(fetched, _)| fetched == id) {
                continue;
            }
            let source = loop {
                let Some(cell) = mend.sources.pop_front() else { break None };
                if let Some(door) = view.door(&cell).filter(|_| view.counts(&cell)) {
                    break Some((cell, door));
                }
            };
            let Some((cell, from)) = source else {
                mend.tries += 1;
                if mend.tries >= MAX_TRIES {
                    given_up.push(*id);
                }
                mend.sources = mend.lost.holders.iter().copied().collect();
                mend.not_before = view.now.plus_ms(PAUSE_MS);
                continue;
            };
            let task_id = task_ids.next();
            self.fetches.insert(task_id, (*id, cell));
            let LocalCopy { len, copies, holders, .. } = mend.lost.clone();
            self.bucket.spend(len.into());
            out.push(Output::Task(Task::Fetch { task_id, chunk: *id, from, copies, holders }));
        }
        for id in given_up {
            self.waiting.remove(&id);
        }
    }

    /// Takes in how a fetch ended.
    pub(in crate::cell) fn fetched(&mut self, task_id: TaskId, how: FetchOutcome) -> Option<Mended> {
        let (id, source) = self.fetches.remove(&task_id)?;
        match how {
            FetchOutcome::Stored => {
                self.copies += 1;
                // It may have come by a put meanwhile.
                Some(self.waiting.remove(&id).map_or(Mended::NotYet, |mend| Mended::Here(mend.lost)))
            }
            FetchOutcome::Bad { .. } => Some(Mended::BadSource(source, id)),
            FetchOutcome::Missing | FetchOutcome::Failed => Some(Mended::NotYet),
            FetchOutcome::NoRoom => {
                self.waiting.remove(&id);
                Some(Mended::NotYet)
            }
        }
    }
}
