//! Getting a file back from the colony.
//!
//! ```text
//!  manifest ─▶ query_holders: which cells hold which chunks ─▶ HolderIndex
//!                                                                 │ the quickest holder
//!  FetchPool, a chunk each:             Race: fetch ◀─────────────┘ and a second one, if that is late
//!                                                   ▼
//!                                        verify ─▶ open ─▶ in order ─▶ Output
//! ```
//!
//! The caller's thread submits chunks within a window and writes blocks in order. The window bounds the memory. When a
//! chunk has no good copy, `Patience` decides when to search the colony again, and when to give up.

// A shell: it reads the clock.
#![allow(clippy::disallowed_methods)]

pub(super) mod block_log;
pub(super) mod difference;
pub(super) mod fetch_pool;
pub(super) mod file_output;
pub(super) mod hedging;
pub(super) mod holder_search;
pub(super) mod index;
mod leftovers;
pub(super) mod list;
pub(super) mod omission;
pub(super) mod output;
pub(super) mod part;
pub(super) mod partial;
pub(super) mod patience;
pub(super) mod plan;
mod positions;
pub(super) mod race;
mod request_threads;
pub(super) mod restore_options;
mod spare_buffers;
#[cfg(unix)]
pub(super) mod tree;
mod verify;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use crate::client::bad_copy::BadCopy;
use crate::client::byte_ranges::{ByteRange, ByteRanges};
use crate::client::discover::colony::{CellName, ColonyScope};
use crate::client::discover::holder_index::HolderIndex;
use crate::client::discover::search_chunk::is_found_by_search;
use crate::client::error::{ClientError, Damage};
use crate::client::get::fetch_pool::{FetchJob, FetchOutcome, FetchPool, FetchResult};
use crate::client::get::holder_search::{FoundHolders, HolderSearch, find_holders};
use crate::client::get::omission::RestoreOmission;
use crate::client::get::output::{Output, Target};
use crate::client::get::part::Part;
use crate::client::get::patience::{Failure, Patience, Step};
use crate::client::get::plan::lost::LostPart;
use crate::client::get::positions::Positions;
use crate::client::get::restore_options::RestoreOptions;
use crate::client::manifest_file;
use crate::client::notice::Notice;
use crate::client::paths::{check_parent, is_same_file, parent_of};
use crate::client::progress::{Progress, StopSignal};
use crate::client::usage_error::UsageError;
use crate::id::ChunkId;
use crate::net::client::{Http, Timeouts};
use crate::pipeline::{Content, Manifest, OpenedBlock};
use crate::time::Time;

/// Options of a get.
#[derive(Debug, Clone)]
pub struct GetOptions {
    /// Chunks opened at the same time.
    pub jobs: usize,
    /// Overwrite a file.
    pub force: bool,
    /// How long to wait, without any progress, for cells that stopped responding. Up to
    /// [`MAX_PATIENCE`](patience::MAX_PATIENCE); zero gives up at once.
    pub patience: Duration,
    /// What of the metadata of a directory is restored. That of a single file is in its manifest.
    pub restore: RestoreOptions,
    /// What of the stored bytes is restored.
    pub part: Part,
    /// Restore what is there, if some chunks are not.
    pub salvage: bool,
    /// Where to search for cells.
    pub scope: ColonyScope,
}

/// The result of a get.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GetReport {
    /// Bytes restored, without those that are lost; of a directory, those of its stream.
    pub size: u64,
    /// Chunks that were wanted, those of the index among them.
    pub wanted_chunks: usize,
    /// Chunks of the file.
    pub chunks: usize,
    /// Bytes of the chunks that were fetched.
    pub fetched_bytes: u64,
    /// Bytes of the restored data that an interrupted get had left, and that were not fetched again.
    pub reused_bytes: u64,
    /// The smallest number of copies found of any chunk.
    pub fewest_copies: usize,
    /// Bad copies that were found.
    pub bad_copies: Vec<BadCopy>,
    /// Cells that responded.
    pub cells: usize,
    /// Requests made.
    pub requests: u64,
    /// How much could not be restored, or not as it was. All of it was reported to the progress.
    pub omissions: usize,
    /// The omissions that were named: of each kind the first 20.
    pub named_omissions: Vec<RestoreOmission>,
    /// Did a salvage not find everything?
    pub is_salvaged: bool,
    /// What it did not find. A file with several names is among them by each.
    pub lost: Vec<LostPart>,
    /// The bytes of it, each of them once.
    pub lost_bytes: u64,
    /// The wanted chunks that it did without.
    pub lost_chunks: usize,
}

