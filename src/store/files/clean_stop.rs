//! The note of a clean stop: what each folder holds, so that the next start need not count before it knows.
//!
//! It is a file and not a record of the catalogue, so that it holds when the catalogue does not, and so that its
//! removal and the first rename after it reach the disk in that order. No note means an unclean stop: names may have
//! been seen that are not durable yet, and the counts are not known.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{RwLock, RwLockReadGuard};

use serde::{Deserialize, Serialize};

use crate::store::files::folder::{replace_file, sync_folder};
use crate::store::files::shard::Held;
use crate::sync;

const NAME: &str = "clean";
const NEW: &str = "clean.new";
const VERSION: u32 = 1;
const SHARDS: usize = 256;

#[derive(Serialize, Deserialize)]
struct Note {
    version: u32,
    /// Chunks and bytes of each folder.
    shards: Vec<(u64, u64)>,
}

/// Is the note on the disk true? Whoever changes the chunks holds this for reading, whoever writes the note for
/// writing.
pub(super) struct Clean {
    root: PathBuf,
    on_disk: RwLock<bool>,
}

impl Clean {
    /// Reads the note of the last stop.
    pub(super) fn read(root: &Path) -> (Self, Option<Vec<Held>>) {
        let held = read(&root.join(NAME));
        (Self { root: root.to_owned(), on_disk: RwLock::new(held.is_some()) }, held)
    }

    /// Before a change: takes the note away, durably. No note is written while the guard lives.
    pub(super) fn begin_change(&self) -> io::Result<RwLockReadGuard<'_, bool>> {
        loop {
            let on_disk = sync::read(&self.on_disk);
            if !*on_disk {
                return Ok(on_disk);
            }
            drop(on_disk);
            let mut on_disk = sync::write(&self.on_disk);
            if *on_disk {
                remove(&self.root)?;
                *on_disk = false;
            }
        }
    }

    /// Writes the note, once no change is under way. `held` is asked when none is.
    pub(super) fn write(&self, held: impl FnOnce() -> Vec<Held>) -> io::Result<()> {
        let mut on_disk = sync::write(&self.on_disk);
        let shards = held().into_iter().map(|held| (held.chunks, held.bytes)).collect();
        let text = serde_json::to_vec(&Note { version: VERSION, shards })?;
        if *on_disk && fs::read(self.root.join(NAME)).is_ok_and(|old| old == text) {
            return Ok(());
        }
        replace_file(&self.root, NEW, NAME, &text)?;
        *on_disk = true;
        Ok(())
    }
}

fn read(path: &Path) -> Option<Vec<Held>> {
    let note: Note = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let shards = note.shards.into_iter().map(|(chunks, bytes)| Held { chunks, bytes });
    (note.version == VERSION && shards.len() == SHARDS).then(|| shards.collect())
}

fn remove(root: &Path) -> io::Result<()> {
    match fs::remove_file(root.join(NAME)) {
        Ok(()) => sync_folder(root),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}
