//! Fixtures of the clients' unit tests.

use std::time::Duration;

use crate::client::discover::colony::{ColonyScope, KnownCell};
use crate::client::get::GetOptions;
use crate::client::get::part::Part;
use crate::client::get::restore_options::RestoreOptions;
use crate::client::notice::Notice;
use crate::client::progress::Progress;
use crate::id::CellId;

/// Ignores all progress.
pub(super) struct NoProgress;

impl Progress for NoProgress {
    fn total(&self, _: Option<u64>) {}
    fn advance(&self, _: u64, _: u64) {}
    fn notice(&self, _: &Notice) {}
}

/// The body of `GET /status` with this activity.
pub(super) fn status(activity: &serde_json::Value) -> String {
    status_of(7, activity)
}

/// The body of `GET /status` of the cell with this number.
pub(super) fn status_of(number: u8, activity: &serde_json::Value) -> String {
    let id = CellId::from_bytes([number; 16]);
    serde_json::json!({ "node_id": id, "port": 1, "status": "active", "life": activity }).to_string()
}

/// The cell at this URL.
pub(super) fn cell_at(url: &str) -> KnownCell {
    KnownCell { id: Some(CellId::from_bytes([7; 16])), ..KnownCell::at(url) }
}

/// Options of a get of everything, without a place to search for cells.
pub(in crate::client) fn get_options() -> GetOptions {
    GetOptions {
        jobs: 1,
        force: false,
        patience: Duration::ZERO,
        restore: RestoreOptions::default(),
        part: Part::Whole,
        salvage: false,
        scope: ColonyScope { nodes: Vec::new(), udp_port: 1, loopback: true },
    }
}
