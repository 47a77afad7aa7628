//! A keyed hash of a block: by it a resumed put recognizes blocks that it has sealed before.
//!
//! The journal of a put has it, beside the key, and so has the index of a directory. It is keyed so that neither, nor a
//! copy of some of its lines, shows whether the put contains a block that somebody knows.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::pipeline::seal::Key;

/// The label under which the key of the hash is derived.
const LABEL: &[u8] = b"block";

/// The first 16 bytes of the HMAC-SHA256 (RFC 2104) of a block. Its key is the HMAC-SHA256 of the label `block` under
/// the 32 bytes of the put's key. As text it has 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockHash([u8; 16]);

/// The text is not the hash of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid hash of a block: it must be 32 hexadecimal digits")]
pub struct MalformedBlockHash;

impl BlockHash {
    /// Hashes a block.
    pub fn of(block: &[u8], key: &Key) -> Self {
        let whole = mac(&mac(key.secret().as_flattened(), LABEL), block);
        Self(std::array::from_fn(|at| whole.get(at).copied().unwrap_or_default()))
    }
}

pub(super) fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let Ok(mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(key) else { unreachable!("HMAC takes keys of any length") };
    mac.chain_update(message).finalize().into_bytes().into()
}

impl fmt::Display for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl FromStr for BlockHash {
    type Err = MalformedBlockHash;

    fn from_str(text: &str) -> Result<Self, MalformedBlockHash> {
        let is_hexadecimal = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| is_hexadecimal).ok_or(MalformedBlockHash)?;
        Ok(Self(number.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python's `hmac`: the formats of journals must stay the same.
    #[test]
    fn the_hash_is_the_documented_one() {
        let key: Key = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=".parse().unwrap();
        let hash = BlockHash::of(b"some block", &key);
        assert_eq!(hash.to_string(), "1be403ba21100500dfd5d7546dacd97a");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_ne!(BlockHash::of(b"some block", &Key::generate()), hash);
    }

    #[test]
    fn other_texts_are_errors() {
        for text in ["", "00", "+0000000000000000000000000000000", "g0000000000000000000000000000000"] {
            assert_eq!(text.parse::<BlockHash>(), Err(MalformedBlockHash), "{text}");
        }
    }
}
