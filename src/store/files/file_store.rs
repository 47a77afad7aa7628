//! A store in a data folder: opens and closes it, and fulfils the [`Store`] contract by its parts.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::slice;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::id::{CellId, ChunkId, MAX_HOLDERS};
use crate::store::contract::{CopyState, OpenChunk, PutMetadata, PutOutcome, Record, Store, StoreError, Usage};
use crate::store::damage::is_damage;
use crate::store::files::capacity::{Capacity, ShardUsage};
use crate::store::files::catalogue::{self, Catalogue};
use crate::store::files::catalogue_writer;
use crate::store::files::change::Change;
use crate::store::files::change_queue::ChangeQueue;
use crate::store::files::clean_stop::CleanStop;
use crate::store::files::data_folder::DataFolder;
use crate::store::files::errors::OpenError;
use crate::store::files::fs::{file_len, open_without_atime};
use crate::store::files::inner::Inner;
use crate::store::files::quarantine::Quarantine;
use crate::store::files::shard::{self, Shard};
use crate::store::files::state_file::StateFile;

/// How a store uses its disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Bytes of the disk to keep free for others. `None`: 1 GiB or 5 % of the disk, whichever is smaller.
    pub reserve_bytes: Option<u64>,
    /// The most bytes that all chunks together may take. `None`: whatever the reserve leaves.
    pub quota_bytes: Option<u64>,
    /// Bytes of memory for the catalogue's cache. 4 MiB suffice for 100,000 chunks; more only speeds up record lookups.
    pub cache_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { reserve_bytes: None, quota_bytes: None, cache_bytes: 4 << 20 }
    }
}

/// A store in a data folder on a disk.
pub struct FileStore {
    pub(super) inner: Arc<Inner>,
    writer: Option<JoinHandle<()>>,
}

impl FileStore {
    /// Makes an empty folder a new cell's data folder, and creates it if it is missing. A folder that belongs to a cell
    /// already stays as it is. Returns the id of the cell that the folder belongs to now.
    pub fn init(dir: &Path, cell: CellId) -> Result<CellId, OpenError> {
        let (cell, is_new) = DataFolder::init(dir, cell)?;
        if is_new {
            let usages = || Some(vec![ShardUsage::default(); 256]);
            CleanStop::read(dir).0.write(usages).map_err(OpenError::disk("write to", dir))?;
        }
        Ok(cell)
    }

    /// Opens a cell's data folder, and holds its lock until dropped. Counts the files and reconciles the catalogue with
    /// them in the background.
    pub fn open(dir: &Path, options: &StoreOptions) -> Result<Self, OpenError> {
        let folder = DataFolder::open(dir)?;
        let (clean_stop, usages) = CleanStop::read(dir);
        let capacity = Arc::new(Capacity::new(dir, options.reserve_bytes, options.quota_bytes));
        if let Some(e) = folder.write_error() {
            capacity.set_read_only(e);
        }
        let shards = shard::all(&folder, &capacity);
        if usages.is_none() && !make_names_durable(&folder, &capacity) {
            shards.iter().for_each(Shard::set_all_unproven);
        }
        if !capacity.is_read_only() {
            capacity.create_ballast();
        }
        if let Some(usages) = usages {
            for (shard, usage) in shards.iter().zip(usages) {
                shard.set_usage(usage);
            }
            capacity.set_counted();
        }
        let catalogue = Catalogue::new(dir, options.cache_bytes);
        let started = catalogue.start(&capacity, false);
        if let Err(e) = &started {
            log::warn!("the catalogue of {} stays closed for now: {e}", dir.display());
        }
        let (queue, state_file) = (ChangeQueue::default(), StateFile::new(dir));
        let quarantine = Quarantine::new(folder.quarantine(), &capacity);
        let inner = Inner { catalogue, queue, shards, clean_stop, state_file, capacity, quarantine, folder };
        let inner = Arc::new(inner);
        let writer = thread::Builder::new().name("catalogue".to_owned()).spawn({
            let inner = Arc::clone(&inner);
            move || catalogue_writer::run(&inner, started.is_ok())
        });
        let writer = writer.map_err(OpenError::disk("start the catalogue writer of", dir))?;
        Ok(Self { inner, writer: Some(writer) })
    }

    /// The id of the cell that the folder belongs to.
    pub fn cell_id(&self) -> CellId {
        self.inner.folder.cell_id()
    }

    /// Gives the cell another id, durably: for two cells with the same id, as after copying a card.
    pub fn set_cell_id(&self, cell: CellId) -> Result<(), StoreError> {
        self.inner.folder.set_cell_id(cell)
    }

