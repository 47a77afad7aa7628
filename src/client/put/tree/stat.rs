//! What the file system tells about a file.

use std::fs::Metadata;

use crate::archive::Timestamp;
use crate::client::put::omission::SpecialFile;

/// The type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileType {
    Regular,
    Directory,
    SymbolicLink,
    Special(SpecialFile),
}

/// A file's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) file_type: FileType,
    pub(super) size: u64,
    /// Permission bits, with set-user-id, set-group-id and sticky.
    pub(super) mode: u32,
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) modified: Timestamp,
    /// When content or metadata last changed.
    pub(super) changed: Timestamp,
    /// Device and inode of a file with more than one name.
    pub(super) shared: Option<(u64, u64)>,
    /// The bytes that it has on the disk.
    pub(super) allocated: u64,
}

impl Stat {
    #[cfg(unix)]
    pub(super) fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::{FileTypeExt, MetadataExt};

        let kind = metadata.file_type();
        let file_type = match kind {
            kind if kind.is_file() => FileType::Regular,
            kind if kind.is_dir() => FileType::Directory,
            kind if kind.is_symlink() => FileType::SymbolicLink,
            kind if kind.is_fifo() => FileType::Special(SpecialFile::Fifo),
            kind if kind.is_socket() => FileType::Special(SpecialFile::Socket),
            kind if kind.is_block_device() || kind.is_char_device() => FileType::Special(SpecialFile::Device),
            _ => FileType::Special(SpecialFile::Unknown),
        };
        let time = |seconds, nanoseconds| Timestamp { seconds, nanoseconds: u32::try_from(nanoseconds).unwrap_or(0) };
        Self {
            file_type,
            size: metadata.len(),
            mode: metadata.mode() & 0o7777,
            user: metadata.uid(),
            group: metadata.gid(),
            modified: time(metadata.mtime(), metadata.mtime_nsec()),
            changed: time(metadata.ctime(), metadata.ctime_nsec()),
            shared: (!kind.is_dir() && metadata.nlink() > 1).then(|| (metadata.dev(), metadata.ino())),
            allocated: metadata.blocks().saturating_mul(512),
        }
    }

    /// On systems without owners and permission bits, everybody may read, as on their file systems.
    #[cfg(not(unix))]
    pub(super) fn of(metadata: &Metadata) -> Self {
        use std::time::UNIX_EPOCH;

        let file_type = match metadata.file_type() {
            kind if kind.is_file() => FileType::Regular,
            kind if kind.is_dir() => FileType::Directory,
            kind if kind.is_symlink() => FileType::SymbolicLink,
            _ => FileType::Special(SpecialFile::Unknown),
        };
        let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let modified = Timestamp { seconds, nanoseconds: since.subsec_nanos() };
        let mode = if metadata.is_dir() { 0o755 } else { 0o644 };
        let size = metadata.len();
        Self { file_type, size, mode, user: 0, group: 0, modified, changed: modified, shared: None, allocated: size }
    }

    /// May the file have holes?
    pub(super) fn may_have_holes(&self) -> bool {
        self.allocated < self.size
    }
}
