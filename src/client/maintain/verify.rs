//! Verifying copies: cells re-hash their own, several cells at a time. From cells that cannot, the copies are fetched
//! and hashed here.

// A shell: it waits before it repeats a call.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::client::bad_copy::BadCopy;
use crate::client::discover::colony::{CellName, KnownCell};
use crate::client::discover::holder_index::HolderIndex;
use crate::client::error::ClientError;
use crate::client::notice::Notice;
use crate::client::progress::{Progress, StopSignal};
use crate::client::workers::{ReceiverGone, Results, STOP_CHECK_INTERVAL, spawn_workers};
use crate::id::ChunkId;
use crate::net::client::{CHUNK_MIN_RATE, CallError, Http, TransferLimits};
use crate::wire::id_lists::MAX_VERIFY_IDS;

/// Cells that hash at the same time.
const MAX_PARALLEL_CELLS: usize = 16;
/// How many times a call is made before the copies on its cell count as unverified.
const MAX_ATTEMPTS: u32 = 3;
/// Pause between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The result of a verification.
pub(in crate::client) struct Verified {
    /// Bad copies, by chunk and cell.
    pub(in crate::client) bad_copies: Vec<BadCopy>,
    /// Cells that did not respond to the end.
    pub(in crate::client) unresponsive: Vec<CellName>,
}

/// A copy on the cell that is verified: the position of the chunk in its manifest, and the chunk.
type IndexedCopy = (usize, ChunkId);

#[derive(Debug, Clone, PartialEq, Eq)]
enum CopyState {
    Good,
    /// Bad, with the hash of its bytes if they were seen here.
    Bad(Option<ChunkId>),
    /// The cell has removed it since the query.
    Gone,
}

/// What a worker reports of a cell.
enum VerifyEvent {
    Verified {
        cell: usize,
        copies: Vec<(usize, CopyState)>,
    },
    /// The copies of this chunk and of later ones could not be verified.
    Failed {
        cell: usize,
        from: usize,
        error: CallError,
    },
}

