//! A survey: which cells hold which chunks of a manifest. It waits for every cell, and on request has every copy
//! re-hashed on its cell.

use std::collections::BTreeSet;

use crate::client::bad_copy::BadCopy;
use crate::client::discover::colony::{CellName, ColonyScope};
use crate::client::discover::find_cells::find_cells;
use crate::client::discover::holder_index::HolderIndex;
use crate::client::discover::query::{WaitFor, query_holders};
use crate::client::discover::search_chunk::is_found_by_search;
use crate::client::error::ClientError;
use crate::client::maintain::copy_counts::CopyCounts;
use crate::client::maintain::verify::verify_copies;
use crate::client::progress::{Progress, StopSignal};
use crate::id::ChunkId;
use crate::net::client::{Http, Timeouts};

/// After this many searches for missing chunks that found nothing, the others are not searched for.
const MAX_VAIN_SEARCHES: usize = 4;

/// The result of a survey.
pub(in crate::client) struct Survey {
    /// The holders. Copies that are bad or unverified are not in it.
    pub(in crate::client) holders: HolderIndex,
    /// Chunks that only a cell holds which this client does not reach, but other cells do.
    pub(in crate::client) remote: BTreeSet<usize>,
    /// Copies that were found bad.
    pub(in crate::client) bad_copies: Vec<BadCopy>,
    /// Cells that were found and did not respond, or not to the end.
    pub(in crate::client) unresponsive: Vec<CellName>,
}

impl Survey {
    /// An HTTP client for a survey and what follows it, with few connections to each of many cells.
    pub(in crate::client) fn http() -> Http {
        Http::new(Timeouts::STORE, 2, 64)
    }

    /// Finds the cells and asks them for these chunks. If `deep`, every copy is verified.
    pub(in crate::client) fn take(
        http: &Http,
        ids: &[ChunkId],
        scope: &ColonyScope,
        deep: bool,
        progress: &dyn Progress,
        stop: &StopSignal,
    ) -> Result<Self, ClientError> {
        let cells = find_cells(http, scope, usize::MAX)?;
        let responses = query_holders(&http.with_timeouts(Timeouts::FETCH), &cells, ids, WaitFor::All(stop));
        if stop.is_set() {
            return Err(ClientError::Stopped);
        }
        let is_incomplete = responses.iter().map(|response| response.as_ref().is_none_or(|it| !it.is_complete));
        let incomplete = cells.iter().zip(is_incomplete).filter(|(_, is_incomplete)| *is_incomplete);
        let mut unresponsive: Vec<CellName> = incomplete.map(|(cell, _)| cell.name()).collect();
        let mut holders = HolderIndex::new(&cells, responses, ids.len());
        if holders.cell_count() == 0 {
            return Err(ClientError::none_responding(scope, cells.len()));
        }
        let mut bad_copies = Vec::new();
        if deep {
            let verified = verify_copies(http, &mut holders, ids, progress, stop)?;
            bad_copies = verified.bad_copies;
            unresponsive.extend(verified.unresponsive);
        }
        let remote = search_for_missing(http, &holders, ids, stop);
        Ok(Self { holders, remote, bad_copies, unresponsive })
    }

    /// Counts the copies of the surveyed chunks.
    pub(in crate::client) fn count_copies(&self, chunks: usize, wanted: usize) -> CopyCounts {
        let bad = self.bad_copies.iter().map(|copy| copy.index).collect();
        CopyCounts::count(&self.holders, chunks, wanted, &self.remote, &bad)
    }
}

/// Has the cells search for the chunks that are missing. A get would find these copies too.
fn search_for_missing(http: &Http, holders: &HolderIndex, ids: &[ChunkId], stop: &StopSignal) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut vain_searches = 0;
    for index in holders.missing() {
        if vain_searches >= MAX_VAIN_SEARCHES || stop.is_set() {
            break;
        }
        if ids.get(index).is_some_and(|id| is_found_by_search(http, holders.searching_cells(), id)) {
            found.insert(index);
        } else {
            vain_searches += 1;
        }
    }
    found
}
