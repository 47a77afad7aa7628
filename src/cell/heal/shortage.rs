//! A shortage: one local chunk is under-replicated, and there is a time at which to heal it.
//!
//! ```text
//!   copies fall ─▶ delay ─▶ steps by rank ─▶ due ─▶ round without success
//!                             ▲              ▲              │
//!                             │              └─ backoff ────┤ longer each time
//!                             │                             │
//!                             └─ colony changes ── stuck ◀──┘ no cell can store a copy
//! ```
//!
//! - If one silent holder is all that is missing, the delay is the longest one, however many copies are left: a board
//!   that reboots returns within it, and no byte is moved. In all other cases the delay depends on the copies left.
//! - The delay starts when the number of copies falls, and does not start again when they are only counted again: a
//!   holder that comes and goes does not postpone healing.
//! - When the number falls further, the shorter delay applies, and earlier rounds without success are forgotten.
//! - A stuck shortage is tried only rarely. The cell is not notified when another cell has space again, or keeps copies
//!   again. When the colony changes, the holders wait for their turns by rank once more; otherwise all of them would
//!   start when a cell with space appears.

use crate::cell::context::Context;
use crate::cell::heal::brake;
use crate::cell::rank;
use crate::cell::replicas::map::{LocalChunk, ReplicaMap};
use crate::cell::settings::Settings;
use crate::id::ChunkId;
use crate::time::Time;

/// First pause after a round without success, in milliseconds. It doubles each time.
const BACKOFF_MS: u64 = 5_000;
/// Maximum number of doublings, which makes a longest pause of 640 s.
const MAX_DOUBLINGS: u8 = 7;
/// Pause before a stuck shortage is tried again although the colony has not changed, in milliseconds.
const STUCK_MS: u64 = 600_000;
/// [`Shortage::copies_left`] of a chunk whose copies have not been counted.
const NOT_COUNTED: u8 = u8::MAX;

#[derive(Debug, Clone, Copy)]
pub(super) struct Shortage {
    /// Copies that count.
    pub(super) copies_left: u8,
    since: Since,
    /// Since when a cell may be able to store a copy. The holders wait for their turns from then on.
    ready: Time,
    /// No round before this time: the shortage is new, or a round was without success.
    not_before: Time,
    failures: u8,
    /// Until when the brake delays it: the end that the brake had when it first did.
    brake: Option<Time>,
    /// In the last round no cell could store a copy.
    stuck: bool,
    /// The holders must be queried once, however many copies are recorded: this cell is draining.
    pub(super) must_query: bool,
}

/// Since when there have been at most one, two or three copies, and too few at all.
type Since = [Option<Time>; 4];

impl Shortage {
    /// This many copies are left from now on. No round starts within `settle_ms`.
    pub(super) fn new(copies_left: u8, now: Time, settle_ms: u64) -> Self {
        let since = update_since([None; 4], copies_left, now);
        let not_before = now.plus_ms(settle_ms);
        Self { copies_left, since, not_before, must_query: false, ..Self::to_query(now) }
    }

    /// No copy is known to be missing, but the holders must be queried.
    pub(super) fn to_query(now: Time) -> Self {
        Self {
            copies_left: NOT_COUNTED,
            since: [None; 4],
            ready: now,
            not_before: now,
            failures: 0,
            brake: None,
            stuck: false,
            must_query: true,
        }
    }

    /// Have its copies been counted?
    pub(super) fn is_counted(&self) -> bool {
        self.copies_left != NOT_COUNTED
    }

    /// The copies were counted again.
    pub(super) fn recount(&mut self, context: &Context, copies_left: u8) {
        self.since = update_since(self.since, copies_left, context.now);
        if copies_left < self.copies_left {
            // It is more urgent now.
            self.not_before = context.now;
            (self.stuck, self.failures) = (false, 0);
        } else if copies_left > self.copies_left && self.is_counted() {
            // Holders are returning, and more may follow.
            let [_, pause_ms, ..] = context.settings.heal_delay_ms;
            self.not_before = self.not_before.max(context.now.plus_ms(pause_ms));
        }
        self.copies_left = copies_left;
    }

