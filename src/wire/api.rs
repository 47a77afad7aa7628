//! The names and bodies of a cell's HTTP interface. Paths and header names are fixed: other programs speak them.

use serde::{Deserialize, Serialize};

use super::CellId;
use super::beacon::{Beacon, Boot, Role, Status};
use crate::chunk::{ChunkId, ID_HEX_LEN};

/// How many copies the colony is to keep of a chunk; on `PUT /chunk/{id}` and `POST /chunk`.
pub const COPIES_HEADER: &str = "CellSync-Copies";
/// The cells chosen to hold the chunk: their ids with commas between; on the same calls.
pub const HOLDERS_HEADER: &str = "CellSync-Holders";
/// SHA-256, in hexadecimal digits, of the token that may delete the chunk; on the same calls.
pub const OWNER_HEADER: &str = "CellSync-Owner";
/// How many more cells a `GET /chunk/{id}` may be handed on to; absent means [`DEFAULT_HOPS`].
pub const HOPS_HEADER: &str = "X-Hops";
/// Names one search for a chunk, so that each cell takes part in it once.
pub const REQUEST_ID_HEADER: &str = "X-Request-Id";

/// Hops of a `GET /chunk/{id}` that names none.
pub const DEFAULT_HOPS: u8 = 3;
/// More hops than this are cut down to it.
pub const MAX_HOPS: u8 = 8;
/// Copies of a chunk when a put names none.
pub const DEFAULT_COPIES: u8 = 5;
/// The most ids in one `POST /chunks/have`: its lines then stay under the 2 MiB that a body may have.
pub const MAX_HAVE_IDS: usize = (2 << 20) / (ID_HEX_LEN + 1);
/// The most ids in one page of `GET /chunks`, and how many there are when no limit is named.
pub const MAX_LIST_IDS: usize = 10_000;
/// The largest JSON answer that a client reads, in bytes: room for some ten thousand cells.
pub const MAX_JSON_BYTES: u64 = 4 << 20;

/// Is a known cell there?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// Heard within the last 5 s.
    Active,
    /// Not heard for more than 5 s, not known to be dead.
    Silent,
    /// Silent, and an HTTP probe failed too.
    Dead,
    /// It said that it leaves.
    Left,
    /// A word of a newer cell.
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

/// A cell as another one sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellView {
    /// The cell's name.
    pub node_id: CellId,
    /// Where its HTTP door is, as `http://ADDRESS:PORT`.
    pub url: String,
    /// What it does.
    #[serde(default)]
    pub role: Role,
    /// Whether it takes chunks.
    pub status: Status,
    /// Is it there?
    #[serde(default = "active")]
    pub state: Presence,
    /// Bytes it may still take, if it told.
    #[serde(default)]
    pub free: Option<u64>,
    /// Chunks it holds, if it told.
    #[serde(default)]
    pub chunks: Option<u64>,
    /// Milliseconds since it was last heard.
    #[serde(default)]
    pub seen_ms: u64,
}

fn active() -> Presence {
    Presence::Active
}

/// Answer of `GET /peers` and `POST /join`: the other cells that this one knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Peers {
    /// The doors of the active ones.
    #[serde(default)]
    pub peers: Vec<String>,
    /// All of them, with what they told. Older servers leave it out.
    #[serde(default)]
    pub cells: Vec<CellView>,
}

/// Body of `POST /join`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The door of the cell that wants to be known, as `http://ADDRESS:PORT`.
    pub url: String,
}

/// Answer of `POST /chunk`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The id of the bytes that were sent.
    pub id: ChunkId,
}

/// Answer of `GET /status`: a cell's own facts. Everything a beacon says, and what does not fit one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellStatus {
    /// The same facts as the cell's beacon.
    #[serde(flatten)]
    pub beacon: Beacon,
    /// The program's version.
    #[serde(default)]
    pub version: String,
    /// Bytes of the chunks it holds.
    #[serde(default)]
    pub bytes: u64,
    /// False while chunks are still being counted after an unclean stop.
    #[serde(default)]
    pub counted: bool,
    /// Seconds since the cell started.
    #[serde(default)]
    pub uptime_s: u64,
    /// Open connections at the door.
    #[serde(default)]
    pub connections: u64,
}

impl CellStatus {
    /// Which start of the cell this is, if it says.
    pub fn boot(&self) -> Option<Boot> {
        self.beacon.boot
    }
}

/// Reads the lines of a `POST /chunks/have`. Empty lines are passed over; CR before LF is allowed.
pub fn parse_ids(body: &[u8]) -> Result<Vec<ChunkId>, crate::chunk::MalformedId> {
    body.split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.is_empty())
        .map(|line| std::str::from_utf8(line).map_err(|_| crate::chunk::MalformedId)?.parse())
        .collect()
}

/// Writes ids one a line, as `POST /chunks/have` and `GET /chunks` carry them.
pub fn write_ids<'a>(ids: impl IntoIterator<Item = &'a ChunkId>) -> String {
    let mut lines = String::new();
    for id in ids {
        lines.push_str(&id.to_string());
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_one_a_line_and_read_back() {
        let ids = [ChunkId::of(b"a"), ChunkId::of(b"b")];
        assert_eq!(parse_ids(write_ids(&ids).as_bytes()).unwrap(), ids);
        assert_eq!(parse_ids(write_ids(&ids).replace('\n', "\r\n").as_bytes()).unwrap(), ids);
        assert!(parse_ids(b"nothing\n").is_err());
        assert!(parse_ids(&[0xff; 64]).is_err());
        assert_eq!(parse_ids(b"\n\n").unwrap(), []);
    }

    #[test]
    fn as_many_ids_as_one_request_may_have_fit_its_body() {
        let ids = vec![ChunkId::of(b""); MAX_HAVE_IDS];
        assert!(write_ids(&ids).len() <= crate::chunk::MAX_CHUNK_BYTES);
    }

    #[test]
    fn a_list_of_urls_is_enough_for_peers() {
        let peers: Peers = serde_json::from_str(r#"{"peers":["http://10.0.0.4:8080"]}"#).unwrap();
        assert_eq!(peers.peers, ["http://10.0.0.4:8080"]);
        assert!(peers.cells.is_empty());
    }

    #[test]
    fn a_cells_status_can_be_read_as_its_beacon() {
        let text =
            r#"{"node_id":"6f3c1b52-7a0e-4a53-9a39-2f1f7d0f4c11","port":8081,"status":"full","boot":"00ff","bytes":7}"#;
        let status: CellStatus = serde_json::from_str(text).unwrap();
        assert_eq!((status.beacon.status, status.boot(), status.bytes), (Status::Full, Some(Boot(255)), 7));
        let again: CellStatus = serde_json::from_str(&serde_json::to_string(&status).unwrap()).unwrap();
        assert_eq!(again, status);
    }
}