/// Entries with lost parts that are named one by one. Others are counted; the report has all of them.
const MAX_NAMED_LOST: usize = 1000;

/// Chunks without a known holder that the cells are asked to search for before anything is written.
const MAX_SEARCHED_CHUNKS: usize = 16;

/// Restores the file or directory that the manifest describes.
pub fn get(
    manifest: &Path,
    target: &Target,
    options: &GetOptions,
    progress: &dyn Progress,
    stop: &StopSignal,
) -> Result<GetReport, ClientError> {
    if let Target::Path(path) = target {
        check_parent(path)?;
        if is_same_file(manifest, path) {
            return Err(UsageError::OutputIsManifest { path: path.clone() }.into());
        }
    }
    let name = manifest;
    let manifest = manifest_file::read(manifest)?;
    options.part.check(&manifest, name)?;
    let mut output = Output::open(target, &manifest, options)?;
    if let Target::Path(path) = target {
        let paths = leftovers::find(parent_of(path), path);
        if !paths.is_empty() {
            progress.notice(&Notice::Leftovers { paths });
        }
    }
    progress.total(options.part.size(&manifest));
    let get = Get::new(&manifest, options, progress, Instant::now());
    let report = match get.run(&mut output, stop) {
        Ok(report) => report,
        Err(error) => return Err(output.fail(error)),
    };
    let omissions = output.finish(progress)?;
    Ok(GetReport { omissions: omissions.count(), named_omissions: omissions.into_named(), ..report })
}

/// The path to which a manifest is restored by default: its own, without `.manifest`.
pub fn default_output_path(manifest: &Path) -> Option<PathBuf> {
    // A name that begins with its only dot has no extension.
    if manifest.extension()? != "manifest" {
        return None;
    }
    Some(manifest.with_file_name(manifest.file_stem()?))
}

/// More threads than jobs: some wait for the network while others open chunks.
fn workers(options: &GetOptions) -> usize {
    2 * options.jobs.max(1) + 2
}

struct Get<'a> {
    http: Http,
    manifest: &'a Manifest,
    /// All chunks of the manifest. The position of a chunk in it is its number in messages, reports and jobs.
    ids: Vec<ChunkId>,
    options: &'a GetOptions,
    progress: &'a dyn Progress,
    began: Instant,
    patience: Patience,
    /// The search for holders that is in progress.
    search: Option<HolderSearch>,
    /// Cells that responded to the last search.
    responding: usize,
    /// The chunks that were wanted, by their positions.
    wanted: Vec<bool>,
    /// The ranges of the stored bytes that are restored, in order; empty while they are unknown.
    restored: Vec<Range<u64>>,
    /// What becomes of chunks that are lost.
    losses: Losses,
    lost: Lost,
    /// Was the index found to be lost?
    is_index_lost: bool,
    report: GetReport,
}

/// What a lost chunk means for the work in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Losses {
    /// It fails.
    Fatal,
    /// It goes on without the chunk.
    Skipped,
}

/// Chunks that are lost, by their positions. They are not requested again.
#[derive(Default)]
struct Lost {
    /// Those that were given up, and are still to be passed on.
    given_up: Vec<usize>,
    missing: BTreeSet<usize>,
    corrupt: BTreeSet<usize>,
    /// What is wrong with the first one that was found corrupt.
    first_damage: Option<Damage>,
}

impl Lost {
    fn contains(&self, position: usize) -> bool {
        self.missing.contains(&position) || self.corrupt.contains(&position)
    }
}

/// What became of a block.
enum Arrived {
    Block(OpenedBlock),
    /// It is lost, and the get goes on without it.
    Lost,
}

/// The bytes of a range that are in ranges which are in order.
fn overlap(ranges: &[Range<u64>], range: &Range<u64>) -> u64 {
    let first = ranges.partition_point(|other| other.end <= range.start);
    let others = ranges.iter().skip(first).take_while(|other| other.start < range.end);
    others.map(|other| other.end.min(range.end) - other.start.max(range.start)).sum()
}

