//! The encoding of a record in the catalogue: the value that belongs to the key of 32 bytes, the chunk's id.
//!
//! ```text
//! offset  bytes    field
//! 0       1        layout: 1
//! 1       1        copies wanted
//! 2       1        flags: 1 = has an owner, 2 = open; other bits are 0
//! 3       1        number of holders, at most 32
//! 4       4        length of the chunk in bytes, u32
//! 8       5        stored_at: seconds, 39 bits; in an open record the highest bit means that the copies are known
//! 13      5        scrubbed_at: seconds, 40 bits; 0 for never
//! 18      0 or 32  owner, if flagged: SHA-256 of the token
//! 18, 50  n × 16   cell ids of the holders
//! ```
//!
//! Numbers are little-endian. Times count from 1970; 39 bits last 17,000 years. A record with five holders and no owner
//! has 98 bytes. A value of any other layout is not a record: it is deleted, and a new record is made from the chunk's
//! file.
//!
//! An *open* record has metadata that no put supplied: no put named holders or an owner. The next put that does
//! determines the metadata, whatever the cell itself has found out meanwhile. Records written before the flag existed
//! are open if they have neither holders nor owner.
//!
//! A *bare* record is an open one whose number of copies is a guess ([`PutMetadata::bare`]). It has the default number
//! and lacks the bit in `stored_at`. Earlier versions know no such bit: they read it as a part of the time, which they
//! only carry along, and all open records that they have written with the default number count as bare.

use crate::id::{CellId, DEFAULT_COPIES, MAX_HOLDERS};
use crate::store::contract::{PutMetadata, Record};

const LAYOUT: u8 = 1;
const HAS_OWNER: u8 = 1;
const OPEN: u8 = 2;
/// The bit of `stored_at` which means that the copies of an open record are known.
const COPIES_KNOWN: u64 = 1 << 39;
const STORED_AT_MAX_S: u64 = COPIES_KNOWN - 1;
const SCRUBBED_AT_MAX_S: u64 = (1 << 40) - 1;

/// A record as the catalogue stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CatalogueEntry {
    pub(super) record: Record,
    /// No put has named holders or an owner. So it is if the record is bare.
    pub(super) open: bool,
}

impl From<Record> for CatalogueEntry {
    fn from(record: Record) -> Self {
        let PutMetadata { bare, holders, owner, .. } = &record.metadata;
        let open = *bare || (holders.is_empty() && owner.is_none());
        Self { record, open }
    }
}

/// Encodes a record. Holders past [`MAX_HOLDERS`] are left out.
pub(super) fn encode(entry: &CatalogueEntry) -> Vec<u8> {
    let record = &entry.record;
    let holders = record.metadata.holders.iter().take(MAX_HOLDERS);
    let count = u8::try_from(holders.len()).unwrap_or(u8::MAX);
    let owner = if record.metadata.owner.is_some() { HAS_OWNER } else { 0 };
    let open = if entry.open { OPEN } else { 0 };
    let mut bytes = vec![LAYOUT, record.metadata.copies, owner | open, count];
    bytes.extend_from_slice(&u32::try_from(record.len).unwrap_or(u32::MAX).to_le_bytes());
    let copies_known = if entry.open && !record.metadata.bare { COPIES_KNOWN } else { 0 };
    let stored_at = record.metadata.stored_at_s.min(STORED_AT_MAX_S) | copies_known;
    for number in [stored_at, record.scrubbed_at_s.min(SCRUBBED_AT_MAX_S)] {
        bytes.extend(number.to_le_bytes().into_iter().take(5));
    }
    bytes.extend(record.metadata.owner.iter().flatten());
    bytes.extend(holders.flat_map(CellId::as_bytes));
    bytes
}

/// Decodes a record, or returns `None` if the bytes are not one.
pub(super) fn decode(bytes: &[u8]) -> Option<CatalogueEntry> {
    let (&[layout, copies, flags, count], rest) = bytes.split_first_chunk()?;
    if layout != LAYOUT || flags & !(HAS_OWNER | OPEN) != 0 || usize::from(count) > MAX_HOLDERS {
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
    let open = flags & OPEN != 0 || (owner.is_none() && holders.is_empty());
    let stored_at = decode_number(*stored_at);
    // Only a number that was guessed is the default, and only that number is guessed.
    let bare = open && stored_at & COPIES_KNOWN == 0 && copies == DEFAULT_COPIES;
    let record = Record {
        len: u32::from_le_bytes(*len).into(),
        metadata: PutMetadata {
            copies,
            bare,
            holders: holders.iter().map(|id| CellId::from_bytes(*id)).collect(),
            owner,
            stored_at_s: stored_at & STORED_AT_MAX_S,
        },
        scrubbed_at_s: decode_number(*scrubbed_at),
    };
    Some(CatalogueEntry { record, open })
}

fn decode_number(bytes: [u8; 5]) -> u64 {
    bytes.iter().rev().fold(0, |high, byte| high << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(holders: usize, owner: Option<[u8; 32]>) -> CatalogueEntry {
        let holders = (0..holders).map(|n| CellId::from_bytes([u8::try_from(n).unwrap(); 16])).collect();
        let metadata = PutMetadata { copies: 5, bare: false, holders, owner, stored_at_s: 1_790_000_000 };
        Record { len: 1_048_600, metadata, scrubbed_at_s: 1_790_000_001 }.into()
    }

    #[test]
    fn an_encoded_record_decodes_to_itself() {
        for holders in [0, 1, 5, MAX_HOLDERS] {
            for owner in [None, Some([7; 32])] {
                let entry = entry(holders, owner);
                assert_eq!(decode(&encode(&entry)).as_ref(), Some(&entry));
                let mut open = CatalogueEntry { open: true, ..entry };
                assert_eq!(decode(&encode(&open)).as_ref(), Some(&open));
                open.record.metadata.bare = true;
                assert_eq!(decode(&encode(&open)), Some(open));
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
    }

    /// A guess must not become knowledge because another version wrote the record.
    #[test]
    fn records_of_earlier_versions_are_bare_if_their_copies_may_be_a_guess() {
        let open = encode(&entry(1, None));
        let with = |copies, flags, holders: usize| {
            let mut bytes = open[..18 + 16 * holders].to_vec();
            (bytes[1], bytes[2], bytes[3]) = (copies, flags, u8::try_from(holders).unwrap());
            let entry = decode(&bytes).unwrap();
            (entry.open, entry.record.metadata.bare)
        };
        assert_eq!(with(5, OPEN, 0), (true, true), "made from the file");
        assert_eq!(with(5, OPEN, 1), (true, true), "holders were found");
        assert_eq!(with(5, 0, 0), (true, true), "written before the flag existed");
        assert_eq!(with(3, OPEN, 0), (true, false), "only a put states another number");
        assert_eq!(with(5, 0, 1), (false, false), "a put has named the holder");
    }

    /// They read the bit as a part of a time, and write it back.
    #[test]
    fn earlier_versions_keep_the_bit_of_known_copies() {
        let mut known = entry(0, None);
        known.record.metadata.stored_at_s = u64::MAX;
        let bytes = encode(&known);
        assert_eq!(bytes[2], OPEN);
        let time = decode_number(bytes[8..13].try_into().unwrap());
        assert_eq!(time.min((1 << 40) - 1).to_le_bytes()[..5], bytes[8..13]);
        assert!(!decode(&bytes).unwrap().record.metadata.bare);
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
