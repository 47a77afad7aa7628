//! A wound: one chunk of ours lacks copies, and there is a time to look at it.
//!
//! ```text
//!   copies fall ─▶ delay by urgency ─▶ steps by rank ─▶ due ─▶ looked at in vain
//!                                        ▲              ▲              │
//!                                        │              └─ back off ───┤ longer each time
//!                                        │                             │
//!                                        └─ colony changes ── stuck ◀──┘ nobody can take a copy
//! ```
//!
//! - The wait begins when the copies fall, and not anew when they are counted again: a holder that comes and goes does
//!   not put it off.
//! - When they fall again the delay is the shorter one, and whatever was tried in vain before is forgotten.
//! - A stuck wound is looked at only now and then: nobody says so when a cell has room again of which it never told, or
//!   keeps what it takes by now. When the colony changes, the holders wait for their turns once more, or all of them would
//!   begin at the moment when a cell with room appears.

use crate::cell::context::View;
use crate::cell::rank;
use crate::cell::replicas::map::Holdings;
use crate::id::ChunkId;
use crate::time::Time;

/// The first wait after a round that did not heal a chunk, in milliseconds; it doubles each time.
const BACK_OFF_MS: u64 = 5_000;
/// The longest such wait is the first times two to this power: ten minutes and some.
const MAX_DOUBLINGS: u8 = 7;
/// A wound for which nobody could take a copy is looked at again after so long, in milliseconds, though nothing has changed.
const STUCK_MS: u64 = 600_000;

#[derive(Debug, Clone, Copy)]
pub(super) struct Wound {
    /// Copies that count.
    pub(super) left: u8,
    /// Since when there are so few.
    fell: Fallen,
    /// Since when there is somebody who can take a copy: from then on the holders wait for their turns.
    ready: Time,
    /// Not to be looked at before: it is new, or was tried in vain.
    not_before: Time,
    failures: u8,
    /// No cell could take a copy when it was last looked at.
    stuck: bool,
    /// To be asked for once, however many copies are believed: a draining cell must know.
    pub(super) check: bool,
}

impl Wound {
    /// So few copies are left from now on. It is not looked at for `settle_ms`.
    pub(super) fn new(left: u8, now: Time, settle_ms: u64) -> Self {
        let not_before = now.plus_ms(settle_ms);
        Self { left, fell: fallen(left, [None; 4], now), not_before, check: false, ..Self::to_check(now) }
    }

    /// No copy is known to be missing, but the chunk is to be asked for.
    pub(super) fn to_check(now: Time) -> Self {
        Self { left: u8::MAX, fell: [None; 4], ready: now, not_before: now, failures: 0, stuck: false, check: true }
    }

    /// The copies were counted again: so many are left.
    pub(super) fn recount(&mut self, view: &View, left: u8) {
        self.fell = fallen(left, self.fell, view.now);
        if left < self.left {
            // Whatever was tried before, and however often, it is more urgent now.
            self.not_before = view.now;
            (self.stuck, self.failures) = (false, 0);
        } else if left > self.left && self.left < u8::MAX {
            // Holders are coming back: the next may be on its way.
            let [_, pause_ms, ..] = view.settings.heal_delay_ms;
            self.not_before = self.not_before.max(view.now.plus_ms(pause_ms));
        }
        self.left = left;
    }

    /// Who could take no copy before may be able to now.
    pub(super) fn colony_changed(&mut self, now: Time) {
        if self.stuck {
            self.stuck = false;
            (self.ready, self.not_before) = (now, now);
        }
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// No cell can take a copy.
    pub(super) fn stick(&mut self, now: Time) {
        self.stuck = true;
        self.not_before = now.plus_ms(STUCK_MS);
    }

    /// A round has looked at it, and it is still there.
    pub(super) fn tried(&mut self, now: Time) {
        self.stuck = false;
        self.not_before = now.plus_ms(BACK_OFF_MS << self.failures.min(MAX_DOUBLINGS));
        self.failures = self.failures.saturating_add(1);
    }

    /// When it is to be looked at: the sooner the fewer copies are left, and the later the more holders come first.
    pub(super) fn due(&self, view: &View, holdings: &Holdings, id: &ChunkId) -> Time {
        // What is stuck is counted no more than it must be: there may be many.
        if view.draining || (self.stuck && view.now < self.not_before) {
            return self.not_before;
        }
        let due = self.fell.iter().zip(view.settings.heal_delay_ms);
        let due = due.filter_map(|(since, delay_ms)| Some((*since)?.plus_ms(delay_ms))).min().unwrap_or(view.now);
        let mine = rank::draw(id, &view.id);
        let before =
            holdings.holders(id).filter(|cell| view.counts(cell) && rank::draw(id, cell) > mine).count() as u64;
        let ready = if self.stuck { self.not_before } else { due.max(self.ready) };
        ready.plus_ms(before.saturating_mul(view.settings.heal_step_ms)).max(self.not_before)
    }
}

/// Since when there have been at most one, two, three copies, and too few.
type Fallen = [Option<Time>; 4];

/// What was so before stays so until there are more copies.
fn fallen(left: u8, before: Fallen, now: Time) -> Fallen {
    let mut fell = before;
    for (most, since) in [1, 2, 3, u8::MAX].into_iter().zip(&mut fell) {
        *since = (left <= most).then(|| since.unwrap_or(now));
    }
    fell
}
