//! The worker threads of a get. Each fetches a chunk from its holders, verifies and opens it, and has the cells search
//! for it if no holder has a good copy.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};

use crate::client::bad_copy::BadCopy;
use crate::client::discover::colony::CellName;
use crate::client::discover::holder_index::HolderIndex;
use crate::client::discover::search_chunk::search_chunk;
use crate::client::get::hedging::Hedging;
use crate::client::get::race::{Race, Requests};
use crate::client::get::request_threads::RequestThreads;
use crate::client::get::spare_buffers::SpareBuffers;
use crate::client::workers::{STOP_CHECK_INTERVAL, spawn_workers};
use crate::id::ChunkId;
use crate::net::client::Http;
use crate::pipeline::{Key, OpenError, OpenedBlock, open_chunk};
use crate::sync::lock;

/// A chunk to fetch.
#[derive(Debug, Clone)]
pub(in crate::client) struct FetchJob {
    /// The position of the chunk in the manifest.
    pub(in crate::client) index: usize,
    pub(in crate::client) id: ChunkId,
    /// The key that opens it.
    pub(in crate::client) key: Key,
}

/// How a job ended.
pub(in crate::client) enum FetchOutcome {
    /// The block, and the size of its chunk in bytes.
    Block { block: OpenedBlock, sealed_bytes: u64 },
    /// No good copy was found. These holders did not deliver theirs, and may do so later.
    NoGoodCopy { unanswered: Vec<CellName> },
    /// The chunk is the one that was put, and cannot be opened.
    Unopenable(OpenError),
}

/// The result of a job.
pub(in crate::client) struct FetchResult {
    pub(in crate::client) job: FetchJob,
    pub(in crate::client) outcome: FetchOutcome,
    /// Copies that were found bad on the way.
    pub(in crate::client) bad_copies: Vec<BadCopy>,
}

/// The worker threads of one get. They end after this is dropped. The caller bounds the number of jobs, and with it the
/// number of blocks in memory.
pub(in crate::client) struct FetchPool {
    jobs: Sender<FetchJob>,
    results: Receiver<FetchResult>,
    current: Arc<Mutex<SharedIndex>>,
    in_progress: RefCell<BTreeMap<usize, FetchJob>>,
    buffers: Arc<SpareBuffers>,
}

/// The holders as one search found them. A job stays with the index that it began with, since the numbers of cells
/// differ between two of them.
type SharedIndex = Arc<Mutex<HolderIndex>>;

impl FetchPool {
    pub(in crate::client) fn start(http: &Http, holders: HolderIndex, workers: usize) -> Self {
        let (jobs, queue) = channel();
        let (sender, results) = channel();
        let current = Arc::new(Mutex::new(Arc::new(Mutex::new(holders))));
        let (http, hedging) = (http.clone(), Hedging::new(workers));
        let buffers = Arc::new(SpareBuffers::new(workers));
        let threads = RequestThreads::default();
        let fetcher = Fetcher { http, threads, buffers: Arc::clone(&buffers), hedging, current: Arc::clone(&current) };
        spawn_workers(workers, queue.into_iter(), &sender, move |job, results| results.send(fetcher.fetch(job)));
        Self { jobs, results, current, in_progress: RefCell::default(), buffers }
    }

    pub(in crate::client) fn submit(&self, job: FetchJob) {
        self.in_progress.borrow_mut().insert(job.index, job.clone());
        // The workers live as long as the pool.
        let _ = self.jobs.send(job);
    }

    /// Waits a moment for the next result.
    pub(in crate::client) fn next_result(&self) -> Result<FetchResult, RecvTimeoutError> {
        loop {
            let result = self.results.recv_timeout(STOP_CHECK_INTERVAL)?;
            if self.in_progress.borrow_mut().remove(&result.job.index).is_some() {
                return Ok(result);
            }
        }
    }

    /// Drops the result of this job, if there will be one.
    pub(in crate::client) fn forget(&self, job: &FetchJob) {
        self.in_progress.borrow_mut().remove(&job.index);
    }

    /// The first chunk of the file that was submitted and has no result yet.
    pub(in crate::client) fn first_in_progress(&self) -> Option<FetchJob> {
        self.in_progress.borrow().first_key_value().map(|(_, job)| job.clone())
    }

    /// Has later jobs use the memory of a block, if it is free.
    pub(in crate::client) fn give_back(&self, free: Option<Vec<u8>>) {
        if let Some(buffer) = free {
            self.buffers.give_back(buffer);
        }
    }

    /// Has later jobs use these holders.
    pub(in crate::client) fn replace_holders(&self, mut holders: HolderIndex) {
        let earlier = Arc::clone(&lock(&self.current));
        holders.learn_from(&lock(&earlier));
        *lock(&self.current) = Arc::new(Mutex::new(holders));
    }
}

struct Fetcher {
    http: Http,
    threads: RequestThreads,
    buffers: Arc<SpareBuffers>,
    hedging: Hedging,
    current: Arc<Mutex<SharedIndex>>,
}

impl Fetcher {
    fn fetch(&self, job: FetchJob) -> FetchResult {
        let holders = Arc::clone(&lock(&self.current));
        let (mut bad_copies, mut unanswered) = (Vec::new(), Vec::new());
        let outcome = self
            .fetch_from_holders(&job, &holders, &mut bad_copies, &mut unanswered)
            .or_else(|| self.fetch_by_search(&job, &holders, &mut bad_copies))
            .unwrap_or(FetchOutcome::NoGoodCopy { unanswered });
        FetchResult { job, outcome, bad_copies }
    }

    fn fetch_from_holders(
        &self,
        job: &FetchJob,
        holders: &Mutex<HolderIndex>,
        bad_copies: &mut Vec<BadCopy>,
        unanswered: &mut Vec<CellName>,
    ) -> Option<FetchOutcome> {
        let requests = Requests { http: &self.http, threads: &self.threads, buffers: &self.buffers };
        let mut race = Race::new(requests, holders, &self.hedging, job.index, job.id);
        while let Some((bytes, cell)) = race.next_copy() {
            if let Some(outcome) = open(job, bytes, cell, bad_copies) {
                return Some(outcome);
            }
        }
        *unanswered = race.unanswered();
        None
    }

    fn fetch_by_search(
        &self,
        job: &FetchJob,
        holders: &Mutex<HolderIndex>,
        bad_copies: &mut Vec<BadCopy>,
    ) -> Option<FetchOutcome> {
        let cells = lock(holders).searching_cells();
        search_chunk(&self.http, cells, &job.id, |bytes, cell| open(job, bytes, cell, bad_copies)).flatten()
    }
}

/// Verifies and opens a copy. `None` if it is bad, and another one may be good.
fn open(job: &FetchJob, bytes: Vec<u8>, cell: CellName, bad_copies: &mut Vec<BadCopy>) -> Option<FetchOutcome> {
    let sealed_bytes = bytes.len() as u64;
    match open_chunk(bytes, &job.id, &job.key) {
        Ok(block) => Some(FetchOutcome::Block { block, sealed_bytes }),
        Err(OpenError::WrongHash { found }) => {
            let copy = BadCopy { chunk: job.id, index: job.index, cell, found: Some(found) };
            if !bad_copies.contains(&copy) {
                bad_copies.push(copy);
            }
            None
        }
        Err(error) => Some(FetchOutcome::Unopenable(error)),
    }
}
