//! Looking at cells again and again until they have done what they were told.

// A shell: it waits between looks.
#![allow(clippy::disallowed_methods)]

use std::thread;
use std::time::{Duration, Instant};

use crate::client::StopSignal;

/// Time between looks, and how often the user's wish to stop is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(500);
const STOP_LOOK: Duration = Duration::from_millis(50);
/// A cell may restart, and Wi-Fi may come back: only so many looks in a row without an answer mean that it is gone.
const MAX_MISSED: u32 = 20;
/// A cell that answers and says nothing of what it was told does not do it any more. One look may come too early.
const MAX_SILENT: u32 = 3;

/// Waits until it is time for the next look. False if the user wants to stop.
pub(in crate::client) fn wait(stop: &StopSignal) -> bool {
    let next = Instant::now() + LOOK;
    while !stop.is_set() {
        if Instant::now() >= next {
            return true;
        }
        thread::sleep(STOP_LOOK);
    }
    false
}

/// How long a cell has told nothing.
#[derive(Debug, Default)]
pub(in crate::client) struct Missed {
    unheard: u32,
    silent: u32,
}

impl Missed {
    /// It told what it does.
    pub(in crate::client) fn heard(&mut self) {
        *self = Self::default();
    }

    /// It did not answer. True if it is not waited for any longer.
    pub(in crate::client) fn unheard(&mut self) -> bool {
        self.unheard += 1;
        self.unheard >= MAX_MISSED
    }

    /// It answered, and told nothing of it. True if it does not do it any more.
    pub(in crate::client) fn silent(&mut self) -> bool {
        self.unheard = 0;
        self.silent += 1;
        self.silent >= MAX_SILENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_comes_back_is_waited_for_as_long_as_before() {
        let mut missed = Missed::default();
        for _ in 0..3 {
            assert!((1..MAX_MISSED).all(|_| !missed.unheard()));
            missed.heard();
        }
        assert!((1..MAX_MISSED).all(|_| !missed.unheard()));
        assert!(missed.unheard());
    }

    #[test]
    fn a_cell_that_answers_and_says_nothing_of_it_does_it_no_longer() {
        let mut missed = Missed::default();
        assert!((1..MAX_SILENT).all(|_| !missed.silent()));
        assert!(!missed.unheard(), "a look that failed tells nothing");
        assert!(missed.silent());
    }
}
