//! A source that is ready to be read, in blocks.

use std::io;
use std::sync::Arc;

use crate::client::error::{ClientError, FileAction};
use crate::client::progress::StopSignal;
use crate::client::put::fingerprint::Fingerprint;
use crate::client::put::journal::JournalSource;
use crate::client::put::omission::Omission;
use crate::client::put::options::PutOptions;
use crate::client::put::position::{ChunkKeys, Position, PutBlock};
use crate::client::put::single_file::SingleFile;
use crate::client::put::source::{Source, SourceLength};
use crate::client::put::tree::Tree;
use crate::pipeline::{BlockHash, Blocks, Content};

/// A source that is ready to be read.
#[derive(Clone)]
pub(in crate::client) enum Input {
    File(SingleFile),
    Tree(Arc<Tree>),
    /// Standard input, until its end.
    Stream,
}

/// Who takes what is read.
pub(in crate::client) struct Reader<'a> {
    /// Is the block at this position needed? Others are skipped. A directory may differ each time that it is read, so
    /// all of its blocks are needed.
    pub(in crate::client) is_needed: &'a dyn Fn(usize) -> bool,
    /// Takes a block. Returns false to end the reading.
    pub(in crate::client) take: &'a mut dyn FnMut(PutBlock) -> bool,
    /// Waits for the hashes of the blocks of a directory, of which there are this many. `None` ends the reading.
    pub(in crate::client) hashes: &'a mut dyn FnMut(usize) -> Option<Vec<BlockHash>>,
    /// Takes what could not be read, or not as it was.
    pub(in crate::client) report: &'a mut dyn FnMut(Omission),
}

impl Input {
    /// Prepares a source.
    pub(in crate::client) fn new(source: &Source, options: &PutOptions) -> Result<Self, ClientError> {
        Ok(match source {
            Source::File(path) => Self::File(SingleFile::new(path)?),
            Source::Directory(path) => Self::Tree(Arc::new(Tree::new(path, options)?)),
            Source::StandardInput => Self::Stream,
        })
    }

    /// The bytes that will be read, if that is known, before any of them is. What cannot be read is reported.
    pub(in crate::client) fn plan(
        &self,
        stop: &StopSignal,
        report: &mut dyn FnMut(Omission),
    ) -> Result<Option<u64>, ClientError> {
        match self {
            Self::File(file) => {
                if let Some(omission) = file.omission() {
                    report(omission);
                }
                Ok(file.fingerprint.map(|Fingerprint { size, .. }| size))
            }
            Self::Tree(tree) => Ok(Some(tree.plan(stop, report)?)),
            Self::Stream => Ok(None),
        }
    }

    pub(in crate::client) fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// What the manifest states about the content.
    pub(in crate::client) fn content(&self) -> Content {
        match self {
            Self::File(file) => Content::File(file.metadata),
            Self::Tree(_) => Content::Tar,
            Self::Stream => Content::default(),
        }
    }

    /// The keys of its chunks.
    pub(in crate::client) fn chunk_keys(&self) -> ChunkKeys {
        match self {
            Self::File(_) | Self::Stream => ChunkKeys::Shared,
            Self::Tree(_) => ChunkKeys::Derived,
        }
    }

    /// What the journal states about the source; `None` if it cannot be read twice.
    pub(in crate::client) fn journal_source(&self) -> Option<JournalSource> {
        match self {
            Self::File(file) => file.fingerprint.map(JournalSource::File),
            Self::Tree(_) => Some(JournalSource::directory()),
            Self::Stream => None,
        }
    }

    /// Passes the blocks to the reader, in order. Returns the length of the source, with the blocks that are not
    /// needed; `None` if the reader ended it.
    pub(in crate::client) fn read(&self, reader: Reader<'_>) -> Result<Option<SourceLength>, ClientError> {
        match self {
            Self::Stream => read_stream(io::stdin().lock(), reader)
                .map_err(ClientError::file(FileAction::Read, Source::StandardInput.path())),
            Self::File(file) => file.read(reader),
            Self::Tree(tree) => tree.pack(reader),
        }
    }
}

/// Reads a stream to its end.
pub(in crate::client) fn read_stream(stream: impl io::Read, reader: Reader<'_>) -> io::Result<Option<SourceLength>> {
    let Reader { is_needed, take, .. } = reader;
    let mut length = SourceLength { blocks: 0, bytes: 0, index_blocks: 0 };
    for block in Blocks::new(stream) {
        let block = block?;
        let index = length.blocks;
        length = SourceLength { blocks: index + 1, bytes: length.bytes + block.bytes.len() as u64, index_blocks: 0 };
        if is_needed(index) && !take(PutBlock { position: Position::Data(index), bytes: block.bytes }) {
            return Ok(None);
        }
    }
    Ok(Some(length))
}
