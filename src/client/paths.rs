//! Paths of files that a client writes.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::client::usage_error::UsageError;

/// Temporary files and directories begin so. They are made beside the file that they become.
pub(in crate::client) const TEMPORARY_PREFIX: &str = ".cellsync-";

/// The directory that contains this path.
pub(in crate::client) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Fails if there is no directory that could contain this path.
pub(in crate::client) fn check_parent(path: &Path) -> Result<(), UsageError> {
    let parent = parent_of(path);
    if parent.is_dir() {
        return Ok(());
    }
    Err(UsageError::NoFolder { path: path.to_owned(), parent: parent.to_owned() })
}

/// Is this a directory, or written like one, with a separator at the end? A file cannot have such a name.
pub(in crate::client) fn names_directory(path: &Path) -> bool {
    path.is_dir() || path.as_os_str().to_string_lossy().ends_with(std::path::is_separator)
}

/// Are these two names of one file that exists?
pub(in crate::client) fn is_same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The path with this text behind its last name.
pub(in crate::client) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes a rename durable by syncing the directory, where the operating system can do that.
pub(in crate::client) fn sync_parent(path: &Path) {
    if cfg!(unix) {
        // The bytes of the file are durable already. If the file system cannot sync a directory, there is no other way.
        drop(File::open(parent_of(path)).and_then(|parent| parent.sync_all()));
    }
}
