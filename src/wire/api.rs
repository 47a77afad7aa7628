//! The names and bodies of a cell's HTTP interface. Paths and header names are fixed: other programs speak them.

use serde::{Deserialize, Serialize};

use crate::id::CellId;
use crate::id::{ChunkId, ID_HEX_LEN, MAX_CHUNK_BYTES};
use crate::wire::beacon::{Beacon, Boot, Role, Status};

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
/// The most cells that are named, and remembered, as holders of one chunk.
pub const MAX_HOLDERS: usize = 32;
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
    /// Healing, scrub, audits, draining.
    #[serde(default)]
    pub life: Life,
}

/// What a cell does besides being there. Counts are since its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Life {
    /// Own chunks that have fewer copies than they want, as far as this cell knows.
    pub short: u64,
    /// Of them, those that no cell can take now: the colony is too small, or full.
    pub stuck: u64,
    /// Copies sent to other cells to heal.
    pub healed_copies: u64,
    /// Their bytes.
    pub healed_bytes: u64,
    /// Copies fetched in place of bad ones.
    pub mended_copies: u64,
    /// Own copies found bad and quarantined.
    pub bad_copies: u64,
    /// Copies removed because they were too many and room was short.
    pub removed_copies: u64,
    /// Copies of other cells that were fetched and hashed.
    pub audits: u64,
    /// Of them, bad ones.
    pub audits_bad: u64,
    /// Alerts heard.
    pub alerts: u64,
    /// Alerts that were checked and are not so.
    pub alerts_false: u64,
    /// Cells that this one has isolated.
    pub isolated: Vec<CellId>,
    /// The full scrub under way, or the last one.
    pub scrub: Option<Scrub>,
    /// Is the cell handing its copies on, and how far is it?
    pub drain: Option<Drain>,
}

/// A full scrub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Scrub {
    /// Copies looked at.
    pub done: u64,
    /// Copies to look at in all.
    pub total: u64,
    /// Bad ones.
    pub bad: u64,
    /// Those about which the disk could not tell.
    pub unread: u64,
    /// Has it come to its end?
    pub finished: bool,
}

/// How far a cell is with handing its copies on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Drain {
    /// Copies that are not known to be elsewhere, as many as they should be.
    pub left: u64,
    /// Copies in all.
    pub total: u64,
    /// Of those left, the ones that no other cell can take now.
    pub stuck: u64,
    /// May the cell be unplugged?
    pub safe: bool,
}

/// The most lines in one `POST /chunks/holders`.
pub const MAX_NEWS: usize = 4096;

/// The most cells named in one line of it.
pub const MAX_NEWS_NAMES: usize = 32;

/// The most ids in one `POST /chunks/have?verify=1`: each of them is read to its end.
pub const MAX_VERIFY_IDS: usize = 16;

impl CellStatus {
    /// Which start of the cell this is, if it says.
    pub fn boot(&self) -> Option<Boot> {
        self.beacon.boot
    }
}

/// Reads the lines of a `POST /chunks/have`. Empty lines are passed over; CR before LF is allowed.
pub fn parse_ids(body: &[u8]) -> Result<Vec<ChunkId>, crate::id::MalformedId> {
    body.split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.is_empty())
        .map(|line| std::str::from_utf8(line).map_err(|_| crate::id::MalformedId)?.parse())
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

/// A chunk, and cells that are said to have a copy of it: a line of `POST /chunks/holders`.
pub type Whereabouts = (ChunkId, Vec<CellId>);

/// What is wrong with the body of a `POST /chunks/holders`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NewsError {
    /// A line that is not what a line must be.
    #[error("line {0} is not a chunk id, a blank, and one to {MAX_NEWS_NAMES} node ids with commas between")]
    Line(usize),
    /// More lines than one request may have.
    #[error("at most {MAX_NEWS} lines in one request")]
    TooMany,
}

/// Reads the lines of a `POST /chunks/holders`: `<chunk id> <node id>,<node id>…`. Empty lines are passed over; CR
/// before LF is allowed.
pub fn parse_news(body: &[u8]) -> Result<Vec<Whereabouts>, NewsError> {
    let mut news = Vec::new();
    for (number, line) in body.split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        if news.len() == MAX_NEWS {
            return Err(NewsError::TooMany);
        }
        news.push(parse_whereabouts(line).ok_or(NewsError::Line(number + 1))?);
    }
    Ok(news)
}

