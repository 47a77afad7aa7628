//! What a cell answers over HTTP. Each call reads its request, asks the store or the driver, and answers.

// A shell: it tells for how long the cell runs, and who sent bad bytes when.
#![allow(clippy::disallowed_methods)]

mod maintenance;
mod put;
mod response;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use smol::lock::{Semaphore, SemaphoreGuardArc};

use crate::cell::{Input, MemberInput};
use crate::id::{ChunkId, MAX_CHUNK_BYTES};
use crate::net::{Exchange, GatewayStats, Handler};
use crate::node::api::response::{Answer, Refusal, etag, nowhere, read_body, refusal};
use crate::node::bans::Bans;
use crate::node::local_copies::LocalCopies;
use crate::node::mailbox::{ColonySnapshot, Mailbox};
use crate::node::search::{Found, Searches};
use crate::store::Store;
use crate::wire::id_lists::{MAX_HAVE_IDS, parse_ids, write_ids};
use crate::wire::peers::Join;
use crate::wire::problem::Problem;
use crate::wire::routes::{DEFAULT_HOPS, HOPS_HEADER, MAX_JSON_REQUEST_BYTES, REQUEST_ID_HEADER, Route};
use crate::wire::status::{CellStatus, StoredChunk};

/// Long lists that are answered at once; the others wait. One takes up to 6 MiB until its answer was sent, or until the
/// core has taken it in.
const LONG_LISTS: usize = 3;
/// Up to so many bytes a list is a short one and waits for nobody: those who read slowly hold up only others with long
/// lists. A thousand ids.
const SHORT_LIST_BYTES: u64 = 64 << 10;
/// Requests to re-hash copies that are answered at once; the others wait. More would only take the disk from those who
/// want chunks.
const VERIFICATIONS: usize = 2;

pub(super) struct Api {
    store: Arc<dyn Store>,
    copies: LocalCopies,
    mailbox: Mailbox,
    searches: Searches,
    long_lists: Arc<Semaphore>,
    verifications: Semaphore,
    bans: Mutex<Bans>,
    door: OnceLock<Arc<GatewayStats>>,
    started: Instant,
    leaving: AtomicBool,
}

impl Handler for Api {
    fn handle(&self, mut exchange: Exchange) {
        let answer = match Route::parse(exchange.method(), exchange.target()) {
            Ok(route) => self.answer(route, &mut exchange),
            Err(error) => Err(error.into()),
        };
        match answer {
            Ok(answer) => answer.send(exchange),
            Err(refusal) => refusal.send(exchange),
        }
    }
}

impl Api {
    pub(super) fn new(store: Arc<dyn Store>, mailbox: Mailbox) -> Self {
        Self {
            copies: LocalCopies::new(Arc::clone(&store), mailbox.clone()),
            store,
            searches: Searches::new(mailbox.clone()),
            mailbox,
            long_lists: Arc::new(Semaphore::new(LONG_LISTS)),
            verifications: Semaphore::new(VERIFICATIONS),
            bans: Mutex::default(),
            door: OnceLock::new(),
            started: Instant::now(),
            leaving: AtomicBool::new(false),
        }
    }

    /// Gives the door's counters to `GET /status`.
    pub(super) fn count_connections(&self, stats: Arc<GatewayStats>) {
        // Called once, when the door opens.
        drop(self.door.set(stats));
    }

