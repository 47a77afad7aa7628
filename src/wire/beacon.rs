//! The datagrams of discovery: JSON, each under [`MAX_DATAGRAM_BYTES`].
//!
//! ```text
//! beacon  {"node_id":"<uuid>","port":8080,"status":"active",                           needed
//!          "v":1,"boot":"<hex>","role":"storage","chunks":1234,"free":5678,"cells":6}  told by us, optional
//! probe   {"type":"probe"}                                   every cell answers with its beacon
//! alert   {"type":"alert","node_id":"<uuid of who says so>","culprit":"<uuid>","chunk":"<id>","found":"<hash>"}
//! ```
//!
//! Keys that are not known are passed over, so that newer cells can say more. `cells` is how many active cells the
//! sender knows, itself included: when all that answered agree on it, a client knows that it has heard them all.

use serde::{Deserialize, Serialize};

use crate::id::CellId;
use crate::id::ChunkId;

/// The largest datagram that is sent or read, in bytes: it fits one Ethernet frame with room for any header.
pub const MAX_DATAGRAM_BYTES: usize = 1200;

/// Does a cell take new chunks, and will it stay?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It takes chunks.
    Active,
    /// It has no room; what it holds can be read.
    Full,
    /// It hands its chunks on and takes no new ones.
    Draining,
    /// It is about to stop.
    Leaving,
    /// A word of a newer cell: alive, and to be left alone.
    #[serde(other)]
    Unknown,
}

/// What a cell does in the colony.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Holds chunks.
    Storage,
    /// Holds chunks when needed, and audits others.
    Guard,
    /// Not differentiated yet. Also what an unknown word is read as.
    #[default]
    #[serde(other)]
    Stem,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Active => "active",
            Self::Full => "full",
            Self::Draining => "draining",
            Self::Leaving => "leaving",
            Self::Unknown => "unknown",
        })
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Stem => "stem",
            Self::Storage => "storage",
            Self::Guard => "guard",
        })
    }
}

/// A number that changes at each start of a cell: 16 hexadecimal digits on the wire. The larger one started later, as
/// far as its board's clock knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boot(pub u64);

impl Serialize for Boot {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Boot {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

/// What a cell says of itself each second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beacon {
    /// The cell's name.
    pub node_id: CellId,
    /// TCP port of its HTTP door; the address is the datagram's source.
    pub port: u16,
    /// Whether it takes chunks.
    pub status: Status,
    /// Version of these words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v: Option<u32>,
    /// Which start of the cell this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// What it does.
    #[serde(default)]
    pub role: Role,
    /// Chunks it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<u64>,
    /// Bytes it may still take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<u64>,
    /// Active cells it knows, itself included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cells: Option<u32>,
    /// Seconds since it last finished re-hashing all of its copies and found them good; absent if it never did since
    /// its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean_s: Option<u64>,
}

/// The version of the words that this program speaks.
pub const WIRE_VERSION: u32 = 1;

/// Somebody says that a cell has a bad copy: a hint to look, never an order. Also the body of `POST /alert`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "alert")]
pub struct Alert {
    /// Who says so.
    pub node_id: CellId,
    /// Who is said to have the bad copy.
    pub culprit: CellId,
    /// Of which chunk.
    pub chunk: ChunkId,
    /// What the bytes are said to hash to.
    pub found: ChunkId,
}

/// One datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Datagram {
    /// A cell is there.
    Beacon(Beacon),
    /// Somebody asks who is there.
    Probe,
    /// Somebody warns of a bad copy.
    Alert(Alert),
}

/// Why bytes are no datagram of ours.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// Longer than any of ours.
    #[error("a datagram of {0} bytes is over the limit of {MAX_DATAGRAM_BYTES}")]
    TooLong(usize),
    /// Not JSON, or without the keys that are needed.
    #[error("not a beacon: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A beacon with port 0, where nobody can be reached.
    #[error("a beacon that names no port")]
    NoDoor,
    /// A `type` that is not known.
    #[error("a datagram of an unknown type")]
    UnknownType,
}

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<std::borrow::Cow<'a, str>>,
}

