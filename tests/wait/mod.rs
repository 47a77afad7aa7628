//! Waiting for a condition, for all tests.

use std::thread;
use std::time::{Duration, Instant};

/// Upper limit of a wait. Nothing takes this long unless it is broken.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(1);

/// Waits until a condition holds. Panics after [`TIMEOUT`].
#[track_caller]
pub(crate) fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    wait_at_most(TIMEOUT, what, condition);
}

/// Waits until a condition holds, and returns how long that took. Panics after `limit`.
#[track_caller]
pub(crate) fn wait_at_most(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !condition() {
        let waited = began.elapsed();
        assert!(waited < limit, "not within {limit:?}: {what}");
        // Checks often at first, and rarely what takes long.
        thread::sleep((waited / 100).clamp(Duration::from_millis(1), Duration::from_millis(100)));
    }
    began.elapsed()
}
