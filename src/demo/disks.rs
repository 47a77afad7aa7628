//! What is really on the cells' disks. A chunk's file is named by the hash of its bytes, so anybody can look.

// A shell: it reads files, and when they were written.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::demo::colony::DemoCell;
use crate::demo::map::Column;
use crate::demo::{DemoError, file_error};
use crate::id::ChunkId;

/// Bytes of a copy that flip at once.
pub(super) const FLIPPED_BYTES: usize = 3;

/// A look at a file: when it was written, its length, and whether it is what it is named.
type Looked = (Option<SystemTime>, u64, bool);

/// What was found before, so that only files that have changed are hashed again.
#[derive(Default)]
pub(super) struct Disks {
    looked: BTreeMap<(usize, ChunkId), Looked>,
}

impl Disks {
    /// Is the cell's copy of this chunk what it should be? None if there is no copy.
    pub(super) fn is_good(&mut self, cell: &DemoCell, id: &ChunkId) -> Option<bool> {
        let path = chunk_file(&cell.data, id);
        let seen = fs::metadata(&path).ok()?;
        let (written, len) = (seen.modified().ok(), seen.len());
        match self.looked.get(&(cell.number, *id)) {
            Some((then, length, good)) if *then == written && *length == len => Some(*good),
            _ => {
                // One that cannot be read, or that goes meanwhile, is none.
                let good = ChunkId::of(&fs::read(&path).ok()?) == *id;
                self.looked.insert((cell.number, *id), (written, len, good));
                Some(good)
            }
        }
    }

    /// Some bytes in the middle of a copy flip, behind the cell's back.
    pub(super) fn flip(&mut self, cell: &DemoCell, id: &ChunkId) -> Result<(), DemoError> {
        let path = chunk_file(&cell.data, id);
        self.looked.remove(&(cell.number, *id));
        flip(&path).map_err(file_error("cannot damage", &path))
    }

    /// What the cell holds of these chunks, with every byte of it looked at.
    pub(super) fn verified(&mut self, cell: &DemoCell, ids: &[ChunkId]) -> Column {
        let copies = ids.iter().filter_map(|id| Some((*id, self.is_good(cell, id)?))).collect();
        Column { is_dead: !cell.lives(), copies }
    }
}

/// What the cell holds of these chunks, taken for good.
pub(super) fn held(cell: &DemoCell, ids: &[ChunkId]) -> Column {
    let is_here = |id: &&ChunkId| chunk_file(&cell.data, id).is_file();
    Column { is_dead: !cell.lives(), copies: ids.iter().filter(is_here).map(|id| (*id, true)).collect() }
}

/// Bytes of the cell's copies of these chunks.
pub(super) fn bytes(cell: &DemoCell, ids: &[ChunkId]) -> u64 {
    ids.iter().filter_map(|id| Some(fs::metadata(chunk_file(&cell.data, id)).ok()?.len())).sum()
}

/// Has the cell set a bad copy of this chunk aside?
pub(super) fn is_quarantined(cell: &DemoCell, id: &ChunkId) -> bool {
    cell.data.join("quarantine").join(id.to_string()).is_file()
}

fn chunk_file(data: &Path, id: &ChunkId) -> PathBuf {
    data.join("chunks").join(format!("{:02x}", id.shard())).join(id.to_string())
}

fn flip(path: &Path) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let middle = file.metadata()?.len() / 2;
    let mut bytes = [0; FLIPPED_BYTES];
    let read = file.read_at(&mut bytes, middle)?;
    let bytes = bytes.get_mut(..read).unwrap_or_default();
    for byte in bytes.iter_mut() {
        *byte ^= 0xff;
    }
    file.write_all_at(bytes, middle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flip_changes_some_bytes_and_no_length() {
        let folder = tempfile::TempDir::new().unwrap();
        for len in [1, 2, 1000] {
            let path = folder.path().join(len.to_string());
            fs::write(&path, vec![7; len]).unwrap();
            flip(&path).unwrap();
            let bytes = fs::read(&path).unwrap();
            let flipped = bytes.iter().filter(|byte| **byte != 7).count();
            assert!(bytes.len() == len && (1..=FLIPPED_BYTES).contains(&flipped), "{len}: {flipped}");
            flip(&path).unwrap();
            assert_eq!(fs::read(&path).unwrap(), vec![7; len], "and back");
        }
    }
}
