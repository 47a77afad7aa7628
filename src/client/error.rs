//! Why a client failed.
//!
//! The variants carry facts, and `Display` makes one line of them: what happened, what state it left, what to do. The
//! names of options are not known here; `cli` adds them.

use std::io;
use std::path::{Path, PathBuf};

use crate::client::byte_ranges::ByteRanges;
use crate::client::discover::colony::{self, CellName, ColonyScope};
use crate::client::put::availability::{CellAvailability, cells_accepting};
use crate::client::put::omission::{Omission, OmissionReason, Omissions, escaped};
use crate::client::usage_error::{UsageError, shown_paths};
use crate::human;
use crate::id::ChunkId;
use crate::net::client::CallError;
use crate::pipeline::{ManifestError, OpenError, SealError};

/// The exit code when standard output is closed before everything was written: the one that a shell reports for programs
/// which end by SIGPIPE, 128 + 13.
const OUTPUT_CLOSED: u8 = 141;

/// Why a client failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// What was asked for is not possible. Nothing was done.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// A file system operation failed.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// The operation.
        action: FileAction,
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The program that reads standard output has closed it.
    #[error("standard output was closed by the program that reads it; not everything was written")]
    OutputClosed,
    /// What was to be stored came from a pipe, which had no bytes. Nothing was stored.
    #[error("{} is empty, as if the program that writes to it had failed; nothing was stored", source_name(path))]
    EmptyPipe {
        /// The pipe; `-` is standard input.
        path: PathBuf,
    },
    /// A file ended before the size that it had at the beginning.
    #[error("cannot read {}: it ended after {}", path.display(), human::part(*read, *expected, "byte"))]
    SourceTruncated {
        /// The file.
        path: PathBuf,
        /// Bytes up to the end that was found.
        read: u64,
        /// Its size at the beginning, in bytes.
        expected: u64,
    },
    /// The source was written to while it was stored. There is no manifest.
    #[error("{} changed while it was stored; run the same command again", path.display())]
    SourceChanged {
        /// The source.
        path: PathBuf,
    },
    /// Files could not be stored, or not as they were, and all had to be. There is no manifest.
    #[error("{}, and no manifest was written", human::count(*count, "omission"))]
    Omissions {
        /// How many. Each was reported to the progress.
        count: usize,
    },
    /// A single file could not be stored as it is, and had to be. There is no manifest.
    #[error("{}: {}, and no manifest was written", escaped(&omission.path), cause(omission.reason))]
    NotAsItIs {
        /// The file, and what would be missing of it.
        omission: Omission,
    },
    /// The manifest is not usable.
    #[error("{}: {source}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// All chunks are stored, but the manifest could not get its name. It was saved under another one.
    #[error("cannot write {}: {source}; the manifest was saved as {}", path.display(), saved_as.display())]
    ManifestSavedElsewhere {
        /// The name that it could not get.
        path: PathBuf,
        /// The name that it has.
        saved_as: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Everything is restored, but something else has its name now. It was kept under another one.
    #[error("cannot write {}: {source}; what was restored is in {}", path.display(), saved_as.display())]
    RestoredElsewhere {
        /// The name that it could not get.
        path: PathBuf,
        /// The name that it has.
        saved_as: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Another process stores the same source.
    #[error("{} is in use: another cellsync-put is storing the same file; wait until it ends", path.display())]
    JournalInUse {
        /// The journal.
        path: PathBuf,
    },
    /// A block could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The network interfaces or sockets of this machine failed.
    #[error("cannot search the network for cells: {0}")]
    Discovery(#[source] io::Error),
    /// No cell was found.
    #[error("{}; is cellsync-node running there?", no_cell_responds(scope))]
    NoCells {
        /// Where they were searched for.
        scope: ColonyScope,
    },
    /// Cells were found, and none of them responds over HTTP.
    #[error("found {}, and none responds over HTTP; check the firewall", human::count(*found, "cell"))]
    NoCellResponds {
        /// Cells that were found.
        found: usize,
    },
    /// A call to a cell failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The cell does not support an operation.
    #[error("the version of cell {cell} does not support {operation}; install a newer one there")]
    Unsupported {
        /// The cell.
        cell: CellName,
        /// What it was asked for.
        operation: Operation,
    },
    /// The cell that was draining is gone.
    #[error(
        "cell {cell} disappeared before its drain was complete ({source}); {left} of its {} may exist nowhere else: \
         start it again, and the drain continues",
        human::copies(*total)
    )]
    DrainInterrupted {
        /// The cell.
        cell: CellName,
        /// Copies that were not handed off when the cell was last seen.
        left: u64,
        /// All of its copies.
        total: u64,
        /// How it failed.
        source: Box<CallError>,
    },
    /// Another command cancelled the drain.
    #[error("cell {cell} is not draining any more: the drain was cancelled")]
    DrainCancelled {
        /// The cell.
        cell: CellName,
    },
    /// The cell that was scrubbing is gone.
    #[error("cell {cell} is gone before its scrub was complete ({source})")]
    ScrubInterrupted {
        /// The cell.
        cell: CellName,
        /// How it failed.
        source: Box<CallError>,
    },
    /// The cell restarted, and a scrub does not survive that.
    #[error("cell {cell} restarted, which ended its scrub; run the same command again")]
    ScrubLost {
        /// The cell.
        cell: CellName,
    },
    /// Too few cells accept chunks. Nothing was stored.
    #[error(
        "{}, but each chunk requires {} ({cells}); add cells or free space",
        cells_accepting(cells.accepting()), human::copies(*required)
    )]
    TooFewCells {
        /// The cells.
        cells: CellAvailability,
        /// Copies required of each chunk.
        required: usize,
    },
    /// The cells have too little room. Nothing was stored, or nothing further.
    #[error(
        "the cells have too little room: {} need up to {}, and there is {}{}; add cells or free space",
        human::copies(*required), human::bytes(*needed_bytes), human::bytes(*room_bytes), without_room(full)
    )]
    TooLittleRoom {
        /// Copies required of each chunk.
        required: usize,
        /// Bytes of these copies, if the data does not compress.
        needed_bytes: u64,
        /// Bytes that the cells can take, each of them one copy at most.
        room_bytes: u64,
        /// Copies of each chunk for which there is room.
        fits: usize,
        /// Cells without any room.
        full: Vec<CellName>,
    },
    /// A chunk has too few copies, and no cell accepts another one.
    #[error("a chunk has {} of the {required} required ({cells}); add cells or free space", human::copies(*made))]
    TooFewCopies {
        /// The cells.
        cells: CellAvailability,
        /// Copies required of each chunk.
        required: usize,
        /// Copies that the chunk has.
        made: usize,
    },
    /// A repair made what copies it could, and some chunks have too few.
    #[error(
        "{} still {} fewer than {} ({cells}); add cells or free space, and repair again",
        human::part(*short, *chunks, "chunk"), human::if_one(short, "has", "have"), human::copies(*wanted)
    )]
    StillShort {
        /// Chunks with too few copies.
        short: usize,
        /// Chunks of the file.
        chunks: usize,
        /// Copies wanted of each chunk.
        wanted: usize,
        /// The cells.
        cells: CellAvailability,
    },
    /// Some chunks are on no cell that responds.
    #[error(
        "{} {} on no cell that responds (asked {}{}): bytes {bytes} are missing; start the cells that hold them and try \
         again",
        human::part(*missing, *chunks, "chunk"), human::if_one(missing, "is", "are"), human::count(*cells, "cell"),
        silent_cells(*silent)
    )]
    Missing {
        /// Chunks without a copy.
        missing: usize,
        /// Chunks of the file.
        chunks: usize,
        /// Cells that responded.
        cells: usize,
        /// Cells that responded earlier, and do not respond any more. They may hold the chunks.
        silent: usize,
        /// The bytes that are not missing, if a salvage could restore them.
        salvageable: Option<u64>,
        /// The bytes of the file that are in the missing chunks.
        bytes: ByteRanges,
    },
    /// The colony does not have the bytes that were put there.
    #[error("bytes {bytes} are damaged: {damage}")]
    Corrupt {
        /// The bytes of the file that are damaged.
        bytes: ByteRanges,
        /// What is wrong.
        damage: Damage,
    },
    /// The index of a directory cannot be used. Everything can be restored without it, but not parts.
    #[error("the index of the directory cannot be used: {reason}")]
    BadIndex {
        /// Why.
        reason: String,
    },
    /// A directory without an index that can be used was read as a whole, and parts of it are lost.
    #[error("lost parts of the directory may have further entries: {cause}")]
    MayLackEntries {
        /// What is lost.
        cause: Box<Self>,
    },
    /// The same, and entries were not found that may be in the lost parts.
    #[error("no entry {} was found in what is left of the directory: {cause}", shown_paths(paths))]
    EntriesNotFound {
        /// Their paths.
        paths: Vec<Vec<u8>>,
        /// What is lost.
        cause: Box<Self>,
    },
    /// Several things are wrong, the worst first.
    #[error("{}", list_of(errors))]
    Several {
        /// What, at least two.
        errors: Vec<Self>,
    },
    /// The user stopped the work.
    #[error("stopped")]
    Stopped,
    /// The user stopped waiting for a drain.
    #[error("stopped waiting; cell {cell} continues to drain")]
    StoppedDrainWait {
        /// The cell.
        cell: CellName,
    },
    /// The user stopped waiting for a scrub.
    #[error("stopped waiting; the cells continue to scrub")]
    StoppedScrubWait,
    /// The user stopped a repair.
    #[error("stopped after making {made_copies} of the missing copies; run the same command again to continue")]
    StoppedRepair {
        /// Copies made until then.
        made_copies: u64,
    },
    /// A worker thread panicked.
    #[error("internal error: a worker thread ended unexpectedly")]
    WorkerPanicked,
    /// Another process restores to the same path.
    #[error("{} is in use: another cellsync-get is restoring to the same path; wait until it ends", path.display())]
    RestoreInUse {
        /// The partial file or directory.
        path: PathBuf,
    },
    /// A put or get failed in the middle, and its progress is kept: the same command continues it.
    #[error("{cause}; {} keeps the progress", kept.display())]
    Resumable {
        /// Why it failed.
        cause: Box<Self>,
        /// The journal of the put, or the partial file or directory of the get.
        kept: PathBuf,
    },
}

