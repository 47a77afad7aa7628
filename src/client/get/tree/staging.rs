//! Where a directory is unpacked, and how it gets to its final place.
//!
//! A new directory is made in a folder beside its path, `NAME.cellsync-part`, and renamed. In a directory that exists and
//! is empty (a mount point cannot be replaced), the folder is inside, as `restore.cellsync-part`, and what was made is
//! moved up. That directory is opened once: another one that takes its path meanwhile gets nothing. The entries are in
//! `tree` in the folder, beside the [state](super::state) from which another get continues.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, chmodat, fchmod, openat, statat, unlinkat};

use crate::client::error::{ClientError, FileAction};
use crate::client::get::partial::{
    Found, Header, LOG_SUFFIX, STATE, SUFFIX, beside, find_header, in_the_way, is_own, open_locked,
};
use crate::client::get::tree::directories::{DIRECTORY, remove_lists};
use crate::client::get::tree::removal::{directory_mode, names, remove_below};
use crate::client::paths::{parent_of, sync_parent};
use crate::client::rename::RenameMethod;
use crate::client::usage_error::UsageError;

/// An entry that a new file system has, and that does not count as content.
pub(super) const LOST_AND_FOUND: &str = "lost+found";

/// The folder inside a directory that exists.
const INSIDE: &str = "restore.cellsync-part";

/// The directory with the entries, in the folder.
const TREE: &str = "tree";

/// A directory in progress. If it is dropped before it is moved and is not to be kept, nothing of it is left.
#[derive(Debug)]
pub(super) struct Staging {
    path: PathBuf,
    folder: PathBuf,
    folder_handle: File,
    /// The directory with the entries.
    tree: File,
    /// Locked as long as this lives.
    _state: File,
    /// The directory that exists, if the folder is in it.
    target: Option<File>,
    /// Has that directory more than the folder in it? An interrupted get may have moved complete entries there.
    is_occupied: bool,
    method: RenameMethod,
    is_kept: Arc<AtomicBool>,
}

impl Staging {
    /// Opens the folder for what will be at `path`, perhaps one that an interrupted get left, or makes it.
    pub(super) fn open(path: &Path, header: &Header, force: bool) -> Result<Self, ClientError> {
        let path = path.to_owned();
        let write_error = |error| ClientError::file(FileAction::Write, &path)(error);
        let mut is_occupied = false;
        let target = match (fs::metadata(&path), fs::symlink_metadata(&path)) {
            (Ok(metadata), _) if metadata.is_dir() => {
                let target = open_directory(&path).map_err(write_error)?;
                is_occupied = !is_empty(&target).map_err(write_error)?;
                if is_occupied && statat(&target, INSIDE, AtFlags::SYMLINK_NOFOLLOW).is_err() {
                    return Err(UsageError::OutputDirectoryNotEmpty { path, unfinished: None }.into());
                }
                Some(target)
            }
            (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => None,
            (_, Err(error)) => return Err(write_error(error)),
            (_, Ok(_)) => return Err(UsageError::OutputDirectoryExists { path }.into()),
        };
        let parent = if target.is_some() { &path } else { parent_of(&path) };
        let folder = if target.is_some() { path.join(INSIDE) } else { beside(&path, SUFFIX) };
        let method = RenameMethod::detect(parent).map_err(write_error)?;
        // No other user can read it until it is complete.
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(write_error(error)),
            _ => {}
        }
        let foreign = || UsageError::NotAPartialRestore { path: folder.clone() };
        let handle = match &target {
            Some(target) => openat(target, INSIDE, DIRECTORY, Mode::empty()),
            None => openat(CWD, &folder, DIRECTORY, Mode::empty()),
        };
        let handle = handle.map(File::from).map_err(|_| in_the_way(&folder, &beside(&path, LOG_SUFFIX)))?;
        let state_path = folder.join(STATE);
        let is_new = names(&handle).map_err(write_error)?.is_empty();
        let metadata = handle.metadata().map_err(write_error)?;
        let is_ours = is_new || (is_own(&metadata) && fs::symlink_metadata(&state_path).is_ok());
        if !is_ours {
            return Err(foreign().into());
        }
        // Not every file system has modes.
        let _ = fchmod(&handle, Mode::RWXU);
        remove_lists(&handle);
        let state = open_locked(&state_path, &folder)?;
        let found = find_header(&state, header).map_err(ClientError::file(FileAction::Read, &state_path))?;
        match found {
            Found::Foreign => return Err(foreign().into()),
            Found::Other if !force => return Err(UsageError::OtherPartialRestore { path: folder, also: None }.into()),
            Found::Other | Found::Nothing if is_occupied => {
                return Err(UsageError::OutputDirectoryNotEmpty { path, unfinished: None }.into());
            }
            Found::Same { .. } => {}
            Found::Other | Found::Nothing => {
                start_anew(&handle, &state, header).map_err(write_error)?;
            }
        }
        let tree = open_tree(&handle).map_err(write_error)?;
        let is_kept = Arc::new(AtomicBool::new(matches!(found, Found::Same { .. })));
        Ok(Self { path, folder, folder_handle: handle, tree, _state: state, target, is_occupied, method, is_kept })
    }

    /// The directory in which entries are made.
    pub(super) fn directory(&self) -> &File {
        &self.tree
    }

    /// The folder around it, with the state.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Does what is there stay when this is dropped?
    pub(super) fn is_kept(&self) -> &Arc<AtomicBool> {
        &self.is_kept
    }

