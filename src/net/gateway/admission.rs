//! Admission: the slots for connections, and which connection loses its slot if there is none for a new one.
//!
//! Pure: time is an argument, in milliseconds since the gateway started. A slot holds any value of the caller's. The
//! gateway stores the connection's task there; dropping the task closes the connection.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// The addresses that count as one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientNetwork {
    /// One IPv4 address, also if it is written as an IPv6 one.
    V4(Ipv4Addr),
    /// The first 64 bits of an IPv6 address: one host usually owns a whole /64.
    V6(u64),
}

impl ClientNetwork {
    /// The network of an address.
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
    /// Between requests, or before the first one.
    Idle,
    /// Receiving a head, or sending a refusal.
    Head,
    /// Receiving a body.
    Body,
    /// The whole request was received, and the response is pending or in transfer. Such a connection keeps its slot.
    Response,
}

#[derive(Debug)]
struct Slot<T> {
    network: ClientNetwork,
    stage: Stage,
    /// When the connection was last active.
    active_ms: u64,
    content: Option<T>,
}

/// Whether a new connection has a slot.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission<T> {
    /// It has the slot with this number. Another connection may have lost its own; here is what its slot held.
    Admitted(u64, Option<T>),
    /// Every slot that it could take is serving a complete request.
    Full,
}

/// The table of connections.
#[derive(Debug)]
pub(super) struct Slots<T> {
    occupied: BTreeMap<u64, Slot<T>>,
    next: u64,
    max: usize,
    max_per_network: usize,
}

impl<T> Slots<T> {
    /// Creates an empty table of `max` slots, of which one network may occupy `max_per_network`.
    pub(super) fn new(max: usize, max_per_network: usize) -> Self {
        Self { occupied: BTreeMap::new(), next: 0, max, max_per_network }
    }

    /// Gives a slot to a new connection. If its network is at the limit, one of the same network loses its slot; if the
    /// table is full, one of any network.
    pub(super) fn admit(&mut self, network: ClientNetwork, now_ms: u64) -> Admission<T> {
        let of_network = self.occupied.values().filter(|slot| slot.network == network).count();
        let evicted = if of_network >= self.max_per_network {
            self.evict_from(Some(network))
        } else if self.occupied.len() >= self.max {
            self.evict_from(None)
        } else {
            Ok(None)
        };
        let Ok(evicted) = evicted else { return Admission::Full };
        let number = self.next;
        self.next += 1;
        self.occupied.insert(number, Slot { network, stage: Stage::Idle, active_ms: now_ms, content: None });
        Admission::Admitted(number, evicted)
    }

    /// Frees the slot of the connection that has been silent the longest and has no complete request, if there is one.
    pub(super) fn evict(&mut self) -> Option<T> {
        self.evict_from(None).ok().flatten()
    }

    fn evict_from(&mut self, network: Option<ClientNetwork>) -> Result<Option<T>, ()> {
        let victim = self
            .occupied
            .iter()
            .filter(|(_, slot)| slot.stage != Stage::Response && network.is_none_or(|network| slot.network == network))
            .min_by_key(|(_, slot)| slot.active_ms)
            .map(|(number, _)| *number);
        victim.and_then(|number| self.occupied.remove(&number)).map(|slot| slot.content).ok_or(())
    }

    /// Stores the content of a slot. Returns it if the slot is free already.
    pub(super) fn fill(&mut self, number: u64, content: T) -> Option<T> {
        match self.occupied.get_mut(&number) {
            Some(slot) => slot.content.replace(content),
            None => Some(content),
        }
    }

    /// Records that the connection is active, and in which stage.
    pub(super) fn touch(&mut self, number: u64, stage: Stage, now_ms: u64) {
        if let Some(slot) = self.occupied.get_mut(&number) {
            slot.stage = stage;
            slot.active_ms = now_ms;
        }
    }

