//! Unpacking the tar stream of a directory, on a thread of its own, while its bytes arrive.

use std::fs::{self, File};
use std::io::{self, PipeWriter, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::thread::{self, JoinHandle};

use tempfile::TempDir;
use walkdir::WalkDir;

use crate::human;

/// Mode bits that are never restored: set-user-id, set-group-id and sticky. A manifest from elsewhere must not make
/// programs that run as another user.
const DROPPED_MODE_BITS: u32 = 0o7000;

/// Why an entry of a tar stream is refused.
#[derive(Debug, thiserror::Error)]
enum EntryError {
    #[error("{}: the path leads out of the directory", escaped(.0))]
    OutsideDirectory(PathBuf),
    #[error("{}: neither a file, a directory nor a link", escaped(.0))]
    UnsupportedType(PathBuf),
}

/// A path from an archive, safe to print.
fn escaped(path: &Path) -> String {
    human::escaped(path.as_os_str().as_encoded_bytes())
}

impl From<EntryError> for io::Error {
    fn from(error: EntryError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// A tar stream that is being unpacked into a temporary directory.
pub(in crate::client) struct Unpacker {
    pipe: Option<PipeWriter>,
    thread: Option<JoinHandle<io::Result<()>>>,
    directory: Option<TempDir>,
}

impl Unpacker {
    pub(in crate::client) fn start(directory: TempDir) -> io::Result<Self> {
        let (reader, pipe) = io::pipe()?;
        let root = directory.path().to_owned();
        let thread = thread::spawn(move || unpack(reader, &root));
        Ok(Self { pipe: Some(pipe), thread: Some(thread), directory: Some(directory) })
    }

    /// Unpacks the next bytes of the stream.
    pub(in crate::client) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.pipe.as_mut().map_or(Ok(()), |pipe| pipe.write_all(bytes));
        // If the thread ended early, its error is the reason.
        written.or_else(|error| self.join().and(Err(error)))
    }

    /// Makes the directory durable and renames it.
    pub(in crate::client) fn finish(mut self, path: &Path) -> io::Result<()> {
        self.join()?;
        if let Some(directory) = self.directory.take() {
            sync_tree(directory.path())?;
            fs::rename(directory.path(), path)?;
            // It has another name now, and nothing is to be removed.
            let _ = directory.keep();
        }
        Ok(())
    }

    fn join(&mut self) -> io::Result<()> {
        drop(self.pipe.take());
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(io::Error::other("internal error: the unpacking thread panicked")),
            Some(Ok(result)) => result,
            None => Ok(()),
        }
    }
}

impl Drop for Unpacker {
    fn drop(&mut self) {
        // The directory is removed after its last writer has ended.
        drop(self.join());
    }
}

/// Makes all files and directories of a tree durable.
fn sync_tree(root: &Path) -> io::Result<()> {
    for entry in WalkDir::new(root) {
        let entry = entry?;
        if entry.file_type().is_file() || (cfg!(unix) && entry.file_type().is_dir()) {
            match File::open(entry.path()) {
                Ok(file) => file.sync_all()?,
                // Its own mode forbids to read it. It is written all the same.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Unpacks a tar stream into a directory, and nowhere else.
fn unpack(reader: impl Read, root: &Path) -> io::Result<()> {
    use tar::EntryType::{Continuous, Directory, GNUSparse, Link, Regular, Symlink};
    let mut archive = tar::Archive::new(reader);
    archive.set_preserve_permissions(true);
    archive.set_mask(DROPPED_MODE_BITS);
    let mut directories = Vec::new();
    let mut mode = None;
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.path()?.components().all(|part| part == Component::CurDir) {
            mode = Some(entry.header().mode()?);
        } else if !matches!(entry.header().entry_type(), Regular | Continuous | Directory | Symlink | Link | GNUSparse)
        {
            return Err(EntryError::UnsupportedType(entry.path()?.into_owned()).into());
        } else if entry.header().entry_type().is_dir() {
            // Directories come last: files must be made in them before they become read-only.
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
    // Padding follows the end of the archive.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map(drop)
}

fn unpack_entry(entry: &mut tar::Entry<'_, impl Read>, root: &Path) -> io::Result<()> {
    if entry.unpack_in(root)? {
        return Ok(());
    }
    Err(EntryError::OutsideDirectory(entry.path()?.into_owned()).into())
}
