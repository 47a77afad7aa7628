//! Comparing an unfinished directory with the log of its entries, before another get continues it.
//!
//! Every entry that the log has must be there as it was recorded: type, mode, owner, size, time of modification, inode and
//! time of change. Nothing is read but the entries themselves (`lstat`) and the names in the directories. What the log does
//! not have was made after the checkpoint, or by somebody else: it is removed, and restored again if it is in the archive.
//!
//! Two things change what is recorded without any harm. A hard link to a file changes its time of change, and so does the
//! removal of that link. An entry in a directory changes the times of the directory. Both are recognized by the entries
//! that the log does not have.
//!
//! The memory is bounded by 8 bytes an entry, and by the number of files that have hard links.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{AtFlags, Dir, FileType, Mode, Stat, chmodat, openat, statat};
use rustix::io::Errno;

use crate::archive::Timestamp;
use crate::client::get::difference::Difference;
use crate::client::get::tree::directories::{DIRECTORY, open_on_the_way};
use crate::client::get::tree::entry_log::{EntryRecord, Facts, facts, parse, text};
use crate::client::get::tree::metadata::set_time;
use crate::client::get::tree::record_log::{self, LogEnd};
use crate::client::get::tree::removal::remove_entry;
use crate::client::get::tree::staging::LOST_AND_FOUND;

/// Entries with other times of change that are remembered until a later record explains them. It bounds the memory.
const MAX_UNEXPLAINED: usize = 1 << 20;

/// What is there, and what the log and the checkpoint say of it.
pub(super) struct Inspection<'a> {
    /// The directory with the entries.
    pub(super) tree: &'a File,
    /// Where complete entries of the root are being moved.
    pub(super) target: Option<&'a File>,
    pub(super) log: &'a File,
    pub(super) end: LogEnd,
    /// Paths of the directories that are open at the checkpoint, and of the unfinished file.
    pub(super) open: &'a [Vec<u8>],
    /// The inodes of those directories.
    pub(super) open_inodes: &'a [u64],
}

/// A directory that can be continued.
#[derive(Debug)]
pub(super) struct Accepted {
    known: KnownPaths,
    /// Files and directories that [`Accepted::remove_others`] touches.
    pub(super) touched: Vec<u64>,
    /// The times that directories get again.
    times: Vec<(Vec<u8>, Timestamp)>,
}

/// The paths that the log has, as hashes. The hash has a random key, so that no two paths of an archive share one but by
/// a chance of less than one in a million for a million entries.
#[derive(Debug, Default)]
struct KnownPaths {
    hasher: RandomState,
    /// Sorted.
    hashes: Vec<u64>,
}

/// An entry that is as it was recorded, but for times that something else must explain.
#[derive(Debug)]
struct Unexplained {
    path: Vec<u8>,
    /// The recorded time, of a directory.
    time: Option<Timestamp>,
}

/// What is known after all entries were compared.
#[derive(Debug, Default)]
struct Compared {
    /// By inode.
    unexplained: BTreeMap<u64, Unexplained>,
    /// Inodes of files with several names.
    linked: Vec<u64>,
}

/// The inodes of what the log does not have.
#[derive(Debug, Default)]
struct Others {
    /// Files with several names.
    links: Vec<u64>,
    /// Directories that have others in them.
    directories: Vec<u64>,
}

/// Finds entries by their paths. It keeps the directory of the last one open: an archive has the entries of one directory
/// one after the other.
struct Finder<'a> {
    tree: &'a File,
    target: Option<&'a File>,
    parent: Option<(Vec<u8>, File)>,
}

