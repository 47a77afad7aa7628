//! The threads of a put: one that reads, some that seal, some that send. Each waits on a bounded channel, so the
//! slowest of them sets the pace and memory stays as it is.
//!
//! ```text
//!   reader ─▶ blocks ─▶ sealers ─▶ events ─▶ (put decides) ─▶ jobs ─▶ senders ─▶ events
//!                          ▲                                                       │
//!                          └──────────── a place for each chunk under way ◀────────┘
//! ```

// A shell: chunks are stamped with the time at which they were sealed.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::client::Source;
use crate::client::error::{ClientError, UsageError};
use crate::net::client::{CallError, Http, PutHints};
use crate::pipeline::{Block, Key, Level, SealedChunk, seal_block};
use crate::sync::lock;
use crate::unix_time;

/// Chunks that may be sealed and not yet safe, beside one for each sealer: enough to keep the senders busy while a disk
/// takes its time.
const CHUNKS_UNDER_WAY: usize = 6;

/// What the threads tell.
pub(in crate::client) enum Event {
    /// A block is sealed. It holds a place until that is given back.
    Sealed { index: usize, plain: u64, chunk: Arc<SealedChunk> },
    /// The end of the source: how many blocks and bytes it has.
    SourceEnded { blocks: usize, bytes: u64 },
    /// A copy is safe, or not.
    Sent { index: usize, cell: usize, result: Result<(), CallError> },
    /// A thread cannot go on.
    Failed(ClientError),
}

/// One copy to be made.
pub(in crate::client) struct Job {
    pub(in crate::client) index: usize,
    pub(in crate::client) cell: usize,
    pub(in crate::client) url: String,
    pub(in crate::client) chunk: Arc<SealedChunk>,
    pub(in crate::client) hints: PutHints,
}

/// The threads of one put. They end by themselves when this is dropped; those that wait for a cell do so when it has
/// answered or its time is up.
pub(in crate::client) struct Crew {
    pub(in crate::client) events: Receiver<Event>,
    jobs: Sender<Job>,
    places: SyncSender<()>,
}

/// What a crew works on.
pub(in crate::client) struct Work {
    pub(in crate::client) source: Source,
    /// Blocks that need no work, by number.
    pub(in crate::client) skip: BTreeSet<usize>,
    pub(in crate::client) key: Key,
    pub(in crate::client) level: Level,
    pub(in crate::client) sealers: usize,
    pub(in crate::client) senders: usize,
}

type Shared<T> = Arc<Mutex<Receiver<T>>>;

impl Crew {
    /// Starts the threads.
    pub(in crate::client) fn start(work: Work, http: &Http) -> Self {
        let (event, events) = channel();
        let (jobs, job) = channel();
        let (block, blocks) = sync_channel(work.sealers);
        let places = work.sealers + CHUNKS_UNDER_WAY;
        let (give_place, take_place) = sync_channel(places);
        for _ in 0..places {
            // There is room for exactly so many.
            let _ = give_place.try_send(());
        }
        let (blocks, take_place, job) = (share(blocks), share(take_place), share(job));
        for _ in 0..work.sealers {
            let (blocks, place, event) = (Arc::clone(&blocks), Arc::clone(&take_place), event.clone());
            let (key, level) = (work.key.clone(), work.level);
            thread::spawn(move || seal_all(&blocks, &place, &event, &key, level));
        }
        for _ in 0..work.senders {
            let (job, event, http) = (Arc::clone(&job), event.clone(), http.clone());
            thread::spawn(move || send_all(&job, &event, &http));
        }
        let (source, skip) = (work.source, work.skip);
        thread::spawn(move || read_all(&source, &skip, &block, &event));
        Self { events, jobs, places: give_place }
    }

    /// Has a copy made.
    pub(in crate::client) fn send(&self, job: Job) {
        // The senders live as long as the crew.
        drop(self.jobs.send(job));
    }

    /// Gives back the place of a chunk that is done with.
    pub(in crate::client) fn give_place(&self) {
        let _ = self.places.try_send(());
    }
}

fn share<T>(receiver: Receiver<T>) -> Shared<T> {
    Arc::new(Mutex::new(receiver))
}

/// The next one; `None` when there will be no more.
fn next<T>(shared: &Shared<T>) -> Option<T> {
    lock(shared).recv().ok()
}

// A thread whose events nobody receives any more ends: that is how a crew is dismissed.

fn read_all(source: &Source, skip: &BTreeSet<usize>, block: &SyncSender<Block>, event: &Sender<Event>) {
    let needed = |index: usize| !skip.contains(&index);
    let ended = match source.read(&needed, &mut |next| block.send(next).is_ok()) {
        Ok(Some((blocks, bytes))) => Event::SourceEnded { blocks, bytes },
        Ok(None) => return,
        Err(error) => Event::Failed(error),
    };
    drop(event.send(ended));
}

fn seal_all(blocks: &Shared<Block>, places: &Shared<()>, event: &Sender<Event>, key: &Key, level: Level) {
    while let Some(block) = next(blocks) {
        if next(places).is_none() {
            return;
        }
        let now_s = unix_time::now_s();
        let told = match (usize::try_from(block.index), seal_block(&block.bytes, key, level, now_s)) {
            (Ok(index), Ok(chunk)) => Event::Sealed { index, plain: block.bytes.len() as u64, chunk: Arc::new(chunk) },
            (_, Err(error)) => Event::Failed(error.into()),
            (Err(_), _) => Event::Failed(UsageError::SourceTooLarge.into()),
        };
        if event.send(told).is_err() {
            return;
        }
    }
}

fn send_all(jobs: &Shared<Job>, event: &Sender<Event>, http: &Http) {
    while let Some(Job { index, cell, url, chunk, hints }) = next(jobs) {
        let result = http.put_chunk(&url, &chunk.id, &chunk.bytes, &hints);
        drop(chunk);
        if event.send(Event::Sent { index, cell, result }).is_err() {
            return;
        }
    }
}
