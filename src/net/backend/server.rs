//! The backend server: `tiny_http` on a Unix socket, and the threads that pass its requests to the [`Handler`].
//!
//! A handler may block for any time, on a disk or on a slow upload. No request waits for another: one worker always
//! listens, and a worker that takes a request starts the next listener if there is none.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use crate::net::backend::exchange::{Exchange, Handler};
use crate::net::backend::private_socket;
use crate::net::backend::upstream::{HANDSHAKE_METHOD, Upstream};
use crate::sync::lock;

/// Stack size of a worker, in bytes. Handlers keep their buffers on the heap.
const STACK_BYTES: usize = 256 * 1024;

/// Workers that stay when there is nothing to do. Others end after their request, so that a burst leaves no threads
/// behind.
const MAX_IDLE_WORKERS: usize = 4;

/// The running backend. Dropping it stops it without waiting.
pub struct Backend {
    shared: Arc<Shared>,
}

struct Shared {
    http: tiny_http::Server,
    upstream: Arc<Upstream>,
    handler: Arc<dyn Handler>,
    max_workers: usize,
    workers: Mutex<WorkerCounts>,
    worker_ended: Condvar,
    stopping: AtomicBool,
}

struct WorkerCounts {
    /// All workers.
    total: usize,
    /// Those that wait for a request.
    listening: usize,
}

impl Backend {
    /// Listens on a private socket, made below the first of these folders where that is possible; it leaves nothing
    /// there. `max_workers` must be at least the gateway's number of connections, or requests can wait for one another.
    pub fn start(folders: &[PathBuf], handler: Arc<dyn Handler>, max_workers: usize) -> io::Result<Self> {
        let (listener, socket) = private_socket::bind(folders)?;
        let upstream = Arc::new(Upstream::new(socket));
        let http = tiny_http::Server::from_listener(listener, None).map_err(io::Error::other)?;
        let shared = Arc::new(Shared {
            http,
            upstream,
            handler,
            max_workers: max_workers.max(1),
            workers: Mutex::new(WorkerCounts { total: 1, listening: 1 }),
            worker_ended: Condvar::new(),
            stopping: AtomicBool::new(false),
        });
        Shared::spawn_worker(&shared)?;
        Ok(Self { shared })
    }

    /// The connections to this backend, for the gateway.
    pub fn upstream(&self) -> Arc<Upstream> {
        Arc::clone(&self.shared.upstream)
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.shared.workers().total
    }

    /// Stops the backend. Stop the gateway first. Waits up to `timeout` for requests to end; returns whether all did.
    pub fn stop(self, timeout: Duration) -> bool {
        self.shared.begin_stop();
        let workers = self.shared.workers();
        let waited = self.shared.worker_ended.wait_timeout_while(workers, timeout, |workers| workers.total > 0);
        waited.is_ok_and(|(_, timeout)| !timeout.timed_out())
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.begin_stop();
    }
}

impl Shared {
    fn workers(&self) -> MutexGuard<'_, WorkerCounts> {
        lock(&self.workers)
    }

    fn begin_stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.upstream.close_idle();
        self.http.unblock();
    }

    /// Starts a worker. The caller has counted it already.
    fn spawn_worker(this: &Arc<Self>) -> io::Result<()> {
        let shared = Arc::clone(this);
        let worker = thread::Builder::new().name("worker".to_owned()).stack_size(STACK_BYTES);
        worker.spawn(move || Self::run_worker(&shared)).map(drop)
    }

    fn run_worker(this: &Arc<Self>) {
        loop {
            // Not recv_timeout(): it waits first, even if a request is queued.
            match this.http.recv() {
                Ok(request) => {
                    this.serve(request);
                    if this.ends_as_surplus() {
                        return;
                    }
                }
                Err(_) if this.stopping.load(Ordering::SeqCst) => break,
                // tiny_http does not listen again after an error of accept(). The gateway stays below the limit of
                // descriptors, so this is a bug, and a cell that cannot receive requests must restart.
                Err(error) => panic!("the HTTP server has stopped listening: {error}"),
            }
        }
        let mut workers = this.workers();
        workers.listening -= 1;
        workers.total -= 1;
        this.worker_ended.notify_all();
        // One call wakes one worker, so each wakes the next.
        this.http.unblock();
    }

    /// Passes a request to the handler, after ensuring that another worker listens.
    fn serve(self: &Arc<Self>, request: tiny_http::Request) {
        let needs_listener = {
            let mut workers = self.workers();
            workers.listening -= 1;
            let needed = workers.listening == 0 && workers.total < self.max_workers;
            if needed {
                workers.listening += 1;
                workers.total += 1;
            }
            needed
        };
        if needs_listener && let Err(error) = Self::spawn_worker(self) {
            log::error!("cannot start a worker thread: {error}; requests may wait for one another");
            let mut workers = self.workers();
            workers.listening -= 1;
            workers.total -= 1;
        }
        if request.method().as_str() == HANDSHAKE_METHOD {
            request.respond(tiny_http::Response::empty(204)).ok();
        } else {
            self.handler.handle(Exchange::new(request, Arc::clone(&self.upstream)));
        }
        self.workers().listening += 1;
    }

    /// Whether this worker is to end because enough others listen. If so, it is no longer counted.
    fn ends_as_surplus(&self) -> bool {
        let mut workers = self.workers();
        let ends = workers.listening > MAX_IDLE_WORKERS && !self.stopping.load(Ordering::SeqCst);
        if ends {
            workers.listening -= 1;
            workers.total -= 1;
        }
        ends
    }
}
