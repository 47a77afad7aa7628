//! What a salvage did not find.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use crate::archive::Kind;
use crate::human;

/// Ranges that a message lists for one file. Others are counted.
const MAX_LISTED: usize = 4;

/// What a salvage did not find of one entry, or of the stream around entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostPart {
    /// The path of the entry; `None` for a part of the archive in which no entry is known, and for a single file.
    pub path: Option<Vec<u8>>,
    /// Ranges of bytes of the file that are zeros now, in order. Without a path, ranges of the stored bytes.
    pub bytes: Vec<Range<u64>>,
    /// Its owner and its attributes are lost: the rest of its metadata is from the index.
    pub metadata: bool,
}

/// What was lost so far of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::client) struct LostParts {
    pub(in crate::client) parts: Vec<LostPart>,
    /// Bytes that were passed on as zeros in their place.
    pub(in crate::client) zero_bytes: u64,
    /// The numbers of those of entries, by path.
    by_path: BTreeMap<Vec<u8>, usize>,
}

impl LostParts {
    /// Adds what was lost of an entry, or of the stream, unless that is nothing.
    pub(in crate::client) fn add(&mut self, part: LostPart) {
        if part.is_empty() {
            return;
        }
        if let Some(path) = &part.path {
            self.by_path.insert(path.clone(), self.parts.len());
        }
        self.parts.push(part);
    }

    /// Adds another name of a file, which has lost what the file has.
    pub(in crate::client) fn add_link(&mut self, path: &[u8], file: &[u8]) {
        let part = self.by_path.get(file).and_then(|&number| self.parts.get(number));
        if let Some(part) = part.cloned() {
            self.parts.push(LostPart { path: Some(path.to_vec()), ..part });
        }
    }
}

impl LostPart {
    /// Adds a range behind those that it has.
    pub(in crate::client) fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        match self.bytes.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.bytes.push(range),
        }
    }

    /// The bytes that are lost.
    pub fn lost_bytes(&self) -> u64 {
        self.bytes.iter().map(|range| range.end - range.start).sum()
    }

    pub(in crate::client) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.metadata
    }
}

impl fmt::Display for LostPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}: ", human::shown(path))?;
        }
        if !self.bytes.is_empty() {
            let listed = self.bytes.iter().take(MAX_LISTED).map(|range| format!("{}-{}", range.start, range.end - 1));
            let more = self.bytes.len().saturating_sub(MAX_LISTED);
            let more = if more > 0 { format!(" and {more} more ranges") } else { String::new() };
            let lost = if self.path.is_some() { "lost, and zeros now" } else { "lost" };
            write!(f, "bytes {}{more} are {lost}", listed.collect::<Vec<_>>().join(", "))?;
        }
        if self.metadata {
            let and = if self.bytes.is_empty() { "" } else { "; " };
            write!(f, "{and}its owner and attributes are lost")?;
        }
        Ok(())
    }
}

/// The bytes of a file that are in a range of its data in the stream.
pub(in crate::client) fn file_ranges(kind: &Kind, data: &Range<u64>) -> Vec<Range<u64>> {
    let Kind::File { size, extents } = kind else { return Vec::new() };
    let Some(extents) = extents else {
        let range = data.start.min(*size)..data.end.min(*size);
        return if range.is_empty() { Vec::new() } else { vec![range] };
    };
    let mut ranges = Vec::new();
    let mut begin = 0;
    for extent in extents {
        // The part of this extent in the data, and what of it is in the range.
        let end = begin + extent.length;
        let (from, to) = (data.start.clamp(begin, end), data.end.clamp(begin, end));
        if from < to {
            ranges.push(extent.offset + (from - begin)..extent.offset + (to - begin));
        }
        begin = end;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Extent;

    #[test]
    fn data_of_a_sparse_file_is_where_its_parts_are() {
        let extents = vec![Extent { offset: 100, length: 10 }, Extent { offset: 500, length: 20 }];
        let sparse = Kind::File { size: 1000, extents: Some(extents) };
        assert_eq!(file_ranges(&sparse, &(0..30)), [100..110, 500..520]);
        assert_eq!(file_ranges(&sparse, &(5..12)), [105..110, 500..502]);
        assert_eq!(file_ranges(&sparse, &(30..512)), []);
        let plain = Kind::File { size: 700, extents: None };
        let ranges = file_ranges(&plain, &(512..1024));
        assert_eq!((ranges.len(), ranges[0].clone()), (1, 512..700), "padding is no byte of the file");
        assert_eq!(file_ranges(&plain, &(700..1024)), []);
        assert_eq!(file_ranges(&Kind::Directory, &(0..10)), []);
    }

    #[test]
    fn a_message_has_few_ranges() {
        let mut part = LostPart { path: Some(b"a\n".to_vec()), bytes: Vec::new(), metadata: true };
        assert_eq!(part.to_string(), "a\\n: its owner and attributes are lost");
        for start in [0, 5, 20, 40, 60, 80, 100] {
            part.add(start..start + 5);
        }
        let expected = "a\\n: bytes 0-9, 20-24, 40-44, 60-64 and 2 more ranges are lost, and zeros now; its owner and \
                        attributes are lost";
        assert_eq!((part.to_string().as_str(), part.lost_bytes()), (expected, 35));
    }
}
