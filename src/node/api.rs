//! What a cell answers over HTTP. Each call reads its request, asks the store or the driver, and answers.

// A shell: chunks are stamped with the time at which they came.
#![allow(clippy::disallowed_methods)]

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use smol::lock::{Semaphore, SemaphoreGuardArc};

use super::driver::{Colony, Look};
use super::route::{Route, route};
use super::search::{Found, Searches};
use crate::chunk::{ChunkId, MAX_CHUNK_BYTES};
use crate::net::{DoorStats, Exchange, Handler};
use crate::store::{MAX_HOLDERS, Note, Store, StoreError};
use crate::wire::api::{
    self, COPIES_HEADER, CellStatus, DEFAULT_COPIES, DEFAULT_HOPS, HOLDERS_HEADER, HOPS_HEADER, Join, MAX_HAVE_IDS,
    Named, OWNER_HEADER, REQUEST_ID_HEADER,
};
use crate::wire::problem::Problem;

/// Long lists of ids that are answered at once; the others wait. One takes up to 6 MiB until its answer was sent.
const LONG_LISTS: usize = 3;
/// Up to so many bytes a list of ids is a short one and waits for nobody: those who read slowly hold up only others
/// with long lists. A thousand ids.
const SHORT_LIST_BYTES: u64 = 64 << 10;

/// The largest body of a call that carries JSON, in bytes.
const MAX_JSON_BODY_BYTES: u64 = 4096;

pub(super) struct Api {
    store: Arc<dyn Store>,
    colony: Colony,
    searches: Searches,
    long_lists: Arc<Semaphore>,
    door: OnceLock<Arc<DoorStats>>,
    started: Instant,
    leaving: AtomicBool,
}

type Answered = Result<(), Problem>;

impl Handler for Api {
    fn handle(&self, mut exchange: Exchange) {
        match route(exchange.method(), exchange.target()) {
            Err(no) => match no.allow {
                Some(allow) => {
                    let fields = [("Content-Type", crate::wire::problem::MEDIA_TYPE), ("Allow", allow)];
                    exchange.respond(no.problem.status, &fields, &no.problem.to_json());
                }
                None => exchange.respond_problem(&no.problem),
            },
            Ok(route) => match self.answer(route, &mut exchange) {
                Ok(answer) => answer.send(exchange),
                Err(problem) => exchange.respond_problem(&problem),
            },
        }
    }
}

/// Header fields of an answer in lines.
const LINES: [(&str, &str); 1] = [("Content-Type", "text/plain; charset=utf-8")];

/// What a call answers with when it succeeds.
enum Answer {
    Empty,
    Json(Vec<u8>),
    Lines(String),
    /// Which of the ids are here, and the place of a long list.
    Have(String, Option<SemaphoreGuardArc>),
    Chunk {
        id: ChunkId,
        len: u64,
        bytes: Box<dyn Read>,
    },
    NotModified(ChunkId),
}

impl Answer {
    fn json(value: &impl Serialize) -> Result<Self, Problem> {
        serde_json::to_vec(value).map(Self::Json).map_err(|error| Problem::new(500, error.to_string()))
    }

    fn send(self, exchange: Exchange) {
        match self {
            Self::Empty => exchange.respond(200, &[], &[]),
            Self::Json(json) => exchange.respond(200, &[("Content-Type", "application/json")], &json),
            Self::Lines(lines) => exchange.respond(200, &LINES, lines.as_bytes()),
            Self::Have(lines, place) => {
                exchange.respond(200, &LINES, lines.as_bytes());
                drop(place);
            }
            Self::Chunk { id, len, bytes } => {
                let etag = etag(&id);
                // The bytes of an id never change.
                let fields = [
                    ("Content-Type", "application/octet-stream"),
                    ("ETag", etag.as_str()),
                    ("Cache-Control", "public, max-age=31536000, immutable"),
                ];
                exchange.respond_from(200, &fields, len, bytes);
            }
            Self::NotModified(id) => exchange.respond(304, &[("ETag", &etag(&id))], &[]),
        }
    }
}

fn etag(id: &ChunkId) -> String {
    format!("\"{id}\"")
}

