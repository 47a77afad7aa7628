//! The JSON of `GET /peers` and `POST /join`: the other cells that a cell knows.

use serde::{Deserialize, Serialize};

use crate::id::CellId;
use crate::wire::beacon::{Role, Status};

/// How reachable one cell is, as another cell sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// A beacon came within the last 5 s.
    Active,
    /// No beacon for more than 5 s, and not known to be dead.
    Silent,
    /// Silent, and an HTTP probe failed too.
    Dead,
    /// The cell announced that it stops.
    Left,
    /// A value of a newer version.
    #[serde(other)]
    Unknown,
}

impl std::fmt::Display for Presence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Active => "active",
            Self::Silent => "silent",
            Self::Dead => "dead",
            Self::Left => "left",
            Self::Unknown => "unknown",
        })
    }
}

/// One cell as another cell sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellView {
    /// The cell's id.
    pub node_id: CellId,
    /// The base URL of its HTTP interface, as `http://ADDRESS:PORT`.
    pub url: String,
    /// Its role.
    #[serde(default)]
    pub role: Role,
    /// Whether it accepts chunks.
    pub status: Status,
    /// Whether it is reachable.
    #[serde(default = "active")]
    pub state: Presence,
    /// Bytes that it can still store, if known.
    #[serde(default)]
    pub free: Option<u64>,
    /// The number of chunks that it holds, if known.
    #[serde(default)]
    pub chunks: Option<u64>,
    /// Milliseconds since its last beacon. For a static peer, a successful probe counts as a beacon.
    #[serde(default)]
    pub seen_ms: u64,
}

fn active() -> Presence {
    Presence::Active
}

/// The response of `GET /peers` and `POST /join`: the other cells that this one knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Peers {
    /// The base URLs of the active cells.
    #[serde(default)]
    pub peers: Vec<String>,
    /// All cells, with details. Earlier versions leave it out.
    #[serde(default)]
    pub cells: Vec<CellView>,
}

/// The body of `POST /join`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The base URL of the cell to add as a static peer, as `http://ADDRESS:PORT`.
    pub url: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_urls_is_enough_for_peers() {
        let peers: Peers = serde_json::from_str(r#"{"peers":["http://10.0.0.4:8080"]}"#).unwrap();
        assert_eq!(peers.peers, ["http://10.0.0.4:8080"]);
        assert!(peers.cells.is_empty());
    }
}
