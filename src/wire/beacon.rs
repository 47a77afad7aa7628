//! The beacon: what a cell announces about itself every second.

use serde::{Deserialize, Serialize};

use crate::id::CellId;

/// The version of the protocol, which beacons carry as `v`.
pub const WIRE_VERSION: u32 = 1;

/// Whether a cell accepts new chunks, and whether it stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The cell accepts chunks.
    Active,
    /// The cell has no space for a chunk. Its chunks can be read.
    Full,
    /// The cell hands its chunks to others and accepts no new ones.
    Draining,
    /// The cell is about to stop.
    Leaving,
    /// A value of a newer version. The cell is alive; send it no chunks.
    #[serde(other)]
    Unknown,
}

/// The role of a cell in the colony.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Stores chunks.
    Storage,
    /// Audits random copies of other cells. Stores chunks only when there are too few storage cells.
    Guard,
    /// Has not differentiated yet. Values of newer versions are read as this one.
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

/// Identifies one start of a cell: 16 hexadecimal digits in JSON. A later start has a larger number, as far as the
/// board's clock is right.
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

/// A cell's announcement of itself. [`crate::wire`] specifies its JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beacon {
    /// The cell's id.
    pub node_id: CellId,
    /// The TCP port of its HTTP interface. The address is the source of the datagram.
    pub port: u16,
    /// Whether it accepts chunks.
    pub status: Status,
    /// The version of the protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v: Option<u32>,
    /// Identifies this start of the cell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// Its role.
    #[serde(default)]
    pub role: Role,
    /// The number of chunks that it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<u64>,
    /// Bytes that it can still store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<u64>,
    /// The number of active cells in its member table, itself included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cells: Option<u32>,
    /// Seconds since its last scrub that found all of its copies good; absent if there was none since its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean_s: Option<u64>,
}
