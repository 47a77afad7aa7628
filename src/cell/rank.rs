//! The order in which cells are considered for a chunk, the same for everybody who looks.
//!
//! Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998): each cell draws
//! a number from the chunk's name and its own. Cells that know of each other agree on the order with no word between
//! them, and one cell more or less moves nobody else.

use crate::id::CellId;
use crate::id::ChunkId;

/// A number from 0 to 2^64 - 1 for this chunk on this cell, as if at random.
pub(super) fn draw(chunk: &ChunkId, cell: &CellId) -> u64 {
    let [a, b] = halves(cell.as_bytes());
    let (chunk, _) = chunk.as_bytes().split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
    let [c, d] = halves(chunk);
    mix(mix(a ^ c).wrapping_add(b ^ d))
}

/// A number for the cell alone.
pub(super) fn of_cell(cell: &CellId) -> u64 {
    let [a, b] = halves(cell.as_bytes());
    mix(mix(a).wrapping_add(b))
}

fn halves(bytes: &[u8; 16]) -> [u64; 2] {
    [bytes.first_chunk(), bytes.last_chunk()].map(|half| half.map_or(0, |bytes| u64::from_be_bytes(*bytes)))
}

/// The finishing step of `SplitMix64` (Steele, Lea and Flood, 2014): every bit of the input reaches every bit of the
/// output.
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
    fn each_of_some_cells_is_first_for_its_share_of_chunks() {
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
