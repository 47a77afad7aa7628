//! The private socket: the Unix socket of the backend, which only this process can reach.
//!
//! A socket needs a file to bind to, but no longer than until it has a descriptor: `/proc/self/fd` leads to the socket
//! then, and the file and its folder are removed at once. So no process that is killed leaves a socket behind, no
//! cleaner of temporary files and no logout takes the socket away, and its path is never too long.
//!
//! ```text
//! BASE/cellsync-XXXXXX/       0700, a new folder with an unpredictable name
//! └── socket ◀── bind         ──▶ descriptor n ──▶ folder removed ──▶ connect to /proc/self/fd/n
//! ```
//!
//! Without `/proc` the folder stays until the socket is dropped.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use tempfile::TempDir;

/// Name of the socket inside its folder.
const NAME: &str = "socket";

/// Longest path that fits into `sockaddr_un` with its final zero, in bytes (unix(7)).
const MAX_PATH_BYTES: usize = 107;

/// How to connect to a bound socket.
#[derive(Debug)]
pub(super) struct PrivateSocket {
    /// The path to connect to.
    pub(super) path: PathBuf,
    /// `path` leads through this descriptor.
    _socket: OwnedFd,
    /// The folder, if `path` leads through it.
    _folder: Option<TempDir>,
}

/// Binds a socket in a folder of its own below the first of these folders where that is possible.
pub(super) fn bind(bases: &[PathBuf]) -> io::Result<(UnixListener, PrivateSocket)> {
    let mut failure = io::Error::new(ErrorKind::NotFound, "there is no folder for a private socket");
    for base in bases {
        match bind_below(base) {
            Ok(bound) => return Ok(bound),
            Err(error) => {
                log::debug!("no private socket in {}: {error}", base.display());
                failure = io::Error::new(error.kind(), format!("no private socket in {}: {error}", base.display()));
            }
        }
    }
    Err(failure)
}

fn bind_below(base: &Path) -> io::Result<(UnixListener, PrivateSocket)> {
    // In another user's folder that user could exchange the socket for one of his own.
    let owner = fs::metadata(base)?.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(ErrorKind::PermissionDenied, "the folder belongs to another user"));
    }
    let folder =
        tempfile::Builder::new().prefix("cellsync-").permissions(Permissions::from_mode(0o700)).tempdir_in(base)?;
    let mut path = folder.path().join(NAME);
    let opened = rustix::fs::open(folder.path(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    if path.as_os_str().len() > MAX_PATH_BYTES {
        path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", opened.as_raw_fd()));
    }
    let listener = UnixListener::bind(&path)?;
    let socket = rustix::fs::open(&path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", socket.as_raw_fd()));
    if leads_to(&by_descriptor, &listener)? {
        return Ok((listener, PrivateSocket { path: by_descriptor, _socket: socket, _folder: None }));
    }
    Ok((listener, PrivateSocket { path, _socket: socket, _folder: Some(folder) }))
}

/// Whether a connection to this path arrives at the listener.
fn leads_to(path: &Path, listener: &UnixListener) -> io::Result<bool> {
    listener.set_nonblocking(true)?;
    let arrives = UnixStream::connect(path).is_ok() && listener.accept().is_ok();
    listener.set_nonblocking(false)?;
    Ok(arrives)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reaches(socket: &PrivateSocket, listener: &UnixListener) -> bool {
        leads_to(&socket.path, listener).unwrap()
    }

    #[test]
    fn a_bound_socket_leaves_no_file_behind() {
        let base = tempfile::tempdir().unwrap();
        let bases = [base.path().to_owned()];
        let (listener, socket) = bind(&bases).unwrap();
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
        let (other_listener, other) = bind(&bases).unwrap();
        assert!(reaches(&socket, &listener) && reaches(&other, &other_listener));
        // What a logout does to the folder of a user's sockets.
        drop(base);
        assert!(reaches(&socket, &listener) && reaches(&other, &other_listener));
        assert!(!reaches(&socket, &other_listener));
    }

    /// Method: a folder that does not exist, and one of another user. A path can be too long for a socket's address.
    #[test]
    fn an_unusable_folder_is_passed_over() {
        let base = tempfile::tempdir().unwrap();
        let (missing, good) = (base.path().join("missing"), base.path().join("long".repeat(60)));
        fs::create_dir(&good).unwrap();
        let mut bases = vec![missing];
        if rustix::process::geteuid().is_root() {
            let foreign = base.path().join("foreign");
            fs::create_dir(&foreign).unwrap();
            std::os::unix::fs::chown(&foreign, Some(4242), None).unwrap();
            bases.push(foreign);
        }
        let error = bind(&bases).unwrap_err().to_string();
        assert!(error.contains(bases.last().unwrap().to_str().unwrap()), "{error}");
        bases.push(good.clone());
        let (listener, socket) = bind(&bases).unwrap();
        assert!(reaches(&socket, &listener));
        assert_eq!(fs::read_dir(&good).unwrap().count(), 0);
    }
}
