//! Cells that get no copies for a while, by what became of those that they were sent.
//!
//! ```text
//!   refused, failed ──▶ left alone, twice as long each time in a row ─┬─ something changed there ─▶ tried again
//!                                                                     └─ it took one ─▶ all is forgotten
//!   lost what it took ─▶ unreliable, twice as long each time ─────────── time alone ─▶ tried again
//! ```
//!
//! A refusal tells of the moment: the cell may have room, or work, as soon as anything changes. A lost copy tells of the
//! cell, and nothing that it says of itself ends that. It is held against the cell only if the copy came from us: of
//! others we cannot know that it ever had them. How often something happened is remembered for some time after the pause
//! for it is over, and only then forgotten.

use std::collections::{BTreeMap, VecDeque};

use crate::cell::SendOutcome;
use crate::id::CellId;
use crate::id::ChunkId;
use crate::time::Time;

/// A cell that refused a copy is left alone for so long, in milliseconds.
const REFUSED_MS: u64 = 60_000;
/// And one that failed, so long; twice as long each time, or a cell that hangs would be tried again at once.
const FAILED_MS: u64 = 20_000;
/// Copies that we made and remember, to see who loses them.
const MAX_GIVEN: usize = 4096;
/// A cell that lost a copy that it had taken gets no more for so long, in milliseconds; twice as long each time.
const UNRELIABLE_MS: u64 = 3_600_000;

#[derive(Debug, Default)]
pub(super) struct Avoided {
    /// Cells that refused or failed: how often in a row, and until when they are left alone.
    refusals: BTreeMap<CellId, (u32, Time)>,
    /// Copies that we made, the newest last.
    given: VecDeque<(ChunkId, CellId)>,
    /// Cells that lost copies which we had made there: how often, and until when they get no more.
    unreliable: BTreeMap<CellId, (u32, Time)>,
}

impl Avoided {
    /// Is the cell to be left alone for now?
    pub(super) fn contains(&self, now: Time, cell: &CellId) -> bool {
        self.refusals.get(cell).is_some_and(|(_, until)| now < *until) || self.is_unreliable(now, cell)
    }

    /// Does the cell get nothing because it loses what it takes?
    pub(super) fn is_unreliable(&self, now: Time, cell: &CellId) -> bool {
        self.unreliable.get(cell).is_some_and(|(_, until)| now < *until)
    }

    /// Notes how it ended that a cell was sent a copy of this chunk.
    pub(super) fn sent(&mut self, now: Time, id: ChunkId, cell: CellId, how: SendOutcome) {
        let pause_ms = match how {
            SendOutcome::Stored => {
                self.refusals.remove(&cell);
                self.given.push_back((id, cell));
                if self.given.len() > MAX_GIVEN {
                    self.given.pop_front();
                }
                return;
            }
            SendOutcome::Refused => REFUSED_MS,
            SendOutcome::Failed => FAILED_MS,
            // That was our fault.
            SendOutcome::OwnCopyBad | SendOutcome::OwnCopyGone | SendOutcome::OwnCopyUnreadable => return,
        };
        let times = self.refusals.get(&cell).map_or(0, |(times, _)| *times);
        self.refusals.insert(cell, (times + 1, now.plus_ms(pause_ms << times.min(6))));
    }

    /// A cell does not have these chunks. If we sent it one of them, it does not keep what it takes.
    pub(super) fn absent(&mut self, now: Time, cell: CellId, absent: &[ChunkId]) {
        let before = self.given.len();
        self.given.retain(|(id, holder)| *holder != cell || !absent.contains(id));
        if self.given.len() < before {
            let times = self.unreliable.get(&cell).map_or(0, |(times, _)| *times);
            let until = now.plus_ms(UNRELIABLE_MS << times.min(5));
            self.unreliable.insert(cell, (times + 1, until));
        }
    }

    /// Something has changed at the cell. It may have room now, or work again; how often it failed is not forgotten.
    pub(super) fn changed(&mut self, now: Time, cell: &CellId) {
        if let Some((_, until)) = self.refusals.get_mut(cell) {
            *until = now;
        }
    }

    /// Forgets what is long over.
    pub(super) fn forget(&mut self, now: Time) {
        self.refusals.retain(|_, (_, until)| now.since_ms(*until) < 64 * REFUSED_MS);
        self.unreliable.retain(|_, (_, until)| now.since_ms(*until) < 32 * UNRELIABLE_MS);
    }
}
