//! Shared chunks, the answer to `GET /chunks/shared`: the chunks that two cells hold, one JSON object a line.
//!
//! ```text
//! {"id":"ba7816bf…","copies":3} LF
//! {"id":"e3b0c442…"} LF                 the number of copies is not known
//! ```
//!
//! A line says that the answering cell holds the chunk, and how many copies its put asked for. The reader believes the
//! first as an answer to `POST /chunks/have`, and the second only if it has lost the number itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{CellId, ChunkId};
use crate::wire::id_lists::lines;

/// The most lines in one answer.
pub const MAX_SHARED_CHUNKS: usize = 1000;

/// Which shared chunks are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedQuery {
    /// The cell that is believed to hold them too.
    pub node: CellId,
    /// How their ids begin.
    pub prefix: IdPrefix,
    /// The answer begins with the first id greater than this one.
    pub after: Option<ChunkId>,
}

/// How ids begin: 2 to 4 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdPrefix {
    digits: u8,
    value: u16,
}

/// The text is not an [`IdPrefix`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed prefix: it must be 2 to 4 lower-case hexadecimal digits")]
pub struct MalformedPrefix;

impl IdPrefix {
    /// The ids that begin with this byte.
    pub const fn of_byte(byte: u8) -> Self {
        Self { digits: 2, value: byte as u16 }
    }

    /// The first id with this prefix.
    pub fn first(self) -> ChunkId {
        let [high, low] = (self.value << (16 - 4 * u16::from(self.digits))).to_be_bytes();
        let mut bytes = [0; 32];
        for (byte, value) in bytes.iter_mut().zip([high, low]) {
            *byte = value;
        }
        ChunkId::from_bytes(bytes)
    }

    /// Does the id begin with this prefix?
    pub fn contains(self, id: &ChunkId) -> bool {
        let [first, second, ..] = *id.as_bytes();
        u16::from_be_bytes([first, second]) >> (16 - 4 * u16::from(self.digits)) == self.value
    }
}

impl fmt::Display for IdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0digits$x}", self.value, digits = usize::from(self.digits))
    }
}

impl FromStr for IdPrefix {
    type Err = MalformedPrefix;

    fn from_str(text: &str) -> Result<Self, MalformedPrefix> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if !(2..=4).contains(&text.len()) || !text.bytes().all(is_digit) {
            return Err(MalformedPrefix);
        }
        let value = u16::from_str_radix(text, 16).map_err(|_| MalformedPrefix)?;
        Ok(Self { digits: u8::try_from(text.len()).map_err(|_| MalformedPrefix)?, value })
    }
}

/// A chunk that the answering cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedChunk {
    /// The chunk.
    pub id: ChunkId,
    /// How many copies the colony must keep, 1 to 255, if the answering cell knows it from a put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<u8>,
}

/// Why an answer cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SharedChunksError {
    /// A line is not an object with an id.
    #[error("line {line}: {source}")]
    Line {
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The id of a line was not asked for, or the ids do not ascend.
    #[error("line {line}: its id was not asked for, or does not follow the one before")]
    Order {
        /// The number of the line, from 1.
        line: usize,
    },
    /// There are more than [`MAX_SHARED_CHUNKS`] lines.
    #[error("more than {MAX_SHARED_CHUNKS} lines")]
    TooMany,
}

/// Reads the answer to a query. A line can be believed no more than the cell that sent it, but its id is one that was
/// asked for, and no id comes twice.
pub fn parse_shared_chunks(body: &[u8], query: &SharedQuery) -> Result<Vec<SharedChunk>, SharedChunksError> {
    let mut chunks: Vec<SharedChunk> = Vec::new();
    for (line, text) in lines(body) {
        if chunks.len() == MAX_SHARED_CHUNKS {
            return Err(SharedChunksError::TooMany);
        }
        let chunk: SharedChunk =
            serde_json::from_slice(text).map_err(|source| SharedChunksError::Line { line, source })?;
        let before = chunks.last().map(|chunk| chunk.id).or(query.after);
        if before.is_some_and(|before| chunk.id <= before) || !query.prefix.contains(&chunk.id) {
            return Err(SharedChunksError::Order { line });
        }
        chunks.push(SharedChunk { copies: chunk.copies.filter(|copies| *copies > 0), ..chunk });
    }
    Ok(chunks)
}

