//! A keyed hash of a manifest: by it a get recognizes what an interrupted get of the same manifest left.
//!
//! It is keyed so that what is left of a get does not show from which chunks it came.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::id::ChunkId;
use crate::pipeline::block_hash::mac;
use crate::pipeline::seal::Key;

/// The label under which the key of the hash is derived.
const LABEL: &[u8] = b"restore";

/// The first 16 bytes of the HMAC-SHA256 (RFC 2104) of all chunk ids of a manifest, 32 bytes each, in the order of their
/// blocks. Its key is the HMAC-SHA256 of the label `restore` under the 32 bytes of the manifest's key. As text it has 32
/// hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManifestHash([u8; 16]);

impl ManifestHash {
    /// Hashes the ids of a manifest.
    pub fn of(chunks: &[ChunkId], key: &Key) -> Self {
        let derived = mac(key.secret().as_flattened(), LABEL);
        let Ok(mut hash) = <Hmac<Sha256> as KeyInit>::new_from_slice(&derived) else {
            unreachable!("HMAC takes keys of any length")
        };
        for chunk in chunks {
            hash.update(chunk.as_bytes());
        }
        let whole: [u8; 32] = hash.finalize().into_bytes().into();
        Self(std::array::from_fn(|at| whole.get(at).copied().unwrap_or_default()))
    }
}

impl fmt::Display for ManifestHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_depends_on_the_key_and_on_each_id_in_its_place() {
        let key: Key = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=".parse().unwrap();
        let [a, b] = [ChunkId::of(b"a"), ChunkId::of(b"b")];
        let hash = ManifestHash::of(&[a, b], &key);
        assert_eq!(hash, ManifestHash::of(&[a, b], &key));
        for other in [&[b, a][..], &[a], &[a, b, b], &[]] {
            assert_ne!(hash, ManifestHash::of(other, &key));
        }
        assert_ne!(hash, ManifestHash::of(&[a, b], &Key::generate()));
        // Computed with Python's `hmac`: a get of a later version must recognize what this one leaves.
        assert_eq!(hash.to_string(), "b9d539de84ebd98822854994bdf92e71");
    }
}
