//! Read errors: those by which a disk admits that it cannot read what it should hold.

use std::io;

#[cfg(target_os = "linux")]
use rustix::io::Errno;

/// Whether the error means that the disk cannot read the bytes now: EIO for an unreadable sector or a loose cable,
/// EUCLEAN and EBADMSG for a failed checksum of the file system, the others from block devices that can distinguish
/// more. The bytes can still be there: only a later read can tell.
///
/// Other errors (no descriptor, no memory, no permission) mean nothing about the disk.
#[cfg(target_os = "linux")]
pub(crate) fn is_damage(error: &io::Error) -> bool {
    let damage = [Errno::IO, Errno::UCLEAN, Errno::BADMSG, Errno::NODATA, Errno::ILSEQ, Errno::REMOTEIO];
    error.raw_os_error().is_some_and(|number| damage.iter().any(|errno| errno.raw_os_error() == number))
}

/// Elsewhere no store has a disk.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_damage(_: &io::Error) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
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
