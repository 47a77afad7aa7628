//! Stem cells become storage or guard cells, by what they know and with no vote.
//!
//! Whoever has the highest number drawn from its name is a guard: one of eight cells, and none in a colony so small
//! that every cell is needed for copies. Cells that know the same cells come to the same roles. While they do not yet,
//! there may be one guard more or less for a moment, which harms nobody: a role is a habit, not a right.

use crate::cell::{Settings, rank};
use crate::id::CellId;
use crate::time::Time;
use crate::wire::beacon::Role;

/// Below this many active cells there is no guard.
const MIN_CELLS_FOR_GUARDS: usize = 4;
/// One guard for so many cells.
const CELLS_PER_GUARD: usize = 8;

/// How many guards a colony of so many active cells has.
pub(in crate::cell) fn guards(cells: usize) -> usize {
    if cells < MIN_CELLS_FOR_GUARDS { 0 } else { (cells / CELLS_PER_GUARD).max(1) }
}

/// The role that the colony needs of `own`, which is active as well as `others`.
pub(in crate::cell) fn needed(own: &CellId, others: impl Iterator<Item = CellId>) -> Role {
    let mine = (rank::of_cell(own), *own);
    let (mut cells, mut above) = (1, 0);
    for other in others {
        cells += 1;
        above += usize::from((rank::of_cell(&other), other) > mine);
    }
    if above < guards(cells) { Role::Guard } else { Role::Storage }
}

/// The cell's own role, and what it may become.
#[derive(Debug)]
pub(in crate::cell) struct Differentiation {
    role: Role,
    started: Option<Time>,
    /// Another role that is needed, and since when.
    wanted: Option<(Role, Time)>,
}

impl Differentiation {
    pub(in crate::cell) fn new() -> Self {
        Self { role: Role::Stem, started: None, wanted: None }
    }

    pub(in crate::cell) fn role(&self) -> Role {
        self.role
    }

    /// Looks at what is needed. True if the role has changed.
    pub(in crate::cell) fn look(&mut self, now: Time, needed: Role, settings: &Settings) -> bool {
        let started = *self.started.get_or_insert(now);
        if needed == self.role {
            self.wanted = None;
            return false;
        }
        let since = match self.wanted {
            Some((role, since)) if role == needed => since,
            _ => self.wanted.insert((needed, now)).1,
        };
        let ready = match self.role {
            Role::Stem => now.since_ms(started) >= settings.differentiate_after_ms,
            _ => now.since_ms(since) >= settings.role_stable_ms,
        };
        if ready {
            self.role = needed;
            self.wanted = None;
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(count: u8) -> Vec<CellId> {
        (0..count).map(|n| CellId::from_bytes([n.wrapping_mul(37); 16])).collect()
    }

    #[test]
    fn every_colony_has_the_guards_it_needs_and_all_agree_who_they_are() {
        for (count, expected) in [(1, 0), (3, 0), (4, 1), (8, 1), (15, 1), (16, 2), (24, 3), (100, 12)] {
            let cells = cells(count);
            let others = |own: CellId| cells.iter().copied().filter(move |other| *other != own);
            let guards = cells.iter().filter(|own| needed(own, others(**own)) == Role::Guard).count();
            assert_eq!(guards, expected, "{count} cells");
        }
    }

    #[test]
    fn a_stem_cell_waits_and_a_grown_one_changes_only_for_a_lasting_need() {
        let settings = Settings::default();
        let mut own = Differentiation::new();
        assert!(!own.look(Time(0), Role::Storage, &settings));
        assert!(!own.look(Time(9_999), Role::Guard, &settings));
        assert_eq!(own.role(), Role::Stem);
        assert!(own.look(Time(10_000), Role::Storage, &settings));

        assert!(!own.look(Time(20_000), Role::Guard, &settings));
        assert!(!own.look(Time(24_999), Role::Guard, &settings));
        assert!(!own.look(Time(25_000), Role::Storage, &settings), "the need has passed");
        assert!(!own.look(Time(26_000), Role::Guard, &settings), "and begins anew");
        assert!(!own.look(Time(30_999), Role::Guard, &settings));
        assert!(own.look(Time(31_000), Role::Guard, &settings));
        assert_eq!(own.role(), Role::Guard);
    }
}
