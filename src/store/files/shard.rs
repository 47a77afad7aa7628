//! The 256 folders that hold the chunks, and the gate that makes a rename durable.
//!
//! A chunk exists when its file is in its folder under its name. The name is durable once the folder was fsynced after
//! the rename; one fsync serves every rename made before it began:
//!
//! ```text
//! put A   rename ─┐
//! put B   rename ─┼─▶ A leads: fsync ────────▶ A, B answered
//! put C        rename (fsync under way) ─────▶ C leads the next: fsync ─▶ C answered
//! ```
//!
//! Until then the rename is on its folder's list, and whoever finds the chunk here already waits for the same fsync.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use rustix::fs::{Dir, FileType};

use crate::id::ChunkId;
use crate::store::PutOutcome;
use crate::store::files::capacity::Room;
use crate::store::files::folder::{Folder, sync_folder};
use crate::store::files::verify::is_damage;
use crate::store::files::{locked, open_quietly};

/// What a folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Held {
    pub(super) chunks: u64,
    pub(super) bytes: u64,
}

/// A rename whose folder is not fsynced yet.
#[derive(Debug)]
struct Renamed {
    id: ChunkId,
    /// Set once: `None` when the rename is durable, or the system's error number.
    outcome: OnceLock<Option<i32>>,
}

/// A chunk that has its name. To be settled before anybody relies on it.
#[must_use]
pub(super) struct Named(Option<Arc<Renamed>>);

/// One of the 256 folders.
pub(super) struct Shard {
    path: PathBuf,
    room: Arc<Room>,
    state: Mutex<State>,
    synced: Condvar,
}

#[derive(Default)]
struct State {
    held: Held,
    /// In the order of the renames, so that an fsync serves the first so many.
    renamed: Vec<Arc<Renamed>>,
    syncing: bool,
    /// What came or went since a count of the folder began: the count may or may not have seen it.
    touched: Option<BTreeSet<ChunkId>>,
}

impl State {
    fn touch(&mut self, id: &ChunkId) {
        if let Some(touched) = &mut self.touched {
            touched.insert(*id);
        }
    }

    fn add(&mut self, room: &Room, len: u64) {
        let before = self.held;
        self.held = Held { chunks: before.chunks + 1, bytes: before.bytes + len };
        room.correct(before, self.held);
    }

    fn subtract(&mut self, room: &Room, len: u64) {
        let before = self.held;
        self.held = Held { chunks: before.chunks.saturating_sub(1), bytes: before.bytes.saturating_sub(len) };
        room.correct(before, self.held);
    }
}

/// All folders, in order.
pub(super) fn all(folder: &Folder, room: &Arc<Room>) -> Vec<Shard> {
    let shard = |number| Shard {
        path: folder.shard(number),
        room: Arc::clone(room),
        state: Mutex::default(),
        synced: Condvar::new(),
    };
    (0..=u8::MAX).map(shard).collect()
}

impl Shard {
    fn file(&self, id: &ChunkId) -> PathBuf {
        self.path.join(id.to_string())
    }

    /// Gives a whole, fsynced file its name, unless a copy of that length is here.
    pub(super) fn publish(&self, id: &ChunkId, len: u64, new: &Path) -> io::Result<(PutOutcome, Named)> {
        let mut state = locked(&self.state);
        let before = file_len(&self.file(id))?;
        if before == Some(len) {
            return Ok((PutOutcome::AlreadyPresent, pending(&state, id)));
        }
        fs::rename(new, self.file(id))?;
        // A copy of another length cannot be the chunk: the good bytes have just replaced it.
        if let Some(bad) = before {
            state.subtract(&self.room, bad);
        }
        state.add(&self.room, len);
        state.touch(id);
        let renamed = Arc::new(Renamed { id: *id, outcome: OnceLock::new() });
        state.renamed.push(Arc::clone(&renamed));
        Ok((PutOutcome::Stored, Named(Some(renamed))))
    }

    /// Is a copy of this length here?
    pub(super) fn find(&self, id: &ChunkId, len: u64) -> io::Result<Option<Named>> {
        let state = locked(&self.state);
        let here = file_len(&self.file(id))? == Some(len);
        Ok(here.then(|| pending(&state, id)))
    }

    /// Waits until a rename is durable. When that fails, nothing is kept of the files that waited for it.
    pub(super) fn settle(&self, named: &Named) -> io::Result<()> {
        let Some(renamed) = &named.0 else { return Ok(()) };
        let mut state = locked(&self.state);
        loop {
            match renamed.outcome.get() {
                Some(None) => return Ok(()),
                Some(Some(errno)) => return Err(io::Error::from_raw_os_error(*errno)),
                None if state.syncing => state = self.synced.wait(state).unwrap_or_else(PoisonError::into_inner),
                None => {
                    let served = state.renamed.len();
                    state.syncing = true;
                    drop(state);
                    let result = sync_folder(&self.path);
                    state = locked(&self.state);
                    state.syncing = false;
                    self.tell(&mut state, served, result);
                    self.synced.notify_all();
                }
            }
        }
    }

