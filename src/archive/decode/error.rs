//! Why an archive cannot be read.

use std::io;

use crate::archive::{MAX_EXTENSION_BYTES, MAX_EXTENTS};
use crate::human;

/// Why an archive cannot be read. Positions are in bytes from the beginning of the stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Reading the stream failed.
    #[error("cannot read the archive: {0}")]
    Read(#[source] io::Error),
    /// The stream ends before the archive does.
    #[error("the archive is truncated: it ends after {at} bytes")]
    Truncated {
        /// The length of the stream.
        at: u64,
    },
    /// A header does not have the checksum that it states.
    #[error("the archive is damaged: the header at byte {at} has a wrong checksum")]
    Checksum {
        /// Where the header begins.
        at: u64,
    },
    /// A field of a header, or its value in a pax record, has no valid value.
    #[error("the archive is damaged: the entry at byte {at} has no valid {field}")]
    Field {
        /// Where the header begins.
        at: u64,
        /// The field.
        field: &'static str,
    },
    /// The extension records of one entry take too much memory.
    #[error("the entry at byte {at} has more than {MAX_EXTENSION_BYTES} bytes of extension records")]
    Extensions {
        /// Where the header of the last record begins.
        at: u64,
    },
    /// Extension records do not have the form of POSIX.
    #[error("the archive is damaged: the extension records before byte {at} are malformed")]
    Records {
        /// Where they end.
        at: u64,
    },
    /// A sparse file has too many parts.
    #[error("{}: the sparse file has more than {MAX_EXTENTS} parts", human::shown(path))]
    Extents {
        /// The path in the archive.
        path: Vec<u8>,
    },
    /// The map of a sparse file has no meaning.
    #[error(
        "the archive is damaged: {}: the parts of the sparse file are not in order, or not in it",
        human::shown(path)
    )]
    SparseMap {
        /// The path in the archive.
        path: Vec<u8>,
    },
    /// A sparse file is in a form that only other programs write.
    #[error("{}: this form of a sparse file (GNU.sparse) is not supported; GNU tar reads it", human::shown(path))]
    PaxSparse {
        /// The path in the archive.
        path: Vec<u8>,
    },
    /// Something other than zeros follows the end of the archive.
    #[error("the archive is damaged: it ends at byte {at}, and data follows")]
    Trailing {
        /// Where the archive ends.
        at: u64,
    },
}