impl Datagram {
    /// Reads a datagram. Nothing in it is trusted beyond its form.
    pub fn parse(bytes: &[u8]) -> Result<Self, DatagramError> {
        if bytes.len() > MAX_DATAGRAM_BYTES {
            return Err(DatagramError::TooLong(bytes.len()));
        }
        match serde_json::from_slice::<Typed<'_>>(bytes)?.kind.as_deref() {
            None => match serde_json::from_slice::<Beacon>(bytes)? {
                Beacon { port: 0, .. } => Err(DatagramError::NoDoor),
                beacon => Ok(Self::Beacon(beacon)),
            },
            Some("probe") => Ok(Self::Probe),
            Some("alert") => Ok(Self::Alert(serde_json::from_slice(bytes)?)),
            Some(_) => Err(DatagramError::UnknownType),
        }
    }

    /// The bytes to send; always under [`MAX_DATAGRAM_BYTES`], since every field is bounded.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Beacon(beacon) => serde_json::to_vec(beacon).unwrap_or_default(),
            Self::Probe => br#"{"type":"probe"}"#.to_vec(),
            Self::Alert(alert) => serde_json::to_vec(alert).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &[u8] = br#"{"node_id":"6f3c1b52-7a0e-4a53-9a39-2f1f7d0f4c11","port":8081,"status":"active"}"#;

    #[test]
    fn the_three_keys_of_older_cells_are_enough() {
        let Datagram::Beacon(beacon) = Datagram::parse(OLD).unwrap() else { panic!("a beacon") };
        assert_eq!(beacon.port, 8081);
        assert_eq!((beacon.status, beacon.role, beacon.free), (Status::Active, Role::Stem, None));
    }

    #[test]
    fn a_beacon_with_every_field_at_its_largest_fits_a_datagram_and_reads_back() {
        let beacon = Beacon {
            node_id: CellId::from_bytes([0xff; 16]),
            port: u16::MAX,
            status: Status::Draining,
            v: Some(u32::MAX),
            boot: Some(Boot(u64::MAX)),
            role: Role::Storage,
            chunks: Some(u64::MAX),
            free: Some(u64::MAX),
            cells: Some(u32::MAX),
            clean_s: Some(u64::MAX),
        };
        let bytes = Datagram::Beacon(beacon.clone()).encode();
        assert!(bytes.len() < MAX_DATAGRAM_BYTES / 2, "{}", bytes.len());
        assert_eq!(Datagram::parse(&bytes).unwrap(), Datagram::Beacon(beacon));
    }

    #[test]
    fn words_of_newer_cells_do_not_hide_them() {
        let newer = br#"{"node_id":"6f3c1b52-7a0e-4a53-9a39-2f1f7d0f4c11","port":1,"status":"resting","role":"neuron","x":[1]}"#;
        let Datagram::Beacon(beacon) = Datagram::parse(newer).unwrap() else { panic!("a beacon") };
        assert_eq!((beacon.status, beacon.role), (Status::Unknown, Role::Stem));
    }

    #[test]
    fn what_is_no_datagram_is_an_error_at_every_length() {
        for end in 0..OLD.len() {
            assert!(Datagram::parse(&OLD[..end]).is_err(), "{end}");
        }
        for bad in [&br#"{"type":"order"}"#[..], b"[]", b"{}", b"\xff\xfe", &[b'{'; 1000], &vec![b' '; 2000]] {
            assert!(Datagram::parse(bad).is_err(), "{bad:?}");
        }
        let nowhere = String::from_utf8(OLD.to_vec()).unwrap().replace("8081", "0");
        assert!(matches!(Datagram::parse(nowhere.as_bytes()), Err(DatagramError::NoDoor)));
        assert_eq!(Datagram::parse(br#"{"type":"probe"}"#).unwrap(), Datagram::Probe);
    }
}
