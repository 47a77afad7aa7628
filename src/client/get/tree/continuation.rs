//! From which checkpoint a get continues, and what it finds there.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, chmodat, openat, statat};

use crate::archive::{Entry, Extent, Kind};
use crate::client::get::difference::Difference;
use crate::client::get::omission::RestoreOmission;
use crate::client::get::tree::checkpoint::{Checkpoint, MAX_CHECKPOINT_BYTES, SYNCED, UnfinishedFile};
use crate::client::get::tree::directories::Directories;
use crate::client::get::tree::inspection::{Accepted, Inspection};
use crate::client::get::tree::omitted::{OmissionLine, Omitted};
use crate::client::get::tree::record_log;
use crate::client::get::tree::running_checksum::RunningChecksum;
use crate::pipeline::Key;

/// Bytes of an unfinished file that are read at once.
const READ_BYTES: usize = 1 << 20;

/// Where the state and its entries are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) folder: &'a Path,
    pub(super) tree: &'a File,
    /// The directory to which a complete restore was moving its entries. Then nothing may start anew.
    pub(super) target: Option<&'a File>,
}

/// What an interrupted get left.
#[derive(Debug)]
pub(super) struct Continuation {
    pub(super) checkpoint: Checkpoint,
    /// The open ones.
    pub(super) directories: Directories,
    /// The unfinished file.
    pub(super) unfinished: Option<(Entry, FileData)>,
    pub(super) reported: Vec<RestoreOmission>,
    pub(super) omitted: Omitted,
}

/// The part of a file's data that is in it.
#[derive(Debug, Clone, Default)]
pub(super) struct FileData {
    pub(super) bytes: u64,
    pub(super) checksum: RunningChecksum,
}

/// Checkpoints from which to continue, the latest first, and why there are none.
#[derive(Default)]
pub(super) struct Candidates {
    pub(super) checkpoints: Vec<Checkpoint>,
    pub(super) difference: Option<Difference>,
}

/// The checkpoints that are whole, and of this boot or synced.
pub(super) fn candidates(files: &[File; 2], folder: &Path, key: &Key, boot: Option<&str>) -> Candidates {
    let mut all: Vec<Checkpoint> = files.iter().filter_map(|file| read_checkpoint(file, key)).collect();
    let is_of_other_boot = all.iter().any(|checkpoint| Some(&checkpoint.boot[..]) != boot);
    all.retain(|checkpoint| Some(&checkpoint.boot[..]) == boot);
    all.extend(File::open(folder.join(SYNCED)).ok().and_then(|file| read_checkpoint(&file, key)));
    all.sort_by_key(|checkpoint| std::cmp::Reverse(checkpoint.sequence));
    let has_bytes = files.iter().any(|file| file.metadata().is_ok_and(|metadata| metadata.len() > 0));
    let difference = match (all.is_empty(), is_of_other_boot) {
        (true, true) => Some(Difference::OtherBoot),
        (true, false) if has_bytes => Some(Difference::DamagedState),
        _ => None,
    };
    Candidates { checkpoints: all, difference }
}

fn read_checkpoint(mut file: &File, key: &Key) -> Option<Checkpoint> {
    let mut bytes = Vec::new();
    file.rewind().ok()?;
    file.take(MAX_CHECKPOINT_BYTES + 1024).read_to_end(&mut bytes).ok()?;
    Checkpoint::from_bytes(&bytes, key)
}

/// Drops the checkpoints after the one with which the tree agrees, or all: the logs do not have what they count.
pub(super) fn drop_later(files: &[File; 2], folder: &Path, key: &Key, sequence: Option<u64>) -> io::Result<()> {
    let is_later = |file: &File| match (read_checkpoint(file, key), sequence) {
        (Some(checkpoint), Some(sequence)) => checkpoint.sequence > sequence,
        (_, None) => true,
        (None, Some(_)) => false,
    };
    for file in files.iter().filter(|file| is_later(file)) {
        file.set_len(0)?;
    }
    let path = folder.join(SYNCED);
    if File::open(&path).is_ok_and(|file| is_later(&file)) { remove_if_there(&path) } else { Ok(()) }
}

