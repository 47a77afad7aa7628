//! What a put reads: a file, a directory as a tar stream, or standard input.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use crate::client::error::{ClientError, FileAction, UsageError};
use crate::id::{BLOCK_BYTES, ChunkId};
use crate::pipeline::{Block, Blocks, Content};

/// Where the user's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, read by its bytes.
    File(PathBuf),
    /// A directory and all that is in it, as one tar stream.
    Directory(PathBuf),
    /// Standard input, until its end.
    StandardInput,
}

/// How a source is known again. If any of it differs, the source has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::client) struct Fingerprint {
    /// Bytes of a file, or of all files in a directory.
    pub(in crate::client) size: u64,
    /// Time of modification in nanoseconds since 1970; of a directory's entries, the latest.
    modified_ns: u64,
    /// For a directory: SHA-256 over its entries' paths, kinds, sizes and times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entries: Option<ChunkId>,
}

impl Source {
    /// What `-`, a file's path or a directory's path means.
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
            Self::File(_) | Self::StandardInput => Content::File,
        }
    }

    /// How the source is known again; `None` for one that cannot be read twice.
    pub(in crate::client) fn fingerprint(&self) -> Result<Option<Fingerprint>, ClientError> {
        match self {
            Self::StandardInput => Ok(None),
            Self::File(path) => {
                let metadata = fs::metadata(path).map_err(ClientError::file(FileAction::Read, path))?;
                // A pipe or a device has no bytes to come back to.
                let file = Fingerprint { size: metadata.len(), modified_ns: modified_ns(&metadata), entries: None };
                Ok(metadata.is_file().then_some(file))
            }
            Self::Directory(path) => {
                directory_fingerprint(path).map(Some).map_err(ClientError::file(FileAction::Read, path))
            }
        }
    }

    pub(in crate::client) fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Directory(path) => path,
            Self::StandardInput => Path::new("-"),
        }
    }

    /// Hands each block that is `needed` to `take`, in order, until `take` wants no more. Returns how many blocks and
    /// bytes the source has, those that were not needed included; `None` if it was stopped before the end.
    pub(in crate::client) fn read(
        &self,
        needed: &dyn Fn(usize) -> bool,
        take: &mut dyn FnMut(Block) -> bool,
    ) -> Result<Option<(usize, u64)>, ClientError> {
        let wrong = |error| ClientError::file(FileAction::Read, self.path())(error);
        match self {
            Self::StandardInput => read_stream(io::stdin().lock(), needed, take).map_err(wrong),
            Self::File(path) => {
                let mut file = File::open(path).map_err(wrong)?;
                // A pipe, or one of the system's files that look empty and are not.
                let metadata = file.metadata().map_err(wrong)?;
                if !metadata.is_file() || metadata.len() == 0 {
                    return read_stream(file, needed, take).map_err(wrong);
                }
                read_file(path, &mut file, needed, take)
            }
            Self::Directory(path) => {
                let (reader, writer) = io::pipe().map_err(wrong)?;
                let root = path.clone();
                let packing = thread::spawn(move || pack(&root, writer));
                let read = read_stream(reader, needed, take).map_err(wrong)?;
                // If nobody wanted the rest, the packer ends with a broken pipe, which is no error.
                let packed = packing.join().unwrap_or_else(|_| Err(io::Error::other("packing the directory failed")));
                if read.is_some() {
                    packed.map_err(wrong)?;
                }
                Ok(read)
            }
        }
    }
}

fn modified_ns(metadata: &fs::Metadata) -> u64 {
    let since = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH).duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// All else of a file that goes into a tar stream.
fn permissions(metadata: &fs::Metadata) -> String {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        format!("{:o} {}:{}", metadata.mode(), metadata.uid(), metadata.gid())
    }
    #[cfg(not(unix))]
    {
        format!("{:?}", metadata.permissions())
    }
}

