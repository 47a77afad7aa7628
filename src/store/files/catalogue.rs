//! The catalogue: an index of records in sled. It can be rebuilt from the files, so no chunk depends on it.
//!
//! Only one thread writes (`catalogue_writer`). A failure or panic inside sled closes the catalogue; the writer then
//! opens it again, or sets it aside and rebuilds it from the files.

// A shell: it waits for a lock that sled's threads release late.
#![allow(clippy::disallowed_methods)]

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::Duration;

use crate::id::ChunkId;
use crate::store::contract::Record;
use crate::store::damage::is_damage;
use crate::store::files::capacity::Capacity;
use crate::store::files::change::Change;
use crate::store::files::panics::catch;
use crate::store::files::record::{self, CatalogueEntry};
use crate::sync;

/// The folder's name below the data folder.
pub(super) const FOLDER: &str = "catalogue";
const SET_ASIDE: &str = "catalogue.bad";
const CHUNKS: &str = "chunks";
const LAYOUT_KEY: &str = "layout";
const LAYOUT: &[u8] = &[1];

/// sled compacts its log only on the thread that also flushes it at this interval. The catalogue writer flushes when
/// there is something to write; an hour between sled's own flushes lets an idle cell's disk sleep.
const SLED_FLUSH_EVERY_MS: u64 = 3_600_000;

