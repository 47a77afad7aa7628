//! What a put stores: a file, a directory, or standard input.

use std::fs;
use std::path::{Path, PathBuf};

use crate::client::error::{ClientError, FileAction};

/// Where the user's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The bytes of a file.
    File(PathBuf),
    /// A directory with its contents, as one tar stream.
    Directory(PathBuf),
    /// Standard input, until its end.
    StandardInput,
}

/// The length of a source that was read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client) struct SourceLength {
    pub(in crate::client) blocks: usize,
    pub(in crate::client) bytes: u64,
    /// Blocks of the index of a directory.
    pub(in crate::client) index_blocks: usize,
}

impl Source {
    /// The source at this path; `-` is standard input.
    pub fn named(path: &Path) -> Result<Self, ClientError> {
        if path == Path::new("-") {
            return Ok(Self::StandardInput);
        }
        let metadata = fs::metadata(path).map_err(ClientError::file(FileAction::Read, path))?;
        if metadata.is_dir() { Ok(Self::Directory(path.to_owned())) } else { Ok(Self::File(path.to_owned())) }
    }

    pub(in crate::client) fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Directory(path) => path,
            Self::StandardInput => Path::new("-"),
        }
    }
}
