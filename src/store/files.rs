//! A store on a disk: chunk bytes in files, what is known about them in a catalogue.
//!
//! ```text
//!  body ──64 KiB at a time──▶ tmp/n ──fdatasync──▶ rename ──▶ chunks/ab/<id> ──fsync of chunks/ab──▶ Ok
//!            │ SHA-256                                                      (one for many)    │
//!            └──────▶ the name                                     record ──▶ keeper ──▶ catalogue (no waiting)
//! ```
//!
//! The file alone makes a chunk exist: `sha256sum` of it is its name, and `open`, `has` and `list` ask the folders,
//! never the catalogue. A put of a chunk that is here hashes the file first: a damaged copy goes into quarantine, and
//! the body is stored in its place. Whatever becomes of the catalogue, it is made anew from the files.

mod catalogue;
mod clean;
mod folder;
mod incoming;
mod keeper;
mod quarantine;
mod record;
mod room;
mod shard;

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::chunk::{ChunkId, MAX_CHUNK_BYTES};
use crate::wire::CellId;

use super::{MAX_HOLDERS, Note, OpenChunk, Put, Record, Store, StoreError, Usage};
use catalogue::{Catalogue, CatalogueError, Change};
use clean::Clean;
use folder::{Folder, sync_folder};
use incoming::{Incoming, disk_or_full};
use room::Room;
use shard::{Held, Named, Shard};

pub use catalogue::panic_is_caught;
pub use folder::OpenError;

/// How a store uses its disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Bytes of the disk kept free for others. `None`: 1 GiB or 5 % of the disk, the smaller.
    pub reserve: Option<u64>,
    /// Bytes that all chunks together may take. `None`: what the reserve leaves.
    pub quota: Option<u64>,
    /// Bytes of memory for the catalogue's cache. 4 MiB serve 100,000 chunks; more only quickens lookups of records.
    pub cache_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { reserve: None, quota: None, cache_bytes: 4 << 20 }
    }
}

/// A store in a folder.
pub struct FileStore {
    inner: Arc<Inner>,
    keeper: Option<JoinHandle<()>>,
}

/// Dropped in this order: the catalogue is closed before the lock is let go of.
struct Inner {
    catalogue: Catalogue,
    desk: keeper::Desk,
    shards: Vec<Shard>,
    clean: Clean,
    room: Arc<Room>,
    folder: Folder,
}

impl FileStore {
    /// Makes a new cell in an empty folder, which is made if it is missing. A folder that is a cell's already stays
    /// as it is. Returns the name of the cell that lives there now.
    pub fn init(dir: &Path, cell: CellId) -> Result<CellId, OpenError> {
        let (here, new) = Folder::init(dir, cell)?;
        if new {
            Clean::read(dir).0.write(|| vec![Held::default(); 256]).map_err(OpenError::disk("writing to", dir))?;
        }
        Ok(here)
    }

    /// Opens a cell's folder and holds its lock until dropped. In the background the files are counted and compared
    /// with the catalogue.
    pub fn open(dir: &Path, options: &Options) -> Result<Self, OpenError> {
        let folder = Folder::open(dir)?;
        let (clean, held) = Clean::read(dir);
        if held.is_none() {
            sync_all(&folder).map_err(OpenError::disk("syncing", dir))?;
        }
        let room = Arc::new(Room::new(dir, options.reserve, options.quota));
        room.take_on_ballast();
        let shards = shard::all(&folder, &room);
        if let Some(held) = held {
            for (shard, held) in shards.iter().zip(held) {
                shard.trust(held);
            }
            room.set_counted();
        }
        let catalogue = Catalogue::new(dir, options.cache_bytes);
        let started = catalogue.start(&room, false);
        if let Err(e) = &started {
            log::warn!("the catalogue in {} is shut for now: {e}", dir.display());
        }
        let inner = Arc::new(Inner { catalogue, desk: keeper::Desk::default(), shards, clean, room, folder });
        let keeper = thread::Builder::new().name("store-keeper".to_owned()).spawn({
            let inner = Arc::clone(&inner);
            move || keeper::run(&inner, started.is_ok())
        });
        let keeper = keeper.map_err(OpenError::disk("starting the keeper of", dir))?;
        Ok(Self { inner, keeper: Some(keeper) })
    }

    /// The name of the cell whose folder this is.
    pub fn cell_id(&self) -> CellId {
        self.inner.folder.cell()
    }

