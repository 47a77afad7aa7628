//! What a put reads: a file, a directory as a tar stream, or standard input.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread;

use crate::client::error::{ClientError, FileAction};
use crate::client::put::directory;
use crate::client::put::fingerprint::Fingerprint;
use crate::client::usage_error::UsageError;
use crate::id::BLOCK_BYTES;
use crate::pipeline::{Block, Blocks, Content};

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

    pub(in crate::client) fn content(&self) -> Content {
        match self {
            Self::Directory(_) => Content::Tar,
            Self::File(_) | Self::StandardInput => Content::default(),
        }
    }

    /// The fingerprint; `None` if the source cannot be read twice.
    pub(in crate::client) fn fingerprint(&self) -> Result<Option<Fingerprint>, ClientError> {
        match self {
            Self::StandardInput => Ok(None),
            Self::File(path) => {
                let metadata = fs::metadata(path).map_err(ClientError::file(FileAction::Read, path))?;
                // A pipe or a device cannot be read twice.
                Ok(metadata.is_file().then(|| Fingerprint::of_file(&metadata)))
            }
            Self::Directory(path) => {
                Fingerprint::of_directory(path).map(Some).map_err(ClientError::file(FileAction::Read, path))
            }
        }
    }

    pub(in crate::client) fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Directory(path) => path,
            Self::StandardInput => Path::new("-"),
        }
    }

    /// Passes each block that is needed to `take`, in order, until `take` returns false. Returns the length of the
    /// source, with the blocks that are not needed; `None` if `take` ended it.
    pub(in crate::client) fn read(
        &self,
        is_needed: &dyn Fn(usize) -> bool,
        take: &mut dyn FnMut(Block) -> bool,
    ) -> Result<Option<SourceLength>, ClientError> {
        let read_error = |error| ClientError::file(FileAction::Read, self.path())(error);
        match self {
            Self::StandardInput => read_stream(io::stdin().lock(), is_needed, take).map_err(read_error),
            Self::File(path) => {
                let mut file = File::open(path).map_err(read_error)?;
                let metadata = file.metadata().map_err(read_error)?;
                // A pipe, or a kernel file such as those in /proc, which reports no length.
                if !metadata.is_file() || metadata.len() == 0 {
                    return read_stream(file, is_needed, take).map_err(read_error);
                }
                read_file(path, &mut file, is_needed, take)
            }
            Self::Directory(path) => {
                let (reader, writer) = io::pipe().map_err(read_error)?;
                let root = path.clone();
                let thread = thread::spawn(move || directory::pack(&root, writer));
                let length = read_stream(reader, is_needed, take).map_err(read_error)?;
                let packed = thread
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("internal error: the packing thread panicked")));
                // If `take` ended it, the packer fails with a broken pipe.
                if length.is_some() {
                    packed.map_err(read_error)?;
                }
                Ok(length)
            }
        }
    }
}

fn read_stream(
    reader: impl Read,
    is_needed: &dyn Fn(usize) -> bool,
    take: &mut dyn FnMut(Block) -> bool,
) -> io::Result<Option<SourceLength>> {
    let mut length = SourceLength { blocks: 0, bytes: 0 };
    for block in Blocks::new(reader) {
        let block = block?;
        let index = length.blocks;
        length = SourceLength { blocks: index + 1, bytes: length.bytes + block.bytes.len() as u64 };
        if is_needed(index) && !take(block) {
            return Ok(None);
        }
    }
    Ok(Some(length))
}