/// Writes an answer.
pub fn write_shared_chunks(chunks: &[SharedChunk]) -> String {
    let mut body = String::new();
    for chunk in chunks {
        // An id and a number always have a JSON form.
        body.push_str(&serde_json::to_string(chunk).unwrap_or_default());
        body.push('\n');
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn query(prefix: &str, after: Option<ChunkId>) -> SharedQuery {
        SharedQuery { node: CellId::from_bytes([1; 16]), prefix: prefix.parse().unwrap(), after }
    }

    #[test]
    fn the_form_of_a_line_does_not_change() {
        let id: ChunkId = ID.parse().unwrap();
        let bare = ChunkId::from_bytes([0xbb; 32]);
        let chunks = [SharedChunk { id, copies: Some(32) }, SharedChunk { id: bare, copies: None }];
        let body = format!("{{\"id\":\"{ID}\",\"copies\":32}}\n{{\"id\":\"{bare}\"}}\n");
        assert_eq!(write_shared_chunks(&chunks), body);
        let error = parse_shared_chunks(body.as_bytes(), &query("ba", None)).unwrap_err();
        assert!(matches!(error, SharedChunksError::Order { line: 2 }), "{error}");
        let line = body.lines().next().unwrap();
        assert_eq!(parse_shared_chunks(line.as_bytes(), &query("ba", None)).unwrap(), chunks[..1]);
        // Later versions can add keys, and 0 is no number of copies.
        let later = format!("\r\n{{\"id\":\"{ID}\",\"copies\":0,\"claims\":[\"x\"]}}");
        let read = parse_shared_chunks(later.as_bytes(), &query("ba78", None)).unwrap();
        assert_eq!(read, [SharedChunk { id, copies: None }]);
        assert_eq!(parse_shared_chunks(b"", &query("ba", None)).unwrap(), []);
    }

    #[test]
    fn answers_to_another_question_are_refused() {
        let id: ChunkId = ID.parse().unwrap();
        let line = format!("{{\"id\":\"{ID}\",\"copies\":3}}\n");
        let read = |body: &str, query| parse_shared_chunks(body.as_bytes(), &query).is_ok();
        assert!(read(&line, query("ba7", None)));
        assert!(!read(&line, query("bb", None)), "another prefix");
        assert!(!read(&line, query("ba", Some(id))), "it does not follow");
        assert!(!read(&line.repeat(2), query("ba", None)), "twice");
        for bad in ["x", "{}", "[]", "{\"id\":\"\"}", &line.replace('3', "256"), &line.replace('3', "-1"), "\u{ff}"] {
            assert!(!read(bad, query("ba", None)), "{bad}");
        }
    }

    #[test]
    fn an_answer_has_at_most_a_thousand_lines() {
        let chunk = |n: u32| {
            let mut bytes = [0; 32];
            bytes[1..5].copy_from_slice(&n.to_be_bytes());
            SharedChunk { id: ChunkId::from_bytes(bytes), copies: Some(2) }
        };
        let chunks: Vec<_> = (1..=1001).map(chunk).collect();
        let read =
            |count: usize| parse_shared_chunks(write_shared_chunks(&chunks[..count]).as_bytes(), &query("00", None));
        assert_eq!(read(1000).unwrap(), chunks[..1000]);
        assert!(matches!(read(1001), Err(SharedChunksError::TooMany)));
    }

    #[test]
    fn a_prefix_has_two_to_four_lower_case_digits() {
        for text in ["00", "ff", "0a1", "ba78"] {
            let prefix: IdPrefix = text.parse().unwrap();
            assert_eq!(prefix.to_string(), text);
            assert!(prefix.contains(&prefix.first()) && prefix.first().to_string().starts_with(text));
        }
        for text in ["", "0", "00000", "FF", "+1", "0x", "é"] {
            assert_eq!(text.parse::<IdPrefix>(), Err(MalformedPrefix), "{text}");
        }
        assert_eq!(IdPrefix::of_byte(7), "07".parse().unwrap());
        let id: ChunkId = ID.parse().unwrap();
        assert!(["ba", "ba7", "ba78"].iter().all(|text| text.parse::<IdPrefix>().unwrap().contains(&id)));
        assert!(!["bb", "ba8", "ba79"].iter().any(|text| text.parse::<IdPrefix>().unwrap().contains(&id)));
    }
}