    fn tell(&self, state: &mut State, served: usize, result: io::Result<()>) {
        match result {
            Ok(()) => {
                for renamed in state.renamed.drain(..served) {
                    let _ = renamed.outcome.set(None);
                }
            }
            // After a failed fsync nobody knows which names are safe, and a later one that succeeds proves nothing
            // about them: all that wait are taken back, also those that came while it ran.
            Err(e) => {
                let errno = e.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error());
                for renamed in std::mem::take(&mut state.renamed) {
                    let _ = self.remove(state, &renamed.id, |path| fs::remove_file(path).map(|()| true));
                    let _ = renamed.outcome.set(Some(errno));
                }
            }
        }
    }

    /// Takes a chunk out of the folder by `how`, which tells whether it did; false if it is not here either.
    pub(super) fn take_out(&self, id: &ChunkId, how: impl FnOnce(&Path) -> io::Result<bool>) -> io::Result<bool> {
        let mut state = locked(&self.state);
        self.remove(&mut state, id, how)
    }

    fn remove(&self, state: &mut State, id: &ChunkId, how: impl FnOnce(&Path) -> io::Result<bool>) -> io::Result<bool> {
        let path = self.file(id);
        let Some(len) = file_len(&path)? else { return Ok(false) };
        if !how(&path)? {
            return Ok(false);
        }
        state.subtract(&self.room, len);
        state.touch(id);
        Ok(true)
    }

    /// Fsyncs the folder, for what was taken out of it.
    pub(super) fn sync(&self) -> io::Result<()> {
        sync_folder(&self.path)
    }

    /// The ids here greater than `after`, in order.
    pub(super) fn ids(&self, after: Option<&ChunkId>) -> io::Result<Vec<ChunkId>> {
        let mut ids = Vec::new();
        // Quietly: an audit by another cell that writes the time of it to our disk would keep the disk awake.
        for entry in Dir::new(open_quietly(&self.path)?)? {
            let entry = entry?;
            let Some(id) = self.id_of(OsStr::from_bytes(entry.file_name().to_bytes())) else { continue };
            if after.is_some_and(|after| id <= *after) {
                continue;
            }
            let is_file = match entry.file_type() {
                FileType::RegularFile => true,
                // Some file systems do not tell.
                FileType::Unknown => file_len(&self.file(&id))?.is_some(),
                _ => false,
            };
            if is_file {
                ids.push(id);
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// Only a valid id in the folder that its first byte names is ever looked for there.
    fn id_of(&self, name: &OsStr) -> Option<ChunkId> {
        let id = ChunkId::from_str(name.to_str()?).ok()?;
        let folder = self.path.file_name()?.to_str()?;
        name.to_str()?.starts_with(folder).then_some(id)
    }

    /// What the last clean stop said is here.
    pub(super) fn trust(&self, held: Held) {
        let mut state = locked(&self.state);
        self.room.correct(state.held, held);
        state.held = held;
    }

    /// What is held to be here.
    pub(super) fn held(&self) -> Held {
        locked(&self.state).held
    }

    /// Counts the files and corrects the books. Puts go on meanwhile; what they touched is looked at again.
    pub(super) fn count(&self) -> io::Result<Vec<ChunkId>> {
        locked(&self.state).touched = Some(BTreeSet::new());
        let scan = self.scan();
        let mut state = locked(&self.state);
        let touched = state.touched.take().unwrap_or_default();
        let mut lens = scan?;
        lens.retain(|(id, _)| !touched.contains(id));
        for id in &touched {
            if let Some(len) = file_len(&self.file(id))? {
                lens.push((*id, len));
            }
        }
        let held = Held { chunks: lens.len() as u64, bytes: lens.iter().map(|(_, len)| len).sum() };
        self.room.correct(state.held, held);
        state.held = held;
        drop(state);
        let mut ids: Vec<_> = lens.into_iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    fn scan(&self) -> io::Result<Vec<(ChunkId, u64)>> {
        let mut lens = Vec::new();
        for id in self.ids(None)? {
            if let Some(len) = file_len(&self.file(&id))? {
                lens.push((id, len));
            }
        }
        Ok(lens)
    }
}

/// What is not on the list was fsynced, by this process or at its start.
fn pending(state: &State, id: &ChunkId) -> Named {
    Named(state.renamed.iter().find(|renamed| renamed.id == *id).map(Arc::clone))
}

/// The length of a chunk's file, or `None` if there is no such file. One that is so damaged that the file system does
/// not even tell its length is none either: it can be neither read nor moved nor replaced.
pub(super) fn file_len(path: &Path) -> io::Result<Option<u64>> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() => Ok(Some(meta.len())),
        Ok(_) => Ok(None),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) if is_damage(&e) => {
            log::warn!("{} is lost ({e}): check its disk", path.display());
            Ok(None)
        }
        Err(e) => Err(e),
    }
}
