//! The floor under a client's speed: whoever is slower than that is holding a place that others need.
//!
//! Pure: how long the client was waited for is an argument. Only that time counts. A disk that stalls for seconds in
//! the midst of an upload is the cell's own fault, and no reason to close on the client.

use std::time::Duration;

/// How a transfer in one direction has been going.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    floor_bytes: u64,
    window: Duration,
    /// Bytes moved since the window began.
    moved: u64,
    /// Time spent waiting for the client since the window began.
    waited: Duration,
}

impl Pace {
    /// A transfer that must move `floor_bytes` in every `window`.
    pub(super) fn new(floor_bytes: u64, window: Duration) -> Self {
        Self { floor_bytes, window, moved: 0, waited: Duration::ZERO }
    }

    /// How much longer the client may be waited for before it counts as too slow.
    pub(super) fn patience(&self) -> Duration {
        self.window.saturating_sub(self.waited)
    }

    /// The client moved `bytes` after being waited for. A window ends as soon as its bytes are there, so that a burst
    /// buys no more than one window of silence.
    pub(super) fn moved(&mut self, bytes: u64, waited: Duration) {
        self.moved = self.moved.saturating_add(bytes);
        self.waited = self.waited.saturating_add(waited);
        if self.moved >= self.floor_bytes {
            self.moved = 0;
            self.waited = Duration::ZERO;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn drips_run_out_of_patience_however_regular_they_are() {
        let mut pace = Pace::new(1000, 10 * SECOND);
        for left in (0..10).rev() {
            pace.moved(99, SECOND);
            assert_eq!(pace.patience(), left * SECOND);
        }
        pace.moved(1, SECOND);
        assert_eq!(pace.patience(), Duration::ZERO);
    }

    #[test]
    fn moving_the_floor_begins_a_new_window() {
        let mut pace = Pace::new(1000, 10 * SECOND);
        pace.moved(999, 9 * SECOND);
        assert_eq!(pace.patience(), SECOND);
        pace.moved(1, SECOND);
        assert_eq!(pace.patience(), 10 * SECOND);
    }

    #[test]
    fn a_burst_buys_one_window_only() {
        let mut pace = Pace::new(1000, 10 * SECOND);
        pace.moved(1_000_000, SECOND);
        assert_eq!(pace.patience(), 10 * SECOND);
    }
}
