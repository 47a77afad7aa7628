//! The generated files: one of which parts compress well and parts not at all, and one that is quick to store.

use std::io::{self, Write};

use fastrand::Rng;

use crate::id::BLOCK_BYTES;

/// Six chunks: text, random bytes in the middle, and a last one that is not full.
const TEXT_BYTES: usize = 3 * BLOCK_BYTES;
const RANDOM_BYTES: usize = 2 * BLOCK_BYTES;
const REST_BYTES: usize = BLOCK_BYTES * 3 / 4;

const WORDS: [&str; 32] = [
    "a", "the", "each", "every", "no", "some", "five", "cell", "colony", "chunk", "copy", "holder", "manifest",
    "beacon", "disk", "board", "keeps", "seals", "names", "sends", "asks", "finds", "loses", "stores", "quietly",
    "again", "soon", "twice", "and", "but", "while", "until",
];

/// The size of the first file.
pub(super) const SAMPLE_BYTES: u64 = (TEXT_BYTES + RANDOM_BYTES + REST_BYTES) as u64;

/// Writes the first file.
pub(super) fn write(to: &mut impl Write, rng: &mut Rng) -> io::Result<()> {
    to.write_all(text(TEXT_BYTES, rng).as_bytes())?;
    let mut noise = vec![0; RANDOM_BYTES];
    rng.fill(&mut noise);
    to.write_all(&noise)?;
    to.write_all(text(REST_BYTES, rng).as_bytes())
}

/// Writes the second file: `count` different blocks, each a short text repeated.
pub(super) fn write_letters(to: &mut impl Write, count: usize, rng: &mut Rng) -> io::Result<()> {
    for number in 1..=count {
        let line = format!("Letter {number}: {}\n", text(200, rng));
        let letter: String = line.chars().cycle().take(BLOCK_BYTES).collect();
        to.write_all(letter.as_bytes())?;
    }
    Ok(())
}

fn text(bytes: usize, rng: &mut Rng) -> String {
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        text.push_str(rng.choice(WORDS).unwrap_or_default());
        text.push_str(if rng.u8(..) < 20 { ".\n" } else { " " });
    }
    text.truncate(bytes);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_letter_is_a_block() {
        let mut bytes = Vec::new();
        write_letters(&mut bytes, 4, &mut Rng::with_seed(1)).unwrap();
        assert_eq!(bytes.len(), 4 * BLOCK_BYTES);
        let blocks: std::collections::BTreeSet<_> = bytes.chunks(BLOCK_BYTES).collect();
        assert_eq!(blocks.len(), 4);
    }

    #[test]
    fn the_sample_has_text_and_random_bytes() {
        let mut bytes = Vec::new();
        write(&mut bytes, &mut Rng::with_seed(1)).unwrap();
        assert_eq!(bytes.len(), TEXT_BYTES + RANDOM_BYTES + REST_BYTES);
        assert!(bytes[..TEXT_BYTES].is_ascii() && bytes[bytes.len() - REST_BYTES..].is_ascii());
        assert!(!bytes[TEXT_BYTES..TEXT_BYTES + RANDOM_BYTES].is_ascii());
    }
}
