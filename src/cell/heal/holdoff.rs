//! The hold: while a network comes together again, no round of healing begins.
//!
//! Whoever was cut off hears the others one after the other, and would send to the first of them what all the others
//! have. So when a cell comes back from the dead, or there are twice as many as before, the rest is waited for: longer as
//! long as more come, but not for ever. Cells that return again and again do not begin another hold before there was a
//! rest, or a board that reboots without end would put off the healing of all others.
//!
//! A hold keeps a round from beginning; one that is under way goes on.

use crate::time::Time;

/// A hold lasts so many times as long as a cell may be silent, at the most; and so long is the rest.
const MAX_HOLD: u64 = 6;

#[derive(Debug, Default)]
pub(super) struct Hold {
    /// How many other cells were there when it was last looked.
    others: usize,
    /// Since and until when those who come are waited for.
    since: Time,
    until: Time,
}

impl Hold {
    pub(super) fn is_on(&self, now: Time) -> bool {
        now < self.until
    }

    /// So many other cells are active now, and some may have `returned` from the dead. The next one is waited for as
    /// long as a cell may be silent.
    pub(super) fn look(&mut self, now: Time, silent_after_ms: u64, others: usize, returned: bool) {
        let come = others > self.others;
        let longest_ms = MAX_HOLD * silent_after_ms;
        let rested = self.until == Time::default() || now >= self.until.plus_ms(longest_ms);
        if self.is_on(now) {
            if come || returned {
                self.until = now.plus_ms(silent_after_ms).min(self.since.plus_ms(longest_ms));
            }
        } else if (come && others >= 2 * self.others) || (returned && rested) {
            self.since = now;
            self.until = now.plus_ms(silent_after_ms);
        }
        self.others = others;
    }
}
