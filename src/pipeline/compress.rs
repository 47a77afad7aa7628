//! Compression: a block to an .xz stream and back.
//!
//! A block becomes one stream with one LZMA2 filter and the CRC64 check, which any .xz decoder reads. The user chooses
//! the effort with [`Level`]. Incompressible blocks are written in stored form at every level.
//!
//! The decoder limits memory and output to what a block can need, since a stream from another writer may demand any
//! dictionary and expand to any length.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use xz2::stream::{Action, Check, Error as Lzma, Filters, LzmaOptions, Status, Stream};

use crate::id::BLOCK_BYTES;
use crate::pipeline::block_checksum::OpenedBlock;
use crate::pipeline::incompressible::is_noise;
use crate::pipeline::stored::{Unpacked, stored, stored_len, unpack_stored};

/// A compression level: a preset of liblzma from 0 (fastest) to 9 (smallest), written as `6`, or its *extreme* variant,
/// slower and slightly smaller, written as `9e`.
///
/// The default, `9e`, makes the smallest chunks: each saved byte is saved once for each copy, on disk and on the
/// network. Choose a lower level where the client's processor limits the speed. Measured on one x86-64 core with 16 MB
/// of text:
///
/// | level | speed | compressed to |
/// |---|---|---|
/// | 9e | 3.1 MB/s | 7.7 % |
/// | 6 | 6.0 MB/s | 7.8 % |
/// | 3 | 26 MB/s | 8.4 % |
/// | 0 | 60 MB/s | 9.7 % |
///
/// The memory for one block is 16 MB at 9e and 8 MB at 0e.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Level {
    preset: u8,
    extreme: bool,
}

/// The text is not a compression level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid compression level {found:?}: use 0 (fastest) to 9 (smallest), with an e for extra effort, as 6 or 9e")]
pub struct MalformedLevel {
    found: String,
}

/// Why a block could not be compressed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CompressError {
    /// The encoder could not allocate its memory at this level.
    #[error("not enough memory to compress at level {0}; use a lower level or fewer workers")]
    NoMemory(Level),
    /// liblzma failed for another reason.
    #[error("cannot compress at level {level}: {source}")]
    Encoder {
        /// The level.
        level: Level,
        /// The error of liblzma.
        source: Lzma,
    },
}

/// Why an .xz stream could not be decompressed to a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum XzError {
    /// Not an .xz stream, or a damaged one, or one with an unsupported filter.
    #[error("the chunk does not contain a valid .xz stream")]
    Malformed,
    /// The stream's dictionary is larger than any block needs.
    #[error("decompressing the chunk needs more than {} MiB of memory", DECODER_BYTES >> 20)]
    TooMuchMemory,
    /// The decoder could not allocate its memory.
    #[error("not enough memory to decompress a chunk")]
    NoMemory,
    /// The data is longer than a block.
    #[error("the chunk decompresses to more than a block of {BLOCK_BYTES} bytes")]
    TooLarge,
    /// The stream is followed by other bytes.
    #[error("the chunk's .xz stream is followed by other bytes")]
    TrailingBytes,
    /// The stream is incomplete.
    #[error("the chunk's .xz stream is truncated")]
    Unfinished,
}

/// liblzma's flag for the extreme variant of a preset (`LZMA_PRESET_EXTREME` of its `container.h`).
const EXTREME: u32 = 1 << 31;

/// A dictionary as large as a block, in bytes.
#[allow(clippy::cast_possible_truncation)]
const BLOCK_DICTIONARY: u32 = BLOCK_BYTES as u32;

/// The only preset whose dictionary (256 KiB) is smaller than a block. The dictionaries of the others are reduced to
/// [`BLOCK_DICTIONARY`], since a block has no data before it to refer to. Compared with the 64 MiB of preset 9 this
/// gives the same output with a fifth of the memory, slightly faster.
const LOWEST_PRESET: u8 = 0;

/// The memory limit of a decoder, in bytes. Earlier versions used liblzma's preset 9 with its dictionary of 64 MiB;
/// this limit admits those streams and nothing larger. Only the part of a dictionary that is written to takes memory.
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

/// The length of the longest stream that [`compress`] makes of a block of `len` bytes.
pub(super) fn max_len(len: usize) -> usize {
    stored_len(len)
}

