//! A directory as a source: its entries, and its tar stream.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

/// A file in a directory cannot be packed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
struct EntryError {
    path: PathBuf,
    source: io::Error,
}

/// All entries below a directory, sorted by name, so that the same directory always makes the same stream.
pub(in crate::client) fn entries(root: &Path) -> impl Iterator<Item = io::Result<DirEntry>> {
    WalkDir::new(root).min_depth(1).sort_by_file_name().into_iter().map(|entry| entry.map_err(io::Error::from))
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
    fn a_directory_that_does_not_exist_cannot_be_packed() {
        let dir = tempfile::tempdir().unwrap();
        let error = pack(&dir.path().join("missing"), io::sink()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
