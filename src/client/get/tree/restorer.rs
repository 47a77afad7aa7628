//! Making the entries of an archive in a directory, and nowhere else.

use std::fs::File;
use std::io::{self, BufRead, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::Receiver;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, chmodat, linkat, mkdirat, openat, statat, symlinkat, unlinkat};
use rustix::io::Errno;

use crate::archive::{DecodeError, Decoder, Entry, Extent, Kind};
use crate::client::get::omission::{OmissionSink, RestoreOmissionReason};
use crate::client::get::tree::checkpoint::SavedEntry;
use crate::client::get::tree::continuation::{Continuation, FileData};
use crate::client::get::tree::directories::{DIRECTORY, Directories, open_on_the_way};
use crate::client::get::tree::metadata::{MetadataSetter, access_acl};
use crate::client::get::tree::omitted::{OmissionLine, Omitted};
use crate::client::get::tree::refusal::is_refusal;
use crate::client::get::tree::state::{Progress, State};
use crate::client::get::tree::stream::{BlockStream, Position};
use crate::human;

/// The most names of a path. No system call takes a longer path than this many names of one character.
const MAX_DEPTH: usize = 2048;

/// Flags for a file that is made.
const NEW_FILE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Why an archive is not restored.
#[derive(Debug, thiserror::Error)]
pub(super) enum RestoreError {
    /// A path is absolute or has `..` in it.
    #[error("{}: the path leads out of the directory", human::shown(.0))]
    OutsideDirectory(Vec<u8>),
    /// The archive cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The target failed, for example because it is full.
    #[error("{}: {source}", human::shown(path))]
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
pub(super) struct Restorer {
    decoder: Decoder<BlockStream>,
    directories: Directories,
    setter: MetadataSetter,
    sink: OmissionSink,
    /// What was omitted so far.
    omitted: Omitted,
    /// The entry of the root.
    root: Option<Entry>,
    state: State,
    /// A file in the middle of which an interrupted get ended.
    unfinished: Option<Unfinished>,
    /// Had that get restored everything?
    is_complete: bool,
}

/// A file that has a part of its data.
struct Unfinished {
    file: File,
    entry: Entry,
    data: FileData,
}

/// What an archive became.
pub(super) struct Restored {
    /// The entry of the root, whose metadata is still to be set, if the archive has one.
    pub(super) root: Option<Entry>,
    pub(super) setter: MetadataSetter,
    pub(super) sink: OmissionSink,
    /// The checkpoint that says so, if there is one.
    pub(super) checkpoint: Option<Vec<u8>>,
}

impl Restorer {
    pub(super) fn new(
        blocks: Receiver<Vec<u8>>,
        root: File,
        setter: MetadataSetter,
        sink: OmissionSink,
        state: State,
    ) -> Self {
        Self {
            decoder: Decoder::new(BlockStream::new(blocks, Position::default(), 0)),
            directories: Directories::new(root),
            setter,
            sink,
            omitted: Omitted::default(),
            root: None,
            state,
            unfinished: None,
            is_complete: false,
        }
    }

    /// Continues what an interrupted get left. Its omissions are reported again.
    pub(super) fn resume(
        blocks: Receiver<Vec<u8>>,
        setter: MetadataSetter,
        sink: OmissionSink,
        state: State,
        continuation: Continuation,
    ) -> io::Result<Self> {
        let Continuation { checkpoint, directories, unfinished, reported, omitted } = continuation;
        let entry = |saved: SavedEntry| saved.entry().ok_or(io::ErrorKind::InvalidData);
        let unfinished = match unfinished {
            None => None,
            Some((entry, data)) => {
                let file = open_unfinished(directories.current()?, last_name(&entry.path), &entry, data.bytes)?;
                Some(Unfinished { file, entry, data })
            }
        };
        let is_complete = checkpoint.is_complete;
        let (data_bytes, done) =
            unfinished.as_ref().map_or((0, 0), |Unfinished { entry, data, .. }| (entry.data_bytes(), data.bytes));
        let position = Position { block: checkpoint.block, start: checkpoint.block_start };
        let reader = BlockStream::new(blocks, position, checkpoint.offset);
        let decoder = Decoder::resume(reader, checkpoint.offset, data_bytes, done);
        let root = checkpoint.root.map(entry).transpose()?;
        setter.set_without_attributes(checkpoint.without_attributes);
        for omission in reported {
            sink.again(omission);
        }
        Ok(Self { decoder, directories, setter, sink, omitted, root, state, unfinished, is_complete })
    }

