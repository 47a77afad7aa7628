//! Finding the cells of a colony: by broadcast, or from cells that the user named.

use crate::client::discover::broadcast::probe;
use crate::client::discover::colony::{ColonyScope, KnownCell};
use crate::client::discover::found_cells::{FoundCells, resolve};
use crate::client::error::ClientError;
use crate::id::ChunkId;
use crate::net::client::{Http, Timeouts};
use crate::wire::beacon::Status;

/// Finds the active cells, in the order of their URLs. There are none if no cell responds. The search ends early when
/// `wanted` cells have been found and all of them agree that there are no others.
pub fn find_cells(http: &Http, scope: &ColonyScope, wanted: usize) -> Result<Vec<KnownCell>, ClientError> {
    let http = &http.with_timeouts(Timeouts::PROBE);
    let found = if scope.nodes.is_empty() {
        probe(http, scope, wanted).map_err(ClientError::Discovery)?
    } else {
        ask_nodes(http, &scope.nodes)
    };
    let mut cells = found.into_cells();
    cells.sort_by(|a, b| a.url.cmp(&b.url));
    cells.retain(|cell| cell.status != Status::Leaving);
    Ok(cells)
}

/// Asks the named cells for their status and their peers.
fn ask_nodes(http: &Http, nodes: &[String]) -> FoundCells {
    let mut found = FoundCells::default();
    for url in nodes.iter().map(|url| url.trim_end_matches('/')) {
        let Some(address) = resolve(url) else { continue };
        match http.status(url) {
            Ok(status) => found.insert(address, KnownCell::from_beacon(url, &status.beacon)),
            // A server of the first version has no status. It is a cell all the same, unless it claims to hold a chunk
            // that does not exist, as the web page of a router does.
            Err(error) if !error.is_unreachable() && !claims_any_chunk(http, url) => {
                found.insert(address, KnownCell::at(url));
            }
            Err(_) => continue,
        }
        found.insert_peers_of(http, url);
    }
    found
}

/// Does this server claim to hold a random chunk, or not understand the question?
fn claims_any_chunk(http: &Http, url: &str) -> bool {
    let random = ChunkId::of(&fastrand::u128(..).to_le_bytes());
    http.has_chunk(url, &random).unwrap_or(true)
}
