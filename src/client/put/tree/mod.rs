//! A directory as a source: what is in it, and its stream.
//!
//! ```text
//!  Walk: what is there, without what is excluded ─▶ Scanner: metadata ─▶ header ─▶ data ─▶ blocks of the stream
//!                                                            └─▶ line of the index ─▶ blocks of the index
//! ```
//!
//! A directory is read twice. [`Tree::plan`] reads no content: it finds the length of the stream, and what cannot be
//! stored, before the first byte is sent. [`Tree::pack`] reads everything anew, so it stores what is there then. While it
//! does, files may change: an entry keeps the length that its header states, and what is not as it was is reported. So
//! the stream is a whole archive whatever happens.
//!
//! The stream is [cut](crate::archive::cuts) at entries. The [index](crate::archive::index) is written beside it
//! and ends with the hashes of its blocks, which the threads that seal them compute.

mod data;
pub(in crate::client) mod exclude;
mod open;
mod owners;
mod scan;
mod sparse;
mod stat;
mod walk;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::archive;
use crate::archive::index::{IndexEntry, IndexLine, index_line};
use crate::client::error::{ClientError, FileAction};
use crate::client::progress::StopSignal;
use crate::client::put::block_writer::{BlockWriter, Ended};
use crate::client::put::input::Reader;
use crate::client::put::omission::{Omission, OmissionReason, SystemError};
use crate::client::put::options::PutOptions;
use crate::client::put::position::{Position, PutBlock};
use crate::client::put::source::SourceLength;
use crate::client::put::tree::data::{Copied, copy, read_at};
use crate::client::put::tree::exclude::Patterns;
use crate::client::put::tree::scan::{Data, Purpose, Scanned, Scanner};
use crate::client::put::tree::stat::Stat;
use crate::client::put::tree::walk::Walk;
use crate::client::usage_error::UsageError;
use crate::pipeline::BlockHash;
use crate::sync::lock;

/// A directory that is stored, with what is left out of it.
pub(in crate::client) struct Tree {
    root: PathBuf,
    patterns: Patterns,
    exclude_caches: bool,
    one_file_system: bool,
    xattrs: bool,
    named: Named,
}

impl Tree {
    pub(in crate::client) fn new(root: &Path, options: &PutOptions) -> Result<Self, UsageError> {
        Ok(Self {
            root: root.to_owned(),
            patterns: Patterns::new(&options.exclude)?,
            exclude_caches: options.exclude_caches,
            one_file_system: options.one_file_system,
            xattrs: options.xattrs,
            named: Named::default(),
        })
    }

    /// Finds out how long the stream will be in bytes if nothing changes, and what will be missing in it.
    pub(in crate::client) fn plan(
        &self,
        stop: &StopSignal,
        report: &mut dyn FnMut(Omission),
    ) -> Result<u64, ClientError> {
        let mut bytes = archive::END.len() as u64;
        let mut scanner = Scanner::new(self, Purpose::Plan);
        for found in Walk::new(self) {
            if stop.is_set() {
                return Err(ClientError::Stopped);
            }
            let (entry, path) = match found {
                Ok(found) => (scanner.scan(&found), found.path),
                Err(Omission { path, reason }) => (Err(reason), path),
            };
            let (length, reason) = match entry {
                Ok(entry) => (Some(entry.stream_bytes()), entry.omission),
                Err(reason) => (None, Some(reason)),
            };
            if let Some(reason) = reason {
                self.name(Omission { path, reason }, report)?;
            }
            bytes += length.unwrap_or_default();
        }
        Ok(bytes)
    }

    /// Passes the blocks of the stream and of its index to the reader, each in their order. Returns their lengths; `None`
    /// if the reader ended it.
    pub(in crate::client) fn pack(&self, reader: Reader<'_>) -> Result<Option<SourceLength>, ClientError> {
        let Reader { take, hashes, report, .. } = reader;
        let take = RefCell::new(take);
        let pass = |position, bytes| (take.borrow_mut())(PutBlock { position, bytes });
        let mut take_data = |number, bytes| pass(Position::Data(number), bytes);
        let mut take_index = |number, bytes| pass(Position::Index(number), bytes);
        let mut out = BlockWriter::new(&mut take_data);
        let mut index = BlockWriter::new(&mut take_index);
        let mut scanner = Scanner::new(self, Purpose::Pack);
        for found in Walk::new(self) {
            let found = match found {
                Ok(found) => found,
                Err(omission) => {
                    self.name(omission, report)?;
                    continue;
                }
            };
            let written = match scanner.scan(&found) {
                Ok(entry) => {
                    if let Some(reason) = entry.omission {
                        self.name(Omission { path: found.path.clone(), reason }, report)?;
                    }
                    write_entry(&entry, &mut out, &mut index)
                }
                Err(reason) => Ok(Some(reason)),
            };
            match written {
                Ok(None) => {}
                Ok(Some(reason)) => self.name(Omission { path: found.path, reason }, report)?,
                Err(Ended) => return Ok(None),
            }
        }
        Ok(write_end(out, index, hashes).ok())
    }

