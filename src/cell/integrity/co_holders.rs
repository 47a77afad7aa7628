//! Which copy a cell that is no guard audits next: one that another cell should have of a chunk of ours.
//!
//! ```text
//!   random position in our chunks ─▶ one of the next few, one of its holders ─▶ audit ─┬─ good, bad ─▶ spend
//!             ▲                                                                        ├─ failed ────▶ pause
//!             └──────────────────────────────── dropped: no holder any more            └─ missing ───▶ wait, audit once more
//! ```
//!
//! Guards are few, and one of them may be the liar. So each cell looks after its own chunks as well, at a part of the
//! guards' rate. A missing copy is no evidence at once: the put that named the holder may still be sending to it, or the
//! holder may be fetching a bad copy anew. The same pair is audited again after a while, and only then it counts.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::cell::context::View;
use crate::cell::integrity::audits::PAUSE_MS;
use crate::cell::replicas::map::Holdings;
use crate::cell::token_bucket::Bucket;
use crate::id::CellId;
use crate::id::{ChunkId, MAX_CHUNK_BYTES};
use crate::time::Time;

/// A cell that is no guard audits at the guards' rate divided by this.
const RATE_DIVISOR: u64 = 8;
/// One of this many chunks is drawn. With only one, a chunk whose id is close behind another's would hardly ever be.
const CANDIDATES: usize = 16;
/// Missing copies that wait for their second audit, at most.
const MAX_MISSED: usize = 64;

/// A copy to be audited.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    pub(super) cell: CellId,
    pub(super) door: SocketAddr,
    pub(super) chunk: ChunkId,
    /// It was missing in the audit before.
    pub(super) missed: bool,
}

#[derive(Debug)]
pub(super) struct Shared {
    bucket: Bucket,
    /// No audit before this time; none until the first look.
    next: Option<Time>,
    /// Copies that were missing, and since when, the oldest first.
    missed: VecDeque<(Time, CellId, ChunkId)>,
}

impl Shared {
    /// For guards that audit this many bytes a second.
    pub(super) fn new(audit_rate: u64) -> Self {
        Self { bucket: Bucket::new(audit_rate / RATE_DIVISOR), next: None, missed: VecDeque::new() }
    }

    /// The time in which the rate allows for one chunk of the largest size, in milliseconds.
    fn interval_ms(&self) -> u64 {
        (MAX_CHUNK_BYTES as u64 * 1000).div_ceil(self.bucket.rate().max(1))
    }

    /// The copy to audit now, if one is due.
    pub(super) fn choose(&mut self, view: &View, holdings: &Holdings, rng: &mut fastrand::Rng) -> Option<Choice> {
        if self.bucket.rate() == 0 {
            return None;
        }
        let interval_ms = self.interval_ms();
        // Cells that start together, or get their first chunks together, do not audit together.
        let next = *self.next.get_or_insert_with(|| view.now.plus_ms(rng.u64(0..=interval_ms)));
        if view.now < next || !self.bucket.is_open(view.now) {
            return None;
        }
        let choice = self.choose_missed(view, holdings).or_else(|| choose_any(view, holdings, rng));
        if choice.is_none() {
            self.next = Some(view.now.plus_ms(rng.u64(0..=interval_ms.max(PAUSE_MS))));
        }
        choice
    }

    fn choose_missed(&mut self, view: &View, holdings: &Holdings) -> Option<Choice> {
        let [_, _, settle_ms, _] = view.settings.heal_delay_ms;
        while let Some((since, cell, chunk)) = self.missed.front().copied() {
            if view.now.since_ms(since) < settle_ms {
                return None;
            }
            self.missed.pop_front();
            // By now a belief check may have shown that it is no holder.
            if let Some(door) = door(view, &cell).filter(|_| holdings.believes(&chunk, &cell)) {
                return Some(Choice { cell, door, chunk, missed: true });
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
    pub(super) fn missed(&mut self, now: Time, cell: CellId, chunk: ChunkId) {
        let is_known = self.missed.iter().any(|(_, other, id)| (*other, *id) == (cell, chunk));
        if !is_known && self.missed.len() < MAX_MISSED {
            self.missed.push_back((now, cell, chunk));
        }
    }
}

/// A random copy among those that others should have of our chunks.
fn choose_any(view: &View, holdings: &Holdings, rng: &mut fastrand::Rng) -> Option<Choice> {
    let mut anywhere = [0; 32];
    rng.fill(&mut anywhere);
    let anywhere = ChunkId::from_bytes(anywhere);
    // After the last chunk comes the first.
    let after = holdings.after(Some(&anywhere), CANDIDATES);
    let chunks = after.chain(holdings.after(None, CANDIDATES)).take(CANDIDATES);
    let choices: Vec<Choice> = chunks
        .flat_map(|(id, holding)| holdings.names_of(holding).map(|cell| (*id, cell)))
        .filter_map(|(chunk, cell)| Some(Choice { cell, door: door(view, &cell)?, chunk, missed: false }))
        .collect();
    rng.choice(choices)
}

/// The door of a cell that is active and whose copies count.
fn door(view: &View, cell: &CellId) -> Option<SocketAddr> {
    let member = view.members.get(cell).filter(|member| member.is_active() && view.counts(cell))?;
    Some(member.door)
}
