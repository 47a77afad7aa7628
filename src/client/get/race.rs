//! The fetch of one chunk from its holders. It is requested from the holder that is likely to be the quickest, from the
//! next one if that fails, and from a second one at the same time if it is late.
//!
//! ```text
//!  quickest holder ── fails ──────────▶ next holder ── fails ─▶ … ─▶ those that were too slow, without a minimum rate
//!                  ── is late, once ──▶ next holder as well: the first good copy wins
//! ```
//!
//! Each request runs on a thread of its own, so that a request that hangs can be left behind: it ends at the next byte, or
//! by a timeout within seconds. Few are left behind at the same time, since a holder that was late is asked last.

// A shell: it measures how quickly cells respond.
#![allow(clippy::disallowed_methods)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::client::discover::colony::{CellName, KnownCell};
use crate::client::discover::holder_index::HolderIndex;
use crate::client::get::hedging::{HedgePermit, Hedging};
use crate::client::get::request_threads::RequestThreads;
use crate::client::get::spare_buffers::SpareBuffers;
use crate::id::ChunkId;
use crate::net::client::{CHUNK_MIN_RATE, CallError, Http, TransferLimits};
use crate::net::min_rate::MinRate;
use crate::sync::lock;

/// Pause before the next try to hedge when enough other chunks are requested twice.
const PERMIT_INTERVAL: Duration = Duration::from_millis(50);

/// With what requests are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Requests<'a> {
    pub(super) http: &'a Http,
    pub(super) threads: &'a RequestThreads,
    pub(super) buffers: &'a Arc<SpareBuffers>,
}

/// The fetch of one chunk. When this is dropped, the requests in progress are left behind.
pub(super) struct Race<'a> {
    requests: Requests<'a>,
    holders: &'a Mutex<HolderIndex>,
    hedging: &'a Hedging,
    index: usize,
    id: ChunkId,
    /// Of holders that are not known to be slow.
    min_rate: MinRate,
    /// Holders that were asked, by number.
    tried: Vec<usize>,
    /// Those of them that were too slow, and get one more chance.
    too_slow: Vec<usize>,
    unanswered: Vec<CellName>,
    running: Vec<Request>,
    replies: Receiver<Reply>,
    sender: Sender<Reply>,
    /// Was the chunk requested from a second holder at the same time?
    is_hedged: bool,
    permit: Option<HedgePermit>,
}

/// A request in progress.
struct Request {
    number: usize,
    cell: KnownCell,
    began: Instant,
    cancelled: Arc<AtomicBool>,
}

/// The response to a request, by the number of the cell; `None` if the thread panicked.
struct Reply {
    number: usize,
    result: Option<Result<Option<Vec<u8>>, CallError>>,
}

/// Sends a reply even if the thread panics.
struct Replier {
    number: usize,
    result: Option<Result<Option<Vec<u8>>, CallError>>,
    sender: Sender<Reply>,
}

impl Replier {
    fn reply(mut self, result: Result<Option<Vec<u8>>, CallError>) {
        self.result = Some(result);
    }
}

impl Drop for Replier {
    fn drop(&mut self) {
        // Fails if the race is over.
        drop(self.sender.send(Reply { number: self.number, result: self.result.take() }));
    }
}

impl<'a> Race<'a> {
    pub(super) fn new(
        requests: Requests<'a>,
        holders: &'a Mutex<HolderIndex>,
        hedging: &'a Hedging,
        index: usize,
        id: ChunkId,
    ) -> Self {
        let (sender, replies) = channel();
        Self {
            requests,
            holders,
            hedging,
            index,
            id,
            min_rate: CHUNK_MIN_RATE,
            tried: Vec::new(),
            too_slow: Vec::new(),
            unanswered: Vec::new(),
            running: Vec::new(),
            replies,
            sender,
            is_hedged: false,
            permit: None,
        }
    }

    /// The next copy that arrives, unverified; `None` if all holders failed.
    pub(super) fn next_copy(&mut self) -> Option<(Vec<u8>, CellName)> {
        loop {
            if self.running.is_empty() && !self.request_from_next(|_, _| true) {
                return None;
            }
            if let Some(reply) = self.next_reply()
                && let Some(copy) = self.end(reply)
            {
                return Some(copy);
            }
        }
    }

    /// The holders that did not deliver, and may do so later.
    pub(super) fn unanswered(mut self) -> Vec<CellName> {
        std::mem::take(&mut self.unanswered)
    }

