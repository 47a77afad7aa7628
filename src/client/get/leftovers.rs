//! Unfinished restores that other gets left beside a target.
//!
//! Nothing is removed: the user decides. What earlier versions left has hidden names, which say nothing, and no lock. A
//! manifest that could not get its name has such a name too, and is not reported. Other files are, if no process has them
//! open, or if they are old where this cannot be found out.

// A shell: it compares the times of files with the clock.
#![allow(clippy::disallowed_methods)]

use std::cell::LazyCell;
use std::fs::{self, DirEntry, File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::client::get::partial::{LOG_SUFFIX, STATE, SUFFIX, begins_like_header, beside, is_own};
use crate::client::paths::TEMPORARY_PREFIX;

/// Leftovers that are reported. Of further ones, the next get reports as many.
const MAX_REPORTED: usize = 8;

/// Names that are looked at. A directory with more of them is searched in part.
const MAX_NAMES: usize = 10_000;

/// Files with hidden names that were modified within this time may still be in use, unless no process has them open.
const MIN_AGE: Duration = Duration::from_hours(24);

/// Files that no process has open may be in use by one in a container, which this one does not see. A get that runs writes
/// more often than this.
const MIN_AGE_CLOSED: Duration = Duration::from_mins(10);

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
    let open_files = OpenFiles::new(read_open_files);
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
        } else if is_hidden_leftover(&entry, &path, &open_files) {
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
    let log = if path.is_dir() { path.join(STATE) } else { directory.join(stem.to_owned() + LOG_SUFFIX) };
    begins_like_header(&log) && !is_in_use(&log)
}

fn is_in_use(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Is this what a get of an earlier version left?
fn is_hidden_leftover(entry: &DirEntry, path: &Path, open_files: &OpenFiles) -> bool {
    let name = entry.file_name();
    let is_random = |rest: &[u8]| rest.len() == RANDOM_CHARACTERS && rest.iter().all(u8::is_ascii_alphanumeric);
    if !name.as_encoded_bytes().strip_prefix(TEMPORARY_PREFIX.as_bytes()).is_some_and(is_random) {
        return false;
    }
    let Ok(metadata) = fs::symlink_metadata(path) else { return false };
    let age = metadata.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
    let is_unused = |age| age >= MIN_AGE || (age >= MIN_AGE_CLOSED && is_own(&metadata) && is_closed(path, open_files));
    if !age.is_some_and(is_unused) {
        return false;
    }
    // A manifest has the only key to its chunks. What cannot be read may be one.
    metadata.is_dir() || (metadata.is_file() && first_bytes(path).is_some_and(|start| start != MANIFEST_FIRST_BYTES))
}

/// The files with hidden names that processes of this user have open, or `None` if that cannot be found out.
type OpenFiles = LazyCell<Option<Vec<PathBuf>>>;

/// Does no process have this file open, or something in this directory?
fn is_closed(path: &Path, open_files: &OpenFiles) -> bool {
    let (Ok(path), Some(open)) = (fs::canonicalize(path), &**open_files) else { return false };
    !open.iter().any(|open| open.starts_with(&path))
}

/// Reads what processes of this user have open, on Linux.
fn read_open_files() -> Option<Vec<PathBuf>> {
    fs::read_dir("/proc/self/fd").ok()?;
    let processes = fs::read_dir("/proc").ok()?.flatten().map(|process| process.path().join("fd"));
    // Those of other users cannot be read. They do not write files of this one, unless they are root's.
    let descriptors = processes.filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let paths = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    let is_hidden = |path: &PathBuf| path.to_string_lossy().contains(TEMPORARY_PREFIX);
    Some(paths.filter(is_hidden).collect())
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
        let (long_ago, recently) = (2 * MIN_AGE, 2 * MIN_AGE_CLOSED);
        let manifest = "{\"version\":1,";
        for (name, bytes, age) in [
            ("old111", "half", long_ago),
            ("manife", manifest, long_ago),
            ("manif2", manifest, recently),
            ("now111", "half", Duration::ZERO),
            ("closed", "half", recently),
            ("opened", "half", recently),
        ] {
            let path = at(&format!(".cellsync-{name}"));
            fs::write(&path, bytes).unwrap();
            File::open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
        }
        let opened = File::open(at(".cellsync-opened")).unwrap();
        let names: Vec<_> =
            find(folder.path(), &at("f")).iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        // Where open files cannot be listed, only the age counts.
        let closed = cfg!(target_os = "linux").then_some(".cellsync-closed");
        let others = [".cellsync-old111", "other.cellsync-part", "other.cellsync-part.log", "tree.cellsync-part"];
        assert_eq!(names, closed.into_iter().chain(others).collect::<Vec<_>>());
        drop(opened);
        for number in 0..50 {
            fs::write(at(&format!("{number}.cellsync-part.log")), &line).unwrap();
        }
        assert_eq!(find(folder.path(), &at("f")).len(), MAX_REPORTED);
    }
}
