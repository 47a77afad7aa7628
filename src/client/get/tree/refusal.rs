//! Which errors of the system say that the target does not support something. All others end the restore.

use std::io;

use rustix::io::Errno;

/// Does the error mean that the target does not support what was asked for? All others, such as a full disk, end the
/// restore.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::PERM
                | Errno::ACCESS
                | Errno::NOTSUP
                | Errno::NOSYS
                | Errno::INVAL
                | Errno::ILSEQ
                | Errno::NAMETOOLONG
                | Errno::EXIST
                | Errno::NOENT
                | Errno::NOTDIR
                | Errno::ISDIR
                | Errno::LOOP
                | Errno::MLINK
                | Errno::XDEV
                | Errno::FBIG
                | Errno::OVERFLOW
        )
    )
}

/// Does the error mean that metadata could not be set? Only errors of the disk end the restore: a file system that
/// has no room for an attribute reports a full disk.
pub(super) fn is_metadata_refusal(error: &io::Error) -> bool {
    !matches!(Errno::from_io_error(error), Some(Errno::IO | Errno::ROFS | Errno::NOMEM) | None)
}