impl Api {
    pub(super) fn new(store: Arc<dyn Store>, colony: Colony) -> Self {
        let searches = Searches::new(colony.clone());
        let (door, started) = (OnceLock::new(), Instant::now());
        let long_lists = Arc::new(Semaphore::new(LONG_LISTS));
        Self { store, colony, searches, long_lists, door, started, leaving: AtomicBool::new(false) }
    }

    /// Gives the door's counters to `GET /status`.
    pub(super) fn count_connections(&self, stats: Arc<DoorStats>) {
        // Called once, when the door opens.
        drop(self.door.set(stats));
    }

    /// From now on no chunk is taken any more.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::SeqCst);
    }

    fn answer(&self, route: Route, exchange: &mut Exchange) -> Result<Answer, Problem> {
        match route {
            Route::PutChunk(id) => self.put(Some(&id), exchange).map(|_| Answer::Empty),
            Route::PostChunk => self.put(None, exchange).and_then(|id| Answer::json(&Named { id })),
            Route::GetChunk(id) => self.get(&id, exchange),
            Route::HeadChunk(id) => match self.store.open(&id).map_err(|error| refusal(&error))? {
                Some(chunk) => Ok(Answer::Chunk { id, len: chunk.len, bytes: Box::new(std::io::empty()) }),
                None => Err(nowhere()),
            },
            Route::Have => self.have(exchange),
            Route::List { after, limit } => {
                let ids = self.store.list(after.as_ref(), limit).map_err(|error| refusal(&error))?;
                Ok(Answer::Lines(api::write_ids(&ids)))
            }
            Route::Peers => Answer::json(&self.look()?.peers()),
            Route::Join => self.join(exchange),
            Route::Status => Answer::json(&self.status()?),
            Route::Health => self.health(),
        }
    }

    fn put(&self, expected: Option<&ChunkId>, exchange: &mut Exchange) -> Result<ChunkId, Problem> {
        self.takes_chunks()?;
        let note = note(exchange)?;
        let len = exchange.body_bytes();
        let (id, _) = self.store.put(expected, len, exchange.body(), &note).map_err(|error| refusal(&error))?;
        Ok(id)
    }

    fn takes_chunks(&self) -> Answered {
        if self.leaving.load(Ordering::SeqCst) {
            return Err(Problem::new(503, "this cell is about to stop; give the chunk to another"));
        }
        Ok(())
    }

    fn get(&self, id: &ChunkId, exchange: &Exchange) -> Result<Answer, Problem> {
        if let Some(chunk) = self.store.open(id).map_err(|error| refusal(&error))? {
            if exchange.field("If-None-Match") == Some(etag(id).as_str()) {
                return Ok(Answer::NotModified(*id));
            }
            return Ok(Answer::Chunk { id: *id, len: chunk.len, bytes: chunk.reader });
        }
        let hops = match exchange.field(HOPS_HEADER) {
            None => DEFAULT_HOPS,
            Some(text) => {
                text.parse().map_err(|_| Problem::new(400, format!("{HOPS_HEADER} is a number from 0 to 255")))?
            }
        };
        if hops == 0 {
            return Err(nowhere());
        }
        match self.searches.search(id, hops, exchange.field(REQUEST_ID_HEADER)) {
            Found::Chunk(chunk) => Ok(Answer::Chunk { id: *id, len: chunk.len(), bytes: Box::new(chunk) }),
            Found::Nowhere => Err(nowhere()),
            Found::Busy => Err(Problem::new(503, "too many searches are under way; ask again in a few seconds")),
        }
    }

    fn have(&self, exchange: &mut Exchange) -> Result<Answer, Problem> {
        // Before anything of it is read: what waits here takes no memory.
        let place = (exchange.body_bytes() > SHORT_LIST_BYTES).then(|| self.long_lists.acquire_arc_blocking());
        let body = read_body(exchange, MAX_CHUNK_BYTES as u64)?;
        let ids = api::parse_ids(&body).map_err(|error| Problem::new(400, format!("each line is an id: {error}")))?;
        drop(body);
        if ids.len() > MAX_HAVE_IDS {
            return Err(Problem::new(413, format!("at most {MAX_HAVE_IDS} ids in one request")));
        }
        let mut here = Vec::with_capacity(ids.len());
        for id in ids {
            if self.store.has(&id).map_err(|error| refusal(&error))? {
                here.push(id);
            }
        }
        Ok(Answer::Have(api::write_ids(&here), place))
    }

    fn join(&self, exchange: &mut Exchange) -> Result<Answer, Problem> {
        let body = read_body(exchange, MAX_JSON_BODY_BYTES)?;
        let join: Join = serde_json::from_slice(&body)
            .map_err(|error| Problem::new(400, format!("the body is {{\"url\":\"http://ADDRESS:PORT\"}}: {error}")))?;
        self.colony.join(joinable(&join.url)?.to_string());
        Answer::json(&self.look()?.peers())
    }

    fn look(&self) -> Result<Look, Problem> {
        self.colony.look().ok_or_else(|| Problem::new(503, "this cell is not well: its driver does not answer"))
    }

    fn status(&self) -> Result<CellStatus, Problem> {
        let usage = self.store.usage();
        Ok(CellStatus {
            beacon: self.look()?.own,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            bytes: usage.bytes,
            counted: usage.counted,
            uptime_s: self.started.elapsed().as_secs(),
            connections: self.door.get().map_or(0, |stats| stats.open()),
            life: crate::wire::api::Life::default(),
        })
    }

    fn health(&self) -> Result<Answer, Problem> {
        self.takes_chunks()?;
        let status = self.look()?.own.status;
        Answer::json(&serde_json::json!({ "status": status }))
    }
}

