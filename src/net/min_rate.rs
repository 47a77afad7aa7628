//! The minimum rate of a transfer. A peer that is slower occupies a slot or a worker that others need.
//!
//! Pure: the time spent waiting is an argument. Only waiting for the peer counts, so a disk that stalls during an upload
//! does not cost a client its connection.

use std::time::Duration;

/// Measures a transfer in one direction against the minimum rate.
#[derive(Debug, Clone)]
pub struct MinRate {
    bytes: u64,
    window: Duration,
    /// Bytes transferred since the window began.
    transferred: u64,
    /// Time spent waiting for the peer since the window began.
    waited: Duration,
}

impl MinRate {
    /// Starts to measure a transfer that must move `bytes` in every `window`.
    pub const fn new(bytes: u64, window: Duration) -> Self {
        Self { bytes, window, transferred: 0, waited: Duration::ZERO }
    }

    /// How much longer to wait for the peer before it counts as too slow.
    pub fn time_left(&self) -> Duration {
        self.window.saturating_sub(self.waited)
    }

    /// Records that `bytes` moved after waiting for the peer. The window ends once it has its bytes, so a burst earns
    /// no more than one window of silence.
    pub fn record(&mut self, bytes: u64, waited: Duration) {
        self.transferred = self.transferred.saturating_add(bytes);
        self.waited = self.waited.saturating_add(waited);
        if self.transferred >= self.bytes {
            self.transferred = 0;
            self.waited = Duration::ZERO;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn regular_drips_below_the_rate_run_out_of_time() {
        let mut rate = MinRate::new(1000, 10 * SECOND);
        for left in (0..10).rev() {
            rate.record(99, SECOND);
            assert_eq!(rate.time_left(), left * SECOND);
        }
        rate.record(1, SECOND);
        assert_eq!(rate.time_left(), Duration::ZERO);
    }

    #[test]
    fn reaching_the_minimum_begins_a_new_window() {
        let mut rate = MinRate::new(1000, 10 * SECOND);
        rate.record(999, 9 * SECOND);
        assert_eq!(rate.time_left(), SECOND);
        rate.record(1, SECOND);
        assert_eq!(rate.time_left(), 10 * SECOND);
    }

    #[test]
    fn a_burst_earns_one_window_only() {
        let mut rate = MinRate::new(1000, 10 * SECOND);
        rate.record(1_000_000, SECOND);
        assert_eq!(rate.time_left(), 10 * SECOND);
        rate.record(1, 10 * SECOND);
        assert_eq!(rate.time_left(), Duration::ZERO);
    }
}