/// Compresses a block and appends the result to `out`: one .xz stream, which is never longer than [`max_len`].
pub(super) fn compress(block: &[u8], level: Level, out: &mut Vec<u8>) -> Result<(), CompressError> {
    if is_noise(block) {
        stored(block, out);
        return Ok(());
    }
    let start = out.len();
    let is_shorter = encode(block, level, out).map_err(|error| match error {
        Lzma::Mem => CompressError::NoMemory(level),
        source => CompressError::Encoder { level, source },
    })?;
    if !is_shorter {
        out.truncate(start);
        stored(block, out);
    }
    Ok(())
}

/// Compresses a block with LZMA and appends the result to `out`. `false` if it would be longer than the stored form;
/// then what was appended is no stream.
pub(super) fn encode(block: &[u8], level: Level, out: &mut Vec<u8>) -> Result<bool, Lzma> {
    let extreme = if level.extreme { EXTREME } else { 0 };
    let mut options = LzmaOptions::new_preset(u32::from(level.preset) | extreme)?;
    if level.preset != LOWEST_PRESET {
        options.dict_size(BLOCK_DICTIONARY);
    }
    let mut filters = Filters::new();
    filters.lzma2(&options);
    let mut encoder = Stream::new_stream_encoder(&filters, Check::Crc64)?;
    let max_len = out.len() + stored_len(block.len());
    out.reserve(stored_len(block.len()));
    // One call suffices: it returns at the end of the stream or when the buffer is full.
    let status = encoder.process_vec(block, out, Action::Finish)?;
    // The buffer may have more room than was reserved.
    Ok(status == Status::StreamEnd && out.len() <= max_len)
}

/// Decompresses the .xz stream at `xz` of the buffer to a block. The stored form is unpacked in place.
pub(super) fn decompress(mut buffer: Vec<u8>, xz: Range<usize>) -> Result<OpenedBlock, XzError> {
    match unpack_stored(&mut buffer, xz.clone()) {
        Unpacked::Data(checksum) => Ok(OpenedBlock { bytes: buffer, checksum }),
        Unpacked::WrongChecksum => Err(XzError::Malformed),
        Unpacked::NotStored => decode(buffer.get(xz).unwrap_or_default()).map(OpenedBlock::from),
    }
}