fn read_stream(
    reader: impl Read,
    needed: &dyn Fn(usize) -> bool,
    take: &mut dyn FnMut(Block) -> bool,
) -> io::Result<Option<(usize, u64)>> {
    let (mut blocks, mut bytes) = (0, 0);
    for block in Blocks::new(reader) {
        let block = block?;
        (blocks, bytes) = (blocks + 1, bytes + block.bytes.len() as u64);
        if needed(blocks - 1) && !take(block) {
            return Ok(None);
        }
    }
    Ok(Some((blocks, bytes)))
}

/// As [`read_stream`], but blocks that are not needed are not read. A file that ends before its length, as one does
/// that is being cut short, is an error.
fn read_file(
    path: &Path,
    file: &mut File,
    needed: &dyn Fn(usize) -> bool,
    take: &mut dyn FnMut(Block) -> bool,
) -> Result<Option<(usize, u64)>, ClientError> {
    let wrong = |error| ClientError::file(FileAction::Read, path)(error);
    let len = file.metadata().map_err(wrong)?.len();
    let blocks = usize::try_from(len.div_ceil(BLOCK_BYTES as u64)).map_err(|_| UsageError::SourceTooLarge)?;
    let mut at = 0;
    while at < blocks {
        if !needed(at) {
            at += 1;
            continue;
        }
        let start = at as u64 * BLOCK_BYTES as u64;
        let run = (at..blocks).take_while(|&index| needed(index)).count();
        let end = (start + run as u64 * BLOCK_BYTES as u64).min(len);
        file.seek(SeekFrom::Start(start)).map_err(wrong)?;
        let mut got = 0;
        for block in Blocks::starting_at(file.take(end - start), at as u64) {
            let block = block.map_err(wrong)?;
            got += block.bytes.len() as u64;
            if got < end - start && block.bytes.len() < BLOCK_BYTES {
                break;
            }
            if !take(block) {
                return Ok(None);
            }
        }
        if got < end - start {
            return Err(ClientError::SourceTruncated { path: path.to_owned(), read: start + got, expected: len });
        }
        at += run;
    }
    Ok(Some((blocks, len)))
}

fn entries(root: &Path) -> impl Iterator<Item = io::Result<walkdir::DirEntry>> {
    // In order of names, so that the same directory always makes the same stream.
    WalkDir::new(root).min_depth(1).sort_by_file_name().into_iter().map(|entry| entry.map_err(io::Error::from))
}

fn directory_fingerprint(root: &Path) -> io::Result<Fingerprint> {
    let mut fingerprint = Fingerprint { size: 0, modified_ns: 0, entries: None };
    let mut hash = Sha256::new();
    for entry in entries(root) {
        let entry = entry?;
        let metadata = entry.metadata().map_err(io::Error::from)?;
        let size = if metadata.is_file() { metadata.len() } else { 0 };
        fingerprint.size += size;
        fingerprint.modified_ns = fingerprint.modified_ns.max(modified_ns(&metadata));
        let name = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let link = if metadata.is_symlink() { fs::read_link(entry.path())? } else { PathBuf::new() };
        let kind = metadata.file_type();
        let (owner, time) = (permissions(&metadata), modified_ns(&metadata));
        hash.update(name.as_os_str().as_encoded_bytes());
        hash.update(format!("\0{kind:?}\0{size}\0{time}\0{owner}\0"));
        hash.update(link.as_os_str().as_encoded_bytes());
        hash.update(b"\0");
    }
    fingerprint.entries = Some(ChunkId::from_bytes(hash.finalize().into()));
    Ok(fingerprint)
}

