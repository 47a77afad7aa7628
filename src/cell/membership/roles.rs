//! Roles: a stem cell becomes a storage cell or a guard, by what it knows and without a vote.
//!
//! Each cell draws a number from its id, and the highest are guards: one cell in eight, and none in a colony so small
//! that every cell is needed for copies. Cells that know the same members choose the same guards. While they do not,
//! there can be a guard more or less for a moment, which is harmless: a role decides what a cell does, not what it may
//! do.

use crate::cell::rank;
use crate::cell::settings::Settings;
use crate::id::CellId;
use crate::time::Time;
use crate::wire::beacon::Role;

/// With fewer active cells there is no guard.
const MIN_CELLS_FOR_GUARDS: usize = 4;
/// There is one guard for this many cells.
const CELLS_PER_GUARD: usize = 8;

/// The number of guards in a colony with this many active cells.
fn guards(cells: usize) -> usize {
    if cells < MIN_CELLS_FOR_GUARDS { 0 } else { (cells / CELLS_PER_GUARD).max(1) }
}

/// The role that the colony needs of the cell `own`; `others` are the other active cells.
pub(in crate::cell) fn needed(own: &CellId, others: impl Iterator<Item = CellId>) -> Role {
    let mine = (rank::of_cell(own), *own);
    let (mut cells, mut above) = (1, 0);
    for other in others {
        cells += 1;
        above += usize::from((rank::of_cell(&other), other) > mine);
    }
    if above < guards(cells) { Role::Guard } else { Role::Storage }
}

/// Decides when the cell takes another role.
#[derive(Debug, Default)]
pub(in crate::cell) struct Differentiation {
    started: Option<Time>,
    /// The role that is needed instead of the present one, and since when.
    pending: Option<(Role, Time)>,
}

impl Differentiation {
    /// The role to take now, if it is not the present one.
    pub(in crate::cell) fn update(
        &mut self,
        now: Time,
        present: Role,
        needed: Role,
        settings: &Settings,
    ) -> Option<Role> {
        let started = *self.started.get_or_insert(now);
        if needed == present {
            self.pending = None;
            return None;
        }
        let since = match self.pending {
            Some((role, since)) if role == needed => since,
            Some(_) | None => self.pending.insert((needed, now)).1,
        };
        let is_due = match present {
            Role::Stem => now.since_ms(started) >= settings.differentiate_after_ms,
            Role::Storage | Role::Guard => now.since_ms(since) >= settings.role_stable_ms,
        };
        if !is_due {
            return None;
        }
        self.pending = None;
        Some(needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(count: u8) -> Vec<CellId> {
        (0..count).map(|n| CellId::from_bytes([n.wrapping_mul(37); 16])).collect()
    }

    #[test]
    fn all_cells_agree_on_the_guards() {
        for (count, expected) in [(1, 0), (3, 0), (4, 1), (8, 1), (15, 1), (16, 2), (24, 3), (100, 12)] {
            let cells = cells(count);
            let others = |own: CellId| cells.iter().copied().filter(move |other| *other != own);
            let guards = cells.iter().filter(|own| needed(own, others(**own)) == Role::Guard).count();
            assert_eq!(guards, expected, "{count} cells");
        }
    }

    #[test]
    fn a_stem_cell_waits_and_others_change_only_for_a_lasting_need() {
        let settings = Settings::default();
        let mut own = Differentiation::default();
        let mut update = |ms, present, needed| own.update(Time(ms), present, needed, &settings);
        assert_eq!(update(0, Role::Stem, Role::Storage), None);
        assert_eq!(update(9_999, Role::Stem, Role::Guard), None);
        assert_eq!(update(10_000, Role::Stem, Role::Storage), Some(Role::Storage));

        assert_eq!(update(20_000, Role::Storage, Role::Guard), None);
        assert_eq!(update(24_999, Role::Storage, Role::Guard), None);
        assert_eq!(update(25_000, Role::Storage, Role::Storage), None, "the need has ended");
        assert_eq!(update(26_000, Role::Storage, Role::Guard), None, "and begins again");
        assert_eq!(update(30_999, Role::Storage, Role::Guard), None);
        assert_eq!(update(31_000, Role::Storage, Role::Guard), Some(Role::Guard));
    }
}
