//! Byte ranges of the user's file: which bytes are in a block.

use std::fmt;

use crate::pipeline::Manifest;

/// Ranges listed one by one in a message. Of further ranges only the number is given.
const MAX_LISTED: usize = 8;

/// A range of bytes in the user's file. Shown with its last byte: `0-1048575`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub start: u64,
    /// The byte behind the last one.
    pub end: u64,
}

/// What stands for the bytes of the index of a directory, which are not in the user's file.
const INDEX: ByteRange = ByteRange { start: u64::MAX, end: u64::MAX };

impl ByteRange {
    /// The bytes in the block at this position of all chunks of a manifest.
    pub(in crate::client) fn of_block(index: usize, manifest: &Manifest) -> Self {
        if index >= manifest.chunks.len() {
            return INDEX;
        }
        let bytes = manifest.block(index);
        Self { start: bytes.start, end: bytes.end }
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == INDEX {
            return f.write_str("of the index");
        }
        write!(f, "{}-{}", self.start, self.end.saturating_sub(1))
    }
}

/// Ascending byte ranges. Shown as `0-1048575, 3145728-4194303 and 2 more ranges`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ByteRanges(Vec<ByteRange>);

impl ByteRanges {
    /// The bytes in these blocks, by their positions in all chunks of a manifest. Adjacent blocks become one range.
    /// `indices` are in ascending order.
    pub(in crate::client) fn of_blocks(indices: &[usize], manifest: &Manifest) -> Self {
        let mut ranges: Vec<ByteRange> = Vec::new();
        for &index in indices {
            let next = ByteRange::of_block(index, manifest);
            match ranges.last_mut() {
                Some(last) if last.end == next.start => last.end = next.end,
                _ => ranges.push(next),
            }
        }
        Self(ranges)
    }
}

impl From<ByteRange> for ByteRanges {
    fn from(range: ByteRange) -> Self {
        Self(vec![range])
    }
}

impl fmt::Display for ByteRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, range) in self.0.iter().take(MAX_LISTED).enumerate() {
            write!(f, "{}{range}", if number == 0 { "" } else { ", " })?;
        }
        match self.0.len().saturating_sub(MAX_LISTED) {
            0 => Ok(()),
            more => write!(f, " and {more} more ranges"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::id::ChunkId;
    use crate::pipeline::{Content, Key, Version2};

    const MIB: u64 = 1 << 20;

    fn manifest(chunks: usize, size: Option<u64>) -> Manifest {
        let chunks = vec![ChunkId::of(b"chunk"); chunks];
        Manifest { key: Key::generate(), size, copies: 5, content: Content::Tar, chunks, version2: None }
    }

    #[test]
    fn adjacent_blocks_join_and_the_last_ends_with_the_file() {
        let joined = ByteRanges::of_blocks(&[0, 1, 4, 6], &manifest(7, Some(6 * MIB + 5)));
        assert_eq!(joined.to_string(), "0-2097151, 4194304-5242879, 6291456-6291460");
    }

    #[test]
    fn blocks_of_the_index_have_no_bytes_of_the_file() {
        let version2 = Some(Version2 { ends: vec![7, 10], ..Version2::default() });
        let manifest = Manifest { version2, ..manifest(2, Some(10)) };
        assert_eq!(ByteRanges::of_blocks(&[1, 2, 3], &manifest).to_string(), "7-9, of the index");
        assert_eq!(ByteRanges::of_blocks(&[2], &manifest).to_string(), "of the index");
    }

    #[test]
    fn a_message_lists_few_ranges_and_counts_the_others() {
        let every_second: Vec<usize> = (0..20).map(|n| n * 2).collect();
        let text = ByteRanges::of_blocks(&every_second, &manifest(40, None)).to_string();
        assert!(text.ends_with(", 14680064-15728639 and 12 more ranges"), "{text}");
    }
}
