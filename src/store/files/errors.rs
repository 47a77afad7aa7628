//! Errors of the disk: why a data folder cannot be opened, and how an [`io::Error`] becomes a [`StoreError`].

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::store::contract::StoreError;
use crate::store::damage::is_damage;

/// Why a folder cannot be used as a cell's data folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder has no marker: it belongs to no cell, or the disk that holds it is not mounted.
    #[error("{} is not a cell's folder: mount its disk, or run with --init to make a new cell there", dir.display())]
    NoMarker {
        /// The folder.
        dir: PathBuf,
    },
    /// Another process holds the folder's lock.
    #[error("{} is in use by another process: stop it, or give this cell a folder of its own", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// The marker is damaged.
    #[error("{} is not a cell's marker ({source}): restore the file from a backup", path.display())]
    MarkerDamaged {
        /// The marker.
        path: PathBuf,
        /// Why it cannot be parsed.
        source: serde_json::Error,
    },
    /// The marker has a version that this program does not know.
    #[error("{} has unknown version {version}: use the release of CellSync that wrote it", path.display())]
    MarkerVersion {
        /// The marker.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// A new cell was requested in a folder that holds something else.
    #[error("{} is not empty: choose an empty folder for a new cell", dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder belongs to another user, who could not use the files that this process would create.
    #[error(
        "{} belongs to user {owner_uid}, and this is user {process_uid}: run as the owner, for example with \
         runuser -u cellsync -- cellsync-node ..., or change the owner with chown -R",
        dir.display()
    )]
    Owner {
        /// The folder.
        dir: PathBuf,
        /// The user id of its owner.
        owner_uid: u32,
        /// The user id that files of this process get.
        process_uid: u32,
    },
    /// The disk failed or access was denied.
    #[error("cannot {operation} {}: {source}; check the disk and the folder's permissions", path.display())]
    Disk {
        /// What failed, as a verb that takes the path: `open`, `fsync`.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl OpenError {
    /// Whether the disk fails, or cannot be written to. A full one has not failed.
    pub(super) fn blames_disk(&self) -> bool {
        let Self::Disk { source, .. } = self else { return false };
        is_damage(source) || source.kind() == ErrorKind::ReadOnlyFilesystem
    }

    /// For `map_err`: makes an [`OpenError::Disk`] of a failed `operation` on `path`.
    pub(super) fn disk(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { operation, path: path.to_owned(), source }
    }
}

impl StoreError {
    /// For `map_err`: makes a [`StoreError::Disk`] of a failed `operation` on `path`.
    pub(super) fn disk(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { operation, path: path.to_owned(), source }
    }

    /// Like [`StoreError::disk`] for an operation that needs space, `needed_bytes` in all. A full disk has not failed:
    /// there is no room.
    pub(super) fn disk_or_full(
        operation: &'static str,
        path: &Path,
        needed_bytes: u64,
    ) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::NoRoom { needed_bytes, free_bytes: 0 },
            _ => Self::disk(operation, path)(source),
        }
    }
}
