//! The datagrams of discovery: beacon, probe and alert. [`crate::wire`] specifies them.

use serde::{Deserialize, Serialize};

use crate::id::{CellId, ChunkId};
use crate::wire::beacon::Beacon;

/// The largest datagram that is sent or read, in bytes. It fits in one Ethernet frame behind any IP and UDP headers.
pub const MAX_DATAGRAM_BYTES: usize = 1200;

/// A report that a cell has a bad copy, as a datagram or as the body of `POST /alert`. It proves nothing: a receiver
/// checks the copy before it acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "alert")]
pub struct Alert {
    /// The cell that reports.
    pub node_id: CellId,
    /// The cell that has the bad copy.
    pub culprit: CellId,
    /// The chunk.
    pub chunk: ChunkId,
    /// The SHA-256 of the bytes that the culprit sent.
    pub found: ChunkId,
}

/// One datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Datagram {
    /// A cell announces itself.
    Beacon(Beacon),
    /// A request for beacons.
    Probe,
    /// A report of a bad copy.
    Alert(Alert),
}

/// Why bytes are not a datagram of this protocol.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// More than [`MAX_DATAGRAM_BYTES`].
    #[error("the datagram has {len} bytes, more than {MAX_DATAGRAM_BYTES}")]
    TooLong {
        /// The length in bytes.
        len: usize,
    },
    /// Not JSON, or a required key is missing or has a value of the wrong form.
    #[error("malformed datagram: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A beacon with port 0.
    #[error("the beacon has port 0")]
    ZeroPort,
    /// The value of `type` is unknown.
    #[error("unknown type of datagram")]
    UnknownType,
}

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<std::borrow::Cow<'a, str>>,
}

impl Datagram {
    /// Reads a datagram. Only its form is checked; its content may be forged.
    pub fn parse(bytes: &[u8]) -> Result<Self, DatagramError> {
        if bytes.len() > MAX_DATAGRAM_BYTES {
            return Err(DatagramError::TooLong { len: bytes.len() });
        }
        match serde_json::from_slice::<Typed<'_>>(bytes)?.kind.as_deref() {
            None => match serde_json::from_slice::<Beacon>(bytes)? {
                Beacon { port: 0, .. } => Err(DatagramError::ZeroPort),
                beacon => Ok(Self::Beacon(beacon)),
            },
            Some("probe") => Ok(Self::Probe),
            Some("alert") => Ok(Self::Alert(serde_json::from_slice(bytes)?)),
            Some(_) => Err(DatagramError::UnknownType),
        }
    }

    /// The bytes to send, fewer than [`MAX_DATAGRAM_BYTES`] since the length of every field is bounded.
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
    use crate::wire::beacon::{Boot, Role, Status};

    const MINIMAL: &[u8] = br#"{"node_id":"6f3c1b52-7a0e-4a53-9a39-2f1f7d0f4c11","port":8081,"status":"active"}"#;

    #[test]
    fn three_keys_are_enough_for_a_beacon() {
        let Datagram::Beacon(beacon) = Datagram::parse(MINIMAL).unwrap() else { panic!("a beacon") };
        assert_eq!(beacon.port, 8081);
        assert_eq!((beacon.status, beacon.role, beacon.free), (Status::Active, Role::Stem, None));
    }

    #[test]
    fn the_largest_beacon_fits_in_a_datagram() {
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
    fn beacons_of_newer_versions_are_read() {
        let newer = br#"{"node_id":"6f3c1b52-7a0e-4a53-9a39-2f1f7d0f4c11","port":1,"status":"resting","role":"neuron","x":[1]}"#;
        let Datagram::Beacon(beacon) = Datagram::parse(newer).unwrap() else { panic!("a beacon") };
        assert_eq!((beacon.status, beacon.role), (Status::Unknown, Role::Stem));
    }

    #[test]
    fn other_bytes_are_errors() {
        for end in 0..MINIMAL.len() {
            assert!(Datagram::parse(&MINIMAL[..end]).is_err(), "{end}");
        }
        for bad in [&br#"{"type":"order"}"#[..], b"[]", b"{}", b"\xff\xfe", &[b'{'; 1000], &vec![b' '; 2000]] {
            assert!(Datagram::parse(bad).is_err(), "{bad:?}");
        }
        let without_port = String::from_utf8(MINIMAL.to_vec()).unwrap().replace("8081", "0");
        assert!(matches!(Datagram::parse(without_port.as_bytes()), Err(DatagramError::ZeroPort)));
        assert_eq!(Datagram::parse(br#"{"type":"probe"}"#).unwrap(), Datagram::Probe);
    }

    #[test]
    fn an_alert_reads_back_and_fits_in_a_datagram() {
        let alert = Alert {
            node_id: CellId::from_bytes([1; 16]),
            culprit: CellId::from_bytes([2; 16]),
            chunk: ChunkId::of(b"a"),
            found: ChunkId::of(b"b"),
        };
        let bytes = Datagram::Alert(alert).encode();
        assert!(bytes.starts_with(br#"{"type":"alert","node_id":""#) && bytes.len() < MAX_DATAGRAM_BYTES / 2);
        assert_eq!(Datagram::parse(&bytes).unwrap(), Datagram::Alert(alert));
    }
}
