//! Does a block compress at all? A quick guess, so that photographs, films and archives do not wait for LZMA.
//!
//! Noise is data that LZMA would leave at 99 % of its length or more: random, encrypted or compressed already. Two
//! ways to be wrong are not alike. Noise taken for data costs time, and the result is stored all the same. Data taken
//! for noise costs room on five disks for ever, so the bars below are set to where LZMA's gain would be well under
//! one hundredth, and a block is noise only when none of three tests sees a gain:
//!
//! * **skew**: LZMA codes a byte it cannot copy by odds that it learns for each value of the previous byte's top
//!   three bits. The entropy of the byte given those bits is what that can reach; it is estimated on samples spread
//!   over the block, region by region, since what is learnt in one region fades in the next.
//! * **repeats nearby**: words of four bytes that come back within the samples, as the marks of packets and records do.
//! * **repeats far apart**: words that come back anywhere in the block. Looking at every word would take longer than
//!   the rest of sealing, so only those are looked at whose hash begins with some zeros: wherever such a word comes
//!   again it is looked at again, which no choice by position could promise.
//!
//! Measured on one x86-64 core: a block of random bytes, which goes through all three, takes 1 ms.

/// Shorter blocks are not tested: LZMA is done with them soon, and there is too little to measure on.
const SMALLEST_BYTES: usize = 64 << 10;

/// How many samples, and bytes in each: all of the smallest block, a sixteenth of a full one.
const SAMPLES: usize = 128;
const SAMPLE_BYTES: usize = SMALLEST_BYTES / SAMPLES;

/// Samples whose bytes are counted together in the test for skew. Fewer would follow the data more closely and leave
/// the estimate too rough.
const SAMPLES_A_REGION: usize = 32;

/// Bits of the previous byte that LZMA looks at (its parameter `lc`, 3 in all presets).
const CONTEXT_BITS: u32 = 3;

/// Bits a byte under which data is skewed. Random bytes come to 8.00 by the estimate, with a spread under 0.002.
const NOISE_BITS: f64 = 7.96;

/// One word in this many may be a repeat, in samples and in the block. Repeated words save from a third of their length
/// (single words) to all of it (long runs), so what is lost stays under four thousandths; with what may be lost to
/// [`NOISE_BITS`] it stays under one hundredth. By chance, random data has one in eight thousand at most.
const WORDS_A_REPEAT: usize = 256;

/// A word far apart is looked at when this many leading bits of its hash are zero.
const CHOSEN_BITS: u32 = 6;

/// The table of words seen has 2 to this power of slots: twice the words that are looked at in a full block. It stays
/// within the second-level cache of a Raspberry Pi.
const SLOT_BITS: u32 = 15;

/// Would LZMA leave this block as long as it is?
pub(super) fn is_noise(block: &[u8]) -> bool {
    block.len() >= SMALLEST_BYTES && !skewed(block) && !repeats_nearby(block) && !repeats_far_apart(block)
}

/// The samples, evenly spread, in order.
fn samples(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    (0..SAMPLES).filter_map(|i| block.get(i * block.len() / SAMPLES..)?.get(..SAMPLE_BYTES))
}

fn skewed(block: &[u8]) -> bool {
    let mut samples = samples(block).peekable();
    let (mut bits, mut regions) = (0.0, 0.0);
    while samples.peek().is_some() {
        bits += entropy_bits(samples.by_ref().take(SAMPLES_A_REGION));
        regions += 1.0;
    }
    bits < NOISE_BITS * regions
}

/// The entropy of a byte given the top bits of the one before it, in bits.
///
/// Counting finite samples makes data look less random than it is; the estimate is corrected for that as in G. Miller,
/// "Note on the bias of information estimates" (1955): half the number of values seen, less one, for each context.
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

/// Words seen lately, by hash. A slot keeps the last word only.
struct Seen {
    slots: Vec<u32>,
}

impl Seen {
    fn new() -> Self {
        Self { slots: vec![0; 1 << SLOT_BITS] }
    }

    /// Was this word seen? From now on it was. `slot` is taken modulo the number of slots.
    fn again(&mut self, word: u32, slot: u32) -> bool {
        let slot = (slot & ((1 << SLOT_BITS) - 1)) as usize;
        self.slots.get_mut(slot).is_some_and(|seen| std::mem::replace(seen, word) == word)
    }
}

/// Multiplicative hashing (Knuth, *The Art of Computer Programming*, volume 3, section 6.4): the upper bits of the
/// product depend on all bits of the word. The offset keeps words of zeros, the commonest, from hashing to zero.
fn hash(word: u32) -> u32 {
    (word ^ 0x5BD1_E995).wrapping_mul(0x9E37_79B1)
}

/// The four-byte words at every position.
fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.windows(4).map(|window| match *window {
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
        _ => 0,
    })
}

fn repeats_nearby(block: &[u8]) -> bool {
    let mut seen = Seen::new();
    let repeats =
        samples(block).flat_map(words).filter(|&word| seen.again(word, hash(word) >> (u32::BITS - SLOT_BITS))).count();
    repeats > SAMPLES * SAMPLE_BYTES / WORDS_A_REPEAT
}

