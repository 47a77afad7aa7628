//! Backoff: cells that are sent no copies for a while, because of what happened to earlier copies.
//!
//! ```text
//!   refused, failed ───▶ pause, twice as long each time in a row ─┬─ its status changes ─▶ tried again
//!                                                                 └─ it stores a copy ───▶ forgotten
//!   lost what it took ─▶ unreliable, twice as long each time ────── time passes ─────────▶ tried again
//! ```
//!
//! A refusal is about the moment: the cell may have space, or work, as soon as anything changes. A lost copy is about
//! the cell, and nothing that it reports about itself ends the pause. Only copies that this cell has sent itself count
//! as lost; of others it cannot know whether they ever existed. Counts are kept for some time after a pause has ended.

use std::collections::{BTreeMap, VecDeque};

use crate::cell::input::SendOutcome;
use crate::id::{CellId, ChunkId};
use crate::time::Time;

/// First pause of a cell that refused a copy, in milliseconds.
const REFUSED_MS: u64 = 60_000;
/// First pause of a cell that failed, in milliseconds. Without it, a cell that hangs would be tried again at once.
const FAILED_MS: u64 = 20_000;
/// Maximum number of copies sent that are remembered, to see which cells lose them.
const MAX_SENT: usize = 4096;
/// First pause of a cell that lost a copy, in milliseconds.
const UNRELIABLE_MS: u64 = 3_600_000;

/// How often something happened, and until when the cell is sent nothing.
#[derive(Debug, Clone, Copy)]
struct Pause {
    times: u32,
    until: Time,
}

#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// Cells that refused or failed, in a row.
    refusals: BTreeMap<CellId, Pause>,
    /// Copies that this cell has sent, the newest last.
    sent: VecDeque<(ChunkId, CellId)>,
    /// Cells that lost copies which this cell had sent.
    unreliable: BTreeMap<CellId, Pause>,
}

impl Backoff {
    /// Is the cell sent no copies now?
    pub(super) fn is_paused(&self, now: Time, cell: &CellId) -> bool {
        self.refusals.get(cell).is_some_and(|pause| now < pause.until) || self.is_unreliable(now, cell)
    }

    /// Is the cell sent no copies now because it loses them?
    pub(super) fn is_unreliable(&self, now: Time, cell: &CellId) -> bool {
        self.unreliable.get(cell).is_some_and(|pause| now < pause.until)
    }

    /// Records the outcome of sending a copy of this chunk to a cell.
    pub(super) fn send_done(&mut self, now: Time, id: ChunkId, cell: CellId, outcome: SendOutcome) {
        let pause_ms = match outcome {
            SendOutcome::Stored => {
                self.refusals.remove(&cell);
                self.sent.push_back((id, cell));
                if self.sent.len() > MAX_SENT {
                    self.sent.pop_front();
                }
                return;
            }
            SendOutcome::Refused => REFUSED_MS,
            SendOutcome::Failed => FAILED_MS,
            // Not the other cell's fault.
            SendOutcome::OwnCopyBad | SendOutcome::OwnCopyGone | SendOutcome::OwnCopyUnreadable => return,
        };
        let times = self.refusals.get(&cell).map_or(0, |pause| pause.times);
        let until = now.plus_ms(pause_ms << times.min(6));
        self.refusals.insert(cell, Pause { times: times + 1, until });
    }

    /// A cell does not have these chunks. If this cell sent it one of them, it is unreliable.
    pub(super) fn chunks_absent(&mut self, now: Time, cell: CellId, absent: &[ChunkId]) {
        let before = self.sent.len();
        self.sent.retain(|(id, holder)| *holder != cell || !absent.contains(id));
        if self.sent.len() < before {
            let times = self.unreliable.get(&cell).map_or(0, |pause| pause.times);
            let until = now.plus_ms(UNRELIABLE_MS << times.min(5));
            self.unreliable.insert(cell, Pause { times: times + 1, until });
        }
    }

    /// The status of the cell has changed: it may have space now, or work again. Its count of refusals stays.
    pub(super) fn cell_changed(&mut self, now: Time, cell: &CellId) {
        if let Some(pause) = self.refusals.get_mut(cell) {
            pause.until = now;
        }
    }

    /// Forgets pauses that ended long ago.
    pub(super) fn forget(&mut self, now: Time) {
        self.refusals.retain(|_, pause| now.since_ms(pause.until) < 64 * REFUSED_MS);
        self.unreliable.retain(|_, pause| now.since_ms(pause.until) < 32 * UNRELIABLE_MS);
    }
}
