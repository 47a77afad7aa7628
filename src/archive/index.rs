//! The index of an archive: what is in it, and where in the stream. With it one file is found and restored alone.
//!
//! A put of a directory writes the index beside the stream, and seals it in chunks of its own. It is text, one JSON
//! object a line, cut into blocks of 1 MiB wherever that is:
//!
//! ```text
//! {"path":"photos","type":"directory","mode":493,"mtime":1764248780,"offset":0,"length":512}
//! {"path":"photos/a.jpg","type":"file","size":3145728,"mode":420,"mtime":1764248780,"nanoseconds":5,
//!  "offset":512,"length":3146240}
//! {"path_base64":"/w==","type":"symlink","target":"photos","mode":511,"mtime":-1,"offset":3146752,"length":512}
//! {"block":"1be403ba21100500dfd5d7546dacd97a"}
//! ```
//!
//! The entries come first, in the order of the stream, and then the blocks of the stream, in their order.
//!
//! | key | value |
//! |---|---|
//! | `path` | the path, as in the stream but without `./`; that of the directory itself is `.` |
//! | `type` | `file`, `directory`, `symlink`, `link` (another name of a file), or `other` |
//! | `size` | bytes of a file, with its holes |
//! | `extents` | of a file with holes: offset and length of each part with data, one after the other |
//! | `target` | what a link points to, or the path of the file of which this is another name |
//! | `mode` | permission bits, set-user-id, set-group-id and sticky, as a number |
//! | `mtime`, `nanoseconds` | when it was last modified: seconds since 1970, may be negative, and nanoseconds after that, absent if 0 |
//! | `offset`, `length` | where the entry begins in the stream, and its bytes there: header, data and padding |
//! | `block` | a keyed hash of a block, [`crate::pipeline::BlockHash`], of which the key is that of the manifest |
//!
//! What is not UTF-8 has the key `path_base64` or `target_base64`, in base64 (RFC 4648, section 4). A reader ignores
//! unknown keys, and lines without `path`, `path_base64` and `block`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::archive::{Entry, Extent, Kind, MAX_EXTENTS, Timestamp, padding};
use crate::pipeline::BlockHash;

/// The longest line, in bytes: room for a path, a target and all extents.
pub const MAX_LINE_BYTES: usize = 8 << 20;

/// An entry of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// The path below the directory that was stored, as in [`Entry`].
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, as in [`Entry`].
    pub mode: u32,
    /// When it was last modified.
    pub modified: Timestamp,
    /// Where it begins in the stream.
    pub offset: u64,
    /// Its bytes in the stream: header, data and padding.
    pub length: u64,
}

impl IndexEntry {
    /// The index has less than the entry does.
    pub fn of(entry: &Entry, offset: u64, length: u64) -> Self {
        let Entry { path, kind, mode, modified, .. } = entry.clone();
        Self { path, kind, mode, modified, offset, length }
    }

    /// Where its data begins in the stream, behind the header.
    pub fn data_offset(&self) -> u64 {
        let data = self.kind.data_bytes();
        let data = data.saturating_add(padding(data) as u64);
        self.offset.saturating_add(self.length.saturating_sub(data))
    }
}

/// A line of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexLine {
    /// An entry.
    Entry(IndexEntry),
    /// The hash of the next block of the stream.
    Block(BlockHash),
}

/// Why a line of an index cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The line is not JSON, or a key has another form.
    #[error("damaged index: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A line is longer than [`MAX_LINE_BYTES`].
    #[error("damaged index: a line has more than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// A key has a value that no index has.
    #[error("damaged index: `{key}` is invalid")]
    Invalid {
        /// The key.
        key: &'static str,
    },
    /// The last line has no end.
    #[error("the index is truncated")]
    Truncated,
}

#[derive(Serialize, Deserialize, Default)]
struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "type")]
    kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extents: Option<Vec<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtime: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nanoseconds: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    block: Option<String>,
}

/// The line for an entry or a block, with its line break.
pub fn index_line(line: &IndexLine) -> String {
    let line = match line {
        IndexLine::Block(hash) => Line { block: Some(hash.to_string()), ..Line::default() },
        IndexLine::Entry(entry) => {
            let (path, path_base64) = text_or_base64(&entry.path);
            let mut line = Line {
                path,
                path_base64,
                mode: Some(entry.mode),
                mtime: Some(entry.modified.seconds),
                nanoseconds: Some(entry.modified.nanoseconds).filter(|nanoseconds| *nanoseconds > 0),
                offset: Some(entry.offset),
                length: Some(entry.length),
                ..Line::default()
            };
            let name = match &entry.kind {
                Kind::File { size, extents } => {
                    line.size = Some(*size);
                    let flat = |extents: &Vec<Extent>| extents.iter().flat_map(|e| [e.offset, e.length]).collect();
                    line.extents = extents.as_ref().map(flat);
                    "file"
                }
                Kind::Directory => "directory",
                Kind::SymbolicLink { target } => {
                    (line.target, line.target_base64) = text_or_base64(target);
                    "symlink"
                }
                Kind::HardLink { target } => {
                    (line.target, line.target_base64) = text_or_base64(target);
                    "link"
                }
                Kind::Other { .. } => "other",
            };
            line.kind = Some(name.to_owned());
            line
        }
    };
    // A structure of texts and numbers always has a JSON form.
    serde_json::to_string(&line).unwrap_or_default() + "\n"
}

