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
    /// Whether there is a note, and it is true. Changes to the chunks hold the lock for reading; writing the note holds
    /// it for writing.
    is_on_disk: RwLock<bool>,
}

/// Held until a change is durable. No note is written meanwhile.
pub(super) type ChangeGuard<'a> = RwLockReadGuard<'a, bool>;

impl CleanStop {
    /// Reads the note of the last stop.
    pub(super) fn read(root: &Path) -> (Self, Option<Vec<ShardUsage>>) {
        let usages = read(&root.join(NAME));
        (Self { root: root.to_owned(), is_on_disk: RwLock::new(usages.is_some()) }, usages)
    }

    /// Call before a change to the chunks: removes the note durably.
    pub(super) fn begin_change(&self) -> io::Result<ChangeGuard<'_>> {
        loop {
            let is_on_disk = sync::read(&self.is_on_disk);
            if !*is_on_disk {
                return Ok(is_on_disk);
            }
            drop(is_on_disk);
            let mut is_on_disk = sync::write(&self.is_on_disk);
            if *is_on_disk {
                remove(&self.root)?;
                *is_on_disk = false;
            }
        }
    }

    /// Writes the note once no change is in progress, and calls `usages` only then.
    pub(super) fn write(&self, usages: impl FnOnce() -> Vec<ShardUsage>) -> io::Result<()> {
        let mut is_on_disk = sync::write(&self.is_on_disk);
        let shards = usages().into_iter().map(|usage| (usage.chunks, usage.bytes)).collect();
        let text = serde_json::to_vec(&Note { version: VERSION, shards })?;
        if *is_on_disk && fs::read(self.root.join(NAME)).is_ok_and(|old| old == text) {
            return Ok(());
        }
        replace_file(&self.root, TEMPORARY, NAME, &text)?;
        *is_on_disk = true;
        Ok(())
    }
}

fn read(path: &Path) -> Option<Vec<ShardUsage>> {
    let note: Note = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let usages = note.shards.into_iter().map(|(chunks, bytes)| ShardUsage { chunks, bytes });
    (note.version == VERSION && usages.len() == SHARDS).then(|| usages.collect())
}

fn remove(root: &Path) -> io::Result<()> {
    match fs::remove_file(root.join(NAME)) {
        Ok(()) => sync_folder(root),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}
