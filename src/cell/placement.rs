//! Placement: which cells a chunk goes to. Distinct cells at random, weighted by free space, storage cells first.
//!
//! A random choice needs no table, and no rebalancing when cells come and go. It also spreads chunks so that the loss
//! of several cells at once hits all copies of as few chunks as possible.

use std::collections::BTreeMap;

use crate::cell::rank;
use crate::id::{CellId, ChunkId};
use crate::wire::beacon::Role;

/// Assumed free space of a cell that does not report it, in bytes.
const DEFAULT_FREE_BYTES: u64 = 8 << 30;
/// The largest free space that counts, in bytes: a cell that reports an absurd number must not receive everything.
const MAX_FREE_BYTES: u64 = 1 << 40;

/// A cell that could store a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its role.
    pub role: Role,
    /// Bytes that it can still store; `None` if it does not report them.
    pub free_bytes: Option<u64>,
}

impl Candidate {
    fn weight(&self) -> u64 {
        self.free_bytes.unwrap_or(DEFAULT_FREE_BYTES).clamp(1, MAX_FREE_BYTES)
    }
}

/// The order in which to offer a chunk to the candidates, as indices into `candidates`: storage cells first, then the
/// others, each group at random and weighted by free space.
pub fn order(candidates: &[Candidate], rng: &mut fastrand::Rng) -> Vec<usize> {
    let keys = candidates.iter().map(|candidate| key(candidate, candidate.weight(), rng.f64())).collect();
    sorted(keys)
}

/// The same order without chance, so that every cell computes it alike: each candidate draws its number from the
/// chunk's id and its own. Free space is rounded down to a power of two, so that small changes do not change the order.
pub(super) fn order_for_chunk(chunk: &ChunkId, candidates: &[(CellId, Candidate)]) -> Vec<CellId> {
    let drawn = |cell: &CellId| (rank::draw(chunk, cell) >> 11) as f64 / (1_u64 << 53) as f64;
    let keys = candidates
        .iter()
        .map(|(cell, candidate)| key(candidate, 1 << candidate.weight().ilog2(), drawn(cell)))
        .collect();
    sorted(keys).into_iter().filter_map(|index| candidates.get(index)).map(|(cell, _)| *cell).collect()
}

/// Moves candidates to the front whose hosts have fewer copies, since the copies on one host are lost together; otherwise
/// keeps their order. `host` gives the host of each candidate, and `held` those of the copies that exist already.
pub fn spread_over_hosts<H: Ord>(
    order: Vec<usize>,
    host: impl Fn(usize) -> H,
    held: impl IntoIterator<Item = H>,
) -> Vec<usize> {
    let mut copies: BTreeMap<H, usize> = BTreeMap::new();
    for host in held {
        *copies.entry(host).or_default() += 1;
    }
    // The copies on each candidate's host, if those before it get one.
    let mut ranked: Vec<(usize, usize)> = Vec::with_capacity(order.len());
    for index in order {
        let copies = copies.entry(host(index)).or_default();
        ranked.push((*copies, index));
        *copies += 1;
    }
    ranked.sort_by_key(|(copies, _)| *copies);
    ranked.into_iter().map(|(_, index)| index).collect()
}

/// Weighted sampling without replacement: each candidate draws `-ln(u) / weight`, and the smallest come first
/// (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006).
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
    fn each_cell_occurs_once_and_storage_cells_come_first() {
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
    fn three_times_the_free_space_is_first_three_times_as_often() {
        let cells = cells(&[(Role::Storage, 1 << 30), (Role::Storage, 3 << 30)]);
        let mut rng = fastrand::Rng::with_seed(7);
        let first = (0..10_000).filter(|_| order(&cells, &mut rng)[0] == 1).count();
        assert!((7_300..7_700).contains(&first), "{first}");
    }

    #[test]
    fn hosts_with_fewer_copies_come_first() {
        let hosts = ["a", "a", "a", "b", "b", "c"];
        let spread = |held: &[&'static str]| spread_over_hosts((0..6).collect(), |n| hosts[n], held.iter().copied());
        assert_eq!(spread(&[]), [0, 3, 5, 1, 4, 2]);
        assert_eq!(spread(&["a", "c"]), [3, 0, 4, 5, 1, 2]);
        assert_eq!(spread(&["c", "c", "c", "elsewhere"]), [0, 3, 1, 4, 2, 5]);
    }

    #[test]
    fn equal_free_space_means_equal_load() {
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
