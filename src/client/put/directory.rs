//! A directory as a source: its fingerprint, and its tar stream.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use walkdir::{DirEntry, WalkDir};

use crate::client::put::source::Fingerprint;
use crate::id::ChunkId;

/// A file in a directory cannot be packed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
struct EntryError {
    path: PathBuf,
    source: io::Error,
}

/// Time of modification in nanoseconds since 1970.
pub(in crate::client) fn modified_ns(metadata: &fs::Metadata) -> u64 {
    let since = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH).duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// What else of an entry's metadata is in the tar stream.
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

/// All entries below a directory, sorted by name, so that the same directory always makes the same stream.
fn entries(root: &Path) -> impl Iterator<Item = io::Result<DirEntry>> {
    WalkDir::new(root).min_depth(1).sort_by_file_name().into_iter().map(|entry| entry.map_err(io::Error::from))
}

/// The fingerprint of a directory.
pub(in crate::client) fn fingerprint(root: &Path) -> io::Result<Fingerprint> {
    let mut fingerprint = Fingerprint { size: 0, modified_ns: 0, entries: None };
    let mut hash = Sha256::new();
    for entry in entries(root) {
        let entry = entry?;
        let metadata = entry.metadata().map_err(io::Error::from)?;
        let size = if metadata.is_file() { metadata.len() } else { 0 };
        fingerprint.size += size;
        fingerprint.modified_ns = fingerprint.modified_ns.max(modified_ns(&metadata));
        let path = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let link = if metadata.is_symlink() { fs::read_link(entry.path())? } else { PathBuf::new() };
        let file_type = metadata.file_type();
        let (owner, time) = (permissions(&metadata), modified_ns(&metadata));
        hash.update(path.as_os_str().as_encoded_bytes());
        hash.update(format!("\0{file_type:?}\0{size}\0{time}\0{owner}\0"));
        hash.update(link.as_os_str().as_encoded_bytes());
        hash.update(b"\0");
    }
    fingerprint.entries = Some(ChunkId::from_bytes(hash.finalize().into()));
    Ok(fingerprint)
}

/// Writes a directory as a tar stream: itself, and the files, directories and symbolic links in it. Sockets, pipes and
/// devices have no bytes and are left out. Files are written without holes: the fingerprint does not tell where holes
/// are, and the same fingerprint must mean the same stream.
pub(in crate::client) fn pack(root: &Path, writer: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(writer);
    archive.follow_symlinks(false);
    archive.sparse(false);
    archive.append_path_with_name(root, ".")?;
    for entry in entries(root) {
        let entry = entry?;
        let path = entry.path().strip_prefix(root).map_err(io::Error::other)?;
        let file_type = entry.file_type();
        if file_type.is_file() || file_type.is_dir() || file_type.is_symlink() {
            archive.append_path_with_name(entry.path(), path).map_err(|source| match source.kind() {
                // The reader ended. The entry is not the reason.
                io::ErrorKind::BrokenPipe => source,
                kind => io::Error::new(kind, EntryError { path: path.to_owned(), source }),
            })?;
        }
    }
    archive.into_inner()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_changes_with_every_entry() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), b"1").unwrap();
        fs::write(dir.path().join("b"), b"22").unwrap();
        let before = fingerprint(dir.path()).unwrap();
        assert_eq!(fingerprint(dir.path()).unwrap(), before);
        assert_eq!(before.size, 3);
        fs::rename(dir.path().join("a"), dir.path().join("c")).unwrap();
        assert_ne!(fingerprint(dir.path()).unwrap(), before);
    }

    #[test]
    fn a_directory_that_does_not_exist_cannot_be_packed() {
        let dir = tempfile::tempdir().unwrap();
        let error = pack(&dir.path().join("missing"), io::sink()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