/// Finds out whether the tree agrees with a checkpoint.
pub(super) fn resume(
    Place { tree, target, .. }: Place<'_>,
    entries: &File,
    omissions: &File,
    checkpoint: Checkpoint,
) -> Result<(Continuation, Accepted), Difference> {
    let whole = |error: io::Error| Difference::Unreadable { path: Vec::new(), reason: error.to_string() };
    let mut directories = Directories::new(tree.try_clone().map_err(whole)?);
    let names: Vec<&[u8]> = checkpoint.levels.iter().map(|level| &level.name[..]).collect();
    let inodes = directories.enter_saved(checkpoint.levels.clone());
    let open_inodes = inodes.map_err(|_| Difference::Missing { path: names.join(&b'/') })?;
    let mut open = directories.paths();
    let unfinished = match &checkpoint.file {
        None => None,
        Some(UnfinishedFile { entry, done, crc64 }) => {
            let entry = entry.entry().ok_or(Difference::DamagedState)?;
            let path: Vec<&[u8]> = entry.path.split(|&b| b == b'/').filter(|n| !n.is_empty() && *n != b".").collect();
            let name = path.last().copied().unwrap_or_default();
            let checksum = directories.current().and_then(|directory| checksum_of(directory, name, &entry, *done));
            let path = path.join(&b'/');
            let checksum = checksum.map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Difference::Missing { path: path.clone() },
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Difference::Changed { path: path.clone() },
                _ => Difference::Unreadable { path: path.clone(), reason: error.to_string() },
            })?;
            if checksum.to_string() != *crc64 {
                return Err(Difference::Changed { path });
            }
            open.push(path);
            Some((entry, FileData { bytes: *done, checksum }))
        }
    };
    let inspection =
        Inspection { tree, target, log: entries, end: checkpoint.entries, open: &open, open_inodes: &open_inodes };
    let accepted = inspection.run()?;
    let (mut reported, mut omitted) = (Vec::new(), Omitted::default());
    let read = record_log::read(omissions, checkpoint.omissions, |line| {
        match serde_json::from_slice(line)? {
            OmissionLine::Reported(omission) => reported.push(omission),
            OmissionLine::File(path) => omitted.add_file(path),
            OmissionLine::Directory(path) => omitted.add_directory(&path),
            OmissionLine::Restored(path) => drop(omitted.remove_file(&path)),
        }
        Ok::<(), serde_json::Error>(())
    });
    match read {
        Ok(Ok(())) => Ok((Continuation { checkpoint, directories, unfinished, reported, omitted }, accepted)),
        Ok(Err(_)) | Err(_) => Err(Difference::DamagedState),
    }
}

/// The checksum of the first `done` bytes of the data of a file.
fn checksum_of(directory: &File, name: &[u8], entry: &Entry, done: u64) -> io::Result<RunningChecksum> {
    let Kind::File { size, extents } = &entry.kind else { return Err(io::ErrorKind::InvalidData.into()) };
    let status = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // It may have been completed after the checkpoint, and have its mode. Not every file system has modes.
    let _ = chmodat(directory, name, Mode::RUSR | Mode::WUSR, AtFlags::empty());
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(directory, name, flags, Mode::empty())?);
    let whole = [Extent { offset: 0, length: *size }];
    let (mut checksum, mut left, mut buffer) = (RunningChecksum::default(), done, vec![0; READ_BYTES]);
    for extent in extents.as_deref().unwrap_or(&whole) {
        let mut length = left.min(extent.length);
        left -= length;
        file.seek(SeekFrom::Start(extent.offset))?;
        while length > 0 {
            let wanted = usize::try_from(length).unwrap_or(READ_BYTES).min(READ_BYTES);
            let piece = buffer.get_mut(..wanted).unwrap_or_default();
            file.read_exact(piece)?;
            checksum.add(piece);
            length -= piece.len() as u64;
        }
    }
    Ok(checksum)
}

/// Removes a file, if it is there.
pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