    /// From now on no chunk is taken any more.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::SeqCst);
    }

    fn answer(&self, route: Route, exchange: &mut Exchange) -> Result<Answer, Refusal> {
        match route {
            Route::PutChunk(id) => self.put(Some(&id), exchange).map(|_| Answer::Empty),
            Route::PostChunk => self.put(None, exchange).and_then(|id| Ok(Answer::json(&StoredChunk { id })?)),
            Route::GetChunk(id) => Ok(self.get(&id, exchange)?),
            Route::HeadChunk(id) => match self.store.open(&id).map_err(|error| refusal(&error))? {
                Some(chunk) => Ok(Answer::Chunk { id, len: chunk.len, bytes: Box::new(std::io::empty()) }),
                None => Err(nowhere().into()),
            },
            Route::Have => Ok(self.have(exchange)?),
            Route::Verify => Ok(self.verify(exchange)?),
            Route::Holders => Ok(self.holders(exchange)?),
            Route::List { after, limit } => {
                let ids = self.store.list(after.as_ref(), limit).map_err(|error| refusal(&error))?;
                Ok(Answer::Lines(write_ids(&ids)))
            }
            Route::Peers => Ok(Answer::json(&self.snapshot()?.peers())?),
            Route::Join => Ok(self.join(exchange)?),
            Route::Alert => Ok(self.alert(exchange)?),
            Route::Drain => Ok(self.drain()?),
            Route::Undrain => Ok(self.undrain()?),
            Route::Scrub => Ok(self.scrub()?),
            Route::Status => Ok(Answer::json(&self.status()?)?),
            Route::Health => Ok(self.health()?),
        }
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
        let place = self.place_for(exchange);
        let ids = Self::ids(exchange)?;
        if ids.len() > MAX_HAVE_IDS {
            return Err(Problem::new(413, format!("at most {MAX_HAVE_IDS} ids in one request")));
        }
        let mut here = Vec::with_capacity(ids.len());
        for id in ids {
            if self.store.contains(&id).map_err(|error| refusal(&error))? {
                here.push(id);
            }
        }
        Ok(Answer::Have(write_ids(&here), place))
    }

    fn ids(exchange: &mut Exchange) -> Result<Vec<ChunkId>, Problem> {
        let body = read_body(exchange, MAX_CHUNK_BYTES as u64)?;
        parse_ids(&body).map_err(|error| Problem::new(400, format!("each line is an id: {error}")))
    }

    /// A place for the list that comes, if it is a long one.
    fn place_for(&self, exchange: &Exchange) -> Option<SemaphoreGuardArc> {
        (exchange.body_bytes() > SHORT_LIST_BYTES).then(|| self.long_lists.acquire_arc_blocking())
    }

    fn join(&self, exchange: &mut Exchange) -> Result<Answer, Problem> {
        let body = read_body(exchange, MAX_JSON_REQUEST_BYTES)?;
        let join: Join = serde_json::from_slice(&body)
            .map_err(|error| Problem::new(400, format!("the body is {{\"url\":\"http://ADDRESS:PORT\"}}: {error}")))?;
        self.mailbox.send(Input::Member(MemberInput::Join { address: joinable(&join.url)?.to_string() }));
        Answer::json(&self.snapshot()?.peers())
    }

    fn snapshot(&self) -> Result<ColonySnapshot, Problem> {
        self.mailbox.snapshot().ok_or_else(|| Problem::new(503, "this cell is not well: its driver does not answer"))
    }

    fn status(&self) -> Result<CellStatus, Problem> {
        let usage = self.store.usage();
        let ColonySnapshot { own, life, .. } = self.snapshot()?;
        Ok(CellStatus {
            beacon: own,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            bytes: usage.bytes,
            counted: usage.counted,
            uptime_s: self.started.elapsed().as_secs(),
            connections: self.door.get().map_or(0, |stats| stats.open()),
            activity: life,
        })
    }

    fn stays(&self) -> Result<(), Problem> {
        if self.leaving.load(Ordering::SeqCst) {
            return Err(Problem::new(503, "this cell is about to stop; give the chunk to another"));
        }
        Ok(())
    }

    fn health(&self) -> Result<Answer, Problem> {
        self.stays()?;
        let status = self.snapshot()?.own.status;
        Answer::json(&serde_json::json!({ "status": status }))
    }
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use smol::channel::Receiver;

    use super::*;
    use crate::cell::CopyInput;
    use crate::id::CellId;
    use crate::net::{Backend, Gateway, GatewayLimits};
    use crate::node::mailbox::next_input;
    use crate::store::MemoryStore;
    use crate::wire::datagram::Alert;
    use crate::wire::holder_hints::HolderHint;

    /// A cell that is alone.
    struct Alone {
        api: Arc<Api>,
        address: SocketAddr,
        /// What its core hears.
        heard: Receiver<Input>,
    }

    /// Opens the door of a cell that is alone and has nothing, calls `visit`, and closes it again.
    fn at_the_door(visit: impl FnOnce(&Alone)) {
        let (mailbox, heard) = Mailbox::stub(ColonySnapshot::of_lone_cell());
        let api = Arc::new(Api::new(Arc::new(MemoryStore::new(1 << 20)), mailbox));
        let folder = tempfile::tempdir().unwrap();
        let backend = Backend::start(folder.path(), Arc::clone(&api) as _, 16).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stops) = smol::channel::bounded(1);
        let upstream = backend.upstream();
        let door = std::thread::spawn(move || {
            smol::block_on(async {
                let listener = async_net::TcpListener::try_from(listener).unwrap();
                Gateway::new(listener, upstream, GatewayLimits::default()).run(stops, Duration::ZERO).await;
            });
        });
        visit(&Alone { api, address, heard });
        drop(stop);
        door.join().unwrap();
        backend.stop(Duration::from_secs(10));
    }

    /// Sends a request and gives the line on which the answer comes.
    fn begin(address: SocketAddr, method: &str, target: &str, body: &[u8]) -> TcpStream {
        let mut line = TcpStream::connect(address).unwrap();
        let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        line.write_all(&[head.as_bytes(), body].concat()).unwrap();
        line
    }

    /// Sends a request; the status of its answer.
    fn status_of(address: SocketAddr, method: &str, target: &str, body: &[u8]) -> u16 {
        let line = begin(address, method, target, body);
        line.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut answer = [0; 12];
        (&line).read_exact(&mut answer).unwrap();
        str::from_utf8(&answer[9..]).unwrap().parse().unwrap()
    }

    /// Asks which of so many ids are here, and sends all but the last byte of the list.
    fn ask(address: SocketAddr, ids: usize) -> TcpStream {
        let lines = write_ids(&vec![ChunkId::of(b"x"); ids]);
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
        at_the_door(|&Alone { address, .. }| {
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
    fn what_others_say_reaches_the_core() {
        at_the_door(|Alone { address, heard, .. }| {
            let hears = || next_input(heard).unwrap();
            let says = |method: &str, target: &str, body: &[u8]| {
                assert_eq!(status_of(*address, method, target, body), 200, "{method} {target}");
            };
            let (chunk, culprit) = (ChunkId::of(b"x"), CellId::from_bytes([2; 16]));
            let alert = Alert { node_id: CellId::from_bytes([1; 16]), culprit, chunk, found: ChunkId::of(b"y") };
            says("POST", "/alert", &serde_json::to_vec(&alert).unwrap());
            assert!(matches!(hears(), Input::Copy(CopyInput::Alert(said)) if said == alert));
            says("POST", "/chunks/holders", format!("{chunk} {culprit}\n").as_bytes());
            assert!(
                matches!(hears(), Input::Copy(CopyInput::Hints(news)) if news == [HolderHint { id: chunk, holders: vec![culprit] }])
            );
            says("POST", "/scrub", b"");
            assert!(matches!(hears(), Input::Copy(CopyInput::Scrub)));
            says("POST", "/drain", b"");
            assert!(matches!(hears(), Input::Copy(CopyInput::Drain(true))));
            says("DELETE", "/drain", b"");
            assert!(matches!(hears(), Input::Copy(CopyInput::Drain(false))));
            says("PUT", &format!("/chunk/{chunk}"), b"x");
            assert!(
                matches!(hears(), Input::Copy(CopyInput::Present(held)) if held[0].id == chunk && held[0].copies == 5)
            );
        });
    }

    /// Each of them reads up to sixteen copies to their end.
    #[test]
    fn two_requests_at_once_have_copies_verified_and_the_others_wait() {
        at_the_door(|Alone { api, address, .. }| {
            let mut turns: Vec<_> = (0..VERIFICATIONS).map(|_| api.verifications.try_acquire().unwrap()).collect();
            let third = begin(*address, "POST", "/chunks/have?verify=1", b"");
            assert!(!is_answered(&third, Duration::from_millis(500)));
            assert_eq!(status_of(*address, "POST", "/chunks/have", b""), 200, "others need not wait");
            turns.pop();
            third.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            assert!((&third).read(&mut [0; 12]).unwrap() > 0);
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
