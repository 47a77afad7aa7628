//! Sums of the cells' counters over several runs of each cell: a killed cell loses its own counters.

use std::collections::BTreeMap;
use std::ops::{Add, AddAssign};

use crate::wire::status::{Activity, CellStatus};

/// The counters of one cell, or their sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sums {
    /// Alerts received; an alert counts once for each cell that received it.
    pub(super) alerts: u64,
    /// Bad copies that other cells have found.
    pub(super) found: u64,
    /// Bad copies moved to quarantine.
    pub(super) quarantined: u64,
    /// Bad copies replaced by good ones.
    pub(super) replaced: u64,
    /// Copies sent to heal.
    pub(super) healed: u64,
    /// The bytes of these copies.
    pub(super) healed_bytes: u64,
}

impl From<&Activity> for Sums {
    fn from(activity: &Activity) -> Self {
        Self {
            alerts: activity.alerts,
            found: activity.audits_bad,
            quarantined: activity.bad_copies,
            replaced: activity.refetched_copies,
            healed: activity.healed_copies,
            healed_bytes: activity.healed_bytes,
        }
    }
}

impl Add for Sums {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            alerts: self.alerts + other.alerts,
            found: self.found + other.found,
            quarantined: self.quarantined + other.quarantined,
            replaced: self.replaced + other.replaced,
            healed: self.healed + other.healed,
            healed_bytes: self.healed_bytes + other.healed_bytes,
        }
    }
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    killed: Sums,
    running: BTreeMap<usize, Sums>,
}

impl Counters {
    /// Takes over the counters of the running cells.
    pub(super) fn update(&mut self, statuses: &BTreeMap<usize, CellStatus>) {
        for (number, status) in statuses {
            self.running.insert(*number, Sums::from(&status.activity));
        }
    }

    /// Keeps the last counters of a killed cell; when it runs again, it counts from zero.
    pub(super) fn cell_killed(&mut self, number: usize) {
        self.killed += self.running.remove(&number).unwrap_or_default();
    }

    pub(super) fn sums(&self) -> Sums {
        self.running.values().fold(self.killed, |sum, one| sum + *one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::CellId;
    use crate::wire::beacon::{Beacon, Role, Status};

    fn status(alerts: u64, healed_copies: u64) -> CellStatus {
        let beacon = Beacon {
            node_id: CellId::from_bytes([1; 16]),
            port: 1,
            status: Status::Active,
            v: None,
            boot: None,
            role: Role::Stem,
            chunks: None,
            free: None,
            cells: None,
            clean_s: None,
        };
        let activity = Activity { healed_copies, alerts, ..Activity::default() };
        CellStatus {
            beacon,
            version: String::new(),
            bytes: 0,
            counted: true,
            read_only: false,
            read_back_left: 0,
            uptime_s: 0,
            connections: 0,
            activity,
        }
    }

    #[test]
    fn counters_of_a_killed_cell_count_once() {
        let mut counters = Counters::default();
        counters.update(&[(1, status(1, 2)), (2, status(10, 0))].into());
        counters.update(&[(1, status(2, 3))].into());
        counters.cell_killed(1);
        counters.cell_killed(1);
        assert_eq!(counters.sums(), Sums { alerts: 12, healed: 3, ..Sums::default() });
        counters.update(&[(1, status(1, 0))].into());
        assert_eq!(counters.sums(), Sums { alerts: 13, healed: 3, ..Sums::default() });
    }
}
