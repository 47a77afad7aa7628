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

mod capacity;
mod catalogue;
mod change;
mod clean_stop;
mod folder;
mod index_writer;
mod quarantine;
mod record;
mod shard;
mod staging;
mod state_file;
mod verify;

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::slice;
use std::sync::{Arc, RwLockReadGuard};
use std::thread::{self, JoinHandle};

use crate::id::CellId;
use crate::id::{ChunkId, MAX_CHUNK_BYTES};
use crate::sync::lock as locked;

use crate::store::files::capacity::Room;
use crate::store::files::catalogue::{Catalogue, CatalogueError};
use crate::store::files::change::Change;
use crate::store::files::clean_stop::Clean;
use crate::store::files::folder::{Folder, sync_folder};
use crate::store::files::record::Known;
use crate::store::files::shard::{Held, Named, Shard};
use crate::store::files::staging::{Incoming, disk_or_full};
use crate::store::files::state_file::Facts;
use crate::store::{CopyState, MAX_HOLDERS, OpenChunk, PutMetadata, PutOutcome, Record, Store, StoreError, Usage};

pub use crate::store::files::catalogue::panic_is_caught;
pub use crate::store::files::folder::OpenError;

/// How a store uses its disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Bytes of the disk kept free for others. `None`: 1 GiB or 5 % of the disk, the smaller.
    pub reserve_bytes: Option<u64>,
    /// Bytes that all chunks together may take. `None`: what the reserve leaves.
    pub quota_bytes: Option<u64>,
    /// Bytes of memory for the catalogue's cache. 4 MiB serve 100,000 chunks; more only quickens lookups of records.
    pub cache_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { reserve_bytes: None, quota_bytes: None, cache_bytes: 4 << 20 }
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
    desk: index_writer::Desk,
    shards: Vec<Shard>,
    clean: Clean,
    facts: Facts,
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
    pub fn open(dir: &Path, options: &StoreOptions) -> Result<Self, OpenError> {
        let folder = Folder::open(dir)?;
        let (clean, held) = Clean::read(dir);
        if held.is_none() {
            sync_all(&folder).map_err(OpenError::disk("syncing", dir))?;
        }
        let room = Arc::new(Room::new(dir, options.reserve_bytes, options.quota_bytes));
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
        let facts = Facts::new(dir);
        let inner =
            Arc::new(Inner { catalogue, desk: index_writer::Desk::default(), shards, clean, facts, room, folder });
        let keeper = thread::Builder::new().name("store-keeper".to_owned()).spawn({
            let inner = Arc::clone(&inner);
            move || index_writer::run(&inner, started.is_ok())
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

    /// What the catalogue and what waits for it tell of each of these.
    fn known(&self, ids: &[ChunkId]) -> Vec<Option<Record>> {
        // Asked first: what is written down in between is in the catalogue then.
        let left = self.desk.left(ids);
        let known = match self.catalogue.get(ids) {
            Ok(known) => known,
            Err(CatalogueError::Closed) => vec![None; ids.len()],
            Err(e) => {
                self.desk.report(e);
                vec![None; ids.len()]
            }
        };
        let now = |((id, left), known): ((&ChunkId, Option<Change>), Option<Known>)| match left {
            Some(change) => change.after(known, || index_writer::found(self, id)),
            None => known,
        };
        ids.iter().zip(left).zip(known).map(now).map(|known| Some(known?.record)).collect()
    }

    /// To be held until what is changed is durable: until then no note of a clean stop may be written.
    fn begin_change(&self) -> Result<RwLockReadGuard<'_, bool>, StoreError> {
        self.clean.begin_change().map_err(StoreError::disk("beginning to change", self.folder.root()))
    }

    /// Takes a chunk out of its folder by `how`, which tells whether it did. The caller has begun a change, and fsyncs
    /// the folder.
    fn take_out(
        &self,
        id: &ChunkId,
        doing: &str,
        how: impl FnOnce(&Path) -> io::Result<bool>,
    ) -> Result<Option<&Shard>, StoreError> {
        let shard = self.shard(id);
        let taken = shard.take_out(id, |file| {
            let taken = how(file)?;
            if taken {
                // In here, so that it comes before whatever a put of the chunk leaves from now on.
                self.desk.leave(id, Change::Remove);
            }
            Ok(taken)
        });
        let taken = taken.map_err(StoreError::disk(doing, &self.folder.chunk(id)))?;
        Ok(taken.then_some(shard))
    }

    /// Reads and checks the body of a chunk that was found here.
    fn put_again(&self, id: &ChunkId, len: u64, body: &mut dyn Read) -> Result<(), StoreError> {
        check(Some(id), staging::hash(body, len, |_| Ok(()))?)?;
        let path = self.folder.chunk(id);
        match self.shard(id).find(id, len).map_err(StoreError::disk("looking for", &path))? {
            Some(named) => self.settle(id, len, &named),
            None => Err(StoreError::disk("keeping", &path)(io::Error::other("it was set aside meanwhile"))),
        }
    }

    fn put_new(
        &self,
        expected: Option<&ChunkId>,
        len: u64,
        body: &mut dyn Read,
    ) -> Result<(ChunkId, PutOutcome), StoreError> {
        let _coming = self.room.claim(len)?;
        let mut incoming = Incoming::create(&self.folder.tmp(), len)?;
        let id = check(expected, incoming.fill(body)?)?;
        incoming.sync()?;
        // A copy that came meanwhile, or whose name nobody told: it stands for these bytes only if it is good.
        self.has_good(&id, len)?;
        let path = self.folder.chunk(&id);
        let _changing = self.begin_change()?;
        let published = self.shard(&id).publish(&id, len, incoming.path());
        let (put, named) = published.map_err(|e| disk_or_full(e, len, "renaming to", &path))?;
        if put == PutOutcome::Stored {
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
        metadata: &PutMetadata,
    ) -> Result<(ChunkId, PutOutcome), StoreError> {
        let inner = &self.inner;
        if len > MAX_CHUNK_BYTES as u64 {
            return Err(StoreError::TooLarge { len });
        }
        let here = match expected {
            Some(id) => inner.has_good(id, len)?.then_some(id),
            None => None,
        };
        let (id, put) = match here {
            Some(id) => inner.put_again(id, len, body).map(|()| (*id, PutOutcome::AlreadyPresent))?,
            None => inner.put_new(expected, len, body)?,
        };
        let mut metadata = metadata.clone();
        metadata.holders.truncate(MAX_HOLDERS);
        let record = Record { len, metadata, scrubbed_at_s: 0 };
        let change = if put == PutOutcome::Stored { Change::put(record) } else { Change::fill(record) };
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

    fn contains(&self, id: &ChunkId) -> Result<bool, StoreError> {
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
        let known = self.inner.known(slice::from_ref(id)).pop().flatten();
        Ok(known.map(|record| Record { len, ..record }))
    }

    fn records(&self, after: Option<&ChunkId>, limit: usize) -> Result<Vec<(ChunkId, Record)>, StoreError> {
        let mut after = after.copied();
        loop {
            let ids = self.list(after.as_ref(), limit)?;
            let Some(last) = ids.last().copied() else { return Ok(Vec::new()) };
            let known = self.inner.known(&ids);
            // One whose file is gone by now is left out.
            let record = |(id, known): (ChunkId, Option<Record>)| {
                known.or_else(|| index_writer::found(&self.inner, &id)).map(|record| (id, record))
            };
            let records: Vec<_> = ids.into_iter().zip(known).filter_map(record).collect();
            if !records.is_empty() {
                return Ok(records);
            }
            after = Some(last);
        }
    }

    fn set_holders(&self, id: &ChunkId, holders: &[CellId]) {
        let holders = holders.iter().take(MAX_HOLDERS).copied().collect();
        self.inner.desk.leave(id, Change::holders(holders));
    }

    fn usage(&self) -> Usage {
        self.inner.room.usage()
    }

    fn verify(&self, id: &ChunkId) -> Result<CopyState, StoreError> {
        self.inner.verify(id)
    }

    fn quarantine(&self, id: &ChunkId) -> Result<bool, StoreError> {
        self.inner.set_aside(id, |_| true)
    }

    fn remove(&self, id: &ChunkId) -> Result<bool, StoreError> {
        let _changing = self.inner.begin_change()?;
        let removed = self.inner.take_out(id, "removing", |file| fs::remove_file(file).map(|()| true))?;
        if let Some(shard) = removed {
            shard.sync().map_err(StoreError::disk("fsync of", &self.inner.folder.shard(id.shard())))?;
        }
        Ok(removed.is_some())
    }

    fn save_state(&self, state: &[u8]) -> Result<(), StoreError> {
        self.inner.facts.keep(state, &self.inner.room)
    }

    fn load_state(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.facts.kept()
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
