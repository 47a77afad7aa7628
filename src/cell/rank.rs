//! The rank of cells for a chunk, which all cells compute alike.
//!
//! Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998): each cell
//! draws a number from the chunk's id and its own, and the highest number ranks first. Cells that know the same members
//! agree on the order without a message, and one cell more or less does not change the order of the others.

use crate::id::{CellId, ChunkId};

/// The number that this cell draws for this chunk: uniform over all of `u64`.
pub(super) fn draw(chunk: &ChunkId, cell: &CellId) -> u64 {
    let [a, b] = halves(cell.as_bytes());
    let (chunk, _) = chunk.as_bytes().split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
    let [c, d] = halves(chunk);
    mix(mix(a ^ c).wrapping_add(b ^ d))
}

/// The number that this cell draws for itself alone.
pub(super) fn of_cell(cell: &CellId) -> u64 {
    let [a, b] = halves(cell.as_bytes());
    mix(mix(a).wrapping_add(b))
}

fn halves(bytes: &[u8; 16]) -> [u64; 2] {
    [bytes.first_chunk(), bytes.last_chunk()].map(|half| half.map_or(0, |bytes| u64::from_be_bytes(*bytes)))
}

/// The finalizer of `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014). Each
/// input bit affects each output bit.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cell_ranks_first_for_an_equal_share_of_chunks() {
        let cells: Vec<CellId> = (0..8).map(|n| CellId::from_bytes([n; 16])).collect();
        let mut first = [0; 8];
        for n in 0..8000_u32 {
            let chunk = ChunkId::of(&n.to_le_bytes());
            let best = (0..8).max_by_key(|&at| draw(&chunk, &cells[at])).unwrap();
            first[best] += 1;
        }
        assert!(first.iter().all(|count| (900..1100).contains(count)), "{first:?}");
    }
}