    /// Restores everything.
    pub(super) fn run(mut self) -> Result<Restored, RestoreError> {
        let target = |source| RestoreError::Target { path: b".".to_vec(), source };
        if self.is_complete {
            // The last blocks of an archive may have nothing but zeros.
            self.decoder.read_zeros()?;
            return Ok(self.restored());
        }
        if let Some(Unfinished { file, entry, data }) = self.unfinished.take() {
            let path = entry.path.clone();
            let outcome = self.restore(&names(&path)?, entry, Some((file, data)))?;
            self.finish_entry(&path, outcome)?;
        }
        while let Some(mut entry) = self.decoder.next_entry()? {
            self.setter.drop_unwanted(&mut entry);
            let path = entry.path.clone();
            let names = names(&path)?;
            if !names.is_empty() {
                let outcome = self.restore(&names, entry, None)?;
                self.finish_entry(&path, outcome)?;
            } else if entry.kind == Kind::Directory {
                self.root = Some(entry);
            } else {
                return Err(RestoreError::OutsideDirectory(path));
            }
        }
        let Self { decoder, directories, setter, sink, state, root, .. } = &mut self;
        directories.leave_all(state.entries(), setter, sink).map_err(target)?;
        if !decoder.has_globals() {
            let offset = decoder.reader().position().start;
            let progress = progress(decoder, offset, None, (directories, root.as_ref()), setter);
            record_sent(state, sink).and_then(|()| state.save_complete(progress)).map_err(target)?;
        }
        Ok(self.restored())
    }

    fn restored(self) -> Restored {
        let checkpoint = self.state.complete_checkpoint();
        Restored { root: self.root, setter: self.setter, sink: self.sink, checkpoint }
    }

    /// Reports what is missing of an entry, and makes a checkpoint if it is time for one.
    fn finish_entry(&mut self, path: &[u8], outcome: Outcome) -> Result<(), RestoreError> {
        match outcome {
            Outcome::Done(reasons) => self.sink.all(path, reasons),
            Outcome::Omitted(reason) => self.sink.one(path, reason),
        }
        let Self { decoder, directories, setter, sink, state, root, .. } = self;
        let offset = decoder.next_header();
        let saved = save_if_due(state, decoder, offset, None, (directories, root.as_ref()), setter, sink);
        saved.map_err(|source| RestoreError::Target { path: path.to_owned(), source })
    }

