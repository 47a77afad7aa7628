//! A map from chunk ids to small values, in order of the ids, that takes little more memory than its content.
//!
//! ```text
//!  first bits of the id ─▶ bucket: entries in order of their ids, in one block of memory without gaps
//! ```
//!
//! Ids are hashes, so the buckets are of nearly equal size. When they have become long on average, each is divided in two,
//! which needs one more bit. To insert an entry moves those behind it in its bucket: two kilobytes on average. A tree
//! would need half as much memory again for its nodes, most of which are partly empty.

use std::ops::Bound;

use crate::id::ChunkId;

/// The average length of a bucket at which all are divided.
const MAX_AVERAGE: usize = 64;
/// A bucket grows by this number of entries.
const GROWTH: usize = 2;
/// A bucket with more unused room than this gives it back.
const MAX_UNUSED: usize = 8;
/// The number of bits of an id that choose its bucket, at most.
const MAX_BITS: u32 = 24;

type Bucket<V> = Vec<(ChunkId, V)>;

/// The map. A chunk is an id with its value.
#[derive(Debug)]
pub(super) struct ChunkTable<V> {
    /// Two to the power of `bits`.
    buckets: Vec<Bucket<V>>,
    bits: u32,
    len: usize,
}

impl<V> Default for ChunkTable<V> {
    fn default() -> Self {
        Self { buckets: vec![Vec::new()], bits: 0, len: 0 }
    }
}

