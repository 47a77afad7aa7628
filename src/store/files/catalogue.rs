//! The catalogue: records in sled, which can be found again and so may be lost.
//!
//! sled is kept at arm's length. One thread writes (see `keeper`); whatever fails or panics in here closes the
//! catalogue, which is then opened again or set aside and made anew from the files. No chunk depends on it.

// A shell: it waits for a lock that sled's own threads let go of late.
#![allow(clippy::disallowed_methods)]

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::Duration;

use crate::id::ChunkId;
use crate::store::Record;
use crate::store::files::capacity::{BALLAST_BYTES, Room};
use crate::store::files::change::Change;
use crate::store::files::record;
use crate::store::files::record::Known;
use crate::sync;

const FOLDER: &str = "catalogue";
const SET_ASIDE: &str = "catalogue.bad";
const CHUNKS: &str = "chunks";
const LAYOUT_KEY: &str = "layout";
const LAYOUT: &[u8] = &[1];

/// sled tidies up its log only from the thread that also writes it out; that is done by us, when there is something
/// to write. An hour apart, an idle cell's disk can sleep.
const TIDY_EVERY_MS: u64 = 3_600_000;

const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

thread_local! {
    static CATCHING_HERE: Cell<bool> = const { Cell::new(false) };
}
static CATCHING: AtomicUsize = AtomicUsize::new(0);

/// For a panic hook that would end the process: is the panic on this thread one that the catalogue catches?
///
/// sled panics on some damaged files, on the thread that calls it or on one of its own.
pub fn panic_is_caught() -> bool {
    let of_sled = || thread::current().name().is_some_and(|name| name.starts_with("sled-io") || name == "log flusher");
    CATCHING_HERE.get() || (CATCHING.load(Ordering::SeqCst) > 0 && of_sled())
}

/// Why the catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum CatalogueError {
    #[error(transparent)]
    Sled(#[from] sled::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is damaged")]
    Damaged,
    #[error("it panicked")]
    Panicked,
    #[error("it has a layout that is not known here")]
    Layout,
    #[error("it is closed")]
    Closed,
}

impl CatalogueError {
    /// Is it the catalogue's files that are to blame, and not the disk or the room on it?
    pub(super) fn blames_files(&self) -> bool {
        match self {
            Self::Sled(sled::Error::Io(_)) | Self::Io(_) | Self::Closed => false,
            Self::Sled(_) | Self::Damaged | Self::Panicked | Self::Layout => true,
        }
    }
}

/// The records of one folder.
#[derive(Default)]
pub(super) struct Listed {
    /// Chunks with a record, in order.
    pub(super) ids: Vec<ChunkId>,
    /// Keys of what is no record.
    pub(super) junk: Vec<sled::IVec>,
}

struct Open {
    db: sled::Db,
    chunks: sled::Tree,
    /// sled's flush does not reach the disk; an fdatasync of this does.
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
    pub(super) fn new(root: &Path, cache_bytes: u64) -> Self {
        Self { root: root.to_owned(), cache_bytes, open: RwLock::default() }
    }

    /// Opens the catalogue; one that does not open, or is `bad` all the same, is set aside for an empty one.
    pub(super) fn start(&self, room: &Room, bad: bool) -> Result<(), CatalogueError> {
        self.close();
        // On a full disk sled fails, panics or waits for ever: none of that says anything about its files.
        if room.available() < BALLAST_BYTES / 2 {
            room.drop_ballast();
        }
        if room.available() < BALLAST_BYTES / 4 {
            return Err(io::Error::from(ErrorKind::StorageFull).into());
        }
        let path = self.root.join(FOLDER);
        let opened = if bad { Err(CatalogueError::Damaged) } else { self.try_open(&path) };
        let open = match opened {
            Ok(open) => open,
            Err(e) => {
                log::warn!("the catalogue {} is set aside and made anew from the files: {e}", path.display());
                self.set_aside(&path)?;
                self.try_open(&path)?
            }
        };
        *sync::write(&self.open) = Some(Arc::new(open));
        Ok(())
    }

