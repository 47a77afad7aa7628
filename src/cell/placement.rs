//! Which cells a chunk goes to: distinct ones, at random, those with more room more often; storage cells first.
//!
//! Random choice with no table needs no rebalancing when cells come and go, and spreads chunks so that the loss of any
//! few cells takes all copies of as few chunks as chance allows.

use crate::cell::rank;
use crate::id::CellId;
use crate::id::ChunkId;
use crate::wire::beacon::Role;

/// A cell that could take a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// What it does.
    pub role: Role,
    /// Bytes it may still take; `None` if it did not tell.
    pub free_bytes: Option<u64>,
}

/// The room that a cell is taken to have if it did not tell, in bytes.
const UNTOLD_FREE_BYTES: u64 = 8 << 30;

/// Puts the candidates in the order in which they should be asked to take a chunk, as indices into `candidates`:
/// storage cells first, then the others, each kind at random, weighted by room.
pub fn order(candidates: &[Candidate], rng: &mut fastrand::Rng) -> Vec<usize> {
    let keys = candidates.iter().map(|candidate| key(candidate, candidate.room(), rng.f64())).collect();
    sorted(keys)
}

/// The same order for everybody who asks about this chunk: in place of chance stands what each cell draws from its own
/// name and the chunk's. Room counts in powers of two, so that a few bytes more or less change nothing.
pub(super) fn prefer(chunk: &ChunkId, candidates: &[(CellId, Candidate)]) -> Vec<CellId> {
    let drawn = |cell: &CellId| (rank::draw(chunk, cell) >> 11) as f64 / (1_u64 << 53) as f64;
    let keys =
        candidates.iter().map(|(cell, candidate)| key(candidate, 1 << candidate.room().ilog2(), drawn(cell))).collect();
    sorted(keys).into_iter().filter_map(|index| candidates.get(index)).map(|(cell, _)| *cell).collect()
}

/// More room than this counts as this much, in bytes: who claims to have no end of it does not get everything.
const MOST_FREE_BYTES: u64 = 1 << 40;

impl Candidate {
    fn room(&self) -> u64 {
        self.free_bytes.unwrap_or(UNTOLD_FREE_BYTES).clamp(1, MOST_FREE_BYTES)
    }
}

/// Weighted sampling without replacement: every candidate draws `-ln(u) / weight`, and the smallest win (Efraimidis and
/// Spirakis, "Weighted random sampling with a reservoir", 2006).
fn key(candidate: &Candidate, weight: u64, drawn: f64) -> (bool, f64) {
    // 1 - u is in (0, 1], so the logarithm is finite.
    (candidate.role != Role::Storage, -(1.0 - drawn).ln() / weight as f64)
}

fn sorted(keys: Vec<(bool, f64)>) -> Vec<usize> {
    let mut keys: Vec<(usize, (bool, f64))> = keys.into_iter().enumerate().collect();
    keys.sort_by(|(_, a), (_, b)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    keys.into_iter().map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(roles: &[(Role, u64)]) -> Vec<Candidate> {
        roles.iter().map(|&(role, free)| Candidate { role, free_bytes: Some(free) }).collect()
    }

    #[test]
    fn every_cell_is_named_once_and_storage_cells_come_first() {
        let cells = cells(&[(Role::Guard, 9), (Role::Storage, 1), (Role::Stem, 9), (Role::Storage, 0)]);
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..100 {
            let order = order(&cells, &mut rng);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3]);
            assert!(order[..2].iter().all(|&index| cells[index].role == Role::Storage), "{order:?}");
        }
    }

    #[test]
    fn a_cell_with_three_times_the_room_comes_first_three_times_as_often() {
        let cells = cells(&[(Role::Storage, 1 << 30), (Role::Storage, 3 << 30)]);
        let mut rng = fastrand::Rng::with_seed(7);
        let first = (0..10_000).filter(|_| order(&cells, &mut rng)[0] == 1).count();
        assert!((7_300..7_700).contains(&first), "{first}");
    }

    #[test]
    fn with_equal_room_the_load_is_even() {
        let cells = cells(&[(Role::Storage, 5); 8]);
        let mut rng = fastrand::Rng::with_seed(3);
        let mut load = [0; 8];
        for _ in 0..8_000 {
            for index in &order(&cells, &mut rng)[..5] {
                load[*index] += 1;
            }
        }
        assert!(load.iter().all(|&n| (4_800..5_200).contains(&n)), "{load:?}");
    }
}
