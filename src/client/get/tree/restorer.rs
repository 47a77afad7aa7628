//! Making the entries of an archive in a directory, and nowhere else.

use std::fs::File;
use std::io::{self, BufRead, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, linkat, mkdirat, openat, symlinkat, unlinkat};
use rustix::io::Errno;

use crate::archive::{DecodeError, Decoder, Entry, Extent, Kind};
use crate::client::get::omission::{OmissionSink, RestoreOmissionReason};
use crate::client::get::tree::directories::{DIRECTORY, Directories};
use crate::client::get::tree::metadata::{MetadataSetter, access_acl};
use crate::client::get::tree::omitted::Omitted;
use crate::client::get::tree::refusal::is_refusal;
use crate::human;

/// The most names of a path. No system call takes a longer path than this many names of one character.
const MAX_DEPTH: usize = 2048;

/// Flags for a file that is made.
const NEW_FILE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Flags for a directory on the way to a file that is there already. A user may lack the permission to read it.
#[cfg(target_os = "linux")]
const ON_THE_WAY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const ON_THE_WAY: OFlags = DIRECTORY;

/// Why an archive is not restored.
#[derive(Debug, thiserror::Error)]
pub(super) enum RestoreError {
    /// A path is absolute or has `..` in it.
    #[error("{}: the path leads out of the directory", human::escaped(.0))]
    OutsideDirectory(Vec<u8>),
    /// The archive cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The target failed, for example because it is full.
    #[error("{}: {source}", human::escaped(path))]
    Target {
        /// The entry.
        path: Vec<u8>,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl From<RestoreError> for io::Error {
    fn from(error: RestoreError) -> Self {
        let kind = match &error {
            RestoreError::OutsideDirectory(_) | RestoreError::Decode(_) => io::ErrorKind::InvalidData,
            RestoreError::Target { source, .. } => source.kind(),
        };
        Self::new(kind, error)
    }
}

/// What became of an entry.
enum Outcome {
    /// It is there, without some of its metadata.
    Done(Vec<RestoreOmissionReason>),
    /// It is not there.
    Omitted(RestoreOmissionReason),
}

/// Restores an archive into one directory.
pub(super) struct Restorer<R> {
    decoder: Decoder<R>,
    directories: Directories,
    setter: MetadataSetter,
    sink: OmissionSink,
    /// What was omitted so far.
    omitted: Omitted,
}

impl<R: BufRead> Restorer<R> {
    pub(super) fn new(reader: R, root: File, setter: MetadataSetter, sink: OmissionSink) -> Self {
        let directories = Directories::new(root);
        Self { decoder: Decoder::new(reader), directories, setter, sink, omitted: Omitted::default() }
    }

    /// Restores everything. Returns the entry of the root, whose metadata is still to be set, if the archive has one.
    pub(super) fn run(mut self) -> Result<(Option<Entry>, MetadataSetter, OmissionSink), RestoreError> {
        let mut root = None;
        while let Some(mut entry) = self.decoder.next_entry()? {
            self.setter.drop_unwanted(&mut entry);
            let path = entry.path.clone();
            let names = names(&path)?;
            match &names[..] {
                [] if entry.kind == Kind::Directory => root = Some(entry),
                [] => return Err(RestoreError::OutsideDirectory(path)),
                [parents @ .., name] => match self.restore(parents, name, entry)? {
                    Outcome::Done(reasons) => self.sink.all(&path, reasons),
                    Outcome::Omitted(reason) => self.sink.one(&path, reason),
                },
            }
        }
        let target = |source| RestoreError::Target { path: b".".to_vec(), source };
        self.directories.leave_all(&self.setter, &self.sink).map_err(target)?;
        Ok((root, self.setter, self.sink))
    }

    fn restore(&mut self, parents: &[&[u8]], name: &[u8], entry: Entry) -> Result<Outcome, RestoreError> {
        let path = entry.path.clone();
        let is_directory = entry.kind == Kind::Directory;
        let whole_name = [parents, &[name]].concat().join(&b'/');
        if self.omitted.has_directory_of(&whole_name) {
            return Ok(Outcome::Omitted(RestoreOmissionReason::InOmittedDirectory));
        }
        let target = |source| RestoreError::Target { path: path.clone(), source };
        let outcome = if parents.len() >= MAX_DEPTH {
            Outcome::Omitted(RestoreOmissionReason::TooDeep)
        } else if let Err(error) = self.directories.enter(parents, &self.setter, &self.sink) {
            match Errno::from_io_error(&error) {
                Some(Errno::NOTDIR | Errno::LOOP) => Outcome::Omitted(RestoreOmissionReason::NotInDirectory),
                _ => refused(error).map_err(target)?,
            }
        } else {
            match &entry.kind {
                Kind::File { size, extents } => self.file(name, &entry, *size, extents.as_deref())?,
                Kind::Directory => self.directory(name, entry).or_else(refused).map_err(target)?,
                Kind::SymbolicLink { target: to } => self.link(name, to, &entry).or_else(refused).map_err(target)?,
                Kind::HardLink { target: to } => {
                    let to = names(to)?;
                    self.hard_link(name, &to, &entry).or_else(refused).map_err(target)?
                }
                Kind::Other { flag } => Outcome::Omitted(RestoreOmissionReason::Special { flag: *flag }),
            }
        };
        match (&outcome, is_directory) {
            (Outcome::Omitted(_), true) => self.omitted.add_directory(&whole_name),
            (Outcome::Omitted(_), false) => self.omitted.add_file(whole_name),
            (Outcome::Done(_), false) => self.omitted.remove_file(&whole_name),
            (Outcome::Done(_), true) => {}
        }
        Ok(outcome)
    }

    fn file(
        &mut self,
        name: &[u8],
        entry: &Entry,
        size: u64,
        extents: Option<&[Extent]>,
    ) -> Result<Outcome, RestoreError> {
        let target = |source| RestoreError::Target { path: entry.path.clone(), source };
        let directory = self.directories.current().map_err(target)?;
        let mut file = match openat(directory, name, NEW_FILE, Mode::RUSR | Mode::WUSR) {
            Ok(file) => File::from(file),
            Err(error) => return refused(error.into()).map_err(target),
        };
        match copy(&mut self.decoder, &mut file, size, extents) {
            Ok(()) => Ok(Outcome::Done(self.setter.set(&file, entry).map_err(target)?)),
            // Half a file is worse than none.
            Err(CopyError::Target(error)) if is_refusal(&error) => {
                unlinkat(directory, name, AtFlags::empty()).map_err(|error| target(error.into()))?;
                refused(error).map_err(target)
            }
            Err(CopyError::Target(error)) => Err(target(error)),
            Err(CopyError::Decode(error)) => Err(error.into()),
        }
    }

    fn directory(&mut self, name: &[u8], mut entry: Entry) -> io::Result<Outcome> {
        let parent = self.directories.current()?;
        match mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => {}
            // It was made for an entry in it, or is in the archive twice. Another spelling of its name is another one.
            Err(Errno::EXIST) if has_exactly(parent, name)? => {}
            Err(error) => return refused(error.into()),
        }
        match openat(parent, name, DIRECTORY, Mode::empty()) {
            Ok(directory) => {
                let directory = File::from(directory);
                let omissions = self.setter.take_attributes(&directory, &mut entry)?;
                self.directories.enter_new(name, directory, entry);
                Ok(Outcome::Done(omissions))
            }
            Err(Errno::NOTDIR | Errno::LOOP) => Ok(Outcome::Omitted(RestoreOmissionReason::Collision)),
            Err(error) => refused(error.into()),
        }
    }

    fn link(&self, name: &[u8], to: &[u8], entry: &Entry) -> io::Result<Outcome> {
        let directory = self.directories.current()?;
        symlinkat(to, directory, name)?;
        Ok(Outcome::Done(self.setter.set_of_link(directory, name, entry)?))
    }

    /// Makes another name of a file, or a copy of the file where the target has no hard links.
    fn hard_link(&self, name: &[u8], to: &[&[u8]], entry: &Entry) -> io::Result<Outcome> {
        let missing = |to: &[&[u8]]| Outcome::Omitted(RestoreOmissionReason::LinkTarget { target: to.join(&b'/') });
        let Some((to_name, to_parents)) = to.split_last() else { return Ok(missing(to)) };
        // Another entry may have its name on the target.
        if self.omitted.has(&to.join(&b'/')) {
            return Ok(missing(to));
        }
        let directory = self.directories.current()?;
        let to_directory = match open_directory(self.directories.root(), to_parents) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => return Ok(missing(to)),
            to_directory => to_directory?,
        };
        let error = match linkat(&to_directory, *to_name, directory, name, AtFlags::empty()) {
            Ok(()) => return Ok(Outcome::Done(Vec::new())),
            Err(Errno::NOENT) => return Ok(missing(to)),
            Err(error) => error,
        };
        if !matches!(
            error,
            Errno::PERM | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL | Errno::MLINK | Errno::XDEV | Errno::ACCESS
        ) {
            return Err(error.into());
        }
        let original = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut original = File::from(openat(&to_directory, *to_name, original, Mode::empty())?);
        let metadata = original.metadata()?;
        if !metadata.is_file() {
            return Err(error.into());
        }
        let copy = File::from(openat(directory, name, NEW_FILE, Mode::RUSR | Mode::WUSR)?);
        let set = copy_link(&mut original, copy, entry, &self.setter).inspect_err(|_| {
            // Half a file is worse than none.
            let _ = unlinkat(directory, name, AtFlags::empty());
        })?;
        let mut omissions = vec![RestoreOmissionReason::CopiedLink { os_error: error.raw_os_error() }];
        omissions.extend(set);
        Ok(Outcome::Done(omissions))
    }
}