    pub(super) fn close(&self) {
        let open = sync::write(&self.open).take();
        let _ = caught(|| {
            drop(open);
            Ok(())
        });
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
                .flush_every_ms(Some(TIDY_EVERY_MS))
        };
        let mut tries = 0;
        let db = loop {
            match caught(|| Ok(config().open()?)) {
                Err(e) if held(&e) && tries < LOCK_TRIES => thread::sleep(LOCK_PAUSE),
                result => break result?,
            }
            tries += 1;
        };
        caught(|| {
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

    /// Runs `work` on the open catalogue; where it fails, the catalogue is closed until the next [`Self::start`].
    fn with<T>(&self, work: impl FnOnce(&Open) -> Result<T, CatalogueError>) -> Result<T, CatalogueError> {
        let open = sync::read(&self.open).clone();
        let open = open.ok_or(CatalogueError::Closed)?;
        let result = caught(|| work(&open));
        if let Err(e) = &result {
            log::warn!("the catalogue in {} failed: {e}", self.root.display());
            self.close();
            let _ = caught(|| {
                drop(open);
                Ok(())
            });
        }
        result
    }

    /// What is known about each of these.
    pub(super) fn get(&self, ids: &[ChunkId]) -> Result<Vec<Option<Known>>, CatalogueError> {
        self.with(|open| {
            let get = |id: &ChunkId| Ok(open.chunks.get(id.as_bytes())?.and_then(|bytes| record::decode(&bytes)));
            ids.iter().map(get).collect()
        })
    }

    /// Makes a change and tells whether there was anything to write. `found` tells what the chunk's file tells.
    pub(super) fn apply(
        &self,
        id: &ChunkId,
        change: &Change,
        found: impl FnOnce() -> Option<Record>,
    ) -> Result<bool, CatalogueError> {
        self.with(|open| {
            let before = open.chunks.get(id.as_bytes())?;
            let known = before.as_ref().and_then(|bytes| record::decode(bytes));
            let after = change.after(known, found).map(|known| record::encode(&known));
            let changed = before.as_deref() != after.as_deref();
            match after {
                Some(bytes) if changed => drop(open.chunks.insert(id.as_bytes(), bytes)?),
                None if changed => drop(open.chunks.remove(id.as_bytes())?),
                _ => {}
            }
            Ok(changed)
        })
    }

    pub(super) fn remove_junk(&self, key: &[u8]) -> Result<(), CatalogueError> {
        self.with(|open| {
            open.chunks.remove(key)?;
            Ok(())
        })
    }

    pub(super) fn list(&self, shard: u8) -> Result<Listed, CatalogueError> {
        self.with(|open| {
            let mut listed = Listed::default();
            for entry in open.chunks.scan_prefix([shard]) {
                let (key, value) = entry?;
                match <[u8; 32]>::try_from(key.as_ref()) {
                    Ok(id) if record::decode(&value).is_some() => listed.ids.push(ChunkId::from_bytes(id)),
                    _ => listed.junk.push(key),
                }
            }
            Ok(listed)
        })
    }

    /// Makes all that was written survive a power cut.
    pub(super) fn durable(&self) -> Result<(), CatalogueError> {
        self.with(|open| {
            open.db.flush()?;
            Ok(open.log.sync_data()?)
        })
    }
}

fn caught<T>(work: impl FnOnce() -> Result<T, CatalogueError>) -> Result<T, CatalogueError> {
    let outer = CATCHING_HERE.replace(true);
    CATCHING.fetch_add(1, Ordering::SeqCst);
    let result = catch_unwind(AssertUnwindSafe(work));
    CATCHING.fetch_sub(1, Ordering::SeqCst);
    CATCHING_HERE.set(outer);
    result.unwrap_or(Err(CatalogueError::Panicked))
}

/// sled says so only in words.
fn held(error: &CatalogueError) -> bool {
    matches!(error, CatalogueError::Sled(sled::Error::Io(e)) if e.to_string().contains("could not acquire lock"))
}

/// A snapshot that was cut short stops sled from opening, and nothing is lost with it.
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
