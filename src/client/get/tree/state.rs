//! The state of an unfinished directory: the files beside its entries, from which another get continues.
//!
//! ```text
//!  NAME.cellsync-part/
//!    tree/                         the entries
//!    state                         what is restored (see `partial`); locked by the get that runs
//!    checkpoint.0  checkpoint.1    the last two checkpoints (see `checkpoint`), written in turn
//!    made.0        made.1          for each of them, the entries that were made after it (see `made`)
//!    omissions                     what was not restored: one JSON object a line
//! ```
//!
//! A checkpoint is made about once for each MiB of the stream, after an entry or in the middle of a file. A get that
//! continues takes the later one that is whole, removes the entries that were made after it, truncates the unfinished
//! file, and fetches from the block of the checkpoint on.
//!
//! Nothing is synced, so that a restore is as fast as without all this. A process that is killed loses nothing that it
//! wrote. A power cut may take any of it: so a checkpoint counts only during the boot in which it was made. After another
//! boot, the restore starts anew.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::archive::Entry;
use crate::client::get::omission::RestoreOmission;
use crate::client::get::tree::checkpoint::{
    Checkpoint, MAX_CHECKPOINT_BYTES, SavedEntry, SavedLeave, SavedLevel, UnfinishedFile,
};
use crate::client::get::tree::made::{self, MadeLists};
use crate::client::get::tree::omitted::Omitted;
use crate::client::get::tree::stream::Position;
use crate::pipeline::Key;

/// Bytes of the stream from one checkpoint to the next, at least.
const CHECKPOINT_BYTES: u64 = 1 << 20;

/// The longest line of the file `omissions`, in bytes: paths are lists of numbers in it.
const MAX_LINE_BYTES: u64 = 16 << 20;

const CHECKPOINTS: [&str; 2] = ["checkpoint.0", "checkpoint.1"];
const MADE: [&str; 2] = ["made.0", "made.1"];
const OMISSIONS: &str = "omissions";

/// The state of a directory in progress.
#[derive(Debug)]
pub(super) struct State {
    key: Key,
    /// Without one, there are no checkpoints.
    boot: Option<String>,
    checkpoints: [File; 2],
    made: MadeLists,
    omissions: File,
    omissions_bytes: u64,
    /// The number of the next checkpoint.
    sequence: u64,
    /// Where the last checkpoint is in the stream.
    last: u64,
    /// Lines for the file `omissions` since then.
    lines: Vec<u8>,
    /// Is there a checkpoint?
    is_kept: Arc<AtomicBool>,
}

/// A line of the file `omissions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OmissionLine {
    /// It was reported.
    Reported(RestoreOmission),
    /// This file is not there.
    File(Vec<u8>),
    /// This directory is not there.
    Directory(Vec<u8>),
    /// This file was not there, and is there now.
    Restored(Vec<u8>),
}

/// Where a restore is, for a checkpoint.
pub(super) struct Progress<'a> {
    pub(super) position: Position,
    pub(super) offset: u64,
    pub(super) file: Option<(&'a Entry, u64)>,
    /// `None` if some directory cannot be recorded.
    pub(super) levels: Option<Vec<SavedLevel>>,
    pub(super) root: Option<&'a Entry>,
    pub(super) without_attributes: usize,
}

/// What an interrupted get left.
#[derive(Debug)]
pub(super) struct Continuation {
    pub(super) checkpoint: Checkpoint,
    pub(super) reported: Vec<RestoreOmission>,
    pub(super) omitted: Omitted,
}

impl State {
    /// Opens the state in a folder. With it, returns what a get left there whose work can be continued. If there is none,
    /// the tree must be emptied. Entries that were made after the checkpoint are removed from `tree`. A restore that is not
    /// resumable has no checkpoints, and continues none.
    pub(super) fn open(
        folder: &Path,
        tree: &File,
        key: &Key,
        is_kept: Arc<AtomicBool>,
        is_resumable: bool,
    ) -> io::Result<(Self, Option<Continuation>)> {
        Self::open_in_boot(folder, tree, key, is_kept, boot_id().filter(|_| is_resumable))
    }

