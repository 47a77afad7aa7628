//! The threads of a put: one reads blocks, some seal them, some send copies.
//!
//! ```text
//!   reader ─▶ blocks ─▶ sealers ─▶ events ─▶ put decides ─▶ jobs ─▶ senders ─▶ events
//!      ▲                   ▲                     │
//!      │                   └── permits: one for each chunk in memory, returned when the chunk has its copies
//!      └── hashes of blocks, with which the index of a directory ends
//! ```
//!
//! A sealer hashes a block first. If an interrupted put has stored the same block, its chunk is used again.
//!
//! The channel of blocks is bounded, and a sealer waits for a permit: the slowest stage sets the pace, and memory stays
//! bounded.

// A shell: the time of sealing becomes a part of each chunk.
#![allow(clippy::disallowed_methods)]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;

use crate::client::error::ClientError;
use crate::client::put::input::{Input, Reader};
use crate::client::put::omission::Omission;
use crate::client::put::placer::ChunkCopies;
use crate::client::put::position::{ChunkKeys, Position, PutBlock};
use crate::client::put::resume::fetch_stored_chunk;
use crate::client::put::reusable_chunks::{ReusableChunk, ReusableChunks, StoredCopies};
use crate::client::put::source::SourceLength;
use crate::client::workers::{STOP_CHECK_INTERVAL, spawn_workers};
use crate::id::ChunkId;
use crate::net::client::{CallError, Http, PutHints};
use crate::pipeline::{BlockHash, Key, Level, SealedChunk, seal_block};
use crate::unix_time;

/// Sealed chunks in memory, in addition to one for each sealer. They keep the senders busy while a disk is slow.
const EXTRA_CHUNKS: usize = 6;

/// What the threads report.
pub(in crate::client) enum Event {
    /// A block was sealed. Its chunk holds a permit until [`UploadPipeline::return_permit`].
    Sealed { block: BlockInfo, chunk: SealedChunk },
    /// A block is one of the interrupted put, and its chunk has this many copies, which suffice. It holds a permit.
    Kept { block: BlockInfo, id: ChunkId, sealed_at: Position, copies: usize },
    /// The same, but the chunk lacks copies and was fetched. It holds a permit.
    Fetched { block: BlockInfo, chunk: SealedChunk, sealed_at: Position, copies: ChunkCopies },
    /// Something could not be read, or not as it was.
    Omitted(Omission),
    /// The source was read to its end.
    SourceEnded(SourceLength),
    /// The upload of a copy ended.
    Sent { position: Position, cell: usize, result: Result<(), CallError> },
    /// A thread failed.
    Failed(ClientError),
}

/// A block that a sealer had.
#[derive(Debug, Clone, Copy)]
pub(in crate::client) struct BlockInfo {
    pub(in crate::client) position: Position,
    /// Its length in bytes.
    pub(in crate::client) len: usize,
    /// `None` if blocks are not recognized later.
    pub(in crate::client) hash: Option<BlockHash>,
}

/// A copy to send.
pub(in crate::client) struct SendJob {
    pub(in crate::client) position: Position,
    pub(in crate::client) cell: usize,
    pub(in crate::client) url: String,
    pub(in crate::client) chunk: Arc<SealedChunk>,
    pub(in crate::client) hints: PutHints,
}

/// What a pipeline works on.
pub(in crate::client) struct UploadInput {
    pub(in crate::client) input: Input,
    /// Numbers of the blocks that are not needed.
    pub(in crate::client) skip: BTreeSet<usize>,
    /// Chunks of blocks that need not be sealed.
    pub(in crate::client) reusable: Arc<ReusableChunks>,
    /// Are blocks recognized by their hashes later?
    pub(in crate::client) hashes_blocks: bool,
    pub(in crate::client) key: Key,
    pub(in crate::client) keys: ChunkKeys,
    pub(in crate::client) level: Level,
    pub(in crate::client) sealers: usize,
    pub(in crate::client) senders: usize,
}

/// The threads of one pass over the source. They end after this is dropped.
pub(in crate::client) struct UploadPipeline {
    events: Receiver<Event>,
    jobs: Sender<SendJob>,
    permits: SyncSender<()>,
    /// To the reader, if it has to know the hashes of the blocks.
    hashes: Option<Sender<(usize, BlockHash)>>,
}

impl UploadPipeline {
    /// Starts the threads.
    pub(in crate::client) fn start(input: UploadInput, http: &Http) -> Self {
        let UploadInput { input, skip, reusable, hashes_blocks, key, keys, level, sealers, senders } = input;
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
        let sealer = Sealer { reusable, hashes_blocks, key, keys, level, http: http.clone() };
        spawn_workers(sealers, permitted_blocks, &event_sender, move |(block, ()), results| {
            results.send(sealer.seal(&block))
        });
        let http = http.clone();
        spawn_workers(senders, job_queue.into_iter(), &event_sender, move |job, results| {
            results.send(send(job, &http))
        });
        let (hash_sender, hashes) = channel();
        let hash_sender = (keys == ChunkKeys::Derived).then_some(hash_sender);
        thread::spawn(move || read(&input, &skip, HashesInOrder::new(hashes), &block_sender, &event_sender));
        Self { events, jobs, permits, hashes: hash_sender }
    }

