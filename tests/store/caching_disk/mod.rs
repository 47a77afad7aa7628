//! A mounted file system in memory with a cache that a power cut empties: only bytes and names that were fsynced are on
//! its medium. It records what a power cut at each step would leave, and fails any call with an error of the test's
//! choice.
//!
//! It needs root and FUSE. Without them, the tests print that they are skipped and pass; with
//! `CELLSYNC_REQUIRE_ROOT_TESTS` set they fail instead, if there is `/dev/fuse`.

mod fuse;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use fuser::{BackgroundSession, Config, Errno};
use tempfile::TempDir;

use crate::promises::Promises;
pub(crate) use tree::{Cut, Image, Tree};

/// Free bytes unless a test sets them: enough for the ballast.
const FREE_BYTES: u64 = 64 << 20;

/// What the kernel asks of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Lookup,
    Attributes,
    Open,
    OpenFolder,
    Read,
    ReadFolder,
    Statfs,
    Create,
    Write,
    Resize,
    Allocate,
    Link,
    Rename,
    Remove,
    MakeFolder,
    Fsync,
    FsyncFolder,
}

impl Operation {
    /// Whether it fails on a disk that cannot be written to.
    pub(crate) fn writes(self) -> bool {
        self >= Self::Create
    }
}

/// An operation on a path, as far as runs of the same test have it in common.
pub(crate) type Call = (Operation, String);

/// An error that the disk answers.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) call: Call,
    /// Which of these calls fails, from 1.
    pub(crate) nth: u32,
    pub(crate) errno: Errno,
    /// Whether all calls that write fail from then on.
    pub(crate) lasts: bool,
}

/// What a power cut at one step leaves, and what the store had promised by then.
pub(crate) struct Moment {
    /// When that is, for messages.
    pub(crate) at: String,
    pub(crate) cut: Cut,
    pub(crate) image: Image,
    pub(crate) promises: Promises,
}

struct State {
    tree: Tree,
    free_bytes: u64,
    has_links: bool,
    promises: Promises,
    /// `None` if nothing is recorded.
    moments: Option<Vec<Moment>>,
    step: usize,
    calls: BTreeMap<Call, u32>,
    fault: Option<Fault>,
    has_struck: bool,
    /// The number of calls that write until the process is dead.
    steps_to_live: Option<usize>,
    unreadable: BTreeSet<u64>,
}

impl State {
    /// Fails if a fault demands it, or if the process is dead.
    fn meet(&mut self, operation: Operation, path: &str) -> Result<(), Errno> {
        if operation.writes()
            && let Some(left) = &mut self.steps_to_live
        {
            *left = left.checked_sub(1).ok_or(Errno::EIO)?;
        }
        let call = (operation, common_path(path));
        let count = self.calls.entry(call.clone()).or_default();
        *count += 1;
        let Some(fault) = &self.fault else { return Ok(()) };
        let is_now = !self.has_struck && fault.call == call && fault.nth == *count;
        self.has_struck |= is_now;
        if is_now || (self.has_struck && fault.lasts && operation.writes()) { Err(fault.errno) } else { Ok(()) }
    }

    /// Changes the tree unless a fault forbids it, and records what a power cut would leave.
    fn change<T>(
        &mut self,
        operation: Operation,
        path: &str,
        change: impl FnOnce(&mut Tree) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        self.meet(operation, path)?;
        let result = change(&mut self.tree)?;
        self.record();
        Ok(result)
    }

    fn record(&mut self) {
        let Some(moments) = &mut self.moments else { return };
        self.step += 1;
        let seed = Cut::Some(self.step as u64);
        for cut in [Cut::NothingUnwritten, Cut::NamesOnly, Cut::BytesOnly, Cut::Everything, seed] {
            let (image, promises) = (self.tree.image(cut), self.promises.clone());
            moments.push(Moment { at: format!("step {}", self.step), cut, image, promises });
        }
    }
}

/// A mounted file system, unmounted when dropped.
pub(crate) struct CachingDisk {
    // Unmounted before the directory is removed.
    _session: BackgroundSession,
    directory: TempDir,
    state: Arc<Mutex<State>>,
}

