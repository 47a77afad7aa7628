//! Holder hints, the body of `POST /chunks/holders`: which cells are said to have a copy of which chunk.
//!
//! ```text
//! <chunk id> SP <cell id>,<cell id>,… LF      at most 4,096 lines of at most 32 cells
//! ```
//!
//! A reader skips empty lines and allows CR before LF and a last line without LF. A hint proves nothing: a cell that
//! receives one asks the named cells for their copies before it counts them.

use crate::id::{CellId, ChunkId, MAX_CHUNK_BYTES, MAX_HOLDERS};
use crate::wire::id_lists::lines;

/// The most lines in one `POST /chunks/holders`.
pub const MAX_HOLDER_HINTS: usize = 4096;

/// A chunk and the cells that are said to have a copy of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderHint {
    /// The chunk.
    pub id: ChunkId,
    /// The cells, at least one and at most [`MAX_HOLDERS`].
    pub holders: Vec<CellId>,
}

/// Why the body of a `POST /chunks/holders` cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HolderHintsError {
    /// A line is malformed or names too many cells.
    #[error("invalid line {line}: use a chunk id, one space, and 1 to {MAX_HOLDERS} cell ids separated by commas")]
    Line {
        /// The number of the line, from 1.
        line: usize,
    },
    /// There are more than [`MAX_HOLDER_HINTS`] lines.
    #[error("at most {MAX_HOLDER_HINTS} lines in one request")]
    TooMany,
}

/// Reads a list of holder hints.
pub fn parse_holder_hints(body: &[u8]) -> Result<Vec<HolderHint>, HolderHintsError> {
    let mut hints = Vec::new();
    for (number, line) in lines(body) {
        if hints.len() == MAX_HOLDER_HINTS {
            return Err(HolderHintsError::TooMany);
        }
        hints.push(parse_line(line).ok_or(HolderHintsError::Line { line: number })?);
    }
    Ok(hints)
}

fn parse_line(line: &[u8]) -> Option<HolderHint> {
    let (id, holders) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    let holders: Vec<CellId> =
        holders.split(',').take(MAX_HOLDERS + 1).map(str::parse).collect::<Result<_, _>>().ok()?;
    (holders.len() <= MAX_HOLDERS).then_some(HolderHint { id: id.parse().ok()?, holders })
}

/// Writes holder hints as bodies of `POST /chunks/holders`: as many bodies as needed for each to stay within
/// [`MAX_HOLDER_HINTS`] lines and [`MAX_CHUNK_BYTES`]. Chunks without holders are left out, and so are holders past
/// [`MAX_HOLDERS`].
pub fn write_holder_hints(hints: &[HolderHint]) -> Vec<String> {
    let mut bodies: Vec<(String, usize)> = Vec::new();
    for HolderHint { id, holders } in hints {
        let holders: Vec<String> = holders.iter().take(MAX_HOLDERS).map(ToString::to_string).collect();
        if holders.is_empty() {
            continue;
        }
        let line = format!("{id} {}\n", holders.join(","));
        match bodies.last_mut() {
            Some((body, lines)) if *lines < MAX_HOLDER_HINTS && body.len() + line.len() <= MAX_CHUNK_BYTES => {
                body.push_str(&line);
                *lines += 1;
            }
            _ => bodies.push((line, 1)),
        }
    }
    bodies.into_iter().map(|(body, _)| body).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(n: u8) -> CellId {
        CellId::from_bytes([n; 16])
    }

    #[test]
    fn hints_are_written_one_a_line_and_read_back() {
        let hints = [
            HolderHint { id: ChunkId::of(b"a"), holders: vec![cell(1)] },
            HolderHint { id: ChunkId::of(b"b"), holders: (0..32).map(cell).collect() },
        ];
        let [body] = &write_holder_hints(&hints)[..] else { panic!("one body") };
        assert_eq!(parse_holder_hints(body.as_bytes()).unwrap(), hints);
        assert_eq!(parse_holder_hints(body.replace('\n', "\r\n\n").as_bytes()).unwrap(), hints);
        assert_eq!(parse_holder_hints(b""), Ok(Vec::new()));
        assert!(write_holder_hints(&[HolderHint { id: ChunkId::of(b"a"), holders: Vec::new() }]).is_empty());
    }

    #[test]
    fn a_malformed_line_is_refused_with_its_number() {
        let (id, name) = (ChunkId::of(b"a").to_string(), cell(1).to_string());
        let many = vec![name.as_str(); MAX_HOLDERS + 1].join(",");
        for bad in [
            "x",
            id.as_str(),
            &format!("{id} "),
            &format!("{id}  {name}"),
            &format!("{id} {name},"),
            &format!("{id} {name} "),
            &format!("{} {name}", id.to_uppercase()),
            &format!("{id},{name}"),
            &format!("{id} {many}"),
            &format!("{id} é"),
        ] {
            let body = format!("{id} {name}\n\n{bad}\n");
            assert_eq!(parse_holder_hints(body.as_bytes()), Err(HolderHintsError::Line { line: 3 }), "{bad}");
        }
        assert_eq!(parse_holder_hints(&[0xff; 70]), Err(HolderHintsError::Line { line: 1 }));
    }

    #[test]
    fn long_lists_are_split_into_bodies_within_the_limits() {
        let names: Vec<CellId> = (0..40).map(cell).collect();
        let ids: Vec<ChunkId> = (0..=2 * MAX_HOLDER_HINTS as u64).map(|n| ChunkId::of(&n.to_le_bytes())).collect();
        for (names, fewest) in [(&names[..1], 3), (&names[..], 5)] {
            let hints: Vec<_> = ids.iter().map(|&id| HolderHint { id, holders: names.to_vec() }).collect();
            let bodies = write_holder_hints(&hints);
            assert!(bodies.len() >= fewest && bodies.iter().all(|body| body.len() <= MAX_CHUNK_BYTES));
            let read = bodies.iter().flat_map(|body| parse_holder_hints(body.as_bytes()).unwrap());
            assert_eq!(read.map(|hint| hint.id).collect::<Vec<_>>(), ids);
        }
        let line = format!("{} {}\n", ids[0], names[0]);
        assert_eq!(parse_holder_hints(line.repeat(MAX_HOLDER_HINTS).as_bytes()).unwrap().len(), MAX_HOLDER_HINTS);
        assert_eq!(parse_holder_hints(line.repeat(MAX_HOLDER_HINTS + 1).as_bytes()), Err(HolderHintsError::TooMany));
    }
}
