//! The state that a cell keeps across restarts.

use std::ops::Not;

use serde::{Deserialize, Serialize};

use crate::id::{CellId, ChunkId};

/// The state. The store keeps it as a small JSON file and writes it durably ([`Persist::State`]).
///
/// Times are durations, not points in time, because a board without a real-time clock must be able to read them. They
/// do not advance while the cell is off.
///
/// [`Persist::State`]: crate::cell::Persist::State
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SavedState {
    /// Is the cell draining?
    pub draining: bool,
    /// The last chunk that the periodic scrub has checked.
    #[serde(rename = "scrubbed")]
    pub scrub_position: Option<ChunkId>,
    /// Recent bad copies of other cells.
    pub strikes: Vec<Strike>,
    /// The cells in isolation.
    pub isolated: Vec<Isolation>,
    /// Is the disk failing? The single suspect copies are not saved: their next reads tell. That the disk as a whole
    /// fails took many reads to find out, and a cell that forgets it takes new chunks, and is relied on, until then.
    #[serde(skip_serializing_if = "Not::not")]
    pub failing: bool,
}

/// A bad copy of another cell that this cell has fetched and hashed itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strike {
    /// The cell that sent it.
    pub culprit: CellId,
    /// The chunk.
    pub chunk: ChunkId,
    /// Age in milliseconds.
    pub ago_ms: u64,
}

/// A cell in isolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// The cell.
    pub cell: CellId,
    /// Milliseconds until the isolation ends.
    pub left_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_the_file_stay_the_same() {
        let (cell, chunk) = (CellId::from_bytes([1; 16]), ChunkId::from_bytes([2; 32]));
        let state = SavedState {
            draining: true,
            scrub_position: Some(chunk),
            strikes: vec![Strike { culprit: cell, chunk, ago_ms: 3 }],
            isolated: vec![Isolation { cell, left_ms: 4 }],
            failing: false,
        };
        let strikes = format!(r#"[{{"culprit":"{cell}","chunk":"{chunk}","ago_ms":3}}]"#);
        let isolated = format!(r#"[{{"cell":"{cell}","left_ms":4}}]"#);
        let text = format!(r#"{{"draining":true,"scrubbed":"{chunk}","strikes":{strikes},"isolated":{isolated}}}"#);
        assert_eq!(serde_json::to_string(&state).unwrap(), text);
        assert_eq!(serde_json::from_str::<SavedState>(&text).unwrap(), state);
        let failing = SavedState { failing: true, ..SavedState::default() };
        assert!(serde_json::to_string(&failing).unwrap().ends_with(r#","failing":true}"#));
        assert_eq!(serde_json::from_str::<SavedState>(r#"{"failing":true}"#).unwrap(), failing);
        assert_eq!(serde_json::from_str::<SavedState>("{}").unwrap(), SavedState::default());
    }
}
