//! The file that the demo makes if it is given none: some of it compresses well, some not at all.

use std::io::{self, Write};

use fastrand::Rng;

use crate::chunk::BLOCK_BYTES;

/// Six chunks: text, random bytes in the middle, and a last one that is not full.
const TEXT_BYTES: usize = 3 * BLOCK_BYTES;
const RANDOM_BYTES: usize = 2 * BLOCK_BYTES;
const REST_BYTES: usize = BLOCK_BYTES * 3 / 4;

const WORDS: [&str; 32] = [
    "a", "the", "each", "every", "no", "some", "five", "cell", "colony", "chunk", "copy", "holder", "manifest",
    "beacon", "disk", "board", "keeps", "seals", "names", "sends", "asks", "finds", "loses", "stores", "quietly",
    "again", "soon", "twice", "and", "but", "while", "until",
];

/// Writes the file.
pub(super) fn write(to: &mut impl Write, rng: &mut Rng) -> io::Result<()> {
    to.write_all(text(TEXT_BYTES, rng).as_bytes())?;
    let mut noise = vec![0; RANDOM_BYTES];
    rng.fill(&mut noise);
    to.write_all(&noise)?;
    to.write_all(text(REST_BYTES, rng).as_bytes())
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
    fn the_sample_has_its_size_and_is_half_text() {
        let mut bytes = Vec::new();
        write(&mut bytes, &mut Rng::with_seed(1)).unwrap();
        assert_eq!(bytes.len(), TEXT_BYTES + RANDOM_BYTES + REST_BYTES);
        assert!(bytes[..TEXT_BYTES].is_ascii() && bytes[bytes.len() - REST_BYTES..].is_ascii());
        assert!(!bytes[TEXT_BYTES..TEXT_BYTES + RANDOM_BYTES].is_ascii());
    }
}
