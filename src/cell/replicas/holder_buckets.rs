//! The buckets of the chunk table in which each cell holds a chunk. A bit stands for several buckets: with one for each,
//! the bits of a thousand cells would take as much memory as their chunks.

use std::ops::Range;

/// Bits in a word.
const WORD: usize = u64::BITS as usize;
/// Buckets for which one bit stands.
const GROUP: usize = 4;

/// The buckets for which the same bit stands as for this one.
pub(super) fn group(bucket: usize) -> Range<usize> {
    let first = bucket / GROUP * GROUP;
    first..first + GROUP
}

/// The buckets of each cell, by its number.
#[derive(Debug, Default)]
pub(super) struct HolderBuckets {
    cells: Vec<Vec<u64>>,
}

impl HolderBuckets {
    /// This cell holds a chunk in this bucket.
    pub(super) fn add(&mut self, number: u16, bucket: usize) {
        let (number, bit) = (usize::from(number), bucket / GROUP);
        if self.cells.len() <= number {
            self.cells.resize_with(number + 1, Vec::new);
        }
        let Some(words) = self.cells.get_mut(number) else { return };
        if words.len() <= bit / WORD {
            words.resize(bit / WORD + 1, 0);
        }
        if let Some(word) = words.get_mut(bit / WORD) {
            *word |= 1 << (bit % WORD);
        }
    }

    /// It holds none in the [group] of this bucket any more.
    pub(super) fn remove(&mut self, number: u16, bucket: usize) {
        let bit = bucket / GROUP;
        let word = self.cells.get_mut(usize::from(number)).and_then(|words| words.get_mut(bit / WORD));
        if let Some(word) = word {
            *word &= !(1 << (bit % WORD));
        }
    }

    /// The buckets of a cell, in order; in some of them it may hold none.
    pub(super) fn of(&self, number: u16) -> impl Iterator<Item = usize> {
        let words = self.cells.get(usize::from(number)).into_iter().flatten().enumerate();
        let bits = words.flat_map(|(at, word)| {
            let bits = (0..WORD).filter(move |bit| word >> bit & 1 == 1);
            bits.map(move |bit| at * WORD + bit)
        });
        bits.flat_map(|bit| group(bit * GROUP))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buckets_of_a_cell_are_the_groups_of_those_that_were_added() {
        let mut buckets = HolderBuckets::default();
        for bucket in [1, 255, 256, 4003] {
            buckets.add(3, bucket);
            buckets.add(3, bucket);
        }
        buckets.remove(3, 258);
        buckets.remove(3, 50_000);
        buckets.remove(9, 1);
        assert_eq!(buckets.of(3).collect::<Vec<_>>(), [0, 1, 2, 3, 252, 253, 254, 255, 4000, 4001, 4002, 4003]);
        assert_eq!(buckets.of(2).count() + buckets.of(9).count(), 0);
    }
}