    /// Removes everything that was made.
    pub(super) fn empty(&mut self) -> io::Result<()> {
        empty_tree(&self.folder_handle)?;
        self.tree = open_tree(&self.folder_handle)?;
        Ok(())
    }

    /// Is it in the directory that has the entries in the end? The metadata of that one is set after
    /// [`Staging::publish`], or else before it.
    pub(super) fn is_inside(&self) -> bool {
        self.target.is_some()
    }

    /// The directory to which an interrupted get may have moved complete entries.
    pub(super) fn occupied_target(&self) -> Option<&File> {
        self.target.as_ref().filter(|_| self.is_occupied)
    }

    /// Records in the folder that everything is complete.
    pub(super) fn save_complete(&self, save: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        save(&self.folder_handle)
    }

    /// Moves what is complete to its final place, and makes the names durable. If something appeared there meanwhile,
    /// it is kept, and the error says where the restored entries are. Returns the directory that has them.
    pub(super) fn publish(mut self) -> Result<File, ClientError> {
        let error = ClientError::file(FileAction::Unpack, &self.path);
        let tree = self.tree.try_clone().map_err(error)?;
        // From here on, nothing is removed.
        self.is_kept.store(true, Ordering::SeqCst);
        let moved = match &self.target {
            Some(target) => move_up(&tree, target, self.method),
            None => self.rename_tree(),
        };
        if let Err(source) = moved {
            let (path, saved_as) = (self.path.clone(), self.folder.join(TREE));
            return Err(ClientError::RestoredElsewhere { path, saved_as, source });
        }
        // What is left says nothing any more. An error here leaves it, and nothing else.
        drop(remove_state(&self.folder_handle));
        let Some(target) = self.target.take() else {
            drop(fs::remove_dir(&self.folder));
            sync_parent(&self.path);
            return Ok(tree);
        };
        let _ = unlinkat(&target, INSIDE, AtFlags::REMOVEDIR);
        target.sync_all().map_err(ClientError::file(FileAction::Unpack, &self.path))?;
        Ok(target)
    }

    /// Only who may write to a directory may move it to another one.
    fn rename_tree(&self) -> io::Result<()> {
        let mode = Mode::from_raw_mode(self.tree.metadata()?.mode());
        if mode.contains(Mode::WUSR) {
            return self.method.rename_directory(&self.folder.join(TREE), &self.path);
        }
        // No other user can reach it yet. It is open before it is moved.
        fchmod(&self.tree, mode | Mode::RWXU)?;
        let moved = self.method.rename_directory(&self.folder.join(TREE), &self.path);
        fchmod(&self.tree, mode)?;
        moved
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.is_kept.load(Ordering::SeqCst) {
            make_removable(&self.folder);
            // The next get finds what cannot be removed.
            drop(fs::remove_dir_all(&self.folder));
        }
    }
}

/// Removes what another restore left, and writes the first line of this one.
fn start_anew(folder: &File, mut state: &File, header: &Header) -> io::Result<()> {
    use std::io::{Seek, SeekFrom, Write};
    empty_tree(folder)?;
    for name in names(folder)? {
        if name != STATE && name != TREE {
            unlinkat(folder, &name, AtFlags::empty())?;
        }
    }
    state.set_len(0)?;
    state.seek(SeekFrom::Start(0))?;
    state.write_all(header.line().as_bytes())
}

/// Opens the directory with the entries, or makes it. The user can write to it, also if it has the mode of the archive.
fn open_tree(folder: &File) -> io::Result<File> {
    match rustix::fs::mkdirat(folder, TREE, Mode::RWXU) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) if directory_mode(folder, OsStr::new(TREE))?.is_some() => {
            // Not every file system has modes.
            let _ = chmodat(folder, TREE, Mode::RWXU, AtFlags::empty());
        }
        Err(error) => return Err(error.into()),
    }
    let tree = File::from(openat(folder, TREE, DIRECTORY, Mode::empty())?);
    remove_lists(&tree);
    Ok(tree)
}

/// Removes the directory with the entries.
fn empty_tree(folder: &File) -> io::Result<()> {
    match directory_mode(folder, OsStr::new(TREE)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    remove_below(folder, OsStr::new(TREE))
}

/// Removes the files of the state, and the directory of the entries, which was emptied or moved.
fn remove_state(folder: &File) -> io::Result<()> {
    for name in names(folder)? {
        let flags = if name == TREE { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        unlinkat(folder, &name, flags)?;
    }
    Ok(())
}

/// Is the directory empty, but for what a new file system has, and for an unfinished restore?
fn is_empty(directory: &File) -> io::Result<bool> {
    Ok(names(directory)?.iter().all(|name| name == LOST_AND_FOUND || name == INSIDE))
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
        match moved {
            // An interrupted get had moved it, but for its old name.
            Err(_) if is_same(from, to, &name) => unlinkat(from, &name, AtFlags::empty())?,
            Err(error) => result = Err(error),
            Ok(()) => {}
        }
    }
    result
}

/// Is an entry that is not a directory the same one in both?
fn is_same(from: &File, to: &File, name: &OsStr) -> bool {
    let status = |directory| statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    let (Ok(from), Ok(to)) = (status(from), status(to)) else { return false };
    let is_directory = FileType::from_raw_mode(from.st_mode) == FileType::Directory;
    !is_directory && (from.st_dev, from.st_ino) == (to.st_dev, to.st_ino)
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
