//! The work of one put.
//!
//! The caller's thread decides everything: it takes the events of the [`UploadPipeline`], asks the [`Placer`] for the
//! next step of each chunk, and keeps the journal. A chunk is finished when it has its copies.

// A shell: it measures and waits between searches for lost cells.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::discover::find_cells::find_cells;
use crate::client::error::ClientError;
use crate::client::manifest_file;
use crate::client::notice::Notice;
use crate::client::progress::{Progress, StopSignal};
use crate::client::put::finished_blocks::FinishedBlocks;
use crate::client::put::input::Input;
use crate::client::put::journal::{InterruptedPut, Journal};
use crate::client::put::omission::Omissions;
use crate::client::put::options::{PutOptions, PutReport};
use crate::client::put::placer::{ChunkCopies, Failure, NextStep, Placer};
use crate::client::put::resume::{StoredChunk, fetch_stored_chunk, find_stored_chunks};
use crate::client::put::send_window::{SendWindow, senders};
use crate::client::put::source::SourceLength;
use crate::client::put::upload_pipeline::{Event, SendJob, UploadInput, UploadPipeline};
use crate::id::{BLOCK_BYTES, ChunkId};
use crate::net::client::{CallError, Http, PutHints};
use crate::pipeline::{BlockHash, Key, Manifest, SealedChunk};

/// When no cell is left for a chunk, cells are searched for again up to this many times in a row.
const MAX_SEARCHES: u32 = 4;
/// Minimum interval between two of these searches.
const SEARCH_INTERVAL: Duration = Duration::from_secs(2);
/// While chunks get fewer copies than wanted, cells are searched for at this interval: they return, join or get room.
const SCARCITY_SEARCH_INTERVAL: Duration = Duration::from_secs(10);
/// Chunks of an interrupted put that are completed at the same time. Each is in memory.
const MAX_STORED_CHUNKS_IN_PROGRESS: usize = 4;

/// A chunk that does not have its copies yet.
struct ChunkInProgress {
    copies: ChunkCopies,
    /// The user's bytes in it; 0 if they were reported as progress already.
    plain_bytes: u64,
    chunk: Arc<SealedChunk>,
    /// Does it hold a permit of the pipeline?
    has_permit: bool,
}

/// A chunk of an interrupted put, with its copies.
struct KeptChunk {
    id: ChunkId,
    hash: BlockHash,
    copies: usize,
}

/// The state of one put.
pub(in crate::client) struct PutSession<'a> {
    http: Http,
    options: &'a PutOptions,
    progress: &'a dyn Progress,
    placer: Placer,
    journal: Option<Journal>,
    finished: FinishedBlocks,
    in_progress: BTreeMap<usize, ChunkInProgress>,
    /// Chunks of an interrupted put that lack copies.
    incomplete: VecDeque<StoredChunk>,
    /// Chunks of an interrupted put that are used only if their blocks are still the same.
    kept: BTreeMap<usize, KeptChunk>,
    /// Chunks for which no cell is left.
    stuck: BTreeSet<usize>,
    window: SendWindow,
    /// When cells were last searched for.
    last_search: Instant,
    /// Whether as many searches as there may be in a row found no cell for a chunk.
    searched_in_vain: bool,
    /// The copies of each chunk that the cells could take at the beginning. The user knows of these.
    expected_copies: usize,
    report: PutReport,
    omissions: Omissions,
}

impl<'a> PutSession<'a> {
    pub(in crate::client) fn new(
        http: Http,
        placer: Placer,
        options: &'a PutOptions,
        progress: &'a dyn Progress,
        omissions: Omissions,
    ) -> Self {
        let expected_copies = placer.accepting().min(options.copies.into());
        Self {
            http,
            options,
            progress,
            placer,
            journal: None,
            finished: FinishedBlocks::default(),
            in_progress: BTreeMap::new(),
            incomplete: VecDeque::new(),
            kept: BTreeMap::new(),
            stuck: BTreeSet::new(),
            window: SendWindow::new(options.copies),
            last_search: Instant::now(),
            searched_in_vain: false,
            expected_copies,
            report: PutReport::default(),
            omissions,
        }
    }

