//! Extra copies: a cell with a full store removes a local copy of an over-replicated chunk.
//!
//! It does so only if as many cells as the chunk must have copies rank before it, and each of them has just proved its
//! copy in an audit. While it does not know how many copies that are, it removes none. The cells that rank first never
//! find enough cells before them. So enough copies stay, however many cells do this at the same time, and whatever
//! their replica maps contain.

use std::net::SocketAddr;

use crate::cell::context::Context;
use crate::cell::rank;
use crate::cell::replicas::map::ReplicaMap;
use crate::id::{CellId, ChunkId};
use crate::time::Time;

/// Minimum interval between two searches, in milliseconds.
const SEARCH_INTERVAL_MS: u64 = 5_000;
/// Number of chunks in one search.
const SEARCH_CHUNKS: usize = 1000;

/// A chunk whose copies are being proved.
#[derive(Debug)]
struct Candidate {
    chunk: ChunkId,
    /// Cells that have not proved their copy yet.
    unproved: Vec<CellId>,
}

#[derive(Debug, Default)]
pub(super) struct ExtraCopies {
    next_search: Time,
    /// The last chunk of the previous search; `None` before the first chunk.
    cursor: Option<ChunkId>,
    candidate: Option<Candidate>,
}

impl ExtraCopies {
    /// Searches for a local copy that may be an extra one, if a search is due and none is being proved.
    pub(super) fn find(&mut self, context: &Context, replicas: &ReplicaMap) {
        if self.candidate.is_some() || context.now < self.next_search {
            return;
        }
        self.next_search = context.now.plus_ms(SEARCH_INTERVAL_MS);
        let (mut last, mut count) = (None, 0);
        for (id, chunk) in replicas.after(self.cursor.as_ref(), SEARCH_CHUNKS) {
            (last, count) = (Some(*id), count + 1);
            let Some(enough) = chunk.enough().map(usize::from) else { continue };
            let mine = rank::draw(id, &context.id);
            let mut before: Vec<(u64, CellId)> = replicas
                .holders_of(chunk)
                .filter(|cell| context.counts_copies_on(cell) && context.address_of(cell).is_some())
                .map(|cell| (rank::draw(id, &cell), cell))
                .filter(|(drawn, _)| *drawn > mine)
                .collect();
            if before.len() >= enough {
                before.sort_unstable();
                let first = before.into_iter().rev().take(enough);
                self.candidate = Some(Candidate { chunk: *id, unproved: first.map(|(_, cell)| cell).collect() });
                break;
            }
        }
        self.cursor = if self.candidate.is_some() || count == SEARCH_CHUNKS { last } else { None };
    }

    /// The copy to audit next, with its cell and the cell's address. If there is none, the candidate is dropped.
    pub(super) fn next_audit(
        &mut self,
        context: &Context,
        replicas: &ReplicaMap,
    ) -> Option<(ChunkId, CellId, SocketAddr)> {
        let candidate = self.candidate.as_ref()?;
        let chunk = candidate.chunk;
        let cell = candidate.unproved.first().copied().filter(|_| replicas.contains(&chunk));
        let next = cell.and_then(|cell| Some((chunk, cell, context.address_of(&cell)?)));
        if next.is_none() {
            self.candidate = None;
        }
        next
    }

    /// A cell has proved its copy. Returns the chunk whose local copy can be removed, if all have.
    pub(super) fn proved(&mut self, now: Time, cell: CellId) -> Option<ChunkId> {
        let candidate = self.candidate.as_mut()?;
        candidate.unproved.retain(|holder| *holder != cell);
        let chunk = candidate.chunk;
        if !candidate.unproved.is_empty() {
            return None;
        }
        self.candidate = None;
        self.next_search = now;
        Some(chunk)
    }

    /// A cell has not proved its copy.
    pub(super) fn cancel(&mut self) {
        self.candidate = None;
    }
}
