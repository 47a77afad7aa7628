//! The workers of a repair. Each fetches one good copy of a chunk and sends it to as many cells as the chunk lacks.

// A shell: it measures how quickly cells respond.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use crate::client::bad_copy::BadCopy;
use crate::client::discover::colony::{CellName, KnownCell};
use crate::client::discover::holder_index::HolderIndex;
use crate::client::discover::search_chunk::search_chunk;
use crate::client::maintain::verify::is_unreadable;
use crate::client::progress::StopSignal;
use crate::client::put::availability::CellAvailability;
use crate::client::put::placer::{ChunkCopies, Failure, NextStep, Placer};
use crate::client::workers::{ReceiverGone, Results, scoped_map, spawn_workers};
use crate::id::ChunkId;
use crate::net::client::{CHUNK_MIN_RATE, CallError, Http, PutHints, TransferLimits};
use crate::sync::lock;

/// Chunks that are repaired at the same time. Each is in memory once.
const WORKERS: usize = 4;

/// What the workers report.
pub(in crate::client) enum RepairEvent {
    /// A cell stored a copy.
    CopyMade { bytes: u64 },
    /// A copy is bad.
    BadCopy(BadCopy),
    /// A cell failed, and gets no further chunks.
    CellSkipped(CallError),
    /// A chunk has this number of copies now; `None` if no good copy was found.
    Finished { index: usize, copies: Option<usize> },
}

/// Repairs chunks. All clones share their state.
#[derive(Clone)]
pub(in crate::client) struct ChunkRepairer {
    http: Http,
    copies: u8,
    state: Arc<Mutex<RepairState>>,
}

struct RepairState {
    holders: HolderIndex,
    placer: Placer,
    /// Bad copies that their cell did not quarantine, by chunk and cell. Such a cell would report that it has the chunk
    /// already, and keep the bad copy.
    unremoved: BTreeSet<(ChunkId, CellName)>,
}

impl ChunkRepairer {
    /// `copies` are wanted of each chunk; `bad_copies` were found by the survey.
    pub(in crate::client) fn new(http: Http, copies: u8, holders: HolderIndex, bad_copies: &[BadCopy]) -> Self {
        let cells: Vec<KnownCell> = holders.cells().cloned().collect();
        let placer = Placer::new(cells, copies, copies, fastrand::u64(..));
        // Cells that found their copy bad themselves have quarantined it.
        let unremoved = bad_copies.iter().filter(|copy| copy.found.is_some());
        let unremoved = unremoved.map(|copy| (copy.chunk, copy.cell.clone())).collect();
        Self { http, copies, state: Arc::new(Mutex::new(RepairState { holders, placer, unremoved })) }
    }

    /// Starts the workers on these chunks, given by position and id. The events end after the last chunk, or when the
    /// user stops the repair.
    pub(in crate::client) fn start(&self, queue: Vec<(usize, ChunkId)>, stop: &StopSignal) -> Receiver<RepairEvent> {
        let (sender, events) = channel();
        let (repairer, stop) = (self.clone(), stop.clone());
        let jobs = queue.into_iter().take_while(move |_| !stop.is_set());
        spawn_workers(WORKERS, jobs, &sender, move |(index, id), results| {
            ChunkRepair { repairer: &repairer, results, index, id }.run()
        });
        events
    }

    /// The cells, by whether they accept chunks.
    pub(in crate::client) fn availability(&self) -> CellAvailability {
        self.state().placer.availability()
    }

    fn state(&self) -> MutexGuard<'_, RepairState> {
        lock(&self.state)
    }
}

/// The repair of one chunk.
struct ChunkRepair<'a> {
    repairer: &'a ChunkRepairer,
    results: &'a Results<RepairEvent>,
    index: usize,
    id: ChunkId,
}

