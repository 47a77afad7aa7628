//! A block to an .xz stream and back.
//!
//! One block becomes one stream with one LZMA2 filter and the CRC64 check, so that any .xz decoder reads it. How hard
//! to try is the user's choice, [`Level`]; what does not compress is written in stored form whatever the level.
//!
//! Reading trusts nothing: a stream from elsewhere may ask for any dictionary and any length, and gets only what a
//! block can need.

use std::fmt;
use std::str::FromStr;

use xz2::stream::{Action, Check, Error as Lzma, Filters, LzmaOptions, Status, Stream};

use crate::id::BLOCK_BYTES;
use crate::pipeline::incompressible::is_noise;
use crate::pipeline::stored::{stored, stored_len};

/// How hard to compress: a preset of liblzma, 0 (quick) to 9, each also in an *extreme* variant that looks longer for
/// a little less. Written as `6` or `9e`.
///
/// The default, `9e`, is what the smallest chunks come from; every byte saved is saved five times on disk and five
/// times on the wire. Choose a low level where the machine that puts is the slow part. Measured on one x86-64 core with
/// 16 MB of text: 9e 3.1 MB/s to 0.077 of the size, 6 6.0 to 0.078, 3 26 to 0.084, 0 60 to 0.097. Memory for one block:
/// 16 MB at 9e, 8 MB at 0e.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Level {
    preset: u8,
    extreme: bool,
}

/// What is wrong with a text that should be a level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no compression level; give 0 (quick) to 9 (small), and an e after it to try harder: 6, 9e")]
pub struct MalformedLevel {
    found: String,
}

/// Why a block could not be compressed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CompressError {
    /// There is not enough memory for the encoder at this level.
    #[error("not enough memory to compress at level {0}; use a lower level or fewer workers")]
    NoMemory(Level),
    /// liblzma refused for a reason it should not have.
    #[error("cannot compress at level {level}: {source}")]
    Encoder {
        /// The level asked for.
        level: Level,
        /// What liblzma said.
        source: Lzma,
    },
}

/// Why an .xz stream did not give a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum XzError {
    /// Not an .xz stream, a damaged one, or one that uses what this reader does not know.
    #[error("the chunk holds no valid .xz stream")]
    Malformed,
    /// The stream asks for a dictionary that no block needs.
    #[error("decompressing the chunk needs more than {} MiB of memory", DECODER_BYTES >> 20)]
    TooMuchMemory,
    /// The system has no memory left.
    #[error("not enough memory to decompress a chunk")]
    NoMemory,
    /// The data is longer than a block.
    #[error("the chunk decompresses to more than a block of {BLOCK_BYTES} bytes")]
    TooLarge,
    /// There are bytes after the end of the stream.
    #[error("the chunk's .xz stream is followed by other bytes")]
    TrailingBytes,
    /// The stream ends before its end mark.
    #[error("the chunk's .xz stream is cut short")]
    Unfinished,
}

/// liblzma's flag for the extreme variant of a preset (`LZMA_PRESET_EXTREME` of its `container.h`).
const EXTREME: u32 = 1 << 31;

/// A dictionary that reaches over a whole block, in bytes.
#[allow(clippy::cast_possible_truncation)]
const BLOCK_DICTIONARY: u32 = BLOCK_BYTES as u32;

/// The dictionary of the lowest preset is smaller than a block already; all the others' are cut to a block's length,
/// since a block refers back to nothing before it. Same bytes out, a fifth of the memory and a little quicker than
/// preset 9's 64 MiB.
const LOWEST_PRESET: u8 = 0;

/// What a decoder may use, in bytes. Older writers took liblzma's preset 9 as it is, with its dictionary of 64 MiB;
/// this lets them in and nothing above. Of a large dictionary only the part that is written to takes real memory.
const DECODER_BYTES: u64 = 72 << 20;

impl Default for Level {
    fn default() -> Self {
        Self { preset: 9, extreme: true }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.preset, if self.extreme { "e" } else { "" })
    }
}

impl FromStr for Level {
    type Err = MalformedLevel;

