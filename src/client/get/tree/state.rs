//! The state of an unfinished directory: the files beside its entries, from which another get continues.
//!
//! ```text
//!  NAME.cellsync-part/
//!    tree/                         the entries
//!    state                         what is restored (see `partial`); locked by the get that runs
//!    checkpoint.0  checkpoint.1    the last two checkpoints (see `checkpoint`), written in turn
//!    checkpoint.synced             the last checkpoint of which everything is on the disk
//!    entries                       how each entry was when it was complete (see `entry_log`)
//!    omissions                     what was not restored: a log of JSON objects (see `record_log`)
//! ```
//!
//! A checkpoint is made about once for each MiB of the stream, after an entry or in the middle of a file. A get that
//! continues takes the latest one with which the tree agrees ([`inspection`](super::inspection)), removes the entries that
//! were made after it, truncates the unfinished file, and fetches from the block of the checkpoint on. If the tree agrees
//! with none, the restore starts anew, and a message names what is different.
//!
//! These checkpoints are not synced, so that a restore is as fast as without them. A process that is killed loses nothing
//! that it wrote. A power cut may take any of it: so they count only during the boot in which they were made. Therefore
//! everything is synced now and then, on another thread, and after that a checkpoint that counts after another boot too.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use rustix::fs::{Mode, OFlags, openat, renameat};

use crate::archive::Entry;
use crate::client::get::difference::Difference;
use crate::client::get::tree::checkpoint::{
    CHECKPOINTS, Checkpoint, MAX_CHECKPOINT_BYTES, SYNCED, SavedEntry, SavedLevel, UnfinishedFile,
};
use crate::client::get::tree::continuation::{
    Candidates, Continuation, FileData, Place, candidates, drop_later, remove_if_there, resume,
};
use crate::client::get::tree::entry_log::EntryLog;
use crate::client::get::tree::inspection::Accepted;
use crate::client::get::tree::omitted::OmissionLine;
use crate::client::get::tree::record_log::RecordLog;
use crate::client::get::tree::stream::Position;
use crate::pipeline::Key;

/// Bytes of the stream from one checkpoint to the next, at least.
const CHECKPOINT_BYTES: u64 = 1 << 20;

/// Bytes of the stream from one synced checkpoint to the next, at least. A power cut costs as much again, which is some ten
/// seconds of a network of 200 Mbit/s, and a disk is asked rarely enough to write in large pieces.
const SYNC_BYTES: u64 = 256 << 20;

const NEW_SYNCED: &str = "checkpoint.synced.new";
const ENTRIES: &str = "entries";
const OMISSIONS: &str = "omissions";

/// The state of a directory in progress.
#[derive(Debug)]
pub(super) struct State {
    key: Key,
    /// Without one, there are no checkpoints.
    boot: Option<String>,
    folder: File,
    checkpoints: [File; 2],
    entries: EntryLog,
    omissions: RecordLog,
    /// The number of the next checkpoint.
    sequence: u64,
    /// Where the last checkpoint is in the stream.
    last: u64,
    /// Where the last synced checkpoint is.
    last_synced: u64,
    /// Makes a synced checkpoint.
    syncing: Option<JoinHandle<()>>,
    /// The checkpoint of a complete restore.
    complete: Option<Vec<u8>>,
    /// Is there a checkpoint?
    is_kept: Arc<AtomicBool>,
}

/// Where a restore is, for a checkpoint.
pub(super) struct Progress<'a> {
    pub(super) position: Position,
    pub(super) offset: u64,
    pub(super) file: Option<(&'a Entry, &'a FileData)>,
    /// `None` if some directory cannot be recorded.
    pub(super) levels: Option<Vec<SavedLevel>>,
    pub(super) root: Option<&'a Entry>,
    pub(super) without_attributes: usize,
}

/// A state that was opened.
#[derive(Debug)]
pub(super) struct OpenState {
    pub(super) state: State,
    /// What a get left there whose work can be continued. If there is none, the tree must be emptied.
    pub(super) continuation: Option<Continuation>,
    /// Why what a get left there cannot be continued.
    pub(super) difference: Option<Difference>,
}

impl State {
    /// Opens the state in a folder. Entries that were made after the checkpoint are removed from the tree. A restore that
    /// is not resumable has no checkpoints, and continues none.
    pub(super) fn open(
        place: Place<'_>,
        key: &Key,
        is_kept: Arc<AtomicBool>,
        is_resumable: bool,
    ) -> io::Result<OpenState> {
        Self::open_in_boot(place, key, is_kept, boot_id().filter(|_| is_resumable))
    }