    /// Has the session record its chunks in this journal.
    pub(in crate::client) fn use_journal(&mut self, journal: Journal) {
        self.journal = Some(journal);
    }

    pub(in crate::client) fn has_journal(&self) -> bool {
        self.journal.is_some()
    }

    pub(in crate::client) fn placer(&self) -> &Placer {
        &self.placer
    }

    /// Bytes of the source whose chunks an interrupted run had stored.
    pub(in crate::client) fn stored_bytes(&self) -> u64 {
        (self.report.resumed_chunks + self.kept.len()) as u64 * BLOCK_BYTES as u64
    }

    /// Takes over the chunks of an interrupted put that the colony holds. If their blocks were hashed, a chunk is used
    /// once its block turns out to be the same, and chunks that lack copies are not used: their blocks are sealed again.
    pub(in crate::client) fn resume(&mut self, interrupted: &InterruptedPut) {
        let stored = find_stored_chunks(&self.http, &self.placer, self.options.copies, &interrupted.ids);
        if let Some(hashes) = &interrupted.hashes {
            for StoredChunk { index, id, holders } in stored.complete {
                if let Some(&hash) = hashes.get(&index) {
                    self.kept.insert(index, KeptChunk { id, hash, copies: holders.len() });
                }
            }
            if !self.kept.is_empty() {
                self.progress.notice(&Notice::PutResumed { chunks: self.kept.len() });
            }
            return;
        }
        self.report.resumed_chunks = stored.complete.len() + stored.incomplete.len();
        for StoredChunk { index, id, holders } in stored.complete {
            self.finished.insert(index, id, holders.len());
        }
        self.incomplete = stored.incomplete;
        if self.report.resumed_chunks > 0 {
            self.progress.notice(&Notice::PutResumed { chunks: self.report.resumed_chunks });
        }
    }

    /// Stores the source. Returns its size. It takes more than one pass only if chunks of an interrupted put of a file
    /// turn out to be unreadable: their blocks are sealed again in the next pass.
    pub(in crate::client) fn run(&mut self, source: &Input, key: &Key, stop: &StopSignal) -> Result<u64, ClientError> {
        self.progress.advance(self.report.resumed_chunks as u64 * BLOCK_BYTES as u64, 0);
        loop {
            let incomplete = self.incomplete.iter().map(|chunk| chunk.index);
            let input = UploadInput {
                input: source.clone(),
                kept: self.kept.iter().map(|(&index, chunk)| (index, chunk.hash)).collect(),
                hashes_blocks: matches!(source, Input::Tree(_)),
                skip: self.finished.indices().chain(incomplete).collect(),
                key: key.clone(),
                level: self.options.level,
                sealers: self.options.jobs.max(1),
                senders: senders(self.options.copies),
            };
            let length = self.pass(&UploadPipeline::start(input, &self.http), stop)?;
            // The journal of this file names no block beyond its end, unless somebody edited it.
            self.finished.truncate(length.blocks);
            if self.finished.count() == length.blocks {
                return Ok(length.bytes);
            }
        }
    }

