//! The chunks of a file, counted by their copies. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::client::discover::holder_index::HolderIndex;

/// The chunks of a manifest, by how many copies they have on cells that will stay. Chunks are given by their positions,
/// in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::client) struct CopyCounts {
    /// The number of chunks, by number of copies.
    pub(in crate::client) by_copies: BTreeMap<usize, usize>,
    /// The first of the chunks with the fewest copies, and how many it has.
    pub(in crate::client) weakest: Option<(usize, usize)>,
    /// Chunks with fewer copies than wanted, also those without any.
    pub(in crate::client) short: Vec<usize>,
    /// Short chunks without any copy.
    pub(in crate::client) missing: Vec<usize>,
    /// Short chunks with bad copies only.
    pub(in crate::client) corrupt: Vec<usize>,
    /// Is every short chunk on all cells that will stay? Then only more cells can hold more copies.
    pub(in crate::client) on_all_cells: bool,
}

impl CopyCounts {
    /// Counts the copies of `chunks` chunks, of which `wanted` copies are wanted each. `remote` chunks have one copy
    /// more, on a cell that only other cells reach. `bad` chunks have a copy that was found bad, and is not in the
    /// index.
    pub(in crate::client) fn count(
        holders: &HolderIndex,
        chunks: usize,
        wanted: usize,
        remote: &BTreeSet<usize>,
        bad: &BTreeSet<usize>,
    ) -> Self {
        let mut counts = Self::default();
        let staying_cells = holders.staying_cells();
        for index in 0..chunks {
            let remote_copies = usize::from(remote.contains(&index));
            let copies = holders.staying_copies(index) + remote_copies;
            *counts.by_copies.entry(copies).or_default() += 1;
            if counts.weakest.is_none_or(|(_, fewest)| copies < fewest) {
                counts.weakest = Some((index, copies));
            }
            if copies >= wanted {
                continue;
            }
            counts.on_all_cells = copies >= staying_cells && (counts.short.is_empty() || counts.on_all_cells);
            counts.short.push(index);
            if holders.copies(index) + remote_copies == 0 {
                let list = if bad.contains(&index) { &mut counts.corrupt } else { &mut counts.missing };
                list.push(index);
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::discover::colony::KnownCell;
    use crate::client::discover::holder_index::testing;
    use crate::id::ChunkId;
    use crate::wire::beacon::Status;

    const ACTIVE: Status = Status::Active;

    /// Cells, by the chunks that they hold and their status.
    fn holders(chunks: usize, cells: &[(&[usize], Status)]) -> HolderIndex {
        let ids: Vec<ChunkId> = (0..chunks).map(|n| ChunkId::of(&n.to_le_bytes())).collect();
        let cell = |(n, &(held, status)): (usize, &(_, Status))| {
            (KnownCell { status, ..KnownCell::at(&format!("http://{n}")) }, held)
        };
        testing::holder_index(&ids, &cells.iter().enumerate().map(cell).collect::<Vec<_>>())
    }

    fn count(holders: &HolderIndex, chunks: usize, wanted: usize) -> CopyCounts {
        CopyCounts::count(holders, chunks, wanted, &BTreeSet::new(), &BTreeSet::new())
    }

    #[test]
    fn chunks_are_counted_by_copies_and_the_weakest_is_named() {
        let holders = holders(4, &[(&[0, 1, 2, 3], ACTIVE), (&[0, 1], ACTIVE), (&[0], ACTIVE)]);
        let counts = count(&holders, 4, 2);
        assert_eq!(counts.by_copies, BTreeMap::from([(1, 2), (2, 1), (3, 1)]));
        assert_eq!((counts.weakest, &counts.short[..]), (Some((2, 1)), &[2, 3][..]));
        assert!(counts.missing.is_empty() && counts.corrupt.is_empty() && !counts.on_all_cells);
    }

    #[test]
    fn a_chunk_without_copies_is_missing_or_corrupt() {
        let (remote, bad) = (BTreeSet::from([3]), BTreeSet::from([0, 2]));
        let counts = CopyCounts::count(&holders(4, &[(&[0], ACTIVE)]), 4, 1, &remote, &bad);
        assert_eq!((&counts.missing[..], &counts.corrupt[..]), (&[1][..], &[2][..]));
        assert_eq!(counts.short, [1, 2], "the remote copy of chunk 3 counts");
    }

    #[test]
    fn short_chunks_on_all_staying_cells_need_more_cells() {
        let both: &[usize] = &[0, 1];
        let all = holders(2, &[(both, ACTIVE), (both, ACTIVE), (&[0], Status::Draining)]);
        assert!(count(&all, 2, 3).on_all_cells);
        assert_eq!(count(&all, 2, 3).by_copies, BTreeMap::from([(2, 2)]), "a copy on a draining cell does not count");
        assert!(!count(&all, 2, 2).on_all_cells, "no chunk is short");
        assert!(!count(&holders(2, &[(both, ACTIVE), (&[1], ACTIVE)]), 2, 3).on_all_cells);
        assert!(!count(&holders(2, &[(both, ACTIVE), (&[0], ACTIVE)]), 2, 3).on_all_cells);
    }

    #[test]
    fn a_chunk_on_a_draining_cell_only_is_short_but_not_missing() {
        let counts = count(&holders(1, &[(&[0], Status::Draining)]), 1, 1);
        assert_eq!((counts.weakest, counts.missing.len(), counts.short.len()), (Some((0, 0)), 0, 1));
    }
}