    fn open_in_boot(
        place: Place<'_>,
        key: &Key,
        is_kept: Arc<AtomicBool>,
        boot: Option<String>,
    ) -> io::Result<OpenState> {
        let Place { folder, tree, target } = place;
        let open = |name: &str| private().write(true).create(true).truncate(false).open(folder.join(name));
        let append = |name: &str| private().append(true).create(true).open(folder.join(name));
        let [first, second] = CHECKPOINTS;
        let checkpoints = [open(first)?, open(second)?];
        let (entries, omissions) = (append(ENTRIES)?, append(OMISSIONS)?);
        let Candidates { checkpoints: candidates, mut difference } =
            if boot.is_some() { candidates(&checkpoints, folder, key, boot.as_deref()) } else { Candidates::default() };
        let mut accepted = None;
        for checkpoint in candidates {
            if target.is_some() && !checkpoint.is_complete {
                continue;
            }
            match resume(place, &entries, &omissions, checkpoint) {
                Ok(found) => {
                    accepted = Some(found);
                    break;
                }
                // The latest checkpoint has most of it.
                Err(found) => drop(difference.get_or_insert(found)),
            }
        }
        let start = accepted.as_ref().map(|(Continuation { checkpoint, .. }, _)| checkpoint.clone());
        let ends = start.as_ref().map(|start| (start.entries, start.omissions)).unwrap_or_default();
        let entries = RecordLog::new(entries, ends.0);
        let omissions = RecordLog::new(omissions, ends.1);
        if start.is_some() || target.is_none() {
            entries.truncate()?;
            omissions.truncate()?;
            drop_later(&checkpoints, folder, key, start.as_ref().map(|start| start.sequence))?;
        }
        let mut state = Self {
            key: key.clone(),
            entries: EntryLog::new(boot.is_some().then_some(entries)),
            boot,
            folder: File::open(folder)?,
            checkpoints,
            omissions,
            sequence: start.as_ref().map_or(1, |start| start.sequence.saturating_add(1)),
            last: start.as_ref().map_or(0, |start| start.offset),
            last_synced: start.as_ref().map_or(0, |start| start.offset),
            syncing: None,
            complete: start.as_ref().filter(|start| start.is_complete).map(|start| start.to_bytes(key)),
            is_kept,
        };
        state.is_kept.store(start.is_some(), Ordering::SeqCst);
        let Some((continuation, accepted)) = accepted else {
            return Ok(OpenState { state, continuation: None, difference });
        };
        state.remove_others(tree, &continuation.checkpoint, &accepted)?;
        Ok(OpenState { state, continuation: Some(continuation), difference: None })
    }

    /// Removes what was made after the checkpoint. What that changes of other entries is on the disk before.
    fn remove_others(&mut self, tree: &File, checkpoint: &Checkpoint, accepted: &Accepted) -> io::Result<()> {
        if !accepted.touched.is_empty() {
            for &inode in &accepted.touched {
                self.entries.record_touched(inode)?;
            }
            let boot = self.boot.clone().unwrap_or_default();
            let entries = self.entries.flush()?;
            let bytes = self.write(&Checkpoint { sequence: self.sequence, boot, entries, ..checkpoint.clone() })?;
            save_synced(&self.folder, &bytes)?;
        }
        accepted.remove_others(tree)
    }

    /// Removes the checkpoints in a folder: the next get there starts anew.
    pub(super) fn clear(folder: &Path) -> io::Result<()> {
        for name in CHECKPOINTS {
            fs::remove_file(folder.join(name))?;
        }
        remove_if_there(&folder.join(SYNCED))
    }

    /// The log of the entries.
    pub(super) fn entries(&mut self) -> &mut EntryLog {
        &mut self.entries
    }

    /// Records an omission with the next checkpoint.
    pub(super) fn record(&mut self, line: &OmissionLine) -> io::Result<()> {
        if self.boot.is_none() {
            return Ok(());
        }
        self.omissions.push(serde_json::to_string(line)?.as_bytes())
    }

    /// Is it time for a checkpoint?
    pub(super) fn is_due(&self, offset: u64) -> bool {
        offset.saturating_sub(self.last) >= CHECKPOINT_BYTES
    }

