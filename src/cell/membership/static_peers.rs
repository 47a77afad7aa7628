//! Static peers: cells that broadcasts do not reach, named in the configuration or added by `POST /join`.
//!
//! A static peer gets a beacon by unicast each second. Where UDP does not arrive at all, probes over HTTP count as its
//! beacons; so a static peer is a full member.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::cell::input::ProbeOutcome;
use crate::cell::membership::Membership;
use crate::cell::membership::probes::Probes;
use crate::cell::output::Output;
use crate::cell::settings::Settings;
use crate::id::CellId;
use crate::time::Time;

/// Maximum number of static peers, configured and added together.
pub const MAX_PEERS: usize = 256;

/// Interval at which a peer is asked again to add this cell, in milliseconds: it may have restarted and forgotten.
const ANNOUNCE_INTERVAL_MS: u64 = 60_000;

/// An added peer is forgotten after this many failed probes in a row, which is after about an hour.
const FORGET_AFTER_FAILURES: u32 = 90;

pub(in crate::cell) struct StaticPeers {
    settings: Settings,
    /// By address, as `HOST:PORT`.
    peers: BTreeMap<String, Peer>,
}

#[derive(Debug, Clone, Default)]
struct Peer {
    /// Named in the configuration: never forgotten.
    configured: bool,
    /// The cell that last responded there, and its IP address.
    cell: Option<(CellId, IpAddr)>,
    probing: bool,
    next_probe: Time,
    next_announce: Time,
    failures: u32,
}

impl StaticPeers {
    /// `addresses` are the configured peers, as `HOST:PORT`. Those past [`MAX_PEERS`] are ignored.
    pub(in crate::cell) fn new(addresses: &[String], settings: Settings) -> Self {
        let configured = |address: &String| (address.clone(), Peer { configured: true, ..Peer::default() });
        Self { settings, peers: addresses.iter().take(MAX_PEERS).map(configured).collect() }
    }

    /// Adds a peer; false if it is one already, or there are too many.
    pub(in crate::cell) fn add(&mut self, now: Time, address: &str) -> bool {
        if self.peers.contains_key(address) || self.peers.len() >= MAX_PEERS {
            return false;
        }
        // A cell that joins this one need not be asked to add it.
        let next_announce = now.plus_ms(ANNOUNCE_INTERVAL_MS);
        self.peers.insert(address.to_owned(), Peer { next_probe: now, next_announce, ..Peer::default() });
        true
    }

    /// Where unicast beacons go.
    pub(in crate::cell) fn beacon_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.peers.values().filter_map(|peer| peer.cell.map(|(_, address)| address))
    }

    /// Starts the probes that are due: of peers whose beacons do not arrive, and of those that must be asked again to
    /// add this cell.
    pub(in crate::cell) fn start_probes(
        &mut self,
        now: Time,
        members: &Membership,
        probes: &mut Probes,
        out: &mut Vec<Output>,
    ) {
        let probe_ms = self.settings.probe_ms;
        for (address, peer) in &mut self.peers {
            let beacons_arrive = peer
                .cell
                .and_then(|(id, _)| members.get(&id))
                .is_some_and(|member| now.since_ms(member.last_heard) < probe_ms);
            let announce = now >= peer.next_announce;
            if peer.probing || now < peer.next_probe || (beacons_arrive && !announce) {
                continue;
            }
            peer.probing = true;
            out.push(probes.start(address.clone(), announce));
        }
    }

    /// Handles the outcome of a probe of this address. True if it is a peer's, and a cell responded. Another response
    /// does not count, because it does not show which cell it is.
    pub(in crate::cell) fn probe_done(
        &mut self,
        now: Time,
        address: &str,
        own: CellId,
        outcome: &ProbeOutcome,
    ) -> bool {
        let probe_ms = self.settings.probe_ms;
        let Some(peer) = self.peers.get_mut(address) else { return false };
        peer.probing = false;
        match outcome {
            ProbeOutcome::Cell(_, beacon) if beacon.node_id == own => {
                // It is this cell itself: all cells can be configured with the same list of peers.
                self.peers.remove(address);
                false
            }
            ProbeOutcome::Cell(cell_address, beacon) => {
                peer.failures = 0;
                peer.cell = Some((beacon.node_id, cell_address.ip()));
                if now >= peer.next_announce {
                    peer.next_announce = now.plus_ms(ANNOUNCE_INTERVAL_MS);
                }
                // Earlier than the interval, so that a slow response leaves no gap.
                peer.next_probe = now.plus_ms(probe_ms - probe_ms / 5);
                true
            }
            ProbeOutcome::Unreachable | ProbeOutcome::Responding => {
                peer.failures = peer.failures.saturating_add(1);
                // The interval doubles up to about 40 s: a peer that is switched off costs next to nothing.
                peer.next_probe = now.plus_ms(probe_ms << peer.failures.min(4));
                peer.next_announce = now;
                if !peer.configured && peer.failures > FORGET_AFTER_FAILURES {
                    self.peers.remove(address);
                }
                false
            }
        }
    }
}