    fn open_in_boot(
        folder: &Path,
        tree: &File,
        key: &Key,
        is_kept: Arc<AtomicBool>,
        boot: Option<String>,
    ) -> io::Result<(Self, Option<Continuation>)> {
        let read_write = |name: &str| private().write(true).create(true).truncate(false).open(folder.join(name));
        let append = |name: &str| private().append(true).create(true).open(folder.join(name));
        let [first, second] = CHECKPOINTS;
        let checkpoints = [read_write(first)?, read_write(second)?];
        let [first, second] = MADE;
        let made = MadeLists::new([append(first)?, append(second)?], 0);
        let omissions = append(OMISSIONS)?;
        let mut state = Self {
            key: key.clone(),
            boot,
            checkpoints,
            made,
            omissions,
            omissions_bytes: 0,
            sequence: 1,
            last: 0,
            lines: Vec::new(),
            is_kept,
        };
        let continuation = state.latest().and_then(|checkpoint| Self::resume(folder, tree, checkpoint).ok());
        if let Some(Continuation { checkpoint, .. }) = &continuation {
            state.made.switch(slot(checkpoint.sequence));
            (state.sequence, state.last) = (checkpoint.sequence.saturating_add(1), checkpoint.offset);
            state.omissions_bytes = checkpoint.omissions_bytes;
        } else {
            for file in &state.checkpoints {
                file.set_len(0)?;
            }
            for list in 0..MADE.len() {
                state.made.empty(list)?;
            }
        }
        state.is_kept.store(continuation.is_some(), Ordering::SeqCst);
        state.omissions.set_len(state.omissions_bytes)?;
        Ok((state, continuation))
    }

    /// Removes the checkpoints in a folder: the next get there starts anew.
    pub(super) fn clear(folder: &Path) -> io::Result<()> {
        for name in CHECKPOINTS {
            fs::remove_file(folder.join(name))?;
        }
        Ok(())
    }

    /// The later checkpoint of those that are whole and of this boot.
    fn latest(&self) -> Option<Checkpoint> {
        let read = |file: &File| {
            let mut bytes = Vec::new();
            file.take(MAX_CHECKPOINT_BYTES + 1024).read_to_end(&mut bytes).ok()?;
            Checkpoint::from_bytes(&bytes, &self.key)
        };
        let checkpoints = self.checkpoints.iter().filter_map(read);
        let of_this_boot = checkpoints.filter(|checkpoint| Some(&checkpoint.boot) == self.boot.as_ref());
        of_this_boot.max_by_key(|checkpoint| checkpoint.sequence)
    }

    fn resume(folder: &Path, tree: &File, checkpoint: Checkpoint) -> io::Result<Continuation> {
        // Directories that were open then may have got their modes since.
        let mut path = Vec::new();
        for SavedLevel { name, leave } in &checkpoint.levels {
            path.extend(name);
            if matches!(leave, SavedLeave::Entry(_)) {
                made::make_writable(tree, &path)?;
            }
            path.push(b'/');
        }
        let list = MADE.get(slot(checkpoint.sequence)).ok_or(io::ErrorKind::InvalidData)?;
        made::remove(tree, &made::read(&mut File::open(folder.join(list))?)?)?;
        let (mut reported, mut omitted) = (Vec::new(), Omitted::default());
        let omissions = File::open(folder.join(OMISSIONS))?;
        if omissions.metadata()?.len() < checkpoint.omissions_bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut lines = BufReader::new(omissions.take(checkpoint.omissions_bytes));
        loop {
            let mut line = Vec::new();
            if lines.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            match serde_json::from_slice(&line)? {
                OmissionLine::Reported(omission) => reported.push(omission),
                OmissionLine::File(path) => omitted.add_file(path),
                OmissionLine::Directory(path) => omitted.add_directory(&path),
                OmissionLine::Restored(path) => drop(omitted.remove_file(&path)),
            }
        }
        Ok(Continuation { checkpoint, reported, omitted })
    }

    pub(super) fn made(&self) -> &MadeLists {
        &self.made
    }

    /// Records an omission with the next checkpoint.
    pub(super) fn record(&mut self, line: &OmissionLine) {
        self.lines.extend(serde_json::to_string(line).unwrap_or_default().into_bytes());
        self.lines.push(b'\n');
    }