/// What the header fields of a put tell about the chunk.
fn note(exchange: &Exchange) -> Result<Note, Problem> {
    let copies = match exchange.field(COPIES_HEADER) {
        None => DEFAULT_COPIES,
        Some(text) => text
            .parse()
            .ok()
            .filter(|&copies| copies > 0)
            .ok_or_else(|| Problem::new(400, format!("{COPIES_HEADER} is a number from 1 to 255")))?,
    };
    let holders = exchange.field(HOLDERS_HEADER).unwrap_or_default();
    let holders: Result<Vec<_>, _> =
        holders.split(',').map(str::trim).filter(|id| !id.is_empty()).map(str::parse).collect();
    let holders = holders.map_err(|_| Problem::new(400, format!("{HOLDERS_HEADER} is a list of node ids")))?;
    if holders.len() > MAX_HOLDERS {
        return Err(Problem::new(400, format!("{HOLDERS_HEADER} names at most {MAX_HOLDERS} cells")));
    }
    let owner = match exchange.field(OWNER_HEADER) {
        None => None,
        Some(text) => {
            let hash: ChunkId = text
                .parse()
                .map_err(|_| Problem::new(400, format!("{OWNER_HEADER} is a SHA-256 in lower-case hexadecimal")))?;
            Some(*hash.as_bytes())
        }
    };
    let stored_at_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Ok(Note { copies, holders, owner, stored_at_s })
}

/// The door of a cell that may join. Only addresses of private networks: a stranger must not be able to make this cell
/// call on the world.
fn joinable(url: &str) -> Result<SocketAddr, Problem> {
    let wrong = || Problem::new(400, "url is http://ADDRESS:PORT with a numeric address");
    let authority = url.strip_prefix("http://").ok_or_else(wrong)?;
    let door: SocketAddr = authority.trim_end_matches('/').parse().map_err(|_| wrong())?;
    let private = match door.ip() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local() || is_shared(ip),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    if !private || door.port() == 0 {
        return Err(Problem::new(400, "only cells on private networks can join; name others under peers in node.toml"));
    }
    Ok(door)
}

/// 100.64.0.0/10 (RFC 6598), which VPNs between boards like to use.
fn is_shared(ip: std::net::Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    a == 100 && (64..128).contains(&b)
}

fn read_body(exchange: &mut Exchange, limit: u64) -> Result<Vec<u8>, Problem> {
    let len = exchange.body_bytes();
    if len > limit {
        return Err(Problem::new(413, format!("the body of this call has at most {limit} bytes")));
    }
    let mut body = Vec::with_capacity(usize::try_from(len).unwrap_or_default());
    exchange.body().take(limit).read_to_end(&mut body).map_err(|error| Problem::new(400, error.to_string()))?;
    if body.len() as u64 != len {
        return Err(Problem::new(400, format!("the body ended after {} of {len} bytes", body.len())));
    }
    Ok(body)
}