    /// Requests the chunk from the holder that is likely to deliver it first. Returns false if there is none left, or it is
    /// not acceptable.
    fn request_from_next(&mut self, is_acceptable: impl FnOnce(&HolderIndex, usize) -> bool) -> bool {
        let (number, cell, is_slow) = {
            let mut holders = lock(self.holders);
            let Some((number, cell)) = holders.begin_fetch(self.index, &self.tried) else { return false };
            if !is_acceptable(&holders, number) {
                holders.fetch_abandoned(number);
                return false;
            }
            (number, cell, holders.is_slow(number) || self.too_slow.contains(&number))
        };
        self.tried.push(number);
        // Slow holders come last. Those that are left are as slow, and a slow copy is better than none.
        let min_rate = (!is_slow).then(|| self.min_rate.clone());
        let limits = TransferLimits { min_rate, ..TransferLimits::default() };
        let cancelled = Arc::clone(&limits.cancelled);
        let (http, buffers) = (self.requests.http.clone(), Arc::clone(self.requests.buffers));
        let (url, id) = (cell.url.clone(), self.id);
        let replier = Replier { number, result: None, sender: self.sender.clone() };
        self.running.push(Request { number, cell, began: Instant::now(), cancelled });
        // If there is no thread left, the replier is dropped, and the request counts as failed.
        let request = move || replier.reply(http.get_chunk_into(buffers.take(), &url, &id, &limits));
        self.requests.threads.run(request);
        true
    }

    /// Waits for a reply. Returns `None` if the chunk was requested from a second holder meanwhile, or may be now.
    fn next_reply(&mut self) -> Option<Reply> {
        let [request] = &self.running[..] else { return self.replies.recv().ok() };
        if self.is_hedged {
            return self.replies.recv().ok();
        }
        let left = self.hedging.late_after().saturating_sub(request.began.elapsed());
        if let Ok(reply) = self.replies.recv_timeout(left) {
            return Some(reply);
        }
        let elapsed_ms = request.began.elapsed().as_secs_f64() * 1000.0;
        lock(self.holders).fetch_is_late(request.number, elapsed_ms);
        self.permit = self.hedging.permit();
        if self.permit.is_none() {
            return self.replies.recv_timeout(PERMIT_INTERVAL).ok();
        }
        self.is_hedged = true;
        if !self.request_from_next(|holders, number| !holders.is_unreachable(number)) {
            self.permit = None;
        }
        None
    }

    /// Records how a request ended. Returns the copy, if it brought one.
    fn end(&mut self, reply: Reply) -> Option<(Vec<u8>, CellName)> {
        let position = self.running.iter().position(|request| request.number == reply.number)?;
        let Request { number, cell, began, .. } = self.running.swap_remove(position);
        self.permit = self.permit.take().filter(|_| !self.running.is_empty());
        let took = began.elapsed();
        let took_ms = took.as_secs_f64() * 1000.0;
        let mut holders = lock(self.holders);
        match reply.result {
            Some(Ok(Some(bytes))) => {
                holders.fetch_succeeded(number, took_ms);
                self.hedging.record(took);
                return Some((bytes, cell.name()));
            }
            Some(Ok(None)) => holders.fetch_failed(number, false),
            Some(Err(CallError::TooSlow { .. })) if !self.too_slow.contains(&number) => {
                holders.fetch_too_slow(number, took_ms);
                self.too_slow.push(number);
                // It is asked once more, after all others.
                self.tried.retain(|tried| *tried != number);
            }
            Some(Err(error)) => {
                holders.fetch_failed(number, error.is_unreachable());
                if may_deliver_later(&error) {
                    self.unanswered.push(cell.name());
                }
            }
            None => {
                holders.fetch_failed(number, false);
                self.unanswered.push(cell.name());
            }
        }
        None
    }
}

impl Drop for Race<'_> {
    fn drop(&mut self) {
        for request in &self.running {
            request.cancelled.store(true, Ordering::Relaxed);
            lock(self.holders).fetch_abandoned(request.number);
        }
    }
}