fn repeats_far_apart(block: &[u8]) -> bool {
    let mut seen = Seen::new();
    let repeats = words(block)
        .map(|word| (word, hash(word)))
        .filter(|&(_, hash)| hash >> (u32::BITS - CHOSEN_BITS) == 0)
        .filter(|&(word, hash)| seen.again(word, hash >> (u32::BITS - CHOSEN_BITS - SLOT_BITS)))
        .count();
    repeats > (block.len() >> CHOSEN_BITS) / WORDS_A_REPEAT
}

/// Data for the tests of this folder.
#[cfg(test)]
pub(super) mod testing {
    /// Bytes no compressor gains on.
    pub(in crate::pipeline) fn random(len: usize, seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; len];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        bytes
    }

    /// Words with gaps, as a language has: a few common ones, many rare ones.
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
    use crate::pipeline::compress::{Level, compress};
    use crate::pipeline::incompressible::testing::{random, text};

    /// The length after compression at a quick level, for data that must not be taken for noise.
    fn compressed(block: &[u8]) -> usize {
        assert!(!is_noise(block));
        compress(block, "1".parse::<Level>().unwrap()).unwrap().len()
    }

    #[test]
    fn random_bytes_are_noise_at_every_length() {
        for seed in 0..40 {
            assert!(is_noise(&random(BLOCK_BYTES, seed)), "seed {seed}");
            assert!(is_noise(&random(SMALLEST_BYTES, seed)), "seed {seed}");
            assert!(is_noise(&random(SMALLEST_BYTES + 12_345, seed)), "seed {seed}");
        }
    }

    #[test]
    fn a_stream_of_lzma_is_noise() {
        let all: Vec<u8> =
            (0..12).flat_map(|seed| compress(&text(BLOCK_BYTES, seed), "1".parse().unwrap()).unwrap()).collect();
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
    fn half_noise_is_not_noise_wherever_the_zeros_are() {
        for from in (0..8).map(|eighth| eighth * BLOCK_BYTES / 16) {
            let mut block = random(BLOCK_BYTES, 1);
            block[from..from + BLOCK_BYTES / 2].fill(0);
            assert!(compressed(&block) < BLOCK_BYTES * 51 / 100);
        }
    }

    /// Goal: repeats that only a long look finds. Method: noise of many lengths, repeated; the bytes are as evenly
    /// spread as noise has them.
    #[test]
    fn noise_that_repeats_far_apart_is_not_noise() {
        for (period, seed) in [(64 << 10, 1), (100_003, 2), (256 << 10, 3), (512 << 10, 4)] {
            let mut block = random(period, seed).repeat(BLOCK_BYTES / period + 1);
            block.truncate(BLOCK_BYTES);
            assert!(repeats_far_apart(&block), "period {period}");
            assert!(compressed(&block) < period + period / 50 + 2000, "period {period}");
        }
    }

    /// Goal: a small repeat is seen as soon as it is worth a hundredth. Method: one stretch of noise copied elsewhere.
    #[test]
    fn one_copied_hundredth_is_seen() {
        for seed in 0..10 {
            let mut block = random(BLOCK_BYTES, seed);
            block.copy_within(1000..1000 + BLOCK_BYTES / 100, 700_000);
            assert!(!is_noise(&block), "seed {seed}");
        }
    }

    /// Goal: marks of packets, which repeat often and are short. Method: the same four bytes in each 100 of noise.
    #[test]
    fn marks_in_noise_are_seen() {
        for seed in 0..10 {
            let mut block = random(BLOCK_BYTES, seed);
            for packet in block.chunks_exact_mut(100) {
                packet[..4].copy_from_slice(b"\x47\x1F\xE1\x9C");
            }
            assert!(repeats_nearby(&block), "seed {seed}");
        }
    }

    /// Goal: what follows from the byte before is seen, by as many of its bits as LZMA looks at. Method: the top bit of
    /// every other byte says whether an odd number of the three bits before is set; fewer of them say nothing.
    #[test]
    fn what_follows_from_the_byte_before_is_seen() {
        let mut block = random(BLOCK_BYTES, 1);
        for pair in block.chunks_exact_mut(2) {
            let odd = (pair[0] >> 5).count_ones() % 2 == 1;
            pair[1] = (pair[1] & 0x7F) | u8::from(odd) << 7;
        }
        let len = compressed(&block);
        assert!(len < BLOCK_BYTES * 995 / 1000, "{len}");
    }

    /// Goal: what differs from place to place is not averaged away. Method: each quarter uses half of all values, and
    /// together they use all evenly.
    #[test]
    fn regions_are_judged_on_their_own() {
        let mut block = random(BLOCK_BYTES, 1);
        for (i, quarter) in block.chunks_exact_mut(BLOCK_BYTES / 4).enumerate() {
            for byte in quarter {
                *byte = (*byte & !1) | u8::from(i % 2 == 0);
            }
        }
        assert!(compressed(&block) < BLOCK_BYTES * 95 / 100);
    }

    /// Goal: the promise itself. Method: noise with all manners of small regularity, from none to plenty; wherever the
    /// block passes for noise, LZMA must not have saved a hundredth.
    #[test]
    fn what_passes_for_noise_would_not_have_shrunk_by_a_hundredth() {
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
        assert!(noise >= 3 && data >= 3, "{noise} and {data}: the rounds are too much alike");
    }

    fn compress_without_test(block: &[u8], level: Level) -> usize {
        crate::pipeline::compress::encode(block, level).unwrap().map_or(block.len(), |xz| xz.len())
    }
}
