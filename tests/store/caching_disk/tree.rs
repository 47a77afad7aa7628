//! The tree of a caching disk: each file and folder as a process sees it, and as it is on the medium.
//!
//! Bytes become durable by an fsync of their file, names by an fsync of their folder, and neither by anything else. An
//! fsync that fails drops what it should have written, as Linux does: a later one that succeeds does not write it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::SystemTime;

use fuser::Errno;

pub(super) const ROOT: u64 = 1;

/// Files longer than this are told apart by their length first. Comparing them is enough.
const MAX_HASHED_BYTES: usize = 1 << 20;

#[derive(Clone)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) changed: SystemTime,
    /// Where it is, or was when it was removed.
    parent: u64,
    name: String,
    links: u32,
}

#[derive(Clone)]
pub(super) enum Kind {
    File(File),
    Folder(Folder),
}

#[derive(Clone, Default)]
pub(super) struct File {
    pub(super) bytes: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    is_dirty: bool,
}

#[derive(Clone, Default)]
pub(super) struct Folder {
    pub(super) names: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    dirty: BTreeSet<String>,
}

impl Folder {
    fn set(&mut self, name: &str, number: Option<u64>) {
        match number {
            Some(number) => drop(self.names.insert(name.to_owned(), number)),
            None => drop(self.names.remove(name)),
        }
        self.dirty.insert(name.to_owned());
    }
}

/// What of the unwritten bytes and names has reached the medium when the power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cut {
    /// None of them.
    NothingUnwritten,
    /// All names and removals, and no bytes: a new file is empty.
    NamesOnly,
    /// All bytes of files whose name is durable, and no names.
    BytesOnly,
    /// Everything, as if only the process had died.
    Everything,
    /// For each file and folder all or nothing, as this seed decides.
    Some(u64),
}

impl Cut {
    fn keeps_names(self, folder: u64) -> bool {
        match self {
            Self::NothingUnwritten | Self::BytesOnly => false,
            Self::NamesOnly | Self::Everything => true,
            Self::Some(seed) => fastrand::Rng::with_seed(seed ^ (folder << 32)).bool(),
        }
    }

    fn keeps_bytes(self, file: u64) -> bool {
        match self {
            Self::NothingUnwritten | Self::NamesOnly => false,
            Self::BytesOnly | Self::Everything => true,
            Self::Some(seed) => fastrand::Rng::with_seed(seed ^ (file << 32)).bool(),
        }
    }
}

/// Everything on the medium by its path: a folder as `None`, a file with its bytes. A folder comes before what is in it.
pub(crate) type Image = Vec<(String, Option<Bytes>)>;

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Arc<Vec<u8>>);

impl Hash for Bytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.len().hash(state);
        if self.0.len() <= MAX_HASHED_BYTES {
            self.0.hash(state);
        }
    }
}

/// All files and folders by their numbers, which are never used again.
#[derive(Clone)]
pub(crate) struct Tree {
    nodes: BTreeMap<u64, Node>,
    last: u64,
}

impl Tree {
    pub(super) fn new() -> Self {
        let mut tree = Self { nodes: BTreeMap::new(), last: 0 };
        tree.add(Kind::Folder(Folder::default()), ROOT, "");
        tree
    }

    fn add(&mut self, kind: Kind, parent: u64, name: &str) -> u64 {
        self.last += 1;
        let node = Node { kind, changed: now(), parent, name: name.to_owned(), links: 1 };
        self.nodes.insert(self.last, node);
        self.last
    }

    /// Takes the place of another tree, whose numbers the kernel may remember.
    pub(super) fn replace(&mut self, mut tree: Self) {
        tree.last = self.last.max(tree.last);
        *self = tree;
    }

    pub(super) fn node(&self, number: u64) -> Result<&Node, Errno> {
        self.nodes.get(&number).ok_or(Errno::ENOENT)
    }

    fn node_mut(&mut self, number: u64) -> Result<&mut Node, Errno> {
        let node = self.nodes.get_mut(&number).ok_or(Errno::ENOENT)?;
        node.changed = now();
        Ok(node)
    }

    pub(super) fn links(&self, number: u64) -> u32 {
        self.nodes.get(&number).map_or(0, |node| node.links)
    }

    pub(super) fn folder(&self, number: u64) -> Result<&Folder, Errno> {
        match &self.node(number)?.kind {
            Kind::Folder(folder) => Ok(folder),
            Kind::File(_) => Err(Errno::ENOTDIR),
        }
    }