    /// Frees the slot of a connection that has ended.
    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        self.occupied.remove(&number).and_then(|slot| slot.content)
    }

    /// Frees the slots of all connections without a complete head.
    pub(super) fn take_idle(&mut self) -> Vec<T> {
        let (idle, busy): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.occupied)
            .into_iter()
            .partition(|(_, slot)| matches!(slot.stage, Stage::Idle | Stage::Head));
        self.occupied = busy;
        idle.into_values().filter_map(|slot| slot.content).collect()
    }

    /// Frees all slots.
    pub(super) fn take_all(&mut self) -> Vec<T> {
        std::mem::take(&mut self.occupied).into_values().filter_map(|slot| slot.content).collect()
    }

    /// Whether all slots are free.
    pub(super) fn is_empty(&self) -> bool {
        self.occupied.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(last: u8) -> ClientNetwork {
        ClientNetwork::of(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)))
    }

    /// Admits a connection; returns the one that lost its slot, or "full".
    fn admit(slots: &mut Slots<&'static str>, name: &'static str, client: u8, now_ms: u64) -> Option<&'static str> {
        match slots.admit(network(client), now_ms) {
            Admission::Admitted(number, evicted) => {
                assert_eq!(slots.fill(number, name), None);
                evicted
            }
            Admission::Full => Some("full"),
        }
    }

    #[test]
    fn a_full_table_evicts_the_longest_silent_of_all() {
        let mut slots = Slots::new(3, 3);
        assert_eq!(admit(&mut slots, "a", 1, 10), None);
        assert_eq!(admit(&mut slots, "b", 2, 5), None);
        assert_eq!(admit(&mut slots, "c", 3, 20), None);
        assert_eq!(admit(&mut slots, "d", 4, 30), Some("b"));
        slots.touch(0, Stage::Idle, 40);
        assert_eq!(admit(&mut slots, "e", 4, 50), Some("c"));
    }

    #[test]
    fn a_network_at_its_limit_evicts_its_own() {
        let mut slots = Slots::new(10, 2);
        assert_eq!(admit(&mut slots, "other", 9, 0), None);
        assert_eq!(admit(&mut slots, "a", 1, 10), None);
        assert_eq!(admit(&mut slots, "b", 1, 20), None);
        assert_eq!(admit(&mut slots, "c", 1, 30), Some("a"));
    }

    #[test]
    fn a_connection_with_a_complete_request_keeps_its_slot() {
        let mut slots = Slots::new(2, 2);
        assert_eq!(admit(&mut slots, "a", 1, 0), None);
        assert_eq!(admit(&mut slots, "b", 1, 1), None);
        slots.touch(0, Stage::Response, 2);
        assert_eq!(admit(&mut slots, "c", 1, 3), Some("b"));
        slots.touch(2, Stage::Response, 4);
        assert_eq!(admit(&mut slots, "d", 1, 5), Some("full"));
        assert_eq!(admit(&mut slots, "e", 2, 5), Some("full"));
        assert_eq!(slots.remove(0), Some("a"));
        assert_eq!(admit(&mut slots, "f", 1, 6), None);
    }

    #[test]
    fn an_incomplete_request_is_silent_since_its_last_byte() {
        let mut slots = Slots::new(2, 2);
        admit(&mut slots, "body", 1, 0);
        admit(&mut slots, "idle", 1, 5);
        slots.touch(0, Stage::Body, 6);
        assert_eq!(admit(&mut slots, "c", 1, 7), Some("idle"));
    }

    #[test]
    fn connections_without_a_head_can_be_taken_first() {
        let mut slots = Slots::new(4, 4);
        for (number, stage) in [Stage::Idle, Stage::Head, Stage::Body, Stage::Response].into_iter().enumerate() {
            admit(&mut slots, ["idle", "head", "body", "response"][number], 1, 0);
            slots.touch(number as u64, stage, 0);
        }
        assert_eq!(slots.take_idle(), ["idle", "head"]);
        assert_eq!(slots.take_all(), ["body", "response"]);
        assert!(slots.is_empty());
        assert_eq!(slots.fill(0, "late"), Some("late"));
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_mapped_ipv4_is_ipv4() {
        let of = |text: &str| ClientNetwork::of(text.parse().unwrap());
        assert_eq!(of("fd00:1:2:3::1"), of("fd00:1:2:3:ffff::9"));
        assert_ne!(of("fd00:1:2:3::1"), of("fd00:1:2:4::1"));
        assert_eq!(of("::ffff:10.0.0.1"), network(1));
    }
}