impl Inspection<'_> {
    /// Compares everything. Changes nothing but the modes of directories that are to be removed.
    pub(super) fn run(&self) -> Result<Accepted, Difference> {
        let (mut known, mut touched) = (KnownPaths::default(), Vec::new());
        let mut finder = Finder { tree: self.tree, target: self.target, parent: None };
        let mut compared = Compared::default();
        let has_stable_inodes = has_stable_inodes(self.tree);
        let read = record_log::read(self.log, self.end, |record| {
            match parse(record).map_err(|_| Difference::DamagedState)? {
                EntryRecord::Touched { inode } => touched.push(inode),
                EntryRecord::Entry { facts, path } => {
                    known.add(path);
                    self.compare(&mut finder, path, &facts, has_stable_inodes, &mut compared)?;
                }
            }
            Ok(())
        });
        read.map_err(|_| Difference::DamagedState)??;
        self.open.iter().for_each(|path| known.add(path));
        known.sort();
        let mut accepted = Accepted { known, touched: Vec::new(), times: Vec::new() };
        let mut explained = touched;
        if self.target.is_none() {
            let Others { links, directories } = self.others(&accepted.known)?;
            compared.linked.sort_unstable();
            accepted.touched.extend(links.iter().filter(|inode| compared.linked.binary_search(inode).is_ok()));
            explained.extend(links);
            explained.extend(directories);
        }
        explained.extend(self.open_inodes);
        explained.sort_unstable();
        for (inode, Unexplained { path, time }) in compared.unexplained {
            if explained.binary_search(&inode).is_err() {
                return Err(Difference::Changed { path });
            }
            if let Some(time) = time.filter(|_| !self.open_inodes.contains(&inode)) {
                accepted.times.push((path, time));
                accepted.touched.push(inode);
            }
        }
        Ok(accepted)
    }

    fn compare(
        &self,
        finder: &mut Finder,
        path: &[u8],
        recorded: &Facts,
        has_stable_inodes: bool,
        Compared { unexplained, linked }: &mut Compared,
    ) -> Result<(), Difference> {
        let changed = || Difference::Changed { path: path.to_owned() };
        let is_moved = self.target.is_some();
        // A move changes the time of change, and needs more permissions for a directory for a moment.
        let is_moved_itself = is_moved && !path.contains(&b'/');
        if is_moved_itself && path == LOST_AND_FOUND.as_bytes() {
            return Ok(());
        }
        let status = finder.find(path).map_err(|error| difference(path, &error))?;
        let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
        let there = text(&status);
        let there = facts(&there).map_err(|_| Difference::DamagedState)?;
        if there.what != recorded.what {
            let mode = recorded.what.split(' ').next().and_then(|mode| mode.parse().ok()).map(Mode::from_raw_mode);
            let owner = |facts: &Facts<'_>| facts.what.split_once(' ').map(|(_, owner)| owner.to_owned());
            match mode {
                Some(mode)
                    if is_moved_itself
                        && is_directory
                        && owner(&there) == owner(recorded)
                        && Mode::from_raw_mode(status.st_mode) == mode | Mode::RWXU =>
                {
                    finder.set_mode(path, mode).map_err(|error| difference(path, &error))?;
                }
                _ => return Err(changed()),
            }
        }
        if has_stable_inodes && there.inode != recorded.inode {
            return Err(changed());
        }
        if status.st_nlink > 1 && !is_directory {
            linked.push(there.inode);
        }
        let is_time_same = there.modified == recorded.modified;
        if !is_time_same && !is_directory {
            return Err(changed());
        }
        // Who sees a directory in its place may use it.
        let is_explained = is_moved && (is_directory || is_moved_itself);
        if is_explained || (is_time_same && (!has_stable_inodes || there.changed == recorded.changed)) {
            unexplained.remove(&there.inode);
            return Ok(());
        }
        if unexplained.len() >= MAX_UNEXPLAINED {
            return Err(changed());
        }
        let time =
            if is_directory { Some(timestamp(recorded.modified).ok_or(Difference::DamagedState)?) } else { None };
        unexplained.insert(there.inode, Unexplained { path: path.to_owned(), time });
        Ok(())
    }

    /// Finds what the log does not have.
    fn others(&self, known: &KnownPaths) -> Result<Others, Difference> {
        let (mut others, mut found) = (Others::default(), 0);
        let walked = walk(self.tree, &mut |directory, path, name, is_directory| {
            if known.has(path) {
                found += 1;
                return Ok(if is_directory { Visit::Descend } else { Visit::Pass });
            }
            let parent = directory.metadata()?.ino();
            if others.directories.last() != Some(&parent) {
                others.directories.push(parent);
            }
            if is_directory {
                // It may have its final mode. Not every file system has modes.
                let _ = chmodat(directory, name, Mode::RWXU, AtFlags::empty());
                return Ok(Visit::Descend);
            }
            let status = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if status.st_nlink > 1 {
                others.links.push(inode(&status)?);
            }
            Ok(Visit::Pass)
        });
        walked.map_err(|(path, error)| difference(&path, &error))?;
        // A file system may spell names in other ways than the archive: then nothing here is as it seems.
        if found < known.hashes.len() {
            let reason = "the file system changes the names of entries".to_owned();
            return Err(Difference::Unreadable { path: Vec::new(), reason });
        }
        Ok(others)
    }
}

impl Accepted {
    /// Removes what the log does not have, and sets the times of the directories that had it.
    pub(super) fn remove_others(&self, tree: &File) -> io::Result<()> {
        let removed = walk(tree, &mut |_, path, _, is_directory| {
            Ok(match (self.known.has(path), is_directory) {
                (false, _) => Visit::Remove,
                (true, true) => Visit::Descend,
                (true, false) => Visit::Pass,
            })
        });
        removed.map_err(|(_, error)| error)?;
        for (path, time) in &self.times {
            let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
            let Some((name, parents)) = names.split_last() else { continue };
            let parent = open_on_the_way(tree, parents)?;
            set_time(&File::from(openat(&parent, *name, DIRECTORY, Mode::empty())?), *time)?;
        }
        Ok(())
    }
}

impl KnownPaths {
    fn add(&mut self, path: &[u8]) {
        self.hashes.push(self.hasher.hash_one(path));
    }

    fn sort(&mut self) {
        self.hashes.sort_unstable();
        self.hashes.dedup();
    }

    fn has(&self, path: &[u8]) -> bool {
        self.hashes.binary_search(&self.hasher.hash_one(path)).is_ok()
    }
}

