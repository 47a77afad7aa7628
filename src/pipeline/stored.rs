//! The stored form: an .xz stream whose data is not compressed.
//!
//! On an incompressible block an LZMA encoder spends a third of a second on a fast machine, and its output is a little
//! longer than its input. The format has uncompressed LZMA2 chunks for such data, which every .xz decoder reads. This
//! module writes only those, and reads what it wrote, at the speed of a checksum.
//!
//! The layout follows *The .xz File Format*, version 1.1.0 (<https://tukaani.org/xz/xz-file-format.txt>), whose section
//! numbers stand in the second column. That document does not specify the LZMA2 chunks; they are as `lzma2_decoder.c`
//! of liblzma reads them (<https://github.com/ulikunitz/xz/blob/master/doc/LZMA2.md> describes them). Integers are
//! little-endian unless noted; a *vli* has 7 bits in each byte, lowest first, with the top bit set in all bytes but the
//! last (section 1.2).
//!
//! ```text
//!  Stream Header  2.1.1   FD 37 7A 58 5A 00 │ 00 04 │ CRC32 of those two         04: the check is CRC64
//!  Block Header   3.1     02 │ 00 │ 21 01 00 │ 00 00 00 │ CRC32 of those eight
//!                         │    │    │          └ padding
//!                         │    │    └ filter LZMA2, one byte of properties: a dictionary of 4 KiB, the smallest,
//!                         │    │      since there are no back references (section 5.3.1)
//!                         │    └ one filter; sizes are in the index only
//!                         └ the header's length: (2 + 1) × 4 bytes
//!  LZMA2 chunks           01 │ length − 1, 2 bytes, big-endian │ up to 64 KiB     the first; resets the dictionary
//!                         02 │ length − 1, 2 bytes, big-endian │ up to 64 KiB     each other
//!                         00                                                      the end
//!  Block Padding  3.3     zeros up to a multiple of four
//!  Check          3.4     CRC64 of the data
//!  Index          4       00 │ vli 1: one block │ vli unpadded size │ vli size of the data │ zeros up to a multiple
//!                         of four │ CRC32 of all that                              unpadded: from header to check
//!  Stream Footer  2.1.2   CRC32 of the next six │ index length ÷ 4 − 1, 4 bytes │ 00 04 │ 59 5A
//! ```
//!
//! Empty data gives a stream without a Block and with an empty index, as the `xz` tool writes it.

use std::ops::Range;

use crate::id::BLOCK_BYTES;
use crate::pipeline::block_checksum::BlockChecksum;

/// The longest uncompressed LZMA2 chunk, in bytes: the field for its length − 1 has two bytes.
const LZMA2_CHUNK_BYTES: usize = 1 << 16;

const STREAM_MAGIC: [u8; 6] = [0xFD, b'7', b'z', b'X', b'Z', 0];
const STREAM_FLAGS: [u8; 2] = [0, 0x04];
const FOOTER_MAGIC: [u8; 2] = *b"YZ";
const BLOCK_HEADER: [u8; 8] = [0x02, 0x00, 0x21, 0x01, 0x00, 0x00, 0x00, 0x00];
const LZMA2_FIRST: u8 = 0x01;
const LZMA2_OTHER: u8 = 0x02;
const LZMA2_END: u8 = 0x00;

/// Appends `data` as an .xz stream in stored form.
pub(super) fn stored(data: &[u8], xz: &mut Vec<u8>) {
    if data.is_empty() {
        push_stream_header(xz);
        xz.extend_from_slice(&index_and_footer(None));
        return;
    }
    push_headers(xz);
    let mut control = LZMA2_FIRST;
    for piece in data.chunks(LZMA2_CHUNK_BYTES) {
        // A piece has 1 to 65,536 bytes, so the low sixteen bits hold the whole number.
        let [.., high, low] = (piece.len() - 1).to_be_bytes();
        xz.extend_from_slice(&[control, high, low]);
        xz.extend_from_slice(piece);
        control = LZMA2_OTHER;
    }
    xz.push(LZMA2_END);
    xz.extend_from_slice(&tail(data.len(), BlockChecksum::of(data)));
}

/// What became of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unpacked {
    /// The buffer contains its data, which has this checksum.
    Data(BlockChecksum),
    /// It is not in stored form, and the buffer is unchanged: liblzma decodes it or finds its fault.
    NotStored,
    /// It is in stored form, and its data has another checksum than it states. The content of the buffer is undefined.
    WrongChecksum,
}

