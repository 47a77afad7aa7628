//! Who has a place at the door, and who makes room when there are none left.
//!
//! Pure: time is an argument, in milliseconds since the door opened. What sits in a place is up to the caller: the
//! door puts the connection's task there, and dropping it closes the connection.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// Connections that count as one client. One IPv6 host usually owns a whole /64, so its addresses are one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// One IPv4 address, however it is written.
    V4(Ipv4Addr),
    /// The first 64 bits of an IPv6 address.
    V6(u64),
}

impl Group {
    /// The group of an address.
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4),
            IpAddr::V6(v6) => Self::V6((v6.to_bits() >> 64) as u64),
        }
    }
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Between requests, or before its first.
    Idle,
    /// Half-way through sending a head, or reading the reason of a refusal.
    Head,
    /// Half-way through sending a body.
    Body,
    /// Its whole request is here and the answer is on its way: it keeps its place.
    Answer,
}

#[derive(Debug)]
struct Place<T> {
    group: Group,
    stage: Stage,
    /// When the connection last sent something.
    active_ms: u64,
    occupant: Option<T>,
}

/// May a new connection come in?
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<T> {
    /// It has this place; whoever made room is to be shown out.
    Admitted(u64, Option<T>),
    /// All places are taken by connections that are being served.
    Full,
}

/// The table of connections.
#[derive(Debug)]
pub(super) struct Places<T> {
    taken: BTreeMap<u64, Place<T>>,
    next: u64,
    most: usize,
    most_of_a_group: usize,
}

impl<T> Places<T> {
    /// An empty table with this many places, and this many for one group.
    pub(super) fn new(most: usize, most_of_a_group: usize) -> Self {
        Self { taken: BTreeMap::new(), next: 0, most, most_of_a_group }
    }

    /// Gives a place to a new connection, taking it from the one that has been silent longest if need be: of the same
    /// group when that group is at its limit, of all otherwise.
    pub(super) fn admit(&mut self, group: Group, now_ms: u64) -> Verdict<T> {
        let of_group = self.taken.values().filter(|place| place.group == group).count();
        let evicted = if of_group >= self.most_of_a_group {
            self.make_room(Some(group))
        } else if self.taken.len() >= self.most {
            self.make_room(None)
        } else {
            Ok(None)
        };
        let Ok(evicted) = evicted else { return Verdict::Full };
        let number = self.next;
        self.next += 1;
        self.taken.insert(number, Place { group, stage: Stage::Idle, active_ms: now_ms, occupant: None });
        Verdict::Admitted(number, evicted)
    }

    /// Takes the place of the connection that has been silent longest and is not being served, if there is one.
    pub(super) fn evict(&mut self) -> Option<T> {
        self.make_room(None).ok().flatten()
    }

    fn make_room(&mut self, of: Option<Group>) -> Result<Option<T>, ()> {
        let victim = self
            .taken
            .iter()
            .filter(|(_, place)| place.stage != Stage::Answer && of.is_none_or(|group| place.group == group))
            .min_by_key(|(_, place)| place.active_ms)
            .map(|(number, _)| *number);
        victim.and_then(|number| self.taken.remove(&number)).map(|place| place.occupant).ok_or(())
    }

    /// Seats the occupant of a place. Given back when the place is gone already.
    pub(super) fn seat(&mut self, number: u64, occupant: T) -> Option<T> {
        match self.taken.get_mut(&number) {
            Some(place) => place.occupant.replace(occupant),
            None => Some(occupant),
        }
    }

    /// The connection goes over to `stage`, or shows in it that it is alive.
    pub(super) fn touch(&mut self, number: u64, stage: Stage, now_ms: u64) {
        if let Some(place) = self.taken.get_mut(&number) {
            place.stage = stage;
            place.active_ms = now_ms;
        }
    }

    /// The connection has ended.
    pub(super) fn leave(&mut self, number: u64) -> Option<T> {
        self.taken.remove(&number).and_then(|place| place.occupant)
    }

