//! A token bucket: so many bytes a second, no more than a second's worth saved up.

use crate::time::Time;

/// What may be spent. It may be overdrawn once by one item of any size, which is then paid off.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    /// Bytes a second.
    rate: u64,
    /// Thousandths of bytes; below zero while the last item is paid off.
    tokens: i64,
    filled: Time,
}

impl Bucket {
    pub(super) fn new(rate: u64) -> Self {
        let rate = rate.min(u64::from(u32::MAX) << 8);
        Self { rate, tokens: i64::try_from(rate * 1000).unwrap_or(i64::MAX), filled: Time::default() }
    }

    /// Bytes a second.
    pub(super) fn rate(&self) -> u64 {
        self.rate
    }

    /// May something be spent now?
    pub(super) fn is_open(&mut self, now: Time) -> bool {
        let most = i64::try_from(self.rate * 1000).unwrap_or(i64::MAX);
        let gained = i64::try_from(now.since_ms(self.filled).saturating_mul(self.rate)).unwrap_or(most);
        self.tokens = self.tokens.saturating_add(gained).min(most);
        self.filled = self.filled.max(now);
        self.tokens > 0
    }

    pub(super) fn spend(&mut self, bytes: u64) {
        self.tokens = self.tokens.saturating_sub(i64::try_from(bytes.saturating_mul(1000)).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_a_long_time_the_rate_holds_whatever_the_sizes() {
        let mut bucket = Bucket::new(1000);
        let mut spent = 0;
        for ms in 0..100_000 {
            if bucket.is_open(Time(ms)) {
                spent += 700;
                bucket.spend(700);
            }
        }
        assert!((100_000..=102_000).contains(&spent), "{spent}");
    }

    #[test]
    fn a_rest_saves_up_one_second_and_no_more() {
        let mut bucket = Bucket::new(1000);
        bucket.is_open(Time(1_000_000));
        let mut spent = 0;
        while bucket.is_open(Time(1_000_000)) {
            spent += 100;
            bucket.spend(100);
        }
        assert_eq!(spent, 1000);
    }

    #[test]
    fn a_rate_of_nothing_is_never_open() {
        assert!(!Bucket::new(0).is_open(Time(u64::MAX)));
    }
}
