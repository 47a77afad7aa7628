//! Checking a file: how many copies each of its chunks has. Nothing is changed, and the key is not needed.

use std::collections::BTreeMap;
use std::path::Path;

use crate::client::bad_copy::BadCopy;
use crate::client::byte_ranges::{ByteRange, ByteRanges};
use crate::client::discover::colony::{CellName, ColonyScope, KnownCell};
use crate::client::error::ClientError;
use crate::client::maintain::copy_counts::CopyCounts;
use crate::client::maintain::survey::Survey;
use crate::client::manifest_file;
use crate::client::progress::{Progress, StopSignal};
use crate::id::ChunkId;
use crate::pipeline::Manifest;

/// Options of a check or a repair.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    /// Have every copy re-hashed on its cell.
    pub deep: bool,
    /// Copies wanted of each chunk. Without it, the number in the manifest.
    pub copies: Option<u8>,
    /// Where to search for cells.
    pub scope: ColonyScope,
}

/// The result of a check in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every chunk has its copies.
    Whole,
    /// Some chunks have fewer copies than wanted, but all have one.
    Short,
    /// Some chunks have no copy.
    Missing,
    /// Some chunks have bad copies only.
    Corrupt,
}

impl Verdict {
    fn of(counts: &CopyCounts) -> Self {
        // Missing comes before corrupt: missing chunks may return with their cells.
        match counts {
            _ if !counts.missing.is_empty() => Self::Missing,
            _ if !counts.corrupt.is_empty() => Self::Corrupt,
            _ if !counts.short.is_empty() => Self::Short,
            _ => Self::Whole,
        }
    }

    /// The word for scripts.
    pub fn word(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Short => "short",
            Self::Missing => "missing",
            Self::Corrupt => "corrupt",
        }
    }

    /// The exit code for scripts.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Whole => 0,
            Self::Short => 3,
            Self::Missing => 4,
            Self::Corrupt => 5,
        }
    }
}

/// The result of a check.
pub struct CheckReport {
    /// Bytes of the file, if the manifest states them.
    pub size: Option<u64>,
    /// Copies wanted of each chunk.
    pub wanted: usize,
    /// Copies that are bad.
    pub bad_copies: Vec<BadCopy>,
    /// Cells that were found and did not respond, or not to the end. Their copies do not count.
    pub unresponsive: Vec<CellName>,
    /// Requests made.
    pub requests: u64,
    manifest: Manifest,
    /// Those of the manifest, with those of its index.
    chunks: Vec<ChunkId>,
    /// None for a file without chunks.
    survey: Option<Survey>,
    counts: CopyCounts,
}

/// A chunk and its holders.
#[derive(Debug, Clone)]
pub struct CheckedChunk<'a> {
    /// The position of the chunk in the manifest.
    pub index: usize,
    /// The chunk.
    pub id: ChunkId,
    /// Copies on cells that will stay.
    pub copies: usize,
    /// All cells that hold a copy, also those that are draining.
    pub holders: Vec<&'a KnownCell>,
}

/// The chunk with the fewest copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeakestChunk {
    /// The position of the chunk in the manifest.
    pub index: usize,
    /// The chunk.
    pub id: ChunkId,
    /// Its number of copies.
    pub copies: usize,
    /// The bytes of the file that are in it.
    pub bytes: ByteRange,
}

/// Asks every cell which chunks of the manifest it holds.
pub fn check(
    manifest: &Path,
    options: &CheckOptions,
    progress: &dyn Progress,
    stop: &StopSignal,
) -> Result<CheckReport, ClientError> {
    let manifest = manifest_file::read(manifest)?;
    let mut report = CheckReport {
        size: manifest.size,
        wanted: options.copies.unwrap_or(manifest.copies).into(),
        bad_copies: Vec::new(),
        unresponsive: Vec::new(),
        requests: 0,
        chunks: manifest.all_chunks().copied().collect(),
        manifest,
        survey: None,
        counts: CopyCounts::default(),
    };
    if report.chunks.is_empty() {
        return Ok(report);
    }
    let http = Survey::http();
    let mut survey = Survey::take(&http, &report.chunks, &options.scope, options.deep, progress, stop)?;
    report.counts = survey.count_copies(report.chunks.len(), report.wanted);
    report.bad_copies = std::mem::take(&mut survey.bad_copies);
    report.unresponsive = std::mem::take(&mut survey.unresponsive);
    report.requests = http.requests();
    report.survey = Some(survey);
    Ok(report)
}

impl CheckReport {
    /// The result in one word.
    pub fn verdict(&self) -> Verdict {
        Verdict::of(&self.counts)
    }

    /// The number of chunks of the file.
    pub fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// The number of chunks, by number of copies.
    pub fn by_copies(&self) -> &BTreeMap<usize, usize> {
        &self.counts.by_copies
    }

    /// The number of chunks with fewer copies than wanted.
    pub fn short(&self) -> usize {
        self.counts.short.len()
    }

    /// Is every short chunk on all cells that will stay? Then only more cells can hold more copies.
    pub fn on_all_cells(&self) -> bool {
        self.counts.on_all_cells
    }

    /// The number of chunks without a copy, and the bytes in them.
    pub fn missing(&self) -> (usize, ByteRanges) {
        (self.counts.missing.len(), ByteRanges::of_blocks(&self.counts.missing, &self.manifest))
    }

    /// The number of chunks with bad copies only, and the bytes in them.
    pub fn corrupt(&self) -> (usize, ByteRanges) {
        (self.counts.corrupt.len(), ByteRanges::of_blocks(&self.counts.corrupt, &self.manifest))
    }

    /// The chunk with the fewest copies.
    pub fn weakest(&self) -> Option<WeakestChunk> {
        let (index, copies) = self.counts.weakest?;
        let id = *self.chunks.get(index)?;
        Some(WeakestChunk { index, id, copies, bytes: ByteRange::of_block(index, &self.manifest) })
    }

    /// The cells that responded.
    pub fn cells(&self) -> impl Iterator<Item = &KnownCell> {
        self.survey.iter().flat_map(|survey| survey.holders.cells())
    }

    /// The number of cells that responded and will stay.
    pub fn staying_cells(&self) -> usize {
        self.survey.as_ref().map_or(0, |survey| survey.holders.staying_cells())
    }

    /// All chunks, in order.
    pub fn chunks(&self) -> impl Iterator<Item = CheckedChunk<'_>> {
        self.survey.iter().flat_map(|survey| {
            self.chunks.iter().enumerate().map(|(index, &id)| CheckedChunk {
                index,
                id,
                copies: survey.holders.staying_copies(index) + usize::from(survey.remote.contains(&index)),
                holders: survey.holders.holders(index).map(|(_, cell)| cell).collect(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_is_the_worst_finding() {
        let mut counts = CopyCounts::default();
        let verdict = |counts: &CopyCounts| (Verdict::of(counts), Verdict::of(counts).exit_code());
        assert_eq!(verdict(&counts), (Verdict::Whole, 0));
        counts.short = vec![1, 2, 3];
        assert_eq!(verdict(&counts), (Verdict::Short, 3));
        counts.corrupt = vec![2];
        assert_eq!(verdict(&counts), (Verdict::Corrupt, 5));
        counts.missing = vec![3];
        assert_eq!(verdict(&counts), (Verdict::Missing, 4));
    }
}
