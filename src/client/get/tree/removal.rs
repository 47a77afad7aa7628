//! Removing entries of open directories, whatever their modes. No link is followed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{AtFlags, Dir, FileType, Mode, chmodat, openat, statat, unlinkat};

use crate::client::get::tree::directories::DIRECTORY;

/// Removes an entry; a directory with everything in it.
pub(super) fn remove_entry(parent: &File, name: &OsStr) -> io::Result<()> {
    if directory_mode(parent, name)?.is_some() {
        return remove_below(parent, name);
    }
    Ok(unlinkat(parent, name, AtFlags::empty())?)
}

/// Removes a directory with everything in it.
pub(super) fn remove_below(parent: &File, name: &OsStr) -> io::Result<()> {
    // Open directories from the root down: the depth is that of a path, and a process may open few files.
    let mut levels: Vec<OsString> = vec![name.to_owned()];
    let mut directory = parent.try_clone()?;
    // Not every file system has modes.
    let _ = chmodat(&directory, name, Mode::RWXU, AtFlags::empty());
    directory = File::from(openat(&directory, name, DIRECTORY, Mode::empty())?);
    'levels: while let Some(level) = levels.last().cloned() {
        for name in names(&directory)? {
            if directory_mode(&directory, &name)?.is_some() {
                let _ = chmodat(&directory, &name, Mode::RWXU, AtFlags::empty());
                directory = File::from(openat(&directory, &name, DIRECTORY, Mode::empty())?);
                levels.push(name);
                continue 'levels;
            }
            unlinkat(&directory, &name, AtFlags::empty())?;
        }
        directory = File::from(openat(&directory, "..", DIRECTORY, Mode::empty())?);
        unlinkat(&directory, &level, AtFlags::REMOVEDIR)?;
        levels.pop();
    }
    Ok(())
}

/// The names in a directory.
pub(super) fn names(directory: &File) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// The mode of an entry if it is a directory.
pub(super) fn directory_mode(parent: &File, name: &OsStr) -> io::Result<Option<Mode>> {
    let status = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
    Ok(is_directory.then(|| Mode::from_raw_mode(status.st_mode)))
}
