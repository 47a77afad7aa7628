//! `tiny_http` behind the door: it listens on a private Unix socket, and workers hand its requests to a [`Handler`].
//!
//! A handler may block for as long as it likes, on a disk or on a slow upload: a request never waits for the others,
//! since another worker takes it, a new one if all are busy. Answers are only made through [`Exchange`], which keeps
//! what `tiny_http` does not: the declared length is exactly what is sent, or the connection ends.

use std::cell::Cell;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use crate::net::backend::upstream::{GREETING, Upstream};
use crate::net::gateway::head::{CLIENT_FIELD, LINE_FIELD};
use crate::sync::lock;
use crate::wire::problem::{MEDIA_TYPE, Problem};

/// Bytes of stack for a worker. Handlers keep their buffers on the heap.
const STACK_BYTES: usize = 256 * 1024;

/// Workers that stay when they have nothing to do. Others end when they are done, so that a crowd leaves nothing
/// behind.
const SPARE: usize = 4;

/// What answers the requests.
pub trait Handler: Send + Sync {
    /// Answers one request. Called from many threads at once; may block. An exchange that is dropped without an
    /// answer is answered with 500 and no explanation.
    fn handle(&self, exchange: Exchange);
}

/// One request, and the means to answer it.
pub struct Exchange {
    request: tiny_http::Request,
    upstream: Arc<Upstream>,
}

impl Exchange {
    /// The method in capitals, one of those that the door lets in.
    pub fn method(&self) -> &str {
        self.request.method().as_str()
    }

    /// The target as the client wrote it, with its query; begins with `/`. Nothing in it is decoded or tidied.
    pub fn target(&self) -> &str {
        self.request.url()
    }

    /// The value of a header field, of the first one if there are several. Names know no case.
    pub fn field(&self, name: &'static str) -> Option<&str> {
        self.request.headers().iter().find(|header| header.field.equiv(name)).map(|header| header.value.as_str())
    }

    /// Who asks.
    pub fn client(&self) -> IpAddr {
        // Only a test that calls past the door lacks it.
        self.field(CLIENT_FIELD).and_then(|text| text.parse().ok()).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// Declared length of the body, in bytes.
    pub fn body_bytes(&self) -> u64 {
        self.request.body_length().map_or(0, |length| length as u64)
    }

    /// The body. It ends early, without an error, when the client goes away: count what came. It need not be read
    /// before answering; what is left of it is thrown away.
    pub fn body(&mut self) -> &mut dyn Read {
        self.request.as_reader()
    }

    /// Answers with these bytes.
    pub fn respond(self, status: u16, fields: &[(&str, &str)], body: &[u8]) {
        self.respond_from(status, fields, body.len() as u64, body);
    }

    /// Answers with JSON.
    pub fn respond_json(self, status: u16, value: &serde_json::Value) {
        self.respond(status, &[("Content-Type", "application/json")], value.to_string().as_bytes());
    }

    /// Answers that it cannot be done, and why.
    pub fn respond_problem(self, problem: &Problem) {
        self.respond(problem.status, &[("Content-Type", MEDIA_TYPE)], &problem.to_json());
    }

    /// Answers with `body_bytes` bytes from a reader; more are not sent. If there are fewer, or reading fails, the
    /// client's connection ends before the declared length, which is how HTTP says that an answer is not whole. For
    /// `HEAD` nothing is read.
    pub fn respond_from(self, status: u16, fields: &[(&str, &str)], body_bytes: u64, body: impl Read) {
        let line = self.field(LINE_FIELD).and_then(|text| text.parse().ok());
        let sends_body = self.request.method() != &tiny_http::Method::Head && !matches!(status, 204 | 304);
        let left = Cell::new(body_bytes);
        let headers = fields.iter().filter_map(|(name, value)| header(name, value)).collect();
        // A length over the machine's own cannot be sent at all; it ends as a body that is too short.
        let length = usize::try_from(body_bytes).unwrap_or(usize::MAX);
        let exact = Exact { body, left: &left };
        let response = tiny_http::Response::new(tiny_http::StatusCode(status), headers, exact, Some(length), None)
            .with_chunked_threshold(usize::MAX);
        let upstream = Arc::clone(&self.upstream);
        let result = self.request.respond(response);
        // A client that went away is no error to tiny_http; the count tells.
        if let (true, Some(line)) = (sends_body && left.get() > 0, line) {
            if let Err(error) = result {
                log::warn!("an answer ended {} bytes early: {error}", left.get());
            }
            upstream.cut(line);
        }
    }
}

/// A header field, unless it would break the head apart.
fn header(name: &str, value: &str) -> Option<tiny_http::Header> {
    if value.bytes().any(|byte| byte.is_ascii_control()) {
        log::error!("the header field {name} has a control character and is left out");
        return None;
    }
    tiny_http::Header::from_bytes(name, value).ok()
}

/// Exactly as many bytes as were declared, or an error.
struct Exact<'a, R> {
    body: R,
    left: &'a Cell<u64>,
}

