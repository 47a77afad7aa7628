//! A search of the colony for the holders of a manifest's chunks.

use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

use crate::client::discover::colony::{CellName, ColonyScope, KnownCell};
use crate::client::discover::find_cells::find_cells;
use crate::client::discover::holder_index::HolderIndex;
use crate::client::discover::query::{WaitFor, query_cells, query_holders};
use crate::client::error::ClientError;
use crate::id::ChunkId;
use crate::net::client::{Http, Timeouts};

/// What a search found.
pub(super) struct FoundHolders {
    /// The cells that responded, and their chunks.
    pub(super) holders: HolderIndex,
    /// The cells that responded for every chunk.
    pub(super) responding: Vec<CellName>,
    /// The number of cells that were found and asked.
    pub(super) cells: usize,
}

impl FoundHolders {
    fn none(chunks: usize) -> Self {
        Self { holders: HolderIndex::new(&[], Vec::new(), chunks), responding: Vec::new(), cells: 0 }
    }
}

/// Finds the cells and asks them which chunks they hold, and also those in `known` that were not found. The search for
/// cells may end after `wanted` of them.
pub(super) fn find_holders(
    http: &Http,
    colony: &ColonyScope,
    ids: &[ChunkId],
    wanted: usize,
    known: &[CellName],
) -> Result<FoundHolders, ClientError> {
    let named: Vec<_> = known.iter().map(|cell| KnownCell { id: cell.id, ..KnownCell::at(&cell.url) }).collect();
    // A cell that hangs would delay the search for longer if it was asked for chunks at once.
    let probe = http.with_timeouts(Timeouts::PROBE);
    let responds = |cell: &KnownCell| probe.status(&cell.url).err().is_none_or(|error| !error.is_unreachable());
    let (found, responding) = thread::scope(|scope| {
        // Both take seconds if all cells hang.
        let responding = scope.spawn(|| query_cells(&named, responds));
        (find_cells(http, colony, wanted), responding.join().unwrap_or_default())
    });
    let mut cells = match found {
        // No network, or none any more: the known cells may still be in reach.
        Err(_) if !known.is_empty() => Vec::new(),
        found => found?,
    };
    for (cell, responds) in named.into_iter().zip(responding) {
        if responds && !cells.iter().any(|found| found.name().is_same_cell(&cell.name())) {
            cells.push(cell);
        }
    }
    let responses = query_holders(http, &cells, ids, WaitFor::Holders);
    let complete =
        cells.iter().zip(&responses).filter(|(_, response)| response.as_ref().is_some_and(|r| r.is_complete));
    let responding = complete.map(|(cell, _)| cell.name()).collect();
    Ok(FoundHolders { holders: HolderIndex::new(&cells, responses, ids.len()), responding, cells: cells.len() })
}

/// A search for all holders in the background. If it is dropped, its thread ends with its calls.
pub(super) struct HolderSearch {
    found: Receiver<FoundHolders>,
    chunks: usize,
}

impl HolderSearch {
    /// Starts to search for the cells, and asks also the `known` ones.
    pub(super) fn start(http: &Http, scope: &ColonyScope, ids: &[ChunkId], known: &[CellName]) -> Self {
        let (sender, found) = channel();
        let chunks = ids.len();
        let (http, scope, ids, known) = (http.clone(), scope.clone(), ids.to_vec(), known.to_vec());
        thread::spawn(move || {
            let found = find_holders(&http, &scope, &ids, usize::MAX, &known);
            // Fails if the get has ended.
            drop(sender.send(found.unwrap_or_else(|_| FoundHolders::none(chunks))));
        });
        Self { found, chunks }
    }

    /// The result, once there is one.
    pub(super) fn result(&self) -> Option<FoundHolders> {
        match self.found.try_recv() {
            Ok(found) => Some(found),
            Err(TryRecvError::Empty) => None,
            // The thread panicked.
            Err(TryRecvError::Disconnected) => Some(FoundHolders::none(self.chunks)),
        }
    }
}
