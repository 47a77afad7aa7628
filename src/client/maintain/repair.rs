//! Bringing every chunk of a file back to its copies now, from one good copy each. The manifest's key is not needed:
//! chunks are moved as they are, sealed.
//!
//! ```text
//!  Survey ─▶ short chunks, weakest first ─▶ some workers, a chunk each: fetch ─▶ verify ─▶ Placer says where ─▶ send
//! ```
//!
//! Each chunk is done with by itself, so that a repair may be stopped at any time, and run again.

// A shell: it measures how quickly cells answer.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::discover::holder_index::HolderIndex;
use crate::client::get::download::search;
use crate::client::maintain::check::CheckOptions;
use crate::client::maintain::survey::Survey;
use crate::client::maintain::verify::is_unreadable;
use crate::client::put::placer::{Copies, Failure, Next, Placer};
use crate::client::{
    BadCopy, ByteRange, ByteRanges, CellAvailability, CellName, ClientError, Damage, KnownCell, Notice, Progress,
    StopSignal, manifest_file,
};
use crate::id::ChunkId;
use crate::net::client::{CallError, Http, PutHints};
use crate::pipeline::Manifest;
use crate::sync::lock;

/// Chunks that are worked on at the same time; each is in memory, once.
const WORKERS: usize = 4;
/// How often the user's wish to stop is looked at.
const STOP_LOOK: Duration = Duration::from_millis(100);

/// What a repair did, and what it could not do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Chunks of the file.
    pub chunks: usize,
    /// Copies that each should have.
    pub wanted: usize,
    /// Chunks that had fewer.
    pub short: usize,
    /// Copies made.
    pub made_copies: u64,
    /// Their bytes.
    pub made_bytes: u64,
    /// Chunks that still have fewer copies than they should, those that have none included.
    pub still_short: usize,
    /// Chunks that were to be had nowhere.
    pub missing: usize,
    /// The bytes of the file that are in them.
    pub missing_bytes: ByteRanges,
    /// Chunks of which there are only bad copies.
    pub corrupt: usize,
    /// The bytes of the file that are in them.
    pub corrupt_bytes: ByteRanges,
    /// Copies that were found to be bad.
    pub bad_copies: Vec<BadCopy>,
    /// Cells that are there and did not answer, or not to the end.
    pub unheard: Vec<CellName>,
    /// Cells that answered.
    pub cells: usize,
    /// Requests made.
    pub requests: u64,
    /// The cells, by whether they accept chunks.
    pub availability: CellAvailability,
}

impl RepairReport {
    /// What could not be done, with the exit code for it.
    pub fn failure(&self) -> Option<ClientError> {
        if self.missing > 0 {
            let (missing, chunks, cells, bytes) = (self.missing, self.chunks, self.cells, self.missing_bytes.clone());
            return Some(ClientError::Missing { missing, chunks, cells, bytes });
        }
        if self.corrupt > 0 {
            let damage = Damage::ChunksWithoutGoodCopy { corrupt: self.corrupt, chunks: self.chunks };
            return Some(ClientError::Corrupt { bytes: self.corrupt_bytes.clone(), damage });
        }
        (self.still_short > 0).then(|| ClientError::StillShort {
            short: self.still_short,
            chunks: self.chunks,
            wanted: self.wanted,
            cells: self.availability.clone(),
        })
    }
}

/// Makes the copies that are lacking.
pub fn repair(
    manifest: &Path,
    options: &CheckOptions,
    progress: &dyn Progress,
    stop: &StopSignal,
) -> Result<RepairReport, ClientError> {
    let Manifest { copies, chunks, size, .. } = manifest_file::read(manifest)?;
    let copies = options.copies.unwrap_or(copies);
    let mut report = RepairReport { chunks: chunks.len(), wanted: copies.into(), ..RepairReport::default() };
    if chunks.is_empty() {
        return Ok(report);
    }
    let http = CheckOptions::http();
    let mut survey = Survey::take(&http, &chunks, options, progress, stop)?;
    let tally = survey.tally(chunks.len(), report.wanted);
    report.short = tally.short.len();
    report.cells = survey.holders.answering();
    report.unheard = std::mem::take(&mut survey.unheard);
    let bad = std::mem::take(&mut survey.bad);
    let mut work = Work { size, progress, report, missing: tally.missing, corrupt: tally.corrupt };
    for copy in &bad {
        work.tell_of(copy);
    }
    if !work.report.unheard.is_empty() {
        progress.notice(&Notice::UnresponsiveCells { cells: work.report.unheard.clone() });
    }

    let lost: BTreeSet<usize> = work.missing.iter().chain(&work.corrupt).copied().collect();
    let queue = in_order(&tally.short, &lost, &chunks, &survey.holders);
    progress.total(Some(queue.len() as u64));
    work.report.still_short = lost.len();
    let cells: Vec<KnownCell> = survey.holders.cells().cloned().collect();
    // A cell that still has a bad copy would say that it has the chunk, and keep what it has.
    let spoilt = bad.iter().filter(|copy| copy.found.is_some());
    let state = State {
        placer: Placer::new(cells, copies, None, fastrand::u64(..)),
        spoilt: spoilt.map(|copy| (copy.chunk, copy.cell.clone())).collect(),
        holders: survey.holders,
        queue,
    };
    let shared = Arc::new(Shared { http, ids: chunks, copies, state: Mutex::new(state), stop: stop.clone() });
    work.report.bad_copies = bad;
    work.run(&start(&shared), stop)?;
    let mut report = work.finish();
    report.availability = lock(&shared.state).placer.availability();
    report.requests = shared.http.requests();
    Ok(report)
}

