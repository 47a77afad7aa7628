//! Getting a file back from the colony.

// A shell: it waits for cells to come back.
#![allow(clippy::disallowed_methods)]

pub(super) mod download;
pub(super) mod output;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use crate::client::discover::find_cells::find_cells;
use crate::client::discover::holder_index::HolderIndex;
use crate::client::discover::query::{Wait, ask_all};
use crate::client::get::download::{Crew, Done, Job, Outcome, search};
use crate::client::get::output::{Output, Target};
use crate::client::{
    BadCopy, ByteRange, ByteRanges, CellName, ClientError, ColonyScope, Damage, Notice, Progress, StopSignal,
    UsageError, manifest_file,
};
use crate::id::{BLOCK_BYTES, ChunkId};
use crate::net::client::{Http, Timeouts};
use crate::pipeline::Manifest;

/// How a get is to go.
#[derive(Debug, Clone)]
pub struct GetOptions {
    /// Chunks opened at the same time.
    pub jobs: usize,
    /// Write over a file that is there.
    pub force: bool,
    /// Where the colony is.
    pub scope: ColonyScope,
}

/// What a get did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GetReport {
    /// Bytes restored.
    pub size: u64,
    /// Chunks that they came from.
    pub chunks: usize,
    /// Bytes of those chunks.
    pub fetched_bytes: u64,
    /// The fewest cells that any chunk was found on.
    pub fewest_copies: usize,
    /// Copies that were not what they should be.
    pub bad_copies: Vec<BadCopy>,
    /// Cells that answered.
    pub cells: usize,
    /// Requests made.
    pub requests: u64,
}

/// How often the user's wish to stop is looked at.
const STOP_LOOK: Duration = Duration::from_millis(100);
/// How often in a row the colony is looked at again when a chunk was not to be had, and with how much time between:
/// cells restart, and Wi-Fi comes back.
const MAX_LOOKS: u32 = 4;
const LOOK_PAUSE: Duration = Duration::from_secs(2);
/// Chunks without a known holder that the colony is asked to search for before anything is written.
const MAX_SEARCHED: usize = 16;

/// Restores what `manifest` describes to `target`.
pub fn get(
    manifest: &Path,
    target: &Target,
    options: &GetOptions,
    progress: &dyn Progress,
    stop: &StopSignal,
) -> Result<GetReport, ClientError> {
    if let Target::Path(path) = target
        && output::are_one(manifest, path)
    {
        return Err(UsageError::OutputIsManifest { path: path.clone() }.into());
    }
    let manifest = manifest_file::read(manifest)?;
    let mut output = Output::open(target, manifest.content, options.force)?;
    progress.total(manifest.size);
    let workers = workers(options);
    let get = Get {
        http: Http::new(Timeouts::FETCH, workers, 4 * workers),
        manifest: &manifest,
        options,
        progress,
        looks: 0,
        report: GetReport::default(),
    };
    let report = get.run(&mut output, stop)?;
    output.finish()?;
    Ok(report)
}

/// The name under which a manifest's file is restored: its own, without `.manifest`.
pub fn default_output_path(manifest: &Path) -> Option<PathBuf> {
    let name = manifest.file_name()?.to_str()?.strip_suffix(".manifest").filter(|name| !name.is_empty())?;
    Some(manifest.with_file_name(name))
}

/// Some threads wait for the network while others open chunks.
fn workers(options: &GetOptions) -> usize {
    2 * options.jobs.max(1) + 2
}

struct Get<'a> {
    http: Http,
    manifest: &'a Manifest,
    options: &'a GetOptions,
    progress: &'a dyn Progress,
    /// Looks at the colony since a chunk was fetched last.
    looks: u32,
    report: GetReport,
}