    /// Makes a checkpoint. Does nothing if something cannot be recorded, such as an entry of another program's archive.
    pub(super) fn save(&mut self, progress: Progress<'_>) -> io::Result<()> {
        let offset = progress.offset;
        let Some(bytes) = self.save_as(progress, false)? else { return Ok(()) };
        let is_idle = self.syncing.as_ref().is_none_or(JoinHandle::is_finished);
        if is_idle && offset.saturating_sub(self.last_synced) >= SYNC_BYTES {
            self.last_synced = offset;
            let folder = self.folder.try_clone()?;
            self.syncing = Some(thread::spawn(move || {
                // The checkpoint before it still counts.
                if let Err(error) = save_synced(&folder, &bytes) {
                    log::debug!("cannot make a synced checkpoint: {error}");
                }
            }));
        }
        Ok(())
    }

    /// Makes the checkpoint of a complete restore.
    pub(super) fn save_complete(&mut self, progress: Progress<'_>) -> io::Result<()> {
        self.complete = self.save_as(progress, true)?;
        Ok(())
    }

    /// The checkpoint of a complete restore, if there is one.
    pub(super) fn complete_checkpoint(&self) -> Option<Vec<u8>> {
        self.complete.clone()
    }

    fn save_as(&mut self, progress: Progress<'_>, is_complete: bool) -> io::Result<Option<Vec<u8>>> {
        self.last = progress.offset;
        let (Some(boot), Some(levels)) = (self.boot.clone(), progress.levels) else { return Ok(None) };
        let Some(root) = progress.root.map_or(Some(None), |root| SavedEntry::of(root).map(Some)) else {
            return Ok(None);
        };
        let file = match progress.file {
            None => None,
            Some((entry, FileData { bytes, checksum })) => match SavedEntry::of(entry) {
                None => return Ok(None),
                Some(entry) => Some(UnfinishedFile { entry, done: *bytes, crc64: checksum.to_string() }),
            },
        };
        let checkpoint = Checkpoint {
            sequence: self.sequence,
            boot,
            block: progress.position.block,
            block_start: progress.position.start,
            offset: progress.offset,
            file,
            levels,
            root,
            entries: self.entries.flush()?,
            omissions: self.omissions.flush()?,
            without_attributes: progress.without_attributes,
            is_complete,
        };
        if checkpoint.to_bytes(&self.key).len() as u64 > MAX_CHECKPOINT_BYTES {
            return Ok(None);
        }
        let bytes = self.write(&checkpoint)?;
        self.is_kept.store(true, Ordering::SeqCst);
        Ok(Some(bytes))
    }

    /// Writes the next checkpoint. While it is incomplete, the one before counts.
    fn write(&mut self, checkpoint: &Checkpoint) -> io::Result<Vec<u8>> {
        let bytes = checkpoint.to_bytes(&self.key);
        if let Some(file) = self.checkpoints.get(slot(checkpoint.sequence)) {
            file.write_all_at(&bytes, 0)?;
        }
        self.sequence = checkpoint.sequence.saturating_add(1);
        Ok(bytes)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // The folder may be removed after this.
        drop(self.syncing.take().map(JoinHandle::join));
    }
}

/// Makes everything durable, and then the checkpoint that says so.
pub(super) fn save_synced(folder: &File, checkpoint: &[u8]) -> io::Result<()> {
    sync_file_system(folder)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(folder, NEW_SYNCED, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(checkpoint)?;
    file.sync_all()?;
    renameat(folder, NEW_SYNCED, folder, SYNCED)?;
    folder.sync_all()
}

/// Makes everything on the file system of a directory durable.
#[cfg(target_os = "linux")]
pub(super) fn sync_file_system(directory: &File) -> io::Result<()> {
    // One call for all files, whatever their modes are.
    Ok(rustix::fs::syncfs(directory)?)
}

/// Makes everything on the file system of a directory durable.
#[cfg(not(target_os = "linux"))]
pub(super) fn sync_file_system(_: &File) -> io::Result<()> {
    rustix::fs::sync();
    Ok(())
}

/// The file of a checkpoint.
fn slot(sequence: u64) -> usize {
    usize::from(sequence % 2 == 1)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).mode(0o600);
    options
}