impl CachingDisk {
    /// Mounts an empty one; `None` if that is not possible here.
    pub(crate) fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let state = State {
            tree: Tree::new(),
            free_bytes: FREE_BYTES,
            has_links: true,
            promises: Promises::default(),
            moments: None,
            step: 0,
            calls: BTreeMap::new(),
            fault: None,
            has_struck: false,
            steps_to_live: None,
            unreadable: BTreeSet::new(),
        };
        let state = Arc::new(Mutex::new(state));
        match fuser::spawn_mount(fuse::Files(Arc::clone(&state)), directory.path(), &Config::default()) {
            Ok(session) => Some(Self { _session: session, directory, state }),
            Err(why) => {
                let is_required = std::env::var_os("CELLSYNC_REQUIRE_ROOT_TESTS").is_some();
                assert!(!is_required || !Path::new("/dev/fuse").exists(), "cannot mount: {why}");
                eprintln!("skipped: cannot mount a file system (it needs root and FUSE): {why}");
                None
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Changes what the store has promised, at this moment.
    pub(crate) fn promise<T>(&self, change: impl FnOnce(&mut Promises) -> T) -> T {
        change(&mut self.state().promises)
    }

    pub(crate) fn set_free_bytes(&self, free_bytes: Option<u64>) {
        self.state().free_bytes = free_bytes.unwrap_or(FREE_BYTES);
    }

    /// From now on no file gets a second name, as on FAT.
    pub(crate) fn forbid_links(&self) {
        self.state().has_links = false;
    }

    /// Begins to record what a power cut would leave.
    pub(crate) fn record(&self) {
        let mut state = self.state();
        (state.moments, state.step) = (Some(Vec::new()), 0);
    }

    /// Ends recording.
    pub(crate) fn moments(&self) -> Vec<Moment> {
        self.state().moments.take().unwrap()
    }

    /// What a power cut now would leave.
    pub(crate) fn cut(&self, cut: Cut, at: &str) -> Moment {
        let state = self.state();
        Moment { at: at.to_owned(), cut, image: state.tree.image(cut), promises: state.promises.clone() }
    }

    /// Makes everything durable.
    pub(crate) fn write_all(&self) {
        self.state().tree.write_all();
    }

    /// Everything, with what is durable.
    pub(crate) fn save(&self) -> (Tree, Promises) {
        let state = self.state();
        (state.tree.clone(), state.promises.clone())
    }

    /// Returns to what [`Self::save`] saved. No file may be open.
    pub(crate) fn restore(&self, (tree, promises): &(Tree, Promises)) {
        let mut state = self.state();
        state.tree.replace(tree.clone());
        state.promises = promises.clone();
    }

    /// Sets a fault, or lifts it, and forgets the calls counted so far.
    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        let mut state = self.state();
        (state.fault, state.has_struck) = (fault, false);
        state.calls.clear();
    }

    /// Whether the fault has failed a call.
    pub(crate) fn has_struck(&self) -> bool {
        self.state().has_struck
    }

    /// From this number of further steps on nothing changes, as if the process had died.
    pub(crate) fn stop_after(&self, steps: usize) {
        self.state().steps_to_live = Some(steps);
    }

    /// Ends [`Self::stop_after`].
    pub(crate) fn go_on(&self) {
        self.state().steps_to_live = None;
    }

    /// Makes all reads of the bytes of a file fail, until another file has its name.
    pub(crate) fn set_unreadable(&self, path: &Path) {
        let mut state = self.state();
        let parts = path.to_str().unwrap().split('/');
        let number = parts.fold(tree::ROOT, |folder, name| state.tree.find(folder, name).unwrap());
        state.unreadable.insert(number);
    }

    /// How often each call was made since the last [`Self::set_fault`].
    pub(crate) fn calls(&self) -> BTreeMap<Call, u32> {
        self.state().calls.clone()
    }
}

/// Files that have other names in each run get the same, and so do the folders of chunks.
fn common_path(path: &str) -> String {
    let mut parts: Vec<_> = path.split('/').map(|part| if part.starts_with(".tmp") { "*" } else { part }).collect();
    match parts.iter().position(|part| ["chunks", "tmp", "catalogue"].contains(part)) {
        Some(at) if at + 1 < parts.len() => {
            let common = match (parts[at], parts[at + 1]) {
                ("tmp", "facts") => "facts",
                ("catalogue", name) if !name.starts_with("snap") => name,
                ("chunks", _) if parts.len() > at + 2 => "*/*",
                _ => "*",
            };
            parts.truncate(at + 1);
            parts.push(common);
        }
        _ => {}
    }
    parts.join("/")
}

/// Writes an image into an ordinary folder.
pub(crate) fn write_image(image: &Image, folder: &Path) {
    for (path, bytes) in image {
        let path = folder.join(path);
        match bytes {
            None => fs::create_dir(path).unwrap(),
            // A hole takes no time.
            Some(bytes) if bytes.0.iter().all(|byte| *byte == 0) => {
                fs::File::create(path).unwrap().set_len(bytes.0.len() as u64).unwrap();
            }
            Some(bytes) => fs::write(path, &*bytes.0).unwrap(),
        }
    }
}