/// Is the cell gone, slow or busy, rather than its copy unreadable?
fn may_deliver_later(error: &CallError) -> bool {
    error.is_unreachable() || error.is_slow() || matches!(error, CallError::Refused { status: 429 | 503, .. })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::client::discover::holder_index::testing;
    use crate::net::client::Timeouts;
    use crate::net::test_server::{TestServer, response};

    const CHUNK: &[u8] = b"the bytes of a chunk";
    const PAUSE: Duration = Duration::from_millis(10);

    /// What requests need.
    struct Client {
        http: Http,
        threads: RequestThreads,
        buffers: Arc<SpareBuffers>,
    }

    impl Client {
        fn new() -> Self {
            let buffers = Arc::new(SpareBuffers::new(1));
            Self { http: Http::new(Timeouts::FETCH, 4, 16), threads: RequestThreads::default(), buffers }
        }

        fn requests(&self) -> Requests<'_> {
            Requests { http: &self.http, threads: &self.threads, buffers: &self.buffers }
        }
    }

    /// The holders of [`CHUNK`], the one that is asked first at the front.
    fn holders(servers: &[&TestServer]) -> Mutex<HolderIndex> {
        let cells: Vec<_> = servers.iter().map(|server| (KnownCell::at(&server.url), &[0][..])).collect();
        Mutex::new(testing::holder_index(&[ChunkId::of(CHUNK)], &cells))
    }

    /// What a get of many quick chunks has learnt.
    fn quick_fetches() -> Hedging {
        let hedging = Hedging::new(8);
        (0..10).for_each(|_| hedging.record(PAUSE));
        hedging
    }

    fn hanging_server() -> TestServer {
        TestServer::answering(|_| {
            thread::park();
            Vec::new()
        })
    }

    #[test]
    fn the_next_holder_is_asked_only_if_one_fails() {
        let good = || TestServer::always(response(200, CHUNK));
        let (client, hedging) = (Client::new(), quick_fetches());
        let failing = |status| TestServer::always(response(status, b""));
        let servers = [failing(404), failing(500), failing(503), good(), good()];
        let holders = holders(&servers.each_ref());
        let mut race = Race::new(client.requests(), &holders, &hedging, 0, ChunkId::of(CHUNK));
        let (bytes, cell) = race.next_copy().unwrap();
        assert_eq!((bytes.as_slice(), &cell.url), (CHUNK, &servers[3].url));
        let unanswered: Vec<String> = race.unanswered().into_iter().map(|cell| cell.url).collect();
        let message = "the first one does not have it, and the second cannot read it";
        assert_eq!(unanswered, [servers[2].url.clone()], "{message}");
        assert_eq!(servers.each_ref().map(|server| server.calls().len()), [1, 1, 1, 1, 0]);
    }

    #[test]
    fn a_late_holder_is_raced_once_and_asked_last_from_then_on() {
        let (client, hedging) = (Client::new(), quick_fetches());
        let [first, second] = [hanging_server(), hanging_server()];
        let good = TestServer::always(response(200, CHUNK));
        let holders = holders(&[&first, &good, &second]);
        let mut race = Race::new(client.requests(), &holders, &hedging, 0, ChunkId::of(CHUNK));
        let (bytes, cell) = race.next_copy().unwrap();
        assert_eq!((bytes.as_slice(), &cell.url), (CHUNK, &good.url));
        assert_eq!(race.running.len(), 1, "the late one is still in progress");
        assert_eq!([&first, &good, &second].map(|server| server.calls().len()), [1, 1, 0]);
        let cancelled = Arc::clone(&race.running[0].cancelled);
        drop(race);
        assert!(cancelled.load(Ordering::Relaxed), "it ends at the next byte");
        let asked = lock(&holders).begin_fetch(0, &[1]).unwrap().1;
        assert_eq!(asked.url, second.url, "of those that did not deliver, the late one is last");
    }

    #[test]
    fn a_late_holder_is_not_raced_without_a_permit() {
        let (client, hedging) = (Client::new(), quick_fetches());
        let permits: Vec<_> = std::iter::from_fn(|| hedging.permit()).take(100).collect();
        let chunk_after_a_while = TestServer::answering(move |_| {
            thread::sleep(Duration::from_millis(1500));
            response(200, CHUNK)
        });
        let other = TestServer::always(response(200, CHUNK));
        let holders = holders(&[&chunk_after_a_while, &other]);
        let mut race = Race::new(client.requests(), &holders, &hedging, 0, ChunkId::of(CHUNK));
        assert_eq!(race.next_copy().unwrap().1.url, chunk_after_a_while.url);
        assert!(other.calls().is_empty());
        drop(permits);
    }

    #[test]
    fn a_holder_below_the_minimum_rate_is_used_if_all_others_fail() {
        let (client, hedging) = (Client::new(), Hedging::new(8));
        let slow = TestServer::trickling(100, PAUSE);
        let good = TestServer::always(response(200, CHUNK));
        let bad = TestServer::always(response(404, b""));
        for (other, served_by, requests) in [(&good, &good, 1), (&bad, &slow, 2)] {
            let before = slow.calls().len();
            let holders = holders(&[&slow, other]);
            let mut race = Race::new(client.requests(), &holders, &hedging, 0, ChunkId::of(CHUNK));
            race.min_rate = MinRate::new(100, 5 * PAUSE);
            let (bytes, cell) = race.next_copy().unwrap();
            assert_eq!(&cell.url, &served_by.url);
            assert_eq!(bytes.len(), if served_by.url == slow.url { 100 } else { CHUNK.len() });
            assert_eq!((slow.calls().len() - before, other.calls().len()), (requests, 1));
        }
    }
}
