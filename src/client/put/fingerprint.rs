//! How a source is recognized when its put continues.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::client::put::directory::entries;
use crate::id::ChunkId;

/// Identifies the content of a source. If any of it differs, the source has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::client) struct Fingerprint {
    /// Bytes of a file, or of all files in a directory.
    pub(in crate::client) size: u64,
    /// Time of modification in nanoseconds since 1970; for a directory the latest of its entries.
    modified_ns: u64,
    /// For a directory, SHA-256 of the paths, types, sizes and times of its entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entries: Option<ChunkId>,
}

impl Fingerprint {
    /// The fingerprint of a file.
    pub(in crate::client) fn of_file(metadata: &fs::Metadata) -> Self {
        Self { size: metadata.len(), modified_ns: modified_ns(metadata), entries: None }
    }

    /// The fingerprint of a directory.
    pub(in crate::client) fn of_directory(root: &Path) -> io::Result<Self> {
        let mut fingerprint = Self { size: 0, modified_ns: 0, entries: None };
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
}

/// Time of modification in nanoseconds since 1970.
fn modified_ns(metadata: &fs::Metadata) -> u64 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_changes_with_every_entry() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), b"1").unwrap();
        fs::write(dir.path().join("b"), b"22").unwrap();
        let before = Fingerprint::of_directory(dir.path()).unwrap();
        assert_eq!(Fingerprint::of_directory(dir.path()).unwrap(), before);
        assert_eq!(before.size, 3);
        fs::rename(dir.path().join("a"), dir.path().join("c")).unwrap();
        assert_ne!(Fingerprint::of_directory(dir.path()).unwrap(), before);
    }
}
