//! The room that cells have for a put, before it begins. Pure.
//!
//! A cell holds at most one copy of a chunk. So of data with S bytes it takes at most S, and the smaller of S and its
//! free bytes is its room. There is a way to place c copies of all chunks, each on c different cells, exactly if the rooms
//! of all cells together are at least c × S: fill one cell after the other with one copy after the other.
//!
//! How well the data compresses is unknown before it is read. The estimate assumes that it does not.

use crate::id::BLOCK_BYTES;

/// Bytes that a chunk takes on a disk in addition to its block, at most: what the seal adds, rounded up to the blocks of
/// a file system.
const CHUNK_OVERHEAD_BYTES: u64 = 4096;

/// The room of the cells that accept chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::client) struct Room {
    /// Bytes of one copy of the data, if it does not compress.
    copy_bytes: u64,
    /// The rooms of all cells together.
    bytes: u128,
}

impl Room {
    /// The room for data with `size` bytes on cells with this many free bytes. A cell that does not report them counts as
    /// one that has room.
    pub(in crate::client) fn new(size: u64, free_bytes: impl Iterator<Item = Option<u64>>) -> Self {
        let copy_bytes = size.saturating_add(size.div_ceil(BLOCK_BYTES as u64).saturating_mul(CHUNK_OVERHEAD_BYTES));
        let bytes = free_bytes.map(|free| u128::from(free.unwrap_or(u64::MAX).min(copy_bytes))).sum();
        Self { copy_bytes, bytes }
    }

    /// The rooms of all cells together, in bytes.
    pub(in crate::client) fn bytes(&self) -> u64 {
        u64::try_from(self.bytes).unwrap_or(u64::MAX)
    }

    /// The bytes of this many copies.
    pub(in crate::client) fn needed_bytes(&self, copies: usize) -> u64 {
        self.copy_bytes.saturating_mul(copies as u64)
    }

    /// Whether there is room for this many copies of each chunk.
    pub(in crate::client) fn fits(&self, copies: usize) -> bool {
        u128::from(self.copy_bytes) * copies as u128 <= self.bytes
    }

    /// The largest number of copies of each chunk, up to `wanted`, for which there is room.
    pub(in crate::client) fn copies(&self, wanted: usize) -> usize {
        (1..=wanted).rev().find(|&copies| self.fits(copies)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = BLOCK_BYTES as u64;

    fn room(size: u64, free: &[u64]) -> Room {
        Room::new(size, free.iter().map(|&free| Some(free)))
    }

    #[test]
    fn a_cell_takes_one_copy_of_each_chunk() {
        let one = MIB + CHUNK_OVERHEAD_BYTES;
        assert_eq!(room(MIB, &[100 * MIB]).copies(5), 1, "room on one cell is no room for two copies");
        assert_eq!(room(MIB, &[one; 3]).copies(5), 3);
        assert_eq!(room(MIB, &[one; 8]).copies(5), 5);
        assert_eq!(room(MIB, &[one, one - 1]).copies(5), 1);
        assert_eq!(room(MIB, &[]).copies(5), 0);
    }

    #[test]
    fn copies_are_divided_among_cells() {
        let half = 5 * (MIB + CHUNK_OVERHEAD_BYTES);
        assert_eq!(room(10 * MIB, &[half; 4]).copies(5), 2);
        assert_eq!(room(10 * MIB, &[half; 3]).copies(5), 1);
        let room = room(10 * MIB, &[half; 3]);
        assert_eq!((room.bytes(), room.needed_bytes(2)), (3 * half, 4 * half));
    }

    /// Goal: the formula is exact. Method: small numbers of cells and chunks, filled greedily: each chunk goes to the cells
    /// with the most room, which is optimal.
    #[test]
    fn the_estimate_agrees_with_placing_chunks_one_by_one() {
        let chunk = MIB + CHUNK_OVERHEAD_BYTES;
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..500 {
            let (chunks, copies) = (rng.u64(1..8), rng.usize(1..4));
            let mut free: Vec<u64> = (0..rng.usize(..6)).map(|_| rng.u64(..8)).collect();
            let bytes: Vec<u64> = free.iter().map(|free| free * chunk).collect();
            let fits = room(chunks * MIB, &bytes).fits(copies);
            let is_placed = (0..chunks).all(|_| {
                free.sort_unstable_by(|a, b| b.cmp(a));
                free.iter_mut().take(copies).filter(|free| **free > 0).map(|free| *free -= 1).count() == copies
            });
            assert_eq!(fits, is_placed, "{copies} copies of {chunks} chunks on {bytes:?}");
        }
    }

    #[test]
    fn unknown_and_absurd_numbers_count_as_room() {
        assert_eq!(Room::new(MIB, [None, None].into_iter()).copies(5), 2);
        assert_eq!(room(u64::MAX, &[u64::MAX; 3]).copies(5), 3);
        assert_eq!(room(0, &[0]).copies(5), 5, "no bytes need no room");
    }
}
