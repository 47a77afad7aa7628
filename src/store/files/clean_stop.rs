//! The clean-stop note, the file `clean`: what each shard folder held at a clean stop, so that the next start knows its
//! counts at once.
//!
//! ```text
//! {"version":1,"shards":[[chunks,bytes],[chunks,bytes],… 256 of them]}
//! ```
//!
//! The note is removed, durably, before the first change after a start. Without a note the last stop was unclean: the
//! counts are unknown, and names may be visible that are not durable yet. The note is a file and not a record of the
//! catalogue because it must hold when the catalogue does not, and because its removal must reach the disk before the
//! first rename that follows.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{RwLock, RwLockReadGuard};

use serde::{Deserialize, Serialize};

use crate::store::files::capacity::ShardUsage;
use crate::store::files::fs::{replace_file, sync_folder};
use crate::sync;

const NAME: &str = "clean";
const TEMPORARY: &str = "clean.new";
const VERSION: u32 = 1;
const SHARDS: usize = 256;

#[derive(Serialize, Deserialize)]
struct Note {
    version: u32,
    /// Chunks and bytes of each shard folder.
    shards: Vec<(u64, u64)>,
}

/// The note of one store.
pub(super) struct CleanStop {
    root: PathBuf,
    /// Changes to the chunks hold the lock for reading; writing the note holds it for writing.
    on_disk: RwLock<OnDisk>,
}

/// What a start would find.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OnDisk {
    /// No note that counts.
    Nothing,
    /// A note, or nothing.
    Note,
    /// Nothing, or after a power cut the note that was removed: the fsync of its removal failed.
    RemovedNote,
}

/// Held until a change is durable. No note is written meanwhile.
pub(super) type ChangeGuard<'a> = RwLockReadGuard<'a, OnDisk>;

impl CleanStop {
    /// Reads the note of the last stop.
    pub(super) fn read(root: &Path) -> (Self, Option<Vec<ShardUsage>>) {
        let (on_disk, usages) = match fs::read(root.join(NAME)) {
            Ok(text) => (OnDisk::Note, parse(&text)),
            Err(e) if e.kind() == ErrorKind::NotFound => (OnDisk::Nothing, None),
            // The next start may be able to read it.
            Err(_) => (OnDisk::Note, None),
        };
        (Self { root: root.to_owned(), on_disk: RwLock::new(on_disk) }, usages)
    }

    /// Call before a change to the chunks: removes the note durably.
    pub(super) fn begin_change(&self) -> io::Result<ChangeGuard<'_>> {
        loop {
            let on_disk = sync::read(&self.on_disk);
            if *on_disk == OnDisk::Nothing {
                return Ok(on_disk);
            }
            drop(on_disk);
            self.remove(&mut sync::write(&self.on_disk))?;
        }
    }

    fn remove(&self, on_disk: &mut OnDisk) -> io::Result<()> {
        match *on_disk {
            OnDisk::Nothing => {}
            OnDisk::Note => match fs::remove_file(self.root.join(NAME)) {
                Ok(()) => {
                    *on_disk = OnDisk::RemovedNote;
                    sync_folder(&self.root)?;
                }
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            },
            // Another fsync would prove nothing. An empty note counts as none.
            OnDisk::RemovedNote => replace_file(&self.root, TEMPORARY, NAME, b"")?,
        }
        *on_disk = OnDisk::Nothing;
        Ok(())
    }

    /// Writes the note once no change is in progress, and calls `usages` only then. Without usages it writes none.
    pub(super) fn write(&self, usages: impl FnOnce() -> Option<Vec<ShardUsage>>) -> io::Result<()> {
        let mut on_disk = sync::write(&self.on_disk);
        let Some(usages) = usages() else { return Ok(()) };
        let shards = usages.into_iter().map(|usage| (usage.chunks, usage.bytes)).collect();
        let text = serde_json::to_vec(&Note { version: VERSION, shards })?;
        if *on_disk == OnDisk::Note && fs::read(self.root.join(NAME)).is_ok_and(|old| old == text) {
            return Ok(());
        }
        if *on_disk == OnDisk::Nothing {
            // Also if writing fails.
            *on_disk = OnDisk::Note;
        }
        replace_file(&self.root, TEMPORARY, NAME, &text)?;
        *on_disk = OnDisk::Note;
        Ok(())
    }
}

fn parse(text: &[u8]) -> Option<Vec<ShardUsage>> {
    let note: Note = serde_json::from_slice(text).ok()?;
    let usages = note.shards.into_iter().map(|(chunks, bytes)| ShardUsage { chunks, bytes });
    (note.version == VERSION && usages.len() == SHARDS).then(|| usages.collect())
}
