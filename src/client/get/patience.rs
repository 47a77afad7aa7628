//! How long a get waits for cells that do not respond: which chunks have no good copy now, when to search the colony
//! again, which chunks to request again then, and when a chunk is given up. Pure.
//!
//! ```text
//!  a chunk fails ─▶ Search ─▶ every cell that was seen responds ─▶ Submit ─▶ fails again, twice ─▶ GiveUp
//!                    ▲  └───▶ some cell is silent ─▶ Waiting ─┐
//!                    └─────────── after an interval ──────────┤
//!                                                             └─▶ no chunk was fetched for the whole limit ─▶ GiveUp
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use crate::client::discover::colony::CellName;
use crate::client::get::fetch_pool::FetchJob;
use crate::client::notice::Notice;
use crate::time::Time;

/// How long a get waits by default without any progress. A board restarts in about a minute, and so does an access point.
pub const DEFAULT_PATIENCE: Duration = Duration::from_mins(2);
/// The longest wait that can be asked for. Enough for a restore that runs overnight.
pub const MAX_PATIENCE: Duration = Duration::from_hours(24);

/// Pause between two searches of the colony.
const SEARCH_INTERVAL_MS: u64 = 2_000;
/// If no chunk arrives for this long, the colony is searched although no fetch has failed: cells that hang accept
/// connections, and fetches from them fail one by one after many seconds. Longer than a chunk takes on a slow link.
const STALL_MS: u64 = 10_000;
/// A chunk that no cell has is requested this many times more, each time after a search to which every cell responded:
/// a chunk that moves from one cell to another can escape a search.
const CONFIRMATIONS: u32 = 2;
/// The same for a chunk of which only bad copies were found: copies that are bad stay bad.
const CONFIRMATIONS_IF_BAD: u32 = 1;
/// Maximum number of cells that are remembered. The same as one list of peers may name.
const MAX_SEEN: usize = 4096;

/// What the get does next.
#[derive(Debug)]
pub(super) enum Step {
    /// Search the colony for the holders, and report the result to [`Patience::searched`].
    Search,
    /// Tell the user.
    Notice(Notice),
    /// The chunk has no good copy, or none that can be reached in time.
    GiveUp(FetchJob),
}

/// What follows from the result of a search.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Chunks to request again, from the holders that the search found.
    pub(super) retries: Vec<FetchJob>,
    /// What to tell the user.
    pub(super) notice: Option<Notice>,
}

/// Why a fetch found no good copy.
#[derive(Debug, Clone, Default)]
pub(super) struct Failure {
    /// Holders that did not deliver the chunk, and may do so later.
    pub(super) unanswered: Vec<CellName>,
    /// Was a bad copy found?
    pub(super) has_bad_copy: bool,
}

/// A chunk without a good copy so far.
#[derive(Debug)]
struct Doubt {
    job: FetchJob,
    last_failure: Failure,
    /// Times that no good copy was found.
    failures: u32,
    /// Those of them in a row for which every cell was asked and responded.
    confirmations: u32,
    /// Is the chunk requested again right now?
    is_in_flight: bool,
    /// Has a search ended since it failed?
    is_searched: bool,
}

/// The state of one get.
#[derive(Debug)]
pub(super) struct Patience {
    limit_ms: u64,
    /// Cells that have responded during this get.
    seen: Vec<CellName>,
    /// Those of them that did not respond to the last search.
    silent: Vec<CellName>,
    /// Chunks without a good copy so far, by their positions.
    doubts: BTreeMap<usize, Doubt>,
    last_block: Time,
    /// Since when the get waits; later if a chunk was fetched meanwhile.
    waits_since: Option<Time>,
    is_searching: bool,
    last_search: Option<Time>,
    is_announced: bool,
}

