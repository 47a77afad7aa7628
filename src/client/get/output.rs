//! Where restored bytes go. Nothing half-written is ever seen under the real name: files and directories are made
//! beside it under a temporary one and renamed when they are whole.

use std::fs::{self, File};
use std::io::{self, PipeWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use tempfile::{NamedTempFile, TempDir};
use walkdir::WalkDir;

use crate::client::error::{ClientError, FileAction, UsageError};
use crate::pipeline::Content;

/// Where the user wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Under this name.
    Path(PathBuf),
    /// On standard output; a directory as its tar stream.
    StandardOutput,
    /// Nowhere: the chunks are fetched and verified only.
    Nothing,
}

/// The folder that holds this path.
pub(in crate::client) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Is it one, or written as one is, with a separator at the end? No file can have that name.
pub(in crate::client) fn names_a_directory(path: &Path) -> bool {
    path.is_dir() || path.as_os_str().to_string_lossy().ends_with(std::path::is_separator)
}

/// Are these two names of one file that is there?
pub(in crate::client) fn are_one(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Makes the name of a renamed file safe, where folders can be synced at all.
pub(in crate::client) fn sync_folder(path: &Path) {
    if cfg!(unix) {
        // The bytes are safe already; a file system that cannot do this has no better.
        drop(File::open(folder_of(path)).and_then(|folder| folder.sync_all()));
    }
}

/// An output that is being written. Dropped before it is finished, it leaves nothing behind.
pub(in crate::client) enum Output {
    File { file: NamedTempFile, path: PathBuf, force: bool },
    Directory { unpacking: Unpacking, path: PathBuf },
    Standard,
    Nothing,
}

/// A tar stream that is unpacked into a temporary directory.
pub(in crate::client) struct Unpacking {
    pipe: Option<PipeWriter>,
    unpacker: Option<JoinHandle<io::Result<()>>>,
    dir: Option<TempDir>,
}

impl Unpacking {
    fn start(dir: TempDir) -> io::Result<Self> {
        let (reader, pipe) = io::pipe()?;
        let root = dir.path().to_owned();
        let unpacker = thread::spawn(move || unpack(reader, &root));
        Ok(Self { pipe: Some(pipe), unpacker: Some(unpacker), dir: Some(dir) })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.pipe.as_mut().map_or(Ok(()), |pipe| pipe.write_all(bytes));
        // If the unpacker has ended early, it knows why.
        written.or_else(|error| self.end().and(Err(error)))
    }

    /// Lets the unpacker come to its end.
    fn end(&mut self) -> io::Result<()> {
        drop(self.pipe.take());
        match self.unpacker.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(io::Error::other("the unpacker ended by itself")),
            Some(Ok(unpacked)) => unpacked,
            None => Ok(()),
        }
    }
}

impl Drop for Unpacking {
    fn drop(&mut self) {
        // The directory can be removed only when nobody writes to it any more.
        drop(self.end());
    }
}

impl Output {
    /// Opens it, and finds out now what would fail only at the end.
    pub(in crate::client) fn open(target: &Target, content: Content, force: bool) -> Result<Self, ClientError> {
        match (target, content) {
            (Target::Nothing, _) => Ok(Self::Nothing),
            (Target::StandardOutput, _) => Ok(Self::Standard),
            (Target::Path(path), Content::File) => open_file(path, force),
            (Target::Path(path), Content::Tar) => open_directory(path),
        }
    }

    /// Writes the next bytes.
    pub(in crate::client) fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        match self {
            Self::Nothing => Ok(()),
            Self::Standard => io::stdout()
                .lock()
                .write_all(bytes)
                .map_err(ClientError::file(FileAction::Write, Path::new("standard output"))),
            Self::File { file, path, .. } => file.write_all(bytes).map_err(ClientError::file(FileAction::Write, path)),
            Self::Directory { unpacking, path } => {
                unpacking.write(bytes).map_err(ClientError::file(FileAction::Unpack, path))
            }
        }
    }

    /// All is written: makes it safe and gives it its name.
    pub(in crate::client) fn finish(self) -> Result<(), ClientError> {
        match self {
            Self::Nothing => Ok(()),
            Self::Standard => {
                io::stdout().lock().flush().map_err(ClientError::file(FileAction::Write, Path::new("standard output")))
            }
            Self::File { file, path, force } => {
                let wrong = |error| ClientError::file(FileAction::Write, &path)(error);
                file.as_file().sync_all().map_err(wrong)?;
                if force {
                    file.persist(&path).map_err(|error| wrong(error.error))?;
                } else {
                    // Another process may have made it meanwhile.
                    file.persist_noclobber(&path).map_err(|error| wrong(error.error))?;
                }
                sync_folder(&path);
                Ok(())
            }
            Self::Directory { mut unpacking, path } => {
                let wrong = |error| ClientError::file(FileAction::Unpack, &path)(error);
                unpacking.end().map_err(wrong)?;
                if let Some(dir) = unpacking.dir.take() {
                    sync_all_in(dir.path()).and_then(|()| fs::rename(dir.path(), &path)).map_err(wrong)?;
                    // It has another name now; there is nothing left to remove.
                    let _ = dir.keep();
                }
                sync_folder(&path);
                Ok(())
            }
        }
    }
}

