//! The directories that are open, from the root down to the one in which entries are being made.
//!
//! An archive lists a directory before what is in it, so that a directory is complete when the next entry is elsewhere.
//! It is then left: it gets its metadata, which may forbid to make files in it.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

use crate::archive::{Entry, Timestamp};
use crate::client::get::omission::{OmissionSink, RestoreOmissionReason};
use crate::client::get::tree::metadata::{MetadataSetter, set_time};

/// Open directories at the end of the stack. Those above are opened again when they are needed, since a process may
/// open few files, often 1,024.
const MAX_OPEN: usize = 64;

/// Flags for a directory in which entries are made.
pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The stack of open directories.
pub(super) struct Directories {
    root: File,
    levels: Vec<Level>,
}

struct Level {
    name: Vec<u8>,
    /// Open at the last level always.
    directory: Option<File>,
    leave: Leave,
}

/// What a directory gets when it is left.
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
    pub(super) fn enter(&mut self, path: &[&[u8]], setter: &MetadataSetter, sink: &OmissionSink) -> io::Result<()> {
        let common = self.levels.iter().zip(path).take_while(|(level, name)| level.name == **name).count();
        while self.levels.len() > common {
            self.leave(setter, sink)?;
        }
        for name in path.iter().skip(common) {
            let parent = self.current()?;
            let (directory, leave) = match openat(parent, *name, DIRECTORY, Mode::empty()) {
                Ok(directory) => {
                    let directory = File::from(directory);
                    let metadata = directory.metadata()?;
                    let nanoseconds = u32::try_from(metadata.mtime_nsec()).unwrap_or_default();
                    (directory, Leave::Time(Timestamp { seconds: metadata.mtime(), nanoseconds }))
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

    /// Leaves all directories but the root.
    pub(super) fn leave_all(&mut self, setter: &MetadataSetter, sink: &OmissionSink) -> io::Result<()> {
        while !self.levels.is_empty() {
            self.leave(setter, sink)?;
        }
        Ok(())
    }

    fn push(&mut self, name: &[u8], directory: File, leave: Leave) {
        self.levels.push(Level { name: name.to_owned(), directory: Some(directory), leave });
        if let Some(level) = self.levels.len().checked_sub(MAX_OPEN + 1).and_then(|at| self.levels.get_mut(at)) {
            level.directory = None;
        }
    }

    fn leave(&mut self, setter: &MetadataSetter, sink: &OmissionSink) -> io::Result<()> {
        let path = self.path();
        let Some(Level { directory: Some(directory), leave, .. }) = self.levels.pop() else { return Ok(()) };
        if let Some(parent) = self.levels.last_mut()
            && parent.directory.is_none()
        {
            parent.directory = Some(File::from(openat(&directory, "..", DIRECTORY, Mode::empty())?));
        }
        match leave {
            Leave::Entry(entry) => sink.all(&entry.path, setter.set(&directory, &entry)?),
            Leave::Time(time) => {
                if let Err(error) = set_time(&directory, time) {
                    sink.one(&path, RestoreOmissionReason::Time { os_error: error.raw_os_error() });
                }
            }
            Leave::Nothing => {}
        }
        Ok(())
    }

    fn path(&self) -> Vec<u8> {
        self.levels.iter().map(|level| &level.name[..]).collect::<Vec<_>>().join(&b'/')
    }
}