impl Get<'_> {
    fn run(mut self, output: &mut Output, stop: &StopSignal) -> Result<GetReport, ClientError> {
        let ids = &self.manifest.chunks;
        self.report.chunks = ids.len();
        if !ids.is_empty() {
            let mut holders = self.look(self.manifest.copies.into())?;
            if !holders.missing().is_empty() {
                // Some cells may just have been late to answer.
                holders = self.look(usize::MAX)?;
            }
            self.report.cells = holders.answering();
            self.check_all_are_there(&holders)?;
            self.report.fewest_copies = (0..ids.len()).map(|index| holders.count(index)).min().unwrap_or_default();
            let crew = Crew::start(&self.http, &self.manifest.key, holders, workers(self.options));
            self.fetch_in_order(&crew, output, stop)?;
        }
        if let Some(expected) = self.manifest.size.filter(|size| *size != self.report.size) {
            let bytes = ByteRange { start: 0, end: self.report.size }.into();
            return Err(ClientError::Corrupt { bytes, damage: Damage::WrongSize { expected } });
        }
        self.report.requests = self.http.requests();
        Ok(self.report)
    }

    /// Finds the cells and asks them what they have. With fewer than `wanted` cells, late ones are waited for.
    fn look(&self, wanted: usize) -> Result<HolderIndex, ClientError> {
        let scope = &self.options.scope;
        let cells = find_cells(&self.http, scope, wanted)?;
        let ids = &self.manifest.chunks;
        let holders = HolderIndex::new(&cells, ask_all(&self.http, &cells, ids, Wait::ForHolders), ids.len());
        if holders.answering() == 0 { Err(ClientError::none_responding(scope, cells.len())) } else { Ok(holders) }
    }

    /// A file that cannot be whole is not begun. Cells that we do not know of may still have what is missing.
    fn check_all_are_there(&self, holders: &HolderIndex) -> Result<(), ClientError> {
        let missing = holders.missing();
        for id in missing.iter().take(MAX_SEARCHED).filter_map(|&index| self.manifest.chunks.get(index)) {
            let is_good = |bytes: Vec<u8>, _| ChunkId::of(&bytes) == *id;
            if !search(&self.http, holders.entries(), id, is_good).unwrap_or_default() {
                return Err(self.missing(&missing, holders.answering()));
            }
        }
        Ok(())
    }

    fn missing(&self, indices: &[usize], cells: usize) -> ClientError {
        ClientError::Missing {
            missing: indices.len(),
            chunks: self.manifest.chunks.len(),
            cells,
            bytes: ByteRanges::of_blocks(indices, self.manifest.size),
        }
    }

    /// Fetches out of order, within a window, and writes in order.
    fn fetch_in_order(&mut self, crew: &Crew, output: &mut Output, stop: &StopSignal) -> Result<(), ClientError> {
        let ids = &self.manifest.chunks;
        let window = 2 * workers(self.options);
        let mut waiting: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        let (mut asked, mut written) = (0, 0);
        while written < ids.len() {
            if stop.is_set() {
                return Err(ClientError::Stopped);
            }
            while let Some(&id) = ids.get(asked).filter(|_| asked < written + window) {
                crew.fetch(Job { index: asked, id });
                asked += 1;
            }
            match crew.done.recv_timeout(STOP_LOOK) {
                Ok(done) => {
                    if let Some((index, bytes)) = self.take(done, crew, stop)? {
                        waiting.insert(index, bytes);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(ClientError::WorkerPanicked);
                }
            }
            while let Some(bytes) = waiting.remove(&written) {
                self.check_length(written, bytes.len())?;
                output.write(&bytes)?;
                self.report.size += bytes.len() as u64;
                written += 1;
            }
        }
        Ok(())
    }

    fn take(&mut self, done: Done, crew: &Crew, stop: &StopSignal) -> Result<Option<(usize, Vec<u8>)>, ClientError> {
        let Done { job, outcome, bad } = done;
        let bytes = ByteRange::of_block(job.index, self.manifest.size);
        for copy in bad {
            if !self.report.bad_copies.contains(&copy) {
                self.report.bad_copies.push(copy);
            }
        }
        match outcome {
            Outcome::Block { bytes: block, sealed } => {
                self.looks = 0;
                self.tell_of_bad_copies(job.index, bytes);
                self.report.fetched_bytes += sealed;
                self.progress.advance(block.len() as u64, sealed);
                Ok(Some((job.index, block)))
            }
            Outcome::Unusable(error) => Err(ClientError::Corrupt { bytes: bytes.into(), damage: error.into() }),
            Outcome::Lost if self.looks < self.most_looks(job.index) => {
                self.look_again(crew, stop);
                crew.fetch(job);
                Ok(None)
            }
            Outcome::Lost => Err(self.lost(job, bytes)),
        }
    }

    /// The copies of this block that were found to be bad.
    fn bad_copies(&self, index: usize) -> impl Iterator<Item = &BadCopy> {
        self.report.bad_copies.iter().filter(move |copy| copy.index == index)
    }

    fn tell_of_bad_copies(&self, index: usize, bytes: ByteRange) {
        for copy in self.bad_copies(index) {
            self.progress.notice(&Notice::BadCopy { copy: copy.clone(), bytes });
        }
    }

    /// Cells that do not answer may come back; copies that are bad stay so.
    fn most_looks(&self, index: usize) -> u32 {
        if self.bad_copies(index).next().is_some() { 1 } else { MAX_LOOKS }
    }

    /// Perhaps cells came back, or the chunk is elsewhere by now.
    fn look_again(&mut self, crew: &Crew, stop: &StopSignal) {
        if self.looks > 0 {
            let pause = Instant::now() + LOOK_PAUSE;
            while Instant::now() < pause && !stop.is_set() {
                std::thread::sleep(STOP_LOOK);
            }
        }
        self.looks += 1;
        // If nobody is found now, those who were before may still answer.
        if let Ok(holders) = self.look(usize::MAX) {
            self.report.cells = holders.answering();
            crew.replace_holders(holders);
        }
    }

    /// No good copy.
    fn lost(&self, job: Job, bytes: ByteRange) -> ClientError {
        let cells: Vec<CellName> = self.bad_copies(job.index).map(|copy| copy.cell.clone()).collect();
        if cells.is_empty() {
            return self.missing(&[job.index], self.report.cells);
        }
        let more = cells.len() < usize::from(self.manifest.copies);
        let damage = Damage::AllCopiesBad { chunk: job.id, cells, more };
        ClientError::Corrupt { bytes: bytes.into(), damage }
    }

    /// Only the last block may be short.
    fn check_length(&self, index: usize, len: usize) -> Result<(), ClientError> {
        if len == BLOCK_BYTES || index + 1 == self.manifest.chunks.len() {
            return Ok(());
        }
        let bytes = ByteRange::of_block(index, self.manifest.size).into();
        Err(ClientError::Corrupt { bytes, damage: Damage::ShortBlock { index, bytes: len } })
    }
}
