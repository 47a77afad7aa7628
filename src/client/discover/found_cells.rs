//! The cells that a search has found so far, each of them once.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};

use crate::client::discover::colony::KnownCell;
use crate::net::client::Http;
use crate::wire::beacon::Beacon;
use crate::wire::peers::{CellView, Presence};

/// Maximum number of cells taken from one response. A false one may name any number.
const MAX_PEERS: usize = 4096;

/// Cells by their address.
#[derive(Default)]
pub(in crate::client) struct FoundCells(BTreeMap<SocketAddr, KnownCell>);

impl FoundCells {
    /// Adds a cell, unless it was found by another of its addresses.
    pub(in crate::client) fn insert(&mut self, address: SocketAddr, cell: KnownCell) {
        let is_known = cell.id.is_some() && self.0.iter().any(|(at, other)| other.id == cell.id && *at != address);
        if !is_known {
            self.0.insert(address, cell);
        }
    }

    /// Adds the sender of a beacon.
    pub(in crate::client) fn insert_sender(&mut self, from: SocketAddr, beacon: &Beacon) {
        let address = SocketAddr::new(from.ip(), beacon.port);
        self.insert(address, KnownCell::from_beacon(&format!("http://{address}"), beacon));
    }

    /// Asks a cell for its peers and adds those that are active.
    pub(in crate::client) fn insert_peers_of(&mut self, http: &Http, url: &str) {
        let Ok(peers) = http.peers(url) else { return };
        for view in peers.cells.iter().take(MAX_PEERS) {
            self.insert_peer(view);
        }
        // Servers of the first version report URLs only. The URLs of others would name the same cells again, perhaps by
        // other addresses.
        if peers.cells.is_empty() {
            for url in peers.peers.iter().take(MAX_PEERS) {
                self.insert_url(url);
            }
        }
    }

    fn insert_peer(&mut self, view: &CellView) {
        if view.state == Presence::Active
            && let Some(address) = resolve(&view.url)
        {
            self.insert(address, KnownCell::from_view(view));
        }
    }

    fn insert_url(&mut self, url: &str) {
        if let Some(address) = resolve(url) {
            self.0.entry(address).or_insert_with(|| KnownCell::at(url));
        }
    }

    pub(in crate::client) fn len(&self) -> usize {
        self.0.len()
    }

    pub(in crate::client) fn urls(&self) -> Vec<String> {
        self.0.values().map(|cell| cell.url.clone()).collect()
    }

    pub(in crate::client) fn into_cells(self) -> Vec<KnownCell> {
        self.0.into_values().collect()
    }
}

/// The address of an `http` URL. Without a port it is 80.
pub(in crate::client) fn resolve(url: &str) -> Option<SocketAddr> {
    let authority = url.strip_prefix("http://")?.split('/').next()?;
    let has_port = authority.rsplit(']').next()?.contains(':');
    let authority = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    authority.to_socket_addrs().ok()?.next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::CellId;
    use crate::wire::beacon::{Role, Status};

    #[test]
    fn a_url_without_a_port_means_port_80() {
        assert_eq!(resolve("http://127.0.0.1:81/"), "127.0.0.1:81".parse().ok());
        assert_eq!(resolve("http://127.0.0.1"), "127.0.0.1:80".parse().ok());
        assert_eq!(resolve("http://[::1]:81"), "[::1]:81".parse().ok());
        assert_eq!(resolve("http://[::1]"), "[::1]:80".parse().ok());
    }

    #[test]
    fn a_url_without_http_or_host_has_no_address() {
        assert_eq!(resolve("127.0.0.1:81"), None);
        assert_eq!(resolve("http://"), None);
    }

    #[test]
    fn a_cell_with_several_addresses_is_found_once() {
        let mut found = FoundCells::default();
        let cell = |url: &str| KnownCell { id: Some(CellId::from_bytes([1; 16])), ..KnownCell::at(url) };
        found.insert("127.0.0.1:1".parse().unwrap(), cell("http://127.0.0.1:1"));
        found.insert("127.0.0.2:1".parse().unwrap(), cell("http://127.0.0.2:1"));
        found.insert_url("http://127.0.0.1:1/");
        found.insert_peer(&CellView {
            node_id: CellId::from_bytes([1; 16]),
            url: "http://127.0.0.3:1".into(),
            role: Role::Stem,
            status: Status::Active,
            state: Presence::Active,
            free: None,
            chunks: None,
            seen_ms: 0,
        });
        assert_eq!(found.into_cells().len(), 1);
    }
}