/// Like [`read_stream`], but does not read blocks that are not needed. A file that ends before the length that it had
/// at the beginning is an error.
fn read_file(
    path: &Path,
    file: &mut File,
    is_needed: &dyn Fn(usize) -> bool,
    take: &mut dyn FnMut(Block) -> bool,
) -> Result<Option<SourceLength>, ClientError> {
    let read_error = |error| ClientError::file(FileAction::Read, path)(error);
    let bytes = file.metadata().map_err(read_error)?.len();
    let blocks = usize::try_from(bytes.div_ceil(BLOCK_BYTES as u64)).map_err(|_| UsageError::SourceTooLarge)?;
    let mut index = 0;
    while index < blocks {
        if !is_needed(index) {
            index += 1;
            continue;
        }
        let start = index as u64 * BLOCK_BYTES as u64;
        let run = (index..blocks).take_while(|&index| is_needed(index)).count();
        let expected = (start + run as u64 * BLOCK_BYTES as u64).min(bytes) - start;
        file.seek(SeekFrom::Start(start)).map_err(read_error)?;
        let mut read = 0;
        for block in Blocks::starting_at(file.take(expected), index as u64) {
            let block = block.map_err(read_error)?;
            read += block.bytes.len() as u64;
            if read < expected && block.bytes.len() < BLOCK_BYTES {
                break;
            }
            if !take(block) {
                return Ok(None);
            }
        }
        if read < expected {
            return Err(ClientError::SourceTruncated { path: path.to_owned(), read: start + read, expected: bytes });
        }
        index += run;
    }
    Ok(Some(SourceLength { blocks, bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The positions and sizes of the blocks that were read, and the length.
    fn read(source: &Source, is_needed: &dyn Fn(usize) -> bool) -> (Vec<(u64, usize)>, Option<SourceLength>) {
        let mut blocks = Vec::new();
        let length = source.read(is_needed, &mut |block| {
            blocks.push((block.index, block.bytes.len()));
            true
        });
        (blocks, length.unwrap())
    }

    #[test]
    fn only_needed_blocks_are_read_and_all_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, vec![7; 3 * BLOCK_BYTES + 10]).unwrap();
        let source = Source::named(&path).unwrap();
        let length = Some(SourceLength { blocks: 4, bytes: 3 * BLOCK_BYTES as u64 + 10 });
        let all = vec![(0, BLOCK_BYTES), (1, BLOCK_BYTES), (2, BLOCK_BYTES), (3, 10)];
        assert_eq!(read(&source, &|_| true), (all, length));
        assert_eq!(read(&source, &|index| index % 2 == 1), (vec![(1, BLOCK_BYTES), (3, 10)], length));
        assert_eq!(read(&source, &|_| false), (vec![], length));
    }

    #[test]
    fn a_directory_gives_the_same_stream_every_time() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("b")).unwrap();
        fs::write(dir.path().join("b/two"), b"22").unwrap();
        fs::write(dir.path().join("a"), b"1").unwrap();
        let source = Source::named(dir.path()).unwrap();
        let stream = || {
            let mut bytes = Vec::new();
            let length = source.read(&|_| true, &mut |block| {
                bytes.extend(block.bytes);
                true
            });
            assert_eq!(length.unwrap().unwrap().bytes, bytes.len() as u64);
            bytes
        };
        let first = stream();
        assert_eq!(first, stream());
        let name = |entry: io::Result<tar::Entry<'_, _>>| entry.unwrap().path().unwrap().display().to_string();
        let names: Vec<_> = tar::Archive::new(&first[..]).entries().unwrap().map(name).collect();
        assert_eq!(names, [".", "a", "b", "b/two"]);
    }

    #[test]
    fn a_file_that_shrinks_while_it_is_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for left in [0, 10, BLOCK_BYTES, BLOCK_BYTES + 10, 3 * BLOCK_BYTES] {
            fs::write(&path, vec![7; 3 * BLOCK_BYTES + 10]).unwrap();
            let source = Source::File(path.clone());
            let mut blocks = 0;
            let result = source.read(&|_| true, &mut |_| {
                blocks += 1;
                File::options().write(true).open(&path).unwrap().set_len(left as u64).unwrap();
                true
            });
            let is_expected = matches!(result, Err(ClientError::SourceTruncated { .. }));
            assert!(is_expected, "{left}: {result:?}, {blocks} blocks");
        }
    }

    #[test]
    fn reading_stops_when_no_block_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("big"), vec![1; 5 * BLOCK_BYTES]).unwrap();
        for source in [Source::Directory(dir.path().to_owned()), Source::File(dir.path().join("big"))] {
            assert_eq!(source.read(&|_| true, &mut |_| false).unwrap(), None);
        }
    }
}