    /// Waits a moment for the next event.
    pub(in crate::client) fn next_event(&self) -> Result<Event, RecvTimeoutError> {
        let event = self.events.recv_timeout(STOP_CHECK_INTERVAL)?;
        if let Event::Sealed { block, .. } | Event::Kept { block, .. } | Event::Fetched { block, .. } = &event
            && let (Position::Data(number), Some(hash), Some(hashes)) = (block.position, block.hash, &self.hashes)
        {
            // The reader may have ended with an error.
            let _ = hashes.send((number, hash));
        }
        Ok(event)
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

/// The hashes of the blocks of a directory, as they become known.
struct HashesInOrder {
    receiver: Receiver<(usize, BlockHash)>,
    hashes: Vec<Option<BlockHash>>,
    known: usize,
}

impl HashesInOrder {
    fn new(receiver: Receiver<(usize, BlockHash)>) -> Self {
        Self { receiver, hashes: Vec::new(), known: 0 }
    }

    /// Collects the hashes that have arrived, so that few wait in the channel.
    fn collect(&mut self) {
        while let Ok((number, hash)) = self.receiver.try_recv() {
            self.insert(number, hash);
        }
    }

    /// Waits for all of this many hashes. `None` if the pipeline was dropped.
    fn wait(&mut self, count: usize) -> Option<Vec<BlockHash>> {
        while self.known < count {
            let (number, hash) = self.receiver.recv().ok()?;
            self.insert(number, hash);
        }
        std::mem::take(&mut self.hashes).into_iter().collect()
    }

    fn insert(&mut self, number: usize, hash: BlockHash) {
        if number >= self.hashes.len() {
            self.hashes.resize(number + 1, None);
        }
        if let Some(known) = self.hashes.get_mut(number) {
            self.known += usize::from(known.replace(hash).is_none());
        }
    }
}

fn read(
    input: &Input,
    skip: &BTreeSet<usize>,
    hashes: HashesInOrder,
    blocks: &SyncSender<PutBlock>,
    events: &Sender<Event>,
) {
    let is_needed = |number: usize| !skip.contains(&number);
    let hashes = RefCell::new(hashes);
    let mut take = |block| {
        hashes.borrow_mut().collect();
        blocks.send(block).is_ok()
    };
    let mut wait = |count| hashes.borrow_mut().wait(count);
    // If nobody listens any more, nobody takes blocks either.
    let mut report = |omission| drop(events.send(Event::Omitted(omission)));
    let reader = Reader { is_needed: &is_needed, take: &mut take, hashes: &mut wait, report: &mut report };
    let event = match input.read(reader) {
        Ok(Some(length)) => Event::SourceEnded(length),
        // The pipeline was dropped.
        Ok(None) => return,
        Err(error) => Event::Failed(error),
    };
    drop(events.send(event));
}

/// What sealers share.
struct Sealer {
    reusable: Arc<ReusableChunks>,
    hashes_blocks: bool,
    key: Key,
    keys: ChunkKeys,
    level: Level,
    http: Http,
}

impl Sealer {
    /// Finds the chunk of a block, or seals it.
    fn seal(&self, PutBlock { position, bytes }: &PutBlock) -> Event {
        let hash = self.hashes_blocks.then(|| BlockHash::of(bytes, &self.key));
        let block = BlockInfo { position: *position, len: bytes.len(), hash };
        if let Some(found) = hash.and_then(|hash| self.reusable.take(&hash, *position))
            && let Some(event) = self.reuse(block, found)
        {
            return event;
        }
        let key = self.keys.key(&self.key, *position);
        match seal_block(bytes, &key, self.level, unix_time::now_s()) {
            Ok(chunk) => Event::Sealed { block, chunk },
            Err(error) => Event::Failed(error.into()),
        }
    }

    /// Fetches a chunk that lacks copies. `None` if none of its copies is readable.
    fn reuse(&self, block: BlockInfo, found: ReusableChunk) -> Option<Event> {
        let ReusableChunk { id, sealed_at, copies } = found;
        let holders = match copies {
            StoredCopies::Complete(copies) => return Some(Event::Kept { block, id, sealed_at, copies }),
            StoredCopies::Incomplete(holders) => holders,
        };
        let (copies, chunk) = fetch_stored_chunk(&self.http, |cell| self.reusable.url(cell), id, holders)?;
        Some(Event::Fetched { block, chunk, sealed_at, copies })
    }
}

fn send(job: SendJob, http: &Http) -> Event {
    let SendJob { position, cell, url, chunk, hints } = job;
    let result = http.put_chunk(&url, &chunk.id, &chunk.bytes, &hints);
    Event::Sent { position, cell, result }
}
