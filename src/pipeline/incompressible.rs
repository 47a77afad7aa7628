//! A fast test for incompressible blocks, so that photographs, films and archives do not wait for LZMA.
//!
//! *Noise* is data that LZMA would compress to 99 % of its length or more: random, encrypted or already compressed. The
//! two possible errors have different costs. Noise taken for data costs time only, since the result is stored anyway.
//! Data taken for noise costs space on five disks for as long as it is stored. The thresholds below therefore lie where
//! LZMA would gain well under 1 %, and a block is noise only if none of three tests finds a gain:
//!
//! * **Skew.** LZMA codes a literal byte with probabilities that it learns for each value of the top three bits of the
//!   previous byte. The conditional entropy of a byte given those bits bounds the gain. It is estimated on samples from
//!   the whole block, one region at a time, since LZMA's probabilities adapt from region to region.
//! * **Nearby repeats.** Words of four bytes that repeat within the samples, as the headers of packets and records do.
//! * **Distant repeats.** Words that repeat anywhere in the block. Testing every word would take longer than the rest
//!   of sealing, so only words whose hash begins with some zeros are tested. All occurrences of such a word are tested,
//!   which a selection by position could not ensure.
//!
//! A block of random bytes, which passes through all three tests, takes 1 ms (measured on one x86-64 core).

/// Shorter blocks are not tested: LZMA compresses them quickly, and they have too little data to measure.
const MIN_BYTES: usize = 64 << 10;

/// The number of samples and the bytes in each: all of the shortest block, a sixteenth of a full one.
const SAMPLES: usize = 128;
const SAMPLE_BYTES: usize = MIN_BYTES / SAMPLES;

/// Bytes at the beginning of a block that are not sampled, unless it is short. Most blocks of a directory begin with the
/// header of an entry, which is zeros for the most part: with it, every photograph would be taken for data.
const SKIPPED_BYTES: usize = 2 << 10;

/// Samples that are counted together in the test for skew. With fewer the estimate follows the data more closely and is
/// less precise.
const SAMPLES_PER_REGION: usize = 32;

/// The bits of the previous byte that LZMA uses as context (its parameter `lc`, 3 in all presets).
const CONTEXT_BITS: u32 = 3;

/// Data with fewer bits of entropy per byte is skewed. For random bytes the estimate is 8.00, with a spread below
/// 0.002.
const NOISE_BITS: f64 = 7.96;

/// In noise at most one word in this many is a repeat, in the samples and in the block. A repeated word saves from a
/// third of its length (single words) to all of it (long runs), so the loss stays below 0.4 %; together with the loss
/// that [`NOISE_BITS`] allows it stays below 1 %. Random data repeats one word in 8,000 at most.
const WORDS_PER_REPEAT: usize = 256;

/// The test for distant repeats uses words whose hash begins with this many zero bits.
const SELECTED_BITS: u32 = 6;

/// The table of seen words has 2 to this power of slots: twice the words that are tested in a full block. It fits in
/// the second-level cache of a Raspberry Pi.
const SLOT_BITS: u32 = 15;

/// Whether LZMA would gain less than 1 % on this block.
pub(super) fn is_noise(block: &[u8]) -> bool {
    block.len() >= MIN_BYTES && !is_skewed(block) && !has_nearby_repeats(block) && !has_distant_repeats(block)
}

/// The samples, evenly spaced, in order.
fn samples(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let block = block.get(SKIPPED_BYTES..).filter(|rest| rest.len() >= MIN_BYTES).unwrap_or(block);
    (0..SAMPLES).filter_map(|i| block.get(i * block.len() / SAMPLES..)?.get(..SAMPLE_BYTES))
}

fn is_skewed(block: &[u8]) -> bool {
    let mut samples = samples(block).peekable();
    let (mut bits, mut regions) = (0.0, 0.0);
    while samples.peek().is_some() {
        bits += entropy_bits(samples.by_ref().take(SAMPLES_PER_REGION));
        regions += 1.0;
    }
    bits < NOISE_BITS * regions
}

/// The entropy of a byte given the top bits of the one before it, in bits.
///
/// Counts of finite samples underestimate the entropy. The correction is that of G. Miller, "Note on the bias of
/// information estimates" (1955): for each context, half of the number of distinct values less one.
fn entropy_bits<'a>(samples: impl Iterator<Item = &'a [u8]>) -> f64 {
    const CONTEXTS: usize = 1 << CONTEXT_BITS;
    let mut counts = [[0_u32; 256]; CONTEXTS];
    for sample in samples {
        let mut context = 0;
        for &byte in sample {
            if let Some(count) = counts.get_mut(context).and_then(|row| row.get_mut(usize::from(byte))) {
                *count += 1;
            }
            context = usize::from(byte >> (8 - CONTEXT_BITS));
        }
    }
    let (mut nats, mut total) = (0.0, 0.0);
    for row in &counts {
        let (mut sum, mut values) = (0.0, -1.0);
        for &count in row.iter().filter(|&&count| count > 0) {
            let count = f64::from(count);
            nats -= count * count.ln();
            sum += count;
            values += 1.0;
        }
        if sum > 0.0 {
            nats += sum * sum.ln() + values / 2.0;
            total += sum;
        }
    }
    nats / total / std::f64::consts::LN_2
}

