//! Listing the chunk files of one shard folder.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::FromStr;

use rustix::fs::{Dir, FileType};

use crate::id::ChunkId;
use crate::store::damage::is_damage;
use crate::store::files::fs::{file_len, open_without_atime};

/// Returns the ids in a shard folder that are greater than `after`, in ascending order.
///
/// The folder's access time is not updated: another cell's audit would otherwise keep this cell's disk awake.
pub(super) fn chunk_ids(folder: &Path, after: Option<&ChunkId>) -> io::Result<Vec<ChunkId>> {
    let mut ids = Vec::new();
    for entry in Dir::new(open_without_atime(folder)?)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        let Some(id) = id_of(folder, name) else { continue };
        if after.is_some_and(|after| id <= *after) {
            continue;
        }
        let is_file = match entry.file_type() {
            FileType::RegularFile => true,
            // Some file systems do not report the type here.
            FileType::Unknown => !matches!(chunk_file(&folder.join(name))?, ChunkFile::Missing),
            _ => false,
        };
        if is_file {
            ids.push(id);
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Returns the ids in a shard folder with the lengths of their files; `None` for a length that the disk cannot read.
pub(super) fn chunk_lens(folder: &Path) -> io::Result<Vec<(ChunkId, Option<u64>)>> {
    let mut lens = Vec::new();
    for id in chunk_ids(folder, None)? {
        match chunk_file(&folder.join(id.to_string()))? {
            ChunkFile::Readable(len) => lens.push((id, Some(len))),
            ChunkFile::Unreadable => lens.push((id, None)),
            ChunkFile::Missing => {}
        }
    }
    Ok(lens)
}

/// What the disk says about a chunk's file.
pub(super) enum ChunkFile {
    /// Its length.
    Readable(u64),
    /// There is one, and the disk cannot read its length.
    Unreadable,
    Missing,
}

pub(super) fn chunk_file(path: &Path) -> io::Result<ChunkFile> {
    match file_len(path) {
        Err(e) if is_damage(&e) => {
            log::warn!("cannot read the length of {}, check the disk: {e}", path.display());
            Ok(ChunkFile::Unreadable)
        }
        len => Ok(len?.map_or(ChunkFile::Missing, ChunkFile::Readable)),
    }
}

/// The id that a file's name states, if it is one that belongs in this folder.
fn id_of(folder: &Path, name: &OsStr) -> Option<ChunkId> {
    let name = name.to_str()?;
    let id = ChunkId::from_str(name).ok()?;
    name.starts_with(folder.file_name()?.to_str()?).then_some(id)
}
