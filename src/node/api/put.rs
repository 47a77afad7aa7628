//! Chunks that come in.

// A shell: chunks are stamped with the time at which they came.
#![allow(clippy::disallowed_methods)]

use std::net::IpAddr;

use crate::id::ChunkId;
use crate::id::DEFAULT_COPIES;
use crate::net::Exchange;
use crate::node::api::Api;
use crate::node::api::response::{Refusal, refusal};
use crate::store::{MAX_HOLDERS, PutMetadata, StoreError};
use crate::sync::lock;
use crate::time::Time;
use crate::unix_time;
use crate::wire::problem::Problem;
use crate::wire::routes::{COPIES_HEADER, HOLDERS_HEADER, OWNER_HEADER};

impl Api {
    pub(super) fn put(&self, expected: Option<&ChunkId>, exchange: &mut Exchange) -> Result<ChunkId, Refusal> {
        self.stays()?;
        if self.mailbox.is_draining() {
            return Err(Problem::new(503, "this cell is draining; give the chunk to another").into());
        }
        let from = exchange.client();
        self.listens_to(from)?;
        let metadata = metadata(exchange)?;
        let len = exchange.body_bytes();
        let put = self.copies.put(expected, len, exchange.body(), metadata);
        if let Err(StoreError::WrongHash { .. }) = put {
            self.had_bad_bytes(from);
        }
        let (id, _) = put.map_err(|error| refusal(&error))?;
        Ok(id)
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn listens_to(&self, from: IpAddr) -> Result<(), Refusal> {
        let banned_s = lock(&self.bans).banned_s(self.now(), from);
        let Some(seconds) = banned_s else { return Ok(()) };
        let what = format!(
            "too many chunks from {from} were not what they were named: are bytes damaged on the way? None is taken for {seconds} s"
        );
        Err(Refusal::for_now(Problem::new(429, what), seconds))
    }

    fn had_bad_bytes(&self, from: IpAddr) {
        if lock(&self.bans).bad_bytes(self.now(), from) {
            log::warn!(
                "too many chunks from {from} were not what they were named: none is taken from there for a while"
            );
        }
    }
}

/// What the header fields of a put tell about the chunk.
fn metadata(exchange: &Exchange) -> Result<PutMetadata, Problem> {
    let copies = match exchange.field(COPIES_HEADER) {
        None => DEFAULT_COPIES,
        Some(text) => text
            .parse()
            .ok()
            .filter(|&copies| copies > 0)
            .ok_or_else(|| Problem::new(400, format!("{COPIES_HEADER} is a number from 1 to 255")))?,
    };
    let holders = exchange.field(HOLDERS_HEADER).unwrap_or_default();
    let holders: Result<Vec<_>, _> =
        holders.split(',').map(str::trim).filter(|id| !id.is_empty()).map(str::parse).collect();
    let holders = holders.map_err(|_| Problem::new(400, format!("{HOLDERS_HEADER} is a list of node ids")))?;
    if holders.len() > MAX_HOLDERS {
        return Err(Problem::new(400, format!("{HOLDERS_HEADER} names at most {MAX_HOLDERS} cells")));
    }
    let owner = match exchange.field(OWNER_HEADER) {
        None => None,
        Some(text) => {
            let hash: ChunkId = text
                .parse()
                .map_err(|_| Problem::new(400, format!("{OWNER_HEADER} is a SHA-256 in lower-case hexadecimal")))?;
            Some(*hash.as_bytes())
        }
    };
    let stored_at_s = unix_time::now_s();
    Ok(PutMetadata { copies, holders, owner, stored_at_s })
}
