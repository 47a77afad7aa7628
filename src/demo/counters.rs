//! What the cells have counted, over all of their lives: a cell that is killed takes its counters with it.

use std::collections::BTreeMap;
use std::ops::{Add, AddAssign};

use crate::wire::status::{Activity, CellStatus};

/// Sums of the cells' counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sums {
    /// Alerts that were heard, each by every cell that heard it.
    pub(super) alerts: u64,
    /// Bad copies that others have seen.
    pub(super) seen: u64,
    /// Bad copies that were set aside.
    pub(super) quarantined: u64,
    /// Good copies that were fetched for them.
    pub(super) mended: u64,
    /// Copies that were sent to heal.
    pub(super) healed: u64,
    /// Their bytes.
    pub(super) healed_bytes: u64,
}

impl From<&Activity> for Sums {
    fn from(life: &Activity) -> Self {
        Self {
            alerts: life.alerts,
            seen: life.audits_bad,
            quarantined: life.bad_copies,
            mended: life.refetched_copies,
            healed: life.healed_copies,
            healed_bytes: life.healed_bytes,
        }
    }
}

impl Add for Sums {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            alerts: self.alerts + other.alerts,
            seen: self.seen + other.seen,
            quarantined: self.quarantined + other.quarantined,
            mended: self.mended + other.mended,
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
pub(super) struct CopyCounts {
    ended: Sums,
    now: BTreeMap<usize, Sums>,
}

impl CopyCounts {
    /// Takes in what the living cells say.
    pub(super) fn look(&mut self, statuses: &BTreeMap<usize, CellStatus>) {
        for (number, status) in statuses {
            self.now.insert(*number, Sums::from(&status.activity));
        }
    }

    /// A cell is dead: what it last said stays, and its next life counts anew.
    pub(super) fn ended(&mut self, number: usize) {
        self.ended += self.now.remove(&number).unwrap_or_default();
    }

    pub(super) fn sums(&self) -> Sums {
        self.now.values().fold(self.ended, |sum, one| sum + *one)
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
        let life = Activity { healed_copies, alerts, ..Activity::default() };
        CellStatus {
            beacon,
            version: String::new(),
            bytes: 0,
            counted: true,
            uptime_s: 0,
            connections: 0,
            activity: life,
        }
    }

    #[test]
    fn what_a_cell_did_before_it_died_is_counted_once() {
        let mut tally = CopyCounts::default();
        tally.look(&[(1, status(1, 2)), (2, status(10, 0))].into());
        tally.look(&[(1, status(2, 3))].into());
        tally.ended(1);
        tally.ended(1);
        assert_eq!(tally.sums(), Sums { alerts: 12, healed: 3, ..Sums::default() });
        tally.look(&[(1, status(1, 0))].into());
        assert_eq!(tally.sums(), Sums { alerts: 13, healed: 3, ..Sums::default() });
    }
}
