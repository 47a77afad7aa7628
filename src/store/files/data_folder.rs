//! A cell's data folder: creates it, checks that this process may use it, locks it, and names the paths in it.

// A shell: it waits for the lock of a process that is about to end.
#![allow(clippy::disallowed_methods)]

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use rustix::fs::{Advice, fadvise};

use crate::id::{CellId, ChunkId};
use crate::store::contract::StoreError;
use crate::store::damage::is_damage;
use crate::store::files::errors::OpenError;
#[cfg(test)]
use crate::store::files::faults::{self, Operation};
use crate::store::files::fs::sync_folder;
use crate::store::files::marker;
use crate::sync::lock;

const LOCK: &str = "lock";
const CHUNKS: &str = "chunks";
const TMP: &str = "tmp";
const QUARANTINE: &str = "quarantine";

/// The type that statfs reports for file systems in user space. syncfs succeeds there without reaching the file system.
const FUSE: u64 = 0x6573_5546;

/// How the names of trial files begin where files without a name cannot be created.
const TRIAL_PREFIX: &str = ".tmp";

/// What is written to try the disk.
const TRIAL: &[u8; 5] = b"trial";

/// A restarted daemon can meet the lock of the one that is about to end: it retries for two seconds.
const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// A cell's data folder, locked by this process.
#[derive(Debug)]
pub(super) struct DataFolder {
    root: PathBuf,
    cell: Mutex<CellId>,
    /// Why the disk could not be written to when the folder was opened.
    write_error: Option<io::Error>,
    /// Closing the file releases the lock.
    _lock: File,
}

impl DataFolder {
    /// Makes an empty folder a cell's, or leaves a cell's folder as it is. Returns the cell's id and whether it is new.
    pub(super) fn init(root: &Path, cell: CellId) -> Result<(CellId, bool), OpenError> {
        fs::create_dir_all(root).map_err(OpenError::disk("create", root))?;
        if let Some(cell) = marker::read(root)? {
            return Ok((cell, false));
        }
        check_owner(root)?;
        if !is_empty_or_half_made(root).map_err(OpenError::disk("list", root))? {
            return Err(OpenError::NotEmpty { dir: root.to_owned() });
        }
        create_folders(root)?;
        // Before the marker: whoever finds that relies on the folder's own name too.
        sync_ancestors(root)?;
        marker::write(root, cell).map_err(OpenError::disk("write the marker in", root))?;
        Ok((cell, true))
    }

    /// Locks a cell's folder, creates missing folders in it and deletes half-written files. On a disk that cannot be
    /// written to it only locks the folder.
    pub(super) fn open(root: &Path) -> Result<Self, OpenError> {
        // Before anything is written: without a marker this can be the mount point of a disk that is not mounted.
        if marker::read(root)?.is_none() {
            return Err(OpenError::NoMarker { dir: root.to_owned() });
        }
        check_owner(root)?;
        let lock = take_lock(root)?;
        // Once more: the process that held the lock can have changed it.
        let Some(cell) = marker::read(root)? else { return Err(OpenError::NoMarker { dir: root.to_owned() }) };
        create_folders(root)?;
        let mut write_error = None;
        for name in [CHUNKS, TMP, QUARANTINE] {
            write_error = check_owner(&root.join(name))?.or(write_error);
        }
        let folder = Self { root: root.to_owned(), cell: Mutex::new(cell), write_error, _lock: lock };
        match empty(&folder.tmp()) {
            Err(e) if folder.write_error.is_none() => Err(OpenError::disk("empty", &folder.tmp())(e)),
            _ => Ok(folder),
        }
    }

    /// Why the disk could not be written to when the folder was opened, if it could not.
    pub(super) fn write_error(&self) -> Option<&io::Error> {
        self.write_error.as_ref()
    }

    /// Whether files can be created, made durable and read again, with the folder's owner.
    pub(super) fn try_writing(&self) -> Result<(), OpenError> {
        let tmp = self.tmp();
        #[cfg(test)]
        faults::meet(Operation::TryWriting, &tmp).map_err(OpenError::disk("write to", &tmp))?;
        if let Some(e) = check_owner(&tmp)? {
            return Err(OpenError::disk("create a file in", &tmp)(e));
        }
        let trial = tempfile::tempfile_in(&tmp).and_then(|mut trial| {
            trial.write_all(TRIAL)?;
            trial.sync_all()?;
            // From the disk, where the kernel can drop it from the page cache.
            let _ = fadvise(&trial, 0, None, Advice::DontNeed);
            let mut read = [0; TRIAL.len()];
            trial.rewind()?;
            trial.read_exact(&mut read)?;
            if read == *TRIAL { Ok(()) } else { Err(io::Error::other("what was written reads differently")) }
        });
        trial.map_err(OpenError::disk("write to", &tmp))
    }

    pub(super) fn cell_id(&self) -> CellId {
        *lock(&self.cell)
    }