impl<R: Read> Read for Exact<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left.get()).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        let read = self.body.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            // tiny_http would take a reset connection to a peer, whose answer this is, for the client's own, and go on.
            _ => io::Error::other(error),
        })?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the body is shorter than declared"));
        }
        self.left.set(self.left.get().saturating_sub(read as u64));
        Ok(read)
    }
}

/// The running server. Dropping it stops it without waiting.
pub struct Backend {
    shared: Arc<Shared>,
}

struct Shared {
    http: tiny_http::Server,
    upstream: Arc<Upstream>,
    handler: Arc<dyn Handler>,
    max_workers: usize,
    crew: Mutex<Crew>,
    /// Told whenever a worker leaves.
    left: Condvar,
    stopping: AtomicBool,
}

/// The workers, counted.
struct Crew {
    threads: usize,
    /// Those that wait for a request.
    listening: usize,
}

impl Backend {
    /// Listens on a socket in `dir`, which is made private to this user. There are never more workers than
    /// `max_workers`: as many as the door lets in connections, so that no request waits for another.
    pub fn start(dir: &Path, handler: Arc<dyn Handler>, max_workers: usize) -> io::Result<Self> {
        let upstream = Arc::new(Upstream::new(dir)?);
        let http = tiny_http::Server::from_listener(upstream.listen()?, None).map_err(io::Error::other)?;
        let shared = Arc::new(Shared {
            http,
            upstream,
            handler,
            max_workers: max_workers.max(1),
            crew: Mutex::new(Crew { threads: 1, listening: 1 }),
            left: Condvar::new(),
            stopping: AtomicBool::new(false),
        });
        Shared::spawn(&shared)?;
        Ok(Self { shared })
    }

    /// The way in, for the door.
    pub fn upstream(&self) -> Arc<Upstream> {
        Arc::clone(&self.shared.upstream)
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.shared.crew().threads
    }

    /// Stops. Requests that are being handled get `patience` to end; returns whether all did. The door stops first.
    pub fn stop(self, patience: Duration) -> bool {
        self.shared.dismiss();
        let crew = self.shared.crew();
        let waited = self.shared.left.wait_timeout_while(crew, patience, |crew| crew.threads > 0);
        waited.is_ok_and(|(_, timeout)| !timeout.timed_out())
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.dismiss();
    }
}

impl Shared {
    fn crew(&self) -> MutexGuard<'_, Crew> {
        lock(&self.crew)
    }

    fn dismiss(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.upstream.close_idle();
        self.http.unblock();
    }

    /// Starts a worker that is counted already.
    fn spawn(this: &Arc<Self>) -> io::Result<()> {
        let shared = Arc::clone(this);
        let worker = thread::Builder::new().name("worker".to_owned()).stack_size(STACK_BYTES);
        worker.spawn(move || Self::work(&shared)).map(drop)
    }

    fn work(this: &Arc<Self>) {
        loop {
            // Not recv_timeout(): it begins by waiting, whatever is queued already.
            match this.http.recv() {
                Ok(request) => {
                    this.serve(request);
                    if this.may_leave() {
                        return;
                    }
                }
                Err(_) if this.stopping.load(Ordering::SeqCst) => break,
                // tiny_http has stopped accepting and will not start again. The door holds below the descriptors, so
                // this is a fault of ours: a cell that is deaf must end and be started anew.
                Err(error) => panic!("the HTTP server has stopped listening: {error}"),
            }
        }
        let mut crew = this.crew();
        crew.listening -= 1;
        crew.threads -= 1;
        this.left.notify_all();
        // One call wakes one worker: each passes it on.
        this.http.unblock();
    }

    /// Handles a request, and sees to it that somebody listens meanwhile.
    fn serve(self: &Arc<Self>, request: tiny_http::Request) {
        let relief = {
            let mut crew = self.crew();
            crew.listening -= 1;
            let needed = crew.listening == 0 && crew.threads < self.max_workers;
            if needed {
                crew.listening += 1;
                crew.threads += 1;
            }
            needed
        };
        if relief && let Err(error) = Self::spawn(self) {
            log::error!("cannot start a worker: {error}");
            let mut crew = self.crew();
            crew.listening -= 1;
            crew.threads -= 1;
        }
        if request.method().as_str() == GREETING {
            request.respond(tiny_http::Response::empty(204)).ok();
        } else {
            self.handler.handle(Exchange { request, upstream: Arc::clone(&self.upstream) });
        }
        self.crew().listening += 1;
    }

    /// Does this worker leave, as others are listening?
    fn may_leave(&self) -> bool {
        let mut crew = self.crew();
        let leaves = crew.listening > SPARE && !self.stopping.load(Ordering::SeqCst);
        if leaves {
            crew.listening -= 1;
            crew.threads -= 1;
        }
        leaves
    }
}