/// Copies a file for another name of it. The copy grants no more permissions than the file does.
pub(super) fn copy_link(
    original: &mut File,
    mut copy: File,
    entry: &Entry,
    setter: &MetadataSetter,
) -> io::Result<Vec<RestoreOmissionReason>> {
    io::copy(original, &mut copy)?;
    // The file may have less than the archive says, and its mode has the mask of its list in place of the group.
    let mode = original.metadata()?.permissions().mode() & entry.mode;
    let access_acl = access_acl(original);
    setter.set(&copy, &Entry { mode, access_acl, ..entry.clone() })
}

/// The names of a path. None is empty, `.` or `..`.
fn names(path: &[u8]) -> Result<Vec<&[u8]>, RestoreError> {
    let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
    if path.is_empty() || path.starts_with(b"/") || path.contains(&0) || names.contains(&&b".."[..]) {
        return Err(RestoreError::OutsideDirectory(path.to_owned()));
    }
    Ok(names)
}

/// An entry that the target does not accept is omitted. All other errors end the restore.
fn refused(error: io::Error) -> io::Result<Outcome> {
    match (Errno::from_io_error(&error), error.raw_os_error()) {
        (Some(Errno::EXIST), _) => Ok(Outcome::Omitted(RestoreOmissionReason::Collision)),
        (_, Some(os_error)) if is_refusal(&error) => Ok(Outcome::Omitted(RestoreOmissionReason::Refused { os_error })),
        _ => Err(error),
    }
}

