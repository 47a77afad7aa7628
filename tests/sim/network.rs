//! The network: datagrams that get lost, doubled, late and out of order; calls that take time and bandwidth; cuts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use cellsync::cell::{Input, MemberInput};
use cellsync::id::CellId;
use cellsync::time::Time;
use cellsync::wire::beacon::Beacon;

/// The cells' HTTP port.
pub(crate) const PORT: u16 = 8080;
/// A call to a cell that does not answer fails after so long, in milliseconds.
pub(crate) const CONNECT_MS: u64 = 2_000;
/// A call whose request or answer got lost fails after so long, in milliseconds.
pub(crate) const STALL_MS: u64 = 15_000;

/// How good the network is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    /// Of each datagram and receiver, in thousandths: it does not arrive,
    pub(crate) lost: u16,
    /// or arrives twice,
    pub(crate) doubled: u16,
    /// or arrives up to `late_ms` later.
    pub(crate) late: u16,
    pub(crate) late_ms: u64,
    /// Of each call, in thousandths: it is cut off on its way there or back.
    pub(crate) broken: u16,
    /// One way, for a call's request or its answer, at random up to this.
    pub(crate) latency_ms: u64,
    /// Bytes a second in and out of each cell.
    pub(crate) bytes_per_s: u64,
}

impl Link {
    /// A wire of 100 Mbit/s.
    pub(crate) const WIRE: Self =
        Self { lost: 0, doubled: 0, late: 0, late_ms: 0, broken: 0, latency_ms: 5, bytes_per_s: 12_000_000 };
    /// A poor Wi-Fi: a tenth of the beacons does not arrive as it should.
    pub(crate) const WIFI: Self =
        Self { lost: 50, doubled: 10, late: 40, late_ms: 3_000, broken: 5, latency_ms: 80, bytes_per_s: 4_000_000 };
}

/// The address of the cell with this number.
pub(crate) fn address(index: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0001 + u32::try_from(index).unwrap()))
}

/// The door of the cell with this number.
pub(crate) fn door(index: usize) -> SocketAddr {
    SocketAddr::new(address(index), PORT)
}

/// The cell at this address; any number if it is none of ours.
pub(crate) fn index(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(v4) => usize::try_from(u32::from(v4).wrapping_sub(0x0a00_0001)).unwrap(),
        IpAddr::V6(_) => usize::MAX,
    }
}

/// A beacon that was broadcast.
#[derive(Debug, Clone)]
pub(crate) struct Wave {
    /// Whose it is, and from where.
    pub(crate) by: (CellId, IpAddr),
    /// Only cells on the same side of a cut hear it.
    pub(crate) side: u8,
    /// What they hear.
    pub(crate) heard: Input,
}

impl Wave {
    pub(crate) fn new(from: IpAddr, side: u8, beacon: Beacon) -> Self {
        Self { by: (beacon.node_id, from), side, heard: Input::Member(MemberInput::Beacon { from, beacon }) }
    }
}

/// All beacons of one quantum. Each cell takes them in one after the other: with a thousand cells these are nearly all
/// inputs there are, and so the cell's records stay in the processor's cache meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Air {
    pub(crate) waves: Vec<Wave>,
    /// Changes from quantum to quantum.
    pub(crate) salt: u64,
}

/// What becomes of a datagram on its way to one receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Lost,
    Once,
    Twice,
    LateBy(u64),
}

impl Air {
    /// The fate depends on nothing but the arguments and the salt, so that receivers can be served in any order.
    pub(crate) fn fate(&self, link: &Link, wave: usize, receiver: usize) -> Fate {
        if link.lost + link.doubled + link.late == 0 {
            return Fate::Once;
        }
        let draw = mix(self.salt ^ ((wave as u64) << 32) ^ receiver as u64);
        let thousandths = (draw % 1000) as u16;
        if thousandths < link.lost {
            Fate::Lost
        } else if thousandths < link.lost + link.doubled {
            Fate::Twice
        } else if thousandths < link.lost + link.doubled + link.late {
            Fate::LateBy((draw >> 32) % link.late_ms)
        } else {
            Fate::Once
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

/// One direction of a cell's wire, as far as it is taken.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wire {
    free_at: Time,
}

impl Wire {
    /// When so many bytes that start now have passed both wires. They wait for those before them.
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
    fn datagrams_meet_their_fates_as_often_as_the_link_says() {
        let air = Air { waves: Vec::new(), salt: 7 };
        let mut fates = [0; 4];
        for wave in 0..100 {
            for receiver in 0..100 {
                match air.fate(&Link::WIFI, wave, receiver) {
                    Fate::Lost => fates[0] += 1,
                    Fate::Twice => fates[1] += 1,
                    Fate::LateBy(ms) => fates[2] += i32::from(ms < 3_000),
                    Fate::Once => fates[3] += 1,
                }
            }
        }
        assert!((400..600).contains(&fates[0]) && (60..140).contains(&fates[1]), "{fates:?}");
        assert!((320..480).contains(&fates[2]) && (8_800..9_200).contains(&fates[3]), "{fates:?}");
    }

    #[test]
    fn two_transfers_to_one_cell_take_the_time_of_both() {
        let link = Link { bytes_per_s: 1_000_000, ..Link::WIRE };
        let (mut a, mut b, mut into) = (Wire::default(), Wire::default(), Wire::default());
        assert_eq!(Wire::transfer(&mut a, &mut into, Time(100), 500_000, &link), Time(600));
        assert_eq!(Wire::transfer(&mut b, &mut into, Time(100), 500_000, &link), Time(1100));
    }

    #[test]
    fn an_address_names_its_cell() {
        assert_eq!(index(address(999)), 999);
        assert!(index(IpAddr::from([9, 9, 9, 9])) > 1_000_000);
    }
}