impl<V> ChunkTable<V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Number of buckets.
    pub(super) fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// The chunks of a bucket, in order of their ids.
    pub(super) fn bucket(&self, number: usize) -> &[(ChunkId, V)] {
        self.buckets.get(number).map_or(&[], Vec::as_slice)
    }

    /// The bucket of a chunk. Chunks with greater ids are in the same one or in later ones.
    pub(super) fn bucket_of(&self, id: &ChunkId) -> usize {
        let [a, b, c, ..] = *id.as_bytes();
        let first = u32::from_be_bytes([0, a, b, c]) >> (MAX_BITS - self.bits);
        // At most 24 bits.
        usize::try_from(first).unwrap_or_default()
    }

    /// The bucket of a chunk and its position there, or the position at which it would be.
    fn find(&self, id: &ChunkId) -> (usize, Result<usize, usize>) {
        let number = self.bucket_of(id);
        (number, self.bucket(number).binary_search_by(|(other, _)| other.cmp(id)))
    }

    pub(super) fn get(&self, id: &ChunkId) -> Option<&V> {
        let (number, position) = self.find(id);
        self.bucket(number).get(position.ok()?).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, id: &ChunkId) -> Option<&mut V> {
        let (number, position) = self.find(id);
        self.buckets.get_mut(number)?.get_mut(position.ok()?).map(|(_, value)| value)
    }

    pub(super) fn contains(&self, id: &ChunkId) -> bool {
        self.find(id).1.is_ok()
    }

    /// Inserts a chunk or replaces its value. True if the buckets have been divided, and have other numbers now.
    pub(super) fn insert(&mut self, id: ChunkId, value: V) -> bool {
        let (number, position) = self.find(&id);
        let Some(bucket) = self.buckets.get_mut(number) else { return false };
        match position {
            Ok(position) => {
                if let Some((_, before)) = bucket.get_mut(position) {
                    *before = value;
                }
                return false;
            }
            Err(position) => {
                if bucket.len() == bucket.capacity() {
                    bucket.reserve_exact(GROWTH);
                }
                bucket.insert(position, (id, value));
            }
        }
        self.len += 1;
        let is_full = self.len > MAX_AVERAGE * self.buckets.len() && self.bits < MAX_BITS;
        if is_full {
            self.divide();
        }
        is_full
    }

    pub(super) fn remove(&mut self, id: &ChunkId) -> Option<V> {
        let (number, position) = self.find(id);
        let bucket = self.buckets.get_mut(number)?;
        let (_, value) = bucket.remove(position.ok()?);
        if bucket.capacity() - bucket.len() > MAX_UNUSED {
            bucket.shrink_to(bucket.len() + GROWTH);
        }
        self.len -= 1;
        Some(value)
    }

    /// Divides each bucket in two.
    fn divide(&mut self) {
        self.bits += 1;
        let before = std::mem::take(&mut self.buckets);
        let mut after: Vec<Bucket<V>> = Vec::with_capacity(2 * before.len());
        for (number, mut first) in before.into_iter().enumerate() {
            let middle = first.partition_point(|(id, _)| self.bucket_of(id) <= 2 * number);
            let mut second = first.split_off(middle);
            first.shrink_to(first.len() + GROWTH);
            second.shrink_to(second.len() + GROWTH);
            after.push(first);
            after.push(second);
        }
        self.buckets = after;
    }

    /// All chunks from this bound on.
    pub(super) fn from(&self, from: Bound<ChunkId>) -> impl Iterator<Item = (&ChunkId, &V)> {
        let (number, position) = match &from {
            Bound::Unbounded => (0, 0),
            Bound::Included(id) => match self.find(id) {
                (number, Ok(position) | Err(position)) => (number, position),
            },
            Bound::Excluded(id) => match self.find(id) {
                (number, Ok(position)) => (number, position + 1),
                (number, Err(position)) => (number, position),
            },
        };
        let rest = self.bucket(number).get(position..).unwrap_or_default();
        let later = self.buckets.iter().skip(number + 1).flatten();
        rest.iter().chain(later).map(|(id, value)| (id, value))
    }

    /// All values, to be changed.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.buckets.iter_mut().flatten().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Goal: the table is a map in order of the ids, whatever its size. Method: compares it with one of the standard
    /// library, while chunks come and go.
    #[test]
    fn a_table_is_an_ordered_map() {
        let (mut table, mut expected) = (ChunkTable::default(), BTreeMap::new());
        let mut rng = fastrand::Rng::with_seed(7);
        for turn in 0..40_000_u32 {
            let id = ChunkId::of(&rng.u32(..10_000).to_le_bytes());
            // It grows, shrinks, and grows again.
            if rng.u32(..100) < if turn / 10_000 == 2 { 20 } else { 80 } {
                table.insert(id, turn);
                expected.insert(id, turn);
            } else {
                assert_eq!(table.remove(&id), expected.remove(&id));
            }
            assert_eq!(table.len(), expected.len());
            assert_eq!((table.get(&id), table.contains(&id)), (expected.get(&id), expected.contains_key(&id)));
            if turn % 1000 == 0 {
                assert!(table.from(Bound::Unbounded).eq(&expected));
                for bound in [Bound::Included(id), Bound::Excluded(id)] {
                    assert!(table.from(bound).eq(expected.range((bound, Bound::Unbounded))));
                }
            }
        }
        assert!(table.buckets() > 64);
        for number in 0..table.buckets() {
            assert!(table.bucket(number).iter().all(|(id, _)| table.bucket_of(id) == number));
        }
        table.values_mut().for_each(|value| *value += 1);
        assert!(table.from(Bound::Unbounded).zip(&expected).all(|(now, before)| *now.1 == before.1 + 1));
    }

    #[test]
    fn little_room_is_unused() {
        let mut table = ChunkTable::default();
        for n in 0..100_000_u32 {
            table.insert(ChunkId::of(&n.to_le_bytes()), [0_u8; 12]);
        }
        let rooms: usize = table.buckets.iter().map(Vec::capacity).sum();
        assert!(rooms <= 104_000, "{rooms}");
        for n in 1000..100_000_u32 {
            table.remove(&ChunkId::of(&n.to_le_bytes()));
        }
        let rooms: usize = table.buckets.iter().map(Vec::capacity).sum();
        assert!(rooms <= 1000 + MAX_UNUSED * table.buckets(), "{rooms}");
    }
}
