//! Polling cells until they have done what they were asked to.

// A shell: it waits between polls.
#![allow(clippy::disallowed_methods)]

use std::thread;
use std::time::{Duration, Instant};

use crate::client::progress::StopSignal;

/// Time between two polls.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How often the wait between two polls checks whether the user wants to stop.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// After this many failed polls in a row a cell is gone. Before that it may have restarted, or Wi-Fi may return.
const MAX_FAILED_POLLS: u32 = 20;
/// After this many responses in a row that do not mention the operation, the cell has ended it. One response may come
/// too early.
const MAX_IDLE_POLLS: u32 = 3;

/// Waits until it is time for the next poll. False if the user wants to stop.
pub(in crate::client) fn wait(stop: &StopSignal) -> bool {
    let deadline = Instant::now() + POLL_INTERVAL;
    while !stop.is_set() {
        if Instant::now() >= deadline {
            return true;
        }
        thread::sleep(STOP_CHECK_INTERVAL);
    }
    false
}

/// Counts the polls of one cell that did not show its progress.
#[derive(Debug, Default)]
pub(in crate::client) struct PollCounter {
    failed: u32,
    idle: u32,
}

impl PollCounter {
    /// The response showed the progress of the operation.
    pub(in crate::client) fn progressed(&mut self) {
        *self = Self::default();
    }

    /// There was no response. True if the cell is gone.
    pub(in crate::client) fn is_gone(&mut self) -> bool {
        self.failed += 1;
        self.failed >= MAX_FAILED_POLLS
    }

    /// The response did not mention the operation. True if the cell has ended it.
    pub(in crate::client) fn is_ended(&mut self) -> bool {
        self.failed = 0;
        self.idle += 1;
        self.idle >= MAX_IDLE_POLLS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_returns_may_fail_as_often_as_before() {
        let mut polls = PollCounter::default();
        for _ in 0..3 {
            assert!((1..MAX_FAILED_POLLS).all(|_| !polls.is_gone()));
            polls.progressed();
        }
        assert!((1..MAX_FAILED_POLLS).all(|_| !polls.is_gone()));
        assert!(polls.is_gone());
    }

    #[test]
    fn an_operation_has_ended_after_several_idle_responses() {
        let mut polls = PollCounter::default();
        assert!((1..MAX_IDLE_POLLS).all(|_| !polls.is_ended()));
        assert!(!polls.is_gone(), "a failed poll shows nothing");
        assert!(polls.is_ended());
    }
}
