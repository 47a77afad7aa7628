//! Where a directory is unpacked, and how it gets to its final place.
//!
//! A new directory is made beside its path and renamed. In a directory that exists and is empty (a mount point cannot be
//! replaced), it is made inside, and what is in it is moved up by one level.

use std::fs::{self, File};
use std::io;
use std::mem;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::client::error::{ClientError, FileAction};
use crate::client::get::rename::RenameMethod;
use crate::client::paths::{TEMPORARY_PREFIX, parent_of, sync_parent};
use crate::client::usage_error::UsageError;

/// An entry that a new file system has, and that does not count as content.
const LOST_AND_FOUND: &str = "lost+found";

/// A directory in progress. If it is dropped before it is moved, nothing of it is left.
#[derive(Debug)]
pub(super) struct Staging {
    directory: Option<TempDir>,
    path: PathBuf,
    is_inside: bool,
    method: RenameMethod,
}

impl Staging {
    /// Makes an empty directory for what will be at `path`.
    pub(super) fn create(path: &Path) -> Result<Self, ClientError> {
        let path = path.to_owned();
        let write_error = |error| ClientError::file(FileAction::Write, &path)(error);
        let is_inside = match (fs::metadata(&path), fs::symlink_metadata(&path)) {
            (Ok(metadata), _) if metadata.is_dir() => {
                if !is_empty(&path).map_err(write_error)? {
                    return Err(UsageError::OutputDirectoryNotEmpty { path }.into());
                }
                true
            }
            (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => false,
            (_, Err(error)) => return Err(write_error(error)),
            (_, Ok(_)) => return Err(UsageError::OutputDirectoryExists { path }.into()),
        };
        let parent = if is_inside { &path } else { parent_of(&path) };
        let method = RenameMethod::detect(parent).map_err(write_error)?;
        let mut builder = tempfile::Builder::new();
        // Nobody else can look into it until it is complete.
        builder.prefix(TEMPORARY_PREFIX).permissions(fs::Permissions::from_mode(0o700));
        let staging = builder.tempdir_in(parent).map_err(write_error)?;
        remove_inherited_acl(staging.path());
        Ok(Self { directory: Some(staging), path, is_inside, method })
    }

    /// Opens the directory.
    pub(super) fn open(&self) -> io::Result<File> {
        match &self.directory {
            Some(staging) => File::open(staging.path()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// The directory that has the entries in the end, for its metadata: to be set before [`Staging::publish`] if it is
    /// the staging directory, or else after it.
    pub(super) fn is_inside(&self) -> bool {
        self.is_inside
    }

    /// Moves what is complete to its final place, and makes the names durable. If something appeared there meanwhile,
    /// it is kept, and the error says where the restored entries are.
    pub(super) fn publish(mut self) -> Result<(), ClientError> {
        let Some(staging) = self.directory.take() else { return Ok(()) };
        // From here on, nothing is removed.
        let staging = staging.keep();
        let moved = if self.is_inside {
            move_up(&staging, &self.path, self.method).and_then(|()| fs::remove_dir(&staging))
        } else {
            self.method.rename_directory(&staging, &self.path)
        };
        if let Err(source) = moved {
            let path = mem::take(&mut self.path);
            return Err(ClientError::RestoredElsewhere { path, saved_as: staging, source });
        }
        if self.is_inside {
            File::open(&self.path)
                .and_then(|directory| directory.sync_all())
                .map_err(ClientError::file(FileAction::Unpack, &self.path))?;
        } else {
            sync_parent(&self.path);
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Some(staging) = &self.directory {
            make_removable(staging.path());
        }
    }
}

/// Is the directory empty, but for what a new file system has?
fn is_empty(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        if entry?.file_name() != LOST_AND_FOUND {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Moves all entries of a directory to another one. Goes on after an error, and returns the last one.
fn move_up(from: &Path, to: &Path, method: RenameMethod) -> io::Result<()> {
    let mut result = Ok(());
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let moved = if entry.file_type()?.is_dir() {
            // An empty one of a file system is as good as that of another.
            if entry.file_name() == LOST_AND_FOUND && target.is_dir() && fs::remove_dir(&source).is_ok() {
                continue;
            }
            move_directory(&source, &target, method)
        } else {
            method.rename(&source, &target)
        };
        if let Err(error) = moved {
            result = Err(error);
        }
    }
    result
}

/// Only who may write to a directory may move it to another one.
fn move_directory(from: &Path, to: &Path, method: RenameMethod) -> io::Result<()> {
    let permissions = fs::symlink_metadata(from)?.permissions();
    if permissions.mode() & 0o200 != 0 {
        return method.rename_directory(from, to);
    }
    fs::set_permissions(from, fs::Permissions::from_mode(permissions.mode() | 0o200))?;
    let moved = method.rename_directory(from, to);
    fs::set_permissions(if moved.is_ok() { to } else { from }, permissions)?;
    moved
}

/// Gives its user all permissions for all directories below a directory, so that it can be removed.
fn make_removable(root: &Path) {
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        // What fails here fails again when it is removed, and then it stays.
        let _ = fs::set_permissions(&directory, fs::Permissions::from_mode(0o700));
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        directories.extend(entries.filter(is_directory).map(|entry| entry.path()));
    }
}

/// A directory can have an access control list for new files. Restored files have their own lists.
fn remove_inherited_acl(path: &Path) {
    #[cfg(target_os = "linux")]
    for name in ["system.posix_acl_default", "system.posix_acl_access"] {
        // Nearly always there is none, or the file system has no such lists.
        let _ = rustix::fs::removexattr(path, name);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = path;
}
