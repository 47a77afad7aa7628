//! A single file that is restored: it is written under a temporary name beside its path, gets its metadata, and is
//! renamed when it is complete.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::NamedTempFile;

use crate::client::error::{ClientError, FileAction};
use crate::client::get::omission::{RestoreOmission, RestoreOmissionReason};
use crate::client::paths::{TEMPORARY_PREFIX, names_directory, parent_of, sync_parent};
use crate::client::rename::RenameMethod;
use crate::client::usage_error::UsageError;
use crate::pipeline::FileMetadata;

/// The mode of a file of which the manifest does not have one: only its owner can read it.
#[cfg(unix)]
const PRIVATE_MODE: u32 = 0o600;

/// A run of at least this many zero bytes becomes a hole. A file system stores nothing for it.
const MIN_HOLE: u64 = 64 * 1024;

/// Zeros are looked for in pieces of this size.
const ZEROS: [u8; 4096] = [0; 4096];

/// A file in progress. If it is dropped before it is finished, nothing of it is left.
pub(in crate::client) struct FileOutput {
    file: NamedTempFile,
    path: PathBuf,
    metadata: FileMetadata,
    /// How it gets its name, or none if it replaces what has the name.
    method: Option<RenameMethod>,
    /// Zeros that are still to be written after what is in the file.
    zeros: u64,
}

impl FileOutput {
    /// Opens the file. What would make it fail at the end is checked now.
    pub(in crate::client) fn open(path: &Path, metadata: FileMetadata, force: bool) -> Result<Self, ClientError> {
        let path = path.to_owned();
        match fs::symlink_metadata(&path) {
            Ok(metadata) if !metadata.is_file() => return Err(UsageError::OutputNotRegular { path }.into()),
            Err(_) if names_directory(&path) => return Err(UsageError::OutputNamesDirectory { path }.into()),
            Ok(_) if !force => return Err(UsageError::OutputExists { path }.into()),
            _ => {}
        }
        let write_error = |error| ClientError::file(FileAction::Write, &path)(error);
        let parent = parent_of(&path);
        let method = if force { None } else { Some(RenameMethod::detect(parent).map_err(write_error)?) };
        // Only its owner can read it until it has its mode.
        let file = tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempfile_in(parent).map_err(write_error)?;
        Ok(Self { file, path, metadata, method, zeros: 0 })
    }

    pub(in crate::client) fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.write_with_holes(bytes).map_err(ClientError::file(FileAction::Write, &self.path))
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
        self.file.as_file().set_len(length)
    }

    /// Sets its metadata, makes it durable and renames it. Returns what of the metadata the target does not have.
    pub(in crate::client) fn finish(mut self) -> Result<Vec<RestoreOmission>, ClientError> {
        self.end().map_err(ClientError::file(FileAction::Write, &self.path))?;
        let Self { file, path, metadata, method, .. } = self;
        let omissions = set_metadata(file.as_file(), metadata).into_iter();
        let name = path.as_os_str().as_encoded_bytes();
        let omissions = omissions.map(|reason| RestoreOmission { path: name.to_owned(), reason }).collect();
        file.as_file().sync_all().map_err(ClientError::file(FileAction::Write, &path))?;
        let temporary = file.into_temp_path();
        let renamed = match method {
            None => fs::rename(&temporary, &path),
            // Another process may have made the file in the meantime.
            Some(method) => method.rename(&temporary, &path),
        };
        // After a rename, there is nothing to remove.
        let saved_as = temporary.keep().map_err(|error| ClientError::file(FileAction::Write, &path)(error.error))?;
        if let Err(source) = renamed {
            return Err(ClientError::RestoredElsewhere { path, saved_as, source });
        }
        sync_parent(&path);
        Ok(omissions)
    }
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
mod tests {
    use super::*;

    fn restore(path: &Path, metadata: FileMetadata, force: bool) -> Vec<RestoreOmission> {
        let mut output = FileOutput::open(path, metadata, force).unwrap();
        output.write(b"bytes").unwrap();
        output.finish().unwrap()
    }

    #[cfg(unix)]
    #[test]
    fn a_file_has_the_mode_and_time_of_the_manifest() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().unwrap();
        for (number, ns) in [0, -463_449_600_123_456_789, 1_700_000_000_000_000_001, -1].into_iter().enumerate() {
            let path = directory.path().join(number.to_string());
            let mode = Some(0o751 >> number);
            assert_eq!(restore(&path, FileMetadata { mode, mtime_ns: Some(ns) }, false), []);
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!(Some(metadata.mode() & 0o7777), mode);
            let modified_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
            assert_eq!(modified_ns, i128::from(ns));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_without_a_known_mode_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for force in [false, true] {
            restore(&path, FileMetadata::default(), force);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        }
    }

    #[test]
    fn long_runs_of_zeros_become_holes() {
        let zeros = |length: usize| vec![0; length];
        let sparse = |end| [zeros(3 << 20), b"data".to_vec(), zeros(4 << 20), b"more".to_vec(), zeros(end)].concat();
        let contents = [sparse(0), sparse(1), sparse(5000), sparse(2 << 20), zeros(1 << 20)];
        let few = [zeros(0), zeros(1), zeros(5000), [zeros(9000), b"x".to_vec(), zeros(65_535)].concat()];
        let directory = tempfile::tempdir().unwrap();
        for (number, content) in contents.iter().chain(&few).enumerate() {
            for block in [997, 4096, 65_537, 1 << 20, 16 << 20] {
                let path = directory.path().join(format!("{number} {block}"));
                let mut output = FileOutput::open(&path, FileMetadata::default(), false).unwrap();
                for bytes in content.chunks(block) {
                    output.write(bytes).unwrap();
                }
                output.finish().unwrap();
                assert!(fs::read(&path).unwrap() == *content, "{number} in blocks of {block} bytes");
                #[cfg(target_os = "linux")]
                {
                    use std::os::unix::fs::MetadataExt;
                    let stored = fs::metadata(&path).unwrap().blocks() * 512;
                    assert!(stored <= 4 * 65_536, "{number} in blocks of {block} bytes: {stored} bytes are stored");
                }
            }
        }
    }

    #[test]
    fn a_file_that_appeared_meanwhile_is_kept_and_the_new_one_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut output = FileOutput::open(&path, FileMetadata::default(), false).unwrap();
        output.write(b"restored").unwrap();
        fs::write(&path, b"other").unwrap();
        match output.finish().unwrap_err() {
            ClientError::RestoredElsewhere { saved_as, .. } => assert_eq!(fs::read(saved_as).unwrap(), b"restored"),
            error => panic!("{error}"),
        }
        assert_eq!(fs::read(&path).unwrap(), b"other");
    }
}
