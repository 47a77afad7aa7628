//! The hold-off: while a network comes together again, no healing round starts.
//!
//! A cell that was cut off sees the others again one by one, and would send to the first of them what all the others
//! have. So when a cell returns from the dead, or twice as many cells are active as before, healing waits for the rest:
//! longer while more cells come, up to a limit. Cells that return again and again start no other hold-off before a rest
//! has passed; otherwise a board that reboots without end would stop the healing of all chunks.
//!
//! A hold-off stops only new rounds. One that is under way continues.

use crate::time::Time;

/// Maximum length of a hold-off, and length of the rest after it, as a multiple of `silent_after_ms`.
const MAX_PERIODS: u64 = 6;

#[derive(Debug, Default)]
pub(super) struct HoldOff {
    /// Number of other active cells at the last update.
    others: usize,
    since: Time,
    until: Time,
}

impl HoldOff {
    pub(super) fn is_active(&self, now: Time) -> bool {
        now < self.until
    }

    /// Starts or extends the hold-off if necessary. `others` is the number of other active cells; `returned` is true if
    /// one of them has returned from the dead since the last update.
    pub(super) fn update(&mut self, now: Time, silent_after_ms: u64, others: usize, returned: bool) {
        let more = others > self.others;
        let max_ms = MAX_PERIODS * silent_after_ms;
        let is_rested = self.until == Time::default() || now >= self.until.plus_ms(max_ms);
        if self.is_active(now) {
            if more || returned {
                self.until = now.plus_ms(silent_after_ms).min(self.since.plus_ms(max_ms));
            }
        } else if (more && others >= 2 * self.others) || (returned && is_rested) {
            self.since = now;
            self.until = now.plus_ms(silent_after_ms);
        }
        self.others = others;
    }
}
