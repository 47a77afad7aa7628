//! The copies of this cell, and which other cells are believed to have them too.
//!
//! The cost of a belief does not grow with the colony: only chunks that are here are known, each with its few holders.
//! A holder is one number into a table of names, so that a hundred thousand chunks fit a small board.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::cell::LocalCopy;
use crate::id::CellId;
use crate::id::ChunkId;
use crate::id::MAX_HOLDERS;

/// Holders believed for one chunk, at the most: the largest number of copies, and some that were there before.
pub(in crate::cell) const MAX_BELIEVED: usize = 40;
/// Copies that a chunk may want: as many holders as a put can name.
#[allow(clippy::cast_possible_truncation)] // It is 32.
const MAX_COPIES: u8 = MAX_HOLDERS as u8;
/// Names in the table, at the most.
const MAX_NAMES: usize = 60_000;

/// One of our chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cell) struct Holding {
    pub(in crate::cell) len: u32,
    /// Copies that the colony is to keep.
    pub(in crate::cell) copies: u8,
    /// The other holders, as numbers of the table.
    holders: Vec<u16>,
}

#[derive(Debug, Default)]
pub(in crate::cell) struct Holdings {
    chunks: BTreeMap<ChunkId, Holding>,
    names: Names,
}

/// Names of cells by number, and the other way round.
#[derive(Debug, Default)]
struct Names {
    names: Vec<CellId>,
    numbers: BTreeMap<CellId, u16>,
}

impl Names {
    fn number(&mut self, name: CellId) -> Option<u16> {
        if let Some(number) = self.numbers.get(&name) {
            return Some(*number);
        }
        if self.names.len() >= MAX_NAMES {
            return None;
        }
        let number = u16::try_from(self.names.len()).ok()?;
        self.names.push(name);
        self.numbers.insert(name, number);
        Some(number)
    }

    fn name(&self, number: u16) -> Option<CellId> {
        self.names.get(usize::from(number)).copied()
    }
}

impl Holdings {
    pub(in crate::cell) fn len(&self) -> usize {
        self.chunks.len()
    }

    pub(in crate::cell) fn get(&self, id: &ChunkId) -> Option<&Holding> {
        self.chunks.get(id)
    }

    pub(in crate::cell) fn has(&self, id: &ChunkId) -> bool {
        self.chunks.contains_key(id)
    }

    pub(in crate::cell) fn ids(&self) -> impl Iterator<Item = &ChunkId> {
        self.chunks.keys()
    }

    /// Takes in a copy that is here. What was believed before and what is told now are both believed.
    pub(in crate::cell) fn add(&mut self, own: CellId, held: &LocalCopy) {
        if self.names.names.len() + held.holders.len() > MAX_NAMES {
            self.forget_unused_names();
        }
        let mut holders: Vec<u16> = Vec::with_capacity(held.holders.len());
        for name in held.holders.iter().filter(|name| **name != own) {
            if holders.len() < MAX_BELIEVED
                && let Some(number) = self.names.number(*name)
                && !holders.contains(&number)
            {
                holders.push(number);
            }
        }
        let (len, copies) = (held.len, held.copies.clamp(1, MAX_COPIES));
        if let Some(before) = self.chunks.remove(&held.id) {
            let more: Vec<u16> = before.holders.into_iter().filter(|number| !holders.contains(number)).collect();
            holders.extend(more);
            holders.truncate(MAX_BELIEVED);
        }
        holders.shrink_to_fit();
        self.chunks.insert(held.id, Holding { len, copies, holders });
    }

    pub(in crate::cell) fn remove(&mut self, id: &ChunkId) -> Option<LocalCopy> {
        let holders = self.holders(id).collect();
        let Holding { len, copies, .. } = self.chunks.remove(id)?;
        Some(LocalCopy { id: *id, len, copies, holders })
    }

    /// The other cells that are believed to hold a chunk.
    pub(in crate::cell) fn holders(&self, id: &ChunkId) -> impl Iterator<Item = CellId> {
        self.chunks.get(id).into_iter().flat_map(|holding| self.names_of(holding))
    }

    pub(in crate::cell) fn names_of<'a>(&'a self, holding: &'a Holding) -> impl Iterator<Item = CellId> + 'a {
        holding.holders.iter().filter_map(|number| self.names.name(*number))
    }

