//! Getting a part of what is stored: a range of bytes, chosen entries of a directory, or what is left if chunks are lost.

use std::ops::Range;
use std::path::Path;

use crate::archive::index::{IndexEntry, IndexError, IndexLine, IndexReader};
use crate::client::error::{ClientError, Damage};
use crate::client::get::output::Output;
use crate::client::get::plan::StreamBlock;
use crate::client::get::plan::entry_filter::{EntryFilter, WrongHeader};
use crate::client::get::plan::lost::LostPart;
use crate::client::get::plan::reframer::{HeaderPlaces, Reframer};
use crate::client::get::plan::selector::{InvalidPath, Selector, Wanted};
use crate::client::get::positions::Positions;
use crate::client::get::{Arrived, Get};
use crate::client::notice::Notice;
use crate::client::progress::StopSignal;
use crate::client::usage_error::UsageError;
use crate::id::BLOCK_BYTES;
use crate::pipeline::{Content, Manifest, OpenedBlock};

/// What of the stored bytes is restored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Part {
    /// Everything.
    #[default]
    Whole,
    /// The entries of a directory with these paths, and what is below them. Names are separated by `/`.
    Paths(Vec<Vec<u8>>),
    /// The bytes of a file in this range. It may end behind the file.
    Range(Range<u64>),
}

impl Part {
    /// Fails if the manifest has no such part.
    pub(super) fn check(&self, manifest: &Manifest, name: &Path) -> Result<(), UsageError> {
        let path = name.to_owned();
        match (self, manifest.content) {
            (Self::Whole, _) | (Self::Paths(_), Content::Tar) => Ok(()),
            (Self::Range(range), Content::File(_)) => match manifest.size {
                Some(size) if range.start >= size => Err(UsageError::RangeBehindEnd { path, size }),
                _ => Ok(()),
            },
            (Self::Paths(_), Content::File(_)) => Err(UsageError::NoDirectory { path }),
            (Self::Range(_), Content::Tar) => Err(UsageError::NoFile { path }),
        }
    }

    /// The bytes that are restored, as far as they are known before the index is read.
    pub(super) fn size(&self, manifest: &Manifest) -> Option<u64> {
        match self {
            Self::Whole => manifest.size,
            Self::Paths(_) => None,
            Self::Range(range) => Some(range.end.min(manifest.size?).saturating_sub(range.start)),
        }
    }

    /// What distinguishes unfinished restores of different parts.
    pub(super) fn label(&self) -> Option<String> {
        match self {
            Self::Whole => None,
            Self::Range(range) => Some(format!("bytes {}-{}", range.start, range.end)),
            Self::Paths(paths) => {
                let paths: Vec<_> = paths.iter().map(|path| crate::human::escaped(path)).collect();
                Some(format!("paths {}", crate::id::ChunkId::of(paths.join("\n").as_bytes()).short()))
            }
        }
    }
}

/// The index cannot be used.
pub(super) fn bad_index(error: &IndexError) -> ClientError {
    ClientError::BadIndex { reason: error.to_string() }
}

fn wrong_header(WrongHeader(path): WrongHeader) -> ClientError {
    ClientError::BadIndex { reason: format!("{} is not where it says", crate::human::escaped(&path)) }
}

