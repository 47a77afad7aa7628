//! The walk: what is in a directory, without what the user excludes.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::client::put::omission::{Omission, OmissionReason, SystemError};
use crate::client::put::tree::Tree;
use crate::client::put::tree::open::open;

/// The file that marks a directory of a program's cache.
const CACHE_TAG: &str = "CACHEDIR.TAG";
/// How this file begins. Source: Cache Directory Tagging Specification, <https://bford.info/cachedir/>.
const CACHE_SIGNATURE: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Something that was found.
#[derive(Debug)]
pub(super) struct Found {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Its path in the archive; that of the directory itself is `.`.
    pub(super) name: PathBuf,
    /// Is it the directory itself?
    pub(super) is_root: bool,
}

/// An iterator over the directory and everything in it, sorted by name within each directory. It follows no symbolic
/// link but the directory itself. Of each directory that it is in it holds the names.
pub(super) struct Walk<'a> {
    tree: &'a Tree,
    entries: walkdir::IntoIter,
    /// The depth of a cache whose contents are left out. Its directories are not entered.
    cache: Option<usize>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(tree: &'a Tree) -> Self {
        let walk = WalkDir::new(&tree.root).sort_by_file_name().same_file_system(tree.one_file_system);
        Self { tree, entries: walk.into_iter(), cache: None }
    }

    /// Is this left out?
    fn is_excluded(&mut self, entry: &DirEntry, name: &Path) -> bool {
        if self.cache.is_some_and(|depth| entry.depth() <= depth) {
            self.cache = None;
        }
        if self.cache.is_some() {
            return entry.file_name() != CACHE_TAG || entry.file_type().is_dir();
        }
        entry.depth() > 0 && self.tree.patterns.match_path(name.as_os_str(), entry.file_type().is_dir())
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Found, Omission>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = match self.entries.next()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(self.omission(&error))),
            };
            let name = entry.path().strip_prefix(&self.tree.root).unwrap_or(entry.path()).to_owned();
            let is_directory = entry.depth() == 0 || entry.file_type().is_dir();
            if self.is_excluded(&entry, &name) {
                if is_directory {
                    self.entries.skip_current_dir();
                }
                continue;
            }
            if is_directory && self.tree.exclude_caches && is_cache(entry.path()) {
                self.cache = Some(entry.depth());
            }
            let is_root = entry.depth() == 0;
            let name = if is_root { PathBuf::from(".") } else { name };
            return Some(Ok(Found { path: entry.into_path(), name, is_root }));
        }
    }
}

impl Walk<'_> {
    /// What a failure to list a directory, or to find out the type of an entry, leaves out.
    fn omission(&self, error: &walkdir::Error) -> Omission {
        let path = error.path().unwrap_or(&self.tree.root).to_owned();
        let reason = match error.io_error() {
            Some(error) if error.kind() == ErrorKind::NotFound => OmissionReason::Vanished,
            Some(error) => OmissionReason::Unlisted(SystemError::from(error)),
            // A loop of symbolic links, and none is followed.
            None => OmissionReason::Vanished,
        };
        Omission { path, reason }
    }
}

/// Does a directory hold a program's cache?
fn is_cache(directory: &Path) -> bool {
    let mut start = [0; CACHE_SIGNATURE.len()];
    let read = |mut file: File| file.read_exact(&mut start);
    open(&directory.join(CACHE_TAG)).and_then(read).is_ok() && start == *CACHE_SIGNATURE
}
