//! Renaming a new file to its final name without replacing another one, on every file system.
//!
//! Not every file system can do this in one step. The way is chosen by a trial.

#[cfg(unix)]
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::client::paths::TEMPORARY_PREFIX;

/// How a file gets its final name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client) enum RenameMethod {
    /// One system call, which fails if the name exists.
    NoReplace,
    /// A hard link with the final name, and the temporary name is removed.
    Link,
    /// An empty file takes the final name, and is replaced.
    Placeholder,
}

impl RenameMethod {
    /// Finds the method that works in this directory.
    pub(in crate::client) fn detect(directory: &Path) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMPORARY_PREFIX);
        let [from, to] = [builder.tempfile_in(directory)?, builder.tempfile_in(directory)?];
        let (from, to) = (from.into_temp_path(), to.into_temp_path());
        fs::remove_file(&to)?;
        let works = |method: &Self| match method.rename(&from, &to) {
            Ok(()) => true,
            Err(error) => {
                log::debug!("{method:?} does not work in {}: {error}", directory.display());
                false
            }
        };
        // The files are removed when their paths are dropped, under whichever name they have.
        Ok([Self::NoReplace, Self::Link].into_iter().find(works).unwrap_or(Self::Placeholder))
    }

    /// Renames a file. If `to` exists, this is an error and changes nothing.
    pub(in crate::client) fn rename(self, from: &Path, to: &Path) -> io::Result<()> {
        match self {
            Self::NoReplace => no_replace(from, to),
            Self::Link => {
                fs::hard_link(from, to)?;
                fs::remove_file(from)
            }
            Self::Placeholder => {
                drop(File::create_new(to)?);
                // The empty file must not stay if it is not replaced.
                fs::rename(from, to).inspect_err(|_| drop(fs::remove_file(to)))
            }
        }
    }

    /// Moves an entry of an open directory to another one. If that has the name, this is an error and changes nothing.
    #[cfg(unix)]
    pub(in crate::client) fn move_entry(self, from: &File, to: &File, name: &OsStr, is_dir: bool) -> io::Result<()> {
        use rustix::fs::{AtFlags, Mode, OFlags, linkat, openat, renameat, statat, unlinkat};
        match self {
            Self::NoReplace => no_replace_at(from, to, name)?,
            // A directory that takes the name in between is replaced only if it is empty.
            _ if is_dir && statat(to, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            _ if is_dir => renameat(from, name, to, name)?,
            Self::Link => {
                linkat(from, name, to, name, AtFlags::empty())?;
                unlinkat(from, name, AtFlags::empty())?;
            }
            Self::Placeholder => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                drop(openat(to, name, flags, Mode::RUSR | Mode::WUSR)?);
                // The empty file must not stay if it is not replaced.
                renameat(from, name, to, name).inspect_err(|_| {
                    let _ = unlinkat(to, name, AtFlags::empty());
                })?;
            }
        }
        Ok(())
    }

    /// Renames a directory. If `to` exists, this is an error and changes nothing.
    pub(in crate::client) fn rename_directory(self, from: &Path, to: &Path) -> io::Result<()> {
        match self {
            Self::NoReplace => no_replace(from, to),
            // A directory that takes the name in between is replaced only if it is empty.
            _ if fs::symlink_metadata(to).is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
            Self::Link | Self::Placeholder => fs::rename(from, to),
        }
    }
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn no_replace(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn no_replace(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn no_replace_at(from: &File, to: &File, name: &OsStr) -> io::Result<()> {
    use rustix::fs::{RenameFlags, renameat_with};
    Ok(renameat_with(from, name, to, name, RenameFlags::NOREPLACE)?)
}

#[cfg(all(unix, not(any(target_os = "linux", target_vendor = "apple"))))]
fn no_replace_at(_: &File, _: &File, _: &OsStr) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_method_replaces_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
        for method in [RenameMethod::NoReplace, RenameMethod::Link, RenameMethod::Placeholder] {
            fs::write(&from, b"new").unwrap();
            method.rename(&from, &to).unwrap();
            assert!(!from.exists(), "{method:?}");
            assert_eq!(fs::read(&to).unwrap(), b"new");
            fs::write(&from, b"newer").unwrap();
            assert!(method.rename(&from, &to).is_err(), "{method:?}");
            assert!(method.rename_directory(directory.path(), &to).is_err(), "{method:?}");
            assert_eq!((fs::read(&from).unwrap(), fs::read(&to).unwrap()), (b"newer".to_vec(), b"new".to_vec()));
            fs::remove_file(&to).unwrap();
        }
    }

    #[cfg(unix)]
    #[test]
    fn no_method_moves_an_entry_over_another() {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["from", "to"].map(|name| directory.path().join(name));
        for path in &paths {
            fs::create_dir(path).unwrap();
        }
        let [from, to] = paths.each_ref().map(|path| File::open(path).unwrap());
        for method in [RenameMethod::NoReplace, RenameMethod::Link, RenameMethod::Placeholder] {
            let [source, target] = paths.each_ref().map(|path| path.join("f"));
            fs::write(&source, b"new").unwrap();
            method.move_entry(&from, &to, "f".as_ref(), false).unwrap();
            assert!(!source.exists(), "{method:?}");
            fs::write(&source, b"newer").unwrap();
            assert!(method.move_entry(&from, &to, "f".as_ref(), false).is_err(), "{method:?}");
            assert_eq!((fs::read(&source).unwrap(), fs::read(&target).unwrap()), (b"newer".to_vec(), b"new".to_vec()));
            fs::remove_file(&target).unwrap();
            let [source, target] = paths.each_ref().map(|path| path.join("d"));
            fs::create_dir(&source).unwrap();
            method.move_entry(&from, &to, "d".as_ref(), true).unwrap();
            assert!(!source.exists() && target.is_dir(), "{method:?}");
            fs::create_dir(&source).unwrap();
            assert!(method.move_entry(&from, &to, "d".as_ref(), true).is_err(), "{method:?}");
            fs::remove_dir(&target).unwrap();
            fs::remove_dir(&source).unwrap();
        }
    }

    #[test]
    fn a_trial_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        RenameMethod::detect(directory.path()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
