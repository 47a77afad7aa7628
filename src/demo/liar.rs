//! The lying cell: it speaks the protocol, sends beacons under the id of a dead cell, and claims more free space than any
//! other. It accepts chunks and claims to have them, but returns damaged bytes.
//!
//! It is an impostor of a few threads inside the demo, on the loopback interface only. The cells get no hint of it.

// A shell: it uses sockets, threads and the clock.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::id::{CellId, ChunkId, MAX_CHUNK_BYTES};
use crate::net::udp::{self, LOOPBACK_BROADCAST};
use crate::sync::lock;
use crate::wire::beacon::{Beacon, Boot, Role, Status, WIRE_VERSION};
use crate::wire::datagram::{Datagram, MAX_DATAGRAM_BYTES};
use crate::wire::id_lists::{parse_ids, write_ids};
use crate::wire::peers::Peers;
use crate::wire::routes::Route;

/// The free space that it claims: cells chosen by free space include it.
pub(super) const CLAIMED_FREE_BYTES: u64 = 1 << 50;
/// The most chunks that it accepts, since it keeps them in memory.
const MAX_ACCEPTED: usize = 64;
const MAX_CONNECTIONS: usize = 128;
const MAX_HEAD_BYTES: u64 = 8 << 10;
const BEACON_INTERVAL: Duration = Duration::from_secs(1);
/// The interval at which the beacon thread checks whether to end.
const POLL: Duration = Duration::from_millis(100);
/// An idle connection is closed after this time.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

