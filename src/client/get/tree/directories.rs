//! The directories that are open, from the root down to the one in which entries are being made.
//!
//! An archive lists a directory before what is in it, so that a directory is complete when the next entry is elsewhere.
//! It is then left: it gets its metadata, which may forbid to make files in it.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, chmodat, fstat, mkdirat, openat, statat};
use rustix::io::Errno;

use crate::archive::{Entry, Timestamp};
use crate::client::get::omission::{OmissionSink, RestoreOmissionReason};
use crate::client::get::tree::checkpoint::{SavedEntry, SavedLeave, SavedLevel};
use crate::client::get::tree::entry_log::EntryLog;
use crate::client::get::tree::metadata::{MetadataSetter, set_time};

/// Open directories at the end of the stack. Those above are opened again when they are needed, since a process may
/// open few files, often 1,024.
const MAX_OPEN: usize = 64;

/// Flags for a directory in which entries are made.
pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Flags for a directory on the way to a file that is there already. A user may lack the permission to read it.
#[cfg(target_os = "linux")]
const ON_THE_WAY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const ON_THE_WAY: OFlags = DIRECTORY;

/// Opens a directory by its names from the root, for the names of its files alone.
pub(super) fn open_on_the_way(root: &File, names: &[&[u8]]) -> io::Result<File> {
    let mut directory = root.try_clone()?;
    for name in names {
        directory = File::from(openat(&directory, *name, ON_THE_WAY, Mode::empty())?);
    }
    Ok(directory)
}

/// The stack of open directories.
#[derive(Debug)]
pub(super) struct Directories {
    root: File,
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    name: Vec<u8>,
    /// Open at the last level always.
    directory: Option<File>,
    leave: Leave,
}

/// What a directory gets when it is left.
#[derive(Debug)]
enum Leave {
    /// The metadata of its entry.
    Entry(Box<Entry>),
    /// The time that it had before.
    Time(Timestamp),
    /// Nothing: the archive does not have it, only entries in it. It stays private.
    Nothing,
}

impl Directories {
    pub(super) fn new(root: File) -> Self {
        Self { root, levels: Vec::new() }
    }

    /// The directory that was entered last.
    pub(super) fn current(&self) -> io::Result<&File> {
        match self.levels.last() {
            None => Ok(&self.root),
            Some(level) => level.directory.as_ref().ok_or_else(|| Errno::BADF.into()),
        }
    }

    pub(super) fn root(&self) -> &File {
        &self.root
    }

    /// Leaves directories and enters others until `path`, a list of names from the root, is the current one. Those that
    /// do not exist are made.
    pub(super) fn enter(
        &mut self,
        path: &[&[u8]],
        log: &mut EntryLog,
        setter: &MetadataSetter,
        sink: &OmissionSink,
    ) -> io::Result<()> {
        let common = self.levels.iter().zip(path).take_while(|(level, name)| level.name == **name).count();
        while self.levels.len() > common {
            self.leave(log, setter, sink)?;
        }
        for name in path.iter().skip(common) {
            let parent = self.current()?;
            let (directory, leave) = match openat(parent, *name, DIRECTORY, Mode::empty()) {
                Ok(directory) => {
                    let directory = File::from(directory);
                    let time = modified(&directory)?;
                    (directory, Leave::Time(time))
                }
                Err(Errno::NOENT) => {
                    mkdirat(parent, *name, Mode::RWXU)?;
                    (File::from(openat(parent, *name, DIRECTORY, Mode::empty())?), Leave::Nothing)
                }
                Err(error) => return Err(error.into()),
            };
            self.push(name, directory, leave);
        }
        Ok(())
    }

    /// Enters a directory of the current one that gets the metadata of an entry.
    pub(super) fn enter_new(&mut self, name: &[u8], directory: File, entry: Entry) {
        self.push(name, directory, Leave::Entry(Box::new(entry)));
    }

    /// The directories for a checkpoint, or `None` if the entry of one cannot be recorded.
    pub(super) fn saved(&self) -> Option<Vec<SavedLevel>> {
        let saved = |level: &Level| {
            let leave = match &level.leave {
                Leave::Entry(entry) => SavedLeave::Entry(SavedEntry::of(entry)?),
                Leave::Time(Timestamp { seconds, nanoseconds }) => {
                    SavedLeave::Time { seconds: *seconds, nanoseconds: *nanoseconds }
                }
                Leave::Nothing => SavedLeave::Nothing,
            };
            Some(SavedLevel { name: level.name.clone(), leave })
        };
        self.levels.iter().map(saved).collect()
    }

