//! The thread that keeps the catalogue: it writes down what puts tell, compares it with the files after every start,
//! and makes it durable now and then. Puts never wait for it.
//!
//! It sleeps until there is something to do. An idle store writes nothing.

// A shell: it reads a clock to know how long records have waited for the disk.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::id::ChunkId;
use crate::store::files::capacity::BALLAST_BYTES;
use crate::store::files::catalogue::CatalogueError;
use crate::store::files::change::Change;
use crate::store::files::{Inner, locked};
use crate::store::{DEFAULT_COPIES, PutMetadata, Record, StoreError};
use crate::unix_time;

/// Records are hints and a flush costs a small board's card dearly, so they may wait this long for the disk.
const DURABLE_EVERY: Duration = Duration::from_secs(5);

/// The time of a scrub is worth less still. A slow scrub looks at a copy every few seconds, for ever: with a flush for
/// each, no card would rest.
const SCRUBS_DURABLE_EVERY: Duration = Duration::from_hours(1);

/// A catalogue that cannot be used now (the disk is full, most likely) is tried again after this.
const RETRY_EVERY: Duration = Duration::from_mins(1);

/// Changes that wait to be written down. When there are more the rest are not remembered and the files looked through
/// again; that takes a catalogue that was shut for a while.
const MAX_WAITING: usize = 4096;

/// Changes written down between two looks at the rest of the work.
const BATCH: usize = 64;

/// How long a stop or a flush waits for a catalogue that may hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the other threads and the keeper share.
#[derive(Default)]
pub(super) struct Desk {
    state: Mutex<State>,
    wake: Condvar,
    done: Condvar,
}

#[derive(Default)]
struct State {
    /// What is to be written down, each with the number of the change that wanted it.
    waiting: BTreeMap<ChunkId, (u64, Change)>,
    changes: u64,
    /// Something was not remembered.
    overflowed: bool,
    flushes_asked: u64,
    flushes_done: u64,
    flush_error: Option<String>,
    failure: Option<CatalogueError>,
    life: Life,
}

#[derive(Default, PartialEq, Eq, PartialOrd, Ord)]
enum Life {
    #[default]
    Running,
    Stopping,
    Ended,
}

impl Desk {
    /// Leaves a change for the keeper.
    pub(super) fn leave(&self, id: &ChunkId, change: Change) {
        let mut state = locked(&self.state);
        state.changes += 1;
        let number = state.changes;
        if let Some((_, first)) = state.waiting.remove(id) {
            state.waiting.insert(*id, (number, first.then(change)));
        } else if state.waiting.len() < MAX_WAITING {
            state.waiting.insert(*id, (number, change));
        } else {
            state.overflowed |= !change.is_hint();
        }
        self.wake.notify_one();
    }

    /// What is left for the keeper about each of these.
    pub(super) fn left(&self, ids: &[ChunkId]) -> Vec<Option<Change>> {
        let state = locked(&self.state);
        ids.iter().map(|id| state.waiting.get(id).map(|(_, change)| change.clone())).collect()
    }

    /// The catalogue failed in a reader's hands.
    pub(super) fn report(&self, failure: CatalogueError) {
        locked(&self.state).failure = Some(failure);
        self.wake.notify_one();
    }

    /// Has everything left so far written down and made durable.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let mut state = locked(&self.state);
        state.flushes_asked += 1;
        let asked = state.flushes_asked;
        self.wake.notify_one();
        let pending = |state: &mut State| state.flushes_done < asked && state.life < Life::Ended;
        state = self.done.wait_timeout_while(state, PATIENCE, pending).unwrap_or_else(PoisonError::into_inner).0;
        let why =
            if state.flushes_done < asked { Some("it did not answer".to_owned()) } else { state.flush_error.clone() };
        match why {
            None => Ok(()),
            Some(why) => Err(StoreError::Disk {
                doing: "writing out the catalogue".to_owned(),
                source: std::io::Error::other(why),
            }),
        }
    }

    /// Asks the keeper to end; false if it does not.
    pub(super) fn stop(&self) -> bool {
        let mut state = locked(&self.state);
        state.life = Life::Stopping;
        self.wake.notify_one();
        self.done
            .wait_timeout_while(state, PATIENCE, |state| state.life < Life::Ended)
            .is_ok_and(|(_, waited)| !waited.timed_out())
    }
}

