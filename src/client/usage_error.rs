//! What a user asked for and is not possible.

use std::path::PathBuf;

use crate::client::discover::colony::CellName;
use crate::client::get::difference::Unfinished;
use crate::human;

/// Candidates listed in the message about a cell id that is unknown or ambiguous. Others are only counted.
const MAX_CANDIDATES_LISTED: usize = 8;

/// What was asked for is not possible.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// The manifest exists. It may hold the only key of an earlier upload.
    #[error("{} exists, and holds the key of an earlier upload", path.display())]
    ManifestExists {
        /// The manifest.
        path: PathBuf,
    },
    /// Entries are wanted of what is a single file.
    #[error("{} is the manifest of a single file, which has no entries", path.display())]
    NoDirectory {
        /// The manifest.
        path: PathBuf,
    },
    /// A range of bytes is wanted of a directory.
    #[error("{} is the manifest of a directory, and ranges are of a single file", path.display())]
    NoFile {
        /// The manifest.
        path: PathBuf,
    },
    /// A range of bytes begins behind the end.
    #[error("{}: the range begins behind the end: the file has {}", path.display(), human::count(*size, "byte"))]
    RangeBehindEnd {
        /// The manifest.
        path: PathBuf,
        /// The size of the file in bytes.
        size: u64,
    },
    /// A path of an entry has `..` in it.
    #[error("{}: an entry has no path with ..", human::shown(path))]
    PathLeadsOut {
        /// The path.
        path: Vec<u8>,
    },
    /// There are no entries with these paths.
    #[error("no entry {} is stored; cellsync ls lists those that are", shown_paths(paths))]
    NoSuchEntries {
        /// The paths.
        paths: Vec<Vec<u8>>,
    },
    /// The path of the manifest is a directory.
    #[error("{} is a directory, and the manifest is a file", path.display())]
    ManifestIsDirectory {
        /// The path.
        path: PathBuf,
    },
    /// The manifest would overwrite the source.
    #[error("{} is the file to store, and cannot be its own manifest", path.display())]
    ManifestIsSource {
        /// The path.
        path: PathBuf,
    },
    /// The manifest would be inside the directory that is stored.
    #[error("the manifest {} would be inside the directory that is stored", path.display())]
    ManifestInSource {
        /// The path.
        path: PathBuf,
    },
    /// A file is to be written where there is no directory.
    #[error("cannot write {}: there is no directory {}; make it first", path.display(), parent.display())]
    NoFolder {
        /// The file.
        path: PathBuf,
        /// The directory that should contain it.
        parent: PathBuf,
    },
    /// Something else is where the journal must be.
    #[error("{} exists and is not a regular file; move it away", path.display())]
    JournalNotRegular {
        /// The journal.
        path: PathBuf,
    },
    /// Another file has the name of the journal.
    #[error("{} exists and is not a journal of cellsync-put; move it away", path.display())]
    NotAJournal {
        /// The path.
        path: PathBuf,
    },
    /// The journal has a version that this program does not read.
    #[error(
        "{} was written by another version of cellsync-put; finish the upload with that version, or remove the file to \
         start anew",
        path.display()
    )]
    JournalVersion {
        /// The journal.
        path: PathBuf,
    },
    /// A pattern of what to leave out is not valid.
    #[error("invalid pattern {pattern:?}: {reason}")]
    InvalidPattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of patterns is not usable.
    #[error("{} is not a file of patterns: it must be UTF-8 text of at most {limit} bytes", path.display())]
    PatternFile {
        /// The file.
        path: PathBuf,
        /// The maximum size in bytes.
        limit: u64,
    },
    /// The source has more blocks than this machine can count.
    #[error("the source is too large for this machine")]
    SourceTooLarge,
    /// The output would overwrite the manifest.
    #[error("{} is the manifest itself", path.display())]
    OutputIsManifest {
        /// The path.
        path: PathBuf,
    },
    /// The output exists.
    #[error("{} exists", path.display())]
    OutputExists {
        /// The path.
        path: PathBuf,
    },
    /// The output exists and is not a regular file.
    #[error("{} exists and is not a regular file", path.display())]
    OutputNotRegular {
        /// The path.
        path: PathBuf,
    },
    /// The path of the output names a directory, and a file is restored.
    #[error("{} names a directory, and the manifest is of a file", path.display())]
    OutputNamesDirectory {
        /// The path.
        path: PathBuf,
    },
    /// An unfinished restore is in the way: of another manifest, with other options, or of another version.
    #[error(
        "{} is an unfinished restore of another manifest, with other options or by another version of cellsync-get; \
         finish it with the command that began it, remove it ({})",
        path.display(), human::removal_command([Some(path), also.as_ref()].into_iter().flatten())
    )]
    OtherPartialRestore {
        /// The partial file or directory.
        path: PathBuf,
        /// Its log.
        also: Option<PathBuf>,
    },
    /// An unfinished restore is in the way: of a file where a directory is restored, or the other way round.
    #[error(
        "{} is an unfinished restore of a {kind}, which is not what this manifest has; finish it with the command that \
         began it, or remove it ({})",
        path.display(), human::removal_command([Some(path), also.as_ref()].into_iter().flatten())
    )]
    PartialRestoreOfOtherKind {
        /// The partial file or directory.
        path: PathBuf,
        /// Its log.
        also: Option<PathBuf>,
        /// What it is.
        kind: &'static str,
    },
    /// Something else has the name of the unfinished restore.
    #[error("{} exists and is not an unfinished restore of cellsync-get; move it away", path.display())]
    NotAPartialRestore {
        /// The path.
        path: PathBuf,
    },
    /// A directory is restored, and its path is something else.
    #[error("{} exists, and a directory does not overwrite anything; move it away", path.display())]
    OutputDirectoryExists {
        /// The path.
        path: PathBuf,
    },
    /// A directory is restored, and its path is a directory with something in it.
    #[error("{} is not empty, and a directory does not overwrite anything; {}", path.display(), what_to_do(unfinished.as_deref()))]
    OutputDirectoryNotEmpty {
        /// The path.
        path: PathBuf,
        /// What an interrupted get left in it.
        unfinished: Option<Box<Unfinished>>,
    },
    /// This operating system has no directories as the archive describes them.
    #[cfg(not(unix))]
    #[error("{}: directories cannot be restored on this system, only their tar streams", path.display())]
    DirectoriesUnsupported {
        /// The path.
        path: PathBuf,
    },
    /// No cell has an id that begins so.
    #[error("no cell has an id that begins with {prefix}; there are {}", candidates(cells))]
    UnknownCell {
        /// The first digits of the id.
        prefix: String,
        /// All cells.
        cells: Vec<CellName>,
    },
    /// Several cells have ids that begin so.
    #[error("the ids of several cells begin with {prefix}: {}; give more digits", candidates(cells))]
    AmbiguousCell {
        /// The first digits of the id.
        prefix: String,
        /// Those cells.
        cells: Vec<CellName>,
    },
}

fn what_to_do(unfinished: Option<&Unfinished>) -> String {
    unfinished.map_or_else(|| "move it away".to_owned(), ToString::to_string)
}

/// Cells with their whole ids, from which a user can choose.
fn candidates(cells: &[CellName]) -> String {
    let name = |cell: &CellName| match cell.id {
        Some(id) => format!("{id} ({})", cell.url),
        None => cell.url.clone(),
    };
    let names: Vec<_> = cells.iter().take(MAX_CANDIDATES_LISTED).map(name).collect();
    match cells.len().saturating_sub(MAX_CANDIDATES_LISTED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// Paths of entries for a message, of which there may be many.
pub(in crate::client) fn shown_paths(paths: &[Vec<u8>]) -> String {
    let shown: Vec<String> = paths.iter().take(MAX_CANDIDATES_LISTED).map(|path| human::shown(path)).collect();
    match paths.len().saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_lists_few_candidates_and_counts_the_others() {
        let cells: Vec<CellName> = (0..20).map(|n| CellName { id: None, url: format!("http://{n}") }).collect();
        let error = UsageError::UnknownCell { prefix: "ffff".into(), cells };
        assert!(error.to_string().ends_with("http://7 and 12 more"), "{error}");
    }
}