    fn from_str(text: &str) -> Result<Self, MalformedLevel> {
        match *text.as_bytes() {
            [digit @ b'0'..=b'9'] => Ok(Self { preset: digit - b'0', extreme: false }),
            [digit @ b'0'..=b'9', b'e'] => Ok(Self { preset: digit - b'0', extreme: true }),
            _ => Err(MalformedLevel { found: text.to_owned() }),
        }
    }
}

/// The block as one .xz stream, never longer than its stored form.
pub(super) fn compress(block: &[u8], level: Level) -> Result<Vec<u8>, CompressError> {
    if is_noise(block) {
        return Ok(stored(block));
    }
    let encoded = encode(block, level).map_err(|error| match error {
        Lzma::Mem => CompressError::NoMemory(level),
        source => CompressError::Encoder { level, source },
    })?;
    Ok(encoded.unwrap_or_else(|| stored(block)))
}

/// The block through LZMA, or `None` where that would be longer than the stored form.
pub(super) fn encode(block: &[u8], level: Level) -> Result<Option<Vec<u8>>, Lzma> {
    let extreme = if level.extreme { EXTREME } else { 0 };
    let mut options = LzmaOptions::new_preset(u32::from(level.preset) | extreme)?;
    if level.preset != LOWEST_PRESET {
        options.dict_size(BLOCK_DICTIONARY);
    }
    let mut filters = Filters::new();
    filters.lzma2(&options);
    let mut encoder = Stream::new_stream_encoder(&filters, Check::Crc64)?;
    let mut xz = Vec::with_capacity(stored_len(block.len()));
    // One call does it all: it returns at the end of the stream or when the buffer is full.
    let status = encoder.process_vec(block, &mut xz, Action::Finish)?;
    Ok((status == Status::StreamEnd).then_some(xz))
}

/// The block in an .xz stream. Never makes more than a block and one byte of output.
pub(super) fn decompress(xz: &[u8]) -> Result<Vec<u8>, XzError> {
    let mut decoder = Stream::new_stream_decoder(DECODER_BYTES, 0).map_err(|error| refusal(&error))?;
    let mut block = Vec::with_capacity(BLOCK_BYTES + 1);
    // One call does it all here too: it returns at the end of the stream, or when either side has run out.
    let status = decoder.process_vec(xz, &mut block, Action::Run).map_err(|error| refusal(&error))?;
    if block.len() > BLOCK_BYTES {
        return Err(XzError::TooLarge);
    }
    if status != Status::StreamEnd {
        return Err(XzError::Unfinished);
    }
    if decoder.total_in() != xz.len() as u64 {
        return Err(XzError::TrailingBytes);
    }
    Ok(block)
}