/// Reads the stored form in place: replaces the content of a buffer, which contains an .xz stream at `xz`, with the data
/// of that stream. This takes a third of the time of liblzma, and no second buffer.
///
/// Only a stream that [`stored`] could have written is accepted; of its data there is at most a block.
pub(super) fn unpack_stored(buffer: &mut Vec<u8>, xz: Range<usize>) -> Unpacked {
    let start = xz.start;
    let Some((pieces, stated)) = buffer.get(xz).and_then(data_pieces) else { return Unpacked::NotStored };
    let (mut len, mut check) = (0, crc64fast::Digest::new());
    // Each piece is hashed just before it is moved, while the cache of the processor has it.
    for piece in pieces {
        let piece = start + piece.start..start + piece.end;
        check.write(buffer.get(piece.clone()).unwrap_or_default());
        let moved = piece.len();
        buffer.copy_within(piece, len);
        len += moved;
    }
    buffer.truncate(len);
    let checksum = BlockChecksum::from_crc64(check.sum64());
    if checksum == stated { Unpacked::Data(checksum) } else { Unpacked::WrongChecksum }
}

/// The positions of the data in a stream, and the checksum that it states, if [`stored`] could have written it around
/// data with this checksum.
fn data_pieces(xz: &[u8]) -> Option<(Vec<Range<usize>>, BlockChecksum)> {
    let mut headers = Vec::new();
    push_headers(&mut headers);
    let mut rest = xz.strip_prefix(headers.as_slice())?;
    let mut pieces = Vec::with_capacity(BLOCK_BYTES / LZMA2_CHUNK_BYTES);
    let (mut len, mut expected) = (0, LZMA2_FIRST);
    loop {
        let (&control, after) = rest.split_first()?;
        if control == LZMA2_END {
            let (_, stated) = after.split_at_checked(padding_len(len))?;
            let stated = BlockChecksum::from_crc64(u64::from_le_bytes(*stated.first_chunk()?));
            return (after == tail(len, stated)).then_some((pieces, stated));
        }
        let (&high_low, after) = after.split_first_chunk()?;
        let start = xz.len() - after.len();
        let (piece, after) = after.split_at_checked(usize::from(u16::from_be_bytes(high_low)) + 1)?;
        len += piece.len();
        if control != expected || len > BLOCK_BYTES {
            return None;
        }
        pieces.push(start..start + piece.len());
        (rest, expected) = (after, LZMA2_OTHER);
    }
}

/// The length of the stored form of `len` bytes.
pub(super) fn stored_len(len: usize) -> usize {
    let header_and_footer = 2 * 12;
    if len == 0 {
        return header_and_footer + 8;
    }
    let unpadded = unpadded_len(len);
    let index = (2 + vli_len(unpadded) + vli_len(len)).next_multiple_of(4) + 4;
    header_and_footer + unpadded.next_multiple_of(4) + index
}

/// The length from the block header to the check, without the padding between data and check.
fn unpadded_len(len: usize) -> usize {
    12 + len.div_ceil(LZMA2_CHUNK_BYTES) * 3 + len + 1 + 8
}

/// The zeros between the data of a block and its check.
fn padding_len(data_len: usize) -> usize {
    let unpadded = unpadded_len(data_len);
    unpadded.next_multiple_of(4) - unpadded
}

fn push_stream_header(xz: &mut Vec<u8>) {
    xz.extend_from_slice(&STREAM_MAGIC);
    xz.extend_from_slice(&STREAM_FLAGS);
    push_crc32(xz, &STREAM_FLAGS);
}

/// Appends what precedes the LZMA2 chunks.
fn push_headers(xz: &mut Vec<u8>) {
    push_stream_header(xz);
    xz.extend_from_slice(&BLOCK_HEADER);
    push_crc32(xz, &BLOCK_HEADER);
}

/// What follows the LZMA2 chunks: padding, check, index and footer.
fn tail(data_len: usize, check: BlockChecksum) -> Vec<u8> {
    let unpadded = unpadded_len(data_len);
    let mut tail = vec![0; padding_len(data_len)];
    tail.extend_from_slice(&check.crc64().to_le_bytes());
    tail.extend_from_slice(&index_and_footer(Some((unpadded, data_len))));
    tail
}

/// The index of a stream without a block, or with one of this unpadded size and size of data; and the footer.
fn index_and_footer(block: Option<(usize, usize)>) -> Vec<u8> {
    let mut bytes = vec![0];
    push_vli(&mut bytes, usize::from(block.is_some()));
    if let Some((unpadded, data_len)) = block {
        push_vli(&mut bytes, unpadded);
        push_vli(&mut bytes, data_len);
    }
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    // An index of one record has some thirty bytes at most, which fits.
    #[allow(clippy::cast_possible_truncation)]
    let backward = (bytes.len() / 4 - 1) as u32;
    let mut body = [0; 6];
    for (to, from) in body.iter_mut().zip(backward.to_le_bytes().into_iter().chain(STREAM_FLAGS)) {
        *to = from;
    }
    push_crc32(&mut bytes, &body);
    bytes.extend_from_slice(&body);
    bytes.extend_from_slice(&FOOTER_MAGIC);
    bytes
}

fn push_crc32(xz: &mut Vec<u8>, of: &[u8]) {
    xz.extend_from_slice(&crc32fast::hash(of).to_le_bytes());
}

