//! Where restored bytes go. A file or directory is made beside its path under a temporary name and renamed when it is
//! complete, so that its path never has half of it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::client::error::{ClientError, FileAction};
use crate::client::get::unpack::Unpacker;
use crate::client::paths::{TEMPORARY_PREFIX, names_directory, parent_of, sync_parent};
use crate::client::usage_error::UsageError;
use crate::pipeline::Content;

/// Where the user wants the restored bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// At this path.
    Path(PathBuf),
    /// On standard output; a directory as its tar stream.
    StandardOutput,
    /// Nowhere: chunks are only fetched and verified.
    Nothing,
}

/// An output in progress. If it is dropped before it is finished, nothing of it is left.
pub(in crate::client) enum Output {
    File { file: NamedTempFile, path: PathBuf, force: bool },
    Directory { unpacker: Unpacker, path: PathBuf },
    Standard,
    Nothing,
}

impl Output {
    /// Opens the output. What would make it fail at the end is checked now.
    pub(in crate::client) fn open(target: &Target, content: Content, force: bool) -> Result<Self, ClientError> {
        match (target, content) {
            (Target::Nothing, _) => Ok(Self::Nothing),
            (Target::StandardOutput, _) => Ok(Self::Standard),
            (Target::Path(path), Content::File(_)) => open_file(path, force),
            (Target::Path(path), Content::Tar) => open_directory(path),
        }
    }

    /// Writes the next bytes.
    pub(in crate::client) fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        match self {
            Self::Nothing => Ok(()),
            Self::Standard => io::stdout().lock().write_all(bytes).map_err(standard_output_error),
            Self::File { file, path, .. } => file.write_all(bytes).map_err(ClientError::file(FileAction::Write, path)),
            Self::Directory { unpacker, path } => {
                unpacker.write(bytes).map_err(ClientError::file(FileAction::Unpack, path))
            }
        }
    }

    /// Makes what was written durable and renames it to its path.
    pub(in crate::client) fn finish(self) -> Result<(), ClientError> {
        match self {
            Self::Nothing => Ok(()),
            Self::Standard => io::stdout().lock().flush().map_err(standard_output_error),
            Self::File { file, path, force } => {
                let write_error = |error| ClientError::file(FileAction::Write, &path)(error);
                file.as_file().sync_all().map_err(write_error)?;
                if force {
                    file.persist(&path).map_err(|error| write_error(error.error))?;
                } else {
                    // Another process may have made the file in the meantime.
                    file.persist_noclobber(&path).map_err(|error| write_error(error.error))?;
                }
                sync_parent(&path);
                Ok(())
            }
            Self::Directory { unpacker, path } => {
                unpacker.finish(&path).map_err(ClientError::file(FileAction::Unpack, &path))?;
                sync_parent(&path);
                Ok(())
            }
        }
    }
}

fn standard_output_error(error: io::Error) -> ClientError {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return ClientError::OutputClosed;
    }
    ClientError::file(FileAction::Write, Path::new("standard output"))(error)
}

fn open_file(path: &Path, force: bool) -> Result<Output, ClientError> {
    let path = path.to_owned();
    match fs::symlink_metadata(&path) {
        Ok(metadata) if !metadata.is_file() => return Err(UsageError::OutputNotRegular { path }.into()),
        Err(_) if names_directory(&path) => return Err(UsageError::OutputNamesDirectory { path }.into()),
        Ok(_) if !force => return Err(UsageError::OutputExists { path }.into()),
        _ => {}
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY_PREFIX);
    // As private as the file that it replaces, or else as the user's umask has it.
    #[cfg(unix)]
    builder.permissions(match fs::metadata(&path) {
        Ok(metadata) => metadata.permissions(),
        Err(_) => std::os::unix::fs::PermissionsExt::from_mode(0o666),
    });
    let file = builder.tempfile_in(parent_of(&path)).map_err(ClientError::file(FileAction::Write, &path))?;
    Ok(Output::File { file, path, force })
}

fn open_directory(path: &Path) -> Result<Output, ClientError> {
    let path = path.to_owned();
    if fs::symlink_metadata(&path).is_ok() {
        return Err(UsageError::OutputDirectoryExists { path }.into());
    }
    let write_error = |error| ClientError::file(FileAction::Write, &path)(error);
    let directory = tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempdir_in(parent_of(&path));
    let unpacker = Unpacker::start(directory.map_err(write_error)?).map_err(write_error)?;
    Ok(Output::Directory { unpacker, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_has_its_path_only_when_it_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let mut output = Output::open(&Target::Path(path.clone()), Content::default(), false).unwrap();
        output.write(b"half").unwrap();
        assert!(!path.exists());
        drop(output);
        assert!(names(directory.path()).is_empty(), "nothing is left of it");
        let mut output = Output::open(&Target::Path(path.clone()), Content::default(), false).unwrap();
        output.write(b"whole").unwrap();
        output.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(directory.path()), ["out"]);
    }

    #[test]
    fn only_files_are_overwritten_and_only_by_force() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        fs::write(&path, b"old").unwrap();
        let target = Target::Path(path.clone());
        assert!(matches!(Output::open(&target, Content::default(), false), Err(ClientError::Usage(_))));
        let mut output = Output::open(&target, Content::default(), true).unwrap();
        output.write(b"new").unwrap();
        output.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(matches!(Output::open(&target, Content::Tar, true), Err(ClientError::Usage(_))));
        let target = Target::Path(directory.path().to_owned());
        assert!(matches!(Output::open(&target, Content::default(), true), Err(ClientError::Usage(_))));
    }

    #[test]
    fn a_damaged_tar_stream_leaves_no_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let mut output = Output::open(&Target::Path(path.clone()), Content::Tar, false).unwrap();
        let written = output.write(&vec![b'x'; 100_000]);
        assert!(written.and_then(|()| output.finish()).is_err());
        assert!(names(directory.path()).is_empty());
    }
}