    /// Reports an omission, unless it was reported before. Fails if there is nothing to store without it: the directory
    /// itself cannot be read.
    fn name(&self, omission: Omission, report: &mut dyn FnMut(Omission)) -> Result<(), ClientError> {
        if omission.path == self.root {
            let error = match omission.reason {
                OmissionReason::Unlisted(error) | OmissionReason::Unreadable(error) => Some(error.into()),
                OmissionReason::Vanished => Some(io::ErrorKind::NotFound.into()),
                _ => None,
            };
            if let Some(error) = error {
                return Err(ClientError::file(FileAction::Read, &self.root)(error));
            }
        }
        if self.named.is_new(&omission) {
            report(omission);
        }
        Ok(())
    }
}

/// Writes an entry to the stream and to the index. Returns what is not as it was when the file was opened.
fn write_entry(
    scanned: &Scanned,
    out: &mut BlockWriter<'_>,
    index: &mut BlockWriter<'_>,
) -> Result<Option<OmissionReason>, Ended> {
    let Scanned { entry, header, data, .. } = scanned;
    let length = scanned.stream_bytes();
    let line = index_line(&IndexLine::Entry(IndexEntry::of(entry, out.bytes(), length)));
    index.write(line.as_bytes())?;
    out.begin_entry(length)?;
    out.write(header)?;
    let omission = data.as_ref().map_or(Ok(None), |data| write_data(data, out))?;
    out.end_entry(&entry.path, length)?;
    Ok(omission)
}

/// Writes the end of the stream, and then the hashes of its blocks to the index.
fn write_end(
    mut out: BlockWriter<'_>,
    mut index: BlockWriter<'_>,
    hashes: &mut dyn FnMut(usize) -> Option<Vec<BlockHash>>,
) -> Result<SourceLength, Ended> {
    out.begin_entry(archive::END.len() as u64)?;
    out.write(&archive::END)?;
    let bytes = out.bytes();
    let blocks = out.finish()?;
    for hash in hashes(blocks).ok_or(Ended)? {
        index.write(index_line(&IndexLine::Block(hash)).as_bytes())?;
    }
    Ok(SourceLength { blocks, bytes, index_blocks: index.finish()? })
}

/// Writes the data of a file. Returns what is not as it was when the file was opened.
fn write_data(data: &Data, out: &mut BlockWriter<'_>) -> Result<Option<OmissionReason>, Ended> {
    let Data { file, extents, stat } = data;
    let copied = copy(&|buffer, offset| read_at(file, buffer, offset), extents, out)?;
    let bytes = extents.iter().map(|extent| extent.length).sum();
    out.write_zeros(archive::padding(bytes) as u64)?;
    Ok(difference(&copied, stat, file.metadata().map(|metadata| Stat::of(&metadata))))
}

/// What of a file is not as it was, by what was copied and its metadata before and after that.
fn difference(copied: &Copied, before: &Stat, after: io::Result<Stat>) -> Option<OmissionReason> {
    let stored = before.size;
    match (copied.error, copied.end, after) {
        // A read that failed once and then succeeded is no damage.
        (Some(error), _, _) if copied.damaged > 0 => Some(OmissionReason::Damaged { bytes: copied.damaged, error }),
        (_, _, Err(error)) => Some(OmissionReason::Unverified(SystemError::from(&error))),
        (_, Some(read), Ok(after)) => Some(OmissionReason::Shrank { before: stored, after: after.size, read }),
        (_, None, Ok(after)) if after.size > stored => Some(OmissionReason::Grew { stored }),
        (_, None, Ok(after)) if after.size < stored => Some(OmissionReason::Changed),
        (_, None, Ok(after)) => {
            let is_same = (after.modified, after.changed) == (before.modified, before.changed);
            (!is_same).then_some(OmissionReason::Changed)
        }
    }
}

/// The omissions that were reported, by a hash of each: the plan finds most of them before the stream does.
#[derive(Default)]
struct Named {
    hasher: RandomState,
    hashes: Mutex<BTreeSet<u64>>,
}

impl Named {
    /// Adds an omission. False if it was added before.
    fn is_new(&self, omission: &Omission) -> bool {
        let hash = self.hasher.hash_one((&omission.path, mem::discriminant(&omission.reason)));
        lock(&self.hashes).insert(hash)
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
