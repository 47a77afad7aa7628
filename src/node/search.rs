//! Looking for a chunk that is not here, on behalf of somebody who knows only this cell.
//!
//! First every active cell is asked whether it has the chunk itself. Only if none has, some are asked to search among the
//! cells that they know, with one hop less; the search's id keeps it from going in circles. Whatever comes back is
//! hashed here before it is passed on.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::driver::Colony;
use crate::chunk::ChunkId;
use crate::net::client::{Http, Patience};
use crate::wire::api::MAX_HOPS;

/// Searches under way at once; each may hold a chunk in memory.
const MAX_SEARCHES: usize = 8;
/// Cells asked at the same time.
const AT_ONCE: usize = 8;
/// Cells that are asked to search further, at the most: keeps one search from becoming a flood.
const FAN_OUT: usize = 8;
/// Searches remembered, so that each is taken part in once.
const MAX_SEEN: usize = 4096;
/// Longest id of a search, in bytes.
const MAX_SEARCH_ID: usize = 64;

pub(super) struct Searches {
    colony: Colony,
    http: Http,
    under_way: AtomicUsize,
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
    Chunk(Vec<u8>),
    /// Nobody who could be asked has it.
    Nowhere,
    /// Too many searches are under way.
    Busy,
}

impl Searches {
    pub(super) fn new(colony: Colony) -> Self {
        let http =
            Http::new(Patience { connect_ms: 2_000, stall_ms: 10_000, answer_ms: 15_000, call_ms: 30_000 }, 1, 32);
        Self { colony, http, under_way: AtomicUsize::new(0), seen: Mutex::default() }
    }

    /// Searches among the other cells. `search` names the search if it came from another cell; an unfit name counts as none.
    pub(super) fn search(&self, id: &ChunkId, hops: u8, search: Option<&str>) -> Found {
        let fit =
            |name: &&str| !name.is_empty() && name.len() <= MAX_SEARCH_ID && name.bytes().all(|b| b.is_ascii_graphic());
        let search = search.filter(fit).map_or_else(|| uuid::Uuid::new_v4().to_string(), ToOwned::to_owned);
        if !self.seen.lock().unwrap_or_else(PoisonError::into_inner).first_time(&search, *id) {
            return Found::Nowhere;
        }
        if self.under_way.fetch_add(1, Ordering::SeqCst) >= MAX_SEARCHES {
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            return Found::Busy;
        }
        let found = self.ask_around(id, hops.min(MAX_HOPS), &search);
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        found.map_or(Found::Nowhere, Found::Chunk)
    }

    fn ask_around(&self, id: &ChunkId, hops: u8, search: &str) -> Option<Vec<u8>> {
        let look = self.colony.look()?;
        let mut urls: Vec<&str> = look.active().map(|cell| cell.url.as_str()).collect();
        fastrand::shuffle(&mut urls);
        let holders = in_parallel(&urls, |url| self.http.head(url, id).unwrap_or(false).then_some(url));
        let fetch = |url: &str, hops: u8| -> Option<Vec<u8>> {
            let bytes = self.http.get_chunk(url, id, hops, Some(search)).ok()??;
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
        urls.into_iter().take(FAN_OUT).find_map(|url| fetch(url, hops - 1))
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