    pub(super) fn set_cell_id(&self, cell: CellId) -> Result<(), StoreError> {
        let mut current = lock(&self.cell);
        marker::write(&self.root, cell).map_err(StoreError::disk("replace the marker in", &self.root))?;
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

    /// Makes all names in the folder durable, for a start after an unclean stop: the process can have been killed
    /// between a rename and its fsync, and a chunk that such a name shows must not vanish at the next power cut.
    pub(super) fn sync_all(&self) -> io::Result<()> {
        let root = File::open(&self.root)?;
        let is_fuse = rustix::fs::fstatfs(&root).is_ok_and(|disk| u64::try_from(disk.f_type) == Ok(FUSE));
        if rustix::fs::syncfs(root).is_ok() && !is_fuse {
            return Ok(());
        }
        (0..=u8::MAX).try_for_each(|number| sync_folder(&self.shard(number)))?;
        [self.quarantine(), self.root.join(CHUNKS), self.root.clone()].iter().try_for_each(|path| sync_folder(path))
    }
}

/// Checks that this process can create files in a folder, and that they get the folder's owner.
///
/// A cell that cannot store must not open its gateway, and one that is started as root by mistake must not leave files
/// that the cell's own user cannot change. A trial file shows both. Where all files have one owner, as on FAT, every
/// user with write access passes.
///
/// Returns why the disk cannot be written to, if it cannot: its chunks can be read.
fn check_owner(folder: &Path) -> Result<Option<io::Error>, OpenError> {
    let trial = match tempfile::tempfile_in(folder) {
        Ok(trial) => trial,
        // A full cell still serves its chunks, and so does one on a read-only disk.
        Err(e) if matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => return Ok(None),
        Err(e) if e.kind() == ErrorKind::ReadOnlyFilesystem || is_damage(&e) => return Ok(Some(e)),
        Err(e) => return Err(OpenError::disk("create a file in", folder)(e)),
    };
    let uid =
        |meta: io::Result<fs::Metadata>| meta.map_err(OpenError::disk("read the owner of", folder)).map(|m| m.uid());
    let (owner_uid, process_uid) = (uid(fs::metadata(folder))?, uid(trial.metadata())?);
    if owner_uid == process_uid {
        return Ok(None);
    }
    Err(OpenError::Owner { dir: folder.to_owned(), owner_uid, process_uid })
}

fn shard_path(root: &Path, number: u8) -> PathBuf {
    root.join(CHUNKS).join(format!("{number:02x}"))
}

fn create_folders(root: &Path) -> Result<(), OpenError> {
    let chunks = root.join(CHUNKS);
    let mut created = false;
    let mut create = |path: &Path| match fs::create_dir(path) {
        Ok(()) => {
            created = true;
            Ok(())
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(e) => Err(OpenError::disk("create", path)(e)),
    };
    for name in [CHUNKS, TMP, QUARANTINE] {
        create(&root.join(name))?;
    }
    for number in 0..=u8::MAX {
        create(&shard_path(root, number))?;
    }
    if created {
        for folder in [chunks.as_path(), root] {
            sync_folder(folder).map_err(OpenError::disk("fsync", folder))?;
        }
    }
    Ok(())
}

/// Makes the name of a folder durable, and those of the folders above it on the same disk: some can be new, also from
/// an earlier attempt that was interrupted. Those that this user may not open are somebody else's, and older.
fn sync_ancestors(root: &Path) -> Result<(), OpenError> {
    let root = root.canonicalize().map_err(OpenError::disk("find", root))?;
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    for folder in root.ancestors().skip(1).take_while(|folder| device(folder) == device(&root)) {
        match sync_folder(folder) {
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {}
            synced => synced.map_err(OpenError::disk("fsync", folder))?,
        }
    }
    Ok(())
}

/// Whether a folder holds only what a fresh file system has and what an interrupted `init` leaves behind.
fn is_empty_or_half_made(root: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        let harmless = match name.to_str() {
            Some("lost+found") => true,
            Some(marker::MARKER_TEMPORARY | LOCK) => entry.file_type()?.is_file(),
            Some(TMP | QUARANTINE) => entry.file_type()?.is_dir() && is_empty(&entry.path())?,
            Some(CHUNKS) => entry.file_type()?.is_dir() && holds_only_empty_folders(&entry.path())?,
            Some(name) if name.starts_with(TRIAL_PREFIX) => {
                let meta = entry.metadata()?;
                meta.is_file() && meta.len() == 0
            }
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
    let file = match File::options().create(true).write(true).truncate(false).open(&path) {
        // A file that is open for reading can be locked as well.
        Err(e) if e.kind() == ErrorKind::ReadOnlyFilesystem || is_damage(&e) => File::open(&path),
        opened => opened,
    };
    let file = file.map_err(OpenError::disk("open", &path))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(e)) => return Err(OpenError::disk("lock", &path)(e)),
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