    /// After an error of the disk, the writer tries whether it can be written to.
    fn try_disk_after_error<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match &result {
            Err(StoreError::ReadOnly { .. }) => self.inner.queue.wake_writer(),
            Err(StoreError::Disk { source, .. })
                if is_damage(source) || source.kind() == ErrorKind::ReadOnlyFilesystem =>
            {
                self.inner.capacity.doubt_writing();
                self.inner.queue.wake_writer();
            }
            _ => {}
        }
        result
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        if !self.inner.queue.stop() {
            log::warn!("the catalogue of {} does not respond and is left open", self.inner.folder.root().display());
        } else if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
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
        self.try_disk_after_error(self.inner.put(expected, len, body, metadata))
    }

    fn open(&self, id: &ChunkId) -> Result<Option<OpenChunk>, StoreError> {
        let path = self.inner.folder.chunk(id);
        let file = match open_without_atime(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StoreError::disk("open", &path)(e)),
        };
        let meta = file.metadata().map_err(StoreError::disk("read the metadata of", &path))?;
        if !meta.is_file() {
            return Ok(None);
        }
        Ok(Some(OpenChunk { len: meta.len(), reader: Box::new(ExactReader { file, left: meta.len() }) }))
    }

    fn contains(&self, id: &ChunkId) -> Result<bool, StoreError> {
        let path = self.inner.folder.chunk(id);
        Ok(file_len(&path).map_err(StoreError::disk("find", &path))?.is_some())
    }

    fn list(&self, after: Option<&ChunkId>, limit: usize) -> Result<Vec<ChunkId>, StoreError> {
        let mut ids = Vec::new();
        for number in after.map_or(0, ChunkId::shard)..=u8::MAX {
            if ids.len() >= limit {
                break;
            }
            let Some(shard) = self.inner.shards.get(usize::from(number)) else { break };
            let path = self.inner.folder.shard(number);
            ids.extend(shard.ids(after).map_err(StoreError::disk("list", &path))?);
        }
        ids.truncate(limit);
        Ok(ids)
    }

    fn record(&self, id: &ChunkId) -> Result<Option<Record>, StoreError> {
        let path = self.inner.folder.chunk(id);
        let Some(len) = file_len(&path).map_err(StoreError::disk("find", &path))? else {
            return Ok(None);
        };
        let record = self.inner.records_of(slice::from_ref(id)).pop().flatten();
        Ok(record.map(|record| Record { len, ..record }))
    }

    fn records(&self, after: Option<&ChunkId>, limit: usize) -> Result<Vec<(ChunkId, Record)>, StoreError> {
        let mut after = after.copied();
        loop {
            let ids = self.list(after.as_ref(), limit)?;
            let Some(last) = ids.last().copied() else { return Ok(Vec::new()) };
            let records = self.inner.records_of(&ids);
            // A chunk that was removed since it was listed is left out.
            let with_id = |(id, record): (ChunkId, Option<Record>)| {
                record.or_else(|| self.inner.record_from_file(&id)).map(|record| (id, record))
            };
            let page: Vec<_> = ids.into_iter().zip(records).filter_map(with_id).collect();
            if !page.is_empty() {
                return Ok(page);
            }
            after = Some(last);
        }
    }

    fn set_holders(&self, id: &ChunkId, holders: &[CellId]) {
        let holders = holders.iter().take(MAX_HOLDERS).copied().collect();
        self.inner.queue.push(id, Change::holders(holders));
    }

    fn set_copies(&self, id: &ChunkId, copies: u8) {
        self.inner.queue.push(id, Change::copies(copies));
    }

    fn usage(&self) -> Usage {
        let usage = self.inner.capacity.usage();
        if usage.read_only {
            self.inner.queue.wake_writer();
        }
        usage
    }

    fn verify(&self, id: &ChunkId) -> Result<CopyState, StoreError> {
        self.inner.verify(id)
    }

    fn verify_finally(&self, id: &ChunkId) -> Result<CopyState, StoreError> {
        self.inner.verify_finally(id)
    }

    fn quarantine(&self, id: &ChunkId) -> Result<bool, StoreError> {
        self.try_disk_after_error(self.inner.quarantine_if(id, |_| true))
    }

    fn quarantined(&self, after: Option<&ChunkId>, limit: usize) -> Result<Vec<ChunkId>, StoreError> {
        let path = self.inner.folder.quarantine();
        self.inner.quarantine.ids(after, limit).map_err(StoreError::disk("list", &path))
    }

    fn restore(&self, id: &ChunkId) -> Result<bool, StoreError> {
        self.inner.restore(id)
    }

    fn remove(&self, id: &ChunkId) -> Result<bool, StoreError> {
        self.try_disk_after_error(self.inner.remove(id))
    }

    fn save_state(&self, state: &[u8]) -> Result<(), StoreError> {
        self.try_disk_after_error(self.inner.state_file.save(state, &self.inner.capacity))
    }

    fn load_state(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.state_file.load()
    }

    fn flush(&self) -> Result<(), StoreError> {
        let inner = &self.inner;
        let root = inner.folder.root();
        let flushed = inner.queue.flush();
        // What a failed fsync leaves open is not a clean stop: a power cut can change the counts.
        let usages = || {
            let is_clean = inner.capacity.is_counted() && inner.shards.iter().all(Shard::is_proven);
            is_clean.then(|| inner.shards.iter().map(Shard::usage).collect())
        };
        inner.clean_stop.write(usages).map_err(StoreError::disk("write the clean-stop note in", root))?;
        flushed.map_err(|e| StoreError::disk("flush", &root.join(catalogue::FOLDER))(io::Error::other(e)))
    }
}

/// After an unclean stop. Returns false if that fails, or if the disk cannot be written to.
fn make_names_durable(folder: &DataFolder, capacity: &Capacity) -> bool {
    let synced = folder.sync_all();
    if let Err(e) = &synced {
        log::error!("cannot fsync {}: {e}; check the disk", folder.root().display());
    }
    synced.is_ok() && !capacity.is_read_only()
}

/// Reads a file of known length, or fails.
struct ExactReader {
    file: File,
    left: u64,
}

impl Read for ExactReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (&self.file).take(self.left).read(buffer)?;
        if count == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the chunk's file became shorter"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}