fn nowhere() -> Problem {
    Problem::new(404, "the chunk is not here")
}

fn refusal(error: &StoreError) -> Problem {
    let status = match error {
        StoreError::WrongHash { .. } => 422,
        StoreError::Truncated { .. } | StoreError::Body(_) => 400,
        StoreError::TooLarge { .. } => 413,
        StoreError::NoRoom { .. } => 507,
        StoreError::Counting => 503,
        StoreError::Disk { .. } => {
            log::error!("{error}");
            return Problem::new(500, "this cell's disk failed; its log tells more");
        }
    };
    Problem::new(status, error.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::config::DoorLimits;
    use crate::net::{Door, Server};
    use crate::store::MemoryStore;
    use crate::wire::CellId;
    use crate::wire::beacon::{Beacon, Role, Status};

    /// Opens the door of a cell that is alone and has nothing, calls `visit`, and closes it again.
    fn at_the_door(visit: impl FnOnce(SocketAddr)) {
        let own = Beacon {
            node_id: CellId::from_bytes([0; 16]),
            port: 1,
            status: Status::Active,
            v: None,
            boot: None,
            role: Role::Storage,
            chunks: None,
            free: None,
            cells: None,
            clean_s: None,
        };
        let colony = Colony::that_looks_like(Look { own, cells: Vec::new() });
        let api = Arc::new(Api::new(Arc::new(MemoryStore::new(1 << 20)), colony));
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(folder.path(), api, 16).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stops) = smol::channel::bounded(1);
        let lines = server.lines();
        let door = std::thread::spawn(move || {
            smol::block_on(async {
                let listener = async_net::TcpListener::try_from(listener).unwrap();
                Door::new(listener, lines, DoorLimits::default()).run(stops, Duration::ZERO).await;
            });
        });
        visit(address);
        drop(stop);
        door.join().unwrap();
        server.stop(Duration::from_secs(10));
    }

    /// Asks which of so many ids are here, and sends all but the last byte of the list.
    fn ask(address: SocketAddr, ids: usize) -> TcpStream {
        let lines = api::write_ids(&vec![ChunkId::of(b"x"); ids]);
        let mut line = TcpStream::connect(address).unwrap();
        write!(line, "POST /chunks/have HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", lines.len()).unwrap();
        line.write_all(&lines.as_bytes()[..lines.len() - 1]).unwrap();
        line
    }

    /// Sends the last byte; is it answered in this time?
    fn is_answered(mut line: &TcpStream, wait: Duration) -> bool {
        let _ = line.write_all(b"\n");
        line.set_read_timeout(Some(wait)).unwrap();
        let mut answer = [0; 12];
        line.read_exact(&mut answer).is_ok_and(|()| answer == *b"HTTP/1.1 200")
    }

    /// Sixty lists of 2 MiB at once took 159 MB of memory.
    #[test]
    fn few_long_lists_of_ids_are_in_memory_at_once_and_short_ones_need_not_wait() {
        const LONG: usize = 2_000;
        at_the_door(|address| {
            let slow: Vec<_> = (0..LONG_LISTS).map(|_| ask(address, LONG)).collect();
            let next = ask(address, LONG);
            assert!(!is_answered(&next, Duration::from_millis(500)), "one too many");
            assert!(is_answered(&ask(address, 100), Duration::from_secs(10)));
            for line in &slow {
                assert!(is_answered(line, Duration::from_secs(10)));
            }
            next.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            assert!((&next).read(&mut [0; 12]).unwrap() > 0, "now it is answered");
        });
    }

    #[test]
    fn only_private_addresses_may_join() {
        for good in ["http://10.0.2.7:8080", "http://192.168.1.1:80/", "http://127.0.0.1:9", "http://[fd00::1]:8080"] {
            assert!(joinable(good).is_ok(), "{good}");
        }
        assert!(joinable("http://100.100.1.1:8080").is_ok());
        for bad in [
            "http://8.8.8.8:80",
            "https://10.0.0.1:1",
            "10.0.0.1:1",
            "http://pi:8080",
            "http://10.0.0.1",
            "http://10.0.0.1:0",
        ] {
            assert_eq!(joinable(bad).unwrap_err().status, 400, "{bad}");
        }
    }
}
