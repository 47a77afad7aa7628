//! The copies on the cells' disks. The name of a chunk's file is the hash of its bytes, so any program can verify it.

// A shell: it reads files and their modification times.
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

/// The number of bytes that one damage changes.
pub(super) const DAMAGED_BYTES: usize = 3;

/// A verified file: its modification time, its length, and whether its bytes match its name.
type Verified = (Option<SystemTime>, u64, bool);

/// Earlier results, so that only files that have changed are hashed again.
#[derive(Default)]
pub(super) struct Disks {
    verified: BTreeMap<(usize, ChunkId), Verified>,
}

impl Disks {
    /// Whether the cell's copy of this chunk is good; `None` if it has no copy.
    pub(super) fn is_good(&mut self, cell: &DemoCell, id: &ChunkId) -> Option<bool> {
        let path = chunk_file(&cell.data, id);
        let metadata = fs::metadata(&path).ok()?;
        let (written, len) = (metadata.modified().ok(), metadata.len());
        match self.verified.get(&(cell.number, *id)) {
            Some((then, length, good)) if *then == written && *length == len => Some(*good),
            _ => {
                // A copy that cannot be read, or that is removed meanwhile, does not exist.
                let good = ChunkId::of(&fs::read(&path).ok()?) == *id;
                self.verified.insert((cell.number, *id), (written, len, good));
                Some(good)
            }
        }
    }

    /// Changes some bytes in the middle of a copy, without the cell's knowledge.
    pub(super) fn damage(&mut self, cell: &DemoCell, id: &ChunkId) -> Result<(), DemoError> {
        let path = chunk_file(&cell.data, id);
        self.verified.remove(&(cell.number, *id));
        invert(&path).map_err(file_error("damage", &path))
    }

    /// The cell's copies of these chunks, verified.
    pub(super) fn verify(&mut self, cell: &DemoCell, ids: &[ChunkId]) -> Column {
        let copies = ids.iter().filter_map(|id| Some((*id, self.is_good(cell, id)?))).collect();
        Column { is_dead: !cell.is_running(), copies }
    }
}

/// The cell's copies of these chunks, not verified.
pub(super) fn held(cell: &DemoCell, ids: &[ChunkId]) -> Column {
    let is_here = |id: &&ChunkId| chunk_file(&cell.data, id).is_file();
    Column { is_dead: !cell.is_running(), copies: ids.iter().filter(is_here).map(|id| (*id, true)).collect() }
}

/// The length of all of the cell's copies of these chunks, in bytes.
pub(super) fn bytes(cell: &DemoCell, ids: &[ChunkId]) -> u64 {
    ids.iter().filter_map(|id| Some(fs::metadata(chunk_file(&cell.data, id)).ok()?.len())).sum()
}

/// Whether the cell has a bad copy of this chunk in quarantine.
pub(super) fn is_quarantined(cell: &DemoCell, id: &ChunkId) -> bool {
    cell.data.join("quarantine").join(id.to_string()).is_file()
}

fn chunk_file(data: &Path, id: &ChunkId) -> PathBuf {
    data.join("chunks").join(format!("{:02x}", id.shard())).join(id.to_string())
}

fn invert(path: &Path) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let middle = file.metadata()?.len() / 2;
    let mut bytes = [0; DAMAGED_BYTES];
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
    fn damage_changes_bytes_and_no_length() {
        let folder = tempfile::TempDir::new().unwrap();
        for len in [1, 2, 1000] {
            let path = folder.path().join(len.to_string());
            fs::write(&path, vec![7; len]).unwrap();
            invert(&path).unwrap();
            let bytes = fs::read(&path).unwrap();
            let flipped = bytes.iter().filter(|byte| **byte != 7).count();
            assert!(bytes.len() == len && (1..=DAMAGED_BYTES).contains(&flipped), "{len}: {flipped}");
            invert(&path).unwrap();
            assert_eq!(fs::read(&path).unwrap(), vec![7; len], "and back");
        }
    }
}
