//! What an unfinished get keeps beside its target: its name, its first line, and its lock.
//!
//! A file is written as `NAME.cellsync-part`, with its [log](super::block_log) in `NAME.cellsync-part.log`. A directory
//! is unpacked in the directory `NAME.cellsync-part`, or in `restore.cellsync-part` inside the target if that exists.
//! The log, or the state of a directory, begins with one line of JSON:
//!
//! ```text
//! {"cellsync-get":1,"manifest":"8f434346648f6b96df89dda901c5176b","options":"no owners, no attributes"}
//! ```
//!
//! The number is the version of the format. `manifest` is a [`ManifestHash`]: only a get of the same manifest continues.
//! `options` is there for directories only: what of the metadata is restored. Neither shows the key, a name or a path.
//! The file with this line is locked (`flock`) by the get that writes it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::client::error::{ClientError, FileAction};
use crate::client::usage_error::UsageError;
use crate::id::ChunkId;
use crate::pipeline::ManifestHash;

/// What the name of an unfinished restore ends with.
pub(in crate::client) const SUFFIX: &str = ".cellsync-part";

/// What the name of the log of an unfinished file ends with.
pub(in crate::client) const LOG_SUFFIX: &str = ".cellsync-part.log";

/// The file with the first line, in the directory of an unfinished directory.
pub(in crate::client) const STATE: &str = "state";

/// The version of the format.
const VERSION: u32 = 1;

/// What the first line begins with, in every version.
const FIRST_BYTES: &[u8] = br#"{"cellsync-get":"#;

/// The longest first line, in bytes.
const MAX_HEADER_BYTES: u64 = 1024;

/// How often a file is opened again that another get removed between opening and locking it.
const MAX_OPENED_AGAIN: u32 = 10;

/// The first line: what is being restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::client) struct Header {
    #[serde(rename = "cellsync-get")]
    version: u32,
    manifest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    options: Option<String>,
}

impl Header {
    pub(in crate::client) fn new(manifest: ManifestHash, options: Option<String>) -> Self {
        Self { version: VERSION, manifest: manifest.to_string(), options }
    }

    /// The line, with its end.
    pub(in crate::client) fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

/// What a file that may have a first line has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client) enum Found {
    /// Nothing, or the beginning of a first line: no restore has begun, or a power cut took it.
    Nothing,
    /// The restore that was asked for. Its first line has this length in bytes.
    Same { header_bytes: u64 },
    /// Another restore: of another manifest, with other options, or in the format of another version.
    Other,
    /// Something that no get wrote.
    Foreign,
}

/// Reads the first line of a file.
pub(in crate::client) fn find_header(mut file: &File, header: &Header) -> std::io::Result<Found> {
    file.seek(SeekFrom::Start(0))?;
    let mut line = Vec::new();
    BufReader::new(std::io::Read::take(file, MAX_HEADER_BYTES)).read_until(b'\n', &mut line)?;
    if line == header.line().as_bytes() {
        return Ok(Found::Same { header_bytes: line.len() as u64 });
    }
    // A file system can lose the bytes of a file and keep its length.
    if line.iter().all(|&byte| byte == 0) || FIRST_BYTES.starts_with(&line) {
        return Ok(Found::Nothing);
    }
    Ok(if line.starts_with(FIRST_BYTES) { Found::Other } else { Found::Foreign })
}

/// Does this file begin as one that a get writes?
pub(in crate::client) fn begins_like_header(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| {
        std::io::Read::read_to_end(&mut std::io::Read::take(file, FIRST_BYTES.len() as u64), &mut start)
    });
    read.is_ok() && start == FIRST_BYTES
}

/// The error for something at the path of an unfinished restore that is none of the same kind.
pub(in crate::client) fn in_the_way(path: &Path, log: &Path) -> UsageError {
    let path = path.to_owned();
    match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_dir() && begins_like_header(&path.join(STATE)) => {
            UsageError::PartialRestoreOfOtherKind { path, also: None, kind: "directory" }
        }
        Ok(metadata) if metadata.is_file() && begins_like_header(log) => {
            UsageError::PartialRestoreOfOtherKind { path, also: Some(log.to_owned()), kind: "file" }
        }
        _ => UsageError::NotAPartialRestore { path },
    }
}

/// The longest name of a file, in bytes, on nearly all file systems.
const MAX_NAME_BYTES: usize = 255;