fn parse_whereabouts(line: &[u8]) -> Option<Whereabouts> {
    let (id, names) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    let names: Vec<CellId> =
        names.split(',').take(MAX_NEWS_NAMES + 1).map(str::parse).collect::<Result<_, _>>().ok()?;
    (names.len() <= MAX_NEWS_NAMES).then_some((id.parse().ok()?, names))
}

/// Writes bodies for `POST /chunks/holders`, as many as it takes for each to be one that [`parse_news`] reads and a
/// cell lets in. Chunks that nobody is said to have are left out, and names past [`MAX_NEWS_NAMES`].
pub fn write_news<'a>(news: impl IntoIterator<Item = (&'a ChunkId, &'a [CellId])>) -> Vec<String> {
    let mut bodies: Vec<(String, usize)> = Vec::new();
    for (id, names) in news {
        let names: Vec<String> = names.iter().take(MAX_NEWS_NAMES).map(ToString::to_string).collect();
        if names.is_empty() {
            continue;
        }
        let line = format!("{id} {}\n", names.join(","));
        match bodies.last_mut() {
            Some((body, lines)) if *lines < MAX_NEWS && body.len() + line.len() <= MAX_CHUNK_BYTES => {
                body.push_str(&line);
                *lines += 1;
            }
            _ => bodies.push((line, 1)),
        }
    }
    bodies.into_iter().map(|(body, _)| body).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(n: u8) -> CellId {
        CellId::from_bytes([n; 16])
    }

    #[test]
    fn news_go_one_a_line_and_read_back() {
        let news = [(ChunkId::of(b"a"), vec![cell(1)]), (ChunkId::of(b"b"), (0..32).map(cell).collect())];
        let pairs = || news.iter().map(|(id, names)| (id, names.as_slice()));
        let [body] = &write_news(pairs())[..] else { panic!("one body") };
        assert_eq!(parse_news(body.as_bytes()).unwrap(), news);
        assert_eq!(parse_news(body.replace('\n', "\r\n\n").as_bytes()).unwrap(), news);
        assert_eq!(parse_news(b""), Ok(Vec::new()));
        let nobody: [(ChunkId, Vec<CellId>); 1] = [(ChunkId::of(b"a"), Vec::new())];
        assert!(write_news(nobody.iter().map(|(id, names)| (id, names.as_slice()))).is_empty());
    }

    #[test]
    fn a_line_of_news_that_is_none_is_named() {
        let (id, name) = (ChunkId::of(b"a").to_string(), cell(1).to_string());
        let many = vec![name.as_str(); MAX_NEWS_NAMES + 1].join(",");
        for bad in [
            "x",
            id.as_str(),
            &format!("{id} "),
            &format!("{id}  {name}"),
            &format!("{id} {name},"),
            &format!("{id} {name} "),
            &format!("{} {name}", id.to_uppercase()),
            &format!("{id},{name}"),
            &format!("{id} {many}"),
            &format!("{id} é"),
        ] {
            let body = format!("{id} {name}\n\n{bad}\n");
            assert_eq!(parse_news(body.as_bytes()), Err(NewsError::Line(3)), "{bad}");
        }
        assert_eq!(parse_news(&[0xff; 70]), Err(NewsError::Line(1)));
    }

    #[test]
    fn as_much_news_as_there_may_be_goes_in_bodies_that_are_let_in() {
        let names: Vec<CellId> = (0..40).map(cell).collect();
        let ids: Vec<ChunkId> = (0..=2 * MAX_NEWS as u64).map(|n| ChunkId::of(&n.to_le_bytes())).collect();
        for (names, fewest) in [(&names[..1], 3), (&names[..], 5)] {
            let bodies = write_news(ids.iter().map(|id| (id, names)));
            assert!(bodies.len() >= fewest && bodies.iter().all(|body| body.len() <= MAX_CHUNK_BYTES));
            let read: Vec<ChunkId> =
                bodies.iter().flat_map(|body| parse_news(body.as_bytes()).unwrap()).map(|(id, _)| id).collect();
            assert_eq!(read, ids);
        }
        let line = format!("{} {}\n", ids[0], names[0]);
        assert_eq!(parse_news(line.repeat(MAX_NEWS).as_bytes()).unwrap().len(), MAX_NEWS);
        assert_eq!(parse_news(line.repeat(MAX_NEWS + 1).as_bytes()), Err(NewsError::TooMany));
    }

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
        assert!(write_ids(&ids).len() <= MAX_CHUNK_BYTES);
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