    /// Takes out everyone whose request has not begun in earnest: idle, or with an unfinished head.
    pub(super) fn dismiss_idle(&mut self) -> Vec<T> {
        let (idle, busy) = std::mem::take(&mut self.taken)
            .into_iter()
            .partition(|(_, place)| matches!(place.stage, Stage::Idle | Stage::Head));
        self.taken = busy;
        let idle: BTreeMap<u64, Place<T>> = idle;
        idle.into_values().filter_map(|place| place.occupant).collect()
    }

    /// Takes out everyone.
    pub(super) fn dismiss_all(&mut self) -> Vec<T> {
        std::mem::take(&mut self.taken).into_values().filter_map(|place| place.occupant).collect()
    }

    /// Is nobody here?
    pub(super) fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(last: u8) -> Group {
        Group::of(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)))
    }

    fn enter(places: &mut Places<&'static str>, who: &'static str, of: u8, now_ms: u64) -> Option<&'static str> {
        match places.admit(group(of), now_ms) {
            Verdict::Admitted(number, evicted) => {
                assert_eq!(places.seat(number, who), None);
                evicted
            }
            Verdict::Full => Some("full"),
        }
    }

    #[test]
    fn the_longest_idle_of_all_makes_room_when_all_places_are_taken() {
        let mut places = Places::new(3, 3);
        assert_eq!(enter(&mut places, "a", 1, 10), None);
        assert_eq!(enter(&mut places, "b", 2, 5), None);
        assert_eq!(enter(&mut places, "c", 3, 20), None);
        assert_eq!(enter(&mut places, "d", 4, 30), Some("b"));
        places.touch(0, Stage::Idle, 40);
        assert_eq!(enter(&mut places, "e", 4, 50), Some("c"));
    }

    #[test]
    fn a_group_at_its_limit_makes_room_itself() {
        let mut places = Places::new(10, 2);
        assert_eq!(enter(&mut places, "other", 9, 0), None);
        assert_eq!(enter(&mut places, "a", 1, 10), None);
        assert_eq!(enter(&mut places, "b", 1, 20), None);
        assert_eq!(enter(&mut places, "c", 1, 30), Some("a"));
    }

    #[test]
    fn whoever_is_being_served_keeps_the_place() {
        let mut places = Places::new(2, 2);
        assert_eq!(enter(&mut places, "a", 1, 0), None);
        assert_eq!(enter(&mut places, "b", 1, 1), None);
        places.touch(0, Stage::Answer, 2);
        assert_eq!(enter(&mut places, "c", 1, 3), Some("b"));
        places.touch(2, Stage::Answer, 4);
        assert_eq!(enter(&mut places, "d", 1, 5), Some("full"));
        assert_eq!(enter(&mut places, "e", 2, 5), Some("full"));
        assert_eq!(places.leave(0), Some("a"));
        assert_eq!(enter(&mut places, "f", 1, 6), None);
    }

    #[test]
    fn those_half_way_through_a_request_count_by_their_last_byte() {
        let mut places = Places::new(2, 2);
        enter(&mut places, "body", 1, 0);
        enter(&mut places, "idle", 1, 5);
        places.touch(0, Stage::Body, 6);
        assert_eq!(enter(&mut places, "c", 1, 7), Some("idle"));
    }

    #[test]
    fn a_stop_dismisses_those_without_a_request_first() {
        let mut places = Places::new(4, 4);
        for (number, stage) in [Stage::Idle, Stage::Head, Stage::Body, Stage::Answer].into_iter().enumerate() {
            enter(&mut places, ["idle", "head", "body", "answer"][number], 1, 0);
            places.touch(number as u64, stage, 0);
        }
        assert_eq!(places.dismiss_idle(), ["idle", "head"]);
        assert_eq!(places.dismiss_all(), ["body", "answer"]);
        assert!(places.is_empty());
        assert_eq!(places.seat(0, "late"), Some("late"));
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_a_mapped_address_is_the_ipv4_one() {
        let of = |text: &str| Group::of(text.parse().unwrap());
        assert_eq!(of("fd00:1:2:3::1"), of("fd00:1:2:3:ffff::9"));
        assert_ne!(of("fd00:1:2:3::1"), of("fd00:1:2:4::1"));
        assert_eq!(of("::ffff:10.0.0.1"), group(1));
    }
}
