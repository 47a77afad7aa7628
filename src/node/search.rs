//! Looking for a chunk that is not here, on behalf of somebody who knows only this cell.
//!
//! First active cells, chosen at random in a large colony, are asked whether they have the chunk themselves. Only if
//! none has, some are asked to search among the cells that they know, with one hop less; the search's id keeps it
//! from going in circles. Whatever comes back is hashed here before it is passed on.
//!
//! A chunk that was found is in memory until it was sent, and its search keeps its place so long: clients that read
//! slowly hold up other searches, but do not fill the memory.

// A shell: a search ends by the clock.
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

/// Searches under way at once; each may hold a chunk in memory, until the last byte of it was sent.
const MAX_SEARCHES: usize = 8;
/// After so long no further cell is asked. Longer than one call to a cell that hangs, so that others still get their
/// turn.
const DEADLINE: Duration = Duration::from_secs(10);
/// Cells that are asked whether they have the chunk, at the most.
const MAX_ASKED: usize = 32;
/// Cells asked at the same time.
const AT_ONCE: usize = 8;
/// Cells that are asked to search further, at the most: keeps one search from becoming a flood.
const FAN_OUT: usize = 8;
/// Searches remembered, so that each is taken part in once.
const MAX_SEEN: usize = 4096;
/// Longest id of a search, in bytes.
const MAX_SEARCH_ID: usize = 64;

pub(super) struct Searches {
    mailbox: Mailbox,
    asks: Http,
    fetches: Http,
    deadline: Duration,
    under_way: Arc<AtomicUsize>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    order: VecDeque<(String, ChunkId)>,
    known: BTreeSet<(String, ChunkId)>,
}