fn refusal(error: &Lzma) -> XzError {
    match error {
        Lzma::MemLimit => XzError::TooMuchMemory,
        Lzma::Mem => XzError::NoMemory,
        _ => XzError::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::incompressible::testing::{random, text};

    fn level(text: &str) -> Level {
        text.parse().unwrap()
    }

    /// A stream as a writer with other habits would make it: any length, any dictionary.
    fn foreign(data: &[u8], dictionary: u32) -> Vec<u8> {
        let mut options = LzmaOptions::new_preset(0).unwrap();
        options.dict_size(dictionary);
        let mut filters = Filters::new();
        filters.lzma2(&options);
        let mut encoder = Stream::new_stream_encoder(&filters, Check::Crc64).unwrap();
        let mut xz = Vec::with_capacity(data.len() + 1000);
        assert_eq!(encoder.process_vec(data, &mut xz, Action::Finish).unwrap(), Status::StreamEnd);
        xz
    }

    #[test]
    fn a_level_is_a_digit_and_perhaps_an_e() {
        for preset in 0..=9 {
            for text in [format!("{preset}"), format!("{preset}e")] {
                assert_eq!(level(&text).to_string(), text);
            }
        }
        assert_eq!(Level::default(), level("9e"));
        assert_ne!(level("9"), level("9e"));
        for bad in ["", "e", "10", "-1", "9E", "9ee", " 9", "9 ", "best", "９"] {
            let error = bad.parse::<Level>().unwrap_err().to_string();
            assert!(error.contains(&format!("{bad:?}")) && error.contains("9e"), "{error}");
        }
    }

    #[test]
    fn every_level_gives_the_block_back() {
        let block = text(200_000, 5);
        for preset in 0..=9 {
            for text in [format!("{preset}"), format!("{preset}e")] {
                let xz = compress(&block, level(&text)).unwrap();
                assert!(xz.len() < block.len() / 2, "{text}: {}", xz.len());
                assert!(decompress(&xz).unwrap() == block, "{text}");
            }
        }
    }

    #[test]
    fn a_higher_level_is_heard() {
        let block = text(BLOCK_BYTES, 6);
        let lens = ["0", "0e", "9e"].map(|text| compress(&block, level(text)).unwrap().len());
        assert!(lens.is_sorted_by(|larger, smaller| larger > smaller), "{lens:?}");
    }

    /// Goal: cutting the dictionary to a block's length costs no byte. Method: liblzma's own preset beside ours; the
    /// two differ in the byte that names the dictionary's size, and its checksum.
    #[test]
    fn the_cut_dictionary_costs_nothing() {
        let block = text(BLOCK_BYTES, 7);
        let ours = compress(&block, level("6")).unwrap();
        let mut encoder = Stream::new_easy_encoder(6, Check::Crc64).unwrap();
        let mut theirs = Vec::with_capacity(BLOCK_BYTES);
        assert_eq!(encoder.process_vec(&block, &mut theirs, Action::Finish).unwrap(), Status::StreamEnd);
        assert_eq!(ours.len(), theirs.len());
        assert!(ours.iter().zip(&theirs).filter(|(a, b)| a != b).count() <= 5);
    }

    /// Goal: blocks that LZMA is tried on in vain are not made longer by it than by storing them.
    #[test]
    fn what_lzma_makes_longer_is_stored() {
        for len in [0, 1, 100, 5000, 60_000] {
            let block = random(len, 8);
            assert!(!is_noise(&block));
            let xz = compress(&block, Level::default()).unwrap();
            assert!(xz.len() <= stored_len(len), "{len}");
        }
        // A full block of noise is where LZMA loses; it is asked directly, past the test for noise.
        assert_eq!(encode(&random(BLOCK_BYTES, 8), level("0")), Ok(None));
    }

    #[test]
    fn streams_with_the_dictionary_of_preset_9_are_read_and_larger_ones_refused() {
        assert_eq!(decompress(&foreign(b"older writers", 64 << 20)).as_deref(), Ok(&b"older writers"[..]));
        assert_eq!(decompress(&foreign(b"a bomb", 128 << 20)), Err(XzError::TooMuchMemory));
    }

    #[test]
    fn a_block_and_one_byte_is_refused() {
        let mut data = vec![7; BLOCK_BYTES];
        assert!(decompress(&foreign(&data, 4096)).unwrap() == data);
        data.push(7);
        assert_eq!(decompress(&foreign(&data, 4096)), Err(XzError::TooLarge));
        data.resize(100 * BLOCK_BYTES, 7);
        assert_eq!(decompress(&foreign(&data, 4096)), Err(XzError::TooLarge));
    }

    #[test]
    fn what_follows_the_stream_is_refused() {
        let xz = stored(b"a block");
        for rest in [&b"\0"[..], &[0; 4], &xz] {
            assert_eq!(decompress(&[&xz, rest].concat()), Err(XzError::TrailingBytes));
        }
    }

    /// Goal: no damage to a stream goes unseen. Method: both forms, every byte flipped, every length cut.
    #[test]
    fn damage_anywhere_is_an_error() {
        for xz in [stored(b"123456789"), compress(&[b'a'; 300], Level::default()).unwrap()] {
            for at in 0..xz.len() {
                let mut bytes = xz.clone();
                bytes[at] ^= 1 << (at % 8);
                assert!(decompress(&bytes).is_err(), "byte {at} of {xz:02x?}");
                assert_eq!(decompress(&xz[..at]), Err(XzError::Unfinished), "cut to {at}");
            }
        }
    }
}
