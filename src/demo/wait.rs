//! Waiting for a condition, up to a deadline, or until the user stops the demo.

// A shell: it waits.
#![allow(clippy::disallowed_methods)]

use std::thread;
use std::time::{Duration, Instant};

use crate::client::StopSignal;
use crate::demo::DemoError;

/// Timeout for cells to start, to find each other, or to notice a change. A small board with fifty cells is slow; a cell
/// that cannot start ends at once.
pub(super) const CELL_TIMEOUT: Duration = Duration::from_mins(1);
/// Timeout for healing, in addition to the time for the bytes.
pub(super) const HEALING_TIMEOUT: Duration = Duration::from_mins(3);
/// The speed of a busy small board, in bytes a second.
const SLOW_BYTES_PER_S: u64 = 256 << 10;
/// The interval between two checks of a cheap condition.
const POLL: Duration = Duration::from_millis(10);
/// The interval between two checks that query cells or read their folders.
const POLL_CELLS: Duration = Duration::from_millis(100);

/// Timeout for healing this many bytes.
pub(super) fn healing_timeout(bytes: u64) -> Duration {
    HEALING_TIMEOUT + Duration::from_secs(bytes / SLOW_BYTES_PER_S)
}

/// A timeout that has started.
pub(super) struct Deadline {
    began: Instant,
    timeout: Duration,
    poll: Duration,
}

impl Deadline {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { began: Instant::now(), timeout, poll: POLL }
    }

    /// For conditions that are expensive to check.
    pub(super) fn of_cells(timeout: Duration) -> Self {
        Self { poll: POLL_CELLS, ..Self::new(timeout) }
    }

    /// Seconds since the start.
    pub(super) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Polls `check` until it returns a value. `condition` describes the state that a timeout reports.
    pub(super) fn wait<T>(
        &self,
        stop: &StopSignal,
        condition: &str,
        mut check: impl FnMut() -> Result<Option<T>, DemoError>,
    ) -> Result<T, DemoError> {
        loop {
            if stop.is_set() {
                return Err(DemoError::Stopped);
            }
            if let Some(found) = check()? {
                return Ok(found);
            }
            if self.began.elapsed() > self.timeout {
                return Err(DemoError::Timeout { condition: condition.to_owned(), seconds: self.timeout.as_secs() });
            }
            thread::sleep(self.poll);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_names_the_condition_and_stop_ends_the_wait() {
        let stop = StopSignal::default();
        let none = Deadline::new(Duration::from_millis(30));
        let late = none.wait::<()>(&stop, "cell 7 is not active", || Ok(None)).unwrap_err();
        assert_eq!(late.to_string(), "timed out after 0 s: cell 7 is not active");
        let mut checks = 0;
        let third = none.wait(&stop, "", || {
            checks += 1;
            Ok((checks == 1).then_some(checks))
        });
        assert_eq!(third.unwrap(), 1, "a condition that holds is reported, even after the deadline");
        stop.set();
        let stopped = Deadline::new(CELL_TIMEOUT).wait::<()>(&stop, "", || Ok(None));
        assert!(matches!(stopped, Err(DemoError::Stopped)));
    }
}
