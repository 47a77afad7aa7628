//! A liar: it speaks the colony's words, beacons under the name of a dead cell, and says that it has more room than
//! anybody. What it is given it takes, and says that it has it; what it gives back is not what it was given.
//!
//! It is no cell but an impostor of a few threads within the demo, on the loopback interface only. Nobody in the colony
//! knows of it; the cells have to find out by themselves.

// A shell: it has sockets and threads.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::id::CellId;
use crate::id::{ChunkId, MAX_CHUNK_BYTES};
use crate::net::udp;
use crate::net::udp::LOOPBACK_BROADCAST;
use crate::sync::lock;
use crate::wire::beacon::{Beacon, Boot, Role, Status, WIRE_VERSION};
use crate::wire::datagram::{Datagram, MAX_DATAGRAM_BYTES};
use crate::wire::id_lists::{parse_ids, write_ids};
use crate::wire::peers::Peers;
use crate::wire::routes::Route;

/// It says that it has so much room: whoever chooses by room chooses it.
pub(super) const CLAIMED_ROOM_BYTES: u64 = 1 << 50;
/// It takes no more chunks than these; they are in memory.
const MAX_TAKEN: usize = 64;
const MAX_CONNECTIONS: usize = 128;
const MAX_HEAD_BYTES: u64 = 8 << 10;
const BEACON_EVERY: Duration = Duration::from_secs(1);
/// How long it may take to notice that it is to end.
const LOOK: Duration = Duration::from_millis(100);
/// A connection without a word for so long is closed.
const IDLE: Duration = Duration::from_mins(1);

