//! The upstream: a pool of connections from the gateway to `tiny_http`, over a private Unix socket
//! ([`private_socket`](crate::net::backend::private_socket)).
//!
//! A connection serves one exchange at a time and is then reused for any client. So an idle client occupies no upstream
//! connection, no thread and no descriptor of `tiny_http`. A connection is reused only if its exchange ended
//! completely: the request was sent to its end, and the response received to its end with no byte left over.
//!
//! The pool works around two properties of `tiny_http` 0.12:
//!
//! - Its thread pool counts a waiting thread as free until that thread has woken up. Of two connections that arrive
//!   together, the second can be queued behind the first and wait until that one is closed. Therefore every new
//!   connection begins with a handshake, and the next one is opened only after the server has answered it.
//! - A handler cannot close its connection, which it must if the body becomes shorter than declared.
//!   [`Upstream::abort`] does so from the gateway's end.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use smol::Async;
use smol::io::{AsyncReadExt, AsyncWriteExt};

use crate::net::backend::CONNECTION_FIELD;
use crate::net::backend::private_socket::PrivateSocket;
use crate::sync::lock;

/// The method of the handshake. The gateway admits only the methods of the API, so no client can send it.
pub(super) const HANDSHAKE_METHOD: &str = "HANDSHAKE";

/// Largest response to the handshake, in bytes. It has no body.
const MAX_HANDSHAKE_BYTES: usize = 1024;

/// Idle connections that the pool keeps. As many as one client uses for a put, and few enough that their threads cost
/// little.
const MAX_IDLE: usize = 8;

/// The backend's socket, and the pool of connections to it.
#[derive(Debug)]
pub struct Upstream {
    socket: PrivateSocket,
    idle: Mutex<Vec<UpstreamConnection>>,
    open: Arc<OpenConnections>,
    next_id: AtomicU64,
    /// Held during connect and handshake, so that only one connection is new at a time.
    opening: smol::lock::Mutex<()>,
}

/// All open connections by id, idle or in use.
type OpenConnections = Mutex<BTreeMap<u64, Arc<Async<UnixStream>>>>;

/// A connection, taken for one exchange. Dropping it closes it.
#[derive(Debug)]
pub(in crate::net) struct UpstreamConnection {
    pub(in crate::net) id: u64,
    pub(in crate::net) stream: Arc<Async<UnixStream>>,
    open: Arc<OpenConnections>,
}

impl Drop for UpstreamConnection {
    fn drop(&mut self) {
        lock(&self.open).remove(&self.id);
        // Other handles of the stream may exist for a moment, and tiny_http's thread can be blocked on the other end.
        self.stream.get_ref().shutdown(Shutdown::Both).ok();
    }
}

impl Upstream {
    /// Creates an empty pool.
    pub(super) fn new(socket: PrivateSocket) -> Self {
        Self {
            socket,
            idle: Mutex::default(),
            open: Arc::default(),
            next_id: AtomicU64::new(0),
            opening: smol::lock::Mutex::new(()),
        }
    }

    /// Returns an idle connection, or opens one.
    pub(in crate::net) async fn acquire(&self) -> io::Result<UpstreamConnection> {
        loop {
            let idle = lock(&self.idle).pop();
            match idle {
                Some(connection) if is_quiet(&connection) => return Ok(connection),
                // Closed by the server, or with bytes that belong to no exchange: drop it.
                Some(_) => {}
                None => return self.open().await,
            }
        }
    }

    /// Takes back a connection whose exchange ended completely.
    pub(in crate::net) fn release(&self, connection: UpstreamConnection) {
        let mut idle = lock(&self.idle);
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        } else {
            drop(idle);
            drop(connection);
        }
    }

    /// Closes a connection during its exchange. The gateway, which waits for the response, sees the end of the stream.
    pub(super) fn abort(&self, id: u64) {
        if let Some(stream) = lock(&self.open).remove(&id) {
            stream.get_ref().shutdown(Shutdown::Both).ok();
        }
    }

    /// Closes the idle connections, so that `tiny_http`'s threads end.
    pub(in crate::net) fn close_idle(&self) {
        let idle = std::mem::take(&mut *lock(&self.idle));
        drop(idle);
    }

    async fn open(&self) -> io::Result<UpstreamConnection> {
        let _one_at_a_time = self.opening.lock().await;
        let stream = Arc::new(Async::<UnixStream>::connect(&self.socket.path).await?);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        lock(&self.open).insert(id, Arc::clone(&stream));
        let connection = UpstreamConnection { id, stream, open: Arc::clone(&self.open) };
        handshake(&connection).await?;
        Ok(connection)
    }
}

/// Whether an idle connection is open and has nothing to read.
fn is_quiet(connection: &UpstreamConnection) -> bool {
    let mut byte = [0];
    matches!(connection.stream.get_ref().read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Waits until a thread of `tiny_http` serves the connection.
async fn handshake(connection: &UpstreamConnection) -> io::Result<()> {
    let mut stream: &Async<UnixStream> = &connection.stream;
    let request = format!("{HANDSHAKE_METHOD} / HTTP/1.1\r\n{CONNECTION_FIELD}: {}\r\n\r\n", connection.id);
    stream.write_all(request.as_bytes()).await?;
    let mut response = Vec::new();
    let mut bytes = [0; 256];
    while !response.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut bytes).await?;
        response.extend_from_slice(bytes.get(..read).unwrap_or_default());
        if read == 0 || response.len() > MAX_HANDSHAKE_BYTES {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server did not complete the handshake"));
        }
    }
    Ok(())
}
