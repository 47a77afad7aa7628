//! One member: what this cell knows about another cell.

use std::net::SocketAddr;

use crate::cell::input::ProbeOutcome;
use crate::id::CellId;
use crate::time::Time;
use crate::wire::beacon::{Beacon, Role, Status};

/// What is known about another cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The address of its HTTP interface.
    pub address: SocketAddr,
    /// Its role.
    pub role: Role,
    /// Whether it accepts chunks.
    pub status: Status,
    /// When its last beacon arrived, or its last answer to a probe that counts as one.
    pub last_heard: Time,
    /// When its first beacon arrived.
    first_heard: Time,
    free_bytes: OptionalU64,
    chunks: OptionalU64,
    boot: OptionalU64,
    pub(super) liveness: Liveness,
    pub(super) departure: Departure,
    /// Is a probe under way, because it is silent or because of its departure?
    pub(super) probing: bool,
    /// When the next probe is due.
    next_probe: Time,
}

/// The state of a member in the state machine of [`crate::cell::membership`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Liveness {
    Active,
    Silent,
    Dead,
    Left,
}

/// Whether a member's departure (leaving or draining) is certain.
///
/// A beacon is easily forged. If it were enough, one datagram for each cell would make the colony copy everything. So
/// the member's copies count until a probe confirms its departure. New chunks go elsewhere at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Departure {
    None,
    Announced,
    Confirmed,
}

/// An `Option<u64>` in 8 bytes: the largest number stands for `None`. All records pass through the processor's cache
/// every second, so each byte of them counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OptionalU64(u64);

impl From<Option<u64>> for OptionalU64 {
    fn from(number: Option<u64>) -> Self {
        Self(number.unwrap_or(u64::MAX))
    }
}

impl From<OptionalU64> for Option<u64> {
    fn from(OptionalU64(number): OptionalU64) -> Self {
        (number != u64::MAX).then_some(number)
    }
}

impl Member {
    pub(super) fn new(now: Time, address: SocketAddr, beacon: &Beacon) -> Self {
        Self {
            address,
            role: beacon.role,
            status: beacon.status,
            last_heard: now,
            first_heard: now,
            free_bytes: beacon.free.into(),
            chunks: beacon.chunks.into(),
            boot: beacon.boot.map(|boot| boot.0).into(),
            liveness: Liveness::Active,
            departure: Departure::None,
            probing: false,
            next_probe: now,
        }
    }

    /// Replaces what the beacon reports.
    pub(super) fn update(&mut self, address: SocketAddr, beacon: &Beacon) {
        self.address = address;
        self.role = beacon.role;
        self.status = beacon.status;
        self.free_bytes = beacon.free.into();
        self.chunks = beacon.chunks.into();
        self.boot = beacon.boot.map(|boot| boot.0).into();
    }

    /// Bytes that it can still store, if it reports them.
    pub fn free_bytes(&self) -> Option<u64> {
        self.free_bytes.into()
    }

    /// The number of chunks that it holds, if it reports it.
    pub fn chunks(&self) -> Option<u64> {
        self.chunks.into()
    }

    /// Does the beacon come from the same start of the cell?
    pub(super) fn has_boot_of(&self, beacon: &Beacon) -> bool {
        self.boot == beacon.boot.map(|boot| boot.0).into()
    }

    /// Had its beacons arrived for this time when the last one did?
    pub(in crate::cell) fn was_heard_for(&self, ms: u64) -> bool {
        self.last_heard.since_ms(self.first_heard) >= ms
    }

    /// Was it active when its record was last updated?
    pub(in crate::cell) fn is_active(&self) -> bool {
        self.liveness == Liveness::Active
    }

    /// Can it be expected to respond? It is active, or silent with no failed probe.
    pub(in crate::cell) fn may_respond(&self) -> bool {
        matches!(self.liveness, Liveness::Active | Liveness::Silent)
    }

    /// Is it dead, or has it left?
    pub(in crate::cell) fn is_gone(&self) -> bool {
        matches!(self.liveness, Liveness::Dead | Liveness::Left)
    }

    /// Do its copies count? Those of a silent or departing member count until its death or departure is certain.
    pub(in crate::cell) fn copies_count(&self) -> bool {
        match self.liveness {
            Liveness::Active | Liveness::Silent | Liveness::Left => self.departure != Departure::Confirmed,
            Liveness::Dead => false,
        }
    }

    /// Must it be probed: because it is silent, or because it announced its departure?
    pub(super) fn needs_probes(&self) -> bool {
        self.liveness == Liveness::Silent || self.departure == Departure::Announced
    }

    /// When its next probe is due; `None` if it needs none, or one is under way.
    pub(super) fn probe_due(&self) -> Option<Time> {
        (self.needs_probes() && !self.probing).then_some(self.next_probe)
    }

    /// Schedules the next probe, and ignores one that is under way. Gives `when` back.
    pub(super) fn schedule_probe(&mut self, when: Time) -> Time {
        (self.probing, self.next_probe) = (false, when);
        when
    }

    /// Does the outcome of a probe confirm the departure that it announced?
    pub(super) fn confirms_departure(&self, id: CellId, outcome: &ProbeOutcome) -> bool {
        let announced = if self.liveness == Liveness::Left { Status::Leaving } else { Status::Draining };
        match outcome {
            ProbeOutcome::Responding => false,
            ProbeOutcome::Cell(_, beacon) if beacon.node_id == id => beacon.status == announced,
            ProbeOutcome::Unreachable | ProbeOutcome::Cell(..) => announced == Status::Leaving,
        }
    }

    /// May its address change now?
    ///
    /// A cell has one address. One whose beacons come from two addresses (two network cards, or a cloned SD card) keeps
    /// the first until no beacon has come from it for 2.5 beacon intervals.
    pub(super) fn may_move(&self, now: Time, beacon_ms: u64) -> bool {
        self.liveness != Liveness::Active || now.since_ms(self.last_heard) > 5 * beacon_ms / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_takes_88_bytes() {
        assert_eq!(size_of::<Member>(), 88);
    }
}
