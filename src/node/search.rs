//! Searches for chunks on behalf of clients that know only this cell.
//!
//! A search first asks active cells, at random in a large colony, whether they have the chunk (`HEAD`). If none has, it
//! asks some of them to search among the cells that they know, with one hop less; the id of the search keeps it from
//! running in circles. Every chunk is hashed here before it is passed on.
//!
//! A found chunk is in memory until it was sent, and its search keeps its slot for that long: slow clients hold up other
//! searches, but do not fill the memory.

// Reads the clock: a search has a deadline.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Cursor, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::id::ChunkId;
use crate::net::client::{Http, Timeouts};
use crate::node::mailbox::Mailbox;
use crate::sync::lock;
use crate::wire::routes::MAX_HOPS;

/// Maximum number of searches at once. Each can keep a chunk in memory until its last byte was sent.
const MAX_SEARCHES: usize = 8;
/// Time after which no further cell is asked. Longer than one request to a cell that hangs, so that others still get
/// their turn.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of cells that are asked whether they have the chunk.
const MAX_ASKED: usize = 32;
/// Number of cells that are asked at the same time.
const PARALLEL: usize = 8;
/// Maximum number of cells that are asked to search further. It keeps one search from flooding the colony.
const FAN_OUT: usize = 8;
/// Maximum number of recent searches in the table by which a cell takes part in each search once.
const MAX_SEEN: usize = 4096;
/// Maximum length of a search's id, in bytes.
const MAX_SEARCH_ID_BYTES: usize = 64;

pub(super) struct Searches {
    mailbox: Mailbox,
    head_client: Http,
    fetch_client: Http,
    timeout: Duration,
    in_progress: Arc<AtomicUsize>,
    seen: Mutex<Seen>,
}

/// The most recent searches.
#[derive(Default)]
struct Seen {
    order: VecDeque<(String, ChunkId)>,
    known: BTreeSet<(String, ChunkId)>,
}

