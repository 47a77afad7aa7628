//! Why a client failed.

use std::io;
use std::path::{Path, PathBuf};

use crate::client::ColonyScope;
use crate::client::byte_ranges::ByteRanges;
use crate::pipeline::{ManifestError, SealError};

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
        "{chunks} of {of} chunks are on none of the {cells} cells that answer: bytes {missing} are missing; \
         start the cells that hold them and try again"
    )]
    Missing {
        /// How many chunks are missing.
        chunks: usize,
        /// Of how many.
        of: usize,
        /// Cells that answered.
        cells: usize,
        /// The bytes of the file that are in them.
        missing: ByteRanges,
    },
    /// What came from the colony is not what was put there.
    #[error("bytes {bytes} are damaged: {what}")]
    Corrupt {
        /// The bytes of the file that are damaged.
        bytes: ByteRanges,
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

    pub(in crate::client) fn file(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let doing = format!("{doing} {}", path.display());
        move |source| Self::File { doing, source }
    }

    /// No cell was found in this scope.
    pub fn no_cells(scope: &ColonyScope) -> Self {
        Self::NoCells(if scope.nodes.is_empty() {
            let network = if scope.loopback { "on this machine" } else { "on this network" };
            format!(
                "no cell answers {network} (UDP port {}); is cellsync-node running? Where broadcast does not reach, name a cell with --node http://HOST:PORT",
                scope.udp_port
            )
        } else {
            format!("no cell answers at {}; is cellsync-node running there?", scope.nodes.join(", "))
        })
    }

    /// `found` cells sent a beacon, and none of them answers over HTTP.
    pub(in crate::client) fn none_responding(scope: &ColonyScope, found: usize) -> Self {
        match found {
            0 => Self::no_cells(scope),
            _ => Self::NoCells(format!(
                "{found} cells are heard, and none of them answers over HTTP; is a firewall between?"
            )),
        }
    }
}