/// Writes a directory as a tar stream: itself, and files, directories and symbolic links in it. Sockets, pipes and
/// devices are left out, as they hold no bytes. A file is written whole, with its holes: where they are is not in its
/// fingerprint, and the stream must be the same each time.
fn pack(root: &Path, writer: impl io::Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(writer);
    archive.follow_symlinks(false);
    archive.sparse(false);
    archive.append_path_with_name(root, ".")?;
    for entry in entries(root) {
        let entry = entry?;
        let name = entry.path().strip_prefix(root).map_err(io::Error::other)?;
        let kind = entry.file_type();
        if kind.is_file() || kind.is_dir() || kind.is_symlink() {
            let named = |error: io::Error| match error.kind() {
                // Nobody reads the stream any more: not the file's fault.
                io::ErrorKind::BrokenPipe => error,
                kind => io::Error::new(kind, format!("{}: {error}", name.display())),
            };
            archive.append_path_with_name(entry.path(), name).map_err(named)?;
        }
    }
    archive.into_inner()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Indices = Vec<(u64, usize)>;

    fn read_indices(source: &Source, needed: &dyn Fn(usize) -> bool) -> (Indices, Option<(usize, u64)>) {
        let mut got = Vec::new();
        let end = source.read(needed, &mut |block| {
            got.push((block.index, block.bytes.len()));
            true
        });
        (got, end.unwrap())
    }

    #[test]
    fn only_needed_blocks_of_a_file_are_read_but_all_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, vec![7; 3 * BLOCK_BYTES + 10]).unwrap();
        let source = Source::named(&path).unwrap();
        let end = Some((4, 3 * BLOCK_BYTES as u64 + 10));
        assert_eq!(
            read_indices(&source, &|_| true),
            (vec![(0, BLOCK_BYTES), (1, BLOCK_BYTES), (2, BLOCK_BYTES), (3, 10)], end)
        );
        assert_eq!(read_indices(&source, &|index| index % 2 == 1), (vec![(1, BLOCK_BYTES), (3, 10)], end));
        assert_eq!(read_indices(&source, &|_| false), (vec![], end));
    }

    #[test]
    fn a_directory_gives_the_same_stream_each_time_and_its_fingerprint_tells_every_change() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("b")).unwrap();
        fs::write(dir.path().join("b/two"), b"22").unwrap();
        fs::write(dir.path().join("a"), b"1").unwrap();
        let source = Source::named(dir.path()).unwrap();
        let before = source.fingerprint().unwrap().unwrap();
        let stream = |source: &Source| {
            let mut bytes = Vec::new();
            source
                .read(&|_| true, &mut |block| {
                    bytes.extend(block.bytes);
                    true
                })
                .unwrap()
                .unwrap();
            bytes
        };
        let first = stream(&source);
        assert_eq!(first, stream(&source));
        assert_eq!(source.fingerprint().unwrap().unwrap(), before);
        assert_eq!(before.size, 3);
        let names: Vec<_> = tar::Archive::new(&first[..])
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, [".", "a", "b", "b/two"]);
        fs::rename(dir.path().join("a"), dir.path().join("c")).unwrap();
        assert_ne!(source.fingerprint().unwrap().unwrap(), before);
    }

    #[test]
    fn a_file_that_is_cut_short_while_it_is_read_is_an_error_and_no_endless_wait() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for left in [0, 10, BLOCK_BYTES, BLOCK_BYTES + 10, 3 * BLOCK_BYTES] {
            fs::write(&path, vec![7; 3 * BLOCK_BYTES + 10]).unwrap();
            let source = Source::File(path.clone());
            let mut blocks = 0;
            let cut = source.read(&|_| true, &mut |_| {
                blocks += 1;
                File::options().write(true).open(&path).unwrap().set_len(left as u64).unwrap();
                true
            });
            assert!(matches!(cut, Err(ClientError::SourceTruncated { .. })), "{left}: {cut:?}, {blocks} blocks");
        }
    }

    #[test]
    fn what_cannot_be_read_in_a_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("gone"), b"1").unwrap();
        let error = pack(&dir.path().join("missing"), io::sink()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn reading_stops_when_nobody_wants_more() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("big"), vec![1; 5 * BLOCK_BYTES]).unwrap();
        for source in [Source::Directory(dir.path().to_owned()), Source::File(dir.path().join("big"))] {
            assert_eq!(source.read(&|_| true, &mut |_| false).unwrap(), None);
        }
    }
}