    /// The colony has changed: a cell may be able to store a copy now.
    pub(super) fn colony_changed(&mut self, now: Time) {
        if self.stuck {
            self.stuck = false;
            (self.ready, self.not_before) = (now, now);
        }
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// No cell can store a copy.
    pub(super) fn set_stuck(&mut self, now: Time) {
        self.stuck = true;
        self.not_before = now.plus_ms(STUCK_MS);
    }

    /// A round has ended, and the shortage is still there.
    pub(super) fn back_off(&mut self, now: Time) {
        self.stuck = false;
        self.not_before = now.plus_ms(BACKOFF_MS << self.failures.min(MAX_DOUBLINGS));
        self.failures = self.failures.saturating_add(1);
    }

    /// Until when the brake delays this shortage; `until` is its end, if it is on. A shortage is delayed once: not by a later
    /// brake, and no longer by one that lasts longer.
    pub(super) fn brake(&mut self, now: Time, until: Option<Time>) -> Time {
        if self.copies_left < brake::MIN_COPIES || !self.is_counted() {
            return Time::default();
        }
        match until {
            Some(until) => *self.brake.get_or_insert(until),
            // It has ended at its time, or before because all are back.
            None => self.brake.filter(|end| *end <= now).unwrap_or_default(),
        }
    }

    /// Is one holder that may be rebooting all that is missing? Two that are silent at once are an accident.
    fn awaits_one_holder(&self, context: &Context, replicas: &ReplicaMap, id: &ChunkId) -> bool {
        let Some(chunk) = replicas.get(id) else { return false };
        let max_ms = max_reboot_ms(&context.settings);
        let silent_ms = replicas.holders_of(chunk).filter_map(|cell| context.absent_for_ms(&cell));
        silent_ms.filter(|ms| *ms <= max_ms).count() == 1 && self.copies_left.saturating_add(1) >= chunk.wanted()
    }

    /// When to heal it: earlier with fewer copies left unless one holder may be rebooting, and later with more holders
    /// that rank before this cell. The holders wait for their turns from the end of the `brake` on, too: otherwise all
    /// of them would send the same copies when it ends.
    pub(super) fn due(&self, context: &Context, replicas: &ReplicaMap, id: &ChunkId, brake: Time) -> Time {
        // Ranks are not computed for stuck shortages: there can be many.
        if context.draining || (self.stuck && context.now < self.not_before) {
            return self.not_before.max(brake);
        }
        let delays = self.since.iter().zip(context.settings.heal_delay_ms);
        let mut due = delays.filter_map(|(since, delay_ms)| Some((*since)?.plus_ms(delay_ms)));
        let due = if self.awaits_one_holder(context, replicas, id) { due.next_back() } else { due.min() };
        let due = due.unwrap_or(context.now);
        let mine = rank::draw(id, &context.id);
        let is_before = |cell: &_| context.counts_copies_on(cell) && rank::draw(id, cell) > mine;
        let before = replicas.holders(id).filter(is_before).count() as u64;
        let ready = if self.stuck { self.not_before } else { due.max(self.ready) }.max(brake);
        ready.plus_ms(before.saturating_mul(context.settings.heal_step_ms)).max(self.not_before)
    }
}

/// When a holder is no longer awaited, in milliseconds after its last beacon. Its silence is noticed within twice
/// `silent_after_ms`.
fn max_reboot_ms(settings: &Settings) -> u64 {
    let [.., longest_ms] = settings.heal_delay_ms;
    longest_ms + 2 * settings.silent_after_ms
}

/// The times for this number of copies. They stay until there are more copies.
fn update_since(before: Since, copies_left: u8, now: Time) -> Since {
    let mut times = before;
    for (most, since) in [1, 2, 3, u8::MAX].into_iter().zip(&mut times) {
        *since = (copies_left <= most).then(|| since.unwrap_or(now));
    }
    times
}

/// Does this cell's own copy count? Not if the cell is draining, or the disk could not read it or is failing.
pub(super) fn own_copy_counts(context: &Context, chunk: &LocalChunk) -> bool {
    !context.draining && !context.failing && !chunk.is_suspect()
}

/// Copies of a chunk that count, on this cell and on others; at most 255.
pub(super) fn copies_left(context: &Context, replicas: &ReplicaMap, chunk: &LocalChunk) -> u8 {
    let others = replicas.holders_of(chunk).filter(|cell| context.counts_copies_on(cell)).count();
    u8::try_from(others + usize::from(own_copy_counts(context, chunk))).unwrap_or(u8::MAX)
}
