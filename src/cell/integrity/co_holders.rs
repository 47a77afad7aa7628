//! Audits of co-holders: a cell that is not a guard audits the other copies of its own chunks.
//!
//! ```text
//!   random position in the local chunks ─▶ one of the next chunks, one holder ─▶ audit ─┬─ good, bad ─▶ spend
//!             ▲                                                                         ├─ failed ────▶ pause
//!             └─────────────────────────────────── dropped: not a holder any more       └─ missing ───▶ audit again
//! ```
//!
//! Guards are few, and one of them can be the lying cell. So each cell also audits copies of its own chunks, at a
//! fraction of a guard's rate. One missing copy proves nothing: the put that named the holder may still be sending to
//! it, or the holder may be fetching the chunk again. The same copy is audited again after a while, and counts as
//! missing then.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::cell::context::Context;
use crate::cell::replicas::map::ReplicaMap;
use crate::cell::token_bucket::TokenBucket;
use crate::id::{CellId, ChunkId, MAX_CHUNK_BYTES};
use crate::time::Time;

/// A cell that is not a guard audits at a guard's rate divided by this.
const RATE_DIVISOR: u64 = 8;
/// One of this many chunks is chosen. If only the next one were, a chunk whose id closely follows another's would
/// hardly ever be chosen.
const CANDIDATES: usize = 16;
/// Maximum number of missing copies that wait for their second audit.
const MAX_MISSING: usize = 64;
/// Pause after an audit for which nothing was fetched, in milliseconds. Guards use it too.
pub(super) const PAUSE_MS: u64 = 2_000;

/// A copy to audit.
#[derive(Debug, Clone, Copy)]
pub(super) struct CoHolderCopy {
    pub(super) cell: CellId,
    pub(super) address: SocketAddr,
    pub(super) chunk: ChunkId,
    /// Was it missing in the audit before?
    pub(super) was_missing: bool,
}

#[derive(Debug)]
pub(super) struct CoHolderAudits {
    bucket: TokenBucket,
    /// No audit before this time; `None` before the first call of [`Self::choose`].
    next: Option<Time>,
    /// Copies that were missing, and since when, the oldest first.
    missing: VecDeque<(Time, CellId, ChunkId)>,
}

impl CoHolderAudits {
    /// `guard_rate` is in bytes per second.
    pub(super) fn new(guard_rate: u64) -> Self {
        Self { bucket: TokenBucket::new(guard_rate / RATE_DIVISOR), next: None, missing: VecDeque::new() }
    }

    /// The time that the rate allows for one chunk of the maximum size, in milliseconds.
    fn interval_ms(&self) -> u64 {
        (MAX_CHUNK_BYTES as u64 * 1000).div_ceil(self.bucket.rate().max(1))
    }

    /// The copy to audit now, if an audit is due.
    pub(super) fn choose(
        &mut self,
        context: &Context,
        replicas: &ReplicaMap,
        rng: &mut fastrand::Rng,
    ) -> Option<CoHolderCopy> {
        if self.bucket.rate() == 0 {
            return None;
        }
        let interval_ms = self.interval_ms();
        // Cells that start together, or get their first chunks together, must not audit together.
        let next = *self.next.get_or_insert_with(|| context.now.plus_ms(rng.u64(0..=interval_ms)));
        if context.now < next || !self.bucket.is_open(context.now) {
            return None;
        }
        let copy = self.choose_missing(context, replicas).or_else(|| choose_random(context, replicas, rng));
        if copy.is_none() {
            self.next = Some(context.now.plus_ms(rng.u64(0..=interval_ms.max(PAUSE_MS))));
        }
        copy
    }

    fn choose_missing(&mut self, context: &Context, replicas: &ReplicaMap) -> Option<CoHolderCopy> {
        let [_, _, settle_ms, _] = context.settings.heal_delay_ms;
        while let Some((since, cell, chunk)) = self.missing.front().copied() {
            if context.now.since_ms(since) < settle_ms {
                return None;
            }
            self.missing.pop_front();
            // A query may have shown meanwhile that the cell is not a holder.
            if let Some(address) = auditable(context, &cell).filter(|_| replicas.is_holder(&chunk, &cell)) {
                return Some(CoHolderCopy { cell, address, chunk, was_missing: true });
            }
        }
        None
    }

    /// A copy was fetched that costs this many bytes.
    pub(super) fn spend(&mut self, bytes: u64) {
        self.bucket.spend(bytes);
    }

    /// Nothing was fetched.
    pub(super) fn pause(&mut self, now: Time) {
        self.next = Some(now.plus_ms(PAUSE_MS));
    }

    /// The copy was missing for the first time.
    pub(super) fn missing(&mut self, now: Time, cell: CellId, chunk: ChunkId) {
        let is_waiting = self.missing.iter().any(|(_, other, id)| (*other, *id) == (cell, chunk));
        if !is_waiting && self.missing.len() < MAX_MISSING {
            self.missing.push_back((now, cell, chunk));
        }
    }
}

/// A random copy of a local chunk on another cell.
fn choose_random(context: &Context, replicas: &ReplicaMap, rng: &mut fastrand::Rng) -> Option<CoHolderCopy> {
    let mut random = [0; 32];
    rng.fill(&mut random);
    let random = ChunkId::from_bytes(random);
    // The first chunk follows the last.
    let after = replicas.after(Some(&random), CANDIDATES);
    let chunks = after.chain(replicas.after(None, CANDIDATES)).take(CANDIDATES);
    let copies: Vec<CoHolderCopy> = chunks
        .flat_map(|(id, chunk)| replicas.holders_of(chunk).map(|cell| (*id, cell)))
        .filter_map(|(chunk, cell)| {
            Some(CoHolderCopy { cell, address: auditable(context, &cell)?, chunk, was_missing: false })
        })
        .collect();
    rng.choice(copies)
}

/// The address of a cell, if it is active and its copies count.
fn auditable(context: &Context, cell: &CellId) -> Option<SocketAddr> {
    let member = context.members.get(cell)?;
    (member.is_active() && context.counts_copies_on(cell)).then_some(member.address)
}