    /// Reads the source to its end once.
    fn pass(&mut self, pipeline: &UploadPipeline, stop: &StopSignal) -> Result<SourceLength, ClientError> {
        let mut unreadable = 0;
        let mut end: Option<SourceLength> = None;
        let mut searches = 0;
        loop {
            if stop.is_set() {
                return Err(ClientError::Stopped);
            }
            if self.in_progress.len() < MAX_STORED_CHUNKS_IN_PROGRESS
                && let Some(stored) = self.incomplete.pop_front()
            {
                unreadable += usize::from(!self.complete(stored, pipeline));
                continue;
            }
            if !self.stuck.is_empty() {
                let stuck = std::mem::take(&mut self.stuck);
                if searches >= self.max_searches(&stuck) {
                    self.accept_or_fail(stuck, pipeline)?;
                } else {
                    self.search_cells(searches)?;
                    searches += 1;
                    for index in stuck {
                        self.advance(index, pipeline);
                    }
                }
                continue;
            }
            if let Some(length) = end
                && self.in_progress.is_empty()
                && self.finished.count() + unreadable >= length.blocks
            {
                return Ok(length);
            }
            match pipeline.next_event() {
                Ok(Event::Sealed { index, plain_bytes, chunk, hash }) => {
                    if let Some(journal) = &mut self.journal {
                        journal.record(index, chunk.id, hash)?;
                    }
                    self.report.sealed_bytes += chunk.bytes.len() as u64;
                    let copies = ChunkCopies::default();
                    self.in_progress.insert(index, ChunkInProgress { copies, plain_bytes, chunk, has_permit: true });
                    self.advance(index, pipeline);
                }
                Ok(Event::Sent { index, cell, result }) => {
                    searches = if result.is_ok() { 0 } else { searches };
                    self.window.upload_ended(result.as_ref().is_err_and(CallError::is_slow));
                    self.window.send(pipeline);
                    self.record_upload(index, cell, result);
                    self.advance(index, pipeline);
                }
                Ok(Event::Kept { index, plain_bytes }) => {
                    if let Some(KeptChunk { id, copies, .. }) = self.kept.remove(&index) {
                        self.finished.insert(index, id, copies);
                        self.report.resumed_chunks += 1;
                        self.progress.advance(plain_bytes, 0);
                    }
                }
                Ok(Event::Omitted(omission)) => {
                    self.omissions.add(omission.clone());
                    // The error has all there is to say about a single file.
                    if !(self.options.strict && self.omissions.of_file) {
                        self.progress.notice(&Notice::Omitted { omission });
                    }
                    if self.options.strict {
                        return Err(ClientError::strict(&self.omissions));
                    }
                }
                Ok(Event::SourceEnded(length)) => end = Some(length),
                Ok(Event::Failed(error)) => return Err(error),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(ClientError::WorkerPanicked),
            }
        }
    }

    /// Makes the copies that a chunk of an interrupted put lacks. False if none of its copies is readable: the chunk is
    /// given up then.
    fn complete(&mut self, stored: StoredChunk, pipeline: &UploadPipeline) -> bool {
        let index = stored.index;
        let Some((copies, chunk)) = fetch_stored_chunk(&self.http, &self.placer, stored) else { return false };
        let chunk = Arc::new(chunk);
        self.in_progress.insert(index, ChunkInProgress { copies, plain_bytes: 0, chunk, has_permit: false });
        self.advance(index, pipeline);
        true
    }

    /// Takes the next step for a chunk.
    fn advance(&mut self, index: usize, pipeline: &UploadPipeline) {
        let Some(in_progress) = self.in_progress.get_mut(&index) else { return };
        match self.placer.next(&mut in_progress.copies) {
            NextStep::Send(cells) => {
                let holders = self.placer.ids(&in_progress.copies.holders());
                let hints = PutHints { copies: self.options.copies, holders, owner: None };
                for cell in cells {
                    let Some(known) = self.placer.cell(cell) else { continue };
                    let (url, chunk, hints) = (known.url.clone(), Arc::clone(&in_progress.chunk), hints.clone());
                    self.window.push(SendJob { index, cell, url, chunk, hints });
                }
                self.window.send(pipeline);
            }
            NextStep::Wait => {}
            NextStep::Sufficient if self.last_search.elapsed() >= SCARCITY_SEARCH_INTERVAL => {
                self.stuck.insert(index);
            }
            NextStep::Complete | NextStep::Sufficient => self.finish_chunk(index, pipeline),
            NextStep::Stuck => {
                self.stuck.insert(index);
            }
        }
    }

    fn record_upload(&mut self, index: usize, cell: usize, result: Result<(), CallError>) {
        let Some(in_progress) = self.in_progress.get_mut(&index) else { return };
        match result {
            Ok(()) => {
                self.report.sent_bytes += in_progress.chunk.bytes.len() as u64;
                self.report.sent_copies += 1;
                self.placer.upload_succeeded(&mut in_progress.copies, cell);
            }
            Err(error) => {
                if self.placer.upload_failed(&mut in_progress.copies, cell, Failure::of(&error)) {
                    self.progress.notice(&Notice::CellSkipped { error });
                }
            }
        }
    }