/// A hash table of recently seen words. Each slot holds the last word only.
struct Seen {
    slots: Vec<u32>,
}

impl Seen {
    fn new() -> Self {
        Self { slots: vec![0; 1 << SLOT_BITS] }
    }

    /// Records a word; true if it was recorded before. `slot` is taken modulo the number of slots.
    fn insert(&mut self, word: u32, slot: u32) -> bool {
        let slot = (slot & ((1 << SLOT_BITS) - 1)) as usize;
        self.slots.get_mut(slot).is_some_and(|seen| std::mem::replace(seen, word) == word)
    }
}

/// Multiplicative hashing (Knuth, *The Art of Computer Programming*, volume 3, section 6.4): the upper bits of the
/// product depend on all bits of the word. The constant keeps the word 0, the most common, from hashing to 0.
fn hash(word: u32) -> u32 {
    (word ^ 0x5BD1_E995).wrapping_mul(0x9E37_79B1)
}

/// The four-byte words at all positions.
fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.windows(4).map(|window| match *window {
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
        _ => 0,
    })
}

fn has_nearby_repeats(block: &[u8]) -> bool {
    let mut seen = Seen::new();
    let repeats =
        samples(block).flat_map(words).filter(|&word| seen.insert(word, hash(word) >> (u32::BITS - SLOT_BITS))).count();
    repeats > SAMPLES * SAMPLE_BYTES / WORDS_PER_REPEAT
}

fn has_distant_repeats(block: &[u8]) -> bool {
    let mut seen = Seen::new();
    let repeats = words(block)
        .map(|word| (word, hash(word)))
        .filter(|&(_, hash)| hash >> (u32::BITS - SELECTED_BITS) == 0)
        .filter(|&(word, hash)| seen.insert(word, hash >> (u32::BITS - SELECTED_BITS - SLOT_BITS)))
        .count();
    repeats > (block.len() >> SELECTED_BITS) / WORDS_PER_REPEAT
}

