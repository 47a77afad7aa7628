//! The paths that were not restored. A hard link to one of them must not become a link to whatever has that name on the
//! target.

use std::collections::{BTreeSet, HashSet};
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::client::get::omission::RestoreOmission;

/// A record of the file `omissions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OmissionLine {
    /// It was reported.
    Reported(RestoreOmission),
    /// This file is not there.
    File(Vec<u8>),
    /// This directory is not there.
    Directory(Vec<u8>),
    /// This file was not there, and is there now.
    Restored(Vec<u8>),
}

/// The paths that were not restored: as many as were omitted, and nothing for what is in an omitted directory.
#[derive(Debug, Default)]
pub(super) struct Omitted {
    /// All but directories.
    files: HashSet<Vec<u8>>,
    /// Directories, with `/` at their ends. None is in another one.
    directories: BTreeSet<Vec<u8>>,
}

impl Omitted {
    pub(super) fn add_file(&mut self, path: Vec<u8>) {
        self.files.insert(path);
    }

    pub(super) fn add_directory(&mut self, path: &[u8]) {
        let path = [path, b"/"].concat();
        if self.has_directory_of(&path) {
            return;
        }
        while let Some(inner) = self.directories.range(path.clone()..).next().filter(|inner| inner.starts_with(&path)) {
            let inner = inner.clone();
            self.directories.remove(&inner);
        }
        self.directories.insert(path);
    }

    /// A later entry of this path was restored. Returns whether an earlier one was omitted.
    pub(super) fn remove_file(&mut self, path: &[u8]) -> bool {
        self.files.remove(path)
    }

    /// Is the path in a directory that was omitted?
    pub(super) fn has_directory_of(&self, path: &[u8]) -> bool {
        // What sorts between a prefix of the path and the path begins with that prefix, and no directory is in another.
        let up_to = (Bound::Unbounded, Bound::Included(path));
        self.directories.range::<[u8], _>(up_to).next_back().is_some_and(|directory| path.starts_with(directory))
    }

    /// Was the path omitted, or a directory that it is in?
    pub(super) fn has(&self, path: &[u8]) -> bool {
        self.files.contains(path) || self.has_directory_of(&[path, b"/"].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_an_omitted_directory_is_omitted() {
        let mut omitted = Omitted::default();
        omitted.add_directory(b"a/b/c");
        omitted.add_directory(b"a/b!");
        omitted.add_directory(b"z");
        omitted.add_file(b"f".to_vec());
        for path in ["a/b/c", "a/b/c/d/e", "a/b!", "a/b!/x", "z/0", "f"] {
            assert!(omitted.has(path.as_bytes()), "{path}");
        }
        for path in ["a", "a/b", "a/b/d", "a/b/cc", "a/b0", "b", "f/x", "zz", ""] {
            assert!(!omitted.has(path.as_bytes()), "{path}");
        }
        // A directory is not in itself.
        assert!(!omitted.has_directory_of(b"z") && omitted.has_directory_of(b"z/0"));
        // The directory around takes the place of those in it.
        omitted.add_directory(b"a");
        omitted.add_directory(b"a/b/x");
        assert!(omitted.remove_file(b"f") && !omitted.remove_file(b"f"));
        assert!(omitted.has(b"a/b/d") && omitted.has(b"a/b/c") && omitted.has(b"a/0") && !omitted.has(b"f"));
        assert_eq!(omitted.directories.len(), 2);
    }
}
