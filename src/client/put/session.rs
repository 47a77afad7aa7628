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
use crate::client::put::finished_blocks::{FinishedBlock, FinishedBlocks};
use crate::client::put::input::Input;
use crate::client::put::journal::{InterruptedPut, Journal, SealedBlock};
use crate::client::put::omission::Omissions;
use crate::client::put::options::{PutOptions, PutReport};
use crate::client::put::placer::{ChunkCopies, Failure, NextStep, Placer};
use crate::client::put::position::{ChunkKeys, Position};
use crate::client::put::resume::{StoredChunk, fetch_stored_chunk, find_stored_chunks};
use crate::client::put::reusable_chunks::ReusableChunks;
use crate::client::put::send_window::{SendWindow, senders};
use crate::client::put::source::SourceLength;
use crate::client::put::upload_pipeline::{BlockInfo, Event, SendJob, UploadInput, UploadPipeline};
use crate::id::{BLOCK_BYTES, ChunkId};
use crate::net::client::{CallError, Http, PutHints};
use crate::pipeline::{Key, Manifest, SealedChunk, Version2};

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
    /// The length of its block; 0 if it was not read.
    len: usize,
    chunk: Arc<SealedChunk>,
    /// Does it hold a permit of the pipeline?
    has_permit: bool,
}

