//! How well a file is kept: its chunks counted by their copies. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::client::discover::holder_index::HolderIndex;

/// The chunks of a manifest, by how many copies they have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::client) struct CopyCounts {
    /// How many chunks have so many copies.
    pub(in crate::client) by_copies: BTreeMap<usize, usize>,
    /// The first of those with the fewest copies, and how many it has.
    pub(in crate::client) weakest: Option<(usize, usize)>,
    /// Chunks with fewer copies than wanted, ascending; also those that have none.
    pub(in crate::client) short: Vec<usize>,
    /// Of the short ones, those that are nowhere.
    pub(in crate::client) missing: Vec<usize>,
    /// Of the short ones, those of which there are only bad copies.
    pub(in crate::client) corrupt: Vec<usize>,
    /// There are no more cells to put copies on: each of the short chunks is on all that stay.
    pub(in crate::client) on_all_cells: bool,
}

/// Counts. `beyond` are chunks that a cell has which does not answer here and others reach: one copy each. `bad` are
/// chunks of which a bad copy was found.
pub(in crate::client) fn tally(
    holders: &HolderIndex,
    chunks: usize,
    wanted: usize,
    beyond: &BTreeSet<usize>,
    bad: &BTreeSet<usize>,
) -> CopyCounts {
    let mut tally = CopyCounts::default();
    let staying = holders.staying();
    for index in 0..chunks {
        let hidden = usize::from(beyond.contains(&index));
        let copies = holders.staying_copies(index) + hidden;
        *tally.by_copies.entry(copies).or_default() += 1;
        if tally.weakest.is_none_or(|(_, fewest)| copies < fewest) {
            tally.weakest = Some((index, copies));
        }
        if copies >= wanted {
            continue;
        }
        tally.on_all_cells = copies >= staying && (tally.short.is_empty() || tally.on_all_cells);
        tally.short.push(index);
        if holders.count(index) + hidden == 0 {
            let list = if bad.contains(&index) { &mut tally.corrupt } else { &mut tally.missing };
            list.push(index);
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::KnownCell;
    use crate::client::discover::holder_index::testing;
    use crate::id::ChunkId;
    use crate::wire::beacon::{Role, Status};

    /// Cells by the chunks that they have.
    fn holders(chunks: usize, cells: &[(&[usize], Status)]) -> HolderIndex {
        let ids: Vec<ChunkId> = (0..chunks).map(|n| ChunkId::of(&n.to_le_bytes())).collect();
        let cell = |(n, &(held, status)): (usize, &(_, Status))| {
            let url = format!("http://{n}");
            (KnownCell { url, id: None, role: Role::Stem, status, free_bytes: None }, held)
        };
        testing::holders(&ids, &cells.iter().enumerate().map(cell).collect::<Vec<_>>())
    }

    const ACTIVE: Status = Status::Active;

    #[test]
    fn chunks_are_counted_by_their_copies_and_the_first_of_the_weakest_is_named() {
        let holders = holders(4, &[(&[0, 1, 2, 3], ACTIVE), (&[0, 1], ACTIVE), (&[0], ACTIVE)]);
        let tally = tally(&holders, 4, 2, &BTreeSet::new(), &BTreeSet::new());
        assert_eq!(tally.by_copies, BTreeMap::from([(1, 2), (2, 1), (3, 1)]));
        assert_eq!((tally.weakest, &tally.short[..]), (Some((2, 1)), &[2, 3][..]));
        assert!(tally.missing.is_empty() && tally.corrupt.is_empty() && !tally.on_all_cells);
    }

    #[test]
    fn a_chunk_without_a_copy_is_missing_or_if_bad_ones_were_found_corrupt() {
        let holders = holders(4, &[(&[0], ACTIVE)]);
        let tally = tally(&holders, 4, 1, &BTreeSet::from([3]), &BTreeSet::from([0, 2]));
        assert_eq!((&tally.missing[..], &tally.corrupt[..]), (&[1][..], &[2][..]));
        assert_eq!(tally.short, [1, 2], "chunk 3 is beyond, and its copy counts");
    }

    #[test]
    fn copies_on_all_cells_that_stay_are_as_many_as_there_can_be() {
        let both: &[usize] = &[0, 1];
        let all = holders(2, &[(both, ACTIVE), (both, ACTIVE), (&[0], Status::Draining)]);
        let none = BTreeSet::new();
        let of = |holders: &HolderIndex, wanted| tally(holders, 2, wanted, &none, &none);
        assert!(of(&all, 3).on_all_cells);
        assert_eq!(of(&all, 3).by_copies, BTreeMap::from([(2, 2)]), "a drained cell's copy does not count");
        assert!(!of(&all, 2).on_all_cells, "nothing is short");
        assert!(!of(&holders(2, &[(both, ACTIVE), (&[1], ACTIVE)]), 3).on_all_cells);
        assert!(!of(&holders(2, &[(both, ACTIVE), (&[0], ACTIVE)]), 3).on_all_cells);
    }

    #[test]
    fn a_copy_on_a_drained_cell_alone_is_not_missing() {
        let holders = holders(1, &[(&[0], Status::Draining)]);
        let tally = tally(&holders, 1, 1, &BTreeSet::new(), &BTreeSet::new());
        assert_eq!((tally.weakest, tally.missing.len(), tally.short.len()), (Some((0, 0)), 0, 1));
    }
}
