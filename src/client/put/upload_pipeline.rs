//! The threads of a put: one reads blocks, some seal them, some send copies.
//!
//! ```text
//!   reader ─▶ blocks ─▶ sealers ─▶ events ─▶ put decides ─▶ jobs ─▶ senders ─▶ events
//!                          ▲                     │
//!                          └── permits: one for each chunk in memory, returned when the chunk has its copies
//! ```
//!
//! The channel of blocks is bounded, and a sealer waits for a permit: the slowest stage sets the pace, and memory stays
//! bounded.

// A shell: the time of sealing becomes a part of each chunk.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;

use crate::client::error::ClientError;
use crate::client::put::input::{Input, Reader};
use crate::client::put::omission::Omission;
use crate::client::put::source::SourceLength;
use crate::client::usage_error::UsageError;
use crate::client::workers::{STOP_CHECK_INTERVAL, spawn_workers};
use crate::net::client::{CallError, Http, PutHints};
use crate::pipeline::{Block, BlockHash, Key, Level, SealedChunk, seal_block};
use crate::unix_time;

/// Sealed chunks in memory, in addition to one for each sealer. They keep the senders busy while a disk is slow.
const EXTRA_CHUNKS: usize = 6;

/// What the threads report.
pub(in crate::client) enum Event {
    /// A block was sealed. Its chunk holds a permit until [`UploadPipeline::return_permit`].
    Sealed { index: usize, plain_bytes: u64, chunk: Arc<SealedChunk>, hash: Option<BlockHash> },
    /// A block is the same as in the interrupted put, and its chunk has its copies.
    Kept { index: usize, plain_bytes: u64 },
    /// Something could not be read, or not as it was.
    Omitted(Omission),
    /// The source was read to its end.
    SourceEnded(SourceLength),
    /// The upload of a copy ended.
    Sent { index: usize, cell: usize, result: Result<(), CallError> },
    /// A thread failed.
    Failed(ClientError),
}

/// A copy to send.
pub(in crate::client) struct SendJob {
    pub(in crate::client) index: usize,
    pub(in crate::client) cell: usize,
    pub(in crate::client) url: String,
    pub(in crate::client) chunk: Arc<SealedChunk>,
    pub(in crate::client) hints: PutHints,
}

/// What a pipeline works on.
pub(in crate::client) struct UploadInput {
    pub(in crate::client) input: Input,
    /// Positions of the blocks that are not needed.
    pub(in crate::client) skip: BTreeSet<usize>,
    /// Blocks that need not be sealed if they have these hashes.
    pub(in crate::client) kept: BTreeMap<usize, BlockHash>,
    /// Are blocks recognized by their hashes later?
    pub(in crate::client) hashes_blocks: bool,
    pub(in crate::client) key: Key,
    pub(in crate::client) level: Level,
    pub(in crate::client) sealers: usize,
    pub(in crate::client) senders: usize,
}

/// The threads of one pass over the source. They end after this is dropped.
pub(in crate::client) struct UploadPipeline {
    events: Receiver<Event>,
    jobs: Sender<SendJob>,
    permits: SyncSender<()>,
}

impl UploadPipeline {
    /// Starts the threads.
    pub(in crate::client) fn start(input: UploadInput, http: &Http) -> Self {
        let UploadInput { input, skip, kept, hashes_blocks, key, level, sealers, senders } = input;
        let (event_sender, events) = channel();
        let (jobs, job_queue) = channel();
        let (block_sender, blocks) = sync_channel(sealers);
        let permit_count = sealers + EXTRA_CHUNKS;
        let (permits, free_permits) = sync_channel(permit_count);
        for _ in 0..permit_count {
            // The channel has capacity for exactly these.
            let _ = permits.try_send(());
        }
        // A block is sealed once there is a permit for it.
        let permitted_blocks = blocks.into_iter().zip(free_permits);
        let seal_key = key.clone();
        spawn_workers(sealers, permitted_blocks, &event_sender, move |(block, ()), results| {
            results.send(seal(&block, &seal_key, level, hashes_blocks))
        });
        let http = http.clone();
        spawn_workers(senders, job_queue.into_iter(), &event_sender, move |job, results| {
            results.send(send(job, &http))
        });
        thread::spawn(move || read(&input, &skip, &Kept { hashes: kept, key }, &block_sender, &event_sender));
        Self { events, jobs, permits }
    }

    /// Waits a moment for the next event.
    pub(in crate::client) fn next_event(&self) -> Result<Event, RecvTimeoutError> {
        self.events.recv_timeout(STOP_CHECK_INTERVAL)
    }

    /// Has a copy sent.
    pub(in crate::client) fn send(&self, job: SendJob) {
        // The senders live as long as the pipeline.
        drop(self.jobs.send(job));
    }

    /// Returns the permit of a sealed chunk.
    pub(in crate::client) fn return_permit(&self) {
        let _ = self.permits.try_send(());
    }
}

/// The blocks of an interrupted put that need not be sealed again.
struct Kept {
    hashes: BTreeMap<usize, BlockHash>,
    key: Key,
}

impl Kept {
    /// The position of a block that is one of them.
    fn position(&self, block: &Block) -> Option<usize> {
        let index = usize::try_from(block.index).ok()?;
        let hash = self.hashes.get(&index)?;
        (BlockHash::of(&block.bytes, &self.key) == *hash).then_some(index)
    }
}

fn read(input: &Input, skip: &BTreeSet<usize>, kept: &Kept, blocks: &SyncSender<Block>, events: &Sender<Event>) {
    let is_needed = |index: usize| !skip.contains(&index);
    let mut take = |block: Block| match kept.position(&block) {
        Some(index) => events.send(Event::Kept { index, plain_bytes: block.bytes.len() as u64 }).is_ok(),
        None => blocks.send(block).is_ok(),
    };
    // If nobody listens any more, nobody takes blocks either.
    let mut report = |omission| drop(events.send(Event::Omitted(omission)));
    let event = match input.read(Reader { is_needed: &is_needed, take: &mut take, report: &mut report }) {
        Ok(Some(length)) => Event::SourceEnded(length),
        // The pipeline was dropped.
        Ok(None) => return,
        Err(error) => Event::Failed(error),
    };
    drop(events.send(event));
}

fn seal(block: &Block, key: &Key, level: Level, hashes_blocks: bool) -> Event {
    match (usize::try_from(block.index), seal_block(&block.bytes, key, level, unix_time::now_s())) {
        (Ok(index), Ok(chunk)) => Event::Sealed {
            index,
            plain_bytes: block.bytes.len() as u64,
            chunk: Arc::new(chunk),
            hash: hashes_blocks.then(|| BlockHash::of(&block.bytes, key)),
        },
        (_, Err(error)) => Event::Failed(error.into()),
        (Err(_), _) => Event::Failed(UsageError::SourceTooLarge.into()),
    }
}

fn send(job: SendJob, http: &Http) -> Event {
    let SendJob { index, cell, url, chunk, hints } = job;
    let result = http.put_chunk(&url, &chunk.id, &chunk.bytes, &hints);
    Event::Sent { index, cell, result }
}
