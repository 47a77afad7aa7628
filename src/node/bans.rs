//! Temporary bans of addresses that send bad puts.
//!
//! Bytes can be damaged in transit now and then. An address whose puts fail their hash again and again makes the cell
//! read and hash for nothing, so its puts are refused for a while.
//!
//! Pure: time is an argument.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use crate::time::Time;

/// Bad puts within [`WINDOW_MS`] that lead to a ban of [`BAN_MS`].
const MAX_BAD_PUTS: usize = 5;
const WINDOW_MS: u64 = 60_000;
const BAN_MS: u64 = 600_000;
/// Maximum number of addresses in the table. A further one replaces the one that has been quiet for longest.
const MAX_ADDRESSES: usize = 1024;

/// The addresses that have sent bad puts recently, and those that are banned.
#[derive(Debug, Default)]
pub(super) struct Bans {
    senders: BTreeMap<IpAddr, Sender>,
}

#[derive(Debug, Default)]
struct Sender {
    /// The bad puts within the window, oldest first.
    bad_puts: VecDeque<Time>,
    banned_until: Option<Time>,
}

impl Sender {
    /// When its entry becomes irrelevant.
    fn expires_at(&self) -> Time {
        let counts_until = self.bad_puts.back().map_or(Time::default(), |last| last.plus_ms(WINDOW_MS));
        self.banned_until.unwrap_or_default().max(counts_until)
    }
}

impl Bans {
    /// Records that a put from this address did not hash to its id. Returns true if that leads to a ban.
    pub(super) fn record_bad_put(&mut self, now: Time, from: IpAddr) -> bool {
        let from = from.to_canonical();
        if !self.senders.contains_key(&from) {
            self.evict(now);
        }
        let sender = self.senders.entry(from).or_default();
        sender.bad_puts.retain(|then| now.since_ms(*then) < WINDOW_MS);
        sender.bad_puts.push_back(now);
        if sender.bad_puts.len() < MAX_BAD_PUTS {
            return false;
        }
        sender.bad_puts.clear();
        sender.banned_until = Some(now.plus_ms(BAN_MS));
        true
    }

    /// Seconds until the ban of this address ends; `None` if it is not banned.
    pub(super) fn ban_left_s(&self, now: Time, from: IpAddr) -> Option<u64> {
        let until = self.senders.get(&from.to_canonical())?.banned_until?;
        // Rounded up: a client that waits this long is served.
        (until > now).then(|| until.since_ms(now).div_ceil(1000))
    }

    fn evict(&mut self, now: Time) {
        if self.senders.len() < MAX_ADDRESSES {
            return;
        }
        self.senders.retain(|_, sender| sender.expires_at() > now);
        while self.senders.len() >= MAX_ADDRESSES {
            let quietest = self.senders.iter().min_by_key(|(_, sender)| sender.expires_at()).map(|(from, _)| *from);
            let Some(quietest) = quietest else { break };
            self.senders.remove(&quietest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 8));

    fn address(n: usize) -> IpAddr {
        IpAddr::from(u32::try_from(n).unwrap().to_be_bytes())
    }

    #[test]
    fn five_bad_puts_in_a_minute_ban_an_address_for_ten() {
        let mut bans = Bans::default();
        for n in 0..4 {
            assert!(!bans.record_bad_put(Time(n * 14_000), SENDER));
            assert_eq!(bans.ban_left_s(Time(n * 14_000), SENDER), None);
        }
        assert!(bans.record_bad_put(Time(56_000), SENDER));
        assert_eq!(bans.ban_left_s(Time(56_000), SENDER), Some(600));
        assert_eq!(bans.ban_left_s(Time(56_001), SENDER), Some(600), "rounded up");
        assert_eq!(bans.ban_left_s(Time(655_999), SENDER), Some(1));
        assert_eq!(bans.ban_left_s(Time(656_000), SENDER), None);
        assert_eq!(bans.ban_left_s(Time(56_000), OTHER), None);
        assert!(!bans.record_bad_put(Time(656_000), SENDER), "the count starts again");
    }

    #[test]
    fn bad_puts_far_apart_do_not_count_together() {
        let mut bans = Bans::default();
        for n in 0..100 {
            assert!(!bans.record_bad_put(Time(n * 15_000), SENDER), "{n}");
        }
    }

    #[test]
    fn an_ipv4_mapped_address_is_the_same_address() {
        let mut bans = Bans::default();
        let mapped: IpAddr = "::ffff:10.0.0.7".parse().unwrap();
        for n in 0..5 {
            bans.record_bad_put(Time(n), if n % 2 == 0 { SENDER } else { mapped });
        }
        assert!(bans.ban_left_s(Time(9), SENDER).is_some() && bans.ban_left_s(Time(9), mapped).is_some());
    }

    #[test]
    fn many_addresses_do_not_evict_a_ban_or_fill_the_memory() {
        let mut bans = Bans::default();
        for n in 0..5 {
            bans.record_bad_put(Time(n), SENDER);
        }
        for n in 0..3 * MAX_ADDRESSES {
            bans.record_bad_put(Time(10 + n as u64), address(n));
            assert!(bans.senders.len() <= MAX_ADDRESSES);
        }
        assert!(bans.ban_left_s(Time(10_000), SENDER).is_some());
        for n in 0..2 * MAX_ADDRESSES {
            for _ in 0..5 {
                bans.record_bad_put(Time(20_000 + n as u64), address(n));
            }
        }
        assert_eq!(bans.senders.len(), MAX_ADDRESSES);
        assert!(bans.ban_left_s(Time(30_000), address(2 * MAX_ADDRESSES - 1)).is_some(), "the latest is kept");
    }
}