impl Get<'_> {
    /// Restores a range of a file, or what is left of a file.
    pub(super) fn range(&mut self, output: &mut Output, stop: &StopSignal) -> Result<(), ClientError> {
        let manifest = self.manifest;
        let range = match &self.options.part {
            Part::Range(range) => range.start..range.end.min(manifest.size.unwrap_or(u64::MAX)),
            Part::Whole | Part::Paths(_) => 0..u64::MAX,
        };
        // The log of a range has no blocks, that of a salvage those before the first that is lost.
        let is_salvage = self.options.part == Part::Whole;
        let kept = output.resume(self.progress, stop)?;
        (self.report.size, self.report.reused_bytes) = (kept.bytes, kept.bytes);
        let blocks = manifest.blocks_of(&range);
        let positions = Positions::from(blocks.start.max(kept.blocks)..blocks.end);
        let mut lost = LostPart { path: None, bytes: Vec::new(), metadata: false };
        let mut size = kept.bytes;
        if !positions.is_empty() {
            let pool = self.start(&positions)?;
            let progress = self.progress;
            self.fetch(&pool, &positions, stop, &mut |position, arrived| {
                let block = manifest.block(position);
                let part = block.start.max(range.start)..block.end.min(range.end);
                let mut whole = None;
                let bytes = match arrived {
                    Arrived::Block(OpenedBlock { bytes, checksum }) => {
                        whole = Some(checksum).filter(|_| is_salvage);
                        let at = |offset: u64| usize::try_from(offset - block.start).unwrap_or(usize::MAX);
                        let end = at(part.end).min(bytes.len());
                        bytes.get(at(part.start).min(end)..end).unwrap_or_default().to_vec()
                    }
                    Arrived::Lost => {
                        lost.add(part.clone());
                        // The length of the last block of a file of unknown size is lost with it.
                        let length = manifest.block_len(position).map_or(0, |_| part.end - part.start);
                        vec![0; usize::try_from(length).unwrap_or_default()]
                    }
                };
                size += bytes.len() as u64;
                output.write(bytes, whole, progress)
            })?;
        }
        self.report.size = size;
        if !lost.is_empty() {
            self.report.lost.push(lost);
        }
        let expected = manifest.size.map(|whole| range.end.min(whole) - range.start);
        if let Some(expected) = expected.filter(|expected| *expected != size) {
            let bytes = crate::client::byte_ranges::ByteRange { start: 0, end: size }.into();
            return Err(ClientError::Corrupt { bytes, damage: Damage::WrongSize { expected } });
        }
        Ok(())
    }

    /// Restores chosen entries of a directory, or what is left of a directory.
    pub(super) fn entries(&mut self, output: &mut Output, stop: &StopSignal) -> Result<(), ClientError> {
        let paths = match &self.options.part {
            Part::Paths(paths) => paths.clone(),
            Part::Whole | Part::Range(_) => vec![Vec::new()],
        };
        let is_whole = self.options.part == Part::Whole;
        let wanted = match self.select(&paths, stop) {
            // What is left of the stream is all there is.
            Err(ClientError::BadIndex { .. }) if is_whole && self.options.salvage => return self.reframe(output, stop),
            wanted => wanted?,
        };
        let mut positions = Positions::default();
        for range in EntryFilter::needed(&wanted) {
            positions.add(self.manifest.blocks_of(&range));
        }
        let bytes = positions.iter().filter_map(|position| self.manifest.block_len(position)).sum::<usize>();
        self.progress.total(Some(bytes as u64));
        let (user, group) = owner();
        let mut filter = EntryFilter::new(wanted, user, group);
        let mut size = 0;
        let (manifest, progress) = (self.manifest, self.progress);
        if !positions.is_empty() {
            let pool = self.start(&positions)?;
            self.fetch(&pool, &positions, stop, &mut |position, arrived| {
                let mut out = Vec::with_capacity(BLOCK_BYTES);
                let block = stream_block(manifest, position, arrived);
                filter.push(&manifest.block(position), &block, &mut out).map_err(wrong_header)?;
                size += out.len() as u64;
                output.write(out, None, progress)
            })?;
        }
        let mut out = Vec::new();
        self.report.lost = filter.finish(&mut out);
        self.report.size = size + out.len() as u64;
        output.write(out, None, progress)
    }

    /// Restores what is left of a directory without an index.
    fn reframe(&mut self, output: &mut Output, stop: &StopSignal) -> Result<(), ClientError> {
        self.progress.notice(&Notice::WithoutIndex);
        let positions = Positions::from(0..self.manifest.chunks.len());
        let pool = self.start(&positions)?;
        let (manifest, progress) = (self.manifest, self.progress);
        let mut reframer = Reframer::new(header_places(manifest));
        let mut size = 0;
        self.fetch(&pool, &positions, stop, &mut |position, arrived| {
            let mut out = Vec::with_capacity(BLOCK_BYTES);
            reframer.push(&stream_block(manifest, position, arrived), &mut out);
            size += out.len() as u64;
            output.write(out, None, progress)
        })?;
        let mut out = Vec::new();
        self.report.lost = reframer.finish(&mut out);
        self.report.size = size + out.len() as u64;
        output.write(out, None, progress)
    }

    /// Finds the entries with these paths, and those that they need.
    fn select(&mut self, paths: &[Vec<u8>], stop: &StopSignal) -> Result<Vec<Wanted>, ClientError> {
        let mut selector = Selector::new(paths).map_err(|InvalidPath(path)| UsageError::PathLeadsOut { path })?;
        self.index(stop, &mut |entry| selector.take(entry))?;
        let missing = selector.not_found();
        if !missing.is_empty() {
            return Err(UsageError::NoSuchEntries { paths: missing }.into());
        }
        if selector.needs_targets() {
            self.index(stop, &mut |entry| selector.take_target(&entry))?;
        }
        Ok(selector.finish())
    }

    /// Reads the index, or the whole stream if there is none.
    pub(super) fn index(&mut self, stop: &StopSignal, take: &mut dyn FnMut(IndexEntry)) -> Result<(), ClientError> {
        let chunks = self.manifest.chunks.len();
        let manifest = self.manifest;
        if manifest.tree().is_empty() {
            return self.index_of_stream(stop, take);
        }
        let positions = Positions::from(chunks..self.ids.len());
        let pool = self.start(&positions)?;
        let mut reader = IndexReader::default();
        self.fetch(&pool, &positions, stop, &mut |_, arrived| match arrived {
            Arrived::Block(OpenedBlock { bytes, .. }) => reader
                .read(&bytes, &mut |line| match line {
                    IndexLine::Entry(entry) => take(entry),
                    IndexLine::Block(_) => {}
                })
                .map_err(|error| bad_index(&error)),
            Arrived::Lost => Err(ClientError::BadIndex { reason: "a chunk of it is lost".to_owned() }),
        })?;
        reader.finish().map_err(|error| bad_index(&error))
    }

    /// Finds the entries of a stream that has no index.
    fn index_of_stream(&mut self, stop: &StopSignal, take: &mut dyn FnMut(IndexEntry)) -> Result<(), ClientError> {
        let manifest = self.manifest;
        if self.options.salvage {
            // What is left is found and restored in one pass.
            return Err(ClientError::BadIndex { reason: "the manifest has none".to_owned() });
        }
        self.progress.notice(&Notice::ReadsEverything);
        self.progress.total(manifest.size);
        let positions = Positions::from(0..manifest.chunks.len());
        let mut reframer = Reframer::new(header_places(manifest));
        if !positions.is_empty() {
            let pool = self.start(&positions)?;
            self.fetch(&pool, &positions, stop, &mut |position, arrived| {
                reframer.push(&stream_block(manifest, position, arrived), &mut Vec::new());
                reframer.found().for_each(&mut *take);
                Ok(())
            })?;
        }
        let lost = reframer.finish(&mut Vec::new());
        if lost.is_empty() {
            Ok(())
        } else {
            Err(ClientError::BadIndex { reason: "the archive is damaged".to_owned() })
        }
    }
}

/// Where headers are in the stream of a manifest.
fn header_places(manifest: &Manifest) -> HeaderPlaces {
    if manifest.version2.is_some() { HeaderPlaces::Blocks } else { HeaderPlaces::Units }
}

fn stream_block(manifest: &Manifest, position: usize, arrived: Arrived) -> StreamBlock {
    match arrived {
        Arrived::Block(OpenedBlock { bytes, .. }) => StreamBlock::Bytes(bytes),
        Arrived::Lost => StreamBlock::Lost(manifest.block_len(position).unwrap_or_default()),
    }
}

/// The user and group of this process.
fn owner() -> (u32, u32) {
    #[cfg(unix)]
    return (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    #[cfg(not(unix))]
    return (0, 0);
}