/// Verifies all copies in the index, and removes from it those that are bad or could not be verified.
pub(in crate::client) fn verify_copies(
    http: &Http,
    holders: &mut HolderIndex,
    ids: &[ChunkId],
    progress: &dyn Progress,
    stop: &StopSignal,
) -> Result<Verified, ClientError> {
    let cells: Vec<CellName> = holders.cells().map(KnownCell::name).collect();
    progress.total(Some(holders.total_copies() as u64));
    let events = start(http, holders, ids, stop);
    let mut verified = Verified { bad_copies: Vec::new(), unresponsive: Vec::new() };
    loop {
        if stop.is_set() {
            return Err(ClientError::Stopped);
        }
        match events.recv_timeout(STOP_CHECK_INTERVAL) {
            Ok(VerifyEvent::Verified { cell, copies }) => {
                progress.advance(copies.len() as u64, 0);
                for (index, state) in copies {
                    if state != CopyState::Good {
                        holders.remove_copy(cell, index);
                    }
                    if let (CopyState::Bad(found), Some(&chunk), Some(name)) = (state, ids.get(index), cells.get(cell))
                    {
                        verified.bad_copies.push(BadCopy { chunk, index, cell: name.clone(), found });
                    }
                }
            }
            Ok(VerifyEvent::Failed { cell, from, error }) => {
                let unverified: Vec<usize> = holders.chunks_of(cell).filter(|&index| index >= from).collect();
                progress.advance(unverified.len() as u64, 0);
                for index in unverified {
                    holders.remove_copy(cell, index);
                }
                progress.notice(&Notice::CopiesUnverified { error });
                verified.unresponsive.extend(cells.get(cell).cloned());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    verified.bad_copies.sort_by(|a, b| (a.index, &a.cell).cmp(&(b.index, &b.cell)));
    Ok(verified)
}

fn start(http: &Http, holders: &HolderIndex, ids: &[ChunkId], stop: &StopSignal) -> Receiver<VerifyEvent> {
    let (sender, events) = channel();
    let cells: Vec<KnownCell> = holders.cells().cloned().collect();
    let workers = cells.len().min(MAX_PARALLEL_CELLS);
    let (http, holders, ids, stop) = (http.clone(), holders.clone(), ids.to_vec(), stop.clone());
    spawn_workers(workers, cells.into_iter().enumerate(), &sender, move |(number, cell), results| {
        let copies = holders.chunks_of(number).filter_map(|index| Some((index, *ids.get(index)?)));
        CellVerifier { http: &http, url: &cell.url, number, results, stop: &stop }.run(copies)
    });
    events
}

/// Verifies the copies of one cell.
struct CellVerifier<'a> {
    http: &'a Http,
    url: &'a str,
    number: usize,
    results: &'a Results<VerifyEvent>,
    stop: &'a StopSignal,
}

impl CellVerifier<'_> {
    fn run(&self, copies: impl Iterator<Item = IndexedCopy>) -> Result<(), ReceiverGone> {
        let mut copies = copies.peekable();
        let Some(&(first, _)) = copies.peek() else { return Ok(()) };
        let failed = |from, error| VerifyEvent::Failed { cell: self.number, from, error };
        let mut can_verify = match self.retry(|| self.http.supports_verify(self.url)) {
            Ok(can_verify) => can_verify,
            Err(error) => return self.results.send(failed(first, error)),
        };
        while !self.stop.is_set() {
            let batch: Vec<IndexedCopy> = copies.by_ref().take(MAX_VERIFY_IDS).collect();
            let Some(&(from, _)) = batch.first() else { break };
            match self.verify(&batch, &mut can_verify) {
                Ok(copies) => self.results.send(VerifyEvent::Verified { cell: self.number, copies })?,
                Err(error) => return self.results.send(failed(from, error)),
            }
        }
        Ok(())
    }

    fn verify(&self, batch: &[IndexedCopy], can_verify: &mut bool) -> Result<Vec<(usize, CopyState)>, CallError> {
        if *can_verify && let Some(states) = self.verify_on_cell(batch)? {
            return Ok(states);
        }
        *can_verify = false;
        batch.iter().map(|(index, id)| Ok((*index, self.fetch_and_hash(id)?))).collect()
    }

    /// `None` if the cell does not support this.
    fn verify_on_cell(&self, batch: &[IndexedCopy]) -> Result<Option<Vec<(usize, CopyState)>>, CallError> {
        let ids: Vec<ChunkId> = batch.iter().map(|(_, id)| *id).collect();
        let mut good = BTreeSet::new();
        let result = self.retry(|| {
            self.http.verify(self.url, &ids, &mut |id| {
                good.insert(id);
            })
        });
        match result {
            Ok(false) => return Ok(None),
            // One of them is unreadable. Verifying each alone shows which.
            Err(error) if is_unreadable(&error) && batch.len() > 1 => {
                let each = batch.iter().map(|copy| self.verify_on_cell(std::slice::from_ref(copy)));
                return each.collect::<Result<Option<Vec<_>>, _>>().map(|states| Some(states?.concat()));
            }
            Err(error) if !is_unreadable(&error) => return Err(error),
            Ok(true) | Err(_) => {}
        }
        let state = |id| if good.contains(id) { CopyState::Good } else { CopyState::Bad(None) };
        Ok(Some(batch.iter().map(|(index, id)| (*index, state(id))).collect()))
    }

    fn fetch_and_hash(&self, id: &ChunkId) -> Result<CopyState, CallError> {
        // The copies of a cell that is slower remain unverified: each could take ten minutes.
        let limits = TransferLimits { min_rate: Some(CHUNK_MIN_RATE), ..TransferLimits::default() };
        Ok(match self.retry(|| self.http.get_chunk_within(self.url, id, 0, &limits)) {
            Ok(None) => CopyState::Gone,
            Ok(Some(bytes)) => match ChunkId::of(&bytes) {
                found if found == *id => CopyState::Good,
                found => CopyState::Bad(Some(found)),
            },
            Err(error) if is_unreadable(&error) => CopyState::Bad(None),
            Err(error) => return Err(error),
        })
    }

    /// Repeats a call that failed, unless it failed because a copy is unreadable.
    fn retry<T>(&self, mut call: impl FnMut() -> Result<T, CallError>) -> Result<T, CallError> {
        for _ in 1..MAX_ATTEMPTS {
            match call() {
                Err(error) if !is_unreadable(&error) && !self.stop.is_set() => thread::sleep(RETRY_INTERVAL),
                result => return result,
            }
        }
        call()
    }
}

/// Did the cell fail to read the copy from its disk?
pub(in crate::client) fn is_unreadable(error: &CallError) -> bool {
    matches!(error, CallError::Refused { status: 500, .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::discover::holder_index::testing;
    use crate::client::fixtures::{NoProgress, cell_at};
    use crate::net::client::Timeouts;
    use crate::net::test_server::TestServer;
    use crate::wire::id_lists::write_ids;

    const VERIFY: &str = "POST /chunks/have?verify=1";

    /// Verifies the copies of one cell. Returns the bad ones, the positions of those that still count, and the number
    /// of unresponsive cells.
    fn verify(server: &TestServer, ids: &[ChunkId]) -> (Vec<BadCopy>, Vec<usize>, usize) {
        let all: Vec<usize> = (0..ids.len()).collect();
        let mut holders = testing::holder_index(ids, &[(cell_at(&server.url), &all)]);
        let http = Http::new(Timeouts::PROBE, 1, 4);
        let verified = verify_copies(&http, &mut holders, ids, &NoProgress, &StopSignal::default()).unwrap();
        (verified.bad_copies, holders.chunks_of(0).collect(), verified.unresponsive.len())
    }

    fn ids(count: usize) -> Vec<ChunkId> {
        (0..count).map(|n| ChunkId::of(format!("chunk {n}").as_bytes())).collect()
    }

    #[test]
    fn copies_that_the_cell_does_not_confirm_are_bad() {
        let ids = ids(MAX_VERIFY_IDS + 4);
        let (first, second) = ids.split_at(MAX_VERIFY_IDS);
        let responses = [(413, String::new()), (200, write_ids(&first[1..])), (200, write_ids(second))];
        let server = TestServer::scripted(&[(VERIFY, &responses)]);
        let (bad, counted, unresponsive) = verify(&server, &ids);
        assert_eq!(
            bad.iter().map(|copy| (copy.index, copy.chunk, copy.found)).collect::<Vec<_>>(),
            [(0, ids[0], None)]
        );
        assert_eq!((counted, unresponsive), ((1..ids.len()).collect(), 0));
        assert_eq!(server.calls(), [VERIFY; 3], "in two batches");
    }

    #[test]
    fn an_unreadable_copy_does_not_make_its_batch_bad() {
        let ids = ids(3);
        let good = |n: usize| (200, write_ids(&ids[n..=n]));
        let failed = (500, String::new());
        let responses = [(413, String::new()), failed.clone(), good(0), failed.clone(), good(2)];
        let (bad, counted, unresponsive) = verify(&TestServer::scripted(&[(VERIFY, &responses)]), &ids);
        assert_eq!(bad.iter().map(|copy| copy.index).collect::<Vec<_>>(), [1]);
        assert_eq!((counted, unresponsive), (vec![0, 2], 0));
        let [first, second] = [0, 1].map(|n| format!("GET /chunk/{}", ids[n]));
        let responses = [(&*first, &[failed][..]), (&*second, &[(200, "chunk 1".into())])];
        let (bad, counted, _) = verify(&TestServer::scripted(&responses), &ids[..2]);
        assert_eq!((bad.len(), counted), (1, vec![1]));
    }

    /// A cell of the first version ignores the query and lists what it holds, whatever the bytes are.
    #[test]
    fn copies_on_a_first_version_cell_are_fetched_and_hashed() {
        let ids = ids(3);
        let gets: Vec<String> = ids.iter().map(|id| format!("GET /chunk/{id}")).collect();
        let server = TestServer::scripted(&[
            (VERIFY, &[(200, write_ids(&ids))]),
            (&gets[0], &[(200, "chunk 0".into())]),
            (&gets[1], &[(200, "chunk x".into())]),
        ]);
        let (bad, counted, unresponsive) = verify(&server, &ids);
        let found = Some(ChunkId::of(b"chunk x"));
        assert_eq!(bad.iter().map(|copy| (copy.index, copy.found)).collect::<Vec<_>>(), [(1, found)]);
        assert_eq!((counted, unresponsive), (vec![0], 0), "chunk 2 was removed in the meantime");
    }

    #[test]
    fn a_busy_cell_is_retried_and_does_not_count_if_it_stays_busy() {
        let ids = ids(MAX_VERIFY_IDS + 1);
        let (first, second) = ids.split_at(MAX_VERIFY_IDS);
        let all = (0..ids.len()).collect::<Vec<_>>();
        let busy = (503, String::new());
        let (first, second) = ((200, write_ids(first)), (200, write_ids(second)));
        let responses = [(400, String::new()), busy.clone(), first.clone(), busy.clone(), second];
        assert_eq!(verify(&TestServer::scripted(&[(VERIFY, &responses)]), &ids), (vec![], all.clone(), 0));
        let responses = [(400, String::new()), first, busy];
        let expected = (vec![], all[..MAX_VERIFY_IDS].to_vec(), 1);
        assert_eq!(verify(&TestServer::scripted(&[(VERIFY, &responses)]), &ids), expected);
    }
}