impl ClientError {
    /// The exit code for scripts.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::NoCells { .. }
            | Self::NoCellResponds { .. }
            | Self::TooFewCells { .. }
            | Self::TooFewCopies { .. }
            | Self::TooLittleRoom { .. }
            | Self::StillShort { .. } => 3,
            Self::Missing { .. } => 4,
            Self::Corrupt { .. } | Self::BadIndex { .. } => 5,
            Self::OutputClosed => OUTPUT_CLOSED,
            Self::Resumable { cause, .. } | Self::MayLackEntries { cause } | Self::EntriesNotFound { cause, .. } => {
                cause.exit_code()
            }
            Self::Several { errors } => errors.first().map_or(1, Self::exit_code),
            Self::File { .. }
            | Self::EmptyPipe { .. }
            | Self::SourceTruncated { .. }
            | Self::SourceChanged { .. }
            | Self::Manifest { .. }
            | Self::ManifestSavedElsewhere { .. }
            | Self::RestoredElsewhere { .. }
            | Self::JournalInUse { .. }
            | Self::RestoreInUse { .. }
            | Self::Seal(_)
            | Self::Discovery(_)
            | Self::Call(_)
            | Self::Unsupported { .. }
            | Self::DrainInterrupted { .. }
            | Self::DrainCancelled { .. }
            | Self::ScrubInterrupted { .. }
            | Self::ScrubLost { .. }
            | Self::Omissions { .. }
            | Self::NotAsItIs { .. }
            | Self::Stopped
            | Self::StoppedDrainWait { .. }
            | Self::StoppedScrubWait
            | Self::StoppedRepair { .. }
            | Self::WorkerPanicked => 1,
        }
    }

    /// Makes an error of a failed file system operation: `.map_err(ClientError::file(FileAction::Read, path))`.
    pub(in crate::client) fn file(action: FileAction, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }

    /// One error for several, of which the worst is first; `None` if there are none.
    pub(in crate::client) fn several(mut errors: Vec<Self>) -> Option<Self> {
        if errors.len() > 1 { Some(Self::Several { errors }) } else { errors.pop() }
    }

    /// Something cannot be stored as it is, and all has to be.
    pub(in crate::client) fn strict(omissions: &Omissions) -> Self {
        match omissions.first.first() {
            Some(omission) if omissions.of_file => Self::NotAsItIs { omission: omission.clone() },
            _ => Self::Omissions { count: omissions.count },
        }
    }

    /// No cell responds, though `found` of them were found.
    pub(in crate::client) fn none_responding(scope: &ColonyScope, found: usize) -> Self {
        match found {
            0 => Self::NoCells { scope: scope.clone() },
            _ => Self::NoCellResponds { found },
        }
    }

    /// The cell refused an operation, perhaps because its version does not support it.
    pub(in crate::client) fn refused(cell: CellName, operation: Operation, error: CallError) -> Self {
        match error {
            CallError::Refused { status: 404 | 405 | 501, .. } => Self::Unsupported { cell, operation },
            error => Self::Call(error),
        }
    }
}

