//! The catalogue writer: the thread that applies queued changes, reconciles the catalogue with the files after every
//! start, and makes it durable from time to time.
//!
//! The next job, by priority:
//!
//! ```text
//! job                         while the catalogue is closed
//! 1 stop                      too
//! 2 recover from a failure    too; see `store::files` for when it replaces and when it closes the catalogue
//! 3 try a disk that failed    too
//! 4 reopen the catalogue      after a minute
//! 5 write a batch of changes  no
//! 6 flush, if requested       it fails
//! 7 reconcile the next shard  it only counts the files; one that cannot be read is tried again after 5 s
//! 8 make durable, if due      no
//! - else sleep
//! ```
//!
//! An idle store writes nothing.

// A shell: it reads a clock to know how long records have waited for the disk.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use log::Level;

use crate::id::ChunkId;
use crate::store::files::catalogue::CatalogueError;
use crate::store::files::change::Change;
use crate::store::files::change_queue::Batch;
use crate::store::files::inner::Inner;

/// Records may wait this long for the disk: they can be rebuilt, and each flush wears the card of a small board.
const DURABLE_WITHIN: Duration = Duration::from_secs(5);

/// Times of verification may wait longer. A slow scrub verifies a copy every few seconds without end; with a flush for
/// each the card would never rest.
const SCRUBS_DURABLE_WITHIN: Duration = Duration::from_hours(1);

/// How long a catalogue that cannot be used, most likely because the disk is full, stays closed.
const RETRY_EVERY: Duration = Duration::from_mins(1);

/// How often a disk that could not be written to is tried again.
const DISK_TRIED_EVERY: Duration = Duration::from_secs(5);

/// When a shard folder that the disk could not read is read again. Until all were read, nothing is counted, and a store
/// with a quota accepts nothing.
const UNREAD_AFTER: Duration = Duration::from_secs(5);

/// A catalogue that the disk could not read so often is set aside, if the disk reads and writes another file: at the
/// rate of [`RETRY_EVERY`] a loose cable has had five minutes. The catalogue is only an index.
const MAX_UNREADABLE: u32 = 5;

struct CatalogueWriter<'a> {
    inner: &'a Inner,
    /// How often the disk could not read the catalogue since all of it was read.
    unreadable: u32,
    /// When a disk that cannot be written to is tried again.
    disk_try_due: Instant,
    /// The shards to reconcile with their files.
    unreconciled: BTreeSet<u8>,
    /// Those that the disk could not read, and when they are read again.
    unread: BTreeSet<u8>,
    unread_due: Option<Instant>,
    /// Those of which the log says so. They are read again every few seconds.
    reported: BTreeSet<u8>,
    /// When written changes must be durable, if there are any.
    durable_due: Option<Instant>,
    closed_until: Option<Instant>,
    restarted_at: Option<Instant>,
}

enum Job {
    Stop,
    Flush(u64),
    Write(Batch),
    Reconcile(u8),
    MakeDurable,
    Recover(CatalogueError),
    TryDisk,
    Reopen,
}

fn all_shards() -> BTreeSet<u8> {
    (0..=u8::MAX).collect()
}

/// Runs until [`ChangeQueue::stop`](crate::store::files::change_queue::ChangeQueue::stop). `is_open` is whether the
/// catalogue is open already.
pub(super) fn run(inner: &Inner, is_open: bool) {
    let closed_until = (!is_open).then(|| Instant::now() + RETRY_EVERY);
    let mut writer = CatalogueWriter::new(inner, closed_until);
    loop {
        let result = match writer.next_job() {
            Job::Stop => break,
            Job::Flush(flush) => writer.flush(flush),
            Job::Write(batch) => writer.write(&batch),
            Job::Reconcile(shard) => writer.reconcile(shard),
            Job::MakeDurable => writer.make_durable(),
            Job::Recover(failure) => Err(failure),
            Job::TryDisk => {
                writer.try_disk();
                Ok(())
            }
            Job::Reopen => writer.restart(false),
        };
        if let Err(e) = result {
            writer.recover(&e);
        }
    }
    inner.queue.set_stopped();
}

impl<'a> CatalogueWriter<'a> {
    fn new(inner: &'a Inner, closed_until: Option<Instant>) -> Self {
        Self {
            inner,
            unreadable: 0,
            disk_try_due: Instant::now(),
            unreconciled: all_shards(),
            unread: BTreeSet::new(),
            unread_due: None,
            reported: BTreeSet::new(),
            durable_due: None,
            closed_until,
            restarted_at: None,
        }
    }