/// Makes every file below a directory safe.
fn sync_all_in(root: &Path) -> io::Result<()> {
    for entry in WalkDir::new(root) {
        let entry = entry?;
        if entry.file_type().is_file() || (cfg!(unix) && entry.file_type().is_dir()) {
            match File::open(entry.path()) {
                Ok(file) => file.sync_all()?,
                // A file whose own permissions keep even us from reading it; it is written all the same.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn unpack_entry(entry: &mut tar::Entry<'_, impl Read>, root: &Path) -> io::Result<()> {
    if entry.unpack_in(root)? {
        return Ok(());
    }
    let what = format!("{}: the name leads out of the directory", entry.path()?.display());
    Err(io::Error::new(io::ErrorKind::InvalidData, what))
}

/// Unpacks a tar stream into a directory, and nowhere else.
fn unpack(reader: impl Read, root: &Path) -> io::Result<()> {
    use tar::EntryType::{Continuous, Directory, GNUSparse, Link, Regular, Symlink};
    let mut archive = tar::Archive::new(reader);
    archive.set_preserve_permissions(true);
    // Never set-user-id, set-group-id or sticky: a manifest from elsewhere must not make programs that run as another.
    archive.set_mask(0o7000);
    let mut directories = Vec::new();
    let mut mode = None;
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.path()?.components().all(|part| part == std::path::Component::CurDir) {
            mode = Some(entry.header().mode()?);
        } else if !matches!(entry.header().entry_type(), Regular | Continuous | Directory | Symlink | Link | GNUSparse)
        {
            let what = format!("{}: neither a file, a directory nor a link", entry.path()?.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        } else if entry.header().entry_type().is_dir() {
            // Last, so that files can be made in directories that may not be written to.
            directories.push(entry);
        } else {
            unpack_entry(&mut entry, root)?;
        }
    }
    for mut directory in directories.into_iter().rev() {
        unpack_entry(&mut directory, root)?;
    }
    #[cfg(unix)]
    if let Some(mode) = mode {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode & 0o777);
        fs::set_permissions(root, mode)?;
    }
    // The padding behind the archive's end.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map(drop)
}

fn open_file(path: &Path, force: bool) -> Result<Output, ClientError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            return Err(UsageError::OutputNotRegular { path: path.to_owned() }.into());
        }
        Err(_) if names_a_directory(path) => {
            return Err(UsageError::OutputNamesDirectory { path: path.to_owned() }.into());
        }
        Ok(_) if !force => {
            return Err(UsageError::OutputExists { path: path.to_owned() }.into());
        }
        _ => {}
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(".cellsync-");
    // As private as the file that it replaces, or as any that the user makes.
    #[cfg(unix)]
    builder.permissions(match fs::metadata(path) {
        Ok(metadata) => metadata.permissions(),
        Err(_) => std::os::unix::fs::PermissionsExt::from_mode(0o666),
    });
    let file = builder.tempfile_in(folder_of(path)).map_err(ClientError::file(FileAction::Write, path))?;
    Ok(Output::File { file, path: path.to_owned(), force })
}

fn open_directory(path: &Path) -> Result<Output, ClientError> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(UsageError::OutputDirectoryExists { path: path.to_owned() }.into());
    }
    let wrong = |error| ClientError::file(FileAction::Write, path)(error);
    let dir = tempfile::Builder::new().prefix(".cellsync-").tempdir_in(folder_of(path)).map_err(wrong)?;
    Ok(Output::Directory { unpacking: Unpacking::start(dir).map_err(wrong)?, path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_seen_under_its_name_only_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let mut output = Output::open(&Target::Path(path.clone()), Content::File, false).unwrap();
        output.write(b"half").unwrap();
        assert!(!path.exists());
        drop(output);
        assert!(names(dir.path()).is_empty(), "given up: nothing is left");
        let mut output = Output::open(&Target::Path(path.clone()), Content::File, false).unwrap();
        output.write(b"whole").unwrap();
        output.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(dir.path()), ["out"]);
    }

    #[test]
    fn what_is_there_is_written_over_only_by_force_and_only_if_it_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        fs::write(&path, b"old").unwrap();
        let target = Target::Path(path.clone());
        assert!(matches!(Output::open(&target, Content::File, false), Err(ClientError::Usage(_))));
        let mut output = Output::open(&target, Content::File, true).unwrap();
        output.write(b"new").unwrap();
        output.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(matches!(Output::open(&target, Content::Tar, true), Err(ClientError::Usage(_))));
        let folder = Target::Path(dir.path().to_owned());
        assert!(matches!(Output::open(&folder, Content::File, true), Err(ClientError::Usage(_))));
    }

    #[test]
    fn a_damaged_tar_stream_leaves_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let mut output = Output::open(&Target::Path(path.clone()), Content::Tar, false).unwrap();
        let written = output.write(&vec![b'x'; 100_000]);
        assert!(written.and_then(|()| output.finish()).is_err());
        assert!(names(dir.path()).is_empty());
    }
}
