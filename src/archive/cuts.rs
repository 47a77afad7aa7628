//! Where the stream of a directory is cut into blocks.
//!
//! A block begins and ends with entries, so that few blocks change when a file does:
//!
//! ```text
//!  │ small │ small │ small │ large … │ … large │ small │ small, with a hash of zero │ small │ …
//!  └──────── block ────────┴─ block ─┴─ block ─┴─────────────── block ──────────────┴─ block …
//! ```
//!
//! * An entry that is larger than a block begins a block, and its last block ends with it.
//! * Smaller entries share a block, up to the first one that would not fit.
//! * A block also ends after an entry whose path has a SHA-256 that begins with a zero byte: one of 256, on average. So
//!   a file that grows, comes or goes moves the cuts only up to the next of these.
//!
//! The cuts depend on paths and lengths alone. The same directory is cut alike each time.

use sha2::{Digest, Sha256};

use crate::id::BLOCK_BYTES;

/// Does a block end before an entry, if it has `filled` bytes and the entry has `entry_bytes` with header and padding?
pub fn ends_before(filled: usize, entry_bytes: u64) -> bool {
    filled > 0 && (filled as u64).saturating_add(entry_bytes) > BLOCK_BYTES as u64
}

/// Does a block end after the entry at this path, which has `entry_bytes` with header and padding?
pub fn ends_after(path: &[u8], entry_bytes: u64) -> bool {
    entry_bytes > BLOCK_BYTES as u64 || Sha256::digest(path).first() == Some(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = BLOCK_BYTES as u64;

    #[test]
    fn small_entries_share_a_block_while_they_fit() {
        assert!(!ends_before(0, 512) && !ends_before(BLOCK_BYTES - 512, 512));
        assert!(ends_before(BLOCK_BYTES - 511, 512) && !ends_after(b"small", BLOCK));
    }

    #[test]
    fn a_large_entry_has_blocks_of_its_own() {
        assert!(ends_before(512, BLOCK + 512) && ends_before(1, u64::MAX) && !ends_before(0, u64::MAX));
        assert!(ends_after(b"large", BLOCK + 512));
    }

    #[test]
    fn a_block_ends_after_one_path_in_256() {
        let count = (0..100_000).filter(|n| ends_after(format!("folder/{n}").as_bytes(), 512)).count();
        assert!((300..480).contains(&count), "{count}");
        // Found with Python's `hashlib`.
        assert!(ends_after(b"folder/240", 512) && !ends_after(b"folder/241", 512));
    }
}
