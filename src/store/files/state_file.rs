//! What a cell must not forget when it restarts: a small file of its own, so that it outlives the catalogue.
//!
//! ```text
//! 64 hexadecimal digits: the SHA-256 of what follows the line feed
//! the facts, as they were handed in
//! ```
//!
//! Old facts stay until the new ones are safe: they are written under a temporary name, fsynced, renamed, and the
//! folder is fsynced. A file that does not fit its first line is worth nothing and is said to be so in the log.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::id::{ChunkId, ID_HEX_LEN};
use crate::store::files::capacity::Room;
use crate::store::files::folder::replace_file;
use crate::store::files::locked;
use crate::store::files::staging::disk_or_full;
use crate::store::files::verify::is_damage;
use crate::store::{MAX_STATE_BYTES, StoreError};

const NAME: &str = "facts";
/// In the folder that is emptied at every start.
const NEW: &str = "tmp/facts";

pub(super) struct Facts {
    root: PathBuf,
    /// The hash of what this process has made safe; the same again need not be written again.
    safe: Mutex<Option<ChunkId>>,
}

impl Facts {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), safe: Mutex::default() }
    }

    pub(super) fn keep(&self, facts: &[u8], room: &Room) -> Result<(), StoreError> {
        if facts.len() > MAX_STATE_BYTES {
            return Err(StoreError::TooLarge { len: facts.len() as u64 });
        }
        let hash = ChunkId::of(facts);
        let mut safe = locked(&self.safe);
        if *safe == Some(hash) {
            return Ok(());
        }
        // Whatever becomes of this one: the file can be the old one or the new one now.
        *safe = None;
        let text = [hash.to_string().as_bytes(), b"\n", facts].concat();
        let mut written = self.replace(&text);
        if written.as_ref().is_err_and(|e| e.kind() == ErrorKind::StorageFull) {
            room.drop_ballast();
            written = self.replace(&text);
        }
        let path = self.root.join(NAME);
        written.map_err(|e| disk_or_full(e, text.len() as u64, "writing", &path))?;
        *safe = Some(hash);
        Ok(())
    }

    fn replace(&self, text: &[u8]) -> io::Result<()> {
        let written = replace_file(&self.root, NEW, NAME, text);
        if written.is_err() {
            // What there is of it would only take room; the next start would remove it too.
            let _ = fs::remove_file(self.root.join(NEW));
        }
        written
    }

    pub(super) fn kept(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.root.join(NAME);
        // No renames meanwhile.
        let _safe = locked(&self.safe);
        let facts = match read(&path) {
            Ok(text) => facts_of(&text).map(<[u8]>::to_vec),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) if is_damage(&e) => None,
            Err(e) => return Err(StoreError::disk("reading", &path)(e)),
        };
        if facts.is_none() {
            log::warn!("{} is damaged: what this cell was to remember is forgotten", path.display());
        }
        Ok(facts)
    }
}

/// A byte more than the longest there can be, to know a longer one by.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let most = (ID_HEX_LEN + 1 + MAX_STATE_BYTES) as u64;
    let mut text = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut text)?;
    Ok(text)
}

fn facts_of(text: &[u8]) -> Option<&[u8]> {
    let (line, rest) = text.split_at_checked(ID_HEX_LEN)?;
    let facts = rest.strip_prefix(b"\n").filter(|facts| facts.len() <= MAX_STATE_BYTES)?;
    let hash: ChunkId = str::from_utf8(line).ok()?.parse().ok()?;
    (ChunkId::of(facts) == hash).then_some(facts)
}
