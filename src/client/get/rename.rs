//! Renaming a new file to its final name without replacing another one, on every file system.
//!
//! Not every file system can do this in one step. The way is chosen by a trial before the first byte is restored.

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

    #[test]
    fn a_trial_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        RenameMethod::detect(directory.path()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