impl Patience {
    /// A get that waits up to `limit` without any progress.
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
            seen: Vec::new(),
            silent: Vec::new(),
            doubts: BTreeMap::new(),
            last_block: Time::default(),
            waits_since: None,
            is_searching: false,
            last_search: None,
            is_announced: false,
        }
    }

    /// Begins, perhaps once more for other chunks: these cells have responded now.
    pub(super) fn begin(&mut self, now: Time, cells: &[CellName]) {
        self.last_block = now;
        self.waits_since = None;
        self.doubts.clear();
        self.responded(cells);
    }

    /// The cells that have responded during this get.
    pub(super) fn seen(&self) -> &[CellName] {
        &self.seen
    }

    /// Records that a chunk was fetched. Returns what to tell the user.
    pub(super) fn fetched(&mut self, now: Time, index: usize) -> Option<Notice> {
        self.last_block = now;
        let was_total = self.is_total_outage();
        self.doubts.remove(&index);
        self.waits_since = (!self.doubts.is_empty()).then_some(now);
        if was_total {
            // Some cell responds, whichever it is. The next search tells.
            self.silent.clear();
        }
        let is_over = self.is_announced && (was_total || self.doubts.is_empty());
        self.is_announced &= !is_over;
        is_over.then_some(Notice::CellsReturned { cells: None })
    }

    /// Records that no good copy of a chunk was found.
    pub(super) fn failed(&mut self, now: Time, job: FetchJob, failure: Failure) {
        self.waits_since.get_or_insert(now);
        let all_asked = self.silent.is_empty() && failure.unanswered.is_empty();
        let doubt = self.doubts.entry(job.index).or_insert_with(|| Doubt {
            job,
            last_failure: Failure::default(),
            failures: 0,
            confirmations: 0,
            is_in_flight: false,
            is_searched: false,
        });
        // The first failure was before any search for this chunk.
        doubt.confirmations = if all_asked && doubt.failures > 0 { doubt.confirmations + 1 } else { 0 };
        doubt.failures = doubt.failures.saturating_add(1);
        (doubt.is_in_flight, doubt.is_searched, doubt.last_failure) = (false, false, failure);
    }

    /// Records which cells responded to a search. `has_holder` tells whether one of them holds the chunk at a position.
    pub(super) fn searched(&mut self, now: Time, responding: &[CellName], has_holder: impl Fn(usize) -> bool) -> News {
        (self.is_searching, self.last_search) = (false, Some(now));
        let returned = self.silent.iter().filter(|cell| is_among(cell, responding)).count();
        self.responded(responding);

        let mut news = News::default();
        if self.is_announced && returned > 0 {
            self.is_announced = false;
            news.notice = Some(Notice::CellsReturned { cells: Some(returned) });
        }
        for (&index, doubt) in self.doubts.iter_mut().filter(|(_, doubt)| !doubt.is_in_flight) {
            let is_news = doubt.failures == 1 || returned > 0 || self.silent.is_empty() || has_holder(index);
            if is_news && !responding.is_empty() {
                doubt.is_in_flight = true;
                news.retries.push(doubt.job.clone());
            } else {
                doubt.is_searched = true;
            }
        }
        news
    }

    /// Records which cells respond.
    fn responded(&mut self, responding: &[CellName]) {
        for cell in responding {
            if let Some(known) = self.seen.iter_mut().find(|known| known.is_same_cell(cell)) {
                // It may have restarted on another port.
                known.clone_from(cell);
            } else if self.seen.len() < MAX_SEEN {
                self.seen.push(cell.clone());
            }
        }
        self.silent = self.seen.iter().filter(|cell| !is_among(cell, responding)).cloned().collect();
    }

    /// What to do at this time, if anything. `oldest` is a chunk that is being fetched.
    pub(super) fn next(&mut self, now: Time, oldest: Option<FetchJob>) -> Option<Step> {
        let lost = self.doubts.values().find(|doubt| doubt.is_lost()).map(|doubt| doubt.job.clone());
        if let Some(job) = lost {
            self.doubts.remove(&job.index);
            return Some(Step::GiveUp(job));
        }
        if now.since_ms(self.last_block) >= self.stall_ms() && oldest.is_some() {
            self.waits_since.get_or_insert(self.last_block);
        }
        let since = self.waits_since?;
        let awaited = self.awaited(oldest).filter(|_| self.last_search.is_some_and(|search| search >= since));
        match awaited {
            Some(job) if now.since_ms(since) >= self.limit_ms => {
                self.doubts.remove(&job.index);
                return Some(Step::GiveUp(job));
            }
            Some(_) if !self.is_announced => {
                self.is_announced = true;
                let (silent, seen, limit_ms) = (self.silent_cells(), self.seen.len(), self.limit_ms);
                return Some(Step::Notice(Notice::WaitingForCells { silent, seen, limit_ms }));
            }
            _ => {}
        }
        let is_urgent = self.is_total_outage() || self.doubts.values().any(|doubt| !doubt.is_in_flight);
        let interval_ms = if is_urgent { SEARCH_INTERVAL_MS } else { self.stall_ms() };
        if !self.is_searching && self.last_search.is_none_or(|search| now.since_ms(search) >= interval_ms) {
            self.is_searching = true;
            return Some(Step::Search);
        }
        None
    }

    /// A stall is noticed in half of a short limit, so that a search can end before the limit.
    fn stall_ms(&self) -> u64 {
        (self.limit_ms / 2).clamp(SEARCH_INTERVAL_MS, STALL_MS)
    }

    /// The number of cells that have responded during this get and do not deliver now.
    pub(super) fn silent_cells(&self) -> usize {
        let unanswered = |cell: &CellName| {
            let parked = self.doubts.values().filter(|doubt| !doubt.is_in_flight);
            { parked }.any(|doubt| is_among(cell, &doubt.last_failure.unanswered))
        };
        self.seen.iter().filter(|cell| is_among(cell, &self.silent) || unanswered(cell)).count()
    }

    /// A chunk that cannot be had before some cell returns.
    fn awaited(&self, oldest: Option<FetchJob>) -> Option<FetchJob> {
        let is_awaited = |doubt: &&Doubt| {
            let some_silent = !self.silent.is_empty() || !doubt.last_failure.unanswered.is_empty();
            !doubt.is_in_flight && some_silent && (doubt.is_searched || doubt.failures > 1)
        };
        let awaited = self.doubts.values().find(is_awaited).map(|doubt| doubt.job.clone());
        awaited.or(oldest.filter(|_| self.is_total_outage()))
    }

    /// Did no cell respond to the last search?
    fn is_total_outage(&self) -> bool {
        !self.silent.is_empty() && self.silent.len() == self.seen.len()
    }
}