impl Seen {
    /// Is this the first time? Remembers it.
    fn first_time(&mut self, search: &str, id: ChunkId) -> bool {
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

/// How a search ended.
pub(super) enum Found {
    /// Good bytes.
    Chunk(FoundChunk),
    /// Nobody who could be asked has it.
    Nowhere,
    /// Too many searches are under way.
    Busy,
}

/// A chunk that was found. Its search is under way until this is dropped, for it is in memory until then.
pub(super) struct FoundChunk {
    bytes: Cursor<Vec<u8>>,
    _place: Place,
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

/// One of the searches under way; given back when dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(under_way: &Arc<AtomicUsize>) -> Option<Self> {
        // Counted first, so that two cannot take the last place; dropped again if there was none.
        let place = Self(Arc::clone(under_way));
        (under_way.fetch_add(1, Ordering::SeqCst) < MAX_SEARCHES).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Searches {
    pub(super) fn new(mailbox: Mailbox) -> Self {
        let fetches =
            Http::new(Timeouts { connect_ms: 2_000, stall_ms: 10_000, response_ms: 15_000, call_ms: 30_000 }, 1, 32);
        let asks = Http::new(Timeouts::PROBE, 1, 32);
        Self { mailbox, asks, fetches, deadline: DEADLINE, under_way: Arc::default(), seen: Mutex::default() }
    }

    /// Searches among the other cells. `search` names the search if it came from another cell; an unfit name counts
    /// as none.
    pub(super) fn search(&self, id: &ChunkId, hops: u8, search: Option<&str>) -> Found {
        let fit =
            |name: &&str| !name.is_empty() && name.len() <= MAX_SEARCH_ID && name.bytes().all(|b| b.is_ascii_graphic());
        let search = search.filter(fit).map_or_else(|| uuid::Uuid::new_v4().to_string(), ToOwned::to_owned);
        // Before it is remembered: whoever was told to come again is not to hear then that the search was here before.
        let Some(place) = Place::take(&self.under_way) else { return Found::Busy };
        if !lock(&self.seen).first_time(&search, *id) {
            return Found::Nowhere;
        }
        match self.ask_around(id, hops.min(MAX_HOPS), &search) {
            Some(bytes) => Found::Chunk(FoundChunk { bytes: Cursor::new(bytes), _place: place }),
            None => Found::Nowhere,
        }
    }

    fn ask_around(&self, id: &ChunkId, hops: u8, search: &str) -> Option<Vec<u8>> {
        let started = Instant::now();
        let in_time = || started.elapsed() < self.deadline;
        let snapshot = self.mailbox.snapshot()?;
        let mut urls: Vec<&str> = snapshot.active().map(|cell| cell.url.as_str()).collect();
        fastrand::shuffle(&mut urls);
        let asked = urls.get(..MAX_ASKED).unwrap_or(&urls);
        let holders =
            in_parallel(asked, |url| (in_time() && self.asks.has_chunk(url, id).unwrap_or(false)).then_some(url));
        let fetch = |url: &str, hops: u8| -> Option<Vec<u8>> {
            if !in_time() {
                return None;
            }
            let bytes = self.fetches.get_chunk(url, id, hops, Some(search)).ok()??;
            if ChunkId::of(&bytes) == *id {
                return Some(bytes);
            }
            log::warn!("{url} sent bytes that are not chunk {}", id.short());
            None
        };
        let direct = holders.into_iter().find_map(|url| fetch(url, 0));
        if direct.is_some() || hops <= 1 {
            return direct;
        }
        // From the other end: in a large colony those have not been asked yet.
        urls.into_iter().rev().take(FAN_OUT).find_map(|url| fetch(url, hops - 1))
    }
}

/// Asks all, some at a time, and gathers what they answered.
fn in_parallel<'a, T: Send>(urls: &[&'a str], ask: impl Fn(&'a str) -> Option<T> + Sync) -> Vec<T> {
    let mut found = Vec::new();
    for some in urls.chunks(AT_ONCE) {
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

    /// Searches in a colony of so many cells, all behind one door that has [`CHUNK`], and that server.
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

    /// Sixty clients that read slowly had sixty chunks in memory.
    #[test]
    fn a_search_is_under_way_until_its_answer_was_sent() {
        let (searches, _) = searches(1);
        let id = ChunkId::of(CHUNK);
        let mut slow = Vec::new();
        for _ in 0..MAX_SEARCHES {
            let Found::Chunk(chunk) = searches.search(&id, 1, None) else { panic!("not found") };
            slow.push(chunk);
        }
        assert!(matches!(searches.search(&id, 1, Some("again")), Found::Busy));
        let mut bytes = Vec::new();
        slow.pop().unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, CHUNK);
        assert!(matches!(searches.search(&id, 1, Some("again")), Found::Chunk(_)), "the refused one may come again");
        assert!(matches!(searches.search(&id, 1, Some("again")), Found::Nowhere), "and has been here now");
        drop(slow);
        assert_eq!(searches.under_way.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_search_in_a_large_colony_asks_some_of_its_cells() {
        let (searches, server) = searches(200);
        assert!(matches!(searches.search(&ChunkId::of(b"missing"), 1, None), Found::Nowhere));
        assert_eq!(server.calls().iter().filter(|call| call.starts_with("HEAD ")).count(), MAX_ASKED);
    }

    #[test]
    fn after_its_deadline_a_search_asks_nobody_any_more() {
        let (mut searches, server) = searches(8);
        searches.deadline = Duration::ZERO;
        assert!(matches!(searches.search(&ChunkId::of(CHUNK), 2, None), Found::Nowhere));
        assert!(server.calls().is_empty());
    }

    #[test]
    fn a_search_is_taken_part_in_once_and_the_memory_of_it_is_bounded() {
        let mut seen = Seen::default();
        let id = ChunkId::of(b"x");
        assert!(seen.first_time("a", id));
        assert!(!seen.first_time("a", id));
        assert!(seen.first_time("a", ChunkId::of(b"y")));
        for n in 0..2 * MAX_SEEN {
            assert!(seen.first_time(&format!("s{n}"), id));
        }
        assert_eq!(seen.order.len(), MAX_SEEN);
        assert_eq!(seen.known.len(), MAX_SEEN);
    }

    #[test]
    fn all_are_asked_and_all_answers_gathered() {
        let urls: Vec<String> = (0..21).map(|n| n.to_string()).collect();
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        let mut even = in_parallel(&urls, |url| url.parse::<u32>().ok().filter(|n| n % 2 == 0));
        even.sort_unstable();
        assert_eq!(even, (0..21).step_by(2).collect::<Vec<_>>());
    }
}
