//! The encoding of a record in the catalogue: the value that belongs to the key of 32 bytes, the chunk's id.
//!
//! ```text
//! offset  bytes    field
//! 0       1        layout: 1
//! 1       1        copies wanted
//! 2       1        flags: 1 = has an owner, 2 = bare; other bits are 0
//! 3       1        number of holders, at most 32
//! 4       4        length of the chunk in bytes, u32
//! 8       5        stored_at: seconds, 40 bits
//! 13      5        scrubbed_at: seconds, 40 bits; 0 for never
//! 18      0 or 32  owner, if flagged: SHA-256 of the token
//! 18, 50  n × 16   cell ids of the holders
//! ```
//!
//! Numbers are little-endian. Times count from 1970; 40 bits last 34,000 years. A record with five holders and no owner
//! has 98 bytes. A value of any other layout is not a record: it is deleted, and a new record is made from the chunk's
//! file.
//!
//! A *bare* record has metadata that no put supplied: no put named holders or an owner. The next put that does
//! determines the metadata, whatever the cell itself has found out meanwhile. Records written before the flag existed
//! are bare if they have neither holders nor owner.

use crate::id::{CellId, MAX_HOLDERS};
use crate::store::contract::{PutMetadata, Record};

const LAYOUT: u8 = 1;
const HAS_OWNER: u8 = 1;
const BARE: u8 = 2;
const TIME_MAX_S: u64 = (1 << 40) - 1;

/// A record as the catalogue stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CatalogueEntry {
    pub(super) record: Record,
    /// No put has named holders or an owner.
    pub(super) bare: bool,
}

impl From<Record> for CatalogueEntry {
    fn from(record: Record) -> Self {
        let bare = record.metadata.holders.is_empty() && record.metadata.owner.is_none();
        Self { record, bare }
    }
}

/// Encodes a record. Holders past [`MAX_HOLDERS`] are left out.
pub(super) fn encode(entry: &CatalogueEntry) -> Vec<u8> {
    let record = &entry.record;
    let holders = record.metadata.holders.iter().take(MAX_HOLDERS);
    let count = u8::try_from(holders.len()).unwrap_or(u8::MAX);
    let owner = if record.metadata.owner.is_some() { HAS_OWNER } else { 0 };
    let bare = if entry.bare { BARE } else { 0 };
    let mut bytes = vec![LAYOUT, record.metadata.copies, owner | bare, count];
    bytes.extend_from_slice(&u32::try_from(record.len).unwrap_or(u32::MAX).to_le_bytes());
    for time_s in [record.metadata.stored_at_s, record.scrubbed_at_s] {
        bytes.extend(time_s.min(TIME_MAX_S).to_le_bytes().into_iter().take(5));
    }
    bytes.extend(record.metadata.owner.iter().flatten());
    bytes.extend(holders.flat_map(CellId::as_bytes));
    bytes
}

/// Decodes a record, or returns `None` if the bytes are not one.
pub(super) fn decode(bytes: &[u8]) -> Option<CatalogueEntry> {
    let (&[layout, copies, flags, count], rest) = bytes.split_first_chunk()?;
    if layout != LAYOUT || flags & !(HAS_OWNER | BARE) != 0 || usize::from(count) > MAX_HOLDERS {
        return None;
    }
    let (len, rest) = rest.split_first_chunk()?;
    let (stored_at, rest) = rest.split_first_chunk()?;
    let (scrubbed_at, mut rest) = rest.split_first_chunk()?;
    let owner = if flags & HAS_OWNER == 0 {
        None
    } else {
        let (owner, after) = rest.split_first_chunk()?;
        rest = after;
        Some(*owner)
    };
    let (holders, excess) = rest.as_chunks();
    if holders.len() != usize::from(count) || !excess.is_empty() {
        return None;
    }
    let entry = CatalogueEntry::from(Record {
        len: u32::from_le_bytes(*len).into(),
        metadata: PutMetadata {
            copies,
            holders: holders.iter().map(|id| CellId::from_bytes(*id)).collect(),
            owner,
            stored_at_s: decode_time(*stored_at),
        },
        scrubbed_at_s: decode_time(*scrubbed_at),
    });
    Some(CatalogueEntry { bare: entry.bare || flags & BARE != 0, ..entry })
}

fn decode_time(bytes: [u8; 5]) -> u64 {
    bytes.iter().rev().fold(0, |high, byte| high << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(holders: usize, owner: Option<[u8; 32]>) -> CatalogueEntry {
        let holders = (0..holders).map(|n| CellId::from_bytes([u8::try_from(n).unwrap(); 16])).collect();
        let metadata = PutMetadata { copies: 5, holders, owner, stored_at_s: 1_790_000_000 };
        Record { len: 1_048_600, metadata, scrubbed_at_s: 1_790_000_001 }.into()
    }

    #[test]
    fn an_encoded_record_decodes_to_itself() {
        for holders in [0, 1, 5, MAX_HOLDERS] {
            for owner in [None, Some([7; 32])] {
                let entry = entry(holders, owner);
                assert_eq!(decode(&encode(&entry)).as_ref(), Some(&entry));
                let bare = CatalogueEntry { bare: true, ..entry };
                assert_eq!(decode(&encode(&bare)), Some(bare));
            }
        }
    }

    #[test]
    fn the_released_layout_does_not_change() {
        let bytes = encode(&entry(1, Some([7; 32])));
        let mut golden = vec![1, 5, 1, 1, 0x18, 0, 0x10, 0, 0x80, 0x3b, 0xb1, 0x6a, 0, 0x81, 0x3b, 0xb1, 0x6a, 0];
        golden.extend([7; 32]);
        golden.extend([0; 16]);
        assert_eq!(bytes, golden);
        assert_eq!(encode(&entry(5, None)).len(), 98);
        // Written before the flag existed.
        let mut bare = golden[..18].to_vec();
        (bare[2], bare[3]) = (0, 0);
        assert_eq!(decode(&bare), Some(entry(0, None)));
        assert!(entry(0, None).bare);
    }

    #[test]
    fn encode_drops_holders_past_the_limit() {
        let decoded = decode(&encode(&entry(MAX_HOLDERS + 1, None)));
        assert_eq!(decoded, Some(entry(MAX_HOLDERS, None)));
    }

    #[test]
    fn decode_refuses_bytes_of_another_layout() {
        let good = encode(&entry(2, Some([7; 32])));
        for len in 0..good.len() {
            assert_eq!(decode(&good[..len]), None, "cut to {len}");
        }
        assert_eq!(decode(&[good.as_slice(), &[0]].concat()), None);
        for (at, value) in [(0, 0), (0, 2), (2, 5), (3, 33)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(decode(&bad), None, "byte {at} = {value}");
        }
    }
}