/// What the keeper knows besides the desk.
struct Keeper<'a> {
    inner: &'a Inner,
    /// The next folder to compare with its records, until all were.
    next_shard: Option<u8>,
    /// Could every folder be read since the first one of this round?
    all_read: bool,
    /// When what was written down is to be made durable, if anything was.
    durable_due: Option<Instant>,
    /// The catalogue is left alone until then.
    shut_until: Option<Instant>,
    restarted_at: Option<Instant>,
}

enum Work {
    Stop,
    Flush(u64),
    Write(Vec<(ChunkId, (u64, Change))>),
    Compare(u8),
    MakeDurable,
    Recover(CatalogueError),
    Restart,
}

/// Runs until the desk is told to stop.
pub(super) fn run(inner: &Inner, started: bool) {
    let shut_until = (!started).then(|| Instant::now() + RETRY_EVERY);
    let mut keeper =
        Keeper { inner, next_shard: Some(0), all_read: true, durable_due: None, shut_until, restarted_at: None };
    loop {
        let result = match keeper.next() {
            Work::Stop => break,
            Work::Flush(number) => keeper.flush(number),
            Work::Write(batch) => keeper.write(&batch),
            Work::Compare(shard) => keeper.compare(shard),
            Work::MakeDurable => keeper.make_durable(),
            Work::Recover(failure) => Err(failure),
            Work::Restart => keeper.restart(false),
        };
        if let Err(e) = result {
            keeper.recover(&e);
        }
    }
    locked(&inner.desk.state).life = Life::Ended;
    inner.desk.done.notify_all();
}

