//! Unfinished restores that other gets left beside a target.
//!
//! Nothing is removed: the user decides. What earlier versions left has hidden names, which say nothing. A manifest or a
//! restored file that could not get its name has such a name too, so only what is old is reported, and no manifest.

// A shell: it compares the times of files with the clock.
#![allow(clippy::disallowed_methods)]

use std::fs::{self, DirEntry, File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::client::get::partial::{LOG_SUFFIX, SUFFIX, begins_like_header, beside};
use crate::client::paths::TEMPORARY_PREFIX;

/// Leftovers that are reported. Of further ones, the next get reports as many.
const MAX_REPORTED: usize = 8;

/// Names that are looked at. A directory with more of them is searched in part.
const MAX_NAMES: usize = 10_000;

/// Files with hidden names that were modified within this time may still be in use.
const MIN_AGE: Duration = Duration::from_hours(24);

/// Random characters at the end of a hidden name.
const RANDOM_CHARACTERS: usize = 6;

/// What manifests and journals begin with.
const MANIFEST_FIRST_BYTES: &[u8] = br#"{"version":"#;

/// What other gets left in the directory of the target, apart from what this one uses or will use. At most
/// [`MAX_REPORTED`], sorted.
pub(in crate::client) fn find(directory: &Path, target: &Path) -> Vec<PathBuf> {
    let own = [SUFFIX, LOG_SUFFIX].map(|suffix| beside(target, suffix));
    let entries = fs::read_dir(directory).into_iter().flatten().take(MAX_NAMES).flatten();
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let path = directory.join(entry.file_name());
        if own.iter().any(|own| own.file_name() == path.file_name()) || found.len() >= MAX_REPORTED {
            continue;
        }
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if let Some(stem) = name.strip_suffix(LOG_SUFFIX.as_bytes()).or_else(|| name.strip_suffix(SUFFIX.as_bytes())) {
            if is_partial(&path, stem) {
                found.push(path);
            }
        } else if is_hidden_leftover(&entry, &path) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Is this a partial file, its log, or a partial directory that no get writes now?
fn is_partial(path: &Path, stem: &[u8]) -> bool {
    let Some(directory) = path.parent() else { return false };
    // The name without its end is that of the target.
    let Ok(stem) = str::from_utf8(stem) else { return false };
    let log = if path.is_dir() { path.join("state") } else { directory.join(stem.to_owned() + LOG_SUFFIX) };
    begins_like_header(&log) && !is_in_use(&log)
}

fn is_in_use(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Is this what a get of an earlier version left?
fn is_hidden_leftover(entry: &DirEntry, path: &Path) -> bool {
    let name = entry.file_name();
    let is_random = |rest: &[u8]| rest.len() == RANDOM_CHARACTERS && rest.iter().all(u8::is_ascii_alphanumeric);
    if !name.as_encoded_bytes().strip_prefix(TEMPORARY_PREFIX.as_bytes()).is_some_and(is_random) {
        return false;
    }
    let Ok(metadata) = fs::symlink_metadata(path) else { return false };
    let age = metadata.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
    if age.is_none_or(|age| age < MIN_AGE) {
        return false;
    }
    // A manifest has the only key to its chunks. What cannot be read may be one.
    metadata.is_dir() || (metadata.is_file() && first_bytes(path).is_some_and(|start| start != MANIFEST_FIRST_BYTES))
}

fn first_bytes(path: &Path) -> Option<Vec<u8>> {
    let mut start = Vec::new();
    File::open(path).ok()?.take(MANIFEST_FIRST_BYTES.len() as u64).read_to_end(&mut start).ok()?;
    Some(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::get::partial::Header;
    use crate::pipeline::{Key, ManifestHash};

    #[test]
    fn only_what_a_get_left_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let line = Header::new(ManifestHash::of(&[], &Key::generate()), None).line();
        for name in ["f", "other", "used"] {
            fs::write(at(&format!("{name}.cellsync-part")), b"half").unwrap();
            fs::write(at(&format!("{name}.cellsync-part.log")), &line).unwrap();
        }
        let lock = File::open(at("used.cellsync-part.log")).unwrap();
        lock.lock().unwrap();
        for mine in
            ["mine.cellsync-part", "notes.cellsync-part.log", "cellsync-part", ".cellsync-abc", ".cellsync-photos"]
        {
            fs::write(at(mine), b"my own").unwrap();
        }
        fs::write(at("f"), b"").unwrap();
        fs::create_dir(at("tree.cellsync-part")).unwrap();
        fs::write(at("tree.cellsync-part/state"), &line).unwrap();
        fs::create_dir(at("my directory.cellsync-part")).unwrap();
        for (name, bytes) in [("old111", "half"), ("manife", "{\"version\":1,"), ("new111", "half")] {
            fs::write(at(&format!(".cellsync-{name}")), bytes).unwrap();
            if name != "new111" {
                let long_ago = SystemTime::now() - 2 * MIN_AGE;
                File::open(at(&format!(".cellsync-{name}"))).unwrap().set_modified(long_ago).unwrap();
            }
        }
        let names: Vec<_> =
            find(folder.path(), &at("f")).iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, [".cellsync-old111", "other.cellsync-part", "other.cellsync-part.log", "tree.cellsync-part"]);
        for number in 0..50 {
            fs::write(at(&format!("{number}.cellsync-part.log")), &line).unwrap();
        }
        assert_eq!(find(folder.path(), &at("f")).len(), MAX_REPORTED);
    }
}