fn list_of(errors: &[ClientError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; and ")
}

/// Why a single file is not stored.
fn cause(reason: OmissionReason) -> String {
    match reason {
        OmissionReason::Grew { .. } => "it grew while it was stored".to_owned(),
        OmissionReason::Changed => "it changed while it was stored".to_owned(),
        OmissionReason::NotInManifest(metadata) => format!("the manifest of a file has no place for its {metadata}"),
        other => other.to_string(),
    }
}

fn source_name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

fn no_cell_responds(scope: &ColonyScope) -> String {
    match (&scope.nodes[..], scope.loopback) {
        ([], true) => format!("no cell responds on this machine (UDP port {})", scope.udp_port),
        ([], false) => format!("no cell responds on this network (UDP port {})", scope.udp_port),
        (nodes, _) => format!("no cell responds at {}", nodes.join(", ")),
    }
}

/// Maximum number of full cells that an error names.
const MAX_NAMED_CELLS: usize = 5;

fn without_room(cells: &[CellName]) -> String {
    match cells.get(..MAX_NAMED_CELLS) {
        _ if cells.is_empty() => String::new(),
        Some(named) if cells.len() > named.len() => {
            format!(" (full: {}, and {} more)", colony::list(named), cells.len() - named.len())
        }
        _ => format!(" (full: {})", colony::list(cells)),
    }
}

/// A file system operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileAction {
    /// Reading a file or a directory.
    Read,
    /// Writing a file.
    Write,
    /// Writing the contents of a tar stream to a directory.
    Unpack,
    /// Removing a file.
    Remove,
}

