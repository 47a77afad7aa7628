//! The threads of a get: each fetches a chunk from the quickest holder, verifies and opens it, and tries the next
//! holder when that fails.

// A shell: it measures how quickly cells answer.
#![allow(clippy::disallowed_methods)]

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use crate::client::discover::holder_index::HolderIndex;
use crate::client::{BadCopy, CellName, KnownCell};
use crate::id::ChunkId;
use crate::net::client::Http;
use crate::pipeline::{Key, OpenError, open_chunk};
use crate::sync::lock;
use crate::wire::routes::DEFAULT_HOPS;

/// A chunk to be fetched.
#[derive(Debug, Clone, Copy)]
pub(in crate::client) struct Job {
    pub(in crate::client) index: usize,
    pub(in crate::client) id: ChunkId,
}

/// How a job ended.
pub(in crate::client) enum Outcome {
    /// The block's bytes, and how many the chunk had.
    Block { bytes: Vec<u8>, sealed: u64 },
    /// No good copy.
    Lost,
    /// The chunk is what it was when it was put, and still gives no block.
    Unusable(OpenError),
}

/// What a worker tells.
pub(in crate::client) struct Done {
    pub(in crate::client) job: Job,
    pub(in crate::client) outcome: Outcome,
    pub(in crate::client) bad: Vec<BadCopy>,
}

/// The threads of one get. They end by themselves when this is dropped.
pub(in crate::client) struct Crew {
    pub(in crate::client) done: Receiver<Done>,
    jobs: Sender<Job>,
    holders: Arc<Mutex<Generation>>,
}

/// The holders as they were found by one look. A job keeps to those that it began with: their numbers mean nothing in
/// others.
type Generation = Arc<Mutex<HolderIndex>>;

impl Crew {
    pub(in crate::client) fn start(http: &Http, key: &Key, holders: HolderIndex, workers: usize) -> Self {
        let (jobs, job) = channel();
        let (tell, done) = channel();
        let job = Arc::new(Mutex::new(job));
        let holders = Arc::new(Mutex::new(Arc::new(Mutex::new(holders))));
        for _ in 0..workers {
            let worker = Worker { http: http.clone(), key: key.clone(), holders: Arc::clone(&holders) };
            let (job, tell): (Arc<Mutex<Receiver<Job>>>, Sender<Done>) = (Arc::clone(&job), tell.clone());
            thread::spawn(move || {
                loop {
                    let next = lock(&job).recv();
                    let Ok(job) = next else { return };
                    if tell.send(worker.fetch(job)).is_err() {
                        return;
                    }
                }
            });
        }
        Self { done, jobs, holders }
    }

    pub(in crate::client) fn fetch(&self, job: Job) {
        // The workers live as long as the crew.
        let _ = self.jobs.send(job);
    }

    /// Takes in a new look at who has what.
    pub(in crate::client) fn replace_holders(&self, holders: HolderIndex) {
        *lock(&self.holders) = Arc::new(Mutex::new(holders));
    }
}

/// As a last resort, asks cells to search among those that they know. Ends with the first answer of which `take` makes
/// something.
pub(in crate::client) fn search<T>(
    http: &Http,
    entries: Vec<KnownCell>,
    id: &ChunkId,
    mut take: impl FnMut(Vec<u8>, CellName) -> T,
) -> Option<T> {
    entries.into_iter().find_map(|cell| {
        let bytes = http.get_chunk(&cell.url, id, DEFAULT_HOPS, None).ok()??;
        Some(take(bytes, cell.name()))
    })
}

struct Worker {
    http: Http,
    key: Key,
    holders: Arc<Mutex<Generation>>,
}

impl Worker {
    fn fetch(&self, job: Job) -> Done {
        let holders = Arc::clone(&lock(&self.holders));
        let mut bad = Vec::new();
        let outcome = self.fetch_from_holders(job, &holders, &mut bad).or_else(|| {
            let entries = lock(&holders).entries();
            search(&self.http, entries, &job.id, |bytes, cell| self.open(job, &bytes, cell, &mut bad)).flatten()
        });
        Done { job, outcome: outcome.unwrap_or(Outcome::Lost), bad }
    }

    fn fetch_from_holders(&self, job: Job, holders: &Mutex<HolderIndex>, bad: &mut Vec<BadCopy>) -> Option<Outcome> {
        let mut tried = Vec::new();
        loop {
            // Bound by itself, or the lock would be held while the chunk is fetched.
            let chosen = lock(holders).choose(job.index, &tried);
            let (number, cell) = chosen?;
            tried.push(number);
            let began = Instant::now();
            match self.http.get_chunk(&cell.url, &job.id, 0, None) {
                Ok(Some(bytes)) => {
                    lock(holders).fetched(number, began.elapsed().as_secs_f64() * 1000.0);
                    if let Some(outcome) = self.open(job, &bytes, cell.name(), bad) {
                        return Some(outcome);
                    }
                }
                Ok(None) => lock(holders).failed(number, false),
                Err(error) => lock(holders).failed(number, error.is_unreachable()),
            }
        }
    }

    /// Nothing is used before it is verified. `None` if another copy may be better.
    fn open(&self, job: Job, bytes: &[u8], cell: CellName, bad: &mut Vec<BadCopy>) -> Option<Outcome> {
        match open_chunk(bytes, &job.id, &self.key) {
            Ok(block) => Some(Outcome::Block { bytes: block, sealed: bytes.len() as u64 }),
            Err(OpenError::WrongHash { found }) => {
                let copy = BadCopy { chunk: job.id, index: job.index, cell, found: Some(found) };
                if !bad.contains(&copy) {
                    bad.push(copy);
                }
                None
            }
            Err(error) => Some(Outcome::Unusable(error)),
        }
    }
}