impl ChunkRepair<'_> {
    fn run(&self) -> Result<(), ReceiverGone> {
        let copies = match self.fetch()? {
            Some(bytes) => Some(self.make_copies(&bytes)?),
            None => None,
        };
        self.results.send(RepairEvent::Finished { index: self.index, copies })
    }

    fn state(&self) -> MutexGuard<'_, RepairState> {
        self.repairer.state()
    }

    /// Fetches a good copy. Copies that are bad or gone are removed from the index. Holders below the minimum rate are
    /// asked once more, after all others: a slow copy is better than none.
    fn fetch(&self) -> Result<Option<Vec<u8>>, ReceiverGone> {
        let http = &self.repairer.http;
        let (mut tried, mut too_slow) = (Vec::new(), Vec::new());
        loop {
            // A statement of its own, or the lock would be held during the fetch.
            let chosen = self.choose(&tried);
            let Some((number, cell, is_slow)) = chosen else { break };
            tried.push(number);
            let min_rate = (!is_slow && !too_slow.contains(&number)).then_some(CHUNK_MIN_RATE);
            let limits = TransferLimits { min_rate, ..TransferLimits::default() };
            let began = Instant::now();
            let mut is_unreachable = false;
            match http.get_chunk_within(&cell.url, &self.id, 0, &limits) {
                Ok(Some(bytes)) => {
                    let found = ChunkId::of(&bytes);
                    if found == self.id {
                        let took_ms = began.elapsed().as_secs_f64() * 1000.0;
                        self.state().holders.fetch_succeeded(number, took_ms);
                        return Ok(Some(bytes));
                    }
                    self.report_bad_copy(&cell, Some(found))?;
                }
                Ok(None) => {}
                Err(error) if is_unreadable(&error) => self.report_bad_copy(&cell, None)?,
                Err(CallError::TooSlow { .. }) => {
                    let took_ms = began.elapsed().as_secs_f64() * 1000.0;
                    self.state().holders.fetch_too_slow(number, took_ms);
                    too_slow.push(number);
                    tried.retain(|tried| *tried != number);
                    continue;
                }
                Err(error) => is_unreachable = error.is_unreachable(),
            }
            let mut state = self.state();
            state.holders.fetch_failed(number, is_unreachable);
            state.holders.remove_copy(number, self.index);
        }
        let cells = self.state().holders.searching_cells();
        let good = |bytes: Vec<u8>, _| (ChunkId::of(&bytes) == self.id).then_some(bytes);
        Ok(search_chunk(http, cells, &self.id, good).flatten())
    }

    /// The holder that is likely to deliver the chunk first, and whether it is known to be slow.
    fn choose(&self, tried: &[usize]) -> Option<(usize, KnownCell, bool)> {
        let mut state = self.state();
        let (number, cell) = state.holders.begin_fetch(self.index, tried)?;
        Some((number, cell, state.holders.is_slow(number)))
    }

    /// Has the cell verify its bad copy. If it supports that, it quarantines the copy, and can take a good one then.
    fn report_bad_copy(&self, cell: &KnownCell, found: Option<ChunkId>) -> Result<(), ReceiverGone> {
        let mut confirms_copy = false;
        let verified = self.repairer.http.verify(&cell.url, &[self.id], &mut |_| confirms_copy = true);
        if confirms_copy || !matches!(verified, Ok(true)) {
            self.state().unremoved.insert((self.id, cell.name()));
        }
        let copy = BadCopy { chunk: self.id, index: self.index, cell: cell.name(), found };
        self.results.send(RepairEvent::BadCopy(copy))
    }

    /// Sends the chunk to as many cells as it lacks, and to others in place of those that fail. Returns the number of
    /// its copies.
    fn make_copies(&self, bytes: &[u8]) -> Result<usize, ReceiverGone> {
        let mut copies = self.existing_copies();
        loop {
            let Some((targets, hints)) = self.next_targets(&mut copies) else { return Ok(copies.stored()) };
            let http = &self.repairer.http;
            let send = |(_, url): &(usize, String)| http.put_chunk(url, &self.id, bytes, &hints);
            let results = scoped_map(&targets, targets.len(), send);
            for ((number, _), result) in targets.iter().zip(results) {
                self.record_upload(&mut copies, *number, bytes.len(), result)?;
            }
        }
    }

    /// The copies that exist, by the placer's numbers.
    fn existing_copies(&self) -> ChunkCopies {
        let RepairState { holders, placer, unremoved } = &*self.state();
        let staying = holders.holders(self.index).filter(|(_, cell)| cell.stays());
        let mut copies = ChunkCopies::stored_on(staying.filter_map(|(_, cell)| placer.number_of(&cell.url)).collect());
        let has_bad_copy = |cell: &&KnownCell| unremoved.contains(&(self.id, cell.name()));
        for number in holders.cells().filter(has_bad_copy).filter_map(|cell| placer.number_of(&cell.url)) {
            copies.exclude(number);
        }
        copies
    }

    /// The cells that get the next copies, by number and URL, with the hints for them. `None` if there are none.
    fn next_targets(&self, copies: &mut ChunkCopies) -> Option<(Vec<(usize, String)>, PutHints)> {
        let placer = &mut self.state().placer;
        let NextStep::Send(chosen) = placer.next(copies) else { return None };
        let hints =
            PutHints { copies: self.repairer.copies, bare: false, holders: placer.ids(&copies.holders()), owner: None };
        let target = |number| Some((number, placer.cell(number)?.url.clone()));
        Some((chosen.into_iter().filter_map(target).collect(), hints))
    }

    fn record_upload(
        &self,
        copies: &mut ChunkCopies,
        number: usize,
        bytes: usize,
        result: Result<(), CallError>,
    ) -> Result<(), ReceiverGone> {
        match result {
            Ok(()) => {
                self.state().placer.upload_succeeded(copies, number);
                self.results.send(RepairEvent::CopyMade { bytes: bytes as u64 })
            }
            Err(error) => {
                let is_skipped = self.state().placer.upload_failed(copies, number, Failure::of(&error));
                if is_skipped { self.results.send(RepairEvent::CellSkipped(error)) } else { Ok(()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::client::discover::holder_index::testing;
    use crate::net::client::Timeouts;
    use crate::net::test_server::{TestServer, response};

    #[test]
    fn a_holder_below_the_minimum_rate_is_left_behind() {
        // The whole would take hours.
        let slow = TestServer::trickling(1 << 20, Duration::from_millis(10));
        let good = TestServer::always(response(200, b"chunk"));
        let id = ChunkId::of(b"chunk");
        let cells = [&slow, &good].map(|server| (KnownCell::at(&server.url), &[0][..]));
        let http = Http::new(Timeouts::FETCH, 4, 16);
        let repairer = ChunkRepairer::new(http, 1, testing::holder_index(&[id], &cells), &[]);
        let events = repairer.start(vec![(0, id)], &StopSignal::default());
        let event = events.recv_timeout(Duration::from_mins(1)).unwrap();
        assert!(matches!(event, RepairEvent::Finished { index: 0, copies: Some(2) }));
        assert_eq!([&slow, &good].map(|server| server.calls().len()), [1, 1]);
    }
}
