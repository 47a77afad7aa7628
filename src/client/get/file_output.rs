//! A single file that is restored: it is written beside its path as `NAME.cellsync-part`, gets its metadata, and is
//! renamed when it is complete. Until then, a [log](super::block_log) records its blocks, so that the next get of the same
//! manifest continues it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::client::error::{ClientError, Damage, FileAction};
use crate::client::get::block_log::{BlockLog, RecordedBlock};
use crate::client::get::omission::{RestoreOmission, RestoreOmissionReason};
use crate::client::get::partial::{Found, Header, LOG_SUFFIX, SUFFIX, beside, in_the_way, is_own};
use crate::client::paths::{names_directory, parent_of, sync_parent};
use crate::client::progress::{Progress, StopSignal};
use crate::client::rename::RenameMethod;
use crate::client::usage_error::UsageError;
use crate::pipeline::{BlockChecksum, FileMetadata, Manifest, ManifestHash};

/// The mode of a file of which the manifest does not have one: only its owner can read it.
#[cfg(unix)]
const PRIVATE_MODE: u32 = 0o600;

/// A run of at least this many zero bytes becomes a hole. A file system stores nothing for it.
const MIN_HOLE: u64 = 64 * 1024;

/// Zeros are looked for in pieces of this size.
const ZEROS: [u8; 4096] = [0; 4096];

/// What an interrupted get left that is used again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::client) struct Kept {
    /// Blocks that are not fetched again, from the first one.
    pub(in crate::client) blocks: usize,
    /// Bytes of these blocks.
    pub(in crate::client) bytes: u64,
}

/// A file in progress. If it is dropped before it is finished, its blocks are kept. If it has none, nothing of it is left.
pub(in crate::client) struct FileOutput {
    path: PathBuf,
    partial: PathBuf,
    file: File,
    log: BlockLog,
    metadata: FileMetadata,
    /// How it gets its name, or none if it replaces what has the name.
    method: Option<RenameMethod>,
    /// Zeros that are still to be written after what is in the file.
    zeros: u64,
    /// Blocks in the file, or none if not all of them are in the log.
    recorded: Option<usize>,
    /// Does what is there stay when this is dropped?
    is_kept: bool,
}

impl FileOutput {
    /// Opens the file, perhaps one that an interrupted get left. What would make it fail at the end is checked now.
    pub(in crate::client) fn open(
        path: &Path,
        manifest: &Manifest,
        metadata: FileMetadata,
        part: Option<String>,
        force: bool,
    ) -> Result<Self, ClientError> {
        let path = path.to_owned();
        match fs::symlink_metadata(&path) {
            Ok(metadata) if !metadata.is_file() => return Err(UsageError::OutputNotRegular { path }.into()),
            Err(_) if names_directory(&path) => return Err(UsageError::OutputNamesDirectory { path }.into()),
            Ok(_) if !force => return Err(UsageError::OutputExists { path }.into()),
            _ => {}
        }
        let write_error = |error| ClientError::file(FileAction::Write, &path)(error);
        let method = if force { None } else { Some(RenameMethod::detect(parent_of(&path)).map_err(write_error)?) };
        let partial = beside(&path, SUFFIX);
        let header = Header::new(ManifestHash::of(&manifest.chunks, &manifest.key), part);
        let (file, log, is_kept) = open_partial(&path, &partial, &header, force)?;
        Ok(Self { path, partial, file, log, metadata, method, zeros: 0, recorded: Some(0), is_kept })
    }

    /// Keeps the blocks that an interrupted get left, from the first one to the first that is not as it was written.
    /// Reports them as they are verified.
    pub(in crate::client) fn resume(
        &mut self,
        progress: &dyn Progress,
        stop: &StopSignal,
    ) -> Result<Kept, ClientError> {
        let (mut kept, mut last) = (Kept::default(), None);
        let blocks = self.log.blocks().map_err(ClientError::file(FileAction::Read, &self.partial))?;
        for block in blocks {
            if stop.is_set() {
                return Err(ClientError::Stopped);
            }
            if !is_there(&mut self.file, block) {
                break;
            }
            kept = Kept { blocks: kept.blocks + 1, bytes: kept.bytes + block.length as u64 };
            last = Some(block);
            progress.advance(block.length as u64, 0);
        }
        self.log.truncate(last)?;
        let truncated = self.file.set_len(kept.bytes).and_then(|()| self.file.seek(SeekFrom::Start(kept.bytes)));
        truncated.map_err(ClientError::file(FileAction::Write, &self.partial))?;
        self.recorded = Some(kept.blocks);
        self.is_kept = kept.blocks > 0;
        Ok(kept)
    }

