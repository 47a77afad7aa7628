//! Finding the entries of a directory: in its index, or else in the whole stream.

use std::fmt;
use std::ops::Range;

use crate::archive::index::{IndexEntry, IndexError, IndexLine, IndexReader};
use crate::client::error::ClientError;
use crate::client::get::plan::StreamBlock;
use crate::client::get::plan::reframer::{HeaderPlaces, Reframer};
use crate::client::get::positions::Positions;
use crate::client::get::{Arrived, Get, Losses, Lost};
use crate::client::notice::Notice;
use crate::client::progress::StopSignal;
use crate::pipeline::{Manifest, OpenedBlock};

/// Why there is no index to read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexProblem {
    /// An earlier version stored the directory.
    EarlierVersion,
    /// Some chunk of it is on no cell that responds.
    Missing,
    /// Some chunk of it has only bad copies.
    Corrupt,
    /// Its chunks are those that were stored, and it is not valid.
    Invalid {
        /// Why.
        reason: String,
    },
}

impl IndexProblem {
    /// The problem, if this error means that the index cannot be had. What a cell that stopped responding may have is
    /// not lost.
    fn of(error: ClientError) -> Result<Self, ClientError> {
        match error {
            ClientError::Missing { silent: 0, .. } => Ok(Self::Missing),
            ClientError::Corrupt { .. } => Ok(Self::Corrupt),
            ClientError::BadIndex { reason } => Ok(Self::Invalid { reason }),
            error => Err(error),
        }
    }
}

impl fmt::Display for IndexProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EarlierVersion => f.write_str("an earlier version stored this directory without an index"),
            Self::Missing => f.write_str("the index of the directory is on no cell that responds"),
            Self::Corrupt => f.write_str("the index of the directory has only bad copies"),
            Self::Invalid { reason } => write!(f, "the index of the directory cannot be used: {reason}"),
        }
    }
}

/// The index cannot be used.
pub(super) fn bad_index(error: &IndexError) -> ClientError {
    ClientError::BadIndex { reason: error.to_string() }
}

impl Get<'_> {
    /// Passes on the entries of a directory in the order of the stream: those of its index, or those that are found in the
    /// stream if there is no index that can be used. Returns the ranges of the stream that are lost and may have further
    /// entries. Chunks of the stream that only these entries' data is in may be lost too.
    pub(super) fn index(
        &mut self,
        stop: &StopSignal,
        take: &mut dyn FnMut(IndexEntry),
    ) -> Result<Vec<Range<u64>>, ClientError> {
        // The entries before this place of the stream were passed on.
        let mut passed = 0;
        let problem = self.read_index(stop, &mut |entry| {
            passed = entry.offset + 1;
            take(entry);
        })?;
        match problem {
            None => Ok(Vec::new()),
            Some(problem) => {
                if !self.is_index_lost {
                    self.is_index_lost = true;
                    self.progress.notice(&Notice::ReadsEverything { problem });
                }
                let mut rest = |entry: IndexEntry| {
                    if entry.offset >= passed {
                        take(entry);
                    }
                };
                self.index_of_stream(stop, &mut rest)
            }
        }
    }

    /// Reads the index. Returns why, if that is not possible; some entries may have been passed on then.
    pub(super) fn read_index(
        &mut self,
        stop: &StopSignal,
        take: &mut dyn FnMut(IndexEntry),
    ) -> Result<Option<IndexProblem>, ClientError> {
        let manifest = self.manifest;
        let positions = Positions::from(manifest.chunks.len()..self.ids.len());
        if positions.is_empty() || self.is_index_lost {
            return Ok(Some(IndexProblem::EarlierVersion));
        }
        let mut reader = IndexReader::default();
        let read = self.start(&positions, Losses::Fatal).and_then(|pool| {
            self.fetch(&pool, &positions, stop, &mut |position, arrived| {
                let OpenedBlock { bytes, .. } = arrived.block(position, manifest)?;
                let mut line = |line| match line {
                    IndexLine::Entry(entry) => take(entry),
                    IndexLine::Block(_) => {}
                };
                reader.read(&bytes, &mut line).map_err(|error| bad_index(&error))
            })
        });
        match read.and_then(|()| reader.finish().map_err(|error| bad_index(&error))) {
            Ok(()) => Ok(None),
            Err(error) => IndexProblem::of(error).map(Some),
        }
    }

    /// Finds the entries in the stream.
    fn index_of_stream(
        &mut self,
        stop: &StopSignal,
        take: &mut dyn FnMut(IndexEntry),
    ) -> Result<Vec<Range<u64>>, ClientError> {
        let manifest = self.manifest;
        self.progress.total(manifest.size);
        let positions = Positions::from(0..manifest.chunks.len());
        let mut reframer = Reframer::new(header_places(manifest));
        if !positions.is_empty() {
            // What is lost may be of no importance to the entries that are wanted.
            let pool = self.start(&positions, Losses::Skipped)?;
            self.fetch(&pool, &positions, stop, &mut |position, arrived| {
                reframer.push(&stream_block(manifest, position, arrived), &mut Vec::new());
                reframer.found().for_each(&mut *take);
                Ok(())
            })?;
        }
        let lost = reframer.finish(&mut Vec::new());
        Ok(lost.parts.into_iter().filter(|part| part.path.is_none()).flat_map(|part| part.bytes).collect())
    }

    /// The error about parts of the stream in which entries may be.
    pub(super) fn unread(&self) -> ClientError {
        let reason = || "there is none, and the archive is damaged".to_owned();
        ClientError::several(self.lost_chunks()).unwrap_or_else(|| ClientError::BadIndex { reason: reason() })
    }

    /// Forgets what was found to be lost, so that it is requested once more.
    pub(super) fn forget_losses(&mut self) {
        self.lost = Lost::default();
    }
}

/// Where headers are in the stream of a manifest.
pub(super) fn header_places(manifest: &Manifest) -> HeaderPlaces {
    if manifest.version2.is_some() { HeaderPlaces::Blocks } else { HeaderPlaces::Units }
}

pub(super) fn stream_block(manifest: &Manifest, position: usize, arrived: Arrived) -> StreamBlock {
    match arrived {
        Arrived::Block(OpenedBlock { bytes, .. }) => StreamBlock::Bytes(bytes),
        Arrived::Lost => StreamBlock::Lost(manifest.block_len(position).unwrap_or_default()),
    }
}