impl std::fmt::Display for FileAction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Read => "cannot read",
            Self::Write => "cannot write",
            Self::Unpack => "cannot unpack to",
            Self::Remove => "cannot remove",
        })
    }
}

/// An operation of a cell on its copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// To hand them off.
    Drain,
    /// To re-hash them.
    Scrub,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Drain => "drain",
            Self::Scrub => "scrub",
        })
    }
}

/// What is wrong with bytes that came from the colony.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// All copies of a chunk that were found are bad.
    #[error(
        "all copies found of chunk {} are bad, those on {}{}",
        chunk.short(), colony::list(cells), more_copies(*more)
    )]
    AllCopiesBad {
        /// The chunk.
        chunk: ChunkId,
        /// The cells that hold the copies.
        cells: Vec<CellName>,
        /// Were more copies made than were found?
        more: bool,
    },
    /// All copies of several chunks that were found are bad.
    #[error("all copies found of {} are bad{}", human::part(*corrupt, *chunks, "chunk"), more_copies(true))]
    ChunksWithoutGoodCopy {
        /// Chunks with bad copies only.
        corrupt: usize,
        /// Chunks of the file.
        chunks: usize,
    },
    /// Several chunks have no good copy.
    #[error("{} cannot be restored; the first one: {first}", human::part(*corrupt, *chunks, "chunk"))]
    Several {
        /// Chunks without a good copy.
        corrupt: usize,
        /// Chunks of the file.
        chunks: usize,
        /// What is wrong with the first one that was found.
        first: Box<Self>,
    },
    /// The chunk is the one that was put, and cannot be opened.
    #[error(transparent)]
    Unopenable(#[from] OpenError),
    /// A block in the middle of the file is too short.
    #[error("block {index} has only {}", human::count(*bytes, "byte"))]
    ShortBlock {
        /// The position of the block.
        index: usize,
        /// Its size.
        bytes: usize,
    },
    /// The blocks together do not have the size that the manifest states.
    #[error("the manifest states {}", human::count(*expected, "byte"))]
    WrongSize {
        /// The size that the manifest states.
        expected: u64,
    },
}

fn silent_cells(silent: usize) -> String {
    match silent {
        0 => String::new(),
        silent => format!("; {} stopped responding", human::count(silent, "cell")),
    }
}

fn more_copies(more: bool) -> &'static str {
    if more { "; if other cells that hold it are switched off, start them and try again" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumable_error_keeps_the_exit_code_of_its_cause() {
        let cause = ClientError::TooFewCopies { cells: CellAvailability::default(), required: 5, made: 2 };
        let error = ClientError::Resumable { cause: Box::new(cause), kept: "file.manifest.part".into() };
        assert_eq!(error.exit_code(), 3);
        let text = error.to_string();
        assert!(text.contains("2 copies of the 5 required") && text.contains("file.manifest.part keeps"), "{text}");
    }
}