pub(super) struct Liar {
    pub(super) id: CellId,
    shared: Arc<Shared>,
    door: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

/// What its threads have in common.
struct Shared {
    beacon: Beacon,
    taken: Mutex<BTreeMap<ChunkId, Vec<u8>>>,
    connections: AtomicUsize,
    ended: AtomicBool,
}

impl Liar {
    /// It lies until it is dropped. `id` is the name that it takes.
    pub(super) fn start(id: CellId, udp_port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let door = listener.local_addr()?;
        let ears = udp::listener(udp_port)?;
        ears.set_read_timeout(Some(LOOK))?;
        let mouth = udp::sender(Ipv4Addr::LOCALHOST)?;
        let beacon = Beacon {
            node_id: id,
            port: door.port(),
            status: Status::Active,
            v: Some(WIRE_VERSION),
            boot: Some(Boot(fastrand::u64(..))),
            role: Role::Storage,
            chunks: Some(0),
            free: Some(CLAIMED_ROOM_BYTES),
            cells: None,
            clean_s: None,
        };
        let shared = Arc::new(Shared {
            beacon,
            taken: Mutex::default(),
            connections: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let threads = vec![
            thread::spawn({
                let shared = Arc::clone(&shared);
                move || shared.beacon(&ears, &mouth, udp_port)
            }),
            thread::spawn({
                let shared = Arc::clone(&shared);
                move || shared.listen(&listener)
            }),
        ];
        Ok(Self { id, shared, door, threads })
    }

    /// How many chunks it was given.
    pub(super) fn taken(&self) -> usize {
        self.shared.taken().len()
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Whoever waits for a connection gets one, and sees that it is over.
        drop(TcpStream::connect_timeout(&self.door, IDLE));
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn taken(&self) -> MutexGuard<'_, BTreeMap<ChunkId, Vec<u8>>> {
        lock(&self.taken)
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// A beacon, as a cell's.
    fn words(&self) -> Vec<u8> {
        Datagram::Beacon(Beacon { chunks: Some(self.taken().len() as u64), ..self.beacon.clone() }).encode()
    }

    /// Beacons, and answers to probes, as a cell does.
    fn beacon(&self, ears: &UdpSocket, mouth: &UdpSocket, udp_port: u16) {
        let mut next = Instant::now();
        let mut heard = [0; MAX_DATAGRAM_BYTES];
        while !self.has_ended() {
            if Instant::now() >= next {
                next += BEACON_EVERY;
                // A beacon that is not sent is lost, like any other.
                drop(mouth.send_to(&self.words(), (LOOPBACK_BROADCAST, udp_port)));
            }
            let Ok((len, from)) = ears.recv_from(&mut heard) else { continue };
            if matches!(heard.get(..len).map(Datagram::parse), Some(Ok(Datagram::Probe))) {
                drop(mouth.send_to(&self.words(), from));
            }
        }
    }

    fn listen(self: Arc<Self>, listener: &TcpListener) {
        for line in listener.incoming() {
            if self.has_ended() {
                return;
            }
            let Ok(line) = line else { continue };
            if self.connections.fetch_add(1, Ordering::SeqCst) < MAX_CONNECTIONS {
                let shared = Arc::clone(&self);
                thread::spawn(move || {
                    // Whoever hangs up is no concern of a liar's.
                    drop(shared.serve(&line));
                    shared.connections.fetch_sub(1, Ordering::SeqCst);
                });
            } else {
                self.connections.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    /// Answers one request after the other.
    fn serve(&self, line: &TcpStream) -> io::Result<()> {
        line.set_nodelay(true)?;
        line.set_read_timeout(Some(IDLE))?;
        line.set_write_timeout(Some(IDLE))?;
        let mut reader = BufReader::new(line);
        while let Some(request) = Request::read(&mut reader)? {
            if self.has_ended() {
                break;
            }
            let (status, said) = self.answer(&request);
            let mut words = format!("HTTP/1.1 {status} -\r\nContent-Length: {}\r\n\r\n", said.len()).into_bytes();
            if request.method != "HEAD" {
                words.extend(said);
            }
            let mut line = line;
            line.write_all(&words)?;
        }
        Ok(())
    }

    fn answer(&self, request: &Request) -> (u16, Vec<u8>) {
        let route = match Route::parse(&request.method, &request.target) {
            Ok(route) => route,
            Err(error) => return (error.status(), Vec::new()),
        };
        match route {
            Route::PutChunk(id) => self.put(id, &request.body),
            Route::GetChunk(id) | Route::HeadChunk(id) => match self.taken().get(&id) {
                Some(bytes) => (200, falsified(bytes)),
                None => (404, Vec::new()),
            },
            // It claims all that it was given, and claims to have verified them.
            Route::Have | Route::Verify => match parse_ids(&request.body) {
                Ok(ids) => {
                    let taken = self.taken();
                    (200, write_ids(ids.iter().filter(|id| taken.contains_key(id))).into_bytes())
                }
                Err(_) => (400, Vec::new()),
            },
            Route::List { after, limit } => (200, self.list(after, limit).into_bytes()),
            Route::Status | Route::Health => (200, serde_json::to_vec(&self.beacon).unwrap_or_default()),
            Route::Peers => (200, serde_json::to_vec(&Peers::default()).unwrap_or_default()),
            // It ignores what others report.
            Route::Alert | Route::Holders => (200, Vec::new()),
            Route::PostChunk | Route::Join | Route::Drain | Route::Undrain | Route::Scrub => (404, Vec::new()),
        }
    }

    fn put(&self, id: ChunkId, bytes: &[u8]) -> (u16, Vec<u8>) {
        let mut taken = self.taken();
        let status = if taken.contains_key(&id) {
            200
        } else if ChunkId::of(bytes) != id {
            422
        } else if taken.len() >= MAX_TAKEN {
            507
        } else {
            taken.insert(id, bytes.to_vec());
            200
        };
        (status, Vec::new())
    }

    /// A page of the ids that it was given, as `GET /chunks` returns them.
    fn list(&self, after: Option<ChunkId>, limit: usize) -> String {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let taken = self.taken();
        write_ids(taken.range((after, Bound::Unbounded)).take(limit).map(|(id, _)| id))
    }
}

/// As long as the truth, and almost like it.
fn falsified(bytes: &[u8]) -> Vec<u8> {
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
    /// Reads one; none if there is no more. Whoever sends something else than a cell does is not answered.
    fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let nonsense = || io::Error::from(ErrorKind::InvalidData);
        let mut head = Vec::new();
        let mut limited = reader.take(MAX_HEAD_BYTES);
        while !head.ends_with(b"\r\n\r\n") {
            if limited.read_until(b'\n', &mut head)? == 0 {
                return if head.is_empty() { Ok(None) } else { Err(nonsense()) };
            }
        }
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Request::new(&mut fields);
        parsed.parse(&head).map_err(|_| nonsense())?;
        let (Some(method), Some(target)) = (parsed.method, parsed.path) else { return Err(nonsense()) };
        let field = parsed.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
        let len = match field {
            Some(field) => std::str::from_utf8(field.value).ok().and_then(|len| len.parse().ok()),
            None => Some(0),
        };
        let len = len.filter(|&len: &usize| len <= MAX_CHUNK_BYTES).ok_or_else(nonsense)?;
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
        let url = format!("http://{}", liar.door);
        (liar, url, Http::new(Timeouts::PROBE, 1, 1))
    }

    #[test]
    fn it_takes_a_chunk_says_that_it_is_here_and_gives_back_another() {
        let (liar, url, http) = liar();
        let bytes = vec![7; 100_000];
        let id = ChunkId::of(&bytes);
        let hints = PutHints { copies: 5, holders: Vec::new(), owner: None };
        http.put_chunk(&url, &id, &bytes, &hints).unwrap();
        assert_eq!(liar.taken(), 1);
        assert!(http.has_chunk(&url, &id).unwrap() && !http.has_chunk(&url, &ChunkId::of(b"")).unwrap());
        let mut claimed = Vec::new();
        http.have(&url, &[ChunkId::of(b""), id], &mut |id| claimed.push(id)).unwrap();
        assert_eq!(claimed, [id]);
        let given = http.get_chunk(&url, &id, 0, None).unwrap().unwrap();
        assert!(given.len() == bytes.len() && ChunkId::of(&given) != id);
        assert_eq!(liar.shared.list(None, 3), format!("{id}\n"));
        assert_eq!(liar.shared.list(Some(id), 3), "");
    }

    #[test]
    fn it_passes_for_a_cell_and_its_memory_has_an_end() {
        let (liar, url, http) = liar();
        let status = http.status(&url).unwrap();
        assert_eq!((status.beacon.node_id, status.beacon.free), (liar.id, Some(CLAIMED_ROOM_BYTES)));
        assert!(http.peers(&url).unwrap().cells.is_empty());
        let hints = PutHints { copies: 5, holders: Vec::new(), owner: None };
        let put = |n: usize| http.put_chunk(&url, &ChunkId::of(&n.to_le_bytes()), &n.to_le_bytes(), &hints);
        (0..MAX_TAKEN).for_each(|n| put(n).unwrap());
        assert!(matches!(put(MAX_TAKEN), Err(CallError::Refused { status: 507, .. })));
        assert!(put(0).is_ok(), "what is there needs no room");
        assert!(http.put_chunk(&url, &ChunkId::of(b"x"), b"y", &hints).is_err());
    }
}
