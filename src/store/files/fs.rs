//! File-system operations of the store: durable replacement of small files, and reads that write nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

#[cfg(test)]
use crate::store::files::faults::{self, Operation};

/// Makes every earlier creation, renaming and removal in a folder durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    faults::meet(Operation::SyncFolder, path)?;
    File::open(path)?.sync_all()
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(test)]
    faults::meet(Operation::Rename, to)?;
    fs::rename(from, to)
}

pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    faults::meet(Operation::Remove, path)?;
    fs::remove_file(path)
}

/// Replaces `root/name` durably. A power cut leaves the old file or the new one, whole. `temporary` is the name, also
/// below `root`, under which the new file is written.
pub(super) fn replace_file(root: &Path, temporary: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = root.join(temporary);
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, root.join(name))?;
    sync_folder(root)
}

/// Opens a file or folder for reading without an update of its access time, which would be a write to the disk. The
/// kernel permits that only to the file's owner; anyone else reads in the ordinary way.
pub(super) fn open_without_atime(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(rustix::fs::OFlags::NOATIME.bits()).map_err(io::Error::other)?;
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => File::open(path),
        opened => opened,
    }
}

/// The length of a regular file, or `None` if there is none. A file whose metadata the disk cannot read is an error
/// ([`is_damage`](crate::store::damage::is_damage)): it is there, and after a passing fault of the disk it is whole.
pub(super) fn file_len(path: &Path) -> io::Result<Option<u64>> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() => Ok(Some(meta.len())),
        Ok(_) => Ok(None),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