    /// Restores an entry, or the rest of a file that has a part of its data.
    fn restore(
        &mut self,
        names: &[&[u8]],
        entry: Entry,
        begun: Option<(File, FileData)>,
    ) -> Result<Outcome, RestoreError> {
        let [parents @ .., name] = names else { return Err(RestoreError::OutsideDirectory(entry.path)) };
        let path = entry.path.clone();
        let is_directory = entry.kind == Kind::Directory;
        let whole_name = names.join(&b'/');
        if self.omitted.has_directory_of(&whole_name) {
            return Ok(Outcome::Omitted(RestoreOmissionReason::InOmittedDirectory));
        }
        let target = |source| RestoreError::Target { path: path.clone(), source };
        let outcome = if parents.len() >= MAX_DEPTH {
            Outcome::Omitted(RestoreOmissionReason::TooDeep)
        } else if let Err(error) = self.directories.enter(parents, self.state.entries(), &self.setter, &self.sink) {
            match Errno::from_io_error(&error) {
                Some(Errno::NOTDIR | Errno::LOOP) => Outcome::Omitted(RestoreOmissionReason::NotInDirectory),
                _ => refused(error).map_err(target)?,
            }
        } else {
            match &entry.kind {
                Kind::File { size, extents } => self.file(name, &entry, *size, extents.as_deref(), begun)?,
                Kind::Directory => self.directory(name, entry).or_else(refused).map_err(target)?,
                Kind::SymbolicLink { target: to } => self.link(name, to, &entry).or_else(refused).map_err(target)?,
                Kind::HardLink { target: to } => {
                    let to = self::names(to)?;
                    self.hard_link(name, &to, &entry).or_else(refused).map_err(target)?
                }
                Kind::Other { flag } => Outcome::Omitted(RestoreOmissionReason::Special { flag: *flag }),
            }
        };
        match (&outcome, is_directory) {
            (Outcome::Omitted(_), true) => {
                self.state.record(&OmissionLine::Directory(whole_name.clone())).map_err(target)?;
                self.omitted.add_directory(&whole_name);
            }
            (Outcome::Omitted(_), false) => {
                self.state.record(&OmissionLine::File(whole_name.clone())).map_err(target)?;
                self.omitted.add_file(whole_name);
            }
            (Outcome::Done(_), false) => {
                let directory = self.directories.current().map_err(target)?;
                let status =
                    statat(directory, *name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| target(error.into()))?;
                self.state.entries().record(&whole_name, &status).map_err(target)?;
                if self.omitted.remove_file(&whole_name) {
                    self.state.record(&OmissionLine::Restored(whole_name)).map_err(target)?;
                }
            }
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
        begun: Option<(File, FileData)>,
    ) -> Result<Outcome, RestoreError> {
        let target = |source| RestoreError::Target { path: entry.path.clone(), source };
        let Self { decoder, directories, setter, sink, state, root, .. } = self;
        let directory = directories.current().map_err(target)?;
        let (mut file, mut data) = match begun {
            Some(begun) => begun,
            None => match openat(directory, name, NEW_FILE, Mode::RUSR | Mode::WUSR) {
                Ok(file) => (File::from(file), FileData::default()),
                Err(error) => return refused(error.into()).map_err(target),
            },
        };
        let after_piece = |decoder: &Decoder<BlockStream>, data: &FileData| {
            let offset = decoder.position();
            save_if_due(state, decoder, offset, Some((entry, data)), (directories, root.as_ref()), setter, sink)
        };
        match copy(decoder, &mut file, size, extents, &mut data, after_piece) {
            Ok(()) => Ok(Outcome::Done(setter.set(&file, entry).map_err(target)?)),
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
        let to_directory = match open_on_the_way(self.directories.root(), to_parents) {
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

enum CopyError {
    Decode(DecodeError),
    Target(io::Error),
}

/// Makes a checkpoint if the last one is far enough behind `offset`.
fn save_if_due(
    state: &mut State,
    decoder: &Decoder<BlockStream>,
    offset: u64,
    file: Option<(&Entry, &FileData)>,
    levels: (&Directories, Option<&Entry>),
    setter: &MetadataSetter,
    sink: &OmissionSink,
) -> io::Result<()> {
    // Only archives of other programs have records for all entries, and a checkpoint has no place for them.
    if !state.is_due(offset) || decoder.has_globals() {
        return Ok(());
    }
    record_sent(state, sink)?;
    state.save(progress(decoder, offset, file, levels, setter))
}

fn record_sent(state: &mut State, sink: &OmissionSink) -> io::Result<()> {
    sink.take_sent().into_iter().try_for_each(|omission| state.record(&OmissionLine::Reported(omission)))
}

fn progress<'a>(
    decoder: &Decoder<BlockStream>,
    offset: u64,
    file: Option<(&'a Entry, &'a FileData)>,
    (directories, root): (&Directories, Option<&'a Entry>),
    setter: &MetadataSetter,
) -> Progress<'a> {
    let (position, levels) = (decoder.reader().position(), directories.saved());
    Progress { position, offset, file, levels, root, without_attributes: setter.without_attributes() }
}

/// Opens a file that has the first `done` bytes of its data, and drops what it has after them.
fn open_unfinished(directory: &File, name: &[u8], entry: &Entry, done: u64) -> io::Result<File> {
    let status = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let Kind::File { extents, .. } = &entry.kind else { return Err(io::ErrorKind::InvalidData.into()) };
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // It may have been completed after the checkpoint, and have its mode. Not every file system has modes.
    let _ = chmodat(directory, name, Mode::RUSR | Mode::WUSR, AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::empty())?);
    let (mut end, mut left) = (done, done);
    for extent in extents.iter().flatten() {
        end = extent.offset.saturating_add(left.min(extent.length));
        left = left.saturating_sub(extent.length);
        if left == 0 {
            break;
        }
    }
    file.set_len(end)?;
    Ok(file)
}

/// The name of an entry in its directory.
fn last_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').find(|name| !name.is_empty()).unwrap_or_default()
}

/// Copies the data of an entry to a file, with its holes, after the part that it has. Calls `after_piece` with the part
/// that it has then.
fn copy<R: BufRead>(
    decoder: &mut Decoder<R>,
    file: &mut File,
    size: u64,
    extents: Option<&[Extent]>,
    data: &mut FileData,
    mut after_piece: impl FnMut(&Decoder<R>, &FileData) -> io::Result<()>,
) -> Result<(), CopyError> {
    let whole = [Extent { offset: 0, length: size }];
    let mut skip = data.bytes;
    for extent in extents.unwrap_or(&whole) {
        let skipped = skip.min(extent.length);
        skip -= skipped;
        let mut left = extent.length - skipped;
        if extents.is_some() || skipped > 0 {
            file.seek(SeekFrom::Start(extent.offset.saturating_add(skipped))).map_err(CopyError::Target)?;
        }
        while left > 0 {
            let bytes = decoder.data().map_err(CopyError::Decode)?;
            let length = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let Some(bytes) = bytes.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
            file.write_all(bytes).map_err(CopyError::Target)?;
            data.checksum.add(bytes);
            decoder.consume_data(length);
            left = left.saturating_sub(length as u64);
            data.bytes = data.bytes.saturating_add(length as u64);
            after_piece(decoder, data).map_err(CopyError::Target)?;
        }
    }
    if extents.is_some() {
        file.set_len(size).map_err(CopyError::Target)?;
    }
    Ok(())
}
