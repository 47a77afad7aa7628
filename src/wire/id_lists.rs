//! Lists of chunk ids, one a line, as `POST /chunks/have` and `GET /chunks` carry them.
//!
//! ```text
//! ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad LF
//! e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 LF
//! ```
//!
//! A reader skips empty lines and allows CR before LF and a last line without LF.

use crate::id::{ChunkId, ID_HEX_LEN, MAX_CHUNK_BYTES, MalformedId};

/// The most ids in one `POST /chunks/have`. The body stays within [`MAX_CHUNK_BYTES`], the limit of any request body.
pub const MAX_HAVE_IDS: usize = MAX_CHUNK_BYTES / (ID_HEX_LEN + 1);

/// The most ids in one `POST /chunks/have?verify=1`: the cell reads and hashes each of these copies completely.
pub const MAX_VERIFY_IDS: usize = 16;

/// The most ids in one page of `GET /chunks`, and the number when the request sets no limit.
pub const MAX_LIST_IDS: usize = 10_000;

/// Reads a list of ids.
pub fn parse_ids(body: &[u8]) -> Result<Vec<ChunkId>, MalformedId> {
    lines(body).map(|(_, line)| std::str::from_utf8(line).map_err(|_| MalformedId)?.parse()).collect()
}

/// Writes a list of ids.
pub fn write_ids<'a>(ids: impl IntoIterator<Item = &'a ChunkId>) -> String {
    let mut lines = String::new();
    for id in ids {
        lines.push_str(&id.to_string());
        lines.push('\n');
    }
    lines
}

/// The lines of a body that are not empty, without their line endings, each with its number from 1.
pub(super) fn lines(body: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    (1..)
        .zip(body.split(|&byte| byte == b'\n'))
        .map(|(number, line)| (number, line.strip_suffix(b"\r").unwrap_or(line)))
        .filter(|(_, line)| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_one_a_line_and_read_back() {
        let ids = [ChunkId::of(b"a"), ChunkId::of(b"b")];
        assert_eq!(parse_ids(write_ids(&ids).as_bytes()).unwrap(), ids);
        assert_eq!(parse_ids(write_ids(&ids).replace('\n', "\r\n").as_bytes()).unwrap(), ids);
        assert_eq!(parse_ids(write_ids(&ids).trim_end().as_bytes()).unwrap(), ids);
        assert!(parse_ids(b"nothing\n").is_err());
        assert!(parse_ids(&[0xff; 64]).is_err());
        assert_eq!(parse_ids(b"\n\n").unwrap(), []);
    }

    #[test]
    fn the_longest_list_fits_a_request_body() {
        let ids = vec![ChunkId::of(b""); MAX_HAVE_IDS];
        assert!(write_ids(&ids).len() <= MAX_CHUNK_BYTES);
        assert!(write_ids(&ids[..MAX_LIST_IDS]).len() <= MAX_CHUNK_BYTES);
    }
}
