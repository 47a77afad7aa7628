//! Who has which chunk of a manifest, looked at thoroughly: every cell is waited for, and on demand every copy is
//! re-hashed where it is.

use std::collections::BTreeSet;

use crate::client::discover::find_cells::find_cells;
use crate::client::discover::holder_index::HolderIndex;
use crate::client::discover::query::{Wait, ask_all};
use crate::client::get::download::search;
use crate::client::maintain::check::CheckOptions;
use crate::client::maintain::copy_counts::{CopyCounts, tally};
use crate::client::maintain::verify::verify;
use crate::client::{BadCopy, CellName, ClientError, KnownCell, Progress, StopSignal};
use crate::id::ChunkId;
use crate::net::client::{Http, Timeouts};

/// When so many chunks without a holder are not found by searching either, the others are not searched for.
const MAX_VAIN_SEARCHES: usize = 4;

/// What was found.
pub(in crate::client) struct Survey {
    /// Who has what, without copies that are bad.
    pub(in crate::client) holders: HolderIndex,
    /// Chunks that only a cell has which does not answer here; others reach it.
    pub(in crate::client) beyond: BTreeSet<usize>,
    /// Copies that were found to be bad.
    pub(in crate::client) bad: Vec<BadCopy>,
    /// Cells that are there and did not answer, or not to the end.
    pub(in crate::client) unheard: Vec<CellName>,
}

impl Survey {
    /// Finds the cells and asks them for these chunks.
    pub(in crate::client) fn take(
        http: &Http,
        ids: &[ChunkId],
        options: &CheckOptions,
        progress: &dyn Progress,
        stop: &StopSignal,
    ) -> Result<Self, ClientError> {
        let cells = find_cells(http, &options.scope, usize::MAX)?;
        let answers = ask_all(&http.with_timeouts(Timeouts::FETCH), &cells, ids, Wait::ForAll(stop));
        if stop.is_set() {
            return Err(ClientError::Stopped);
        }
        let unheard = cells.iter().zip(&answers).filter(|(_, answer)| answer.as_ref().is_none_or(|it| !it.whole));
        let mut unheard: Vec<CellName> = unheard.map(|(cell, _)| cell.name()).collect();
        let mut holders = HolderIndex::new(&cells, answers, ids.len());
        if holders.answering() == 0 {
            return Err(ClientError::none_responding(&options.scope, cells.len()));
        }
        let mut bad = Vec::new();
        if options.deep {
            let (found, lost) = verify(http, &mut holders, ids, progress, stop)?;
            bad = found;
            unheard.extend(lost);
        }
        let beyond = search_for_missing(http, &holders, ids, stop);
        Ok(Self { holders, beyond, bad, unheard })
    }

    /// Counts the copies.
    pub(in crate::client) fn tally(&self, chunks: usize, wanted: usize) -> CopyCounts {
        let bad = self.bad.iter().map(|copy| copy.index).collect();
        tally(&self.holders, chunks, wanted, &self.beyond, &bad)
    }
}

/// Cells that we do not know of may have what is missing: a get would find it.
fn search_for_missing(http: &Http, holders: &HolderIndex, ids: &[ChunkId], stop: &StopSignal) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut in_vain = 0;
    for index in holders.missing() {
        let Some(id) = ids.get(index).filter(|_| in_vain < MAX_VAIN_SEARCHES && !stop.is_set()) else { break };
        let entries: Vec<KnownCell> = holders.entries();
        let is_good = |bytes: Vec<u8>, _| ChunkId::of(&bytes) == *id;
        if search(http, entries, id, is_good).unwrap_or_default() {
            found.insert(index);
        } else {
            in_vain += 1;
        }
    }
    found
}
