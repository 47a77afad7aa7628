//! Ids and sizes: the block, the chunk and its id, the cell's id.
//!
//! A block is a piece of a user's file. A chunk is a block that was compressed and sealed. The id of a chunk is the
//! SHA-256 of its bytes. This module is pure: it reads no clock, socket or disk.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The size of a block in bytes. Only the last block of a file may be shorter.
pub const BLOCK_BYTES: usize = 1 << 20;

/// The largest chunk that a cell stores, in bytes. A sealed block has little more than half of this; the rest is for
/// chunks of earlier versions, which are base64 text.
pub const MAX_CHUNK_BYTES: usize = 2 << 20;

/// How many copies of a chunk the colony keeps when nothing sets a number: a put without `--copies`, a request without
/// the header `CellSync-Copies`, a manifest without the key `copies`, a chunk without metadata. Earlier versions always
/// made this many, so a manifest that does not state a number means this one.
pub const DEFAULT_COPIES: u8 = 5;

/// Copies of a chunk that a put must make, unless the user chooses another number or wants fewer. One lost disk is then
/// survived, and the colony makes the other copies.
pub const DEFAULT_MIN_COPIES: u8 = 2;

/// The most cells that are named, and remembered, as holders of one chunk.
pub const MAX_HOLDERS: usize = 32;

/// The length of a chunk id as text: two hexadecimal digits for each of its 32 bytes.
pub const ID_HEX_LEN: usize = 64;

/// The id of a chunk: the SHA-256 (FIPS 180-4) of its bytes, as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId([u8; 32]);

/// The text is not a chunk id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed chunk id: it must be {ID_HEX_LEN} lower-case hexadecimal digits")]
pub struct MalformedId;

impl ChunkId {
    /// Hashes the bytes of a chunk.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The id with these 32 bytes, for a hash that was computed while streaming.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first byte. It selects one of the 256 folders that hold chunks on a cell's disk.
    pub const fn shard(&self) -> u8 {
        self.0[0]
    }

    /// The first eight digits, for messages.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(8);
        text
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ChunkId {
    type Err = MalformedId;

    fn from_str(text: &str) -> Result<Self, MalformedId> {
        if text.len() != ID_HEX_LEN {
            return Err(MalformedId);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let &[high, low] = pair else { return Err(MalformedId) };
            *byte = digit(high)? << 4 | digit(low)?;
        }
        Ok(Self(bytes))
    }
}

fn digit(ascii: u8) -> Result<u8, MalformedId> {
    match ascii {
        b'0'..=b'9' => Ok(ascii - b'0'),
        b'a'..=b'f' => Ok(ascii - b'a' + 10),
        _ => Err(MalformedId),
    }
}

impl Serialize for ChunkId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ChunkId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The id of a cell: a version 4 UUID (RFC 9562), created with its data folder and stored there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CellId(Uuid);

impl CellId {
    /// A new id from 16 random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// The id with these 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The 16 bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The first eight digits, for messages.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(8);
        text
    }
}

impl fmt::Display for CellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for CellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for CellId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_id_is_the_sha_256_and_reads_back() {
        let id = ChunkId::of(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(id.to_string(), text);
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(id.shard(), 0xba);
        assert_eq!(id.short(), "ba7816bf");
    }

    #[test]
    fn only_64_lower_case_digits_are_a_chunk_id() {
        let good = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let upper = good.to_uppercase();
        let long = format!("{good}0");
        let path = format!("../{}", &good[3..]);
        for bad in ["", "ba", &good[1..], &long, &upper, &path, "é".repeat(32).as_str()] {
            assert_eq!(bad.parse::<ChunkId>(), Err(MalformedId), "{bad}");
        }
    }
}