impl Arrived {
    /// The block. Fails if it is lost: only work that skips losses can go on without one.
    fn block(self, position: usize, manifest: &Manifest) -> Result<OpenedBlock, ClientError> {
        match self {
            Self::Block(block) => Ok(block),
            Self::Lost => {
                let damage = Damage::ShortBlock { index: position, bytes: 0 };
                Err(ClientError::Corrupt { bytes: ByteRange::of_block(position, manifest).into(), damage })
            }
        }
    }
}

impl<'a> Get<'a> {
    fn new(manifest: &'a Manifest, options: &'a GetOptions, progress: &'a dyn Progress, began: Instant) -> Self {
        let workers = workers(options);
        let ids: Vec<ChunkId> = manifest.all_chunks().copied().collect();
        Self {
            http: Http::new(Timeouts::FETCH, workers, 4 * workers),
            manifest,
            wanted: vec![false; ids.len()],
            ids,
            options,
            progress,
            began,
            patience: Patience::new(options.patience),
            search: None,
            responding: 0,
            restored: Vec::new(),
            losses: Losses::Fatal,
            lost: Lost::default(),
            is_index_lost: false,
            report: GetReport::default(),
        }
    }
}

impl Get<'_> {
    fn run(mut self, output: &mut Output, stop: &StopSignal) -> Result<GetReport, ClientError> {
        self.report.chunks = self.ids.len();
        match (&self.options.part, self.manifest.content) {
            (Part::Whole, _) if !self.options.salvage && output.is_nothing() => self.verify(stop)?,
            (Part::Whole, _) if !self.options.salvage => self.whole(output, stop)?,
            (Part::Whole | Part::Range(_), Content::File(_)) => self.range(output, stop)?,
            (Part::Whole | Part::Paths(_) | Part::Range(_), _) => self.entries(output, stop)?,
        }
        self.report.requests = self.http.requests();
        self.report.wanted_chunks = self.wanted.iter().filter(|is_wanted| **is_wanted).count();
        self.report.lost_chunks = self.lost.missing.union(&self.lost.corrupt).count();
        self.report.is_salvaged = !self.report.lost.is_empty() || self.is_any_block_lost();
        for part in self.report.lost.iter().take(MAX_NAMED_LOST) {
            self.progress.notice(&Notice::Lost { part: part.clone() });
        }
        let more = self.report.lost.len().saturating_sub(MAX_NAMED_LOST);
        if more > 0 {
            self.progress.notice(&Notice::MoreLost { count: more });
        }
        Ok(self.report)
    }

    /// Restores everything.
    fn whole(&mut self, output: &mut Output, stop: &StopSignal) -> Result<(), ClientError> {
        let chunks = self.manifest.chunks.len();
        self.restored.extend(self.manifest.size.map(|size| 0..size));
        let kept = output.resume(self.progress, stop)?;
        if kept.bytes > 0 {
            self.progress.notice(&Notice::GetResumed { bytes: kept.bytes });
        }
        (self.report.size, self.report.reused_bytes) = (kept.bytes, kept.bytes);
        // The index is of no use to a get of everything.
        self.report.chunks = chunks;
        let positions = Positions::from(kept.blocks..chunks);
        if !positions.is_empty() {
            let pool = self.start(&positions, Losses::Fatal)?;
            let (manifest, progress) = (self.manifest, self.progress);
            let mut size = kept.bytes;
            self.fetch(&pool, &positions, stop, &mut |position, arrived| {
                let OpenedBlock { bytes, checksum } = arrived.block(position, manifest)?;
                size += bytes.len() as u64;
                output.write(bytes, Some(checksum), progress).map(|free| pool.give_back(free))
            })?;
            self.report.size = size;
        }
        if let Some(expected) = self.manifest.size.filter(|size| *size != self.report.size) {
            let bytes = ByteRange { start: 0, end: self.report.size }.into();
            return Err(ClientError::Corrupt { bytes, damage: Damage::WrongSize { expected } });
        }
        Ok(())
    }

    /// Is there a block of the stored bytes that was given up?
    fn is_any_block_lost(&self) -> bool {
        let mut lost = self.lost.missing.iter().chain(&self.lost.corrupt);
        lost.any(|position| *position < self.manifest.chunks.len())
    }

    /// What a get that is not a salvage does about chunks that are lost, and a salvage.
    fn losses(&self) -> Losses {
        if self.options.salvage { Losses::Skipped } else { Losses::Fatal }
    }

    /// Finds the holders of these chunks and starts to fetch.
    fn start(&mut self, positions: &Positions, losses: Losses) -> Result<FetchPool, ClientError> {
        self.losses = losses;
        let is_first = !self.wanted.contains(&true);
        positions.iter().for_each(|position| {
            self.wanted.get_mut(position).into_iter().for_each(|is_wanted| *is_wanted = true);
        });
        let holders = self.first_holders(positions)?;
        self.responding = holders.cell_count();
        self.report.cells = self.responding;
        match self.missing_at_first(&holders, positions) {
            missing if missing.is_empty() => {}
            // What a silent cell has is not lost.
            missing if losses == Losses::Skipped && self.patience.silent_cells() == 0 => {
                self.lost.missing.extend(missing);
            }
            missing => return Err(self.missing(&missing, holders.cell_count())),
        }
        let fewest = positions.iter().map(|index| holders.copies(index)).min().unwrap_or_default();
        self.report.fewest_copies = if is_first { fewest } else { fewest.min(self.report.fewest_copies) };
        Ok(FetchPool::start(&self.http, holders, workers(self.options)))
    }

    /// Finds the cells and asks them which chunks they hold. If one of these chunks has no holder among those that are
    /// found quickly, all cells are asked.
    fn first_holders(&mut self, positions: &Positions) -> Result<HolderIndex, ClientError> {
        let (scope, ids) = (&self.options.scope, &self.ids);
        let mut found = find_holders(&self.http, scope, ids, self.manifest.copies.into(), &[])?;
        if found.holders.cell_count() > 0 && found.holders.missing().iter().any(|&index| positions.contains(index)) {
            // Some cells may just have responded too late.
            let cells = found.responding;
            found = find_holders(&self.http, scope, ids, usize::MAX, &cells)?;
        }
        if found.holders.cell_count() == 0 {
            return Err(ClientError::none_responding(scope, found.cells));
        }
        self.patience.begin(self.now(), &found.responding);
        Ok(found.holders)
    }

    /// Those of these chunks that are missing, before anything is written; none, if the cells find one that seemed to be.
    /// Cells that this client does not reach may still hold others.
    fn missing_at_first(&self, holders: &HolderIndex, positions: &Positions) -> Vec<usize> {
        let missing: Vec<usize> = holders.missing().into_iter().filter(|&index| positions.contains(index)).collect();
        let is_found = |id: &ChunkId| is_found_by_search(&self.http, holders.searching_cells(), id);
        let searched = || missing.iter().take(MAX_SEARCHED_CHUNKS).filter_map(|&index| self.ids.get(index));
        // Work that goes on with what is left must not give up chunks that are on a cell out of reach.
        let is_missing =
            if self.losses == Losses::Skipped { !searched().any(is_found) } else { searched().any(|id| !is_found(id)) };
        if is_missing { missing } else { Vec::new() }
    }

    fn missing(&self, indices: &[usize], cells: usize) -> ClientError {
        ClientError::Missing {
            missing: indices.len(),
            chunks: self.ids.len(),
            cells,
            silent: self.patience.silent_cells(),
            bytes: ByteRanges::of_blocks(indices, self.manifest),
            salvageable: self.salvageable(indices),
        }
    }

    /// The bytes of what is restored that are not in these chunks, if a salvage could restore them.
    fn salvageable(&self, lost: &[usize]) -> Option<u64> {
        // Cells that stopped responding may return.
        if self.options.salvage || self.restored.is_empty() || self.patience.silent_cells() > 0 {
            return None;
        }
        let chunks = self.manifest.chunks.len();
        let lost = lost.iter().filter(|position| **position < chunks).map(|position| self.manifest.block(*position));
        let lost: u64 = lost.map(|block| overlap(&self.restored, &block)).sum();
        Some(self.restored.iter().map(|range| range.end - range.start).sum::<u64>().saturating_sub(lost))
    }

    /// Fetches these chunks, out of order, within a window, and passes their blocks on in order.
    fn fetch(
        &mut self,
        pool: &FetchPool,
        positions: &Positions,
        stop: &StopSignal,
        take: &mut dyn FnMut(usize, Arrived) -> Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        let window = 2 * workers(self.options);
        let mut arrived: BTreeMap<usize, Arrived> = BTreeMap::new();
        // Those that are not passed on yet: in the window, and behind it.
        let mut in_window = VecDeque::new();
        let mut behind = positions.iter();
        loop {
            if stop.is_set() {
                return Err(ClientError::Stopped);
            }
            while in_window.len() < window {
                let Some(position) = behind.next() else { break };
                in_window.push_back(position);
                if self.lost.contains(position) {
                    arrived.insert(position, Arrived::Lost);
                } else if let Some(job) = self.job(position) {
                    pool.submit(job);
                }
            }
            if in_window.is_empty() {
                return Ok(());
            }
            if in_window.len() == arrived.len() {
                // Nothing is awaited.
                self.pass_on(&mut in_window, &mut arrived, take)?;
                continue;
            }
            match pool.next_result() {
                Ok(result) => {
                    if let Some((index, block)) = self.handle(result)? {
                        arrived.insert(index, Arrived::Block(block));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(ClientError::WorkerPanicked),
            }
            arrived.extend(self.lost.given_up.drain(..).map(|position| (position, Arrived::Lost)));
            self.pass_on(&mut in_window, &mut arrived, take)?;
            self.attend(pool)?;
        }
    }

    /// Passes on what has arrived, as far as nothing before it is awaited.
    fn pass_on(
        &mut self,
        in_window: &mut VecDeque<usize>,
        arrived: &mut BTreeMap<usize, Arrived>,
        take: &mut dyn FnMut(usize, Arrived) -> Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        while let Some((position, mut block)) = in_window.front().and_then(|first| arrived.remove_entry(first)) {
            if let Arrived::Block(opened) = &block
                && let Err(damage) = self.check_length(position, opened.bytes.len())
            {
                if self.losses == Losses::Fatal {
                    let bytes = ByteRange::of_block(position, self.manifest).into();
                    return Err(ClientError::Corrupt { bytes, damage });
                }
                self.lost.corrupt.insert(position);
                self.lost.first_damage.get_or_insert(damage);
                block = Arrived::Lost;
            }
            take(position, block)?;
            in_window.pop_front();
        }
        Ok(())
    }

    /// The job for the chunk at this position.
    fn job(&self, position: usize) -> Option<FetchJob> {
        let key = match position.checked_sub(self.manifest.chunks.len()) {
            None => self.manifest.chunk_key(position),
            Some(position) => self.manifest.tree_key(position),
        };
        Some(FetchJob { index: position, id: *self.ids.get(position)?, key })
    }

    /// Returns the block, or `None` if its chunk has no good copy now.
    fn handle(&mut self, result: FetchResult) -> Result<Option<(usize, OpenedBlock)>, ClientError> {
        let FetchResult { job, outcome, bad_copies } = result;
        let bytes = ByteRange::of_block(job.index, self.manifest);
        for copy in bad_copies {
            if !self.report.bad_copies.contains(&copy) {
                self.report.bad_copies.push(copy);
            }
        }
        match outcome {
            FetchOutcome::Block { block, sealed_bytes } => {
                if let Some(notice) = self.patience.fetched(self.now(), job.index) {
                    self.cells_returned(&notice);
                }
                for copy in self.bad_copies(job.index) {
                    self.progress.notice(&Notice::BadCopy { copy: copy.clone(), bytes });
                }
                self.report.fetched_bytes += sealed_bytes;
                self.progress.advance(block.bytes.len() as u64, sealed_bytes);
                Ok(Some((job.index, block)))
            }
            FetchOutcome::Unopenable(error) if self.losses == Losses::Skipped => {
                self.lost.corrupt.insert(job.index);
                self.lost.first_damage.get_or_insert(error.into());
                self.lost.given_up.push(job.index);
                Ok(None)
            }
            FetchOutcome::Unopenable(error) => Err(ClientError::Corrupt { bytes: bytes.into(), damage: error.into() }),
            FetchOutcome::NoGoodCopy { unanswered } => {
                let has_bad_copy = self.bad_copies(job.index).next().is_some();
                self.patience.failed(self.now(), job, Failure { unanswered, has_bad_copy });
                Ok(None)
            }
        }
    }

    /// The bad copies of this chunk that were found.
    fn bad_copies(&self, index: usize) -> impl Iterator<Item = &BadCopy> {
        self.report.bad_copies.iter().filter(move |copy| copy.index == index)
    }

    /// Searches for cells that may have good copies of chunks which have none now, and gives up such a chunk in the end.
    fn attend(&mut self, pool: &FetchPool) -> Result<(), ClientError> {
        if let Some(found) = self.search.as_ref().and_then(HolderSearch::result) {
            self.search = None;
            self.found(found, pool);
        }
        while let Some(step) = self.patience.next(self.now(), pool.first_in_progress()) {
            match step {
                Step::Search => {
                    let (scope, ids) = (&self.options.scope, &self.ids);
                    self.search = Some(HolderSearch::start(&self.http, scope, ids, self.patience.seen()));
                }
                Step::Notice(notice) => self.progress.notice(&notice),
                // What a silent cell has is not lost.
                Step::GiveUp(job) if self.losses == Losses::Skipped && self.patience.silent_cells() == 0 => {
                    if let Some(damage) = self.all_copies_bad(&job) {
                        self.lost.corrupt.insert(job.index);
                        self.lost.first_damage.get_or_insert(damage);
                    } else {
                        self.lost.missing.insert(job.index);
                    }
                    self.lost.given_up.push(job.index);
                    // It may be in progress at a cell that hangs.
                    pool.forget(&job);
                }
                Step::GiveUp(job) => {
                    return Err(self.no_good_copy(&job, ByteRange::of_block(job.index, self.manifest)));
                }
            }
        }
        Ok(())
    }

    /// Requests chunks again that have no good copy now, perhaps from cells that returned.
    fn found(&mut self, FoundHolders { holders, responding, .. }: FoundHolders, pool: &FetchPool) {
        let has_holder = |index| holders.copies(index) > 0;
        let news = self.patience.searched(self.now(), &responding, has_holder);
        self.responding = holders.cell_count();
        // After an outage the chunks may come from cells that were found before it.
        self.report.cells = self.report.cells.max(self.responding);
        // If no cell responds, those found before may still do so.
        if holders.cell_count() > 0 {
            pool.replace_holders(holders);
        }
        if let Some(notice) = news.notice {
            self.cells_returned(&notice);
        }
        news.retries.into_iter().for_each(|job| pool.submit(job));
    }

    fn cells_returned(&self, notice: &Notice) {
        self.progress.notice(notice);
        // The time of waiting does not count towards the speed.
        self.progress.advance(0, 0);
    }

    /// Time since the get began.
    fn now(&self) -> Time {
        Time(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn no_good_copy(&self, job: &FetchJob, bytes: ByteRange) -> ClientError {
        match self.all_copies_bad(job) {
            Some(damage) => ClientError::Corrupt { bytes: bytes.into(), damage },
            None => self.missing(&[job.index], self.responding),
        }
    }

    /// The damage if bad copies of a chunk were found, and no good one.
    fn all_copies_bad(&self, job: &FetchJob) -> Option<Damage> {
        let cells: Vec<CellName> = self.bad_copies(job.index).map(|copy| copy.cell.clone()).collect();
        let more = cells.len() < usize::from(self.manifest.copies);
        (!cells.is_empty()).then_some(Damage::AllCopiesBad { chunk: job.id, cells, more })
    }

    /// The errors about the chunks that are lost: those that are missing, and those that are corrupt.
    fn lost_chunks(&self) -> Vec<ClientError> {
        let positions = |lost: &BTreeSet<usize>| lost.iter().copied().collect::<Vec<_>>();
        let (missing, corrupt) = (positions(&self.lost.missing), positions(&self.lost.corrupt));
        let mut errors = Vec::new();
        if !missing.is_empty() {
            errors.push(self.missing(&missing, self.responding));
        }
        if let Some(first) = &self.lost.first_damage {
            let bytes = ByteRanges::of_blocks(&corrupt, self.manifest);
            let damage = match corrupt.len() {
                0 | 1 => first.clone(),
                corrupt => Damage::Several { corrupt, chunks: self.ids.len(), first: Box::new(first.clone()) },
            };
            errors.push(ClientError::Corrupt { bytes, damage });
        }
        errors
    }

    /// A block must have the length that the manifest states. For the last one, the size is compared in the end.
    fn check_length(&self, index: usize, bytes: usize) -> Result<(), Damage> {
        let chunks = self.manifest.chunks.len();
        let stated = match index.checked_sub(chunks) {
            Some(index) => self.manifest.tree_block_len(index),
            None if index + 1 == chunks => Some(bytes),
            None => self.manifest.block_len(index),
        };
        if stated == Some(bytes) {
            return Ok(());
        }
        Err(Damage::ShortBlock { index, bytes })
    }
}
