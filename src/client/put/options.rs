//! The options of a put, and its result.

use crate::client::discover::colony::ColonyScope;
use crate::client::put::omission::Omission;
use crate::id::DEFAULT_MIN_COPIES;
use crate::pipeline::Level;

/// Options of a put.
#[derive(Debug, Clone)]
pub struct PutOptions {
    /// Copies wanted of each chunk, 1 to 32.
    pub copies: u8,
    /// The smallest number of copies that is accepted, at most `copies`. Without it, the smaller of `copies` and
    /// [`DEFAULT_MIN_COPIES`].
    pub min_copies: Option<u8>,
    /// Compression level.
    pub level: Level,
    /// Blocks compressed at the same time.
    pub jobs: usize,
    /// Accept a pipe without bytes. Otherwise that is an error, because a program that fails leaves such a pipe.
    pub allow_empty: bool,
    /// Overwrite a manifest.
    pub force: bool,
    /// Begin even if the cells have too little room for data that does not compress.
    pub skip_room_check: bool,
    /// Patterns of what is left out of a directory. A file is stored whatever they are.
    pub exclude: Vec<String>,
    /// Leave out the contents of directories that a `CACHEDIR.TAG` marks as caches.
    pub exclude_caches: bool,
    /// Store directories on which another file system is mounted as empty ones.
    pub one_file_system: bool,
    /// Store extended attributes and access control lists.
    pub xattrs: bool,
    /// Fail if anything cannot be stored as it is.
    pub strict: bool,
    /// Where to search for cells.
    pub scope: ColonyScope,
}

impl PutOptions {
    /// The smallest number of copies that is accepted of each chunk.
    pub(in crate::client) fn required_copies(&self) -> u8 {
        self.min_copies.unwrap_or(DEFAULT_MIN_COPIES).min(self.copies)
    }
}

/// Are extended attributes stored by default? For root, who can restore all of them.
pub fn stores_xattrs_by_default() -> bool {
    #[cfg(unix)]
    {
        rustix::process::geteuid().is_root()
    }
    #[cfg(not(unix))]
    {
        false
    }
}

/// The result of a put.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PutReport {
    /// Bytes of the source.
    pub size: u64,
    /// Chunks of the source, with those of its index.
    pub chunks: usize,
    /// Chunks of the index of a directory.
    pub index_chunks: usize,
    /// Bytes of the chunks that this run sealed, each counted once.
    pub sealed_bytes: u64,
    /// Bytes of all copies that this run sent.
    pub sent_bytes: u64,
    /// Copies that this run sent.
    pub sent_copies: u64,
    /// Chunks that an interrupted run had stored.
    pub resumed_chunks: usize,
    /// Chunks with fewer copies than wanted.
    pub short_chunks: usize,
    /// The smallest number of copies of any chunk.
    pub fewest_copies: usize,
    /// Cells that responded.
    pub cells: usize,
    /// Requests made.
    pub requests: u64,
    /// The number of files that could not be stored, or not as they were. Each was reported to the progress.
    pub omissions: usize,
    /// The first of these, at most 1,000.
    pub omitted: Vec<Omission>,
}
