//! What a store has promised about its data folder, and the check of a folder that a power cut left.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cellsync::id::{CellId, ChunkId};
use cellsync::store::{FileStore, OpenError, PutOutcome, Store, StoreError};

use crate::caching_disk::{CachingDisk, Cut};
use crate::harness::{cell, counted, get, open, put, quarantined};

/// What is known about a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Chunk {
    /// A good copy is stored.
    Stored,
    /// None is.
    Gone,
    /// A good copy is stored, or none.
    StoredOrGone,
    /// A copy is stored that may be bad, or none.
    Anything,
}

/// What a store has promised. In each list one of the values is the present one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Promises {
    /// `None`: the folder is no cell's.
    pub(crate) cells: Vec<Option<CellId>>,
    pub(crate) states: Vec<Option<Vec<u8>>>,
    pub(crate) chunks: BTreeMap<ChunkId, Chunk>,
    /// Chunks whose bytes are at least in one place, even if they are bad: stored, or in quarantine.
    pub(crate) kept: BTreeSet<ChunkId>,
}

impl Promises {
    fn chunk(&self, id: &ChunkId) -> Chunk {
        self.chunks.get(id).copied().unwrap_or(Chunk::Gone)
    }

    fn set(&mut self, id: &ChunkId, chunk: Chunk) {
        self.chunks.insert(*id, chunk);
    }

    /// Of a chunk that an operation in progress, or one that failed, may have stored or removed.
    fn doubt(&mut self, id: &ChunkId) {
        let chunk = if self.chunk(id) == Chunk::Anything { Chunk::Anything } else { Chunk::StoredOrGone };
        self.set(id, chunk);
    }
}

/// A store on a caching disk. Each operation states what it promises before it begins and after it has succeeded.
pub(crate) struct PromisingStore<'a> {
    pub(crate) disk: &'a CachingDisk,
    pub(crate) store: FileStore,
}

impl<'a> PromisingStore<'a> {
    pub(crate) fn init(disk: &CachingDisk, dir: &Path) -> Result<(), OpenError> {
        disk.promise(|promises| {
            promises.cells = vec![None, Some(cell(1))];
            promises.states = vec![None];
        });
        FileStore::init(dir, cell(1))?;
        disk.promise(|promises| promises.cells = vec![Some(cell(1))]);
        Ok(())
    }

    pub(crate) fn open(disk: &'a CachingDisk, dir: &Path) -> Self {
        Self { disk, store: open(dir) }
    }

    pub(crate) fn put(&self, bytes: &[u8]) -> Result<PutOutcome, StoreError> {
        let id = ChunkId::of(bytes);
        // A put never removes what was acknowledged.
        self.disk.promise(|promises| {
            if promises.chunk(&id) != Chunk::Stored {
                promises.doubt(&id);
            }
        });
        let (_, outcome) = put(&self.store, bytes)?;
        self.disk.promise(|promises| promises.set(&id, Chunk::Stored));
        Ok(outcome)
    }

    pub(crate) fn quarantine(&self, id: &ChunkId) -> Result<bool, StoreError> {
        self.disk.promise(|promises| {
            promises.doubt(id);
            promises.kept.insert(*id);
        });
        let is_moved = self.store.quarantine(id)?;
        self.disk.promise(|promises| promises.set(id, Chunk::Gone));
        Ok(is_moved)
    }

    /// Verifies a bad copy.
    pub(crate) fn verify_bad(&self, id: &ChunkId) -> Result<(), StoreError> {
        self.disk.promise(|promises| promises.kept.insert(*id));
        let state = self.store.verify(id)?;
        if state == cellsync::store::CopyState::Bad {
            self.disk.promise(|promises| promises.set(id, Chunk::Gone));
        }
        Ok(())
    }

    pub(crate) fn restore(&self, id: &ChunkId) -> Result<bool, StoreError> {
        self.disk.promise(|promises| {
            if promises.chunk(id) != Chunk::Stored {
                promises.doubt(id);
            }
        });
        let is_restored = self.store.restore(id)?;
        if is_restored {
            self.disk.promise(|promises| promises.set(id, Chunk::Stored));
        }
        Ok(is_restored)
    }

    pub(crate) fn remove(&self, id: &ChunkId) -> Result<bool, StoreError> {
        self.disk.promise(|promises| {
            promises.doubt(id);
            promises.kept.remove(id);
        });
        let is_removed = self.store.remove(id)?;
        // An earlier attempt that failed can have removed it, and may not be durable.
        if is_removed {
            self.disk.promise(|promises| promises.set(id, Chunk::Gone));
        }
        Ok(is_removed)
    }