    /// Writes the next bytes, and records them if they are a whole block of the manifest, which has this checksum.
    pub(in crate::client) fn write(&mut self, bytes: &[u8], block: Option<BlockChecksum>) -> Result<(), ClientError> {
        let written = self.write_with_holes(bytes).and_then(|()| match (self.recorded, block) {
            (Some(index), Some(checksum)) => self.log.record(index, bytes.len(), checksum),
            (None, _) | (_, None) => Ok(()),
        });
        written.map_err(ClientError::file(FileAction::Write, &self.path))?;
        self.recorded = self.recorded.filter(|_| block.is_some()).map(|blocks| blocks + 1);
        self.is_kept |= self.recorded.is_some();
        Ok(())
    }

    /// Ends a get that failed. Returns the error, which says where its blocks are if they can be used again.
    pub(in crate::client) fn fail(mut self, cause: ClientError) -> ClientError {
        // These remain as they are, whatever the cells do: the manifest does not fit its chunks.
        if let ClientError::Corrupt { damage, .. } = &cause
            && matches!(damage, Damage::Unopenable(_) | Damage::ShortBlock { .. } | Damage::WrongSize { .. })
        {
            self.is_kept = false;
        }
        if !self.is_kept {
            return cause;
        }
        ClientError::Resumable { cause: Box::new(cause), kept: self.partial.clone() }
    }

    fn write_with_holes(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let length_of = |bytes: &[u8], zeros: bool| -> usize {
            let pieces = bytes.chunks(ZEROS.len()).take_while(|piece| ZEROS.starts_with(piece) == zeros);
            pieces.map(<[u8]>::len).sum()
        };
        while !bytes.is_empty() {
            let (zeros, rest) = bytes.split_at(length_of(bytes, true));
            self.zeros = self.zeros.saturating_add(zeros.len() as u64);
            let (data, rest) = rest.split_at(length_of(rest, false));
            if !data.is_empty() {
                self.end_zeros()?;
                self.file.write_all(data)?;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Leaves out the zeros before the next byte, or writes them if they are few.
    fn end_zeros(&mut self) -> io::Result<()> {
        let zeros = mem::take(&mut self.zeros);
        if zeros < MIN_HOLE {
            io::copy(&mut io::repeat(0).take(zeros), &mut self.file)?;
            return Ok(());
        }
        self.file.seek_relative(i64::try_from(zeros).map_err(io::Error::other)?)
    }

    /// Gives the file its length, which counts a hole at the end.
    fn end(&mut self) -> io::Result<()> {
        self.end_zeros()?;
        let length = self.file.stream_position()?;
        self.file.set_len(length)
    }

    /// Sets its metadata, makes it durable and renames it. Returns what of the metadata the target does not have.
    pub(in crate::client) fn finish(mut self) -> Result<Vec<RestoreOmission>, ClientError> {
        match self.complete() {
            Ok(reasons) => {
                let name = self.path.as_os_str().as_encoded_bytes();
                Ok(reasons.into_iter().map(|reason| RestoreOmission { path: name.to_owned(), reason }).collect())
            }
            Err(error @ ClientError::RestoredElsewhere { .. }) => Err(error),
            Err(error) => Err(self.fail(error)),
        }
    }

    fn complete(&mut self) -> Result<Vec<RestoreOmissionReason>, ClientError> {
        self.end().map_err(ClientError::file(FileAction::Write, &self.path))?;
        let omissions = set_metadata(&self.file, self.metadata);
        self.file.sync_all().map_err(ClientError::file(FileAction::Write, &self.path))?;
        // Whatever happens to its name, it is complete.
        self.is_kept = true;
        let renamed = match self.method {
            None => fs::rename(&self.partial, &self.path),
            // Another process may have made the file in the meantime.
            Some(method) => method.rename(&self.partial, &self.path),
        };
        if let Err(source) = renamed {
            let (path, saved_as) = (self.path.clone(), self.partial.clone());
            return Err(ClientError::RestoredElsewhere { path, saved_as, source });
        }
        self.log.remove();
        sync_parent(&self.path);
        Ok(omissions)
    }
}

impl Drop for FileOutput {
    fn drop(&mut self) {
        if !self.is_kept {
            // The log says whose file it is, so it is removed last. What cannot be removed is found by the next get.
            drop(fs::remove_file(&self.partial));
            self.log.remove();
        }
    }
}

/// Opens the partial file and its log, or makes them. Returns with them whether an interrupted get left them.
fn open_partial(
    path: &Path,
    partial: &Path,
    header: &Header,
    force: bool,
) -> Result<(File, BlockLog, bool), ClientError> {
    let write_error = |error| ClientError::file(FileAction::Write, path)(error);
    let log_path = beside(path, LOG_SUFFIX);
    let metadata = fs::symlink_metadata(partial).ok();
    let exists = metadata.is_some();
    let has_partial = metadata.as_ref().is_some_and(|metadata| !metadata.is_file() || metadata.len() > 0);
    let is_ours = metadata.as_ref().is_none_or(|metadata| metadata.is_file() && is_own(metadata));
    if metadata.as_ref().is_some_and(fs::Metadata::is_dir) {
        return Err(in_the_way(partial, &log_path).into());
    }
    if !is_ours || (has_partial && fs::symlink_metadata(&log_path).is_err()) {
        return Err(UsageError::NotAPartialRestore { path: partial.to_owned() }.into());
    }
    let (mut log, found) = BlockLog::open(&log_path, partial, header)?;
    match found {
        Found::Foreign => return Err(UsageError::NotAPartialRestore { path: log_path }.into()),
        Found::Other if has_partial && !force => {
            return Err(UsageError::OtherPartialRestore { path: partial.to_owned(), also: Some(log_path) }.into());
        }
        Found::Same { .. } if exists => return Ok((open_again(partial).map_err(write_error)?, log, true)),
        Found::Same { .. } | Found::Other | Found::Nothing => {}
    }
    if let Err(error) = fs::remove_file(partial)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(write_error(error));
    }
    let file = log.start(header).and_then(|()| make_private(partial).map_err(write_error));
    // Without its file, a log means nothing.
    let file = file.inspect_err(|_| log.remove())?;
    Ok((file, log, false))
}

/// Opens the file that an interrupted get left. It may have the mode of the complete file already.
fn open_again(partial: &Path) -> io::Result<File> {
    // Not every file system has modes.
    #[cfg(unix)]
    drop(fs::set_permissions(partial, std::os::unix::fs::PermissionsExt::from_mode(PRIVATE_MODE)));
    crate::client::get::partial::open_private(partial)
}

/// Makes a file that only its user can read. One that exists is an error.
fn make_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, PRIVATE_MODE);
    options.open(path)
}

