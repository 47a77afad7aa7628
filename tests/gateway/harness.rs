//! A gateway with a backend and a small handler, and clients that write raw bytes.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use cellsync::id::ChunkId;
use cellsync::net::{Backend, Exchange, Gateway, GatewayLimits, GatewayStats, Handler};
use cellsync::wire::problem::Problem;
use smol::channel::Sender;

/// Upper limit of every wait. Nothing takes this long unless it is broken.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// Limits with timeouts short enough for tests.
pub(crate) fn short_timeouts() -> GatewayLimits {
    GatewayLimits {
        head_timeout_ms: 300,
        min_rate_bytes: 4096,
        min_rate_window_ms: 300,
        idle_timeout_ms: 60_000,
        response_timeout_ms: 5_000,
        ..GatewayLimits::default()
    }
}

/// Blocks requests until it is opened, and counts them.
#[derive(Default)]
pub(crate) struct Latch {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Latch {
    pub(crate) fn waiting(&self) -> usize {
        self.state.lock().unwrap().1
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap().0 = true;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        drop(self.changed.wait_timeout_while(state, TIMEOUT, |(open, _)| !*open).unwrap());
    }
}

struct Echo {
    latch: Arc<Latch>,
}

impl Handler for Echo {
    fn handle(&self, mut exchange: Exchange) {
        let target = exchange.target().to_owned();
        let (path, argument) = target.rsplit_once('/').unwrap_or(("", ""));
        match path {
            "/zeros" => {
                let count = argument.parse().unwrap();
                exchange.respond_from(200, &[("ETag", "\"z\"")], count, io::repeat(0));
            }
            // Declares more than it sends, as if a disk failed in the middle of a file.
            "/short" => exchange.respond_from(200, &[], 100_000, io::repeat(7).take(50_000)),
            "/failing" => exchange.respond_from(200, &[], 100_000, FailingBody),
            "/no-room" => exchange.respond_problem(&Problem::new(507, "no room")),
            "/drop" => drop(exchange),
            "/latch" => {
                self.latch.pass();
                exchange.respond(200, &[], b"through");
            }
            _ => {
                let mut body = Vec::new();
                exchange.body().read_to_end(&mut body).unwrap();
                let value = serde_json::json!({
                    "method": exchange.method(), "target": target, "client": exchange.client().to_string(),
                    "declared": exchange.body_bytes(), "bytes": body.len(), "id": ChunkId::of(&body).to_string(),
                });
                exchange.respond_json(200, &value);
            }
        }
    }
}

/// A body from another cell whose connection is reset.
struct FailingBody;

impl Read for FailingBody {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    }
}

/// A running gateway and its backend. Stops when dropped.
pub(crate) struct TestGateway {
    pub(crate) address: SocketAddr,
    pub(crate) stats: Arc<GatewayStats>,
    pub(crate) latch: Arc<Latch>,
    pub(crate) backend: Option<Backend>,
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl TestGateway {
    pub(crate) fn new(limits: GatewayLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let latch = Arc::new(Latch::default());
        let echo = Echo { latch: Arc::clone(&latch) };
        let backend = Backend::start(&[folder.path().to_owned()], Arc::new(echo), limits.max_connections).unwrap();
        let listener = smol::block_on(async_net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let gateway = Gateway::new(listener, backend.upstream(), limits);
        let (address, stats) = (gateway.local_addr().unwrap(), gateway.stats());
        let (stop, stopped) = smol::channel::bounded(1);
        let thread = std::thread::spawn(move || smol::block_on(gateway.run(stopped, Duration::from_secs(5))));
        Self { address, stats, latch, backend: Some(backend), stop, thread: Some(thread), _folder: folder }
    }

    pub(crate) fn client(&self) -> Client {
        self.client_from(1)
    }

    /// A client from 127.0.0.`last`.
    pub(crate) fn client_from(&self, last: u8) -> Client {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
        socket.bind(&from.into()).unwrap();
        socket.connect(&self.address.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        Client { stream, received: Vec::new() }
    }

    /// Asserts that another client is served, from this address and from another one.
    pub(crate) fn assert_serves(&self) {
        for last in [1, 77] {
            let mut client = self.client_from(last);
            let response = client.request("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
            assert_eq!(response.status, 200);
            assert_eq!(response.json()["id"], ChunkId::of(b"abc").to_string());
            assert_eq!(response.json()["client"], IpAddr::from([127, 0, 0, last]).to_string());
        }
    }

    pub(crate) fn begin_stop(&self) {
        self.stop.try_send(()).ok();
    }

    /// Waits for the end of the gateway's thread.
    pub(crate) fn join(&mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        self.begin_stop();
        self.latch.open();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    pub(crate) fn request(&mut self, bytes: impl AsRef<[u8]>) -> Response {
        self.send(bytes);
        self.read_response()
    }

    fn receive_some(&mut self) -> io::Result<usize> {
        let mut bytes = vec![0; 65536];
        let count = self.stream.read(&mut bytes)?;
        self.received.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    /// Reads the head of a response.
    pub(crate) fn read_head(&mut self) -> String {
        loop {
            if let Some(at) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                let body = self.received.split_off(at + 4);
                return String::from_utf8(std::mem::replace(&mut self.received, body)).unwrap();
            }
            assert_ne!(self.receive_some().unwrap(), 0, "closed inside a head: {:?}", self.received);
        }
    }

    pub(crate) fn read_response(&mut self) -> Response {
        self.receive(true)
    }

    /// Reads the response to a `HEAD` request.
    pub(crate) fn read_bodyless_response(&mut self) -> Response {
        self.receive(false)
    }

    fn receive(&mut self, has_body: bool) -> Response {
        let head = self.read_head();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut response = Response { status, head, body: Vec::new() };
        let length = response.field("content-length").map_or(0, |text| text.parse().unwrap());
        let length = if has_body { length } else { 0 };
        while self.received.len() < length {
            assert_ne!(self.receive_some().unwrap(), 0, "closed inside a body");
        }
        let rest = self.received.split_off(length);
        response.body = std::mem::replace(&mut self.received, rest);
        response
    }

    /// Reads until the gateway closes the connection, in order or by a reset. Returns what arrived.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        loop {
            match self.receive_some() {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("not closed: {error}"),
            }
        }
        std::mem::take(&mut self.received)
    }

    pub(crate) fn assert_closed(&mut self) {
        assert_eq!(String::from_utf8_lossy(&self.read_to_end()), "");
    }

    pub(crate) fn finish_sending(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}

/// Resident memory of this process, in KiB.
pub(crate) fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