    pub(crate) fn save_state(&self, state: &[u8]) -> Result<(), StoreError> {
        self.disk.promise(|promises| promises.states.push(Some(state.to_vec())));
        self.store.save_state(state)?;
        self.disk.promise(|promises| promises.states = vec![Some(state.to_vec())]);
        Ok(())
    }

    pub(crate) fn set_cell_id(&self, id: CellId) -> Result<(), StoreError> {
        self.disk.promise(|promises| promises.cells.push(Some(id)));
        self.store.set_cell_id(id)?;
        self.disk.promise(|promises| promises.cells = vec![Some(id)]);
        Ok(())
    }
}

/// What a start finds in a folder.
pub(crate) struct Found {
    cell: Option<CellId>,
    state: Option<Vec<u8>>,
    good: BTreeSet<ChunkId>,
    bad: BTreeSet<ChunkId>,
    quarantined: BTreeSet<ChunkId>,
}

impl Found {
    /// Opens the store in a folder. It must open, count what it lists, and store a further chunk.
    pub(crate) fn by_start(dir: &Path) -> Result<Self, String> {
        let cell = match FileStore::open(dir, &cellsync::store::StoreOptions::default()) {
            Ok(store) => Some(store.cell_id()),
            Err(OpenError::NoMarker { .. }) => None,
            Err(e) => return Err(format!("does not open: {e}")),
        };
        FileStore::init(dir, crate::harness::cell(9)).map_err(|e| format!("cannot be made a cell's: {e}"))?;
        let store = open(dir);
        let early = store.usage();
        let ids = store.list(None, usize::MAX).map_err(|e| e.to_string())?;
        let lens: u64 = ids.iter().map(|id| get(&store, id).unwrap().len() as u64).sum();
        if early.counted && (early.chunks, early.bytes) != (ids.len() as u64, lens) {
            return Err(format!("counts {early:?} at the start, and has {} chunks", ids.len()));
        }
        if counted(&store) != (ids.len() as u64, lens) {
            return Err(format!("counts {:?} and has {} chunks", store.usage(), ids.len()));
        }
        let is_good = |id: &ChunkId| get(&store, id).is_some_and(|bytes| ChunkId::of(&bytes) == *id);
        let (good, bad) = ids.into_iter().partition(is_good);
        let quarantined = store.quarantined(None, usize::MAX).map_err(|e| e.to_string())?.into_iter().collect();
        let state = store.load_state().map_err(|e| e.to_string())?;
        put(&store, b"after the cut").map_err(|e| format!("stores no more: {e}"))?;
        Ok(Self { cell, state, good, bad, quarantined })
    }

    /// Fails if this breaks a promise.
    pub(crate) fn keep(&self, promises: &Promises, cut: Cut) -> Result<(), String> {
        if !promises.cells.contains(&self.cell) {
            return Err(format!("is the folder of {:?}", self.cell));
        }
        if self.cell.is_some() && !promises.states.contains(&self.state) {
            let text = self.state.as_ref().map(|state| String::from_utf8_lossy(state).into_owned());
            return Err(format!("has the state {text:?}"));
        }
        for (id, chunk) in &promises.chunks {
            let (is_good, is_bad) = (self.good.contains(id), self.bad.contains(id));
            let is_kept = match chunk {
                Chunk::Stored => is_good,
                Chunk::Gone => !is_good && !is_bad,
                Chunk::StoredOrGone => !is_bad,
                Chunk::Anything => true,
            };
            if !is_kept {
                return Err(format!("chunk {id} is not {chunk:?}: good {is_good}, bad {is_bad}"));
            }
        }
        if let Some(id) = self.good.union(&self.bad).find(|id| !promises.chunks.contains_key(id)) {
            return Err(format!("has chunk {id}, which was never put"));
        }
        // Without an order of writes, a move from folder to folder can lose the name in both.
        let is_lost =
            |id: &&ChunkId| ![&self.good, &self.bad, &self.quarantined].iter().any(|found| found.contains(id));
        match promises.kept.iter().find(is_lost) {
            Some(id) if !matches!(cut, Cut::Some(_)) => Err(format!("the bytes of chunk {id} are gone")),
            _ => Ok(()),
        }
    }
}

/// Damages the file of a chunk, which may be bad from now on.
pub(crate) fn damage_chunk(disk: &CachingDisk, dir: &Path, id: &ChunkId) {
    disk.promise(|promises| promises.set(id, Chunk::Anything));
    crate::harness::damage(&crate::harness::file_of(dir, id), 3);
}

/// Whether a chunk has a file in quarantine.
pub(crate) fn is_quarantined(dir: &Path, id: &ChunkId) -> bool {
    quarantined(dir, id).exists()
}