/// The state of one put.
pub(in crate::client) struct PutSession<'a> {
    http: Http,
    options: &'a PutOptions,
    progress: &'a dyn Progress,
    placer: Placer,
    journal: Option<Journal>,
    keys: ChunkKeys,
    finished: FinishedBlocks,
    /// Where the chunks were sealed that are at another position now, by their numbers.
    moved: BTreeMap<usize, usize>,
    in_progress: BTreeMap<Position, ChunkInProgress>,
    /// Chunks of an interrupted put of an unchanged file that lack copies, with the numbers of their blocks.
    incomplete: VecDeque<(usize, StoredChunk)>,
    /// Chunks of an interrupted put that are used only where the source has their blocks.
    reusable: Arc<ReusableChunks>,
    /// The bytes of the blocks of these whose copies suffice.
    reusable_bytes: u64,
    /// Chunks for which no cell is left.
    stuck: BTreeSet<Position>,
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
        keys: ChunkKeys,
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
            keys,
            finished: FinishedBlocks::default(),
            moved: BTreeMap::new(),
            in_progress: BTreeMap::new(),
            incomplete: VecDeque::new(),
            reusable: Arc::new(ReusableChunks::new(keys, Vec::new())),
            reusable_bytes: 0,
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
        self.report.resumed_chunks as u64 * BLOCK_BYTES as u64 + self.reusable_bytes
    }

    /// Takes over the chunks of an interrupted put that the colony holds: those of an unchanged file at once, all others
    /// where the source turns out to have their blocks.
    pub(in crate::client) fn resume(&mut self, interrupted: &InterruptedPut) {
        let InterruptedPut { unchanged, others, has_changed, .. } = interrupted;
        let ids: Vec<ChunkId> = unchanged.values().copied().chain(others.iter().map(|block| block.id)).collect();
        let stored = find_stored_chunks(&self.http, &self.placer, self.options.copies, &ids);
        let numbers: Vec<usize> = unchanged.keys().copied().collect();
        let other = |chunk: &StoredChunk| others.get(chunk.number.checked_sub(numbers.len())?);
        let urls = self.placer.cells().map(|cell| cell.url.clone()).collect();
        let mut reusable = ReusableChunks::new(self.keys, urls);
        let mut others_found = 0;
        for chunk in stored.complete {
            if let Some(&number) = numbers.get(chunk.number) {
                let block = FinishedBlock::new(chunk.id, 0, chunk.holders.len());
                self.finished.insert(Position::Data(number), block);
            } else if let Some(block) = other(&chunk) {
                others_found += 1;
                self.reusable_bytes += block.len as u64;
                reusable.add(block, chunk, true);
            }
        }
        for chunk in stored.incomplete {
            if let Some(&number) = numbers.get(chunk.number) {
                self.incomplete.push_back((number, chunk));
            } else if let Some(block) = other(&chunk) {
                others_found += 1;
                reusable.add(block, chunk, false);
            }
        }
        self.reusable = Arc::new(reusable);
        self.report.resumed_chunks = self.finished.count() + self.incomplete.len();
        if self.report.resumed_chunks > 0 {
            self.progress.notice(&Notice::PutResumed { chunks: self.report.resumed_chunks });
        }
        if others_found > 0 {
            self.progress.notice(&Notice::PutReuses { chunks: others_found, has_changed: *has_changed });
        }
    }

    /// Stores the source. Returns its size. It takes more than one pass only if chunks of an interrupted put of a file
    /// turn out to be unreadable: their blocks are sealed again in the next pass.
    pub(in crate::client) fn run(&mut self, source: &Input, key: &Key, stop: &StopSignal) -> Result<u64, ClientError> {
        self.progress.advance(self.report.resumed_chunks as u64 * BLOCK_BYTES as u64, 0);
        loop {
            let incomplete = self.incomplete.iter().map(|(number, _)| *number);
            let input = UploadInput {
                input: source.clone(),
                skip: self.finished.data.numbers().chain(incomplete).collect(),
                reusable: Arc::clone(&self.reusable),
                hashes_blocks: self.journal.is_some(),
                key: key.clone(),
                keys: self.keys,
                level: self.options.level,
                sealers: self.options.jobs.max(1),
                senders: senders(self.options.copies),
            };
            let length = self.pass(&UploadPipeline::start(input, &self.http), stop)?;
            // The journal of this file names no block beyond its end, unless somebody edited it.
            self.finished.data.truncate(length.blocks);
            if self.finished.count() == length.blocks + length.index_blocks {
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
                && let Some((number, stored)) = self.incomplete.pop_front()
            {
                unreadable += usize::from(!self.complete(number, stored, pipeline));
                continue;
            }
            if !self.stuck.is_empty() {
                let stuck = std::mem::take(&mut self.stuck);
                if searches >= self.max_searches(&stuck) {
                    self.accept_or_fail(stuck, pipeline)?;
                } else {
                    self.search_cells(searches)?;
                    searches += 1;
                    for position in stuck {
                        self.advance(position, pipeline);
                    }
                }
                continue;
            }
            if let Some(length) = end
                && self.in_progress.is_empty()
                && self.finished.count() + unreadable >= length.blocks + length.index_blocks
            {
                return Ok(length);
            }
            match pipeline.next_event() {
                Ok(Event::Sealed { block, chunk }) => {
                    self.record(block, chunk.id)?;
                    self.report.sealed_bytes += chunk.bytes.len() as u64;
                    self.begin_chunk(block, ChunkCopies::default(), chunk, pipeline);
                }
                Ok(Event::Sent { position, cell, result }) => {
                    searches = if result.is_ok() { 0 } else { searches };
                    self.window.upload_ended(result.as_ref().is_err_and(CallError::is_slow));
                    self.window.send(pipeline);
                    self.record_upload(position, cell, result);
                    self.advance(position, pipeline);
                }
                Ok(Event::Kept { block, id, sealed_at, copies }) => {
                    self.reuse(block, id, sealed_at)?;
                    self.finished.insert(block.position, FinishedBlock::new(id, block.len, copies));
                    self.progress.advance(source_bytes(block.position, block.len), 0);
                    pipeline.return_permit();
                }
                Ok(Event::Fetched { block, chunk, sealed_at, copies }) => {
                    self.reuse(block, chunk.id, sealed_at)?;
                    self.begin_chunk(block, copies, chunk, pipeline);
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

    /// Records a block in the journal.
    fn record(&mut self, block: BlockInfo, id: ChunkId) -> Result<(), ClientError> {
        let BlockInfo { position, len, hash } = block;
        let block = SealedBlock { position, id, hash, len };
        self.journal.as_mut().map_or(Ok(()), |journal| journal.record(&block))
    }

    /// Records that a block has a chunk of the interrupted put.
    fn reuse(&mut self, block: BlockInfo, id: ChunkId, sealed_at: Position) -> Result<(), ClientError> {
        self.report.resumed_chunks += 1;
        match (self.keys, block.position, sealed_at) {
            // The next put of the file need not read this block. In a directory, the journal has to have the position
            // whose key the chunk has.
            (ChunkKeys::Shared, _, _) => self.record(block, id)?,
            (ChunkKeys::Derived, Position::Data(number), Position::Data(sealed_at)) if number != sealed_at => {
                self.moved.insert(number, sealed_at);
            }
            (ChunkKeys::Derived, _, _) => {}
        }
        Ok(())
    }

    /// Begins to store the chunk of a block, which holds a permit.
    fn begin_chunk(&mut self, block: BlockInfo, copies: ChunkCopies, chunk: SealedChunk, pipeline: &UploadPipeline) {
        let BlockInfo { position, len, .. } = block;
        let chunk = Arc::new(chunk);
        self.in_progress.insert(position, ChunkInProgress { copies, len, chunk, has_permit: true });
        self.advance(position, pipeline);
    }

    /// Makes the copies that a chunk of an interrupted put lacks. False if none of its copies is readable: the chunk is
    /// given up then.
    fn complete(&mut self, number: usize, stored: StoredChunk, pipeline: &UploadPipeline) -> bool {
        let url = |cell| self.placer.cell(cell).map(|cell| cell.url.as_str());
        let Some((copies, chunk)) = fetch_stored_chunk(&self.http, url, stored.id, stored.holders) else {
            return false;
        };
        let (position, chunk) = (Position::Data(number), Arc::new(chunk));
        self.in_progress.insert(position, ChunkInProgress { copies, len: 0, chunk, has_permit: false });
        self.advance(position, pipeline);
        true
    }

    /// Takes the next step for a chunk.
    fn advance(&mut self, position: Position, pipeline: &UploadPipeline) {
        let Some(in_progress) = self.in_progress.get_mut(&position) else { return };
        match self.placer.next(&mut in_progress.copies) {
            NextStep::Send(cells) => {
                let holders = self.placer.ids(&in_progress.copies.holders());
                let hints = PutHints { copies: self.options.copies, bare: false, holders, owner: None };
                for cell in cells {
                    let Some(known) = self.placer.cell(cell) else { continue };
                    let (url, chunk, hints) = (known.url.clone(), Arc::clone(&in_progress.chunk), hints.clone());
                    self.window.push(SendJob { position, cell, url, chunk, hints });
                }
                self.window.send(pipeline);
            }
            NextStep::Wait => {}
            NextStep::Sufficient if self.last_search.elapsed() >= SCARCITY_SEARCH_INTERVAL => {
                self.stuck.insert(position);
            }
            NextStep::Complete | NextStep::Sufficient => self.finish_chunk(position, pipeline),
            NextStep::Stuck => {
                self.stuck.insert(position);
            }
        }
    }

    fn record_upload(&mut self, position: Position, cell: usize, result: Result<(), CallError>) {
        let Some(in_progress) = self.in_progress.get_mut(&position) else { return };
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
    fn max_searches(&self, stuck: &BTreeSet<Position>) -> u32 {
        let has_enough =
            |position| self.in_progress.get(position).is_none_or(|it| self.placer.meets_requirement(&it.copies));
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
    fn accept_or_fail(&mut self, stuck: BTreeSet<Position>, pipeline: &UploadPipeline) -> Result<(), ClientError> {
        self.searched_in_vain = true;
        for position in stuck {
            let Some(ChunkInProgress { copies, .. }) = self.in_progress.get(&position) else { continue };
            if !self.placer.meets_requirement(copies) {
                let (cells, required) = (self.placer.availability(), self.placer.required());
                return Err(ClientError::TooFewCopies { cells, required, made: copies.stored() });
            }
            self.finish_chunk(position, pipeline);
        }
        Ok(())
    }

    fn finish_chunk(&mut self, position: Position, pipeline: &UploadPipeline) {
        let Some(in_progress) = self.in_progress.remove(&position) else { return };
        let ChunkInProgress { copies, len, chunk, has_permit } = in_progress;
        self.progress.advance(source_bytes(position, len), chunk.bytes.len() as u64);
        self.finished.insert(position, FinishedBlock::new(chunk.id, len, copies.stored()));
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
        let chunks: Vec<ChunkId> = self.finished.data.chunk_ids().unwrap_or_default();
        self.report.size = size;
        self.report.chunks = self.finished.count();
        self.report.index_chunks = self.finished.index.count();
        self.report.fewest_copies = self.finished.fewest_copies();
        self.report.short_chunks = self.finished.count_with_fewer_than(copies);
        if self.report.short_chunks > 0 && self.report.fewest_copies < self.expected_copies {
            let (short, chunks, fewest) = (self.report.short_chunks, self.report.chunks, self.report.fewest_copies);
            self.progress.notice(&Notice::ChunksShort { short, chunks, fewest, wanted: copies });
        }
        self.report.cells = self.placer.responding();
        self.report.requests = self.http.requests();
        self.report.omissions = self.omissions.count;
        let version2 = match self.keys {
            ChunkKeys::Shared => None,
            ChunkKeys::Derived => Some(self.version2(&key)),
        };
        let manifest = Manifest { key, size: Some(size), copies, content: source.content(), chunks, version2 };
        self.report.omitted = self.omissions.first;
        manifest_file::write(&manifest, path, self.options.force)?;
        if let Some(journal) = self.journal {
            journal.remove()?;
        }
        Ok(self.report)
    }

    /// What the manifest of a directory has besides that of a file.
    fn version2(&self, key: &Key) -> Version2 {
        let key_at = |sealed_at: usize| self.keys.key(key, Position::Data(sealed_at));
        Version2 {
            ends: self.finished.data.ends(),
            keys: self.moved.iter().map(|(&number, &sealed_at)| (number, key_at(sealed_at))).collect(),
            tree: self.finished.index.chunk_ids().unwrap_or_default(),
            tree_ends: self.finished.index.ends(),
        }
    }
}

/// The bytes of the source in a block: those of an index are none of them.
fn source_bytes(position: Position, len: usize) -> u64 {
    match position {
        Position::Data(_) => len as u64,
        Position::Index(_) => 0,
    }
}