/// Test data for this module and its siblings.
#[cfg(test)]
pub(super) mod testing {
    /// Incompressible bytes.
    pub(in crate::pipeline) fn random(len: usize, seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; len];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        bytes
    }

    /// Text like that of a language: a few common words and many rare ones.
    pub(in crate::pipeline) fn text(len: usize, seed: u64) -> Vec<u8> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let words: Vec<String> =
            (0..4000).map(|_| (0..rng.usize(2..9)).map(|_| rng.lowercase()).collect::<String>()).collect();
        let mut text = Vec::with_capacity(len + 10);
        while text.len() < len {
            let rank = rng.usize(..words.len()) * rng.usize(..words.len()) / words.len();
            text.extend_from_slice(words[rank].as_bytes());
            text.push(if rng.u8(..12) == 0 { b'\n' } else { b' ' });
        }
        text.truncate(len);
        text
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::id::BLOCK_BYTES;
    use crate::pipeline::compress::{self, Level};
    use crate::pipeline::incompressible::testing::{random, text};

    /// The length after compression at a low level, for data that must not be taken for noise.
    fn compressed(block: &[u8]) -> usize {
        assert!(!is_noise(block));
        compress::testing::compressed(block, "1".parse::<Level>().unwrap()).len()
    }

    #[test]
    fn random_bytes_are_noise_at_every_length() {
        for seed in 0..40 {
            assert!(is_noise(&random(BLOCK_BYTES, seed)), "seed {seed}");
            assert!(is_noise(&random(MIN_BYTES, seed)), "seed {seed}");
            assert!(is_noise(&random(MIN_BYTES + 12_345, seed)), "seed {seed}");
        }
    }

    /// A photograph in a directory is not compressed because of its header, which has up to 1,536 bytes as a rule.
    #[test]
    fn a_header_before_noise_does_not_matter() {
        for (seed, len) in [BLOCK_BYTES, 300 << 10, MIN_BYTES + SKIPPED_BYTES].into_iter().enumerate() {
            let mut block = random(len, seed as u64);
            block[..1536].fill(0);
            assert!(is_noise(&block), "{len}");
        }
    }

    #[test]
    fn lzma_output_is_noise() {
        let all: Vec<u8> = (0..12)
            .flat_map(|seed| compress::testing::compressed(&text(BLOCK_BYTES, seed), "1".parse().unwrap()))
            .collect();
        assert!(is_noise(&all[100..100 + BLOCK_BYTES]), "{}", all.len());
    }

    #[test]
    fn text_is_not_noise() {
        assert!(compressed(&text(BLOCK_BYTES, 1)) < BLOCK_BYTES / 2);
    }

    #[test]
    fn base64_of_noise_is_not_noise() {
        let block = STANDARD.encode(random(BLOCK_BYTES / 4 * 3, 1));
        assert!(compressed(block.as_bytes()) < BLOCK_BYTES * 85 / 100);
    }

    #[test]
    fn machine_code_is_not_noise() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        for block in program.chunks_exact(BLOCK_BYTES).take(3) {
            assert!(compressed(block) < BLOCK_BYTES * 4 / 5);
        }
    }

    #[test]
    fn slowly_varying_samples_are_not_noise() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut level = 0_i16;
        let block: Vec<u8> = std::iter::repeat_with(|| {
            level = level.wrapping_add(rng.i16(-300..=300));
            level.to_le_bytes()
        })
        .take(BLOCK_BYTES / 2)
        .flatten()
        .collect();
        assert!(compressed(&block) < BLOCK_BYTES * 9 / 10);
    }

    #[test]
    fn half_noise_half_zeros_is_not_noise() {
        for from in (0..8).map(|eighth| eighth * BLOCK_BYTES / 16) {
            let mut block = random(BLOCK_BYTES, 1);
            block[from..from + BLOCK_BYTES / 2].fill(0);
            assert!(compressed(&block) < BLOCK_BYTES * 51 / 100);
        }
    }

    /// Goal: repeats over long distances are found. Method: noise that repeats with several periods; its bytes are as
    /// evenly distributed as those of noise.
    #[test]
    fn noise_with_distant_repeats_is_not_noise() {
        for (period, seed) in [(64 << 10, 1), (100_003, 2), (256 << 10, 3), (512 << 10, 4)] {
            let mut block = random(period, seed).repeat(BLOCK_BYTES / period + 1);
            block.truncate(BLOCK_BYTES);
            assert!(has_distant_repeats(&block), "period {period}");
            assert!(compressed(&block) < period + period / 50 + 2000, "period {period}");
        }
    }

    /// Goal: a repeat of 1 % of the block is found. Method: copy one stretch of noise elsewhere.
    #[test]
    fn a_copied_hundredth_is_found() {
        for seed in 0..10 {
            let mut block = random(BLOCK_BYTES, seed);
            block.copy_within(1000..1000 + BLOCK_BYTES / 100, 700_000);
            assert!(!is_noise(&block), "seed {seed}");
        }
    }

    /// Goal: short, frequent repeats such as packet headers are found. Method: the same four bytes in each 100 of
    /// noise.
    #[test]
    fn headers_in_noise_are_found() {
        for seed in 0..10 {
            let mut block = random(BLOCK_BYTES, seed);
            for packet in block.chunks_exact_mut(100) {
                packet[..4].copy_from_slice(b"\x47\x1F\xE1\x9C");
            }
            assert!(has_nearby_repeats(&block), "seed {seed}");
        }
    }

    /// Goal: dependence on the previous byte is found, for all the bits that LZMA uses. Method: the top bit of every
    /// other byte is the parity of the previous byte's top three bits; fewer of these bits predict nothing.
    #[test]
    fn dependence_on_the_previous_byte_is_found() {
        let mut block = random(BLOCK_BYTES, 1);
        for pair in block.chunks_exact_mut(2) {
            let odd = (pair[0] >> 5).count_ones() % 2 == 1;
            pair[1] = (pair[1] & 0x7F) | u8::from(odd) << 7;
        }
        let len = compressed(&block);
        assert!(len < BLOCK_BYTES * 995 / 1000, "{len}");
    }

    /// Goal: differences between regions are not averaged out. Method: each quarter uses half of all values, and
    /// together they use all values evenly.
    #[test]
    fn regions_are_measured_separately() {
        let mut block = random(BLOCK_BYTES, 1);
        for (i, quarter) in block.chunks_exact_mut(BLOCK_BYTES / 4).enumerate() {
            for byte in quarter {
                *byte = (*byte & !1) | u8::from(i % 2 == 0);
            }
        }
        assert!(compressed(&block) < BLOCK_BYTES * 95 / 100);
    }

    /// Goal: LZMA saves less than 1 % on every block that is taken for noise. Method: noise with small regularities of
    /// many kinds, from none to many.
    #[test]
    fn lzma_saves_less_than_a_hundredth_on_noise() {
        let level: Level = "1".parse().unwrap();
        let mut rng = fastrand::Rng::with_seed(1);
        let (mut noise, mut data) = (0, 0);
        for round in 0..24 {
            let mut block = random(256 << 10, round);
            let share = rng.usize(4..1500);
            let (at, len) = (rng.usize(..1000), rng.usize(1..40));
            for (i, piece) in block.chunks_exact_mut(share * len).enumerate() {
                match round % 3 {
                    0 => piece[..len].fill(0x55),
                    1 => piece[..len].fill(i.to_le_bytes()[0]),
                    _ => piece[..len].copy_from_slice(&random(2000, 99)[at..at + len]),
                }
            }
            if is_noise(&block) {
                noise += 1;
                let with_lzma = compress_without_test(&block, level);
                assert!(block.len() * 99 / 100 <= with_lzma, "round {round}: {with_lzma}");
            } else {
                data += 1;
            }
        }
        assert!(noise >= 3 && data >= 3, "{noise} and {data}: the rounds are too similar");
    }

    fn compress_without_test(block: &[u8], level: Level) -> usize {
        compress::testing::encoded(block, level).map_or(block.len(), |xz| xz.len())
    }
}