    fn folder_mut(&mut self, number: u64) -> Result<&mut Folder, Errno> {
        match &mut self.node_mut(number)?.kind {
            Kind::Folder(folder) => Ok(folder),
            Kind::File(_) => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn file(&self, number: u64) -> Result<&File, Errno> {
        match &self.node(number)?.kind {
            Kind::File(file) => Ok(file),
            Kind::Folder(_) => Err(Errno::EISDIR),
        }
    }

    fn file_mut(&mut self, number: u64) -> Result<&mut File, Errno> {
        match &mut self.node_mut(number)?.kind {
            Kind::File(file) => Ok(file),
            Kind::Folder(_) => Err(Errno::EISDIR),
        }
    }

    pub(super) fn find(&self, folder: u64, name: &str) -> Result<u64, Errno> {
        self.folder(folder)?.names.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// The path below the root.
    pub(super) fn path(&self, number: u64) -> String {
        if number == ROOT {
            return String::new();
        }
        self.nodes.get(&number).map_or_else(String::new, |node| self.path_in(node.parent, &node.name))
    }

    pub(super) fn path_in(&self, folder: u64, name: &str) -> String {
        let folder = self.path(folder);
        if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
    }

    pub(super) fn create(&mut self, folder: u64, name: &str, is_folder: bool) -> Result<u64, Errno> {
        if self.folder(folder)?.names.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let kind = if is_folder { Kind::Folder(Folder::default()) } else { Kind::File(File::default()) };
        let number = self.add(kind, folder, name);
        self.folder_mut(folder)?.set(name, Some(number));
        Ok(number)
    }

    pub(super) fn remove(&mut self, folder: u64, name: &str) -> Result<(), Errno> {
        let number = self.find(folder, name)?;
        if self.folder(number).is_ok_and(|folder| !folder.names.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        self.folder_mut(folder)?.set(name, None);
        self.node_mut(number)?.links -= 1;
        Ok(())
    }

    pub(super) fn link(&mut self, number: u64, folder: u64, name: &str) -> Result<(), Errno> {
        if self.folder(folder)?.names.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        self.folder_mut(folder)?.set(name, Some(number));
        self.node_mut(number)?.links += 1;
        Ok(())
    }

    pub(super) fn rename(&mut self, from: (u64, &str), to: (u64, &str)) -> Result<(), Errno> {
        let number = self.find(from.0, from.1)?;
        if let Ok(replaced) = self.find(to.0, to.1) {
            self.node_mut(replaced)?.links -= 1;
        }
        self.folder_mut(from.0)?.set(from.1, None);
        self.folder_mut(to.0)?.set(to.1, Some(number));
        let node = self.node_mut(number)?;
        (node.parent, node.name) = (to.0, to.1.to_owned());
        Ok(())
    }

    pub(super) fn resize(&mut self, number: u64, len: usize) -> Result<(), Errno> {
        let file = self.file_mut(number)?;
        Arc::make_mut(&mut file.bytes).resize(len, 0);
        file.is_dirty = true;
        Ok(())
    }

    pub(super) fn write(&mut self, number: u64, start: usize, data: &[u8]) -> Result<(), Errno> {
        let file = self.file_mut(number)?;
        let (end, bytes) = (start + data.len(), Arc::make_mut(&mut file.bytes));
        bytes.resize(bytes.len().max(end), 0);
        bytes[start..end].copy_from_slice(data);
        file.is_dirty = true;
        Ok(())
    }

    /// Makes what is dirty durable, or drops it. The file stays as the process sees it.
    pub(super) fn fsync(&mut self, number: u64, succeeds: bool) {
        match self.nodes.get_mut(&number).map(|node| &mut node.kind) {
            Some(Kind::File(file)) => {
                let is_dirty = std::mem::take(&mut file.is_dirty);
                if is_dirty && succeeds {
                    file.durable = Arc::clone(&file.bytes);
                }
            }
            Some(Kind::Folder(folder)) => {
                for name in std::mem::take(&mut folder.dirty).into_iter().filter(|_| succeeds) {
                    match folder.names.get(&name) {
                        Some(number) => drop(folder.durable.insert(name, *number)),
                        None => drop(folder.durable.remove(&name)),
                    }
                }
            }
            None => {}
        }
    }

    /// Makes everything durable.
    pub(super) fn write_all(&mut self) {
        for node in self.nodes.values_mut() {
            match &mut node.kind {
                Kind::File(file) => {
                    file.durable = Arc::clone(&file.bytes);
                    file.is_dirty = false;
                }
                Kind::Folder(folder) => {
                    folder.durable = folder.names.clone();
                    folder.dirty.clear();
                }
            }
        }
    }

    /// What is on the medium if the power is cut now.
    pub(super) fn image(&self, cut: Cut) -> Image {
        let mut image = Vec::new();
        self.add_to_image(ROOT, "", cut, &mut image);
        image
    }

    fn add_to_image(&self, number: u64, path: &str, cut: Cut, image: &mut Image) {
        let Some(node) = self.nodes.get(&number) else { return };
        match &node.kind {
            Kind::File(file) => {
                let bytes = if cut.keeps_bytes(number) { &file.bytes } else { &file.durable };
                image.push((path.to_owned(), Some(Bytes(Arc::clone(bytes)))));
            }
            Kind::Folder(folder) => {
                if number != ROOT {
                    image.push((path.to_owned(), None));
                }
                let names = if cut.keeps_names(number) { &folder.names } else { &folder.durable };
                for (name, number) in names {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                    self.add_to_image(*number, &path, cut, image);
                }
            }
        }
    }
}

/// The time of a change.
#[allow(clippy::disallowed_methods)] // A file system reads the clock.
fn now() -> SystemTime {
    SystemTime::now()
}
