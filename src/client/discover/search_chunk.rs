//! A search for one chunk by the cells, beyond those that the client can reach.

use crate::client::discover::colony::{CellName, KnownCell};
use crate::id::ChunkId;
use crate::net::client::{CHUNK_MIN_RATE, Http, TransferLimits};
use crate::wire::routes::DEFAULT_HOPS;

/// Asks cells, one after the other, to search for a chunk among the cells that they know. The first response decides:
/// `take` gets its bytes, which are not verified, and the cell that sent them. `None` if no cell has the chunk. Cells
/// below the minimum rate are passed over.
pub(in crate::client) fn search_chunk<T>(
    http: &Http,
    cells: Vec<KnownCell>,
    id: &ChunkId,
    mut take: impl FnMut(Vec<u8>, CellName) -> T,
) -> Option<T> {
    let limits = TransferLimits { min_rate: Some(CHUNK_MIN_RATE), ..TransferLimits::default() };
    cells.into_iter().find_map(|cell| {
        let bytes = http.get_chunk_within(&cell.url, id, DEFAULT_HOPS, &limits).ok()??;
        Some(take(bytes, cell.name()))
    })
}

/// Can the cells find a good copy of this chunk?
pub(in crate::client) fn is_found_by_search(http: &Http, cells: Vec<KnownCell>, id: &ChunkId) -> bool {
    search_chunk(http, cells, id, |bytes, _| ChunkId::of(&bytes) == *id).unwrap_or_default()
}
