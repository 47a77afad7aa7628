//! When a chunk is requested from a second holder too: if its fetch takes much longer than others did lately.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::sync::lock;

/// A fetch is late when it takes this many times the median of the latest ones.
const LATE_FACTOR: u32 = 3;
/// No fetch is late before this time: an SD card pauses for hundreds of milliseconds now and then, and
/// a second request for each pause would only add load.
const MIN_LATE: Duration = Duration::from_secs(1);
/// When a fetch is late before there are enough samples. A chunk takes less on a link of 4 Mbit/s.
const FIRST_LATE: Duration = Duration::from_secs(5);
/// The latest fetches, of which the median is taken. Few, so that it follows a link that changes.
const SAMPLES: usize = 31;
/// Samples without which there is no median.
const MIN_SAMPLES: usize = 5;
/// The share of the workers whose chunk can be requested twice at the same time. On a network that is slow as a whole,
/// second requests would only double the traffic.
const WORKERS_PER_HEDGE: usize = 4;

/// How long the latest fetches took. Pure.
#[derive(Debug, Default)]
struct FetchTimes(VecDeque<Duration>);

impl FetchTimes {
    fn record(&mut self, took: Duration) {
        if self.0.len() == SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back(took);
    }

    /// The time after which a fetch is late.
    fn late_after(&self) -> Duration {
        let mut sorted: Vec<Duration> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        match sorted.get(sorted.len() / 2) {
            Some(median) if sorted.len() >= MIN_SAMPLES => median.saturating_mul(LATE_FACTOR).max(MIN_LATE),
            _ => FIRST_LATE,
        }
    }
}

/// What the workers of one get share in order to hedge.
#[derive(Debug)]
pub(super) struct Hedging {
    times: Mutex<FetchTimes>,
    hedges: Arc<AtomicUsize>,
    max_hedges: usize,
}

/// The right to request a chunk a second time. It returns when this is dropped.
#[derive(Debug)]
pub(super) struct HedgePermit(Arc<AtomicUsize>);

impl Hedging {
    pub(super) fn new(workers: usize) -> Self {
        let max_hedges = (workers / WORKERS_PER_HEDGE).max(1);
        Self { times: Mutex::default(), hedges: Arc::default(), max_hedges }
    }

    pub(super) fn record(&self, took: Duration) {
        lock(&self.times).record(took);
    }

    /// The time after which a fetch is late.
    pub(super) fn late_after(&self) -> Duration {
        lock(&self.times).late_after()
    }

    /// `None` if enough chunks are requested twice already.
    pub(super) fn permit(&self) -> Option<HedgePermit> {
        // Counted first, so that two workers cannot take the last permit. If there was none, the drop uncounts it.
        let permit = HedgePermit(Arc::clone(&self.hedges));
        (self.hedges.fetch_add(1, Ordering::SeqCst) < self.max_hedges).then_some(permit)
    }
}

impl Drop for HedgePermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_is_late_after_three_times_the_median() {
        let mut times = FetchTimes::default();
        let ms = Duration::from_millis;
        for took in [900, 100, 2000, 800] {
            times.record(ms(took));
            assert_eq!(times.late_after(), FIRST_LATE, "too few samples");
        }
        times.record(ms(1000));
        assert_eq!(times.late_after(), ms(2700));
        (0..SAMPLES).for_each(|_| times.record(ms(5000)));
        assert_eq!(times.late_after(), ms(15_000), "old samples are forgotten");
        (0..SAMPLES).for_each(|_| times.record(ms(1)));
        assert_eq!(times.late_after(), MIN_LATE);
    }

    #[test]
    fn a_quarter_of_the_workers_can_hedge() {
        for (workers, hedges) in [(1, 1), (4, 1), (10, 2), (130, 32)] {
            let hedging = Hedging::new(workers);
            let permits: Vec<_> = (0..=workers).map_while(|_| hedging.permit()).collect();
            assert_eq!(permits.len(), hedges, "{workers} workers");
            drop(permits);
            assert!(hedging.permit().is_some(), "a permit returns");
        }
    }
}