/// sled's lock is retried for two seconds.
const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Why the catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum CatalogueError {
    #[error(transparent)]
    Sled(#[from] sled::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is damaged")]
    Damaged,
    #[error("sled panicked")]
    Panicked,
    #[error("its layout is unknown")]
    Layout,
    #[error("it is closed")]
    Closed,
}

impl CatalogueError {
    /// Whether the catalogue's own files are at fault, and not the disk or its free space.
    pub(super) fn blames_files(&self) -> bool {
        match self {
            Self::Sled(sled::Error::Io(_)) | Self::Io(_) | Self::Closed => false,
            Self::Sled(_) | Self::Damaged | Self::Panicked | Self::Layout => true,
        }
    }
}

impl CatalogueError {
    /// Whether the disk could not read the catalogue. sled passes such an error on as text only.
    pub(super) fn is_unreadable(&self) -> bool {
        let (Self::Sled(sled::Error::Io(e)) | Self::Io(e)) = self else { return false };
        is_damage(e) || e.to_string().contains("Input/output error")
    }
}

/// What the catalogue holds for one shard.
#[derive(Default)]
pub(super) struct Listing {
    /// Chunks with a valid record, in ascending order.
    pub(super) ids: Vec<ChunkId>,
    /// Keys with anything else.
    pub(super) invalid_keys: Vec<sled::IVec>,
}

struct Open {
    db: sled::Db,
    chunks: sled::Tree,
    /// sled's flush does not reach the disk; an fdatasync of this file does.
    log: File,
}

pub(super) struct Catalogue {
    root: PathBuf,
    cache_bytes: u64,
    open: RwLock<Option<Arc<Open>>>,
}

impl Drop for Catalogue {
    fn drop(&mut self) {
        self.close();
    }
}

impl Catalogue {
    /// Makes a closed catalogue.
    pub(super) fn new(root: &Path, cache_bytes: u64) -> Self {
        Self { root: root.to_owned(), cache_bytes, open: RwLock::default() }
    }

    /// Opens the catalogue. One that does not open, or `is_damaged`, is set aside in favour of an empty one. One that the
    /// disk cannot read stays: a later attempt can succeed.
    pub(super) fn start(&self, capacity: &Capacity, is_damaged: bool) -> Result<(), CatalogueError> {
        // First: a catalogue that is open can still be read on a disk that cannot be written to.
        capacity.ensure_catalogue_can_open()?;
        self.close();
        let path = self.root.join(FOLDER);
        let opened = if is_damaged { Err(CatalogueError::Damaged) } else { self.try_open(&path) };
        let open = match opened {
            Ok(open) => open,
            Err(e) if e.is_unreadable() => return Err(e),
            Err(e) => {
                log::warn!("setting {} aside and rebuilding it from the chunk files: {e}", path.display());
                self.set_aside(&path)?;
                self.try_open(&path)?
            }
        };
        *sync::write(&self.open) = Some(Arc::new(open));
        Ok(())
    }

    pub(super) fn close(&self) {
        let open = sync::write(&self.open).take();
        let _ = catch(|| drop(open));
    }

    fn set_aside(&self, path: &Path) -> io::Result<()> {
        let aside = self.root.join(SET_ASIDE);
        if aside.exists() {
            fs::remove_dir_all(&aside)?;
        }
        fs::rename(path, &aside)
    }

    fn try_open(&self, path: &Path) -> Result<Open, CatalogueError> {
        remove_unfinished_snapshots(path)?;
        let config = || {
            sled::Config::new()
                .path(path)
                .cache_capacity(self.cache_bytes)
                .mode(sled::Mode::LowSpace)
                .use_compression(false)
                .flush_every_ms(Some(SLED_FLUSH_EVERY_MS))
        };
        let mut tries = 0;
        let db = loop {
            match catch_failure(|| Ok(config().open()?)) {
                Err(e) if is_locked(&e) && tries < LOCK_TRIES => thread::sleep(LOCK_PAUSE),
                result => break result?,
            }
            tries += 1;
        };
        catch_failure(|| {
            let chunks = db.open_tree(CHUNKS)?;
            match db.get(LAYOUT_KEY)? {
                Some(layout) if layout == LAYOUT => {}
                None if chunks.is_empty() => {
                    db.insert(LAYOUT_KEY, LAYOUT)?;
                }
                _ => return Err(CatalogueError::Layout),
            }
            Ok(Open { db, chunks, log: File::open(path.join("db"))? })
        })
    }

    /// Runs `work` on the open catalogue. A failure closes the catalogue until the next [`Self::start`].
    fn with<T>(&self, work: impl FnOnce(&Open) -> Result<T, CatalogueError>) -> Result<T, CatalogueError> {
        let open = sync::read(&self.open).clone();
        let open = open.ok_or(CatalogueError::Closed)?;
        let result = catch_failure(|| work(&open));
        if let Err(e) = &result {
            log::warn!("closing {}: {e}", self.root.join(FOLDER).display());
            self.close();
            let _ = catch(|| drop(open));
        }
        result
    }

    /// Returns the entries of these chunks, in the same order.
    pub(super) fn get(&self, ids: &[ChunkId]) -> Result<Vec<Option<CatalogueEntry>>, CatalogueError> {
        self.with(|open| {
            let get = |id: &ChunkId| Ok(open.chunks.get(id.as_bytes())?.and_then(|bytes| record::decode(&bytes)));
            ids.iter().map(get).collect()
        })
    }

    /// Applies a change and returns whether anything was written. `from_file` makes a record of the chunk's file.
    pub(super) fn apply(
        &self,
        id: &ChunkId,
        change: &Change,
        from_file: impl FnOnce() -> Option<Record>,
    ) -> Result<bool, CatalogueError> {
        self.with(|open| {
            let before = open.chunks.get(id.as_bytes())?;
            let entry = before.as_ref().and_then(|bytes| record::decode(bytes));
            let after = change.apply(entry, from_file).map(|entry| record::encode(&entry));
            let is_changed = before.as_deref() != after.as_deref();
            match after {
                Some(bytes) if is_changed => drop(open.chunks.insert(id.as_bytes(), bytes)?),
                None if is_changed => drop(open.chunks.remove(id.as_bytes())?),
                _ => {}
            }
            Ok(is_changed)
        })
    }

    pub(super) fn remove_key(&self, key: &[u8]) -> Result<(), CatalogueError> {
        self.with(|open| {
            open.chunks.remove(key)?;
            Ok(())
        })
    }

    pub(super) fn list(&self, shard: u8) -> Result<Listing, CatalogueError> {
        self.with(|open| {
            let mut listing = Listing::default();
            for entry in open.chunks.scan_prefix([shard]) {
                let (key, value) = entry?;
                match <[u8; 32]>::try_from(key.as_ref()) {
                    Ok(id) if record::decode(&value).is_some() => listing.ids.push(ChunkId::from_bytes(id)),
                    _ => listing.invalid_keys.push(key),
                }
            }
            Ok(listing)
        })
    }

    /// Makes everything written so far durable.
    pub(super) fn sync(&self) -> Result<(), CatalogueError> {
        self.with(|open| {
            open.db.flush()?;
            Ok(open.log.sync_data()?)
        })
    }
}

fn catch_failure<T>(work: impl FnOnce() -> Result<T, CatalogueError>) -> Result<T, CatalogueError> {
    catch(work).unwrap_or(Err(CatalogueError::Panicked))
}

/// sled reports a lock held by another only in the error's text.
fn is_locked(error: &CatalogueError) -> bool {
    matches!(error, CatalogueError::Sled(sled::Error::Io(e)) if e.to_string().contains("could not acquire lock"))
}

/// An unfinished snapshot keeps sled from opening, and nothing is lost with it.
fn remove_unfinished_snapshots(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(b"snap.") && name.ends_with(b".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
