//! Requests that store a chunk: `PUT /chunk/{id}` and `POST /chunk`.

use std::net::IpAddr;

use crate::id::{ChunkId, DEFAULT_COPIES, MAX_HOLDERS};
use crate::net::Exchange;
use crate::node::api::Api;
use crate::node::api::response::ErrorResponse;
use crate::store::{PutMetadata, StoreError};
use crate::sync::lock;
use crate::time::Time;
use crate::unix_time;
use crate::wire::routes::{BARE_HEADER, COPIES_HEADER, HOLDERS_HEADER, OWNER_HEADER};

impl Api {
    /// Stores the request's body, if its hash is `expected` or no id is expected.
    pub(super) fn put(&self, expected: Option<&ChunkId>, exchange: &mut Exchange) -> Result<ChunkId, ErrorResponse> {
        self.check_running()?;
        if self.mailbox.is_draining() {
            return Err(ErrorResponse::new(503, "this cell is draining and accepts no chunks; use another cell"));
        }
        // A copy that the disk cannot read may be replaced: the new one is written elsewhere on it.
        if self.copies.is_failing() && !expected.is_some_and(|id| self.copies.is_unreadable(id)) {
            let detail = "the disk of this cell is failing, so it accepts no chunks; use another cell";
            return Err(ErrorResponse::new(503, detail));
        }
        let from = exchange.client();
        self.check_not_banned(from)?;
        let metadata = metadata(exchange)?;
        let len = exchange.body_bytes();
        let put = self.copies.put(expected, len, exchange.body(), metadata);
        if let Err(StoreError::WrongHash { .. }) = put {
            self.record_bad_put(from);
        }
        let (id, _) = put?;
        Ok(id)
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn check_not_banned(&self, from: IpAddr) -> Result<(), ErrorResponse> {
        let left_s = lock(&self.bans).ban_left_s(self.now(), from);
        let Some(seconds) = left_s else { return Ok(()) };
        let detail = format!(
            "too many puts from {from} had bytes that do not match their id; further ones are refused for {seconds} s. \
             Check the network and the memory of the sender"
        );
        Err(ErrorResponse::retry_after(429, detail, seconds))
    }

    fn record_bad_put(&self, from: IpAddr) {
        if lock(&self.bans).record_bad_put(self.now(), from) {
            log::warn!(
                "too many puts from {from} had bytes that do not match their id; refusing further ones for 10 minutes"
            );
        }
    }
}

/// The metadata in the request's header.
fn metadata(exchange: &Exchange) -> Result<PutMetadata, ErrorResponse> {
    let invalid = |name: &str, rule: String| ErrorResponse::new(400, format!("invalid {name}: {rule}"));
    let copies = match exchange.field(COPIES_HEADER) {
        None => DEFAULT_COPIES,
        Some(text) => text
            .parse()
            .ok()
            .filter(|&copies| copies > 0)
            .ok_or_else(|| invalid(COPIES_HEADER, "it must be a number from 1 to 255".into()))?,
    };
    let holders = exchange.field(HOLDERS_HEADER).unwrap_or_default();
    let holders: Result<Vec<_>, _> =
        holders.split(',').map(str::trim).filter(|id| !id.is_empty()).map(str::parse).collect();
    let holders =
        holders.map_err(|_| invalid(HOLDERS_HEADER, "it must be a list of cell ids separated by commas".into()))?;
    if holders.len() > MAX_HOLDERS {
        return Err(invalid(HOLDERS_HEADER, format!("it must name at most {MAX_HOLDERS} cells")));
    }
    let owner = match exchange.field(OWNER_HEADER) {
        None => None,
        Some(text) => {
            let hash: ChunkId = text.parse().map_err(|_| {
                invalid(OWNER_HEADER, "it must be a SHA-256 as 64 lower-case hexadecimal digits".into())
            })?;
            Some(*hash.as_bytes())
        }
    };
    let bare = exchange.field(BARE_HEADER) == Some("1");
    // The guess of another cell can be another number, and this one would take it for knowledge.
    let copies = if bare { DEFAULT_COPIES } else { copies };
    Ok(PutMetadata { copies, bare, holders, owner, stored_at_s: stored_at_s() })
}

#[expect(clippy::disallowed_methods, reason = "the time of the put is stored with the chunk")]
fn stored_at_s() -> u64 {
    unix_time::now_s()
}
