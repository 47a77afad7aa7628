//! The change queue between the store's callers and the catalogue writer. A put never waits for the writer.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::id::ChunkId;
use crate::store::files::catalogue::CatalogueError;
use crate::store::files::change::Change;
use crate::sync::lock;

/// The most changes in the queue, one for each chunk. Past that, further changes are dropped and the files are scanned
/// instead. Only a catalogue that stays closed for a while fills the queue.
const MAX_CHANGES: usize = 4096;

/// How many changes the writer takes at a time.
const BATCH: usize = 64;

/// How long a flush or a stop waits for the writer, which sled can hang.
const WRITER_TIMEOUT: Duration = Duration::from_secs(30);

/// Changes with their sequence numbers: a change that was replaced while the writer wrote it stays in the queue.
pub(super) type Batch = Vec<(ChunkId, (u64, Change))>;

#[derive(Default)]
pub(super) struct ChangeQueue {
    state: Mutex<State>,
    /// Wakes the writer.
    work: Condvar,
    /// Wakes those who wait for the writer.
    done: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    changes: BTreeMap<ChunkId, (u64, Change)>,
    last_sequence: u64,
    /// A change that only a scan of the files can restore was dropped.
    has_overflowed: bool,
    flushes_requested: u64,
    flushes_done: u64,
    flush_error: Option<String>,
    failure: Option<CatalogueError>,
    writer: Writer,
}

#[derive(Default, PartialEq, Eq, PartialOrd, Ord)]
enum Writer {
    #[default]
    Running,
    Stopping,
    Stopped,
}

/// Why a flush failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FlushError {
    #[error("no answer within {} s", WRITER_TIMEOUT.as_secs())]
    Timeout,
    #[error("{0}")]
    Failed(String),
}

/// For the store's callers.
impl ChangeQueue {
    pub(super) fn push(&self, id: &ChunkId, change: Change) {
        let mut state = lock(&self.state);
        state.last_sequence += 1;
        let sequence = state.last_sequence;
        if let Some((_, first)) = state.changes.remove(id) {
            state.changes.insert(*id, (sequence, first.then(change)));
        } else if state.changes.len() < MAX_CHANGES {
            state.changes.insert(*id, (sequence, change));
        } else {
            state.has_overflowed |= !change.is_hint();
        }
        self.work.notify_one();
    }

    /// Returns the queued change of each of these chunks, in the same order.
    pub(super) fn queued(&self, ids: &[ChunkId]) -> Vec<Option<Change>> {
        let state = lock(&self.state);
        ids.iter().map(|id| state.changes.get(id).map(|(_, change)| change.clone())).collect()
    }

    /// Reports that reading the catalogue failed.
    pub(super) fn report_failure(&self, failure: CatalogueError) {
        lock(&self.state).failure = Some(failure);
        self.work.notify_one();
    }

    /// Lets the writer examine the disk.
    pub(super) fn wake_writer(&self) {
        // A writer that is about to wait has the lock, and would miss the call.
        let _state = lock(&self.state);
        self.work.notify_one();
    }

    /// Waits until everything queued so far is written and durable.
    pub(super) fn flush(&self) -> Result<(), FlushError> {
        let mut state = lock(&self.state);
        state.flushes_requested += 1;
        let requested = state.flushes_requested;
        self.work.notify_one();
        let is_pending = |state: &mut State| state.flushes_done < requested && state.writer < Writer::Stopped;
        state =
            self.done.wait_timeout_while(state, WRITER_TIMEOUT, is_pending).unwrap_or_else(PoisonError::into_inner).0;
        if state.flushes_done < requested {
            return Err(FlushError::Timeout);
        }
        state.flush_error.clone().map_or(Ok(()), |error| Err(FlushError::Failed(error)))
    }

    /// Asks the writer to stop, and waits; returns false if it has not stopped in time.
    pub(super) fn stop(&self) -> bool {
        let mut state = lock(&self.state);
        state.writer = Writer::Stopping;
        self.work.notify_one();
        self.done
            .wait_timeout_while(state, WRITER_TIMEOUT, |state| state.writer < Writer::Stopped)
            .is_ok_and(|(_, waited)| !waited.timed_out())
    }
}

/// For the writer.
impl ChangeQueue {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Waits for work, at most for `timeout` if there is one.
    pub(super) fn wait<'a>(&self, state: MutexGuard<'a, State>, timeout: Option<Duration>) -> MutexGuard<'a, State> {
        match timeout {
            Some(timeout) => self.work.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0,
            None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Removes written changes from the queue, except those that were replaced meanwhile.
    pub(super) fn set_written(&self, batch: &Batch) {
        let mut state = lock(&self.state);
        for (id, (sequence, _)) in batch {
            if state.changes.get(id).is_some_and(|(latest, _)| latest == sequence) {
                state.changes.remove(id);
            }
        }
    }

    /// Completes all flushes up to this one.
    pub(super) fn set_flushed(&self, flush: u64, error: Option<String>) {
        let mut state = lock(&self.state);
        state.flushes_done = flush;
        state.flush_error = error;
        drop(state);
        self.done.notify_all();
    }

    pub(super) fn set_stopped(&self) {
        lock(&self.state).writer = Writer::Stopped;
        self.done.notify_all();
    }
}

impl State {
    pub(super) fn is_stopping(&self) -> bool {
        self.writer == Writer::Stopping
    }

    pub(super) fn take_failure(&mut self) -> Option<CatalogueError> {
        self.failure.take()
    }

    pub(super) fn take_overflow(&mut self) -> bool {
        std::mem::take(&mut self.has_overflowed)
    }

    /// A copy of the next changes; they stay queued until [`ChangeQueue::set_written`].
    pub(super) fn next_batch(&self) -> Option<Batch> {
        let batch: Batch = self.changes.iter().take(BATCH).map(|(id, change)| (*id, change.clone())).collect();
        (!batch.is_empty()).then_some(batch)
    }

    /// The number of the latest flush, if it is not done.
    pub(super) fn next_flush(&self) -> Option<u64> {
        (self.flushes_done < self.flushes_requested).then_some(self.flushes_requested)
    }
}
