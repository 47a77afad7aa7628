//! The other holders of each local chunk, as numbers of two bytes.
//!
//! Four numbers stand in the chunk itself, since most chunks have five copies. Longer lists are in a table, and the chunk
//! has their position.

/// Numbers that stand in the chunk itself, at most.
const INLINE: usize = 4;
/// An unused place.
const NONE: u16 = u16::MAX;
/// In the first place: the position of a list is in the next two.
const LISTED: u16 = u16::MAX - 1;

/// The first number that is not one of a cell.
pub(super) const MAX_NUMBERS: usize = LISTED as usize;

/// The holders of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HolderSet([u16; INLINE]);

impl HolderSet {
    /// No holders.
    pub(super) const EMPTY: Self = Self([NONE; INLINE]);

    /// The position of its list, if it has one.
    fn list(self) -> Option<usize> {
        let [mark, high, low, _] = self.0;
        (mark == LISTED).then(|| usize::from(high) << 16 | usize::from(low))
    }
}

/// The lists of sets that do not fit their chunks.
#[derive(Debug, Default)]
pub(super) struct HolderLists {
    lists: Vec<Vec<u16>>,
    unused: Vec<usize>,
}

impl HolderLists {
    /// The numbers in a set, in the order in which they were added.
    pub(super) fn numbers<'a>(&'a self, set: &'a HolderSet) -> &'a [u16] {
        if let Some(list) = set.list() {
            return self.lists.get(list).map_or(&[], Vec::as_slice);
        }
        let used = set.0.iter().take_while(|number| **number != NONE).count();
        set.0.get(..used).unwrap_or_default()
    }

    /// A set of these numbers, in place of another one.
    pub(super) fn replace(&mut self, before: HolderSet, numbers: &[u16]) -> HolderSet {
        if numbers.len() <= INLINE {
            if let Some(list) = before.list()
                && let Some(list_numbers) = self.lists.get_mut(list)
            {
                *list_numbers = Vec::new();
                self.unused.push(list);
            }
            let mut places = [NONE; INLINE];
            places.iter_mut().zip(numbers).for_each(|(place, number)| *place = *number);
            return HolderSet(places);
        }
        let position = before.list().or_else(|| self.unused.pop()).unwrap_or(self.lists.len());
        match self.lists.get_mut(position) {
            Some(list) => *list = numbers.to_vec(),
            None => self.lists.push(numbers.to_vec()),
        }
        // There are fewer lists than chunks, and those fit a disk.
        let [a, b, c, d] = u32::try_from(position).unwrap_or(u32::MAX).to_be_bytes();
        HolderSet([LISTED, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]), NONE])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_any_size_keep_their_numbers_in_order() {
        let (mut lists, mut sets) = (HolderLists::default(), vec![HolderSet::EMPTY; 200]);
        let mut rng = fastrand::Rng::with_seed(3);
        let mut expected = vec![Vec::new(); sets.len()];
        for _ in 0..5000 {
            let at = rng.usize(..sets.len());
            expected[at] = (0..rng.usize(..9)).map(|_| rng.u16(..60_000)).collect();
            sets[at] = lists.replace(sets[at], &expected[at]);
            let other = rng.usize(..sets.len());
            assert_eq!(lists.numbers(&sets[other]), expected[other]);
        }
        assert!(lists.lists.len() <= sets.len(), "lists are used again");
        for set in &mut sets {
            *set = lists.replace(*set, &[7]);
        }
        assert!(lists.lists.iter().all(Vec::is_empty));
    }
}
