//! From a user's file to sealed chunks, and back.
//!
//! ```text
//!          split            compress              seal                  ChunkId::of
//!  file ──────────▶ block ────────────▶ .xz ─────────────▶ raw token ────────────────▶ id
//!                  ≤ 1 MiB             stream    Fernet    = the chunk     SHA-256
//!
//!                          size, key, ids in order ──▶ manifest
//! ```
//!
//! [`Blocks`] cuts a reader into blocks, [`seal_block`] makes a chunk of one, [`open_chunk`] makes the block again, and
//! [`Manifest`] is the private recipe that says which chunks, in which order, under which [`Key`]. Every block is
//! sealed on its own, so any number of threads may seal different blocks at once, and a reader can open them in any
//! order.
//!
//! Nothing here is ours alone: a chunk is an .xz stream inside a Fernet token with its base64 taken off, so a few lines
//! of any language that knows both can restore a file (`tests/vectors/restore.py` is those lines in Python).
//!
//! What is deliberately absent: the clock (the time that goes into a token is an argument), sockets, disks and threads.
//! Randomness is drawn in one place only: the `fernet` crate asks the system for keys and initialisation vectors.

mod allocator;
mod compress;
mod incompressible;
mod manifest;
mod seal;
mod split;
mod stored;

pub use crate::pipeline::allocator::keep_freed_memory;
pub use crate::pipeline::compress::{CompressError, Level, MalformedLevel, XzError};
pub use crate::pipeline::manifest::{COPIES_WHEN_ABSENT, Content, MAX_CHUNKS, Manifest, ManifestError};
pub use crate::pipeline::seal::{DoesNotFit, Key, MalformedKey};
pub use crate::pipeline::split::{Block, Blocks};

use crate::id::{BLOCK_BYTES, ChunkId};

/// A block that is ready to leave this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedChunk {
    /// The chunk's name, the SHA-256 of `bytes`.
    pub id: ChunkId,
    /// The chunk: a raw Fernet token, at most some hundred bytes longer than the block.
    pub bytes: Vec<u8>,
}

/// Why a block could not be sealed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The compressor could not run; nothing was sealed, and the same block may be tried again.
    #[error(transparent)]
    Compress(#[from] CompressError),
}

/// Why a chunk did not give its block back. The first variant blames whoever sent the bytes; the others mean that they
/// are the very bytes the id names, so that another copy would be no better.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The bytes are not the chunk that was asked for: this copy is bad, another may be good.
    #[error("the bytes hash to {found}, which is not the chunk's id: this copy is damaged")]
    WrongHash {
        /// The name the bytes have.
        found: ChunkId,
    },
    /// Fernet refused: the chunk was sealed with another key, or by none.
    #[error(transparent)]
    Seal(#[from] DoesNotFit),
    /// The key fits and what was sealed is not one block in the .xz format.
    #[error(transparent)]
    Xz(#[from] XzError),
}

/// Compresses a block and seals it under `key`. `now_s`, in seconds since 1970, goes into the token as its time stamp;
/// nothing of ours ever judges a chunk by it.
///
/// Sealing the same block again gives another chunk with another id, since the initialisation vector is new each time.
///
/// # Panics
///
/// If `block` is longer than [`BLOCK_BYTES`]: no reader would accept the chunk.
pub fn seal_block(block: &[u8], key: &Key, level: Level, now_s: u64) -> Result<SealedChunk, SealError> {
    assert!(block.len() <= BLOCK_BYTES, "a block of {} bytes", block.len());
    let bytes = seal::seal(key, &compress::compress(block, level)?, now_s);
    Ok(SealedChunk { id: ChunkId::of(&bytes), bytes })
}

/// The block inside a chunk. The hash is looked at before anything else, so that no byte that is not the user's own
/// reaches the decoders.
pub fn open_chunk(bytes: &[u8], id: &ChunkId, key: &Key) -> Result<Vec<u8>, OpenError> {
    let found = ChunkId::of(bytes);
    if found != *id {
        return Err(OpenError::WrongHash { found });
    }
    Ok(compress::decompress(&seal::open(key, bytes)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_800_000_000;

    fn fast() -> Level {
        "0".parse().unwrap()
    }

    #[test]
    fn blocks_of_every_size_come_back() {
        let key = Key::generate();
        let random = incompressible::testing::random(BLOCK_BYTES, 1);
        let text = incompressible::testing::text(BLOCK_BYTES, 2);
        for len in [0, 1, 15, 16, 4095, 65_535, 65_536, 65_537, BLOCK_BYTES - 1, BLOCK_BYTES] {
            for whole in [&random, &text] {
                let block = &whole[..len];
                let chunk = seal_block(block, &key, fast(), NOW_S).unwrap();
                assert_eq!(open_chunk(&chunk.bytes, &chunk.id, &key).as_deref(), Ok(block), "{len}");
                assert!(chunk.bytes.len() <= len + len / 1000 + 200, "{len} became {}", chunk.bytes.len());
            }
        }
    }

    /// Goal: bytes that do not match the id are never decrypted. Method: a chunk that would open is offered under the
    /// name of another.
    #[test]
    fn the_hash_is_checked_before_anything_else() {
        let key = Key::generate();
        let chunk = seal_block(b"some block", &key, fast(), NOW_S).unwrap();
        let other = ChunkId::of(b"another chunk");
        assert_eq!(open_chunk(&chunk.bytes, &other, &key), Err(OpenError::WrongHash { found: chunk.id }));
        assert_eq!(open_chunk(&chunk.bytes, &other, &Key::generate()), Err(OpenError::WrongHash { found: chunk.id }));
    }

    #[test]
    fn each_layer_answers_with_its_own_error() {
        let key = Key::generate();
        let chunk = seal_block(b"some block", &key, fast(), NOW_S).unwrap();
        assert_eq!(open_chunk(&chunk.bytes, &chunk.id, &Key::generate()), Err(OpenError::Seal(DoesNotFit)));
        let not_xz = seal::seal(&key, b"not an .xz stream at all", NOW_S);
        assert_eq!(open_chunk(&not_xz, &ChunkId::of(&not_xz), &key), Err(OpenError::Xz(XzError::Malformed)));
    }

    /// Goal: damage is an error and never a panic, wherever it is. Method: every byte flipped and every length cut,
    /// under the old id and under the id that the damaged bytes have.
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
            assert_eq!(open_chunk(&bytes, &chunk.id, &key), Err(OpenError::WrongHash { found }));
            assert_eq!(open_chunk(&bytes, &found, &key), Err(OpenError::Seal(DoesNotFit)));
        }
    }

    #[test]
    #[should_panic(expected = "a block of 1048577 bytes")]
    fn more_than_a_block_is_never_sealed() {
        let _ = seal_block(&vec![0; BLOCK_BYTES + 1], &Key::generate(), fast(), NOW_S);
    }
}
