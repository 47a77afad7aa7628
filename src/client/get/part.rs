//! Getting a part of what is stored: a range of bytes, chosen entries of a directory, or what is left if chunks are lost.

use std::ops::Range;
use std::path::Path;

use crate::client::error::{ClientError, Damage};
use crate::client::get::index::{header_places, stream_block};
use crate::client::get::output::Output;
use crate::client::get::plan::entry_filter::{EntryFilter, WrongHeader};
use crate::client::get::plan::lost::{LostPart, LostParts};
use crate::client::get::plan::reframer::Reframer;
use crate::client::get::plan::selector::{InvalidPath, Selector, Wanted};
use crate::client::get::positions::Positions;
use crate::client::get::{Arrived, Get, Losses};
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

fn wrong_header(WrongHeader(path): WrongHeader) -> ClientError {
    ClientError::BadIndex { reason: format!("{} is not where it says", crate::human::shown(&path)) }
}

impl Get<'_> {
    /// Restores a range of a file, or what is left of a file.
    pub(super) fn range(&mut self, output: &mut Output, stop: &StopSignal) -> Result<(), ClientError> {
        let manifest = self.manifest;
        let range = match &self.options.part {
            Part::Range(range) => range.start..range.end.min(manifest.size.unwrap_or(u64::MAX)),
            Part::Whole | Part::Paths(_) => 0..u64::MAX,
        };
        self.restored.extend(manifest.size.map(|size| range.start..range.end.min(size)));
        // The log of a range has no blocks, that of a salvage those before the first that is lost.
        let is_salvage = self.options.part == Part::Whole;
        let kept = output.resume(self.progress, stop)?;
        (self.report.size, self.report.reused_bytes) = (kept.bytes, kept.bytes);
        let blocks = manifest.blocks_of(&range);
        let positions = Positions::from(blocks.start.max(kept.blocks)..blocks.end);
        let mut lost = LostPart { path: None, bytes: Vec::new(), metadata: false };
        let (mut size, mut zeros) = (kept.bytes, 0);
        if !positions.is_empty() {
            let pool = self.start(&positions, self.losses())?;
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
                        zeros += length;
                        vec![0; usize::try_from(length).unwrap_or_default()]
                    }
                };
                size += bytes.len() as u64;
                output.write(bytes, whole, progress).map(drop)
            })?;
        }
        self.report.size = size - zeros;
        self.report.lost_bytes = lost.lost_bytes();
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
        let Some(Selected { wanted, unread }) = self.select(&paths, stop)? else {
            return self.reframe(output, stop);
        };
        let mut positions = Positions::default();
        self.restored = EntryFilter::needed(&wanted);
        for range in &self.restored {
            positions.add(self.manifest.blocks_of(range));
        }
        let bytes = positions.iter().filter_map(|position| self.manifest.block_len(position)).sum::<usize>();
        self.progress.total(Some(bytes as u64));
        let (user, group) = owner();
        let mut filter = EntryFilter::new(wanted, user, group);
        let mut size = 0;
        let (manifest, progress) = (self.manifest, self.progress);
        if !positions.is_empty() {
            let pool = self.start(&positions, self.losses())?;
            self.fetch(&pool, &positions, stop, &mut |position, arrived| {
                let mut out = Vec::with_capacity(BLOCK_BYTES);
                let block = stream_block(manifest, position, arrived);
                filter.push(&manifest.block(position), &block, &mut out).map_err(wrong_header)?;
                size += out.len() as u64;
                output.write(out, None, progress).map(drop)
            })?;
        }
        let mut out = Vec::new();
        let mut lost = filter.finish(&mut out);
        lost.add(LostPart { path: None, bytes: unread, metadata: false });
        self.report_lost(lost, size + out.len() as u64);
        output.write(out, None, progress).map(drop)
    }

    /// Restores what is left of a directory without an index.
    fn reframe(&mut self, output: &mut Output, stop: &StopSignal) -> Result<(), ClientError> {
        self.progress.notice(&Notice::WithoutIndex);
        let positions = Positions::from(0..self.manifest.chunks.len());
        let pool = self.start(&positions, Losses::Skipped)?;
        let (manifest, progress) = (self.manifest, self.progress);
        let mut reframer = Reframer::new(header_places(manifest));
        let mut size = 0;
        self.fetch(&pool, &positions, stop, &mut |position, arrived| {
            let mut out = Vec::with_capacity(BLOCK_BYTES);
            reframer.push(&stream_block(manifest, position, arrived), &mut out);
            size += out.len() as u64;
            output.write(out, None, progress).map(drop)
        })?;
        let mut out = Vec::new();
        let lost = reframer.finish(&mut out);
        self.report_lost(lost, size + out.len() as u64);
        output.write(out, None, progress).map(drop)
    }

    /// Records what was lost of a directory, and the bytes that were written, with the zeros among them.
    fn report_lost(&mut self, LostParts { parts, zero_bytes, .. }: LostParts, written: u64) {
        let around = parts.iter().filter(|part| part.path.is_none()).map(LostPart::lost_bytes).sum::<u64>();
        self.report.lost_bytes = zero_bytes + around;
        self.report.size = written.saturating_sub(zero_bytes);
        self.report.lost = parts;
    }

    /// Finds the entries with these paths, and those that they need. `None` if everything is to be salvaged, and there is no
    /// index: what is left of the stream is found and restored in one pass.
    fn select(&mut self, paths: &[Vec<u8>], stop: &StopSignal) -> Result<Option<Selected>, ClientError> {
        let mut selector = Selector::new(paths).map_err(|InvalidPath(path)| UsageError::PathLeadsOut { path })?;
        let unread = if self.options.part == Part::Whole {
            if self.read_index(stop, &mut |entry| selector.take(entry))?.is_some() {
                return Ok(None);
            }
            Vec::new()
        } else {
            self.index(stop, &mut |entry| selector.take(entry))?
        };
        self.check_found(selector.not_found(), &unread)?;
        if !unread.is_empty() && !self.options.salvage {
            return Err(ClientError::MayLackEntries { cause: Box::new(self.unread()) });
        }
        if selector.needs_targets() {
            self.index(stop, &mut |entry| selector.take_target(&entry))?;
        }
        if !self.options.salvage {
            self.forget_losses();
        }
        Ok(Some(Selected { wanted: selector.finish(), unread }))
    }

    /// Fails if entries were not found.
    pub(super) fn check_found(&self, not_found: Vec<Vec<u8>>, unread: &[Range<u64>]) -> Result<(), ClientError> {
        match not_found {
            paths if paths.is_empty() => Ok(()),
            paths if unread.is_empty() => Err(UsageError::NoSuchEntries { paths }.into()),
            paths => Err(ClientError::EntriesNotFound { paths, cause: Box::new(self.unread()) }),
        }
    }
}

/// Entries that are restored.
struct Selected {
    wanted: Vec<Wanted>,
    /// Ranges of the stream that are lost and may have further ones.
    unread: Vec<Range<u64>>,
}

/// The user and group of this process.
fn owner() -> (u32, u32) {
    #[cfg(unix)]
    return (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    #[cfg(not(unix))]
    return (0, 0);
}
