//! The clients: a user's file into the colony and back.
//!
//! ```text
//!  put:  Source ─▶ split ─▶ N sealers ─▶ journal ─▶ Placer says where ─▶ uploads, copies in parallel ─▶ manifest
//!  get:  manifest ─▶ have? to every cell ─▶ Holders says from whom ─▶ fetch, verify, open ─▶ in order ─▶ Output
//!
//!  check:   manifest ─▶ Survey: have? to every cell, and on demand: re-hash! ─▶ Tally of copies
//!  repair:  Survey ─▶ chunks with too few copies ─▶ fetch, verify ─▶ Placer says where ─▶ the copies that lack
//! ```
//!
//! All are bounded pipelines: what is in memory depends on the number of workers, not on the size of the file. The
//! decisions (`placer`, `holders`) are pure; threads, sockets and files are around them. Nothing here prints: what a
//! user may want to see goes to a [`Progress`].

mod discover;
mod get;
mod maintain;
mod manifest_file;
mod put;
#[cfg(test)]
mod test_server;
mod workers;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use crate::client::discover::find::{CellWord, find};
pub use crate::client::discover::locate::{KnownCell, Place, locate};
pub use crate::client::get::download::BadCopy;
pub use crate::client::get::output::Target;
pub use crate::client::get::{GetOptions, GetReport, default_output, get};
pub use crate::client::maintain::check::{CheckOptions, CheckReport, Verdict, check};
pub use crate::client::maintain::drain::{drain, undrain};
pub use crate::client::maintain::repair::{RepairReport, repair};
pub use crate::client::maintain::scrub::{Scrubbed, scrub};
pub use crate::client::manifest_file::default_manifest;
pub use crate::client::put::journal::journal_path;
pub use crate::client::put::source::Source;
pub use crate::client::put::{PutOptions, PutReport, put};
pub use crate::client::workers::{MAX_JOBS, at_once, default_jobs};

use crate::id::BLOCK_BYTES;
use crate::pipeline::{ManifestError, SealError};

/// What a client tells about its work while it goes on. Called from one thread.
pub trait Progress {
    /// How much there is to do, when that is known: of a put and a get, the user's bytes; of a check and a repair,
    /// copies or chunks.
    fn total(&self, bytes: Option<u64>);
    /// So much more of it is done; for it, so many bytes were stored or fetched.
    fn advance(&self, plain: u64, sealed: u64);
    /// Something that the user may like to know, though the work goes on.
    fn notice(&self, text: &str);
    /// Something that the user must know: the result is less than was asked for.
    fn warning(&self, text: &str) {
        self.notice(text);
    }
}

/// Tells a client that the user wants it to stop. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks the work to stop.
    pub fn ask(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Was it asked?
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Why a client could not do what it was asked. Each is one line for the user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The command cannot be meant as it was given.
    #[error("{0}")]
    Usage(String),
    /// A file could not be read or written.
    #[error("{doing}: {source}")]
    File {
        /// What was being done, with the path.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// The source was written to while it was being stored.
    #[error("{} changed while it was being stored; run the same command again", path.display())]
    SourceChanged {
        /// The source.
        path: PathBuf,
    },
    /// The manifest cannot be used.
    #[error("{}: {source}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// The compressor failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// No cell was found.
    #[error("{0}")]
    NoCells(String),
    /// A cell did not do what it was asked.
    #[error("{0}")]
    Cell(String),
    /// There are cells, but too few that take chunks.
    #[error("{0}")]
    TooFew(String),
    /// Some chunks are on no cell that answers.
    #[error(
        "{chunks} of {of} chunks are on none of the {cells} cells that answer: bytes {} are missing; \
         start the cells that hold them and try again",
        ranges(missing)
    )]
    Missing {
        /// How many chunks are missing.
        chunks: usize,
        /// Of how many.
        of: usize,
        /// Cells that answered.
        cells: usize,
        /// The bytes of the file that are in them.
        missing: Vec<Range<u64>>,
    },
    /// What came from the colony is not what was put there.
    #[error("bytes {}-{} are damaged: {what}", bytes.start, bytes.end.saturating_sub(1))]
    Corrupt {
        /// The bytes of the file that are damaged.
        bytes: Range<u64>,
        /// What is wrong, and where.
        what: String,
    },
    /// The user stopped it.
    #[error("{0}")]
    Stopped(String),
}

impl ClientError {
    /// The exit code that scripts can rely on.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::NoCells(_) | Self::TooFew(_) => 3,
            Self::Missing { .. } => 4,
            Self::Corrupt { .. } => 5,
            _ => 1,
        }
    }

    fn file(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let doing = format!("{doing} {}", path.display());
        move |source| Self::File { doing, source }
    }
}

/// No cell answers: says where was looked, and what to look at.
pub fn no_cells(place: &Place) -> ClientError {
    ClientError::NoCells(if place.nodes.is_empty() {
        let network = if place.loopback { "on this machine" } else { "on this network" };
        format!(
            "no cell answers {network} (UDP port {}); is cellsync-node running? Where broadcast does not reach, name a cell with --node http://HOST:PORT",
            place.udp_port
        )
    } else {
        format!("no cell answers at {}; is cellsync-node running there?", place.nodes.join(", "))
    })
}

/// Cells may be heard, and yet none of them answers.
fn none_answers(place: &Place, heard: usize) -> ClientError {
    match heard {
        0 => no_cells(place),
        _ => ClientError::NoCells(format!(
            "{heard} cells are heard, and none of them answers over HTTP; is a firewall between?"
        )),
    }
}

/// Ranges that are told by name; of more, only their number.
const MAX_RANGES_TOLD: usize = 8;

/// `0-1048575, 3145728-4194303 and 2 more ranges`, ends included.
pub fn ranges(ranges: &[Range<u64>]) -> String {
    let told: Vec<_> = ranges
        .iter()
        .take(MAX_RANGES_TOLD)
        .map(|range| format!("{}-{}", range.start, range.end.saturating_sub(1)))
        .collect();
    let more = ranges.len().saturating_sub(MAX_RANGES_TOLD);
    if more == 0 { told.join(", ") } else { format!("{} and {more} more ranges", told.join(", ")) }
}

/// The bytes of a file of `size` bytes that are in block number `index`.
fn bytes_of_block(index: usize, size: Option<u64>) -> Range<u64> {
    let start = index as u64 * BLOCK_BYTES as u64;
    let end = start + BLOCK_BYTES as u64;
    start..size.map_or(end, |size| end.min(size))
}

/// The bytes of these blocks, neighbours joined. `indices` ascend.
fn bytes_of_blocks(indices: &[usize], size: Option<u64>) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for &index in indices {
        let next = bytes_of_block(index, size);
        match joined.last_mut() {
            Some(last) if last.end == next.start => last.end = next.end,
            _ => joined.push(next),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_blocks_are_one_range_and_the_last_ends_with_the_file() {
        const MIB: u64 = 1 << 20;
        let joined = bytes_of_blocks(&[0, 1, 4, 6], Some(6 * MIB + 5));
        assert_eq!(joined, [0..2 * MIB, 4 * MIB..5 * MIB, 6 * MIB..6 * MIB + 5]);
        assert_eq!(ranges(&joined[..1]), "0-2097151");
        let many: Vec<_> = (0..20).map(|n| n * 10..n * 10 + 1).collect();
        assert!(ranges(&many).ends_with("70-70 and 12 more ranges"), "{}", ranges(&many));
    }
}