impl Seen {
    /// Adds a search. Returns false if it is in the table already.
    fn insert(&mut self, search: &str, id: ChunkId) -> bool {
        let key = (search.to_owned(), id);
        if !self.known.insert(key.clone()) {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > MAX_SEEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

/// The outcome of a search.
pub(super) enum SearchOutcome {
    /// The chunk, which hashes to its id.
    Found(FoundChunk),
    /// None of the cells that were asked has it.
    NotFound,
    /// Too many searches are in progress.
    Busy,
}

/// A chunk that was found. Its search keeps its slot until this is dropped, because the chunk is in memory until then.
pub(super) struct FoundChunk {
    bytes: Cursor<Vec<u8>>,
    _slot: Slot,
}

impl FoundChunk {
    /// Length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.bytes.get_ref().len() as u64
    }
}

impl Read for FoundChunk {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(buffer)
    }
}

/// One of the [`MAX_SEARCHES`] slots. It is free again when this is dropped.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(in_progress: &Arc<AtomicUsize>) -> Option<Self> {
        // Counted first, so that two searches cannot take the last slot. If there was none, the drop uncounts it.
        let slot = Self(Arc::clone(in_progress));
        (in_progress.fetch_add(1, Ordering::SeqCst) < MAX_SEARCHES).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Searches {
    pub(super) fn new(mailbox: Mailbox) -> Self {
        Self {
            mailbox,
            head_client: Http::new(Timeouts::PROBE, 1, 32),
            fetch_client: Http::new(Timeouts::QUERY, 1, 32),
            timeout: TIMEOUT,
            in_progress: Arc::default(),
            seen: Mutex::default(),
        }
    }

    /// Searches for a chunk on the other cells. `search_id` is the id that another cell gave the search; a malformed one
    /// is ignored. Blocks.
    pub(super) fn search(&self, id: &ChunkId, hops: u8, search_id: Option<&str>) -> SearchOutcome {
        let is_valid =
            |id: &&str| (1..=MAX_SEARCH_ID_BYTES).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
        let search_id = search_id.filter(is_valid).map_or_else(|| uuid::Uuid::new_v4().to_string(), ToOwned::to_owned);
        // Before the search is recorded: a client that was told to retry must not get "not found" then.
        let Some(slot) = Slot::take(&self.in_progress) else { return SearchOutcome::Busy };
        if !lock(&self.seen).insert(&search_id, *id) {
            return SearchOutcome::NotFound;
        }
        match self.ask_cells(id, hops.min(MAX_HOPS), &search_id) {
            Some(bytes) => SearchOutcome::Found(FoundChunk { bytes: Cursor::new(bytes), _slot: slot }),
            None => SearchOutcome::NotFound,
        }
    }

    fn ask_cells(&self, id: &ChunkId, hops: u8, search_id: &str) -> Option<Vec<u8>> {
        let started = Instant::now();
        let in_time = || started.elapsed() < self.timeout;
        let snapshot = self.mailbox.snapshot()?;
        let mut urls: Vec<&str> = snapshot.active().map(|cell| cell.url.as_str()).collect();
        fastrand::shuffle(&mut urls);
        let asked = urls.get(..MAX_ASKED).unwrap_or(&urls);
        let holders = in_parallel(asked, |url| {
            (in_time() && self.head_client.has_chunk(url, id).unwrap_or(false)).then_some(url)
        });
        let fetch = |url: &str, hops: u8| -> Option<Vec<u8>> {
            if !in_time() {
                return None;
            }
            let bytes = self.fetch_client.get_chunk(url, id, hops, Some(search_id)).ok()??;
            if ChunkId::of(&bytes) == *id {
                return Some(bytes);
            }
            log::warn!("{url} sent a bad copy of chunk {}", id.short());
            None
        };
        let direct = holders.into_iter().find_map(|url| fetch(url, 0));
        if direct.is_some() || hops <= 1 {
            return direct;
        }
        // From the end of the list: in a large colony these cells have not been asked yet.
        urls.into_iter().rev().take(FAN_OUT).find_map(|url| fetch(url, hops - 1))
    }
}

/// Calls `ask` for all URLs, [`PARALLEL`] at a time, and collects the answers.
fn in_parallel<'a, T: Send>(urls: &[&'a str], ask: impl Fn(&'a str) -> Option<T> + Sync) -> Vec<T> {
    let mut found = Vec::new();
    for some in urls.chunks(PARALLEL) {
        std::thread::scope(|scope| {
            let asked: Vec<_> = some.iter().map(|&url| scope.spawn(|| ask(url))).collect();
            found.extend(asked.into_iter().filter_map(|asked| asked.join().ok().flatten()));
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::CellId;
    use crate::net::test_server::{TestServer, response};
    use crate::node::mailbox::ColonySnapshot;
    use crate::wire::beacon::{Role, Status};
    use crate::wire::peers::{CellView, Presence};

    const CHUNK: &[u8] = b"a chunk that another cell has";

    /// The searches of a cell that has this many peers, all at the address of one server that has [`CHUNK`]; and that
    /// server.
    fn searches(cells: u8) -> (Searches, TestServer) {
        let server = TestServer::answering(|request| {
            let status = if request.line().contains(&ChunkId::of(CHUNK).to_string()) { 200 } else { 404 };
            response(status, CHUNK)
        });
        let (role, status) = (Role::Storage, Status::Active);
        let cell = |n| CellView {
            node_id: CellId::from_bytes([n; 16]),
            url: server.url.clone(),
            role,
            status,
            state: Presence::Active,
            free: None,
            chunks: None,
            seen_ms: 0,
        };
        let snapshot = ColonySnapshot { cells: (1..=cells).map(cell).collect(), ..ColonySnapshot::of_lone_cell() };
        (Searches::new(Mailbox::stub(snapshot).0), server)
    }

    /// Before there was a limit, sixty slow clients had sixty chunks in memory.
    #[test]
    fn a_search_keeps_its_slot_until_its_chunk_was_sent() {
        let (searches, _) = searches(1);
        let id = ChunkId::of(CHUNK);
        let mut slow = Vec::new();
        for _ in 0..MAX_SEARCHES {
            let SearchOutcome::Found(chunk) = searches.search(&id, 1, None) else { panic!("not found") };
            slow.push(chunk);
        }
        assert!(matches!(searches.search(&id, 1, Some("again")), SearchOutcome::Busy));
        let mut bytes = Vec::new();
        slow.pop().unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, CHUNK);
        assert!(
            matches!(searches.search(&id, 1, Some("again")), SearchOutcome::Found(_)),
            "a refused search may be repeated"
        );
        assert!(
            matches!(searches.search(&id, 1, Some("again")), SearchOutcome::NotFound),
            "this search was here before"
        );
        drop(slow);
        assert_eq!(searches.in_progress.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_search_in_a_large_colony_asks_some_of_its_cells() {
        let (searches, server) = searches(200);
        assert!(matches!(searches.search(&ChunkId::of(b"missing"), 1, None), SearchOutcome::NotFound));
        assert_eq!(server.calls().iter().filter(|call| call.starts_with("HEAD ")).count(), MAX_ASKED);
    }

    #[test]
    fn a_search_asks_no_cell_after_its_timeout() {
        let (mut searches, server) = searches(8);
        searches.timeout = Duration::ZERO;
        assert!(matches!(searches.search(&ChunkId::of(CHUNK), 2, None), SearchOutcome::NotFound));
        assert!(server.calls().is_empty());
    }

    #[test]
    fn a_search_is_new_once_and_the_table_is_bounded() {
        let mut seen = Seen::default();
        let id = ChunkId::of(b"x");
        assert!(seen.insert("a", id));
        assert!(!seen.insert("a", id));
        assert!(seen.insert("a", ChunkId::of(b"y")));
        for n in 0..2 * MAX_SEEN {
            assert!(seen.insert(&format!("s{n}"), id));
        }
        assert_eq!(seen.order.len(), MAX_SEEN);
        assert_eq!(seen.known.len(), MAX_SEEN);
    }

    #[test]
    fn all_urls_are_asked_and_all_answers_collected() {
        let urls: Vec<String> = (0..21).map(|n| n.to_string()).collect();
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        let mut even = in_parallel(&urls, |url| url.parse::<u32>().ok().filter(|n| n % 2 == 0));
        even.sort_unstable();
        assert_eq!(even, (0..21).step_by(2).collect::<Vec<_>>());
    }
}
