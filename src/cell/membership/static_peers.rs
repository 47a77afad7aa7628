//! Static peers: cells that broadcast does not reach, named in the configuration or by `POST /join`.
//!
//! A static peer gets a beacon by unicast each second. Where UDP does not get through at all, visits over HTTP stand
//! for the beacons; so a peer is as good a member as any other.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::cell::membership::Membership;
use crate::cell::{Output, ProbeOutcome, Settings, Task};
use crate::id::CellId;
use crate::time::Time;

/// The most static peers, those of the configuration and those that joined together.
pub const MAX_PEERS: usize = 256;

/// A peer is told of us again after this many milliseconds, in case it forgot: it may have restarted.
const ANNOUNCE_AGAIN_MS: u64 = 60_000;

/// A peer that joined by itself and has not answered so often in a row is forgotten: after about an hour.
const FORGET_AFTER_FAILURES: u32 = 90;

pub(in crate::cell) struct Peers {
    settings: Settings,
    peers: BTreeMap<String, Peer>,
}

#[derive(Debug, Clone, Default)]
struct Peer {
    /// Named by the configuration: never forgotten.
    configured: bool,
    /// Which cell it was when it last answered, and where.
    is: Option<(CellId, IpAddr)>,
    visiting: bool,
    next_visit: Time,
    next_announce: Time,
    failures: u32,
}

impl Peers {
    pub(in crate::cell) fn new(doors: &[String], settings: Settings) -> Self {
        let configured = |door: &String| (door.clone(), Peer { configured: true, ..Peer::default() });
        Self { settings, peers: doors.iter().take(MAX_PEERS).map(configured).collect() }
    }

    /// Takes in another peer; false if it is known already or there are too many.
    pub(in crate::cell) fn join(&mut self, now: Time, door: &str) -> bool {
        if self.peers.contains_key(door) || self.peers.len() >= MAX_PEERS {
            return false;
        }
        // Whoever joins knows us already.
        let next_announce = now.plus_ms(ANNOUNCE_AGAIN_MS);
        self.peers.insert(door.to_owned(), Peer { next_visit: now, next_announce, ..Peer::default() });
        true
    }

    /// Where unicast beacons go.
    pub(in crate::cell) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.peers.values().filter_map(|peer| peer.is.map(|(_, address)| address))
    }

    /// Asks for the visits that are due: to peers that are not heard by themselves, and to those who should hear of
    /// us again.
    pub(in crate::cell) fn visits(&mut self, now: Time, members: &Membership, out: &mut Vec<Output>) {
        let visit_ms = self.settings.visit_ms;
        for (door, peer) in &mut self.peers {
            let heard = peer
                .is
                .and_then(|(id, _)| members.get(&id))
                .is_some_and(|member| now.since_ms(member.last_heard) < visit_ms);
            let announce = now >= peer.next_announce;
            if peer.visiting || now < peer.next_visit || (heard && !announce) {
                continue;
            }
            peer.visiting = true;
            out.push(Output::Task(Task::Probe { address: door.clone(), announce }));
        }
    }

    /// Notes how a visit ended. True if the door is a peer's and a cell answered. Another answer does not do: it does
    /// not tell which cell it is.
    pub(in crate::cell) fn visited(&mut self, now: Time, door: &str, own: CellId, answer: &ProbeOutcome) -> bool {
        let visit_ms = self.settings.visit_ms;
        let Some(peer) = self.peers.get_mut(door) else { return false };
        peer.visiting = false;
        match answer {
            ProbeOutcome::Cell(_, beacon) if beacon.node_id == own => {
                // It is this cell itself: one list of peers can serve all cells.
                self.peers.remove(door);
                false
            }
            ProbeOutcome::Cell(address, beacon) => {
                peer.failures = 0;
                peer.is = Some((beacon.node_id, address.ip()));
                if now >= peer.next_announce {
                    peer.next_announce = now.plus_ms(ANNOUNCE_AGAIN_MS);
                }
                // A little early, so that a slow answer does not make a gap.
                peer.next_visit = now.plus_ms(visit_ms - visit_ms / 5);
                true
            }
            ProbeOutcome::Unreachable | ProbeOutcome::Responding => {
                peer.failures = peer.failures.saturating_add(1);
                // Twice as long after each failure, up to some 40 s: a peer that is switched off costs next to nothing.
                peer.next_visit = now.plus_ms(visit_ms << peer.failures.min(4));
                peer.next_announce = now;
                if !peer.configured && peer.failures > FORGET_AFTER_FAILURES {
                    self.peers.remove(door);
                }
                false
            }
        }
    }
}