    /// Is it time for a checkpoint?
    pub(super) fn is_due(&self, offset: u64) -> bool {
        offset.saturating_sub(self.last) >= CHECKPOINT_BYTES
    }

    /// Makes a checkpoint. Does nothing if something cannot be recorded, such as an entry of another program's archive.
    pub(super) fn save(&mut self, progress: Progress<'_>) -> io::Result<()> {
        self.last = progress.offset;
        let (Some(boot), Some(levels)) = (self.boot.clone(), progress.levels) else { return Ok(()) };
        let Some(root) = progress.root.map_or(Some(None), |root| SavedEntry::of(root).map(Some)) else {
            return Ok(());
        };
        let file = match progress.file {
            None => None,
            Some((entry, done)) => match SavedEntry::of(entry) {
                None => return Ok(()),
                Some(entry) => Some(UnfinishedFile { entry, done }),
            },
        };
        let lines = std::mem::take(&mut self.lines);
        self.omissions.write_all(&lines)?;
        self.omissions_bytes += lines.len() as u64;
        let checkpoint = Checkpoint {
            sequence: self.sequence,
            boot,
            block: progress.position.block,
            block_start: progress.position.start,
            offset: progress.offset,
            file,
            levels,
            root,
            omissions_bytes: self.omissions_bytes,
            without_attributes: progress.without_attributes,
        };
        let bytes = checkpoint.to_bytes(&self.key);
        if bytes.len() as u64 > MAX_CHECKPOINT_BYTES {
            return Ok(());
        }
        let slot = slot(self.sequence);
        let Some(file) = self.checkpoints.get(slot) else { return Ok(()) };
        // While the new checkpoint is incomplete, the other one counts, with its own list.
        self.made.empty(slot)?;
        file.write_all_at(&bytes, 0)?;
        self.made.switch(slot);
        self.sequence = self.sequence.saturating_add(1);
        self.is_kept.store(true, Ordering::SeqCst);
        Ok(())
    }
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
    use crate::client::get::omission::RestoreOmissionReason;

    struct Fixture {
        folder: tempfile::TempDir,
        key: Key,
    }

    impl Fixture {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap(), key: Key::generate() }
        }

        fn open_in(&self, boot: &str) -> (State, Option<Continuation>) {
            let tree = File::open(self.folder.path()).unwrap();
            let boot = Some(boot.to_owned());
            State::open_in_boot(self.folder.path(), &tree, &self.key, Arc::default(), boot).unwrap()
        }

        fn offset(&self) -> Option<u64> {
            self.open_in("now").1.map(|continuation| continuation.checkpoint.offset)
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
        let (mut state, _) = fixture.open_in("now");
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
        let (mut state, _) = fixture.open_in("now");
        state.save(at(400)).unwrap();
        drop(state);
        assert_eq!(fixture.offset(), Some(400));
        assert!(fixture.open_in("later").1.is_none(), "a power cut may have taken anything");
        assert_eq!(fixture.offset(), None, "it started anew");
    }

    #[test]
    fn omissions_come_back_up_to_the_checkpoint() {
        let fixture = Fixture::new();
        let (mut state, _) = fixture.open_in("now");
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
            state.record(&line);
        }
        state.save(at(100)).unwrap();
        state.record(&OmissionLine::File(b"later".to_vec()));
        state.save(at(200)).unwrap();
        state.record(&OmissionLine::File(b"never saved".to_vec()));
        drop(state);
        // Without the later checkpoint, the file has lines after those that count.
        fs::write(fixture.folder.path().join("checkpoint.0"), b"").unwrap();
        for has_more in [false, true] {
            let (mut state, continuation) = fixture.open_in("now");
            let Continuation { reported, omitted, .. } = continuation.unwrap();
            assert_eq!(reported, [omission.clone(), second.clone()]);
            assert!(omitted.has(b"f\xff") && omitted.has(b"d/in"));
            assert!(!omitted.has(b"back") && !omitted.has(b"later") && !omitted.has(b"never saved"));
            assert_eq!(omitted.has(b"more"), has_more);
            state.record(&OmissionLine::File(b"more".to_vec()));
            state.save(at(300)).unwrap();
        }
    }
}