impl Finder<'_> {
    fn find(&mut self, path: &[u8]) -> io::Result<Stat> {
        let (parent, name) = self.parent(path)?;
        Ok(statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn set_mode(&mut self, path: &[u8], mode: Mode) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(chmodat(parent, name, mode, AtFlags::empty())?)
    }

    /// The directory of an entry, and its name there.
    fn parent<'p>(&mut self, path: &'p [u8]) -> io::Result<(&File, &'p [u8])> {
        let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
        let is_safe = |name: &&[u8]| !name.is_empty() && **name != b"."[..] && **name != b".."[..];
        let (Some((name, parents)), true) = (names.split_last(), names.iter().all(is_safe)) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let first = *names.first().unwrap_or(name);
        let root = match self.target {
            Some(target) if statat(self.tree, first, AtFlags::SYMLINK_NOFOLLOW).is_err() => target,
            _ => self.tree,
        };
        if parents.is_empty() {
            return Ok((root, name));
        }
        let parent_path = path.get(..path.len() - name.len()).unwrap_or_default();
        let open = match self.parent.take().filter(|(open, _)| open == parent_path) {
            Some(open) => open,
            None => (parent_path.to_owned(), open_on_the_way(root, parents)?),
        };
        Ok((&self.parent.insert(open).1, name))
    }
}

/// What becomes of an entry of a directory.
enum Visit {
    /// The entries in it are visited too.
    Descend,
    Pass,
    Remove,
}

/// Gets an open directory, the path of an entry, its name in the directory, and whether it is a directory.
type Visitor<'a> = dyn FnMut(&File, &[u8], &OsStr, bool) -> io::Result<Visit> + 'a;

/// Visits everything below a directory. An error comes with the path of its directory.
fn walk(root: &File, visit: &mut Visitor) -> Result<(), (Vec<u8>, io::Error)> {
    let mut path = Vec::new();
    walk_from(root, &mut path, visit).map_err(|error| (path, error))
}

fn walk_from(root: &File, path: &mut Vec<u8>, visit: &mut Visitor) -> io::Result<()> {
    // Directories that are still to be visited, from the root down. One is open: a process may open few files.
    let mut directory = root.try_clone()?;
    let mut levels = vec![visit_all(&directory, path, visit)?];
    let mut lengths = Vec::new();
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.pop() {
            lengths.push(path.len());
            *path = join(path, name.as_bytes());
            directory = File::from(openat(&directory, &name, DIRECTORY, Mode::empty())?);
            levels.push(visit_all(&directory, path, visit)?);
        } else {
            levels.pop();
            if let Some(length) = lengths.pop() {
                path.truncate(length);
                directory = File::from(openat(&directory, "..", DIRECTORY, Mode::empty())?);
            }
        }
    }
    Ok(())
}

/// Visits the entries of a directory. Returns those to descend to.
fn visit_all(directory: &File, path: &[u8], visit: &mut Visitor) -> io::Result<Vec<OsString>> {
    let (mut descend, mut remove) = (Vec::new(), Vec::new());
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let name = OsStr::from_bytes(name);
        let kind = match entry.file_type() {
            FileType::Unknown => FileType::from_raw_mode(statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode),
            kind => kind,
        };
        match visit(directory, &join(path, name.as_bytes()), name, kind == FileType::Directory)? {
            Visit::Descend => descend.push(OsString::from_vec(name.as_bytes().to_vec())),
            Visit::Pass => {}
            Visit::Remove => remove.push(name.to_owned()),
        }
    }
    for name in remove {
        remove_entry(directory, &name)?;
    }
    Ok(descend)
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_owned() } else { [path, b"/", name].concat() }
}

fn difference(path: &[u8], error: &io::Error) -> Difference {
    let path = path.to_owned();
    match Errno::from_io_error(error) {
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Difference::Missing { path },
        _ => Difference::Unreadable { path, reason: error.to_string() },
    }
}

fn inode(status: &Stat) -> io::Result<u64> {
    let there = text(status);
    Ok(facts(&there)?.inode)
}

fn timestamp(text: &str) -> Option<Timestamp> {
    let (seconds, nanoseconds) = text.split_once('.')?;
    Some(Timestamp { seconds: seconds.parse().ok()?, nanoseconds: nanoseconds.parse().ok()? })
}

/// Does a file keep its inode and its time of change? FAT has neither, and a file system in user space may have none:
/// there, they change when the system forgets them.
#[cfg(target_os = "linux")]
fn has_stable_inodes(directory: &File) -> bool {
    /// FAT, exFAT and FUSE, from `linux/magic.h`.
    const WITHOUT: [u64; 3] = [0x4d44, 0x2011_bab0, 0x6573_5546];
    rustix::fs::fstatfs(directory)
        .is_ok_and(|status| !WITHOUT.iter().any(|magic| u64::try_from(status.f_type) == Ok(*magic)))
}

#[cfg(not(target_os = "linux"))]
fn has_stable_inodes(_: &File) -> bool {
    true
}
