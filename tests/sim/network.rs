//! The network: datagrams that are lost, doubled, late and out of order; requests that take time and bandwidth;
//! partitions.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use cellsync::cell::{Input, MemberInput};
use cellsync::id::CellId;
use cellsync::time::Time;
use cellsync::wire::beacon::Beacon;

/// The HTTP port of all cells.
pub(crate) const PORT: u16 = 8080;
/// A request to a cell that is down fails after this time, in milliseconds.
pub(crate) const CONNECT_MS: u64 = 2_000;
/// A request that is lost, or whose response is, fails after this time, in milliseconds.
pub(crate) const STALL_MS: u64 = 15_000;

/// The quality of the network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    /// Probability, in thousandths, that a datagram does not reach a receiver.
    pub(crate) lost: u16,
    /// Probability, in thousandths, that it arrives twice.
    pub(crate) doubled: u16,
    /// Probability, in thousandths, that it arrives up to `late_ms` later.
    pub(crate) late: u16,
    pub(crate) late_ms: u64,
    /// Probability, in thousandths, that a request is lost, and the same for its response.
    pub(crate) broken: u16,
    /// Maximum latency of a request or a response.
    pub(crate) latency_ms: u64,
    /// Bandwidth of each cell in either direction.
    pub(crate) bytes_per_s: u64,
}

impl Link {
    /// A wired network of 100 Mbit/s.
    pub(crate) const WIRED: Self =
        Self { lost: 0, doubled: 0, late: 0, late_ms: 0, broken: 0, latency_ms: 5, bytes_per_s: 12_000_000 };
    /// A poor Wi-Fi network: one beacon in ten is lost, doubled or late.
    pub(crate) const WIFI: Self =
        Self { lost: 50, doubled: 10, late: 40, late_ms: 3_000, broken: 5, latency_ms: 80, bytes_per_s: 4_000_000 };
}

/// The IP address of the board with this index.
pub(crate) fn ip(index: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0001 + u32::try_from(index).unwrap()))
}

/// The address of the HTTP interface of the board with this index.
pub(crate) fn http_address(index: usize) -> SocketAddr {
    SocketAddr::new(ip(index), PORT)
}

/// The index of the board with this IP address. For an address outside of the simulation, an index that no board has.
pub(crate) fn index_of(ip: IpAddr) -> usize {
    match ip {
        IpAddr::V4(v4) => usize::try_from(u32::from(v4).wrapping_sub(0x0a00_0001)).unwrap(),
        IpAddr::V6(_) => usize::MAX,
    }
}

/// A beacon that was broadcast.
#[derive(Debug, Clone)]
pub(crate) struct Broadcast {
    /// The sender.
    pub(crate) from: (CellId, IpAddr),
    /// The part of the network that it reaches.
    pub(crate) partition: u8,
    /// What the receivers get.
    pub(crate) input: Input,
}

impl Broadcast {
    pub(crate) fn new(from: IpAddr, partition: u8, beacon: Beacon) -> Self {
        let id = beacon.node_id;
        Self { from: (id, from), partition, input: Input::Member(MemberInput::Beacon { from, beacon }) }
    }
}

/// All broadcasts of one quantum. Each cell handles them in a row. With a thousand cells they are nearly all inputs,
/// and so the cell's member table stays in the processor's cache.
#[derive(Debug, Default)]
pub(crate) struct Broadcasts {
    pub(crate) list: Vec<Broadcast>,
    /// Different in each quantum.
    pub(crate) salt: u64,
}

/// How a datagram arrives at one receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    Lost,
    Once,
    Twice,
    /// After this many milliseconds.
    Late(u64),
}

impl Broadcasts {
    /// How the broadcast with this number arrives at this board. Depends only on the arguments and the salt, so the
    /// receivers can be served in any order.
    pub(crate) fn delivery(&self, link: &Link, number: usize, receiver: usize) -> Delivery {
        if link.lost + link.doubled + link.late == 0 {
            return Delivery::Once;
        }
        let draw = mix(self.salt ^ ((number as u64) << 32) ^ receiver as u64);
        let thousandths = (draw % 1000) as u16;
        if thousandths < link.lost {
            Delivery::Lost
        } else if thousandths < link.lost + link.doubled {
            Delivery::Twice
        } else if thousandths < link.lost + link.doubled + link.late {
            Delivery::Late((draw >> 32) % link.late_ms)
        } else {
            Delivery::Once
        }
    }
}

/// The finalizer of `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
pub(crate) fn mix(mut word: u64) -> u64 {
    word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// One direction of a board's connection to the network.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Channel {
    free_at: Time,
}

impl Channel {
    /// When this many bytes have passed both channels, if they start now. They wait for earlier transfers.
    pub(crate) fn transfer(out: &mut Self, into: &mut Self, now: Time, bytes: u64, link: &Link) -> Time {
        let start = now.max(out.free_at).max(into.free_at);
        let end = start.plus_ms(bytes * 1000 / link.bytes_per_s);
        (out.free_at, into.free_at) = (end, end);
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_lost_doubled_and_late_as_often_as_set() {
        let broadcasts = Broadcasts { list: Vec::new(), salt: 7 };
        let mut counts = [0; 4];
        for number in 0..100 {
            for receiver in 0..100 {
                match broadcasts.delivery(&Link::WIFI, number, receiver) {
                    Delivery::Lost => counts[0] += 1,
                    Delivery::Twice => counts[1] += 1,
                    Delivery::Late(ms) => counts[2] += i32::from(ms < 3_000),
                    Delivery::Once => counts[3] += 1,
                }
            }
        }
        assert!((400..600).contains(&counts[0]) && (60..140).contains(&counts[1]), "{counts:?}");
        assert!((320..480).contains(&counts[2]) && (8_800..9_200).contains(&counts[3]), "{counts:?}");
    }

    #[test]
    fn two_transfers_to_one_board_take_the_time_of_both() {
        let link = Link { bytes_per_s: 1_000_000, ..Link::WIRED };
        let (mut a, mut b, mut into) = (Channel::default(), Channel::default(), Channel::default());
        assert_eq!(Channel::transfer(&mut a, &mut into, Time(100), 500_000, &link), Time(600));
        assert_eq!(Channel::transfer(&mut b, &mut into, Time(100), 500_000, &link), Time(1100));
    }

    #[test]
    fn an_ip_address_identifies_its_board() {
        assert_eq!(index_of(ip(999)), 999);
        assert!(index_of(IpAddr::from([9, 9, 9, 9])) > 1_000_000);
    }
}
