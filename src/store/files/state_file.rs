//! The state file, `facts`: what a cell must not forget when it restarts. It is a file of its own, so that it survives
//! the loss of the catalogue.
//!
//! ```text
//! byte 0    64 lower-case hexadecimal digits: the SHA-256 of the state
//! byte 64   line feed
//! byte 65   the state, up to 64 KiB, as the cell passed it in
//! ```
//!
//! The file is replaced by a rename, so the old state stays until the new one is durable. A file whose first line does
//! not match its state counts as damaged, and no state is loaded from it.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::id::{ChunkId, ID_HEX_LEN};
use crate::store::contract::{MAX_STATE_BYTES, StoreError};
use crate::store::damage::is_damage;
use crate::store::files::capacity::Capacity;
use crate::store::files::fs::replace_file;
use crate::sync::lock;

const NAME: &str = "facts";
/// In the folder that every start empties.
const TEMPORARY: &str = "tmp/facts";

pub(super) struct StateFile {
    root: PathBuf,
    /// The hash of the state that this process made durable last: the same state is not written again.
    saved: Mutex<Option<ChunkId>>,
}

impl StateFile {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), saved: Mutex::default() }
    }

    /// Saves the state. On a full disk it releases the ballast and tries once more.
    pub(super) fn save(&self, state: &[u8], capacity: &Capacity) -> Result<(), StoreError> {
        if state.len() > MAX_STATE_BYTES {
            let (len_bytes, limit_bytes) = (state.len() as u64, MAX_STATE_BYTES as u64);
            return Err(StoreError::TooLarge { len_bytes, limit_bytes });
        }
        let hash = ChunkId::of(state);
        let mut saved = lock(&self.saved);
        if *saved == Some(hash) {
            return Ok(());
        }
        // If writing fails, the file can hold the old state or the new one.
        *saved = None;
        let text = [hash.to_string().as_bytes(), b"\n", state].concat();
        let mut written = self.replace(&text);
        if written.as_ref().is_err_and(|e| e.kind() == ErrorKind::StorageFull) {
            capacity.release_ballast();
            written = self.replace(&text);
        }
        written.map_err(StoreError::disk_or_full("write", &self.root.join(NAME), text.len() as u64))?;
        *saved = Some(hash);
        Ok(())
    }

    fn replace(&self, text: &[u8]) -> io::Result<()> {
        let written = replace_file(&self.root, TEMPORARY, NAME, text);
        if written.is_err() {
            // A half-written file takes space until the next start empties the folder.
            let _ = fs::remove_file(self.root.join(TEMPORARY));
        }
        written
    }

    pub(super) fn load(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.root.join(NAME);
        // Held, so that no save replaces the file meanwhile.
        let _saved = lock(&self.saved);
        let state = match read(&path) {
            Ok(text) => parse(&text).map(<[u8]>::to_vec),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) if is_damage(&e) => None,
            Err(e) => return Err(StoreError::disk("read", &path)(e)),
        };
        if state.is_none() {
            log::warn!("{} is damaged: this cell's saved state is lost", path.display());
        }
        Ok(state)
    }
}

/// Reads one byte more than the longest valid file, so that a longer file is not taken for a valid one.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let max_bytes = (ID_HEX_LEN + 1 + MAX_STATE_BYTES) as u64;
    let mut text = Vec::new();
    File::open(path)?.take(max_bytes + 1).read_to_end(&mut text)?;
    Ok(text)
}

fn parse(text: &[u8]) -> Option<&[u8]> {
    let (line, rest) = text.split_at_checked(ID_HEX_LEN)?;
    let state = rest.strip_prefix(b"\n").filter(|state| state.len() <= MAX_STATE_BYTES)?;
    let hash: ChunkId = str::from_utf8(line).ok()?.parse().ok()?;
    (ChunkId::of(state) == hash).then_some(state)
}
