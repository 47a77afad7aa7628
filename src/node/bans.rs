//! Senders of bad bytes. Bytes that do not hash to their name can be damaged on the way once; who sends them again and
//! again costs the cell reading and hashing for nothing, and is not listened to for a while.
//!
//! Pure: time is an argument.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use crate::time::Time;

/// So many bad puts within the window, and the address is banned for so long.
const BAD_PUTS: usize = 5;
const WINDOW_MS: u64 = 60_000;
const BAN_MS: u64 = 600_000;
/// Addresses remembered. One more takes the place of the one that has been quiet for longest.
const MAX_ADDRESSES: usize = 1024;

/// Who sent bad bytes lately, and who is not listened to.
#[derive(Debug, Default)]
pub(super) struct Bans {
    senders: BTreeMap<IpAddr, Sender>,
}

#[derive(Debug, Default)]
struct Sender {
    /// The last bad puts that count, oldest first.
    bad: VecDeque<Time>,
    banned_until: Option<Time>,
}

impl Sender {
    /// Until when something about it must be remembered.
    fn matters_until(&self) -> Time {
        let counts_until = self.bad.back().map_or(Time::default(), |last| last.plus_ms(WINDOW_MS));
        self.banned_until.unwrap_or_default().max(counts_until)
    }
}

impl Bans {
    /// Bytes from this address did not hash to their name. True if it is banned from now on.
    pub(super) fn bad_bytes(&mut self, now: Time, from: IpAddr) -> bool {
        let from = from.to_canonical();
        if !self.senders.contains_key(&from) {
            self.make_room(now);
        }
        let sender = self.senders.entry(from).or_default();
        sender.bad.retain(|then| now.since_ms(*then) < WINDOW_MS);
        sender.bad.push_back(now);
        if sender.bad.len() < BAD_PUTS {
            return false;
        }
        sender.bad.clear();
        sender.banned_until = Some(now.plus_ms(BAN_MS));
        true
    }

    /// For how many seconds more this address is banned; `None` if it is not.
    pub(super) fn banned_s(&self, now: Time, from: IpAddr) -> Option<u64> {
        let until = self.senders.get(&from.to_canonical())?.banned_until?;
        // A little longer rather than a little too short: who comes back when told is let in.
        (until > now).then(|| until.since_ms(now).div_ceil(1000))
    }

    fn make_room(&mut self, now: Time) {
        if self.senders.len() < MAX_ADDRESSES {
            return;
        }
        self.senders.retain(|_, sender| sender.matters_until() > now);
        while self.senders.len() >= MAX_ADDRESSES {
            let quietest = self.senders.iter().min_by_key(|(_, sender)| sender.matters_until()).map(|(from, _)| *from);
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
    fn five_bad_puts_in_a_minute_are_too_many_and_ten_minutes_later_all_is_forgiven() {
        let mut bans = Bans::default();
        for n in 0..4 {
            assert!(!bans.bad_bytes(Time(n * 14_000), SENDER));
            assert_eq!(bans.banned_s(Time(n * 14_000), SENDER), None);
        }
        assert!(bans.bad_bytes(Time(56_000), SENDER));
        assert_eq!(bans.banned_s(Time(56_000), SENDER), Some(600));
        assert_eq!(bans.banned_s(Time(56_001), SENDER), Some(600), "never told to come too early");
        assert_eq!(bans.banned_s(Time(655_999), SENDER), Some(1));
        assert_eq!(bans.banned_s(Time(656_000), SENDER), None);
        assert_eq!(bans.banned_s(Time(56_000), OTHER), None);
        assert!(!bans.bad_bytes(Time(656_000), SENDER), "it begins anew");
    }

    #[test]
    fn bad_puts_far_apart_do_not_add_up() {
        let mut bans = Bans::default();
        for n in 0..100 {
            assert!(!bans.bad_bytes(Time(n * 15_000), SENDER), "{n}");
        }
    }

    #[test]
    fn an_address_is_the_same_however_it_is_written() {
        let mut bans = Bans::default();
        let mapped: IpAddr = "::ffff:10.0.0.7".parse().unwrap();
        for n in 0..5 {
            bans.bad_bytes(Time(n), if n % 2 == 0 { SENDER } else { mapped });
        }
        assert!(bans.banned_s(Time(9), SENDER).is_some() && bans.banned_s(Time(9), mapped).is_some());
    }

    #[test]
    fn many_addresses_do_not_fill_the_memory_nor_push_out_one_that_is_banned() {
        let mut bans = Bans::default();
        for n in 0..5 {
            bans.bad_bytes(Time(n), SENDER);
        }
        for n in 0..3 * MAX_ADDRESSES {
            bans.bad_bytes(Time(10 + n as u64), address(n));
            assert!(bans.senders.len() <= MAX_ADDRESSES);
        }
        assert!(bans.banned_s(Time(10_000), SENDER).is_some());
        for n in 0..2 * MAX_ADDRESSES {
            for _ in 0..5 {
                bans.bad_bytes(Time(20_000 + n as u64), address(n));
            }
        }
        assert_eq!(bans.senders.len(), MAX_ADDRESSES);
        assert!(bans.banned_s(Time(30_000), address(2 * MAX_ADDRESSES - 1)).is_some(), "the latest is remembered");
    }
}
