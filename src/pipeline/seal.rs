//! The seal around a compressed block: Fernet, without its base64.
//!
//! A token, by the Fernet specification (github.com/fernet/spec), integers big-endian:
//!
//! ```text
//!  80 │ time stamp, 8 bytes │ initialisation vector, 16 bytes │ AES-128-CBC, PKCS #7 │ HMAC-SHA256 of all before, 32
//! ```
//!
//! Fernet hands it out as URL-safe base64, a third longer; cells keep the bytes themselves. Older writers stored the
//! text: it begins with a `g`, which no raw token does, so both are read.
//!
//! The time stamp is written and never judged. A board without a clock starts in 1970, where every chunk comes from the
//! future, and a backup has no age at which it should stop opening.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use fernet::Fernet;

/// The first byte of a raw token: Fernet's version.
const VERSION: u8 = 0x80;

/// The first character of a token as base64 text: the top six bits of [`VERSION`].
const FIRST_OF_TEXT: u8 = b'g';

/// Fernet refuses tokens from more than this many seconds after the time it is told, ...
const SKEW_S: u64 = 60;
/// ... so it is told the last time at which that sum can still be written, and no token is from after it.
const END_OF_TIME_S: u64 = u64::MAX - SKEW_S;

/// The secret of one upload. Whoever has it can read the file and forge chunks of it; it lives in the manifest and
/// nowhere else. Its debug form does not show it.
#[derive(Clone)]
pub struct Key {
    secret: [u8; 32],
    fernet: Fernet,
}

/// What is wrong with a text that should be a key. Does not repeat the text: most of a mistyped key is the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key is not 32 bytes in URL-safe base64 (44 characters)")]
pub struct MalformedKey;

/// The bytes are not a token of this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key does not fit: the chunk was sealed with another one, or is forged")]
pub struct DoesNotFit;

impl Key {
    /// A new key, from the system's randomness.
    ///
    /// # Panics
    ///
    /// If the system has no randomness to give.
    pub fn generate() -> Self {
        let Ok(key) = Fernet::generate_key().parse() else { unreachable!("Fernet reads the keys it makes") };
        key
    }

    /// The key as the manifest holds it. This *is* the secret: it belongs in no message and no log.
    pub fn to_text(&self) -> String {
        URL_SAFE.encode(self.secret)
    }
}

impl FromStr for Key {
    type Err = MalformedKey;

    fn from_str(text: &str) -> Result<Self, MalformedKey> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| MalformedKey)?;
        let secret = bytes.try_into().map_err(|_| MalformedKey)?;
        let fernet = Fernet::new(text).ok_or(MalformedKey)?;
        Ok(Self { secret, fernet })
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.secret == other.secret
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(secret)")
    }
}

/// `data` as a raw token, stamped with `now_s` (seconds since 1970).
pub(super) fn seal(key: &Key, data: &[u8], now_s: u64) -> Vec<u8> {
    let text = key.fernet.encrypt_at_time(data, now_s);
    let Ok(token) = URL_SAFE.decode(text) else { unreachable!("Fernet makes URL-safe base64") };
    token
}

