//! How a record is written in the catalogue.
//!
//! ```text
//!  byte  0        1        2        3         4..8     8..13        13..18         18..50          ..
//!       ┌────────┬────────┬────────┬─────────┬────────┬────────────┬──────────────┬───────────────┬─────────────────┐
//!       │ layout │ copies │ flags: │ holders │ len    │ stored_at  │ scrubbed_at  │ owner         │ holders × 16    │
//!       │ 1      │        │ 1 owner│ count   │ u32    │ seconds    │ seconds      │ if flagged    │ bytes of a name │
//!       │        │        │ 2 bare │         │        │            │              │               │                 │
//!       └────────┴────────┴────────┴─────────┴────────┴────────────┴──────────────┴───────────────┴─────────────────┘
//! ```
//!
//! Numbers are little-endian; times have 40 bits, which last 34,000 years. Five holders and no owner take 98 bytes.
//! A value of any other layout is no record: the chunk's file is looked at and a new record made.
//!
//! *Bare* is a record of which no put told anything: the first one that does has its word taken, whatever the cell
//! itself found out about the chunk since.

use crate::id::CellId;
use crate::store::{MAX_HOLDERS, PutMetadata, Record};

const LAYOUT: u8 = 1;
const HAS_OWNER: u8 = 1;
const BARE: u8 = 2;
const TIME_MAX_S: u64 = (1 << 40) - 1;

/// A record, and how much it is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) record: Record,
    /// Did no put tell anything of the chunk but its bytes?
    pub(super) bare: bool,
}

impl From<Record> for Known {
    fn from(record: Record) -> Self {
        let bare = record.metadata.holders.is_empty() && record.metadata.owner.is_none();
        Self { record, bare }
    }
}

/// The record as bytes. Holders past [`MAX_HOLDERS`] are left out.
pub(super) fn encode(known: &Known) -> Vec<u8> {
    let record = &known.record;
    let holders = record.metadata.holders.iter().take(MAX_HOLDERS);
    let count = u8::try_from(holders.len()).unwrap_or(u8::MAX);
    let owner = if record.metadata.owner.is_some() { HAS_OWNER } else { 0 };
    let bare = if known.bare { BARE } else { 0 };
    let mut bytes = vec![LAYOUT, record.metadata.copies, owner | bare, count];
    bytes.extend_from_slice(&u32::try_from(record.len).unwrap_or(u32::MAX).to_le_bytes());
    for time_s in [record.metadata.stored_at_s, record.scrubbed_at_s] {
        bytes.extend(time_s.min(TIME_MAX_S).to_le_bytes().into_iter().take(5));
    }
    bytes.extend(record.metadata.owner.iter().flatten());
    bytes.extend(holders.flat_map(CellId::as_bytes));
    bytes
}

/// The record these bytes are, or `None` if they are none.
pub(super) fn decode(bytes: &[u8]) -> Option<Known> {
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
    let (names, left) = rest.as_chunks();
    if names.len() != usize::from(count) || !left.is_empty() {
        return None;
    }
    let known = Known::from(Record {
        len: u32::from_le_bytes(*len).into(),
        metadata: PutMetadata {
            copies,
            holders: names.iter().map(|name| CellId::from_bytes(*name)).collect(),
            owner,
            stored_at_s: time(*stored_at),
        },
        scrubbed_at_s: time(*scrubbed_at),
    });
    // Those that were written before there was a flag for it show it by what they lack.
    Some(Known { bare: known.bare || flags & BARE != 0, ..known })
}

fn time(bytes: [u8; 5]) -> u64 {
    bytes.iter().rev().fold(0, |high, byte| high << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(holders: usize, owner: Option<[u8; 32]>) -> Known {
        let holders = (0..holders).map(|n| CellId::from_bytes([u8::try_from(n).unwrap(); 16])).collect();
        let metadata = PutMetadata { copies: 5, holders, owner, stored_at_s: 1_790_000_000 };
        Record { len: 1_048_600, metadata, scrubbed_at_s: 1_790_000_001 }.into()
    }

    #[test]
    fn a_record_reads_back() {
        for holders in [0, 1, 5, MAX_HOLDERS] {
            for owner in [None, Some([7; 32])] {
                let known = known(holders, owner);
                assert_eq!(decode(&encode(&known)).as_ref(), Some(&known));
                let bare = Known { bare: true, ..known };
                assert_eq!(decode(&encode(&bare)), Some(bare));
            }
        }
    }

    #[test]
    fn the_layout_on_disk_stays_as_it_was_released() {
        let bytes = encode(&known(1, Some([7; 32])));
        let mut golden = vec![1, 5, 1, 1, 0x18, 0, 0x10, 0, 0x80, 0x3b, 0xb1, 0x6a, 0, 0x81, 0x3b, 0xb1, 0x6a, 0];
        golden.extend([7; 32]);
        golden.extend([0; 16]);
        assert_eq!(bytes, golden);
        assert_eq!(encode(&known(5, None)).len(), 98);
        // Of before there was the flag: a record that tells nothing is a bare one.
        let mut bare = golden[..18].to_vec();
        (bare[2], bare[3]) = (0, 0);
        assert_eq!(decode(&bare), Some(known(0, None)));
        assert!(known(0, None).bare);
    }

    #[test]
    fn holders_over_the_limit_are_left_out() {
        let read = decode(&encode(&known(MAX_HOLDERS + 1, None)));
        assert_eq!(read, Some(known(MAX_HOLDERS, None)));
    }

    #[test]
    fn bytes_that_are_no_record_are_refused() {
        let good = encode(&known(2, Some([7; 32])));
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
