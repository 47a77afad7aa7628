//! The pipeline: a user's bytes to sealed chunks, and back.
//!
//! ```text
//!          split            compress              seal                   ChunkId::of
//!  file ──────────▶ block ────────────▶ .xz ─────────────▶ chunk ─────────────────▶ id
//!                  ≤ 1 MiB             stream    Fernet    raw token    SHA-256
//!
//!                          size, key, ids in order ──▶ manifest
//! ```
//!
//! [`Blocks`] splits a reader into blocks, [`seal_block`] makes a chunk of a block, [`open_chunk`] recovers the block,
//! and [`Manifest`] lists the chunks of a file with the [`Key`] that opens them. Each block is sealed on its own, so
//! threads can seal different blocks at the same time, and a reader can open chunks in any order.
//!
//! This module reads no clock, socket or disk and starts no thread; the time in a chunk is an argument. Randomness
//! enters in one place: `seal.rs` takes keys and initialization vectors from the system.
//!
//! # The format of a chunk
//!
//! A chunk is a Fernet token in binary form, around an .xz stream, around one block. Any language that has both formats
//! can restore a file with a few lines; `tests/vectors/restore.py` does it in Python.
//!
//! ```text
//!  offset   size   content
//!  0        1      0x80, the version of Fernet
//!  1        8      time of sealing, seconds since 1970-01-01 UTC, big-endian; written, never checked
//!  9        16     initialization vector, random
//!  25       n      AES-128-CBC of the .xz stream with PKCS #7 padding; n = 16 × (⌊length of the stream ÷ 16⌋ + 1)
//!  25 + n   32     HMAC-SHA-256 of all bytes before it
//! ```
//!
//! * **The key** has 32 bytes: the first 16 are the HMAC key, the last 16 the AES key. Each file has its own, which
//!   only the manifest holds.
//! * **The id** is the SHA-256 of all bytes of the chunk, as 64 lower-case hexadecimal digits. A reader checks the id
//!   first, then the HMAC, and only then decrypts and decompresses.
//! * **The .xz stream** is one stream with nothing after it. This program writes one block (a term of .xz here) with
//!   one LZMA2 filter and the CRC64 check. The dictionary has 1 MiB, or 256 KiB at levels 0 and 0e. Incompressible
//!   blocks are written in stored form (`stored.rs` draws its bytes).
//! * **The block** has 1,048,576 bytes ([`BLOCK_BYTES`]); the last block of a file has 1 to 1,048,576. An empty file
//!   has no chunks.
//!
//! Sealing one block twice gives two chunks with two ids, since the initialization vector is new each time.
//!
//! Limits of a chunk:
//!
//! | | |
//! |---|---|
//! | largest chunk that this program makes | 1,048,745 bytes: a full block in stored form (+ 108), padded (+ 4), in its token (+ 57) |
//! | largest chunk that a cell stores | 2 MiB ([`crate::id::MAX_CHUNK_BYTES`]) |
//! | largest block that a reader accepts | [`BLOCK_BYTES`] after decompression |
//! | memory that a stream may require of a reader | 72 MiB: enough for the 64 MiB dictionary of liblzma's preset 9 |
//!
//! # Chunks of earlier versions
//!
//! Earlier versions stored the token as URL-safe base64 text, as Fernet specifies it; padding with `=` is optional. The
//! text begins with `g` (0x67), the top six bits of 0x80. So the first byte distinguishes the forms: 0x80 binary, `g`
//! text, any other byte an error. The id is the SHA-256 of the stored bytes, here of the text. Their streams may have
//! a dictionary of up to 64 MiB. The largest such chunk has some 1.4 MB.
//!
//! # Sources
//!
//! * Fernet: <https://github.com/fernet/spec/blob/master/Spec.md>
//! * .xz: *The .xz File Format*, <https://tukaani.org/xz/xz-file-format.txt>; LZMA2 within it: `lzma2_decoder.c` of
//!   liblzma, described in <https://github.com/ulikunitz/xz/blob/master/doc/LZMA2.md>
//! * AES: FIPS 197; CBC: NIST SP 800-38A; PKCS #7 padding: RFC 5652, section 6.3; HMAC: RFC 2104; SHA-256: FIPS 180-4;
//!   URL-safe base64: RFC 4648, section 5

mod allocator;
mod block_checksum;
mod block_hash;
mod compress;
mod incompressible;
mod manifest;
mod manifest_hash;
mod seal;
mod split;
mod stored;

pub use crate::pipeline::allocator::keep_freed_memory;
pub use crate::pipeline::block_checksum::{BlockChecksum, MalformedChecksum, OpenedBlock};
pub use crate::pipeline::block_hash::{BlockHash, MalformedBlockHash};
pub use crate::pipeline::compress::{CompressError, Level, MalformedLevel, XzError};
pub use crate::pipeline::manifest::{
    Content, FileMetadata, MAX_CHUNKS, MAX_TREE_CHUNKS, Manifest, ManifestError, Version2,
};
pub use crate::pipeline::manifest_hash::ManifestHash;
pub use crate::pipeline::seal::{Key, KeyLabel, MalformedKey, WrongKey};
pub use crate::pipeline::split::{Block, Blocks};

use crate::id::{BLOCK_BYTES, ChunkId};

/// A sealed block, ready to be sent to cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedChunk {
    /// The chunk's id, the SHA-256 of `bytes`.
    pub id: ChunkId,
    /// The chunk: a Fernet token in binary form, less than 200 bytes longer than the block.
    pub bytes: Vec<u8>,
}

/// Why a block could not be sealed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The compressor failed. Nothing was sealed; sealing the same block again may succeed.
    #[error(transparent)]
    Compress(#[from] CompressError),
}

