//! Where a directory is unpacked, and how it gets to its final place.
//!
//! A new directory is made beside its path and renamed. In a directory that exists and is empty (a mount point cannot be
//! replaced), it is made inside, and what is in it is moved up by one level. That directory is opened once: another one
//! that takes its path meanwhile gets nothing.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::mem;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, chmodat, fchmod, openat, statat, unlinkat};
use tempfile::TempDir;

use crate::client::error::{ClientError, FileAction};
use crate::client::get::tree::directories::DIRECTORY;
use crate::client::paths::{TEMPORARY_PREFIX, parent_of, sync_parent};
use crate::client::rename::RenameMethod;
use crate::client::usage_error::UsageError;

/// An entry that a new file system has, and that does not count as content.
const LOST_AND_FOUND: &str = "lost+found";

/// A directory in progress. If it is dropped before it is moved, nothing of it is left.
#[derive(Debug)]
pub(super) struct Staging {
    directory: Option<TempDir>,
    path: PathBuf,
    /// The staging directory.
    handle: File,
    /// The directory that exists, if the staging directory is in it.
    target: Option<File>,
    method: RenameMethod,
}

impl Staging {
    /// Makes an empty directory for what will be at `path`.
    pub(super) fn create(path: &Path) -> Result<Self, ClientError> {
        let path = path.to_owned();
        let write_error = |error| ClientError::file(FileAction::Write, &path)(error);
        let target = match (fs::metadata(&path), fs::symlink_metadata(&path)) {
            (Ok(metadata), _) if metadata.is_dir() => {
                let target = open_directory(&path).map_err(write_error)?;
                if !is_empty(&target).map_err(write_error)? {
                    return Err(UsageError::OutputDirectoryNotEmpty { path }.into());
                }
                Some(target)
            }
            (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => None,
            (_, Err(error)) => return Err(write_error(error)),
            (_, Ok(_)) => return Err(UsageError::OutputDirectoryExists { path }.into()),
        };
        let parent = if target.is_some() { &path } else { parent_of(&path) };
        let method = RenameMethod::detect(parent).map_err(write_error)?;
        let mut builder = tempfile::Builder::new();
        // No other user can read it until it is complete.
        builder.prefix(TEMPORARY_PREFIX).permissions(fs::Permissions::from_mode(0o700));
        let staging = builder.tempdir_in(parent).map_err(write_error)?;
        remove_inherited_acl(staging.path());
        let handle = match (&target, staging.path().file_name()) {
            (Some(target), Some(name)) => openat(target, name, DIRECTORY, Mode::empty()).map(File::from),
            _ => Ok(open_directory(staging.path()).map_err(write_error)?),
        };
        let handle = handle.map_err(|error| write_error(error.into()))?;
        Ok(Self { directory: Some(staging), path, handle, target, method })
    }

    /// The directory in which entries are made.
    pub(super) fn directory(&self) -> &File {
        &self.handle
    }

    /// Is it in the directory that has the entries in the end? The metadata of that one is set after
    /// [`Staging::publish`], or else before it.
    pub(super) fn is_inside(&self) -> bool {
        self.target.is_some()
    }

    /// Moves what is complete to its final place, and makes the names durable. If something appeared there meanwhile,
    /// it is kept, and the error says where the restored entries are. Returns the directory that has them.
    pub(super) fn publish(mut self) -> Result<File, ClientError> {
        let error = ClientError::file(FileAction::Unpack, &self.path);
        let handle = self.handle.try_clone().map_err(error)?;
        let Some(staging) = self.directory.take() else { return Ok(handle) };
        // From here on, nothing is removed.
        let staging = staging.keep();
        let moved = match (&self.target, staging.file_name()) {
            (Some(target), Some(name)) => move_up(&self.handle, target, self.method)
                .and_then(|()| Ok(unlinkat(target, name, AtFlags::REMOVEDIR)?)),
            _ => self.method.rename_directory(&staging, &self.path),
        };
        if let Err(source) = moved {
            let path = mem::take(&mut self.path);
            return Err(ClientError::RestoredElsewhere { path, saved_as: staging, source });
        }
        let Some(target) = self.target.take() else {
            sync_parent(&self.path);
            return Ok(handle);
        };
        target.sync_all().map_err(ClientError::file(FileAction::Unpack, &self.path))?;
        Ok(target)
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
fn is_empty(directory: &File) -> io::Result<bool> {
    Ok(names(directory)?.iter().all(|name| name == LOST_AND_FOUND))
}

/// The names in a directory.
fn names(directory: &File) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// Opens a directory by its path, which may be a link to it.
fn open_directory(path: &Path) -> io::Result<File> {
    Ok(File::from(openat(CWD, path, DIRECTORY.difference(OFlags::NOFOLLOW), Mode::empty())?))
}

/// Moves all entries of a directory to another one. Goes on after an error, and returns the last one.
fn move_up(from: &File, to: &File, method: RenameMethod) -> io::Result<()> {
    let mut result = Ok(());
    for name in names(from)? {
        let moved = if let Some(mode) = directory_mode(from, &name)? {
            // An empty one of a file system is as good as that of another.
            let is_known = name == LOST_AND_FOUND && directory_mode(to, &name).is_ok_and(|mode| mode.is_some());
            if is_known && unlinkat(from, &name, AtFlags::REMOVEDIR).is_ok() {
                continue;
            }
            move_directory(from, to, &name, mode, method)
        } else {
            method.move_entry(from, to, &name, false)
        };
        if let Err(error) = moved {
            result = Err(error);
        }
    }
    result
}

/// Only who may write to a directory may move it to another one.
fn move_directory(from: &File, to: &File, name: &OsStr, mode: Mode, method: RenameMethod) -> io::Result<()> {
    if mode.contains(Mode::WUSR) {
        return method.move_entry(from, to, name, true);
    }
    // No other user can replace it in the staging directory. It is open before it is moved.
    chmodat(from, name, mode | Mode::RWXU, AtFlags::empty())?;
    let directory = openat(from, name, DIRECTORY, Mode::empty())?;
    let moved = method.move_entry(from, to, name, true);
    fchmod(&directory, mode)?;
    moved
}

/// The mode of an entry if it is a directory.
fn directory_mode(parent: &File, name: &OsStr) -> io::Result<Option<Mode>> {
    let status = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
    Ok(is_directory.then(|| Mode::from_raw_mode(status.st_mode)))
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