/// The weakest first: what they have left may go next. A chunk that stands in several places is one.
fn in_order(short: &[usize], lost: &BTreeSet<usize>, ids: &[ChunkId], holders: &HolderIndex) -> VecDeque<usize> {
    let mut queue: Vec<usize> = short.iter().copied().filter(|index| !lost.contains(index)).collect();
    queue.sort_by_key(|&index| (holders.count(index), index));
    let mut seen = BTreeSet::new();
    queue.retain(|&index| ids.get(index).is_some_and(|id| seen.insert(*id)));
    queue.into()
}

/// What a worker tells.
enum Told {
    /// A copy was made, of so many bytes.
    Made(u64),
    Bad(BadCopy),
    Notice(Notice),
    /// A chunk is done with: how many copies it has now; `None` if no good one was found.
    Done {
        index: usize,
        copies: Option<usize>,
    },
}

/// What is known, and what has been done, in the thread that was called.
struct Work<'a> {
    size: Option<u64>,
    progress: &'a dyn Progress,
    report: RepairReport,
    missing: Vec<usize>,
    corrupt: Vec<usize>,
}

impl Work<'_> {
    fn run(&mut self, told: &Receiver<Told>, stop: &StopSignal) -> Result<(), ClientError> {
        loop {
            if stop.is_set() {
                return Err(ClientError::StoppedRepair { made_copies: self.report.made_copies });
            }
            match told.recv_timeout(STOP_LOOK) {
                Ok(Told::Made(bytes)) => {
                    self.report.made_copies += 1;
                    self.report.made_bytes += bytes;
                }
                Ok(Told::Bad(copy)) => {
                    self.tell_of(&copy);
                    self.report.bad_copies.push(copy);
                }
                Ok(Told::Notice(notice)) => self.progress.notice(&notice),
                Ok(Told::Done { index, copies }) => {
                    self.progress.advance(1, 0);
                    let of_it = |copy: &BadCopy| copy.index == index;
                    match copies {
                        Some(_) => {}
                        None if self.report.bad_copies.iter().any(of_it) => self.corrupt.push(index),
                        None => self.missing.push(index),
                    }
                    self.report.still_short += usize::from(copies.is_none_or(|copies| copies < self.report.wanted));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn tell_of(&self, copy: &BadCopy) {
        let bytes = ByteRange::of_block(copy.index, self.size);
        self.progress.notice(&Notice::BadCopy { copy: copy.clone(), bytes });
    }

    fn finish(mut self) -> RepairReport {
        self.missing.sort_unstable();
        self.corrupt.sort_unstable();
        (self.report.missing, self.report.corrupt) = (self.missing.len(), self.corrupt.len());
        self.report.missing_bytes = ByteRanges::of_blocks(&self.missing, self.size);
        self.report.corrupt_bytes = ByteRanges::of_blocks(&self.corrupt, self.size);
        self.report
    }
}

/// What the workers share.
struct Shared {
    http: Http,
    ids: Vec<ChunkId>,
    copies: u8,
    state: Mutex<State>,
    stop: StopSignal,
}

struct State {
    queue: VecDeque<usize>,
    holders: HolderIndex,
    placer: Placer,
    /// Bad copies that are still where they were: which chunk, and on which cell.
    spoilt: BTreeSet<(ChunkId, CellName)>,
}

fn start(shared: &Arc<Shared>) -> Receiver<Told> {
    let (tell, told) = channel();
    for _ in 0..WORKERS {
        let worker = Worker { shared: Arc::clone(shared), tell: tell.clone() };
        thread::spawn(move || worker.run());
    }
    told
}

struct Worker {
    shared: Arc<Shared>,
    tell: Sender<Told>,
}

impl Worker {
    fn run(self) {
        while !self.shared.stop.is_set() {
            // Bound by itself, or the lock would be held while the chunk is worked on.
            let next = self.state().queue.pop_front();
            let Some((index, &id)) = next.and_then(|index| Some((index, self.shared.ids.get(index)?))) else { return };
            let copies = self.fetch(index, &id).map(|bytes| self.make_copies(index, &id, &bytes));
            self.say(Told::Done { index, copies });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }

    fn say(&self, told: Told) {
        // Nobody listens any more when the user has stopped it.
        drop(self.tell.send(told));
    }

    /// A good copy's bytes. Copies that turn out to be none are no longer counted.
    fn fetch(&self, index: usize, id: &ChunkId) -> Option<Vec<u8>> {
        let mut tried = Vec::new();
        loop {
            let chosen = self.state().holders.choose(index, &tried);
            let Some((number, cell)) = chosen else { break };
            tried.push(number);
            let began = Instant::now();
            let mut down = false;
            match self.shared.http.get_chunk(&cell.url, id, 0, None) {
                Ok(Some(bytes)) => {
                    let found = ChunkId::of(&bytes);
                    if found == *id {
                        self.state().holders.fetched(number, began.elapsed().as_secs_f64() * 1000.0);
                        return Some(bytes);
                    }
                    self.found_bad(index, id, &cell, Some(found));
                }
                Ok(None) => {}
                Err(error) if is_unreadable(&error) => self.found_bad(index, id, &cell, None),
                Err(error) => down = error.is_unreachable(),
            }
            let mut state = self.state();
            state.holders.failed(number, down);
            state.holders.lose(number, index);
        }
        let entries = self.state().holders.entries();
        search(&self.shared.http, entries, id, |bytes, _| (ChunkId::of(&bytes) == *id).then_some(bytes)).flatten()
    }

    /// A cell that knows how sets its bad copy aside, and can take a good one then.
    fn found_bad(&self, index: usize, id: &ChunkId, cell: &KnownCell, found: Option<ChunkId>) {
        let mut says_it_is_good = false;
        let looked = self.shared.http.verify(&cell.url, &[*id], &mut |_| says_it_is_good = true);
        if says_it_is_good || !matches!(looked, Ok(true)) {
            self.state().spoilt.insert((*id, cell.name()));
        }
        self.say(Told::Bad(BadCopy { chunk: *id, index, cell: cell.name(), found }));
    }

    /// Sends the chunk to as many cells as it lacks; others take the place of those that fail. Returns how many copies
    /// it has then.
    fn make_copies(&self, index: usize, id: &ChunkId, bytes: &[u8]) -> usize {
        let mut copies = self.copies(index, id);
        loop {
            let (targets, hints) = {
                let state = &mut *self.state();
                let Next::Send(chosen) = state.placer.next(&mut copies) else { return copies.done.len() };
                let all: Vec<usize> = copies.done.iter().chain(&copies.pending).copied().collect();
                let hints = PutHints { copies: self.shared.copies, holders: state.placer.names(&all), owner: None };
                let url = |number| Some((number, state.placer.cell(number)?.url.clone()));
                (chosen.into_iter().filter_map(url).collect::<Vec<_>>(), hints)
            };
            for (number, result) in self.send(&targets, id, bytes, &hints) {
                self.note(&mut copies, number, bytes.len(), result);
            }
        }
    }

    /// The copies that there are, in the numbers of the placer.
    fn copies(&self, index: usize, id: &ChunkId) -> Copies {
        let state = self.state();
        let counting = state.holders.holding(index).filter(|(_, cell)| cell.stays());
        let mut copies = Copies::held_by(counting.filter_map(|(_, cell)| state.placer.number_of(&cell.url)).collect());
        for cell in state.holders.cells().filter(|cell| state.spoilt.contains(&(*id, cell.name()))) {
            if let Some(number) = state.placer.number_of(&cell.url) {
                copies.avoid(number);
            }
        }
        copies
    }

    /// To all of them at once.
    fn send(
        &self,
        targets: &[(usize, String)],
        id: &ChunkId,
        bytes: &[u8],
        hints: &PutHints,
    ) -> Vec<(usize, Result<(), CallError>)> {
        let http = &self.shared.http;
        thread::scope(|scope| {
            let put = |(number, url): &(usize, String)| (*number, http.put_chunk(url, id, bytes, hints));
            let sent: Vec<_> = targets.iter().map(|target| scope.spawn(move || put(target))).collect();
            sent.into_iter().filter_map(|sent| sent.join().ok()).collect()
        })
    }

    fn note(&self, copies: &mut Copies, number: usize, bytes: usize, result: Result<(), CallError>) {
        match result {
            Ok(()) => {
                self.state().placer.succeeded(copies, number);
                self.say(Told::Made(bytes as u64));
            }
            Err(error) => {
                let given_up = self.state().placer.failed(copies, number, Failure::of(&error));
                if given_up {
                    self.say(Told::Notice(Notice::CellSkipped { error }));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ColonyScope;
    use crate::client::fixtures::{Quiet, status_of};
    use crate::net::test_server::TestServer;
    use crate::pipeline::{Content, Key};
    use crate::wire::id_lists::write_ids;

    const CHUNKS: usize = 8;

    fn bytes(index: usize) -> String {
        format!("chunk {index}")
    }

    fn ids() -> Vec<ChunkId> {
        (0..CHUNKS).map(|index| ChunkId::of(bytes(index).as_bytes())).collect()
    }

    /// A server of the first version, which has all chunks, or none. What it has is what `content` says.
    fn server(number: u8, has_all: bool, content: fn(usize) -> String) -> TestServer {
        let have = (200, if has_all { write_ids(&ids()) } else { String::new() });
        let mut calls = vec![
            ("GET /status".to_owned(), (200, status_of(number, &serde_json::json!({})))),
            ("POST /chunks/have".to_owned(), have.clone()),
            ("POST /chunks/have?verify=1".to_owned(), have),
        ];
        for (index, id) in ids().iter().enumerate() {
            calls.push((format!("PUT /chunk/{id}"), (200, String::new())));
            if has_all {
                calls.push((format!("GET /chunk/{id}"), (200, content(index))));
            }
        }
        let calls: Vec<_> = calls.iter().map(|(call, answer)| (call.as_str(), std::slice::from_ref(answer))).collect();
        TestServer::scripted(&calls)
    }

    fn repaired(servers: &[&TestServer], deep: bool) -> RepairReport {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest");
        let key = Key::generate();
        let manifest = Manifest { key, size: None, copies: 2, content: Content::File, chunks: ids() };
        manifest_file::write(&manifest, &path, false).unwrap();
        let nodes = servers.iter().map(|server| server.url.clone()).collect();
        let options = CheckOptions { deep, copies: None, scope: ColonyScope { nodes, udp_port: 1, loopback: true } };
        repair(&path, &options, &Quiet, &StopSignal::default()).unwrap()
    }

    fn puts(server: &TestServer) -> usize {
        server.calls().iter().filter(|call| call.starts_with("PUT")).count()
    }

    /// Such a server would say that the chunk is there already, and keep its bad file.
    #[test]
    fn a_server_that_keeps_its_bad_copies_is_no_place_for_good_ones() {
        let (good, bad, empty) = (server(1, true, bytes), server(2, true, |_| "rot".into()), server(3, false, bytes));
        let report = repaired(&[&good, &bad, &empty], true);
        assert_eq!((report.short, report.made_copies, report.still_short), (CHUNKS, CHUNKS as u64, 0));
        assert_eq!((puts(&good), puts(&bad), puts(&empty)), (0, 0, CHUNKS));
        assert_eq!(report.bad_copies.len(), CHUNKS);
    }

    #[test]
    fn bad_bytes_that_are_only_seen_while_they_are_fetched_are_not_sent_on_either() {
        let (bad, empty) = (server(2, true, |_| "rot".into()), server(3, false, bytes));
        let report = repaired(&[&bad, &empty], false);
        assert_eq!((report.corrupt, report.still_short, report.made_copies), (CHUNKS, CHUNKS, 0));
        assert_eq!((puts(&bad), puts(&empty)), (0, 0));
        assert_eq!(report.failure().unwrap().exit_code(), 5);
    }

    #[test]
    fn what_cannot_be_done_has_its_exit_code_and_its_reason() {
        let good = server(1, true, bytes);
        let report = repaired(&[&good], false);
        let failure = report.failure().unwrap();
        assert_eq!(failure.exit_code(), 3);
        assert!(failure.to_string().contains("8 of 8 chunks still have fewer than 2 copies (1 cell found)"));
        let report = repaired(&[&server(3, false, bytes)], false);
        assert_eq!((report.missing, report.failure().unwrap().exit_code()), (CHUNKS, 4));
    }

    #[test]
    fn the_weakest_chunks_come_first_and_each_once() {
        let ids: Vec<ChunkId> = [0, 1, 2, 1].map(|n| ChunkId::of(bytes(n).as_bytes())).to_vec();
        let cell = |n: u8| crate::client::fixtures::cell_at(&format!("http://{n}"));
        let holders =
            crate::client::discover::holder_index::testing::holders(&ids, &[(cell(1), &[0, 1, 2]), (cell(2), &[0])]);
        let lost = BTreeSet::from([2]);
        assert_eq!(in_order(&[0, 1, 2, 3], &lost, &ids, &holders), [1, 0]);
    }
}