impl Doubt {
    fn is_lost(&self) -> bool {
        let needed = if self.last_failure.has_bad_copy { CONFIRMATIONS_IF_BAD } else { CONFIRMATIONS };
        !self.is_in_flight && self.confirmations >= needed
    }
}

fn is_among(cell: &CellName, cells: &[CellName]) -> bool {
    cells.iter().any(|other| cell.is_same_cell(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{CellId, ChunkId};
    use crate::pipeline::Key;

    const SECOND: u64 = 1000;

    fn cell(n: u8) -> CellName {
        CellName { id: Some(CellId::from_bytes([n; 16])), url: format!("http://{n}") }
    }

    fn job(index: usize) -> FetchJob {
        FetchJob { index, id: ChunkId::of(&index.to_le_bytes()), key: Key::generate() }
    }

    /// A get from these cells that waits for up to two minutes, and a clock.
    struct Get {
        patience: Patience,
        now: Time,
    }

    impl Get {
        fn of(cells: &[CellName]) -> Self {
            Self::waiting(DEFAULT_PATIENCE, cells)
        }

        fn waiting(limit: Duration, cells: &[CellName]) -> Self {
            let mut patience = Patience::new(limit);
            patience.begin(Time(0), cells);
            Self { patience, now: Time(0) }
        }

        fn fail(&mut self, index: usize, unanswered: &[CellName]) {
            let failure = Failure { unanswered: unanswered.to_vec(), has_bad_copy: false };
            self.patience.failed(self.now, job(index), failure);
        }

        fn fail_with_bad_copy(&mut self, index: usize) {
            self.patience.failed(self.now, job(index), Failure { unanswered: Vec::new(), has_bad_copy: true });
        }

        /// The next step, in words.
        fn next(&mut self, oldest: Option<FetchJob>) -> String {
            match self.patience.next(self.now, oldest) {
                None => "nothing".to_owned(),
                Some(Step::Search) => "search".to_owned(),
                Some(Step::Notice(notice)) => notice.to_string(),
                Some(Step::GiveUp(job)) => format!("give up {}", job.index),
            }
        }

        /// The positions that are requested again after a search to which these cells responded.
        fn search(&mut self, responding: &[CellName]) -> Vec<usize> {
            self.search_with_holders(responding, &[]).0
        }

        /// The same, when the chunks at the positions `held` have holders; and what the user is told.
        fn search_with_holders(&mut self, responding: &[CellName], held: &[usize]) -> (Vec<usize>, String) {
            let News { retries, notice } = self.patience.searched(self.now, responding, |index| held.contains(&index));
            let notice = notice.map_or_else(String::new, |notice| notice.to_string());
            (retries.iter().map(|job| job.index).collect(), notice)
        }

        fn pass(&mut self, ms: u64) {
            self.now = self.now.plus_ms(ms);
        }
    }

    #[test]
    fn nothing_is_done_while_chunks_arrive() {
        let mut get = Get::of(&[cell(1), cell(2)]);
        for index in 0..100 {
            get.pass(STALL_MS - 1);
            assert_eq!(get.next(Some(job(index))), "nothing");
            assert!(get.patience.fetched(get.now, index).is_none());
        }
    }

    #[test]
    fn a_chunk_that_no_cell_has_is_given_up_after_all_were_asked() {
        let all = [cell(1), cell(2)];
        let mut get = Get::of(&all);
        get.fail(3, &[]);
        for _ in 0..CONFIRMATIONS {
            assert_eq!(get.next(None), "search");
            assert_eq!(get.next(None), "nothing", "one search at a time");
            assert_eq!(get.search(&all), [3]);
            assert_eq!(get.next(Some(job(3))), "nothing");
            get.fail(3, &[]);
            get.pass(SEARCH_INTERVAL_MS);
        }
        assert_eq!(get.next(None), "give up 3");
        assert!(get.now < Time(5 * SECOND), "{:?}", get.now);
    }

    #[test]
    fn bad_copies_are_confirmed_once() {
        let mut get = Get::of(&[cell(1)]);
        get.fail_with_bad_copy(0);
        assert_eq!(get.next(None), "search");
        assert_eq!(get.search(&[cell(1)]), [0]);
        get.fail_with_bad_copy(0);
        assert_eq!(get.next(None), "give up 0");
    }

    #[test]
    fn an_outage_of_all_cells_is_waited_out() {
        let all = [cell(1), cell(2)];
        let mut get = Get::of(&all);
        get.fail(0, &all);
        get.fail(1, &all);
        assert_eq!(get.next(None), "search");
        assert!(get.search(&[]).is_empty(), "there is no cell to ask");
        assert_eq!(get.next(None), "no cell responds; waiting up to 2 min");
        for _ in 0..58 {
            assert_eq!(get.next(None), "nothing", "it is said once");
            get.pass(SEARCH_INTERVAL_MS);
            assert_eq!(get.next(None), "search");
            assert!(get.search(&[]).is_empty());
        }
        let (retries, notice) = get.search_with_holders(&all, &[0, 1]);
        assert_eq!((retries, notice.as_str()), (vec![0, 1], "2 cells respond again; continuing"));
        assert!(get.patience.fetched(get.now, 0).is_none(), "it was said already");
        assert!(get.patience.fetched(get.now, 1).is_none());
        assert_eq!(get.next(None), "nothing");
    }

    #[test]
    fn the_wait_ends_when_nothing_arrives_for_the_limit() {
        let all = [cell(1), cell(2)];
        let mut get = Get::of(&all);
        get.pass(30 * SECOND);
        get.fail(0, &all);
        assert_eq!(get.next(None), "search");
        get.search(&[]);
        assert!(get.next(None).starts_with("no cell responds"));
        get.pass(119 * SECOND);
        assert_eq!(get.next(None), "search");
        get.search(&[]);
        assert_eq!(get.next(None), "nothing");
        get.pass(SECOND);
        assert_eq!(get.patience.silent_cells(), 2);
        assert_eq!(get.next(None), "give up 0", "two minutes after the failure, not after the start");
    }

    #[test]
    fn a_chunk_that_arrives_begins_the_wait_anew() {
        let all = [cell(1), cell(2)];
        let mut get = Get::of(&all);
        get.fail(0, &[cell(2)]);
        assert_eq!(get.next(Some(job(1))), "search");
        assert_eq!(get.search(&all[..1]), [0], "the first search is news");
        get.fail(0, &[]);
        let waiting = "1 of 2 cells does not respond, and no other has a good copy of a chunk; waiting up to 2 min";
        assert_eq!(get.next(Some(job(1))), waiting);
        get.pass(119 * SECOND);
        assert!(get.patience.fetched(get.now, 1).is_none(), "chunk 0 is still awaited");
        assert_eq!(get.next(None), "search");
        assert!(get.search(&all[..1]).is_empty(), "the cell that responds has been asked");
        get.pass(119 * SECOND);
        assert_eq!(get.next(None), "search");
        get.search(&all[..1]);
        get.pass(SECOND);
        assert_eq!(get.next(None), "give up 0");
    }

    #[test]
    fn a_holder_that_returned_is_asked_at_once() {
        let all = [cell(1), cell(2)];
        let mut get = Get::of(&all);
        get.fail(0, &[cell(2)]);
        get.next(None);
        get.search(&all[..1]);
        get.fail(0, &[]);
        assert!(get.next(None).contains("waiting"));
        get.pass(SEARCH_INTERVAL_MS);
        assert_eq!(get.next(None), "search");
        // It restarted on another port.
        let moved = CellName { url: "http://elsewhere".to_owned(), ..cell(2) };
        let (retries, notice) = get.search_with_holders(&[cell(1), moved], &[0]);
        assert_eq!((retries, notice.as_str()), (vec![0], "1 cell responds again; continuing"));
        assert_eq!(get.patience.seen().len(), 2);
        // It lost the chunk.
        for _ in 0..CONFIRMATIONS - 1 {
            get.fail(0, &[]);
            get.pass(SEARCH_INTERVAL_MS);
            assert_eq!(get.next(None), "search");
            assert_eq!(get.search(&all), [0]);
        }
        get.fail(0, &[]);
        assert_eq!(get.next(None), "give up 0");
    }

    #[test]
    fn a_holder_that_responds_but_does_not_deliver_is_awaited() {
        let all = [cell(1), cell(2)];
        let mut get = Get::of(&all);
        get.fail(0, &all[..1]);
        for attempt in 0..50 {
            assert_eq!(get.next(None), "search");
            assert_eq!(get.search(&all), [0]);
            get.fail(0, &all[..1]);
            if attempt == 0 {
                assert!(get.next(None).starts_with("1 of 2 cells does not respond"));
            }
            get.pass(SEARCH_INTERVAL_MS);
        }
        assert_eq!(get.next(None), "search");
        assert_eq!(get.search(&all), [0]);
        let notice = get.patience.fetched(get.now, 0).unwrap().to_string();
        assert_eq!(notice, "cells respond again; continuing");
    }

    #[test]
    fn cells_that_hang_are_noticed_before_their_fetches_fail() {
        let all = [cell(1), cell(2)];
        let mut get = Get::of(&all);
        get.pass(STALL_MS);
        assert_eq!(get.next(Some(job(7))), "search");
        assert!(get.search(&[]).is_empty());
        assert!(get.next(Some(job(7))).starts_with("no cell responds"));
        get.pass(SEARCH_INTERVAL_MS);
        assert_eq!(get.next(Some(job(7))), "search");
        // The fetch goes on when the cells do, before the search ends.
        assert_eq!(get.patience.fetched(get.now, 7).unwrap().to_string(), "cells respond again; continuing");
        assert_eq!(get.search_with_holders(&all, &[]), (Vec::new(), String::new()));
        // Another outage is another message.
        get.pass(STALL_MS);
        assert_eq!(get.next(Some(job(8))), "search");
        get.search(&[]);
        assert!(get.next(Some(job(8))).starts_with("no cell responds"));

        let mut get = Get::of(&all);
        get.pass(STALL_MS);
        assert_eq!(get.next(Some(job(7))), "search");
        get.search(&[]);
        assert!(get.next(Some(job(7))).starts_with("no cell responds"));
        get.pass(120 * SECOND);
        assert_eq!(get.next(Some(job(7))), "give up 7");
    }

    #[test]
    fn a_slow_chunk_is_not_given_up_while_its_cells_respond() {
        let all = [cell(1), cell(2)];
        let mut get = Get::of(&all);
        for _ in 0..50 {
            get.pass(STALL_MS);
            assert_eq!(get.next(Some(job(0))), "search");
            assert!(get.search(&all).is_empty());
            assert_eq!(get.next(Some(job(0))), "nothing");
        }
    }

    #[test]
    fn without_patience_one_search_decides() {
        let all = [cell(1), cell(2)];
        let mut get = Get::waiting(Duration::ZERO, &all);
        get.fail(0, &all);
        assert_eq!(get.next(None), "search");
        get.search(&[]);
        assert_eq!(get.next(None), "give up 0");

        let mut get = Get::waiting(Duration::ZERO, &all);
        get.fail(0, &all[..1]);
        assert_eq!(get.next(None), "search");
        assert_eq!(get.search(&all[1..]), [0], "the other cell is asked again");
        get.fail(0, &[]);
        get.pass(1);
        get.patience.fetched(get.now, 1);
        assert_eq!(get.next(None), "nothing", "cells may have returned since the search");
        get.pass(SEARCH_INTERVAL_MS);
        assert_eq!(get.next(None), "search");
        get.search(&all[1..]);
        assert_eq!(get.next(None), "give up 0");
    }

    /// Goal: a short limit bounds the whole silence, also if no fetch fails. Method: no chunk arrives for the limit.
    #[test]
    fn the_limit_counts_from_the_last_chunk() {
        for limit in [5, 20, 120] {
            let mut get = Get::waiting(Duration::from_secs(limit), &[cell(1)]);
            get.pass(3 * SECOND);
            assert!(get.patience.fetched(get.now, 0).is_none());
            let silent_since = get.now;
            while get.next(Some(job(1))) == "nothing" {
                get.pass(100);
            }
            assert!(get.now.since_ms(silent_since) <= (limit * SECOND / 2).min(STALL_MS), "{limit}: {:?}", get.now);
            get.pass(SECOND);
            get.search(&[]);
            assert_eq!(
                get.next(Some(job(1))),
                format!("no cell responds; waiting up to {}", crate::human::duration(limit * SECOND))
            );
            while !get.next(Some(job(1))).starts_with("give up") {
                get.pass(100);
                if get.patience.is_searching {
                    get.search(&[]);
                }
            }
            assert_eq!(get.now.since_ms(silent_since), limit * SECOND);
        }
    }
}