/// Decompresses an .xz stream with liblzma. It produces at most one byte more than a block.
pub(super) fn decode(xz: &[u8]) -> Result<Vec<u8>, XzError> {
    let mut decoder = Stream::new_stream_decoder(DECODER_BYTES, 0).map_err(|error| xz_error(&error))?;
    let mut block = Vec::with_capacity(BLOCK_BYTES + 1);
    // One call suffices: it returns at the end of the stream, of the input, or of the buffer.
    let status = decoder.process_vec(xz, &mut block, Action::Run).map_err(|error| xz_error(&error))?;
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

fn xz_error(error: &Lzma) -> XzError {
    match error {
        Lzma::MemLimit => XzError::TooMuchMemory,
        Lzma::Mem => XzError::NoMemory,
        _ => XzError::Malformed,
    }
}

/// Compresses to buffers of its own, for tests.
#[cfg(test)]
pub(super) mod testing {
    use super::{Level, encode};

    pub(in crate::pipeline) fn compressed(block: &[u8], level: Level) -> Vec<u8> {
        let mut xz = Vec::new();
        super::compress(block, level, &mut xz).unwrap();
        xz
    }

    /// `None` if LZMA's output is longer than the stored form.
    pub(in crate::pipeline) fn encoded(block: &[u8], level: Level) -> Option<Vec<u8>> {
        let mut xz = Vec::new();
        encode(block, level, &mut xz).unwrap().then_some(xz)
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{compressed, encoded};
    use super::*;
    use crate::pipeline::incompressible::testing::{random, text};

    fn level(text: &str) -> Level {
        text.parse().unwrap()
    }

    fn decompressed(xz: &[u8]) -> Result<Vec<u8>, XzError> {
        decompress(xz.to_vec(), 0..xz.len()).map(|block| block.bytes)
    }

    fn stored_form(block: &[u8]) -> Vec<u8> {
        let mut xz = Vec::new();
        stored(block, &mut xz);
        xz
    }

    /// A stream of another writer: any length, any dictionary.
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
    fn a_level_is_a_digit_with_an_optional_e() {
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
    fn blocks_of_every_level_are_recovered() {
        let block = text(200_000, 5);
        for preset in 0..=9 {
            for text in [format!("{preset}"), format!("{preset}e")] {
                let xz = compressed(&block, level(&text));
                assert!(xz.len() < block.len() / 2, "{text}: {}", xz.len());
                assert!(decompressed(&xz).unwrap() == block, "{text}");
            }
        }
    }

    #[test]
    fn higher_levels_compress_better() {
        let block = text(BLOCK_BYTES, 6);
        let lens = ["0", "0e", "9e"].map(|text| compressed(&block, level(text)).len());
        assert!(lens.is_sorted_by(|larger, smaller| larger > smaller), "{lens:?}");
    }

    /// Goal: the smaller dictionary does not make chunks longer. Method: compare with liblzma's own preset; the outputs
    /// differ in the byte for the dictionary's size and in its checksum.
    #[test]
    fn the_smaller_dictionary_costs_no_bytes() {
        let block = text(BLOCK_BYTES, 7);
        let reduced = compressed(&block, level("6"));
        let mut encoder = Stream::new_easy_encoder(6, Check::Crc64).unwrap();
        let mut standard = Vec::with_capacity(BLOCK_BYTES);
        assert_eq!(encoder.process_vec(&block, &mut standard, Action::Finish).unwrap(), Status::StreamEnd);
        assert_eq!(reduced.len(), standard.len());
        assert!(reduced.iter().zip(&standard).filter(|(a, b)| a != b).count() <= 5);
    }

    /// Goal: where LZMA's output is longer than the stored form, the stored form is used.
    #[test]
    fn blocks_that_lzma_makes_longer_are_stored() {
        for len in [0, 1, 100, 5000, 60_000] {
            let block = random(len, 8);
            assert!(!is_noise(&block));
            let xz = compressed(&block, Level::default());
            assert!(xz.len() <= stored_len(len), "{len}");
        }
        // On a full block of noise LZMA's output is longer, also if the buffer has room for it; `encode` skips the test
        // for noise.
        let mut roomy = Vec::with_capacity(2 * BLOCK_BYTES);
        assert_eq!(encode(&random(BLOCK_BYTES, 8), level("0"), &mut roomy), Ok(false));
        assert_eq!(encoded(&random(BLOCK_BYTES, 8), level("0")), None);
    }

    #[test]
    fn dictionaries_over_64_mib_are_refused() {
        assert_eq!(decompressed(&foreign(b"earlier", 64 << 20)).as_deref(), Ok(&b"earlier"[..]));
        assert_eq!(decompressed(&foreign(b"a bomb", 128 << 20)), Err(XzError::TooMuchMemory));
    }

    #[test]
    fn data_longer_than_a_block_is_refused() {
        let mut data = vec![7; BLOCK_BYTES];
        assert!(decompressed(&foreign(&data, 4096)).unwrap() == data);
        data.push(7);
        assert_eq!(decompressed(&foreign(&data, 4096)), Err(XzError::TooLarge));
        data.resize(100 * BLOCK_BYTES, 7);
        assert_eq!(decompressed(&foreign(&data, 4096)), Err(XzError::TooLarge));
    }

    #[test]
    fn bytes_after_the_stream_are_refused() {
        let xz = stored_form(b"a block");
        for rest in [&b"\0"[..], &[0; 4], &xz] {
            assert_eq!(decompressed(&[&xz, rest].concat()), Err(XzError::TrailingBytes));
        }
    }

    /// Goal: all damage to a stream is detected. Method: both forms, one bit flipped in each byte, each shorter length.
    #[test]
    fn damage_anywhere_is_an_error() {
        for xz in [stored_form(b"123456789"), compressed(&[b'a'; 300], Level::default())] {
            for at in 0..xz.len() {
                let mut bytes = xz.clone();
                bytes[at] ^= 1 << (at % 8);
                assert!(decompressed(&bytes).is_err(), "byte {at} of {xz:02x?}");
                assert_eq!(decompressed(&xz[..at]), Err(XzError::Unfinished), "cut to {at}");
            }
        }
    }
}