fn text_or_base64(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

/// Reads the lines of an index from its blocks. It holds at most one incomplete line.
#[derive(Debug, Default)]
pub struct IndexReader {
    rest: Vec<u8>,
}

impl IndexReader {
    /// Takes the next bytes of the index, and passes the lines that end in them to `take`.
    pub fn read(&mut self, bytes: &[u8], take: &mut dyn FnMut(IndexLine)) -> Result<(), IndexError> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.rest.len() + piece.len() > MAX_LINE_BYTES {
                return Err(IndexError::TooLong);
            }
            let Some(end) = piece.strip_suffix(b"\n") else {
                self.rest.extend_from_slice(piece);
                continue;
            };
            let line = if self.rest.is_empty() {
                parse(end)?
            } else {
                self.rest.extend_from_slice(end);
                parse(&std::mem::take(&mut self.rest))?
            };
            if let Some(line) = line {
                take(line);
            }
        }
        Ok(())
    }

    /// Fails if the last line has no end.
    pub fn finish(self) -> Result<(), IndexError> {
        if self.rest.is_empty() { Ok(()) } else { Err(IndexError::Truncated) }
    }
}

fn parse(line: &[u8]) -> Result<Option<IndexLine>, IndexError> {
    let invalid = |key| IndexError::Invalid { key };
    let line: Line = serde_json::from_slice(line)?;
    if let Some(hash) = line.block {
        return Ok(Some(IndexLine::Block(hash.parse().map_err(|_| invalid("block"))?)));
    }
    let Some(path) = bytes(line.path, line.path_base64).map_err(|()| invalid("path_base64"))? else { return Ok(None) };
    let target = bytes(line.target, line.target_base64).map_err(|()| invalid("target_base64"))?;
    let kind = match (line.kind.as_deref(), target) {
        (Some("file"), _) => {
            let size = line.size.ok_or_else(|| invalid("size"))?;
            let extents = line.extents.map(|flat| extents(&flat, size).ok_or_else(|| invalid("extents")));
            Kind::File { size, extents: extents.transpose()? }
        }
        (Some("directory"), _) => Kind::Directory,
        (Some("symlink"), Some(target)) => Kind::SymbolicLink { target },
        (Some("link"), Some(target)) => Kind::HardLink { target },
        (Some("symlink" | "link"), None) => return Err(invalid("target")),
        (Some(_), _) => Kind::Other { flag: b'?' },
        (None, _) => return Err(invalid("type")),
    };
    let nanoseconds = line.nanoseconds.unwrap_or_default();
    if nanoseconds >= 1_000_000_000 {
        return Err(invalid("nanoseconds"));
    }
    let (offset, length) =
        (line.offset.ok_or_else(|| invalid("offset"))?, line.length.ok_or_else(|| invalid("length"))?);
    let data = kind.data_bytes();
    if offset.checked_add(length).is_none() || data.checked_add(padding(data) as u64).is_none_or(|data| data > length) {
        return Err(invalid("length"));
    }
    Ok(Some(IndexLine::Entry(IndexEntry {
        path,
        kind,
        mode: line.mode.unwrap_or_default() & 0o7777,
        modified: Timestamp { seconds: line.mtime.unwrap_or_default(), nanoseconds },
        offset,
        length,
    })))
}

fn bytes(text: Option<String>, base64: Option<String>) -> Result<Option<Vec<u8>>, ()> {
    let bytes = match (text, base64) {
        (Some(text), _) => text.into_bytes(),
        (None, Some(base64)) => STANDARD.decode(base64).map_err(|_| ())?,
        (None, None) => return Ok(None),
    };
    Ok(Some(bytes))
}