impl Keeper<'_> {
    fn next(&mut self) -> Work {
        let desk = &self.inner.desk;
        let mut state = locked(&desk.state);
        loop {
            let now = Instant::now();
            let shut = self.shut_until.is_some_and(|until| now < until);
            if state.life == Life::Stopping {
                return Work::Stop;
            }
            if let Some(failure) = state.failure.take() {
                return Work::Recover(failure);
            }
            if self.shut_until.is_some() && !shut {
                return Work::Restart;
            }
            if !shut && !state.waiting.is_empty() {
                let batch = state.waiting.iter().take(BATCH).map(|(id, change)| (*id, change.clone()));
                return Work::Write(batch.collect());
            }
            if state.flushes_done < state.flushes_asked {
                return Work::Flush(state.flushes_asked);
            }
            if !shut && self.next_shard.is_none() && std::mem::take(&mut state.overflowed) {
                self.next_shard = Some(0);
            }
            if let Some(shard) = self.next_shard {
                return Work::Compare(shard);
            }
            if !shut && self.durable_due.is_some_and(|due| due <= now) {
                return Work::MakeDurable;
            }
            state = match self.shut_until.or(self.durable_due) {
                Some(until) => {
                    let wait = until.saturating_duration_since(now);
                    desk.wake.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                }
                None => desk.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// sled can hang on a full disk, so it is not let near one.
    fn check_room(&self) -> Result<(), CatalogueError> {
        let room = &self.inner.room;
        if room.available() < BALLAST_BYTES / 4 {
            room.drop_ballast();
        }
        if room.available() < BALLAST_BYTES / 4 {
            return Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into());
        }
        Ok(())
    }

    fn write(&mut self, batch: &[(ChunkId, (u64, Change))]) -> Result<(), CatalogueError> {
        self.check_room()?;
        for (id, (_, change)) in batch {
            self.apply(id, change)?;
        }
        let mut state = locked(&self.inner.desk.state);
        for (id, (number, _)) in batch {
            if state.waiting.get(id).is_some_and(|(latest, _)| latest == number) {
                state.waiting.remove(id);
            }
        }
        Ok(())
    }

    fn apply(&mut self, id: &ChunkId, change: &Change) -> Result<(), CatalogueError> {
        if self.inner.catalogue.apply(id, change, || found(self.inner, id))? {
            self.written(if change.is_scrub() { SCRUBS_DURABLE_EVERY } else { DURABLE_EVERY });
        }
        Ok(())
    }

    /// Something was written that is to be durable within this time.
    fn written(&mut self, within: Duration) {
        let due = Instant::now() + within;
        self.durable_due = Some(self.durable_due.map_or(due, |earlier| earlier.min(due)));
    }

    fn make_durable(&mut self) -> Result<(), CatalogueError> {
        self.check_room()?;
        self.inner.catalogue.durable()?;
        self.durable_due = None;
        Ok(())
    }

    fn flush(&mut self, number: u64) -> Result<(), CatalogueError> {
        let result = self.make_durable();
        let mut state = locked(&self.inner.desk.state);
        state.flushes_done = number;
        state.flush_error = result.as_ref().err().map(ToString::to_string);
        drop(state);
        self.inner.desk.done.notify_all();
        result
    }

    /// Counts one folder and makes its records agree with its files. Only reads where they do.
    fn compare(&mut self, number: u8) -> Result<(), CatalogueError> {
        let next = number.checked_add(1);
        if let Some(shard) = self.inner.shards.get(usize::from(number)) {
            match shard.count() {
                Ok(ids) if self.shut_until.is_none() => self.mend(number, &ids)?,
                Ok(_) => {}
                Err(e) => {
                    log::warn!("folder {number:02x} in {} cannot be read: {e}", self.inner.folder.root().display());
                    self.all_read = false;
                }
            }
        }
        self.next_shard = next;
        if next.is_none() {
            if self.all_read {
                self.inner.room.set_counted();
            }
            self.all_read = true;
        }
        Ok(())
    }

    fn mend(&mut self, shard: u8, files: &[ChunkId]) -> Result<(), CatalogueError> {
        let listed = self.inner.catalogue.list(shard)?;
        let files: BTreeSet<_> = files.iter().collect();
        let records: BTreeSet<_> = listed.ids.iter().collect();
        if !listed.junk.is_empty() || files != records {
            self.check_room()?;
        }
        for key in &listed.junk {
            self.inner.catalogue.remove_junk(key)?;
            self.written(DURABLE_EVERY);
        }
        for id in records.difference(&files) {
            self.apply(id, &Change::Remove)?;
        }
        for id in files.difference(&records) {
            if let Some(record) = found(self.inner, id) {
                self.apply(id, &Change::fill(record))?;
            }
        }
        Ok(())
    }

    fn restart(&mut self, bad: bool) -> Result<(), CatalogueError> {
        self.restarted_at = Some(Instant::now());
        self.inner.catalogue.start(&self.inner.room, bad)?;
        self.shut_until = None;
        self.next_shard = Some(0);
        Ok(())
    }

    /// After a failure: makes a catalogue that is damaged anew, and leaves it alone for a while where that fails, or
    /// is not the trouble, or did not help.
    fn recover(&mut self, error: &CatalogueError) {
        self.durable_due = None;
        let just_now = self.restarted_at.is_some_and(|at| at.elapsed() < RETRY_EVERY);
        let again = error.blames_files() && !just_now && self.restart(true).is_ok();
        if !again {
            log::warn!("the catalogue in {} is shut for now: {error}", self.inner.folder.root().display());
            self.shut_until = Some(Instant::now() + RETRY_EVERY);
        }
    }
}

/// What a chunk's file tells about it.
pub(super) fn found(inner: &Inner, id: &ChunkId) -> Option<Record> {
    let meta = fs::metadata(inner.folder.chunk(id)).ok()?;
    let stored_at_s = unix_time::of_s(meta.modified().ok()?);
    let metadata = PutMetadata { copies: DEFAULT_COPIES, holders: Vec::new(), owner: None, stored_at_s };
    Some(Record { len: meta.len(), metadata, scrubbed_at_s: 0 })
}
