//! File-system operations of the store: durable replacement of small files, reads that write nothing, and the errors by
//! which a disk admits damage.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::io::Errno;

/// Makes every earlier creation, renaming and removal in a folder durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
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

/// The length of a regular file, or `None` if there is none. A file so damaged that the file system cannot even report
/// its length also counts as none: it can be neither read nor moved nor replaced.
pub(super) fn file_len(path: &Path) -> io::Result<Option<u64>> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() => Ok(Some(meta.len())),
        Ok(_) => Ok(None),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) if is_damage(&e) => {
            log::warn!("{} is lost, check its disk: {e}", path.display());
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// Whether the error means that the disk no longer has the bytes: EIO for an unreadable sector, EUCLEAN and EBADMSG for
/// a failed checksum of the file system, the others from block devices that can distinguish more.
///
/// Other errors (no descriptor, no memory, no permission) mean nothing about the bytes.
pub(super) fn is_damage(error: &io::Error) -> bool {
    let damage = [Errno::IO, Errno::UCLEAN, Errno::BADMSG, Errno::NODATA, Errno::ILSEQ, Errno::REMOTEIO];
    error.raw_os_error().is_some_and(|number| damage.iter().any(|errno| errno.raw_os_error() == number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_about_stored_bytes_are_damage() {
        for (errno, damage) in [
            (Errno::IO, true),
            (Errno::UCLEAN, true),
            (Errno::BADMSG, true),
            (Errno::MFILE, false),
            (Errno::NFILE, false),
            (Errno::NOMEM, false),
            (Errno::ACCESS, false),
        ] {
            assert_eq!(is_damage(&io::Error::from_raw_os_error(errno.raw_os_error())), damage, "{errno}");
        }
        assert!(!is_damage(&io::Error::other("something else")));
    }
}
