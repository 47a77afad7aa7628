//! Fixtures of the clients' unit tests.

use crate::client::{KnownCell, Notice, Progress};
use crate::id::CellId;
use crate::wire::beacon::{Role, Status};

/// Ignores all progress.
pub(super) struct Quiet;

impl Progress for Quiet {
    fn total(&self, _: Option<u64>) {}
    fn advance(&self, _: u64, _: u64) {}
    fn notice(&self, _: &Notice) {}
}

/// The body of `GET /status` with this `life`.
pub(super) fn status(life: &serde_json::Value) -> String {
    status_of(7, life)
}

/// The body of `GET /status` of the cell with this number.
pub(super) fn status_of(number: u8, life: &serde_json::Value) -> String {
    let id = CellId::from_bytes([number; 16]);
    serde_json::json!({ "node_id": id, "port": 1, "status": "active", "life": life }).to_string()
}

/// The cell at this URL.
pub(super) fn cell_at(url: &str) -> KnownCell {
    let id = Some(CellId::from_bytes([7; 16]));
    KnownCell { url: url.to_owned(), id, role: Role::Stem, status: Status::Active, free_bytes: None }
}