    /// Is the cell believed to hold the chunk?
    pub(in crate::cell) fn believes(&self, id: &ChunkId, cell: &CellId) -> bool {
        let Some(number) = self.names.numbers.get(cell) else { return false };
        self.chunks.get(id).is_some_and(|holding| holding.holders.contains(number))
    }

    /// Believes from now on that the cell holds the chunk, or that it does not. True if that is new.
    pub(in crate::cell) fn believe(&mut self, id: &ChunkId, cell: CellId, holds: bool) -> bool {
        if holds == self.believes(id, &cell) {
            return false;
        }
        let Some(number) = self.names.number(cell) else { return false };
        let Some(holding) = self.chunks.get_mut(id) else { return false };
        if !holds {
            holding.holders.retain(|holder| *holder != number);
        } else if holding.holders.len() < MAX_BELIEVED {
            holding.holders.push(number);
        } else {
            return false;
        }
        true
    }

    /// Our chunks that the cell is believed to hold too.
    pub(in crate::cell) fn shared_with(&self, cell: &CellId) -> Vec<ChunkId> {
        let Some(number) = self.names.numbers.get(cell) else { return Vec::new() };
        let shared = self.chunks.iter().filter(|(_, holding)| holding.holders.contains(number));
        shared.map(|(id, _)| *id).collect()
    }

    /// Up to `count` chunks after this one, in order; nothing at the end.
    pub(in crate::cell) fn after(
        &self,
        after: Option<&ChunkId>,
        count: usize,
    ) -> impl Iterator<Item = (&ChunkId, &Holding)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.chunks.range::<ChunkId, _>((from, Bound::Unbounded)).take(count)
    }

    /// Forged hints may fill the table with names of nobody.
    fn forget_unused_names(&mut self) {
        let old = std::mem::take(&mut self.names);
        for holding in self.chunks.values_mut() {
            let names = std::mem::take(&mut holding.holders).into_iter().filter_map(|number| old.name(number));
            holding.holders = names.filter_map(|name| self.names.number(name)).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(n: u32) -> CellId {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        CellId::from_bytes(bytes)
    }

    fn held(chunk: u32, holders: &[u32]) -> LocalCopy {
        let id = ChunkId::of(&chunk.to_le_bytes());
        LocalCopy { id, len: 10, copies: 5, holders: holders.iter().map(|n| cell(*n)).collect() }
    }

    #[test]
    fn beliefs_are_of_others_only_and_add_up() {
        let mut holdings = Holdings::default();
        let id = held(1, &[]).id;
        holdings.add(cell(0), &held(1, &[0, 1, 2, 2]));
        holdings.add(cell(0), &held(1, &[3, 2]));
        let mut all: Vec<_> = holdings.holders(&id).collect();
        all.sort_unstable();
        assert_eq!(all, [cell(1), cell(2), cell(3)]);
        assert_eq!(holdings.len(), 1);
        assert!(holdings.believe(&id, cell(2), false) && !holdings.believe(&id, cell(2), false));
        assert!(holdings.believe(&id, cell(4), true) && !holdings.believe(&id, cell(4), true));
        assert_eq!(holdings.shared_with(&cell(4)), [id]);
        assert_eq!(holdings.shared_with(&cell(2)), []);
        let removed = holdings.remove(&id).unwrap();
        assert_eq!((removed.holders.len(), holdings.len()), (3, 0));
    }

    #[test]
    fn names_of_nobody_do_not_push_out_those_that_are_needed() {
        let mut holdings = Holdings::default();
        holdings.add(cell(0), &held(1, &[7, 8]));
        for n in 0..u32::try_from(3 * MAX_NAMES / 30).unwrap() {
            let forged: Vec<u32> = (0..30).map(|m| 1000 + n * 30 + m).collect();
            holdings.add(cell(0), &held(2, &forged));
            holdings.remove(&held(2, &[]).id);
        }
        assert!(holdings.names.names.len() <= MAX_NAMES);
        let all: Vec<_> = holdings.holders(&held(1, &[]).id).collect();
        assert_eq!(all, [cell(7), cell(8)]);
    }
}