/// Does the directory have an entry of exactly this name? A file system that ignores case finds others too.
fn has_exactly(directory: &File, name: &[u8]) -> io::Result<bool> {
    for entry in Dir::read_from(directory)? {
        if entry?.file_name().to_bytes() == name {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Opens a directory by its names from the root, for the names of its files alone.
fn open_directory(root: &File, names: &[&[u8]]) -> io::Result<File> {
    let mut directory = root.try_clone()?;
    for name in names {
        directory = File::from(openat(&directory, *name, ON_THE_WAY, Mode::empty())?);
    }
    Ok(directory)
}

enum CopyError {
    Decode(DecodeError),
    Target(io::Error),
}

/// Copies the data of an entry to a file, with its holes.
fn copy<R: BufRead>(
    decoder: &mut Decoder<R>,
    file: &mut File,
    size: u64,
    extents: Option<&[Extent]>,
) -> Result<(), CopyError> {
    let whole = [Extent { offset: 0, length: size }];
    for extent in extents.unwrap_or(&whole) {
        if extents.is_some() {
            file.seek(SeekFrom::Start(extent.offset)).map_err(CopyError::Target)?;
        }
        let mut left = extent.length;
        while left > 0 {
            let bytes = decoder.data().map_err(CopyError::Decode)?;
            let length = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let Some(bytes) = bytes.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
            file.write_all(bytes).map_err(CopyError::Target)?;
            decoder.consume_data(length);
            left = left.saturating_sub(length as u64);
        }
    }
    if extents.is_some() {
        file.set_len(size).map_err(CopyError::Target)?;
    }
    Ok(())
}