    /// Enters the directories of a checkpoint. Those that got their metadata after it can be written to again. Returns
    /// their inodes.
    pub(super) fn enter_saved(&mut self, levels: Vec<SavedLevel>) -> io::Result<Vec<u64>> {
        let mut inodes = Vec::new();
        for SavedLevel { name, leave } in levels {
            let parent = self.current()?;
            let leave = match leave {
                SavedLeave::Entry(saved) => Leave::Entry(Box::new(saved.entry().ok_or(io::ErrorKind::InvalidData)?)),
                SavedLeave::Time { seconds, nanoseconds } => Leave::Time(Timestamp { seconds, nanoseconds }),
                SavedLeave::Nothing => Leave::Nothing,
            };
            if matches!(leave, Leave::Entry(_)) {
                let status = statat(parent, &name[..], AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
                    return Err(io::ErrorKind::NotADirectory.into());
                }
                // Not every file system has modes.
                let _ = chmodat(parent, &name[..], Mode::RWXU, AtFlags::empty());
            }
            let directory = File::from(openat(parent, &name[..], DIRECTORY, Mode::empty())?);
            if matches!(leave, Leave::Entry(_)) {
                remove_lists(&directory);
            }
            inodes.push(directory.metadata()?.ino());
            self.push(&name, directory, leave);
        }
        Ok(inodes)
    }

    /// The paths of the open directories.
    pub(super) fn paths(&self) -> Vec<Vec<u8>> {
        let names: Vec<&[u8]> = self.levels.iter().map(|level| &level.name[..]).collect();
        (1..=names.len()).filter_map(|depth| names.get(..depth)).map(|names| names.join(&b'/')).collect()
    }

    /// Leaves all directories but the root.
    pub(super) fn leave_all(
        &mut self,
        log: &mut EntryLog,
        setter: &MetadataSetter,
        sink: &OmissionSink,
    ) -> io::Result<()> {
        while !self.levels.is_empty() {
            self.leave(log, setter, sink)?;
        }
        Ok(())
    }

    fn push(&mut self, name: &[u8], directory: File, leave: Leave) {
        self.levels.push(Level { name: name.to_owned(), directory: Some(directory), leave });
        if let Some(level) = self.levels.len().checked_sub(MAX_OPEN + 1).and_then(|at| self.levels.get_mut(at)) {
            level.directory = None;
        }
    }

    fn leave(&mut self, log: &mut EntryLog, setter: &MetadataSetter, sink: &OmissionSink) -> io::Result<()> {
        let path = self.path();
        let Some(Level { directory: Some(directory), leave, .. }) = self.levels.pop() else { return Ok(()) };
        if let Some(parent) = self.levels.last_mut()
            && parent.directory.is_none()
        {
            parent.directory = Some(File::from(openat(&directory, "..", DIRECTORY, Mode::empty())?));
        }
        match leave {
            Leave::Entry(entry) => sink.all(&entry.path, setter.set(&directory, &entry)?),
            // A time that is set sets the time of change too, by which a get that continues knows the directory.
            Leave::Time(time) if modified(&directory)? == time => {}
            Leave::Time(time) => {
                if let Err(error) = set_time(&directory, time) {
                    sink.one(&path, RestoreOmissionReason::Time { os_error: error.raw_os_error() });
                }
            }
            Leave::Nothing => {}
        }
        log.record(&path, &fstat(&directory)?)
    }

    fn path(&self) -> Vec<u8> {
        self.levels.iter().map(|level| &level.name[..]).collect::<Vec<_>>().join(&b'/')
    }
}

/// The time of modification.
fn modified(directory: &File) -> io::Result<Timestamp> {
    let metadata = directory.metadata()?;
    let nanoseconds = u32::try_from(metadata.mtime_nsec()).unwrap_or_default();
    Ok(Timestamp { seconds: metadata.mtime(), nanoseconds })
}

/// Removes the access control lists of a directory: what is made in it would inherit them.
pub(super) fn remove_lists(directory: &File) {
    #[cfg(target_os = "linux")]
    for name in ["system.posix_acl_default", "system.posix_acl_access"] {
        // Nearly always there is none, or the file system has no such lists.
        let _ = rustix::fs::fremovexattr(directory, name);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = directory;
}