/// What identifies the time since this machine started, on Linux.
fn boot_id() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::get::omission::{RestoreOmission, RestoreOmissionReason};

    struct Fixture {
        folder: tempfile::TempDir,
        key: Key,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("tree")).unwrap();
            Self { folder, key: Key::generate() }
        }

        fn open_in(&self, boot: &str) -> OpenState {
            let tree = File::open(self.folder.path().join("tree")).unwrap();
            let place = Place { folder: self.folder.path(), tree: &tree, target: None };
            State::open_in_boot(place, &self.key, Arc::default(), Some(boot.to_owned())).unwrap()
        }

        fn offset(&self) -> Option<u64> {
            self.open_in("now").continuation.map(|continuation| continuation.checkpoint.offset)
        }
    }

    fn at(offset: u64) -> Progress<'static> {
        let position = Position { block: 1, start: 10 };
        Progress { position, offset, file: None, levels: Some(Vec::new()), root: None, without_attributes: 0 }
    }

    #[test]
    fn the_later_whole_checkpoint_of_this_boot_counts() {
        let fixture = Fixture::new();
        assert_eq!(fixture.offset(), None);
        let mut state = fixture.open_in("now").state;
        for offset in [100, 200, 300] {
            state.save(at(offset)).unwrap();
        }
        drop(state);
        assert_eq!(fixture.offset(), Some(300));
        // The third one is in the second file. Damaged, it leaves the one before.
        let path = fixture.folder.path().join("checkpoint.1");
        let mut bytes = fs::read(&path).unwrap();
        bytes[20] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(fixture.offset(), Some(200));
        let mut state = fixture.open_in("now").state;
        state.save(at(400)).unwrap();
        drop(state);
        assert_eq!(fixture.offset(), Some(400));
        let later = fixture.open_in("later");
        assert!(later.continuation.is_none(), "a power cut may have taken anything");
        assert_eq!(later.difference, Some(Difference::OtherBoot));
        assert_eq!(fixture.offset(), None, "it started anew");
    }

    /// A power cut takes no part of a restore that was synced.
    #[test]
    fn a_synced_checkpoint_counts_after_another_boot() {
        let fixture = Fixture::new();
        let mut state = fixture.open_in("now").state;
        for offset in [100, SYNC_BYTES - 1] {
            state.save(at(offset)).unwrap();
        }
        assert!(state.syncing.is_none());
        state.save(at(SYNC_BYTES)).unwrap();
        state.save(at(SYNC_BYTES + 100)).unwrap();
        drop(state);
        let path = fixture.folder.path();
        assert!(path.join(SYNCED).exists() && !path.join(NEW_SYNCED).exists());
        assert_eq!(fixture.offset(), Some(SYNC_BYTES + 100));
        let later = fixture.open_in("later");
        assert_eq!(later.continuation.unwrap().checkpoint.offset, SYNC_BYTES);
        let mut state = later.state;
        state.save(at(SYNC_BYTES + 50)).unwrap();
        drop(state);
        let again = fixture.open_in("later").continuation.unwrap();
        assert_eq!(again.checkpoint.offset, SYNC_BYTES + 50);
        State::clear(path).unwrap();
        assert!(fixture.open_in("later").continuation.is_none());
    }

    #[test]
    fn omissions_come_back_up_to_the_checkpoint() {
        let fixture = Fixture::new();
        let mut state = fixture.open_in("now").state;
        let omission = RestoreOmission { path: b"f\xff".to_vec(), reason: RestoreOmissionReason::Collision };
        let acl = RestoreOmissionReason::Acl { os_error: None };
        let second = RestoreOmission { path: b"g".to_vec(), reason: acl };
        for line in [
            OmissionLine::Reported(omission.clone()),
            OmissionLine::File(b"f\xff".to_vec()),
            OmissionLine::File(b"back".to_vec()),
            OmissionLine::Restored(b"back".to_vec()),
            OmissionLine::Directory(b"d".to_vec()),
            OmissionLine::Reported(second.clone()),
        ] {
            state.record(&line).unwrap();
        }
        state.save(at(100)).unwrap();
        state.record(&OmissionLine::File(b"later".to_vec())).unwrap();
        state.save(at(200)).unwrap();
        state.record(&OmissionLine::File(b"never saved".to_vec())).unwrap();
        drop(state);
        // Without the later checkpoint, the file has lines after those that count.
        fs::write(fixture.folder.path().join("checkpoint.0"), b"").unwrap();
        for has_more in [false, true] {
            let OpenState { mut state, continuation, .. } = fixture.open_in("now");
            let Continuation { reported, omitted, .. } = continuation.unwrap();
            assert_eq!(reported, [omission.clone(), second.clone()]);
            assert!(omitted.has(b"f\xff") && omitted.has(b"d/in"));
            assert!(!omitted.has(b"back") && !omitted.has(b"later") && !omitted.has(b"never saved"));
            assert_eq!(omitted.has(b"more"), has_more);
            state.record(&OmissionLine::File(b"more".to_vec())).unwrap();
            state.save(at(300)).unwrap();
        }
    }
}
