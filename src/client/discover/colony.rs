//! A colony as a client sees it: where to search for its cells, and the cells that were found.

use std::fmt;
use std::net::SocketAddr;

use crate::id::CellId;
use crate::wire::beacon::{Beacon, Role, Status};
use crate::wire::peers::CellView;

/// Where to search for the cells of a colony.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColonyScope {
    /// URLs of cells, as `http://HOST:PORT`. These cells are asked for the others, and nothing is broadcast. If there
    /// are none, the cells are found by broadcast.
    pub nodes: Vec<String>,
    /// UDP port of the colony.
    pub udp_port: u16,
    /// Broadcast on the loopback interface only.
    pub loopback: bool,
}

/// A cell that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownCell {
    /// Its URL, as `http://HOST:PORT`.
    pub url: String,
    /// Its id. Servers of the first version have none.
    pub id: Option<CellId>,
    /// Its role in the colony.
    pub role: Role,
    /// Whether it accepts chunks.
    pub status: Status,
    /// Bytes that it can still accept, if it reported them.
    pub free_bytes: Option<u64>,
}

impl KnownCell {
    /// A cell of which nothing but the URL is known.
    pub(in crate::client) fn at(url: &str) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        Self { url, id: None, role: Role::Stem, status: Status::Active, free_bytes: None }
    }

    /// A cell as its own beacon describes it.
    pub(in crate::client) fn from_beacon(url: &str, beacon: &Beacon) -> Self {
        Self {
            id: Some(beacon.node_id),
            role: beacon.role,
            status: beacon.status,
            free_bytes: beacon.free,
            ..Self::at(url)
        }
    }

    /// A cell as another cell describes it.
    pub(in crate::client) fn from_view(view: &CellView) -> Self {
        Self {
            id: Some(view.node_id),
            role: view.role,
            status: view.status,
            free_bytes: view.free,
            ..Self::at(&view.url)
        }
    }

    /// The host of the cell: copies on one host are lost together. It is the address in the URL, without the port unless
    /// it is a loopback address: cells on one machine stand for a colony of many.
    pub(in crate::client) fn host(&self) -> &str {
        let authority = self.url.strip_prefix("http://").unwrap_or(&self.url).split('/').next().unwrap_or_default();
        match (authority.parse::<SocketAddr>(), authority.rsplit_once(':')) {
            (Ok(address), Some((host, _))) if !address.ip().is_loopback() => host,
            (Err(_), Some((name, port))) if name != "localhost" && port.parse::<u16>().is_ok() => name,
            _ => authority,
        }
    }

    /// The name of the cell in messages.
    pub fn name(&self) -> CellName {
        CellName { id: self.id, url: self.url.clone() }
    }

    /// Will the cell stay in the colony, as far as it knows? Copies on a cell that leaves do not count: they are handed
    /// off or lost.
    pub(in crate::client) fn stays(&self) -> bool {
        !matches!(self.status, Status::Draining | Status::Leaving)
    }
}

/// The name of a cell in messages. Shown as `5f2a9c01 (http://HOST:PORT)`, or as the URL if the id is unknown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CellName {
    /// The id, if the cell has one.
    pub id: Option<CellId>,
    /// The URL.
    pub url: String,
}

impl CellName {
    /// Do the names mean one cell? It may be known by its URL only, or have restarted on another port.
    pub(in crate::client) fn is_same_cell(&self, other: &Self) -> bool {
        self.url == other.url || (self.id.is_some() && self.id == other.id)
    }
}

impl fmt::Display for CellName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            Some(id) => write!(f, "{} ({})", id.short(), self.url),
            None => f.write_str(&self.url),
        }
    }
}

/// The names of several cells in a message: `5f2a9c01 (http://a:8080), http://b:8080`.
pub(in crate::client) fn list(cells: &[CellName]) -> String {
    cells.iter().map(CellName::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_address_and_on_loopback_one_cell() {
        for (url, host) in [
            ("http://10.0.0.7:8080", "10.0.0.7"),
            ("http://10.0.0.7:8081/", "10.0.0.7"),
            ("http://[fe80::1]:8080", "[fe80::1]"),
            ("http://10.0.0.7", "10.0.0.7"),
            ("http://shed.local:8080", "shed.local"),
            ("http://shed.local", "shed.local"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://localhost:8080", "localhost:8080"),
        ] {
            assert_eq!(KnownCell::at(url).host(), host, "{url}");
        }
    }
}