    /// Gives the cell another name, durably: for one that shares its name with another, as after copying a card.
    pub fn set_cell_id(&self, cell: CellId) -> Result<(), StoreError> {
        self.inner.folder.set_cell(cell)
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        if !self.inner.desk.stop() {
            log::warn!("the catalogue in {} does not answer and is left behind", self.inner.folder.root().display());
        } else if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

impl Inner {
    #[allow(clippy::indexing_slicing)] // There are 256, one for each value of a byte.
    fn shard(&self, id: &ChunkId) -> &Shard {
        &self.shards[usize::from(id.shard())]
    }

    fn settle(&self, id: &ChunkId, len: u64, named: &Named) -> Result<(), StoreError> {
        let shard = self.shard(id);
        shard.settle(named).map_err(|e| disk_or_full(e, len, "fsync of", &self.folder.shard(id.shard())))
    }

    /// Is a good copy of this length here? Looks at every byte of it; a damaged one goes into quarantine.
    fn has_good(&self, id: &ChunkId, len: u64) -> Result<bool, StoreError> {
        let path = self.folder.chunk(id);
        if shard::file_len(&path).map_err(StoreError::disk("looking for", &path))? != Some(len) {
            return Ok(false);
        }
        let mut file = match open_quietly(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(StoreError::disk("opening", &path)(e)),
        };
        // What cannot be read is as bad as what is not what it should be.
        if incoming::hash(&mut file, len, |_| Ok(())).is_ok_and(|found| found == *id) {
            return Ok(true);
        }
        let seen = file.metadata().map_err(StoreError::disk("looking at", &path))?;
        // While it was read another may have stored good bytes in its place. The open file keeps its number from being
        // given to a new one.
        if self.set_aside(id, |now| now.ino() == seen.ino() && now.dev() == seen.dev())? {
            log::warn!("the copy of chunk {} was damaged and is in quarantine now", id.short());
        }
        Ok(false)
    }

    /// Moves a chunk's file into quarantine, durably, if it is here and `is` the one that is meant.
    fn set_aside(&self, id: &ChunkId, is: impl FnOnce(&Metadata) -> bool) -> Result<bool, StoreError> {
        let place = self.folder.quarantine();
        let _changing =
            self.clean.begin_change().map_err(StoreError::disk("beginning to change", self.folder.root()))?;
        let shard = self.shard(id);
        let moved = shard.take_out(id, |file| {
            let meant = is(&fs::symlink_metadata(file)?);
            if meant {
                quarantine::admit(&place, file)?;
                // In here, so that it comes before whatever a put of the chunk leaves from now on.
                self.desk.leave(id, Change::Remove);
            }
            Ok(meant)
        });
        if !moved.map_err(StoreError::disk("moving a bad copy to", &place))? {
            return Ok(false);
        }
        // The new name first: a power cut between the two leaves the copy in one place or the other.
        sync_folder(&place).and_then(|()| shard.sync()).map_err(StoreError::disk("fsync of", &place))?;
        quarantine::trim(&place).map_err(StoreError::disk("tidying", &place))?;
        Ok(true)
    }

    /// Reads and checks the body of a chunk that was found here.
    fn put_again(&self, id: &ChunkId, len: u64, body: &mut dyn Read) -> Result<(), StoreError> {
        check(Some(id), incoming::hash(body, len, |_| Ok(()))?)?;
        let path = self.folder.chunk(id);
        match self.shard(id).find(id, len).map_err(StoreError::disk("looking for", &path))? {
            Some(named) => self.settle(id, len, &named),
            None => Err(StoreError::disk("keeping", &path)(io::Error::other("it was set aside meanwhile"))),
        }
    }

    fn put_new(&self, expected: Option<&ChunkId>, len: u64, body: &mut dyn Read) -> Result<(ChunkId, Put), StoreError> {
        let _coming = self.room.claim(len)?;
        let mut incoming = Incoming::create(&self.folder.tmp(), len)?;
        let id = check(expected, incoming.fill(body)?)?;
        incoming.sync()?;
        // A copy that came meanwhile, or whose name nobody told: it stands for these bytes only if it is good.
        self.has_good(&id, len)?;
        let path = self.folder.chunk(&id);
        let _changing =
            self.clean.begin_change().map_err(StoreError::disk("beginning to change", self.folder.root()))?;
        let published = self.shard(&id).publish(&id, len, incoming.path());
        let (put, named) = published.map_err(|e| disk_or_full(e, len, "renaming to", &path))?;
        if put == Put::Stored {
            incoming.keep();
        }
        self.settle(&id, len, &named)?;
        Ok((id, put))
    }
}

/// Opens for reading without noting the time of it in the file system, which would be a write. Only the owner of a
/// file may ask for that; others read it in the ordinary way.
fn open_quietly(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(rustix::fs::OFlags::NOATIME.bits()).map_err(io::Error::other)?;
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => File::open(path),
        opened => opened,
    }
}

impl Store for FileStore {
    fn put(
        &self,
        expected: Option<&ChunkId>,
        len: u64,
        body: &mut dyn Read,
        note: &Note,
    ) -> Result<(ChunkId, Put), StoreError> {
        let inner = &self.inner;
        if len > MAX_CHUNK_BYTES as u64 {
            return Err(StoreError::TooLarge { len });
        }
        let here = match expected {
            Some(id) => inner.has_good(id, len)?.then_some(id),
            None => None,
        };
        let (id, put) = match here {
            Some(id) => inner.put_again(id, len, body).map(|()| (*id, Put::AlreadyHere))?,
            None => inner.put_new(expected, len, body)?,
        };
        let mut note = note.clone();
        note.holders.truncate(MAX_HOLDERS);
        let record = Record { len, note, scrubbed_at_s: 0 };
        let change = if put == Put::Stored { Change::Put(record) } else { Change::Fill(record) };
        inner.desk.leave(&id, change);
        Ok((id, put))
    }

