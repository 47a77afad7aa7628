//! A token bucket that limits bytes per second. It saves up at most one second's worth.

use crate::time::Time;

/// The bucket. One item of any size may overdraw it; the debt is paid off before the next item.
#[derive(Debug, Clone)]
pub(super) struct TokenBucket {
    /// Bytes per second.
    rate: u64,
    /// Thousandths of a byte; negative while the last item is paid off.
    tokens: i64,
    filled_at: Time,
}

impl TokenBucket {
    /// A full bucket. `rate` is in bytes per second; at 0 the bucket never opens.
    pub(super) fn new(rate: u64) -> Self {
        let rate = rate.min(u64::from(u32::MAX) << 8);
        Self { rate, tokens: i64::try_from(rate * 1000).unwrap_or(i64::MAX), filled_at: Time::default() }
    }

    /// Bytes per second.
    pub(super) fn rate(&self) -> u64 {
        self.rate
    }

    /// May an item be sent now?
    pub(super) fn is_open(&mut self, now: Time) -> bool {
        let capacity = i64::try_from(self.rate * 1000).unwrap_or(i64::MAX);
        let gained = i64::try_from(now.since_ms(self.filled_at).saturating_mul(self.rate)).unwrap_or(capacity);
        self.tokens = self.tokens.saturating_add(gained).min(capacity);
        self.filled_at = self.filled_at.max(now);
        self.tokens > 0
    }

    /// Accounts for an item of this size.
    pub(super) fn spend(&mut self, bytes: u64) {
        self.tokens = self.tokens.saturating_sub(i64::try_from(bytes.saturating_mul(1000)).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_for_items_of_any_size() {
        let mut bucket = TokenBucket::new(1000);
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
    fn a_pause_saves_up_one_second_at_most() {
        let mut bucket = TokenBucket::new(1000);
        bucket.is_open(Time(1_000_000));
        let mut spent = 0;
        while bucket.is_open(Time(1_000_000)) {
            spent += 100;
            bucket.spend(100);
        }
        assert_eq!(spent, 1000);
    }

    #[test]
    fn a_rate_of_zero_never_opens() {
        assert!(!TokenBucket::new(0).is_open(Time(u64::MAX)));
    }
}
