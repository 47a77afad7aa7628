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
pub(super) mod fetch_pool;
pub(super) mod file_output;
pub(super) mod hedging;
pub(super) mod holder_search;
mod leftovers;
pub(super) mod omission;
pub(super) mod output;
pub(super) mod partial;
pub(super) mod patience;
pub(super) mod race;
pub(super) mod restore_options;
#[cfg(unix)]
pub(super) mod tree;

use std::collections::BTreeMap;
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
use crate::client::get::patience::{Failure, Patience, Step};
use crate::client::get::restore_options::RestoreOptions;
use crate::client::manifest_file;
use crate::client::notice::Notice;
use crate::client::paths::{check_parent, is_same_file, parent_of};
use crate::client::progress::{Progress, StopSignal};
use crate::client::usage_error::UsageError;
use crate::net::client::{Http, Timeouts};
use crate::pipeline::{BlockHash, Manifest};
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
    /// Where to search for cells.
    pub scope: ColonyScope,
}

/// The result of a get.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GetReport {
    /// Bytes restored.
    pub size: u64,
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
}

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
    let manifest = manifest_file::read(manifest)?;
    let mut output = Output::open(target, &manifest, options.force, options.restore)?;
    if let Target::Path(path) = target {
        let paths = leftovers::find(parent_of(path), path);
        if !paths.is_empty() {
            progress.notice(&Notice::Leftovers { paths });
        }
    }
    progress.total(manifest.size);
    let workers = workers(options);
    let get = Get {
        http: Http::new(Timeouts::FETCH, workers, 4 * workers),
        manifest: &manifest,
        options,
        progress,
        began: Instant::now(),
        patience: Patience::new(options.patience),
        search: None,
        report: GetReport::default(),
    };
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

/// A block and its hash, if the output wants it.
type FetchedBlock = (Vec<u8>, Option<BlockHash>);

struct Get<'a> {
    http: Http,
    manifest: &'a Manifest,
    options: &'a GetOptions,
    progress: &'a dyn Progress,
    began: Instant,
    patience: Patience,
    /// The search for holders that is in progress.
    search: Option<HolderSearch>,
    report: GetReport,
}