    /// The number of searches before these chunks are accepted as they are, or the put fails. Once a full round of them
    /// was in vain, a cell that goes on refusing must not delay each chunk that has enough copies without it.
    fn max_searches(&self, stuck: &BTreeSet<usize>) -> u32 {
        let has_enough = |index| self.in_progress.get(index).is_none_or(|it| self.placer.meets_requirement(&it.copies));
        if !self.searched_in_vain || !stuck.iter().all(has_enough) {
            MAX_SEARCHES
        } else {
            u32::from(self.last_search.elapsed() >= SCARCITY_SEARCH_INTERVAL)
        }
    }

    /// Searches for cells that returned or joined.
    fn search_cells(&mut self, searches: u32) -> Result<(), ClientError> {
        let began = Instant::now();
        let cells = find_cells(&self.http, &self.options.scope, usize::MAX)?;
        let is_empty = cells.is_empty();
        self.placer.update_cells(cells);
        for in_progress in self.in_progress.values_mut() {
            in_progress.copies.clear_exclusions();
        }
        if is_empty || searches > 0 {
            thread::sleep(SEARCH_INTERVAL.saturating_sub(began.elapsed()));
        }
        self.last_search = Instant::now();
        Ok(())
    }

    /// After the last search: finishes the stuck chunks that have enough copies, and fails if one has too few.
    fn accept_or_fail(&mut self, stuck: BTreeSet<usize>, pipeline: &UploadPipeline) -> Result<(), ClientError> {
        self.searched_in_vain = true;
        for index in stuck {
            let Some(ChunkInProgress { copies, .. }) = self.in_progress.get(&index) else { continue };
            if !self.placer.meets_requirement(copies) {
                let (cells, required) = (self.placer.availability(), self.placer.required());
                return Err(ClientError::TooFewCopies { cells, required, made: copies.stored() });
            }
            self.finish_chunk(index, pipeline);
        }
        Ok(())
    }

    fn finish_chunk(&mut self, index: usize, pipeline: &UploadPipeline) {
        let Some(in_progress) = self.in_progress.remove(&index) else { return };
        let ChunkInProgress { copies, plain_bytes, chunk, has_permit } = in_progress;
        self.progress.advance(plain_bytes, chunk.bytes.len() as u64);
        self.finished.insert(index, chunk.id, copies.stored());
        if has_permit {
            pipeline.return_permit();
        }
    }

    /// Writes the manifest, and only then removes the journal.
    pub(in crate::client) fn finish(
        mut self,
        source: &Input,
        key: Key,
        size: u64,
        path: &Path,
    ) -> Result<PutReport, ClientError> {
        let copies = self.options.copies;
        let chunks: Vec<ChunkId> = self.finished.chunk_ids().unwrap_or_default();
        self.report.size = size;
        self.report.chunks = chunks.len();
        self.report.fewest_copies = self.finished.fewest_copies();
        self.report.short_chunks = self.finished.count_with_fewer_than(copies);
        if self.report.short_chunks > 0 && self.report.fewest_copies < self.expected_copies {
            let (short, chunks, fewest) = (self.report.short_chunks, self.report.chunks, self.report.fewest_copies);
            self.progress.notice(&Notice::ChunksShort { short, chunks, fewest, wanted: copies });
        }
        self.report.cells = self.placer.responding();
        self.report.requests = self.http.requests();
        self.report.omissions = self.omissions.count;
        self.report.omitted = self.omissions.first;
        let manifest = Manifest { key, size: Some(size), copies, content: source.content(), chunks, version2: None };
        manifest_file::write(&manifest, path, self.options.force)?;
        if let Some(journal) = self.journal {
            journal.remove()?;
        }
        Ok(self.report)
    }
}