/// Is the next block of the file as it was recorded? Zeros at its end may not have been written.
fn is_there(file: &mut File, recorded: RecordedBlock) -> bool {
    let mut block = Vec::with_capacity(recorded.length);
    // What cannot be read is fetched again.
    if file.take(recorded.length as u64).read_to_end(&mut block).is_err() {
        return false;
    }
    block.resize(recorded.length, 0);
    BlockChecksum::of(&block) == recorded.checksum
}

/// Sets mode and time, and returns what failed.
fn set_metadata(file: &File, metadata: FileMetadata) -> Vec<RestoreOmissionReason> {
    let mut omissions = Vec::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = metadata.mode.unwrap_or(PRIVATE_MODE);
        #[cfg(target_os = "linux")]
        remove_inherited_acl(file);
        let set = file.set_permissions(fs::Permissions::from_mode(mode));
        let is_set = file.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o7777 == mode);
        if !is_set {
            omissions.push(RestoreOmissionReason::Mode { os_error: os_error(set) });
        }
    }
    if let Some(mtime) = metadata.mtime_ns.and_then(system_time) {
        let set = file.set_modified(mtime);
        let is_set = file.metadata().and_then(|metadata| metadata.modified()).is_ok_and(|modified| modified == mtime);
        if !is_set {
            omissions.push(RestoreOmissionReason::Time { os_error: os_error(set) });
        }
    }
    omissions
}

/// A directory can have an access control list for new files, and then the mode would grant more than it says.
#[cfg(target_os = "linux")]
fn remove_inherited_acl(file: &File) {
    // Nearly always there is none, or the file system has no such lists.
    let _ = rustix::fs::fremovexattr(file, "system.posix_acl_access");
}

fn os_error(result: io::Result<()>) -> Option<i32> {
    result.err()?.raw_os_error()
}

/// A time in nanoseconds since 1970, if this machine can represent it.
fn system_time(ns: i64) -> Option<SystemTime> {
    let distance = Duration::from_nanos(ns.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    if ns < 0 { epoch.checked_sub(distance) } else { epoch.checked_add(distance) }
}

#[cfg(test)]
mod tests;