impl Get<'_> {
    fn run(mut self, output: &mut Output, stop: &StopSignal) -> Result<GetReport, ClientError> {
        self.report.chunks = self.manifest.chunks.len();
        let kept = output.resume(self.progress, stop)?;
        if kept.bytes > 0 {
            self.progress.notice(&Notice::GetResumed { bytes: kept.bytes });
        }
        (self.report.size, self.report.reused_bytes) = (kept.bytes, kept.bytes);
        if kept.blocks < self.manifest.chunks.len() {
            let holders = self.first_holders(kept.blocks)?;
            self.report.cells = holders.cell_count();
            self.check_completeness(&holders, kept.blocks)?;
            self.report.fewest_copies = holders.fewest_copies();
            let hash_key = output.wants_hashes().then(|| self.manifest.key.clone());
            let pool = FetchPool::start(&self.http, hash_key, holders, workers(self.options));
            self.fetch_in_order(&pool, kept.blocks, output, stop)?;
        }
        if let Some(expected) = self.manifest.size.filter(|size| *size != self.report.size) {
            let bytes = ByteRange { start: 0, end: self.report.size }.into();
            return Err(ClientError::Corrupt { bytes, damage: Damage::WrongSize { expected } });
        }
        self.report.requests = self.http.requests();
        Ok(self.report)
    }

    /// Finds the cells and asks them which chunks they hold. If a chunk from block `first` on has no holder among those
    /// that are found quickly, all cells are asked.
    fn first_holders(&mut self, first: usize) -> Result<HolderIndex, ClientError> {
        let (scope, ids) = (&self.options.scope, &self.manifest.chunks);
        let mut found = find_holders(&self.http, scope, ids, self.manifest.copies.into(), &[])?;
        if found.holders.cell_count() > 0 && found.holders.missing().iter().any(|&index| index >= first) {
            // Some cells may just have responded too late.
            let cells = found.responding;
            found = find_holders(&self.http, scope, ids, usize::MAX, &cells)?;
        }
        if found.holders.cell_count() == 0 {
            return Err(ClientError::none_responding(scope, found.cells));
        }
        self.patience.begin(self.now(), found.responding);
        Ok(found.holders)
    }

    /// Fails if some chunk from block `first` on is missing, before anything is written. Cells that this client does not
    /// reach may still hold it.
    fn check_completeness(&self, holders: &HolderIndex, first: usize) -> Result<(), ClientError> {
        let missing: Vec<usize> = holders.missing().into_iter().filter(|&index| index >= first).collect();
        for id in missing.iter().take(MAX_SEARCHED_CHUNKS).filter_map(|&index| self.manifest.chunks.get(index)) {
            if !is_found_by_search(&self.http, holders.searching_cells(), id) {
                return Err(self.missing(&missing, holders.cell_count()));
            }
        }
        Ok(())
    }

    fn missing(&self, indices: &[usize], cells: usize) -> ClientError {
        ClientError::Missing {
            missing: indices.len(),
            chunks: self.manifest.chunks.len(),
            cells,
            silent: self.patience.silent_cells(),
            bytes: ByteRanges::of_blocks(indices, self.manifest),
        }
    }

    /// Fetches chunks from block `first` on, out of order, within a window, and writes blocks in order.
    fn fetch_in_order(
        &mut self,
        pool: &FetchPool,
        first: usize,
        output: &mut Output,
        stop: &StopSignal,
    ) -> Result<(), ClientError> {
        let ids = &self.manifest.chunks;
        let window = 2 * workers(self.options);
        let mut blocks: BTreeMap<usize, FetchedBlock> = BTreeMap::new();
        let (mut submitted, mut written) = (first, first);
        while written < ids.len() {
            if stop.is_set() {
                return Err(ClientError::Stopped);
            }
            while let Some(&id) = ids.get(submitted).filter(|_| submitted < written + window) {
                pool.submit(FetchJob { index: submitted, id, key: self.manifest.chunk_key(submitted) });
                submitted += 1;
            }
            match pool.next_result() {
                Ok(result) => {
                    if let Some((index, block)) = self.handle(result)? {
                        blocks.insert(index, block);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(ClientError::WorkerPanicked),
            }
            while let Some((bytes, hash)) = blocks.remove(&written) {
                self.check_length(written, bytes.len())?;
                self.report.size += bytes.len() as u64;
                output.write(bytes, hash, self.progress)?;
                written += 1;
            }
            self.attend(pool)?;
        }
        Ok(())
    }

    /// Returns the block, or `None` if its chunk has no good copy now.
    fn handle(&mut self, result: FetchResult) -> Result<Option<(usize, FetchedBlock)>, ClientError> {
        let FetchResult { job, outcome, hash, bad_copies } = result;
        let bytes = ByteRange::of_block(job.index, self.manifest);
        for copy in bad_copies {
            if !self.report.bad_copies.contains(&copy) {
                self.report.bad_copies.push(copy);
            }
        }
        match outcome {
            FetchOutcome::Block { bytes: block, sealed_bytes } => {
                if let Some(notice) = self.patience.fetched(self.now(), job.index) {
                    self.resume(&notice);
                }
                for copy in self.bad_copies(job.index) {
                    self.progress.notice(&Notice::BadCopy { copy: copy.clone(), bytes });
                }
                self.report.fetched_bytes += sealed_bytes;
                self.progress.advance(block.len() as u64, sealed_bytes);
                Ok(Some((job.index, (block, hash))))
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
                    let (scope, ids) = (&self.options.scope, &self.manifest.chunks);
                    self.search = Some(HolderSearch::start(&self.http, scope, ids, self.patience.seen()));
                }
                Step::Notice(notice) => self.progress.notice(&notice),
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
        self.report.cells = holders.cell_count();
        // If no cell responds, those found before may still do so.
        if holders.cell_count() > 0 {
            pool.replace_holders(holders);
        }
        if let Some(notice) = news.notice {
            self.resume(&notice);
        }
        news.retries.into_iter().for_each(|job| pool.submit(job));
    }

    fn resume(&self, notice: &Notice) {
        self.progress.notice(notice);
        // The time of waiting does not count towards the speed.
        self.progress.advance(0, 0);
    }

    /// Time since the get began.
    fn now(&self) -> Time {
        Time(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn no_good_copy(&self, job: &FetchJob, bytes: ByteRange) -> ClientError {
        let cells: Vec<CellName> = self.bad_copies(job.index).map(|copy| copy.cell.clone()).collect();
        if cells.is_empty() {
            return self.missing(&[job.index], self.report.cells);
        }
        let more = cells.len() < usize::from(self.manifest.copies);
        let damage = Damage::AllCopiesBad { chunk: job.id, cells, more };
        ClientError::Corrupt { bytes: bytes.into(), damage }
    }

    /// A block must have the length that the manifest states. For the last one, the size is compared in the end.
    fn check_length(&self, index: usize, bytes: usize) -> Result<(), ClientError> {
        if index + 1 == self.manifest.chunks.len() || self.manifest.block_len(index) == Some(bytes) {
            return Ok(());
        }
        let range = ByteRange::of_block(index, self.manifest).into();
        Err(ClientError::Corrupt { bytes: range, damage: Damage::ShortBlock { index, bytes } })
    }
}