/// Why a chunk could not be opened. [`OpenError::WrongHash`] means that this copy is bad and another may be good. The
/// other variants mean that the bytes are exactly the chunk that the id names, so another copy would fail alike.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The bytes are not the requested chunk.
    #[error("the copy is damaged: its bytes hash to {found}, not to the chunk's id")]
    WrongHash {
        /// The SHA-256 of the bytes.
        found: ChunkId,
    },
    /// The chunk is not a token of this key.
    #[error(transparent)]
    Seal(#[from] WrongKey),
    /// The key is right, but the content is not one block in the .xz format.
    #[error(transparent)]
    Xz(#[from] XzError),
}

/// Compresses a block and seals it with `key`. `now_s`, in seconds since 1970, becomes the timestamp of the token,
/// which no reader checks.
///
/// # Panics
///
/// If `block` is longer than [`BLOCK_BYTES`]: no reader would accept the chunk.
pub fn seal_block(block: &[u8], key: &Key, level: Level, now_s: u64) -> Result<SealedChunk, SealError> {
    assert!(block.len() <= BLOCK_BYTES, "a block of {} bytes is too long", block.len());
    let mut bytes = Vec::with_capacity(seal::sealed_len(compress::max_len(block.len())));
    bytes.resize(seal::HEADER_BYTES, 0);
    compress::compress(block, level, &mut bytes)?;
    seal::seal(key, &mut bytes, now_s);
    bytes.shrink_to_fit();
    Ok(SealedChunk { id: ChunkId::of(&bytes), bytes })
}

/// Opens a chunk and returns its block. The hash is checked first, so that only bytes with the chunk's id reach the
/// decoders.
///
/// An incompressible block is decrypted and unpacked in place, without a second buffer; a compressed one is decompressed
/// to a new one.
pub fn open_chunk(mut bytes: Vec<u8>, id: &ChunkId, key: &Key) -> Result<OpenedBlock, OpenError> {
    let found = ChunkId::of(&bytes);
    if found != *id {
        return Err(OpenError::WrongHash { found });
    }
    let xz = seal::open(key, &mut bytes)?;
    Ok(compress::decompress(bytes, xz)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_800_000_000;

    fn fast() -> Level {
        "0".parse().unwrap()
    }

    #[test]
    fn blocks_of_every_size_are_recovered() {
        let key = Key::generate();
        let random = incompressible::testing::random(BLOCK_BYTES, 1);
        let text = incompressible::testing::text(BLOCK_BYTES, 2);
        for len in [0, 1, 15, 16, 4095, 65_535, 65_536, 65_537, BLOCK_BYTES - 1, BLOCK_BYTES] {
            for whole in [&random, &text] {
                let block = &whole[..len];
                let chunk = seal_block(block, &key, fast(), NOW_S).unwrap();
                assert_eq!(open_chunk(chunk.bytes.clone(), &chunk.id, &key), Ok(block.to_vec().into()), "{len}");
                assert!(chunk.bytes.len() < len + 200, "{len} became {}", chunk.bytes.len());
            }
        }
    }

    /// Goal: bytes that do not match the id are never decrypted. Method: a valid chunk is opened with the id of
    /// another.
    #[test]
    fn the_hash_is_checked_first() {
        let key = Key::generate();
        let chunk = seal_block(b"some block", &key, fast(), NOW_S).unwrap();
        let other = ChunkId::of(b"another chunk");
        assert_eq!(open_chunk(chunk.bytes.clone(), &other, &key), Err(OpenError::WrongHash { found: chunk.id }));
        assert_eq!(
            open_chunk(chunk.bytes.clone(), &other, &Key::generate()),
            Err(OpenError::WrongHash { found: chunk.id })
        );
    }

    #[test]
    fn the_largest_chunk_has_the_documented_length() {
        let block = incompressible::testing::random(BLOCK_BYTES, 9);
        let chunk = seal_block(&block, &Key::generate(), fast(), NOW_S).unwrap();
        assert_eq!(chunk.bytes.len(), 1_048_745);
    }

    #[test]
    fn each_layer_has_its_own_error() {
        let key = Key::generate();
        let chunk = seal_block(b"some block", &key, fast(), NOW_S).unwrap();
        assert_eq!(open_chunk(chunk.bytes.clone(), &chunk.id, &Key::generate()), Err(OpenError::Seal(WrongKey)));
        let not_xz = seal::testing::sealed(&key, b"not an .xz stream at all", NOW_S);
        let id = ChunkId::of(&not_xz);
        assert_eq!(open_chunk(not_xz, &id, &key), Err(OpenError::Xz(XzError::Malformed)));
    }

    /// Goal: damage is always an error and never a panic. Method: one bit flipped in each byte, and each shorter
    /// length, opened with the old id and with the id of the damaged bytes.
    #[test]
    fn damage_anywhere_is_an_error() {
        let key = Key::generate();
        let chunk = seal_block(b"abcabcabcabcabcabcabcabc", &key, fast(), NOW_S).unwrap();
        let flipped = (0..chunk.bytes.len()).map(|at| {
            let mut bytes = chunk.bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            bytes
        });
        let cut = (0..chunk.bytes.len()).map(|len| chunk.bytes[..len].to_vec());
        for bytes in flipped.chain(cut) {
            let found = ChunkId::of(&bytes);
            assert_eq!(open_chunk(bytes.clone(), &chunk.id, &key), Err(OpenError::WrongHash { found }));
            assert_eq!(open_chunk(bytes, &found, &key), Err(OpenError::Seal(WrongKey)));
        }
    }

    #[test]
    #[should_panic(expected = "a block of 1048577 bytes")]
    fn sealing_more_than_a_block_panics() {
        let _ = seal_block(&vec![0; BLOCK_BYTES + 1], &Key::generate(), fast(), NOW_S);
    }
}
