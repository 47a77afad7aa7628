//! Content of files.

use std::fs::File;
use std::io::Read;

use cellsync::id::BLOCK_BYTES;

/// Bytes that cannot be compressed.
pub(crate) fn random_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// Whole blocks, each of which compresses to a chunk of some 9 kB.
pub(crate) fn compressible_blocks(seed: u64, blocks: usize) -> Vec<u8> {
    let block = |n| {
        let mut block = random_bytes(seed << 16 | n as u64, 9_000);
        block.resize(BLOCK_BYTES, b' ');
        block
    };
    (0..blocks).flat_map(block).collect()
}

/// Text, machine code and random bytes. The length is not a whole number of blocks.
pub(crate) fn mixed_content(seed: u64) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..40_000)
        .flat_map(|line| format!("{line}: the quick brown fox, {}\n", line * 7 + seed).into_bytes())
        .collect();
    let program = File::open(env!("CARGO_BIN_EXE_cellsync-node")).unwrap();
    program.take(3 << 20).read_to_end(&mut bytes).unwrap();
    bytes.extend(random_bytes(seed, (1 << 20) + 4321));
    assert_ne!(bytes.len() % BLOCK_BYTES, 0);
    bytes
}