fn push_vli(bytes: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        // Masked to seven bits.
        #[allow(clippy::cast_possible_truncation)]
        bytes.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    #[allow(clippy::cast_possible_truncation)]
    bytes.push(value as u8);
}

fn vli_len(value: usize) -> usize {
    let bits = usize::BITS - value.leading_zeros();
    (bits as usize).div_ceil(7).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::compress::decode;
    use crate::pipeline::incompressible::testing::random;

    fn stored_form(data: &[u8]) -> Vec<u8> {
        let mut xz = Vec::new();
        stored(data, &mut xz);
        xz
    }

    /// The lengths around each limit of the layout, and random lengths.
    fn lengths() -> impl Iterator<Item = usize> {
        let around = [0, 1, 2, 3, 4, 107, 108, 109, 127, 128, 129, 4095, 65_535, 65_536, 65_537, 131_072];
        let mut rng = fastrand::Rng::with_seed(4);
        let others: Vec<usize> = (0..30).map(|_| rng.usize(..BLOCK_BYTES)).collect();
        around.into_iter().chain(others).chain([BLOCK_BYTES - 1, BLOCK_BYTES])
    }

    /// Goal: liblzma, an independent decoder, reads the stored form of every length, and so does this module. Method: at
    /// any position of a buffer.
    #[test]
    fn liblzma_and_this_module_read_the_stored_form() {
        let data = random(BLOCK_BYTES, 3);
        for len in lengths() {
            let xz = stored_form(&data[..len]);
            assert_eq!(xz.len(), stored_len(len), "{len}");
            assert!(decode(&xz).unwrap() == data[..len], "{len}");
            let before = len % 3;
            let mut buffer = [&[9; 3][..before], &xz, b"after"].concat();
            let unpacked = unpack_stored(&mut buffer, before..before + xz.len());
            if len == 0 {
                assert_eq!(unpacked, Unpacked::NotStored);
                continue;
            }
            assert_eq!(unpacked, Unpacked::Data(BlockChecksum::of(&data[..len])), "{len}");
            assert!(buffer == data[..len], "{len}");
        }
    }

    /// Goal: whatever is not exactly the stored form is left to liblzma, unchanged; data that does not have the stated
    /// checksum is not accepted, and liblzma does not accept it either. Method: one bit flipped in each byte, each
    /// shorter length, one byte more, and forms that only liblzma accepts.
    #[test]
    fn other_streams_are_not_unpacked() {
        let refused = |bytes: &[u8]| {
            let mut buffer = bytes.to_vec();
            unpack_stored(&mut buffer, 0..bytes.len()) == Unpacked::NotStored && buffer == bytes
        };
        let xz = stored_form(b"123456789");
        let data_and_check = (27..36).chain(40..48);
        for at in 0..xz.len() {
            let mut bytes = xz.clone();
            bytes[at] ^= 1 << (at % 8);
            if data_and_check.clone().any(|checked| checked == at) {
                assert!(decode(&bytes).is_err());
                assert_eq!(unpack_stored(&mut bytes, 0..xz.len()), Unpacked::WrongChecksum, "byte {at}");
            } else {
                assert!(refused(&bytes), "byte {at}");
            }
            assert!(refused(&xz[..at]), "cut to {at}");
        }
        assert!(refused(&[&xz[..], b"\0"].concat()));
        assert!(!refused(&xz));
        let too_long = stored_form(&vec![7; BLOCK_BYTES + 1]);
        assert!(refused(&too_long));
        let mut second_resets_the_dictionary = stored_form(&vec![7; LZMA2_CHUNK_BYTES + 1]);
        second_resets_the_dictionary[24 + 3 + LZMA2_CHUNK_BYTES] = LZMA2_FIRST;
        assert!(decode(&second_resets_the_dictionary).is_ok());
        assert!(refused(&second_resets_the_dictionary));
        let mut buffer = xz.clone();
        assert_eq!(unpack_stored(&mut buffer, 0..xz.len() + 1), Unpacked::NotStored);
    }

    #[test]
    fn a_stored_block_is_108_bytes_longer() {
        assert_eq!(stored_len(BLOCK_BYTES), BLOCK_BYTES + 108);
    }

    /// Goal: the format of stored data does not change by accident. Method: bytes derived by hand from the layout, with
    /// checksums from Python's `zlib.crc32` and the check value of CRC-64/XZ.
    #[test]
    fn the_bytes_match_the_layout() {
        let expected = [
            &b"\xFD7zXZ\0\x00\x04\xE6\xD6\xB4\x46"[..],
            b"\x02\x00\x21\x01\x00\x00\x00\x00\x37\x27\x97\xD6",
            b"\x01\x00\x08123456789\x00\0\0\0",
            b"\xFA\x39\x19\xDF\xBB\xC9\x5D\x99",
            b"\x00\x01\x21\x09\x6C\x18\xC5\xD5",
            b"\x1F\xB6\xF3\x7D\x01\0\0\0\x00\x04YZ",
        ];
        assert_eq!(stored_form(b"123456789"), expected.concat());
    }
}
