//! A cell's folder: its marker, its lock and what lies where.
//!
//! ```text
//! DATA/cellsync.cell   the marker, with the cell's name; without it the folder is no cell's
//!      lock            held by the one process that uses the folder
//!      chunks/00…ff/   a file for each chunk, exactly its bytes, named by their SHA-256
//!      tmp/            chunks and facts that are still coming; emptied at every start
//!      quarantine/     bad copies, for people to look at
//!      catalogue/      the rebuildable index; catalogue.bad is the last one that was set aside
//!      facts           what the cell must not forget, behind a line with its hash
//!      clean           what the shard folders hold, written at a clean stop and removed before the first change
//!      ballast         room that is given up so that the catalogue opens on a full disk
//! ```

// A shell: it waits for the lock of a process that is just ending.
#![allow(clippy::disallowed_methods)]

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::CellId;
use crate::id::ChunkId;
use crate::store::StoreError;
use crate::store::files::locked;

const MARKER: &str = "cellsync.cell";
const MARKER_NEW: &str = "cellsync.cell.new";
const MARKER_VERSION: u32 = 1;
/// A marker is a line; whatever is longer is none.
const MARKER_MAX_BYTES: u64 = 4096;
const LOCK: &str = "lock";
const CHUNKS: &str = "chunks";
const TMP: &str = "tmp";
const QUARANTINE: &str = "quarantine";

/// A restarted daemon can meet the lock of the one that is just ending.
const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Why a folder cannot be used as a cell's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder has no marker: it is not a cell's, or the disk that holds it is not mounted.
    #[error("{} is not a cell's folder: mount its disk, or run with --init to make a new cell there", dir.display())]
    NoMarker {
        /// The folder.
        dir: PathBuf,
    },
    /// Another process uses the folder.
    #[error("{} is in use by another process: stop that one, or give this cell a folder of its own", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// The marker is there but cannot be used.
    #[error("{}: {why}; use the version of CellSync that wrote it, or restore the file", path.display())]
    Marker {
        /// The marker.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A new cell was asked for in a folder that holds something else.
    #[error("{} is not empty: choose an empty folder for a new cell", dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder is another user's: what this process made in it, the other could not use.
    #[error(
        "{} belongs to user {owner} and this is user {user}: run as its owner, such as \
         runuser -u cellsync -- cellsync-node ..., or give it to this one with chown -R",
        dir.display()
    )]
    Owner {
        /// The folder.
        dir: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose what is made there would be.
        user: u32,
    },
    /// The disk failed or may not be used.
    #[error("{doing}: {source}; check the disk and the folder's permissions")]
    Disk {
        /// What was being done, with the path.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
}

impl OpenError {
    pub(super) fn disk(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let doing = format!("{doing} {}", path.display());
        move |source| Self::Disk { doing, source }
    }
}

impl StoreError {
    /// For `map_err`: the disk failed while `doing` something with `path`.
    pub(super) fn disk(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let doing = format!("{doing} {}", path.display());
        move |source| Self::Disk { doing, source }
    }
}

#[derive(Serialize, Deserialize)]
struct Marker {
    version: u32,
    node_id: CellId,
}

/// A cell's folder, locked for this process.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    cell: Mutex<CellId>,
    /// Held, not used: closing it lets the next process in.
    _lock: File,
}

impl Folder {
    /// Makes an empty folder a cell's, or leaves a cell's folder as it is. Returns the name in the marker,
    /// and whether it is new.
    pub(super) fn init(root: &Path, cell: CellId) -> Result<(CellId, bool), OpenError> {
        fs::create_dir_all(root).map_err(OpenError::disk("making", root))?;
        if let Some(marker) = read_marker(root)? {
            return Ok((marker.node_id, false));
        }
        is_ours(root)?;
        if !empty_or_half_made(root).map_err(OpenError::disk("listing", root))? {
            return Err(OpenError::NotEmpty { dir: root.to_owned() });
        }
        make_folders(root)?;
        write_marker(root, cell).map_err(OpenError::disk("making the marker in", root))?;
        if let Some(parent) = root.canonicalize().ok().as_deref().and_then(Path::parent) {
            sync_folder(parent).map_err(OpenError::disk("fsync of", parent))?;
        }
        Ok((cell, true))
    }

    /// Locks a cell's folder, makes what is missing in it and throws away what was left half-written.
    pub(super) fn open(root: &Path) -> Result<Self, OpenError> {
        // Read before anything is written: what lacks a marker may be the mount point of a disk that is not there.
        if read_marker(root)?.is_none() {
            return Err(OpenError::NoMarker { dir: root.to_owned() });
        }
        is_ours(root)?;
        let lock = take_lock(root)?;
        let Some(marker) = read_marker(root)? else { return Err(OpenError::NoMarker { dir: root.to_owned() }) };
        make_folders(root)?;
        for name in [CHUNKS, TMP, QUARANTINE] {
            is_ours(&root.join(name))?;
        }
        let folder = Self { root: root.to_owned(), cell: Mutex::new(marker.node_id), _lock: lock };
        empty(&folder.tmp()).map_err(OpenError::disk("emptying", &folder.tmp()))?;
        Ok(folder)
    }

