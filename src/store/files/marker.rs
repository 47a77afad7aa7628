//! The marker, the file `cellsync.cell`: it makes a folder a cell's data folder and holds the cell's id.
//!
//! ```text
//! {"version":1,"node_id":"6ec0bd7f-11c0-43da-975e-2a8ad9ebae0b"}⏎
//! ```

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::id::CellId;
use crate::store::files::errors::OpenError;
use crate::store::files::fs::replace_file;

const MARKER: &str = "cellsync.cell";
/// The marker while it is being written.
pub(super) const MARKER_TEMPORARY: &str = "cellsync.cell.new";
const VERSION: u32 = 1;
/// No more of a marker is read.
const MAX_BYTES: u64 = 4096;

#[derive(Serialize, Deserialize)]
struct Marker {
    version: u32,
    node_id: CellId,
}

/// Reads the cell's id, or returns `None` if the folder has no marker.
pub(super) fn read(root: &Path) -> Result<Option<CellId>, OpenError> {
    let path = root.join(MARKER);
    let mut text = Vec::new();
    match File::open(&path) {
        Ok(file) => file.take(MAX_BYTES).read_to_end(&mut text).map_err(OpenError::disk("read", &path))?,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(OpenError::disk("open", &path)(e)),
    };
    let marker: Marker = match serde_json::from_slice(&text) {
        Ok(marker) => marker,
        Err(source) => return Err(OpenError::MarkerDamaged { path, source }),
    };
    if marker.version != VERSION {
        return Err(OpenError::MarkerVersion { path, version: marker.version });
    }
    Ok(Some(marker.node_id))
}

/// Writes the marker, or replaces it, durably.
pub(super) fn write(root: &Path, cell: CellId) -> io::Result<()> {
    let mut text = serde_json::to_vec(&Marker { version: VERSION, node_id: cell })?;
    text.push(b'\n');
    replace_file(root, MARKER_TEMPORARY, MARKER, &text)
}
