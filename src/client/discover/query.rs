//! Queries to many cells at the same time: any call, or which chunks of a manifest they hold.

// A shell: it measures how quickly cells respond.
#![allow(clippy::disallowed_methods)]

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::client::discover::chunk_set::{ChunkPositions, ChunkSet};
use crate::client::discover::colony::KnownCell;
use crate::client::progress::StopSignal;
use crate::client::workers::{STOP_CHECK_INTERVAL, scoped_map, spawn_workers};
use crate::id::ChunkId;
use crate::net::client::Http;

/// Cells queried at the same time.
const MAX_PARALLEL_CELLS: usize = 32;
/// With [`WaitFor::Holders`], how long to wait for the other cells once every chunk has a holder: one hung cell must
/// not delay all chunks.
const LATE_RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes a call to every cell and waits for all of them. The results are in the order of the cells.
pub fn query_cells<T: Send>(cells: &[KnownCell], call: impl Fn(&KnownCell) -> T + Sync) -> Vec<T> {
    scoped_map(cells, MAX_PARALLEL_CELLS, call)
}

/// Which chunks of a manifest a cell reported to hold.
pub(in crate::client) struct HaveResponse {
    pub(in crate::client) chunks: ChunkSet,
    /// How long the response took, in milliseconds.
    pub(in crate::client) took_ms: f64,
    /// Did the response cover every chunk? If the call failed in the middle, `chunks` has what came before that.
    pub(in crate::client) is_complete: bool,
}

/// Which cells to wait for.
#[derive(Debug, Clone, Copy)]
pub(in crate::client) enum WaitFor<'a> {
    /// Until every chunk has a holder, and a moment longer for the other cells.
    Holders,
    /// For every cell until its timeout, unless the user wants to stop.
    All(&'a StopSignal),
}

/// Asks every cell which of the chunks it holds. The responses are in the order of `cells`; `None` if a cell does not
/// respond, or not in time.
pub(in crate::client) fn query_holders(
    http: &Http,
    cells: &[KnownCell],
    ids: &[ChunkId],
    wait: WaitFor<'_>,
) -> Vec<Option<HaveResponse>> {
    let positions = ChunkPositions::new(ids);
    let unique_ids = positions.unique_ids();
    let (http, chunks) = (http.clone(), ids.len());
    let urls: Vec<String> = cells.iter().map(|cell| cell.url.clone()).collect();
    let (sender, responses) = channel();
    // Not a scoped map: calls to cells that hang are left behind.
    spawn_workers(cells.len().min(MAX_PARALLEL_CELLS), urls.into_iter().enumerate(), &sender, move |job, results| {
        let (number, url) = job;
        let began = Instant::now();
        let mut held = ChunkSet::empty(chunks);
        let result = http.have(&url, &unique_ids, &mut |id| held.insert(&positions, &id));
        let took_ms = began.elapsed().as_secs_f64() * 1000.0;
        let response = HaveResponse { chunks: held, took_ms, is_complete: result.is_ok() };
        let is_useful = response.is_complete || !response.chunks.is_empty();
        results.send((number, is_useful.then_some(response)))
    });
    drop(sender);
    gather(&responses, cells.len(), chunks, wait)
}

fn gather(
    responses: &Receiver<(usize, Option<HaveResponse>)>,
    cells: usize,
    chunks: usize,
    wait: WaitFor<'_>,
) -> Vec<Option<HaveResponse>> {
    let mut gathered: Vec<Option<HaveResponse>> = (0..cells).map(|_| None).collect();
    let mut held = ChunkSet::empty(chunks);
    let mut deadline = None;
    loop {
        let next = match (deadline, wait) {
            (Some(deadline), _) => {
                responses.recv_timeout(Instant::saturating_duration_since(&deadline, Instant::now()))
            }
            (None, WaitFor::All(_)) => responses.recv_timeout(STOP_CHECK_INTERVAL),
            (None, WaitFor::Holders) => responses.recv().map_err(RecvTimeoutError::from),
        };
        let (number, response) = match (next, wait) {
            (Ok(next), _) => next,
            (Err(RecvTimeoutError::Timeout), WaitFor::All(stop)) if !stop.is_set() => continue,
            // All cells have responded, or the wait is over.
            (Err(_), _) => return gathered,
        };
        if let (Some(entry), Some(response)) = (gathered.get_mut(number), response) {
            held.union_with(&response.chunks);
            *entry = Some(response);
        }
        if matches!(wait, WaitFor::Holders) && deadline.is_none() && held.is_full(chunks) {
            deadline = Some(Instant::now() + LATE_RESPONSE_TIMEOUT);
        }
    }
}
