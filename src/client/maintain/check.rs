//! How well the colony keeps a file: a question only; nothing is changed, and the manifest's key is not needed.

use std::collections::BTreeMap;
use std::path::Path;

use crate::client::maintain::copy_counts::CopyCounts;
use crate::client::maintain::survey::Survey;
use crate::client::{
    BadCopy, ByteRange, ByteRanges, CellName, ClientError, ColonyScope, KnownCell, Progress, StopSignal, manifest_file,
};
use crate::id::ChunkId;
use crate::net::client::{Http, Timeouts};

/// How a check or a repair is to go.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    /// Have every copy re-hashed where it is.
    pub deep: bool,
    /// Copies that each chunk should have; without it, as many as the manifest says.
    pub copies: Option<u8>,
    /// Where the colony is.
    pub scope: ColonyScope,
}

impl CheckOptions {
    /// A client with a connection or two to each of some cells.
    pub(in crate::client) fn http() -> Http {
        Http::new(Timeouts::STORE, 2, 64)
    }
}

/// The answer in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every chunk has its copies.
    Whole,
    /// Every chunk is there, and some have fewer copies than they should.
    Short,
    /// Some chunks are nowhere.
    Missing,
    /// Of some chunks there are only bad copies.
    Corrupt,
}

impl Verdict {
    fn of(tally: &CopyCounts) -> Self {
        // What is missing may come back with its cells, and is the first thing to look after.
        match tally {
            _ if !tally.missing.is_empty() => Self::Missing,
            _ if !tally.corrupt.is_empty() => Self::Corrupt,
            _ if !tally.short.is_empty() => Self::Short,
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

    /// The exit code that scripts can rely on.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Whole => 0,
            Self::Short => 3,
            Self::Missing => 4,
            Self::Corrupt => 5,
        }
    }
}

/// What a check found.
pub struct CheckReport {
    /// Bytes of the file, if the manifest tells.
    pub size: Option<u64>,
    /// Copies that each chunk should have.
    pub wanted: usize,
    /// Copies that are bad.
    pub bad_copies: Vec<BadCopy>,
    /// Cells that are there and did not answer, or not to the end: what they hold is not counted.
    pub unheard: Vec<CellName>,
    /// Requests made.
    pub requests: u64,
    chunks: Vec<ChunkId>,
    survey: Option<Survey>,
    tally: CopyCounts,
}

/// One chunk and who has it.
#[derive(Debug, Clone)]
pub struct CheckedChunk<'a> {
    /// The number of its block.
    pub index: usize,
    /// The chunk.
    pub id: ChunkId,
    /// Copies on cells that will stay.
    pub copies: usize,
    /// All cells that have a copy, also those that are being drained.
    pub holders: Vec<&'a KnownCell>,
}

/// The chunk with the fewest copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weakest {
    /// The number of its block.
    pub index: usize,
    /// The chunk.
    pub id: ChunkId,
    /// How many copies it has.
    pub copies: usize,
    /// The bytes of the file that are in it.
    pub bytes: ByteRange,
}

/// Asks every cell which of the manifest's chunks it has.
pub fn check(
    manifest: &Path,
    options: &CheckOptions,
    progress: &dyn Progress,
    stop: &StopSignal,
) -> Result<CheckReport, ClientError> {
    let manifest = manifest_file::read(manifest)?;
    let wanted = usize::from(options.copies.unwrap_or(manifest.copies));
    let (chunks, size) = (manifest.chunks, manifest.size);
    let http = CheckOptions::http();
    let mut report = CheckReport {
        size,
        wanted,
        bad_copies: Vec::new(),
        unheard: Vec::new(),
        requests: 0,
        tally: CopyCounts::default(),
        survey: None,
        chunks,
    };
    if report.chunks.is_empty() {
        // An empty file is kept by its manifest alone.
        return Ok(report);
    }
    let mut survey = Survey::take(&http, &report.chunks, options, progress, stop)?;
    report.tally = survey.tally(report.chunks.len(), wanted);
    report.bad_copies = std::mem::take(&mut survey.bad);
    report.unheard = std::mem::take(&mut survey.unheard);
    report.requests = http.requests();
    report.survey = Some(survey);
    Ok(report)
}

impl CheckReport {
    /// The answer in a word.
    pub fn verdict(&self) -> Verdict {
        Verdict::of(&self.tally)
    }

    /// How many chunks the file has.
    pub fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// How many chunks have so many copies.
    pub fn by_copies(&self) -> &BTreeMap<usize, usize> {
        &self.tally.by_copies
    }

    /// Chunks with fewer copies than wanted.
    pub fn short(&self) -> usize {
        self.tally.short.len()
    }

    /// Is each of the short chunks on all cells that there are?
    pub fn on_all_cells(&self) -> bool {
        self.tally.on_all_cells
    }

    /// How many chunks are nowhere, and the bytes in them.
    pub fn missing(&self) -> (usize, ByteRanges) {
        (self.tally.missing.len(), ByteRanges::of_blocks(&self.tally.missing, self.size))
    }

    /// How many chunks have bad copies only, and the bytes in them.
    pub fn corrupt(&self) -> (usize, ByteRanges) {
        (self.tally.corrupt.len(), ByteRanges::of_blocks(&self.tally.corrupt, self.size))
    }

    /// The chunk with the fewest copies.
    pub fn weakest(&self) -> Option<Weakest> {
        let (index, copies) = self.tally.weakest?;
        let id = *self.chunks.get(index)?;
        Some(Weakest { index, id, copies, bytes: ByteRange::of_block(index, self.size) })
    }

    /// The bytes of the file that are in this block.
    pub fn bytes_of(&self, index: usize) -> ByteRange {
        ByteRange::of_block(index, self.size)
    }

    /// The cells that answered.
    pub fn cells(&self) -> impl Iterator<Item = &KnownCell> {
        self.survey.iter().flat_map(|survey| survey.holders.cells())
    }

    /// How many of them will stay.
    pub fn staying(&self) -> usize {
        self.survey.as_ref().map_or(0, |survey| survey.holders.staying())
    }

    /// Every chunk in order.
    pub fn chunks(&self) -> impl Iterator<Item = CheckedChunk<'_>> {
        self.survey.iter().flat_map(|survey| {
            self.chunks.iter().enumerate().map(|(index, &id)| CheckedChunk {
                index,
                id,
                copies: survey.holders.staying_copies(index) + usize::from(survey.beyond.contains(&index)),
                holders: survey.holders.holding(index).map(|(_, cell)| cell).collect(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_that_is_found_is_the_verdict() {
        let mut tally = CopyCounts::default();
        assert_eq!((Verdict::of(&tally), Verdict::of(&tally).exit_code()), (Verdict::Whole, 0));
        tally.short = vec![1, 2, 3];
        assert_eq!((Verdict::of(&tally), Verdict::of(&tally).exit_code()), (Verdict::Short, 3));
        tally.corrupt = vec![2];
        assert_eq!((Verdict::of(&tally), Verdict::of(&tally).exit_code()), (Verdict::Corrupt, 5));
        tally.missing = vec![3];
        assert_eq!((Verdict::of(&tally), Verdict::of(&tally).exit_code()), (Verdict::Missing, 4));
    }
}