pub(super) struct Liar {
    pub(super) id: CellId,
    shared: Arc<Shared>,
    address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

/// State shared by its threads.
struct Shared {
    beacon: Beacon,
    accepted: Mutex<BTreeMap<ChunkId, Vec<u8>>>,
    connections: AtomicUsize,
    ended: AtomicBool,
}

impl Liar {
    /// Starts a liar with this id. It runs until it is dropped.
    pub(super) fn start(id: CellId, udp_port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let receiver = udp::listener(udp_port)?;
        receiver.set_read_timeout(Some(POLL))?;
        let sender = udp::sender(Ipv4Addr::LOCALHOST)?;
        let beacon = Beacon {
            node_id: id,
            port: address.port(),
            status: Status::Active,
            v: Some(WIRE_VERSION),
            boot: Some(Boot(fastrand::u64(..))),
            role: Role::Storage,
            chunks: Some(0),
            free: Some(CLAIMED_FREE_BYTES),
            cells: None,
            clean_s: None,
        };
        let shared = Arc::new(Shared {
            beacon,
            accepted: Mutex::default(),
            connections: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let threads = vec![
            thread::spawn({
                let shared = Arc::clone(&shared);
                move || shared.send_beacons(&receiver, &sender, udp_port)
            }),
            thread::spawn({
                let shared = Arc::clone(&shared);
                move || shared.listen(&listener)
            }),
        ];
        Ok(Self { id, shared, address, threads })
    }

    /// The number of chunks that it has accepted.
    pub(super) fn accepted(&self) -> usize {
        self.shared.accepted().len()
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        drop(TcpStream::connect_timeout(&self.address, IDLE_TIMEOUT));
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn accepted(&self) -> MutexGuard<'_, BTreeMap<ChunkId, Vec<u8>>> {
        lock(&self.accepted)
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// The present beacon as a datagram.
    fn datagram(&self) -> Vec<u8> {
        Datagram::Beacon(Beacon { chunks: Some(self.accepted().len() as u64), ..self.beacon.clone() }).encode()
    }

    /// Sends beacons and replies to probes, as a cell does.
    fn send_beacons(&self, receiver: &UdpSocket, sender: &UdpSocket, udp_port: u16) {
        let mut next = Instant::now();
        let mut buffer = [0; MAX_DATAGRAM_BYTES];
        while !self.has_ended() {
            if Instant::now() >= next {
                next += BEACON_INTERVAL;
                // A beacon that cannot be sent is lost, like any datagram.
                drop(sender.send_to(&self.datagram(), (LOOPBACK_BROADCAST, udp_port)));
            }
            let Ok((len, from)) = receiver.recv_from(&mut buffer) else { continue };
            if matches!(buffer.get(..len).map(Datagram::parse), Some(Ok(Datagram::Probe))) {
                drop(sender.send_to(&self.datagram(), from));
            }
        }
    }

    fn listen(self: Arc<Self>, listener: &TcpListener) {
        for connection in listener.incoming() {
            if self.has_ended() {
                return;
            }
            let Ok(connection) = connection else { continue };
            if self.connections.fetch_add(1, Ordering::SeqCst) < MAX_CONNECTIONS {
                let shared = Arc::clone(&self);
                thread::spawn(move || {
                    // Errors of a connection concern only its client.
                    drop(shared.serve(&connection));
                    shared.connections.fetch_sub(1, Ordering::SeqCst);
                });
            } else {
                self.connections.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    /// Serves the requests of one connection.
    fn serve(&self, connection: &TcpStream) -> io::Result<()> {
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(IDLE_TIMEOUT))?;
        connection.set_write_timeout(Some(IDLE_TIMEOUT))?;
        let mut reader = BufReader::new(connection);
        while let Some(request) = Request::read(&mut reader)? {
            if self.has_ended() {
                break;
            }
            let (status, body) = self.respond(&request);
            let mut response = format!("HTTP/1.1 {status} -\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
            if request.method != "HEAD" {
                response.extend(body);
            }
            let mut connection = connection;
            connection.write_all(&response)?;
        }
        Ok(())
    }

    fn respond(&self, request: &Request) -> (u16, Vec<u8>) {
        let route = match Route::parse(&request.method, &request.target) {
            Ok(route) => route,
            Err(error) => return (error.status(), Vec::new()),
        };
        match route {
            Route::PutChunk(id) => self.put(id, &request.body),
            Route::GetChunk(id) | Route::HeadChunk(id) => match self.accepted().get(&id) {
                Some(bytes) => (200, damaged(bytes)),
                None => (404, Vec::new()),
            },
            // It claims to have all accepted chunks, and to have verified them.
            Route::Have | Route::Verify => match parse_ids(&request.body) {
                Ok(ids) => {
                    let accepted = self.accepted();
                    (200, write_ids(ids.iter().filter(|id| accepted.contains_key(id))).into_bytes())
                }
                Err(_) => (400, Vec::new()),
            },
            Route::List { after, limit } => (200, self.list(after, limit).into_bytes()),
            Route::Status | Route::Health => (200, serde_json::to_vec(&self.beacon).unwrap_or_default()),
            Route::Peers => (200, serde_json::to_vec(&Peers::default()).unwrap_or_default()),
            // It ignores what others report.
            Route::Alert | Route::Holders => (200, Vec::new()),
            Route::PostChunk | Route::Shared(_) | Route::Join | Route::Drain | Route::Undrain | Route::Scrub => {
                (404, Vec::new())
            }
        }
    }

    fn put(&self, id: ChunkId, bytes: &[u8]) -> (u16, Vec<u8>) {
        let mut accepted = self.accepted();
        let status = if accepted.contains_key(&id) {
            200
        } else if ChunkId::of(bytes) != id {
            422
        } else if accepted.len() >= MAX_ACCEPTED {
            507
        } else {
            accepted.insert(id, bytes.to_vec());
            200
        };
        (status, Vec::new())
    }

    /// A page of the ids that it accepted, as `GET /chunks` returns them.
    fn list(&self, after: Option<ChunkId>, limit: usize) -> String {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let accepted = self.accepted();
        write_ids(accepted.range((after, Bound::Unbounded)).take(limit).map(|(id, _)| id))
    }
}

/// The bytes with one bit changed.
fn damaged(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    bytes
}

struct Request {
    method: String,
    target: String,
    body: Vec<u8>,
}

impl Request {
    /// Reads a request; `None` at the end of the connection. Anything that a cell would not send is an error.
    fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let invalid = || io::Error::from(ErrorKind::InvalidData);
        let mut head = Vec::new();
        let mut limited = reader.take(MAX_HEAD_BYTES);
        while !head.ends_with(b"\r\n\r\n") {
            if limited.read_until(b'\n', &mut head)? == 0 {
                return if head.is_empty() { Ok(None) } else { Err(invalid()) };
            }
        }
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Request::new(&mut fields);
        parsed.parse(&head).map_err(|_| invalid())?;
        let (Some(method), Some(target)) = (parsed.method, parsed.path) else { return Err(invalid()) };
        let field = parsed.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
        let len = match field {
            Some(field) => std::str::from_utf8(field.value).ok().and_then(|len| len.parse().ok()),
            None => Some(0),
        };
        let len = len.filter(|&len: &usize| len <= MAX_CHUNK_BYTES).ok_or_else(invalid)?;
        let mut body = vec![0; len];
        let (method, target) = (method.to_owned(), target.to_owned());
        reader.read_exact(&mut body)?;
        Ok(Some(Self { method, target, body }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::client::{CallError, Http, PutHints, Timeouts};

    fn liar() -> (Liar, String, Http) {
        let port = udp::listener(0).unwrap().local_addr().unwrap().port();
        let liar = Liar::start(CellId::from_bytes([3; 16]), port).unwrap();
        let url = format!("http://{}", liar.address);
        (liar, url, Http::new(Timeouts::PROBE, 1, 1))
    }

    #[test]
    fn it_claims_a_chunk_and_returns_other_bytes() {
        let (liar, url, http) = liar();
        let bytes = vec![7; 100_000];
        let id = ChunkId::of(&bytes);
        let hints = PutHints { copies: 5, bare: false, holders: Vec::new(), owner: None };
        http.put_chunk(&url, &id, &bytes, &hints).unwrap();
        assert_eq!(liar.accepted(), 1);
        assert!(http.has_chunk(&url, &id).unwrap() && !http.has_chunk(&url, &ChunkId::of(b"")).unwrap());
        let mut claimed = Vec::new();
        http.have(&url, &[ChunkId::of(b""), id], &mut |id| claimed.push(id)).unwrap();
        assert_eq!(claimed, [id]);
        let returned = http.get_chunk(&url, &id, 0, None).unwrap().unwrap();
        assert!(returned.len() == bytes.len() && ChunkId::of(&returned) != id);
        assert_eq!(liar.shared.list(None, 3), format!("{id}\n"));
        assert_eq!(liar.shared.list(Some(id), 3), "");
    }

    #[test]
    fn it_looks_like_a_cell_and_its_memory_is_bounded() {
        let (liar, url, http) = liar();
        let status = http.status(&url).unwrap();
        assert_eq!((status.beacon.node_id, status.beacon.free), (liar.id, Some(CLAIMED_FREE_BYTES)));
        assert!(http.peers(&url).unwrap().cells.is_empty());
        let hints = PutHints { copies: 5, bare: false, holders: Vec::new(), owner: None };
        let put = |n: usize| http.put_chunk(&url, &ChunkId::of(&n.to_le_bytes()), &n.to_le_bytes(), &hints);
        (0..MAX_ACCEPTED).for_each(|n| put(n).unwrap());
        assert!(matches!(put(MAX_ACCEPTED), Err(CallError::Refused { status: 507, .. })));
        assert!(put(0).is_ok(), "a chunk that is present needs no space");
        assert!(http.put_chunk(&url, &ChunkId::of(b"x"), b"y", &hints).is_err());
    }
}
