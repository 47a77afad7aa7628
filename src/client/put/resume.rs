//! Continuing an interrupted put: what the colony has of it.

// A shell: it waits until the last copies are written.
#![allow(clippy::disallowed_methods)]

use std::thread;
use std::time::Duration;

use crate::client::discover::colony::KnownCell;
use crate::client::discover::holder_index::HolderIndex;
use crate::client::discover::query::{WaitFor, query_holders};
use crate::client::put::placer::{ChunkCopies, Placer};
use crate::id::ChunkId;
use crate::net::client::{CHUNK_MIN_RATE, Http, TransferLimits};
use crate::pipeline::SealedChunk;

/// Maximum number of times that the cells are asked again while the number of copies still grows.
const MAX_REPEATED_QUERIES: u32 = 10;
/// Pause before each of them.
const QUERY_INTERVAL: Duration = Duration::from_millis(500);

/// The chunks of an interrupted put that the colony holds. Chunks without a copy are not among them: their blocks are
/// sealed again.
pub(in crate::client) struct StoredChunks {
    /// Chunks with enough copies.
    pub(in crate::client) complete: Vec<StoredChunk>,
    /// Chunks that lack copies.
    pub(in crate::client) incomplete: Vec<StoredChunk>,
}

/// A chunk that the colony holds.
pub(in crate::client) struct StoredChunk {
    /// Its number among those that were asked for.
    pub(in crate::client) number: usize,
    pub(in crate::client) id: ChunkId,
    /// Its holders, by the placer's numbers.
    pub(in crate::client) holders: Vec<usize>,
}

/// Asks the cells which of these chunks they hold. `copies` are wanted of each.
pub(in crate::client) fn find_stored_chunks(http: &Http, placer: &Placer, copies: u8, ids: &[ChunkId]) -> StoredChunks {
    let holders = settled_holders(http, placer, copies, ids);
    let mut stored = StoredChunks { complete: Vec::new(), incomplete: Vec::new() };
    for (number, &id) in ids.iter().enumerate() {
        let cells = holders.holders(number);
        let holders: Vec<usize> = cells.filter_map(|(_, cell)| placer.number_of(&cell.url)).collect();
        match holders.len() {
            0 => {}
            copies if placer.is_sufficient(copies) => stored.complete.push(StoredChunk { number, id, holders }),
            _ => stored.incomplete.push(StoredChunk { number, id, holders }),
        }
    }
    stored
}

/// The holders, once the number of copies has stopped growing. Cells may still be writing copies that were on their way
/// when the put was interrupted, and those need not be sent again.
fn settled_holders(http: &Http, placer: &Placer, copies: u8, ids: &[ChunkId]) -> HolderIndex {
    let cells: Vec<KnownCell> = placer.cells().cloned().collect();
    let query = || HolderIndex::new(&cells, query_holders(http, &cells, ids, WaitFor::Holders), ids.len());
    let expected_copies = ids.len() * usize::from(copies).min(placer.accepting());
    let mut holders = query();
    for _ in 0..MAX_REPEATED_QUERIES {
        let before = holders.total_copies();
        if before >= expected_copies {
            break;
        }
        thread::sleep(QUERY_INTERVAL);
        holders = query();
        if holders.total_copies() == before {
            break;
        }
    }
    holders
}

/// Fetches a chunk from the first of its holders, by the placer's numbers, whose copy is good. Copies before that one do
/// not count; those after it are taken at the word of their cells, as in every query. `None` if no copy is good, or all
/// holders are below the minimum rate: then it is quicker to store the block again.
pub(in crate::client) fn fetch_stored_chunk<'a>(
    http: &Http,
    url: impl Fn(usize) -> Option<&'a str>,
    id: ChunkId,
    mut holders: Vec<usize>,
) -> Option<(ChunkCopies, SealedChunk)> {
    let limits = TransferLimits { min_rate: Some(CHUNK_MIN_RATE), ..TransferLimits::default() };
    let (bad, bytes) = holders.iter().enumerate().find_map(|(position, &cell)| {
        let bytes = http.get_chunk_within(url(cell)?, &id, 0, &limits).ok()??;
        (ChunkId::of(&bytes) == id).then_some((position, bytes))
    })?;
    holders.drain(..bad);
    Some((ChunkCopies::stored_on(holders), SealedChunk { id, bytes }))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::net::client::Timeouts;
    use crate::net::test_server::{TestServer, response};

    #[test]
    fn a_holder_below_the_minimum_rate_is_passed_over() {
        // The whole would take hours.
        let slow = TestServer::trickling(1 << 20, Duration::from_millis(10));
        let good = TestServer::always(response(200, b"chunk"));
        let urls = [&slow, &good].map(|server| server.url.clone());
        let (sender, fetched) = channel();
        thread::spawn(move || {
            let http = Http::new(Timeouts::FETCH, 4, 16);
            let url = |cell: usize| urls.get(cell).map(String::as_str);
            sender.send(fetch_stored_chunk(&http, url, ChunkId::of(b"chunk"), vec![0, 1])).unwrap();
        });
        let (_, chunk) = fetched.recv_timeout(Duration::from_mins(1)).unwrap().unwrap();
        assert_eq!(chunk.bytes, b"chunk");
        assert_eq!([&slow, &good].map(|server| server.calls().len()), [1, 1]);
    }
}