    fn open(&self, id: &ChunkId) -> Result<Option<OpenChunk>, StoreError> {
        let path = self.inner.folder.chunk(id);
        let file = match open_quietly(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StoreError::disk("opening", &path)(e)),
        };
        let meta = file.metadata().map_err(StoreError::disk("looking at", &path))?;
        if !meta.is_file() {
            return Ok(None);
        }
        Ok(Some(OpenChunk { len: meta.len(), reader: Box::new(Exactly { file, left: meta.len() }) }))
    }

    fn has(&self, id: &ChunkId) -> Result<bool, StoreError> {
        let path = self.inner.folder.chunk(id);
        Ok(shard::file_len(&path).map_err(StoreError::disk("looking for", &path))?.is_some())
    }

    fn list(&self, after: Option<&ChunkId>, limit: usize) -> Result<Vec<ChunkId>, StoreError> {
        let mut found = Vec::new();
        for number in after.map_or(0, ChunkId::shard)..=u8::MAX {
            if found.len() >= limit {
                break;
            }
            let Some(shard) = self.inner.shards.get(usize::from(number)) else { break };
            let path = self.inner.folder.shard(number);
            found.extend(shard.ids(after).map_err(StoreError::disk("listing", &path))?);
        }
        found.truncate(limit);
        Ok(found)
    }

    fn record(&self, id: &ChunkId) -> Result<Option<Record>, StoreError> {
        let path = self.inner.folder.chunk(id);
        let Some(len) = shard::file_len(&path).map_err(StoreError::disk("looking for", &path))? else {
            return Ok(None);
        };
        let left = self.inner.desk.left(id);
        if let Some(Change::Put(record)) = left {
            return Ok(Some(record));
        }
        let known = match self.inner.catalogue.get(id) {
            Ok(known) => known,
            Err(CatalogueError::Closed) => None,
            Err(e) => {
                self.inner.desk.report(e);
                None
            }
        };
        let known = match (known, left) {
            (Some(known), Some(Change::Fill(record))) if catalogue::only_found(&known) => Some(record),
            (None, Some(Change::Fill(record))) => Some(record),
            (known, _) => known,
        };
        Ok(known.map(|record| Record { len, ..record }))
    }

    fn usage(&self) -> Usage {
        self.inner.room.usage()
    }

    fn quarantine(&self, id: &ChunkId) -> Result<bool, StoreError> {
        self.inner.set_aside(id, |_| true)
    }

    fn flush(&self) -> Result<(), StoreError> {
        let inner = &self.inner;
        let flushed = inner.desk.flush();
        if inner.room.counted() {
            let held = || inner.shards.iter().map(Shard::held).collect();
            inner.clean.write(held).map_err(StoreError::disk("noting the clean stop in", inner.folder.root()))?;
        }
        flushed
    }
}

/// Reads a file of known length, or fails.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (&self.file).take(self.left).read(buffer)?;
        if count == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the chunk's file became shorter"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn check(expected: Option<&ChunkId>, found: ChunkId) -> Result<ChunkId, StoreError> {
    match expected {
        Some(expected) if *expected != found => Err(StoreError::WrongHash { expected: *expected, found }),
        _ => Ok(found),
    }
}

/// After an unclean stop names may be seen that a power cut would still take away: the process was killed between the
/// rename and the fsync. Whoever finds such a chunk here must be able to rely on it.
fn sync_all(folder: &Folder) -> io::Result<()> {
    if rustix::fs::syncfs(File::open(folder.root())?).is_ok() {
        return Ok(());
    }
    (0..=u8::MAX).try_for_each(|number| sync_folder(&folder.shard(number)))
}

/// A panic elsewhere leaves nothing here half-changed.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