/// Extents in order, without overlap and within the size.
fn extents(flat: &[u64], size: u64) -> Option<Vec<Extent>> {
    let (pairs, []) = flat.as_chunks::<2>() else { return None };
    if pairs.len() > MAX_EXTENTS {
        return None;
    }
    let mut end = 0;
    let mut extents = Vec::with_capacity(pairs.len());
    for &[offset, length] in pairs {
        if offset < end {
            return None;
        }
        end = offset.checked_add(length).filter(|end| *end <= size)?;
        extents.push(Extent { offset, length });
    }
    Some(extents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Key;

    fn entry(path: &[u8], kind: Kind) -> IndexEntry {
        let data = kind.data_bytes();
        let length = 512 + data + padding(data) as u64;
        let modified = Timestamp { seconds: -1, nanoseconds: 5 };
        IndexEntry { path: path.to_vec(), kind, mode: 0o4755, modified, offset: 1024, length }
    }

    fn entries() -> Vec<IndexEntry> {
        let file = |size, extents| Kind::File { size, extents };
        let extent = |offset, length| Extent { offset, length };
        vec![
            entry(b".", Kind::Directory),
            entry(b"a\n\"\xff", file(1000, None)),
            entry(b"holes", file(9000, Some(vec![extent(0, 10), extent(4096, 100)]))),
            entry(b"only a hole", file(u64::MAX / 4, Some(vec![]))),
            entry("größe".as_bytes(), Kind::SymbolicLink { target: b"\xfe/x".to_vec() }),
            entry(b"link", Kind::HardLink { target: b"holes".to_vec() }),
        ]
    }

    fn read(text: &[u8], step: usize) -> Result<Vec<IndexLine>, IndexError> {
        let (mut reader, mut lines) = (IndexReader::default(), Vec::new());
        for bytes in text.chunks(step) {
            reader.read(bytes, &mut |line| lines.push(line))?;
        }
        reader.finish().map(|()| lines)
    }

    #[test]
    fn every_kind_of_line_comes_back() {
        let hash = BlockHash::of(b"block", &Key::generate());
        let mut lines: Vec<_> = entries().into_iter().map(IndexLine::Entry).collect();
        lines.push(IndexLine::Block(hash));
        let text: String = lines.iter().map(index_line).collect();
        for step in [1, 7, 100, text.len()] {
            assert_eq!(read(text.as_bytes(), step).unwrap(), lines);
        }
        assert!(matches!(read(&text.as_bytes()[..text.len() - 1], 50), Err(IndexError::Truncated)));
    }

    #[test]
    fn the_lines_have_the_documented_form() {
        let line = index_line(&IndexLine::Entry(entry(b"\xff", Kind::SymbolicLink { target: b"t".to_vec() })));
        let expected = r#"{"path_base64":"/w==","type":"symlink","target":"t","mode":2541,"mtime":-1,"nanoseconds":5,"offset":1024,"length":512}"#;
        assert_eq!(line.trim_end(), expected);
        let whole = IndexEntry { modified: Timestamp { seconds: 7, nanoseconds: 0 }, ..entry(b"d", Kind::Directory) };
        assert!(index_line(&IndexLine::Entry(whole)).contains(r#""mtime":7,"offset""#));
        let file = Kind::File { size: 9, extents: Some(vec![Extent { offset: 2, length: 7 }]) };
        let line = index_line(&IndexLine::Entry(entry(b"f", file)));
        assert!(line.starts_with(r#"{"path":"f","type":"file","size":9,"extents":[2,7],"mode":2541,"#), "{line}");
    }

    #[test]
    fn data_begins_behind_the_header() {
        let file = entry(b"f", Kind::File { size: 700, extents: None });
        assert_eq!((file.length, file.data_offset()), (512 + 1024, 1024 + 512));
        assert_eq!(entry(b"d", Kind::Directory).data_offset(), 1024 + 512);
    }

    #[test]
    fn unknown_keys_and_lines_are_ignored() {
        let text = b"{\"novelty\":[1]}\n{\"path\":\"f\",\"type\":\"directory\",\"x\":{},\"offset\":0,\"length\":512}\n";
        assert_eq!(read(text, 9).unwrap().len(), 1);
    }

    #[test]
    fn damaged_lines_are_errors() {
        let good = r#"{"path":"f","type":"file","size":9,"extents":[2,7],"offset":0,"length":1024}"#;
        assert_eq!(read(format!("{good}\n").as_bytes(), 999).unwrap().len(), 1);
        for (from, to) in [
            ("\"file\"", "\"symlink\""),
            ("\"size\":9,", ""),
            ("[2,7]", "[2]"),
            ("[2,7]", "[2,8]"),
            ("[2,7]", "[3,2,2,1]"),
            ("[2,7]", "[18446744073709551615,7]"),
            ("1024", "511"),
            ("\"offset\":0", "\"offset\":18446744073709551615"),
            ("\"offset\":0,", ""),
            ("\"type\":\"file\",", ""),
            ("\"path\":\"f\"", "\"path_base64\":\"*\""),
            ("\"path\":\"f\"", "\"block\":\"00\""),
            ("}", ""),
            ("\"size\":9", "\"size\":-1"),
            ("\"offset\"", "\"nanoseconds\":1000000000,\"offset\""),
        ] {
            let bad = good.replace(from, to) + "\n";
            assert!(read(bad.as_bytes(), 999).is_err(), "{bad}");
        }
        assert!(matches!(read(&vec![b'x'; MAX_LINE_BYTES + 1], 1 << 20), Err(IndexError::TooLong)));
    }
}