    fn next_job(&mut self) -> Job {
        let queue = &self.inner.queue;
        let mut state = queue.lock();
        loop {
            let now = Instant::now();
            let is_closed = self.closed_until.is_some_and(|until| now < until);
            if state.is_stopping() {
                return Job::Stop;
            }
            if let Some(failure) = state.take_failure() {
                return Job::Recover(failure);
            }
            let needs_trial = self.inner.capacity.needs_trial();
            if needs_trial && self.disk_try_due <= now {
                return Job::TryDisk;
            }
            if self.closed_until.is_some() && !is_closed {
                return Job::Reopen;
            }
            if !is_closed && let Some(batch) = state.next_batch() {
                return Job::Write(batch);
            }
            if let Some(flush) = state.next_flush() {
                return Job::Flush(flush);
            }
            if !is_closed && self.unreconciled.is_empty() && state.take_overflow() {
                self.unreconciled = all_shards();
            }
            if self.unread_due.is_some_and(|due| due <= now) {
                self.unreconciled.append(&mut self.unread);
                self.unread_due = None;
            }
            if let Some(shard) = self.unreconciled.first() {
                return Job::Reconcile(*shard);
            }
            if !is_closed && self.durable_due.is_some_and(|due| due <= now) {
                return Job::MakeDurable;
            }
            let disk_try_due = needs_trial.then_some(self.disk_try_due);
            let due = [self.closed_until.or(self.durable_due), disk_try_due, self.unread_due];
            let wake_at = due.into_iter().flatten().min();
            state = queue.wait(state, wake_at.map(|at| at.saturating_duration_since(now)));
        }
    }

    fn write(&mut self, batch: &Batch) -> Result<(), CatalogueError> {
        self.inner.capacity.ensure_catalogue_can_write()?;
        for (id, (_, change)) in batch {
            self.apply(id, change)?;
        }
        self.inner.queue.set_written(batch);
        Ok(())
    }

    fn apply(&mut self, id: &ChunkId, change: &Change) -> Result<(), CatalogueError> {
        if self.inner.catalogue.apply(id, change, || self.inner.record_from_file(id))? {
            self.require_durable(if change.is_scrub() { SCRUBS_DURABLE_WITHIN } else { DURABLE_WITHIN });
        }
        Ok(())
    }

    fn require_durable(&mut self, within: Duration) {
        let due = Instant::now() + within;
        self.durable_due = Some(self.durable_due.map_or(due, |earlier| earlier.min(due)));
    }

    fn make_durable(&mut self) -> Result<(), CatalogueError> {
        self.inner.capacity.ensure_catalogue_can_write()?;
        self.inner.catalogue.sync()?;
        self.durable_due = None;
        Ok(())
    }

    fn flush(&mut self, flush: u64) -> Result<(), CatalogueError> {
        let result = self.make_durable();
        self.inner.queue.set_flushed(flush, result.as_ref().err().map(ToString::to_string));
        result
    }

    /// Counts one shard, and makes its records agree with its files. Where they agree already, it only reads.
    fn reconcile(&mut self, number: u8) -> Result<(), CatalogueError> {
        if let Some(shard) = self.inner.shards.get(usize::from(number)) {
            let ids = shard.recount();
            if ids.is_ok() {
                self.reported.remove(&number);
            }
            match ids {
                Ok(ids) if self.closed_until.is_none() => self.repair_records(number, &ids)?,
                Ok(_) => {}
                Err(e) => {
                    let level = if self.reported.insert(number) { Level::Warn } else { Level::Debug };
                    log::log!(level, "cannot read {}: {e}", self.inner.folder.shard(number).display());
                    self.unread.insert(number);
                }
            }
        }
        self.unreconciled.remove(&number);
        if self.unreconciled.is_empty() {
            if self.unread.is_empty() {
                self.inner.capacity.set_counted();
            } else {
                self.unread_due = Some(Instant::now() + UNREAD_AFTER);
            }
            if self.closed_until.is_none() {
                self.unreadable = 0;
            }
        }
        Ok(())
    }

    fn repair_records(&mut self, shard: u8, files: &[ChunkId]) -> Result<(), CatalogueError> {
        let listing = self.inner.catalogue.list(shard)?;
        let files: BTreeSet<_> = files.iter().collect();
        let records: BTreeSet<_> = listing.ids.iter().collect();
        if !listing.invalid_keys.is_empty() || files != records {
            self.inner.capacity.ensure_catalogue_can_write()?;
        }
        for key in &listing.invalid_keys {
            self.inner.catalogue.remove_key(key)?;
            self.require_durable(DURABLE_WITHIN);
        }
        for id in records.difference(&files) {
            self.apply(id, &Change::Remove)?;
        }
        for id in files.difference(&records) {
            if let Some(record) = self.inner.record_from_file(id) {
                self.apply(id, &Change::fill(record))?;
            }
        }
        Ok(())
    }

