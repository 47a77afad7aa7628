//! The private lines between the door and `tiny_http`: connections over a Unix socket that nobody else can reach.
//!
//! A line is kept alive and used again by whichever client comes next, so that a client that only holds its
//! connection open costs no line, no thread and no descriptor behind the door. It is used again only after an
//! exchange that ended exactly where it should.
//!
//! Two traps of `tiny_http` 0.12 are met here. Its pool counts a waiting thread as free until that thread has woken up,
//! so the second of two connections that come at once can be queued behind the first, to wait until that one is
//! closed: a new line is therefore greeted, and no other is opened before it has answered. And a handler cannot close
//! its connection, which it must when the bytes it declared do not come: `Upstream::cut` does, from the door's end.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{Async, lock};

use crate::net::gateway::head::LINE_FIELD;
use crate::sync::lock;

/// The method of the greeting on a new line. The door lets in no other methods than the API's, so no client can say it.
pub(in crate::net) const GREETING: &str = "GREET";

/// Name of the socket inside its folder.
const SOCKET: &str = "door.sock";

/// What `sockaddr_un` has room for, with the zero at its end (unix(7)).
const LONGEST_PATH: usize = 107;

/// Idle lines that are kept; more are closed. As many as clients of one put use at a time, and few enough that their
/// threads cost little.
const MOST_IDLE: usize = 8;

/// Where the socket is, and the lines to it.
#[derive(Debug)]
pub struct Upstream {
    path: PathBuf,
    /// Keeps `path` valid when it leads through `/proc/self/fd`.
    _dir: OwnedFd,
    idle: Mutex<Vec<UpstreamConnection>>,
    open: Arc<Registry>,
    next: AtomicU64,
    /// Held while a line is opened and greeted: one at a time.
    opening: lock::Mutex<()>,
}

type Registry = Mutex<BTreeMap<u64, Arc<Async<UnixStream>>>>;

/// One line, held for one exchange. Dropping it closes it.
#[derive(Debug)]
pub(in crate::net) struct UpstreamConnection {
    pub(in crate::net) number: u64,
    pub(in crate::net) stream: Arc<Async<UnixStream>>,
    open: Arc<Registry>,
}

impl Drop for UpstreamConnection {
    fn drop(&mut self) {
        lock(&self.open).remove(&self.number);
        // tiny_http's thread may be blocked on the other end; it must not wait for the last of our handles.
        self.stream.get_ref().shutdown(Shutdown::Both).ok();
    }
}

impl Upstream {
    /// Upstream to the socket in `dir`, which is made if it is missing, and closed to everyone but this user.
    pub fn new(dir: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
        let opened = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let plain = dir.join(SOCKET);
        let path = if plain.as_os_str().len() <= LONGEST_PATH {
            plain
        } else {
            PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", opened.as_raw_fd()))
        };
        Ok(Self {
            path,
            _dir: opened,
            idle: Mutex::default(),
            open: Arc::default(),
            next: AtomicU64::new(0),
            opening: lock::Mutex::new(()),
        })
    }

    /// Binds the socket, in place of one that an earlier process may have left.
    pub(in crate::net) fn listen(&self) -> io::Result<UnixListener> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => UnixListener::bind(&self.path),
        }
    }

    /// An idle line, or a new one.
    pub(in crate::net) async fn take(&self) -> io::Result<UpstreamConnection> {
        loop {
            let kept = lock(&self.idle).pop();
            match kept {
                // A line at rest has nothing to say; one that is at its end, or has, is not to be trusted.
                Some(line) if says_nothing(&line) => return Ok(line),
                Some(_) => {}
                None => return self.open().await,
            }
        }
    }

    /// Keeps a line whose exchange ended as it should.
    pub(in crate::net) fn give_back(&self, line: UpstreamConnection) {
        let mut idle = lock(&self.idle);
        if idle.len() < MOST_IDLE {
            idle.push(line);
        } else {
            drop(idle);
            drop(line);
        }
    }

    /// Closes a line from under its exchange: whoever waits for bytes on it sees its end.
    pub(in crate::net) fn cut(&self, number: u64) {
        if let Some(stream) = lock(&self.open).remove(&number) {
            stream.get_ref().shutdown(Shutdown::Both).ok();
        }
    }

    /// Closes the lines that nobody uses, so that `tiny_http`'s threads end.
    pub(in crate::net) fn close_idle(&self) {
        let idle = std::mem::take(&mut *lock(&self.idle));
        drop(idle);
    }

    async fn open(&self) -> io::Result<UpstreamConnection> {
        let _one_at_a_time = self.opening.lock().await;
        let stream = Arc::new(Async::<UnixStream>::connect(&self.path).await?);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.open).insert(number, Arc::clone(&stream));
        let line = UpstreamConnection { number, stream, open: Arc::clone(&self.open) };
        greet(&line).await?;
        Ok(line)
    }
}

fn says_nothing(line: &UpstreamConnection) -> bool {
    let mut byte = [0];
    matches!(line.stream.get_ref().read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Waits until a thread of `tiny_http`'s serves the line.
async fn greet(line: &UpstreamConnection) -> io::Result<()> {
    let mut stream: &Async<UnixStream> = &line.stream;
    let greeting = format!("{GREETING} / HTTP/1.1\r\n{LINE_FIELD}: {}\r\n\r\n", line.number);
    stream.write_all(greeting.as_bytes()).await?;
    let mut answer = Vec::new();
    let mut bytes = [0; 256];
    while !answer.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut bytes).await?;
        answer.extend_from_slice(bytes.get(..read).unwrap_or_default());
        if read == 0 || answer.len() > 1024 {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "no greeting from the server"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_any_length_will_do_and_a_stale_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["short".to_owned(), "long".repeat(60)] {
            let dir = folder.path().join(name);
            let first = Upstream::new(&dir).unwrap();
            drop(first.listen().unwrap());
            assert!(dir.join(SOCKET).exists());
            let _listener = first.listen().unwrap();
            UnixStream::connect(&first.path).unwrap();
            assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }
}