/// The name beside the target with this end. For a name that is too long for that, a hash of it takes its place.
pub(in crate::client) fn beside(target: &Path, suffix: &str) -> PathBuf {
    let mut name = target.file_name().unwrap_or("restore".as_ref()).to_owned();
    if name.len() + LOG_SUFFIX.len() > MAX_NAME_BYTES {
        name = ChunkId::of(name.as_encoded_bytes()).short().into();
    }
    name.push(suffix);
    target.with_file_name(name)
}

/// Opens a file for reading and writing, or makes one that only its user can read. A link is not followed.
pub(in crate::client) fn open_private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    }
    options.open(path)
}

/// Opens and locks the file with the first line, or makes it. `partial` is what an error names.
pub(in crate::client) fn open_locked(path: &Path, partial: &Path) -> Result<File, ClientError> {
    for _ in 0..MAX_OPENED_AGAIN {
        if fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(UsageError::NotAPartialRestore { path: path.to_owned() }.into());
        }
        let file = open_private(path).map_err(ClientError::file(FileAction::Write, path))?;
        // Not every file system can lock. On one that cannot, the user must see to it.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            break;
        }
        if is_at(&file, path) {
            return Ok(file);
        }
    }
    Err(ClientError::RestoreInUse { path: partial.to_owned() })
}

/// Is the open file the one that has this path? Another get may have removed it, or given it its final name.
fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let identity = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
        matches!((file.metadata(), fs::symlink_metadata(path)), (Ok(a), Ok(b)) if identity(&a) == identity(&b))
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}

/// Does the file or directory belong to the user who runs this program? Another user could read what is written to it.
pub(in crate::client) fn is_own(metadata: &fs::Metadata) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::uid(metadata) == rustix::process::geteuid().as_raw();
    #[cfg(not(unix))]
    {
        let _ = metadata;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_too_long_has_a_hash_in_its_place() {
        let beside = |length: usize| {
            let path = beside(&Path::new("/folder").join("n".repeat(length)), LOG_SUFFIX);
            assert_eq!(path.parent(), Some(Path::new("/folder")));
            path.file_name().unwrap().len()
        };
        let suffix = LOG_SUFFIX.len();
        assert_eq!([beside(1), beside(255 - suffix)], [1 + suffix, 255]);
        assert!(beside(256 - suffix) < 40 && beside(255) < 40);
    }
    use crate::pipeline::Key;

    #[test]
    fn only_the_same_restore_continues() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let hash = ManifestHash::of(&[], &Key::generate());
        let header = Header::new(hash, Some("none".to_owned()));
        let found = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            find_header(&File::open(&path).unwrap(), &header).unwrap()
        };
        let line = header.line();
        assert_eq!(found(line.as_bytes()), Found::Same { header_bytes: line.len() as u64 });
        assert_eq!(found((line.clone() + "{}").as_bytes()), Found::Same { header_bytes: line.len() as u64 });
        for nothing in [&b""[..], b"{\"cells", b"\0\0\0"] {
            assert_eq!(found(nothing), Found::Nothing, "{nothing:?}");
        }
        let others = [
            Header::new(hash, None).line(),
            Header::new(ManifestHash::of(&[], &Key::generate()), Some("none".to_owned())).line(),
            line.replace(":1,", ":2,"),
            line.trim_end().to_owned(),
        ];
        for other in others {
            assert_eq!(found(other.as_bytes()), Found::Other, "{other}");
        }
        for foreign in [&b"precious"[..], b"{\"version\":1", b"\n", b"\0x"] {
            assert_eq!(found(foreign), Found::Foreign, "{foreign:?}");
        }
    }

    #[test]
    fn names_are_beside_the_target() {
        let name = |target: &str| beside(Path::new(target), SUFFIX).into_os_string().into_string().unwrap();
        assert_eq!(name("a/photos"), "a/photos.cellsync-part");
        assert_eq!(name("photos/"), "photos.cellsync-part");
        assert_eq!(name("f.tar"), "f.tar.cellsync-part");
    }

    #[test]
    fn a_file_that_is_locked_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let (path, partial) = (folder.path().join("f"), folder.path().join("p"));
        let first = open_locked(&path, &partial).unwrap();
        assert!(matches!(open_locked(&path, &partial), Err(ClientError::RestoreInUse { path }) if path == partial));
        drop(first);
        open_locked(&path, &partial).unwrap();
    }
}