    /// Tries a disk that could not be written to, or that has just failed. Once it can be, the catalogue is opened
    /// again.
    fn try_disk(&mut self) {
        let (folder, capacity) = (&self.inner.folder, &self.inner.capacity);
        let was_read_only = capacity.is_read_only();
        capacity.end_doubt();
        match folder.try_writing() {
            Ok(()) => {
                capacity.set_writable();
                capacity.create_ballast();
                // After a doubt alone nothing has changed for a catalogue that cannot be read.
                if was_read_only {
                    self.closed_until = self.closed_until.map(|_| Instant::now());
                }
            }
            Err(e) if e.blames_disk() => capacity.set_read_only(&e),
            Err(e) => log::debug!("{e}"),
        }
        self.disk_try_due = Instant::now() + DISK_TRIED_EVERY;
    }

    fn restart(&mut self, is_damaged: bool) -> Result<(), CatalogueError> {
        self.restarted_at = Some(Instant::now());
        self.inner.catalogue.start(&self.inner.capacity, is_damaged)?;
        self.closed_until = None;
        self.unreconciled = all_shards();
        self.unread.clear();
        self.unread_due = None;
        Ok(())
    }

    /// Whether the disk has failed to read the catalogue too often, while it reads and writes other files.
    fn stays_unreadable(&mut self) -> bool {
        self.unreadable += 1;
        if self.unreadable < MAX_UNREADABLE {
            return false;
        }
        match self.inner.folder.try_writing() {
            Ok(()) => true,
            Err(e) => {
                log::debug!("keeping a catalogue that cannot be read, because the disk fails as a whole: {e}");
                false
            }
        }
    }

    /// After a failure: replaces a damaged catalogue. If the damage is elsewhere, or replacing fails or did not help
    /// just now, the catalogue stays closed for a while.
    fn recover(&mut self, error: &CatalogueError) {
        self.durable_due = None;
        let just_restarted = self.restarted_at.is_some_and(|at| at.elapsed() < RETRY_EVERY);
        let is_bad =
            if error.is_unreadable() { self.stays_unreadable() } else { error.blames_files() && !just_restarted };
        let is_replaced = is_bad && self.restart(true).is_ok();
        if !is_replaced {
            let (root, seconds) = (self.inner.folder.root().display(), RETRY_EVERY.as_secs());
            // That a disk is read-only was logged, and lasts.
            let level = if self.inner.capacity.is_read_only() { Level::Debug } else { Level::Warn };
            log::log!(level, "the catalogue of {root} is not written for {seconds} s: {error}");
            self.closed_until = Some(Instant::now() + RETRY_EVERY);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustix::io::Errno;

    use super::*;
    use crate::id::CellId;
    use crate::store::contract::Store;
    use crate::store::files::faults::{Fault, Operation};
    use crate::store::files::file_store::{FileStore, StoreOptions};

    /// An unreadable page closed the catalogue every minute, forever. Method: the errors that the disk would cause; once
    /// enough of them have come, the whole disk fails for a while.
    #[test]
    fn an_unreadable_catalogue_is_set_aside_on_a_good_disk() {
        let dir = tempfile::tempdir().unwrap();
        FileStore::init(dir.path(), CellId::from_bytes([1; 16])).unwrap();
        let store = FileStore::open(dir.path(), &StoreOptions::default()).unwrap();
        store.flush().unwrap();
        let set_aside = dir.path().join("catalogue.bad");
        let error = CatalogueError::Io(error_of_disk());
        // sled copies an error with the text of its `Debug` form.
        let copied = CatalogueError::Sled(sled::Error::Io(error_of_disk()).clone());
        assert!(error.is_unreadable() && copied.is_unreadable());

        let mut writer = CatalogueWriter::new(&store.inner, None);
        for n in 1..MAX_UNREADABLE {
            writer.recover(if n % 2 == 0 { &error } else { &copied });
            assert!(writer.closed_until.is_some() && !set_aside.exists());
        }
        let fault = Fault::new(Operation::TryWriting, &dir.path().join("tmp"), Errno::IO);
        writer.recover(&error);
        assert!(writer.closed_until.is_some() && !set_aside.exists());
        drop(fault);
        writer.recover(&error);
        assert!(writer.closed_until.is_none() && set_aside.exists());
    }

    fn error_of_disk() -> io::Error {
        io::Error::from_raw_os_error(Errno::IO.raw_os_error())
    }
}