    pub(super) fn cell(&self) -> CellId {
        *locked(&self.cell)
    }

    pub(super) fn set_cell(&self, cell: CellId) -> Result<(), StoreError> {
        let mut current = locked(&self.cell);
        write_marker(&self.root, cell).map_err(StoreError::disk("replacing the marker in", &self.root))?;
        *current = cell;
        Ok(())
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.root.join(TMP)
    }

    pub(super) fn quarantine(&self) -> PathBuf {
        self.root.join(QUARANTINE)
    }

    pub(super) fn shard(&self, number: u8) -> PathBuf {
        shard_path(&self.root, number)
    }

    pub(super) fn chunk(&self, id: &ChunkId) -> PathBuf {
        self.shard(id.shard()).join(id.to_string())
    }
}

/// May this process make files in a folder, and are they its owner's? A cell that cannot store shall not open its door; and
/// one that somebody starts as root shall not leave files that the cell's user cannot change. The disk tells: where all files
/// have one owner, as on a stick with FAT, anybody who may write will do.
fn is_ours(folder: &Path) -> Result<(), OpenError> {
    let trial = match tempfile::tempfile_in(folder) {
        Ok(trial) => trial,
        // A full cell serves what it has.
        Err(e) if matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => return Ok(()),
        Err(e) => return Err(OpenError::disk("making a file in", folder)(e)),
    };
    let whose =
        |data: io::Result<fs::Metadata>| data.map_err(OpenError::disk("looking at", folder)).map(|data| data.uid());
    let (owner, user) = (whose(fs::metadata(folder))?, whose(trial.metadata())?);
    if owner == user { Ok(()) } else { Err(OpenError::Owner { dir: folder.to_owned(), owner, user }) }
}

/// Makes what was renamed, made or removed in a folder survive a power cut.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Replaces a small file so that a power cut leaves the old one or the new one, whole.
pub(super) fn replace_file(root: &Path, new: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = root.join(new);
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, root.join(name))?;
    sync_folder(root)
}

fn shard_path(root: &Path, number: u8) -> PathBuf {
    root.join(CHUNKS).join(format!("{number:02x}"))
}

fn read_marker(root: &Path) -> Result<Option<Marker>, OpenError> {
    let path = root.join(MARKER);
    let mut text = Vec::new();
    match File::open(&path) {
        Ok(file) => file.take(MARKER_MAX_BYTES).read_to_end(&mut text).map_err(OpenError::disk("reading", &path))?,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(OpenError::disk("opening", &path)(e)),
    };
    let marker: Marker = match serde_json::from_slice(&text) {
        Ok(marker) => marker,
        Err(e) => return Err(OpenError::Marker { path, why: format!("not a cell's marker ({e})") }),
    };
    if marker.version != MARKER_VERSION {
        return Err(OpenError::Marker { path, why: format!("version {} is not known here", marker.version) });
    }
    Ok(Some(marker))
}

fn write_marker(root: &Path, cell: CellId) -> io::Result<()> {
    let mut text = serde_json::to_vec(&Marker { version: MARKER_VERSION, node_id: cell })?;
    text.push(b'\n');
    replace_file(root, MARKER_NEW, MARKER, &text)
}

fn make_folders(root: &Path) -> Result<(), OpenError> {
    let chunks = root.join(CHUNKS);
    let mut count = 0;
    let mut make = |path: &Path| match fs::create_dir(path) {
        Ok(()) => {
            count += 1;
            Ok(())
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(e) => Err(OpenError::disk("making", path)(e)),
    };
    for name in [CHUNKS, TMP, QUARANTINE] {
        make(&root.join(name))?;
    }
    for number in 0..=u8::MAX {
        make(&shard_path(root, number))?;
    }
    if count > 0 {
        for folder in [chunks.as_path(), root] {
            sync_folder(folder).map_err(OpenError::disk("fsync of", folder))?;
        }
    }
    Ok(())
}

/// Nothing here but what a fresh file system has, or what an `init` that was cut short left?
fn empty_or_half_made(root: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        let harmless = match name.to_str() {
            Some("lost+found") => true,
            Some(MARKER_NEW | LOCK) => entry.file_type()?.is_file(),
            Some(TMP | QUARANTINE) => entry.file_type()?.is_dir() && is_empty(&entry.path())?,
            Some(CHUNKS) => entry.file_type()?.is_dir() && holds_only_empty_folders(&entry.path())?,
            _ => false,
        };
        if !harmless {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_empty(path: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(path)?.next().is_none())
}

fn holds_only_empty_folders(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() || !is_empty(&entry.path())? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn take_lock(root: &Path) -> Result<File, OpenError> {
    let path = root.join(LOCK);
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(OpenError::disk("opening", &path))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(e)) => return Err(OpenError::disk("locking", &path)(e)),
        }
    }
    Err(OpenError::Locked { dir: root.to_owned() })
}

fn empty(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