/// What is in a token: raw bytes, or the base64 text of older writers.
pub(super) fn open(key: &Key, token: &[u8]) -> Result<Vec<u8>, DoesNotFit> {
    let encoded;
    let text = match token.first() {
        Some(&VERSION) => {
            encoded = URL_SAFE_NO_PAD.encode(token);
            encoded.as_str()
        }
        Some(&FIRST_OF_TEXT) => std::str::from_utf8(token).map_err(|_| DoesNotFit)?,
        _ => return Err(DoesNotFit),
    };
    key.fernet.decrypt_at_time(text, None, END_OF_TIME_S).map_err(|_| DoesNotFit)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key and token of the Fernet specification's own `generate.json` and `verify.json`.
    const SPEC_KEY: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
    const SPEC_TOKEN: &str =
        "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";

    #[test]
    fn the_token_of_the_specification_opens_in_both_forms() {
        let key: Key = SPEC_KEY.parse().unwrap();
        assert_eq!(open(&key, SPEC_TOKEN.as_bytes()).as_deref(), Ok(&b"hello"[..]));
        assert_eq!(open(&key, &URL_SAFE.decode(SPEC_TOKEN).unwrap()).as_deref(), Ok(&b"hello"[..]));
    }

    #[test]
    fn a_sealed_token_is_raw_carries_its_time_and_opens() {
        let key = Key::generate();
        for len in [0, 1, 15, 16, 17, 1000] {
            let data = vec![b'x'; len];
            let token = seal(&key, &data, 0x0102_0304_0506_0708);
            assert!(token.starts_with(&[0x80, 1, 2, 3, 4, 5, 6, 7, 8]));
            assert_eq!(token.len(), 1 + 8 + 16 + (len / 16 + 1) * 16 + 32);
            assert_eq!(open(&key, &token), Ok(data));
        }
    }

    #[test]
    fn the_same_data_is_sealed_differently_each_time() {
        let key = Key::generate();
        assert_ne!(seal(&key, b"data", 1), seal(&key, b"data", 1));
    }

    /// Goal: a board whose clock stands in 1970 restores what was sealed in any year.
    #[test]
    fn no_time_stamp_is_too_old_or_too_far_ahead() {
        let key = Key::generate();
        for now_s in [0, 1, 1_800_000_000, u64::MAX - 61, u64::MAX - 60, u64::MAX] {
            assert_eq!(open(&key, &seal(&key, b"data", now_s)).as_deref(), Ok(&b"data"[..]), "{now_s}");
        }
    }

    #[test]
    fn damage_and_foreign_bytes_are_refused() {
        let key: Key = SPEC_KEY.parse().unwrap();
        let raw = URL_SAFE.decode(SPEC_TOKEN).unwrap();
        for token in [SPEC_TOKEN.trim_end_matches('=').as_bytes(), &raw] {
            for at in 0..token.len() {
                let mut bytes = token.to_vec();
                bytes[at] ^= 1 << (at % 8);
                assert_eq!(open(&key, &bytes), Err(DoesNotFit), "byte {at}");
                assert_eq!(open(&key, &token[..at]), Err(DoesNotFit), "cut to {at}");
            }
        }
        for foreign in [&b""[..], b"g", b"\x80", b"gAAA", b"g\xFF\xFF", b"\xFD7zXZ\0", &[0x80; 57], &[0x80; 5000]] {
            assert_eq!(open(&key, foreign), Err(DoesNotFit), "{foreign:?}");
        }
        assert_eq!(open(&Key::generate(), &raw), Err(DoesNotFit));
    }

    #[test]
    fn a_key_reads_back_from_its_text() {
        let key = Key::generate();
        assert_eq!(key.to_text().parse(), Ok(key.clone()));
        assert_ne!(Key::generate(), key);
        let spec: Key = SPEC_KEY.parse().unwrap();
        assert_eq!(spec.to_text(), SPEC_KEY);
        assert_eq!(SPEC_KEY.trim_end_matches('=').parse(), Ok(spec));
    }

    #[test]
    fn a_text_that_is_no_key_is_refused_and_not_repeated() {
        let standard_alphabet = SPEC_KEY.replace('_', "/");
        let long = format!("AAAA{SPEC_KEY}");
        for bad in ["", "password", "é", &SPEC_KEY[1..], &standard_alphabet, &long] {
            assert_eq!(bad.parse::<Key>(), Err(MalformedKey), "{bad}");
        }
    }

    #[test]
    fn the_debug_form_keeps_the_secret() {
        let key: Key = SPEC_KEY.parse().unwrap();
        assert_eq!(format!("{key:?}"), "Key(secret)");
    }
}
