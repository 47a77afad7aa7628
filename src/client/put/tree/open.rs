//! Opening a file that may have been replaced since it was found.

use std::fs::File;
use std::io;
use std::path::Path;

/// Opens a regular file for reading. It follows no symbolic link, does not wait for a writer if a FIFO has taken the
/// place of the file, and leaves the access time as it is where the system allows it.
#[cfg(unix)]
pub(super) fn open(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;

    let open =
        |flags| rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | flags, Mode::empty());
    let opened = match open(OFlags::NONBLOCK | no_access_time()) {
        // Only the owner of a file may read it without a trace.
        Err(Errno::PERM) => open(OFlags::NONBLOCK),
        // Another process has a lease on the file, and it takes a while until the system has ended that.
        Err(Errno::AGAIN) => open(OFlags::empty()),
        opened => opened,
    };
    let file = File::from(opened?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}

#[cfg(target_os = "linux")]
fn no_access_time() -> rustix::fs::OFlags {
    rustix::fs::OFlags::NOATIME
}

#[cfg(all(unix, not(target_os = "linux")))]
fn no_access_time() -> rustix::fs::OFlags {
    rustix::fs::OFlags::empty()
}

#[cfg(not(unix))]
pub(super) fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// May this process read the file? It need not be able to open it later.
#[cfg(unix)]
pub(super) fn check_readable(path: &Path) -> io::Result<()> {
    use rustix::fs::{Access, AtFlags, CWD};

    Ok(rustix::fs::accessat(CWD, path, Access::READ_OK, AtFlags::EACCESS)?)
}

#[cfg(not(unix))]
pub(super) fn check_readable(path: &Path) -> io::Result<()> {
    File::open(path).map(drop)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_fifo_or_link_in_place_of_a_file_is_an_error_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, link, file) = (dir.path().join("fifo"), dir.path().join("link"), dir.path().join("file"));
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        std::fs::write(&file, b"x").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(open(&fifo).is_err() && open(&link).is_err() && open(dir.path()).is_err() && open(&file).is_ok());
    }
}
