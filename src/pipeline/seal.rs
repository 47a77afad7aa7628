//! The seal around a compressed block: a Fernet token in binary form. [`crate::pipeline`] draws its bytes.
//!
//! Fernet specifies the token as URL-safe base64 text, which is a third longer. Cells store the decoded bytes; chunks
//! of earlier versions are the text. [`open`] reads both.
//!
//! The timestamp is written and never checked. A board without a real-time clock starts in 1970, when every chunk is
//! from the future, and a backup must open at any age.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use fernet::Fernet;

/// The first byte of a token in binary form: Fernet's version.
const VERSION: u8 = 0x80;

/// The first character of a token as base64 text: the top six bits of [`VERSION`].
const FIRST_OF_TEXT: u8 = b'g';

/// Fernet rejects a token whose timestamp is more than this many seconds after the current time.
const SKEW_S: u64 = 60;
/// The current time that is passed to Fernet, in seconds: the largest to which [`SKEW_S`] can be added, so that it
/// rejects no timestamp.
const END_OF_TIME_S: u64 = u64::MAX - SKEW_S;

/// The secret key of one file. Its owner can read the file and forge chunks of it. Only the manifest and the journal of
/// a put hold it. The `Debug` form hides it.
#[derive(Clone)]
pub struct Key {
    secret: [u8; 32],
    fernet: Fernet,
}

/// The text is not a key. The error does not contain the text, since most of a mistyped key is the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid key: it must be 32 bytes in URL-safe base64 (44 characters)")]
pub struct MalformedKey;

/// The bytes are not a valid token of this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("wrong key: the chunk was sealed with another key, or is forged")]
pub struct WrongKey;

impl Key {
    /// A new random key.
    ///
    /// # Panics
    ///
    /// If the system's source of randomness fails.
    pub fn generate() -> Self {
        let Ok(key) = Fernet::generate_key().parse() else { unreachable!("Fernet accepts the keys that it generates") };
        key
    }

    /// The key as text, as the manifest holds it. The text is the secret: never put it in a message or a log.
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

/// Seals `data` into a token in binary form with the timestamp `now_s`, in seconds since 1970.
pub(super) fn seal(key: &Key, data: &[u8], now_s: u64) -> Vec<u8> {
    let text = key.fernet.encrypt_at_time(data, now_s);
    let Ok(token) = URL_SAFE.decode(text) else { unreachable!("Fernet returns URL-safe base64") };
    token
}

/// The content of a token, in binary form or as the base64 text of earlier versions.
pub(super) fn open(key: &Key, token: &[u8]) -> Result<Vec<u8>, WrongKey> {
    let encoded;
    let text = match token.first() {
        Some(&VERSION) => {
            encoded = URL_SAFE_NO_PAD.encode(token);
            encoded.as_str()
        }
        Some(&FIRST_OF_TEXT) => std::str::from_utf8(token).map_err(|_| WrongKey)?,
        _ => return Err(WrongKey),
    };
    key.fernet.decrypt_at_time(text, None, END_OF_TIME_S).map_err(|_| WrongKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key and token from `generate.json` and `verify.json` of the Fernet specification.
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
    fn a_token_is_binary_has_the_timestamp_and_opens() {
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
    fn sealing_the_same_data_again_gives_another_token() {
        let key = Key::generate();
        assert_ne!(seal(&key, b"data", 1), seal(&key, b"data", 1));
    }

    /// Goal: a board whose clock is in 1970 opens chunks that were sealed in any year.
    #[test]
    fn a_token_with_any_timestamp_opens() {
        let key = Key::generate();
        for now_s in [0, 1, 1_800_000_000, u64::MAX - 61, u64::MAX - 60, u64::MAX] {
            assert_eq!(open(&key, &seal(&key, b"data", now_s)).as_deref(), Ok(&b"data"[..]), "{now_s}");
        }
    }

    #[test]
    fn damage_and_other_bytes_are_refused() {
        let key: Key = SPEC_KEY.parse().unwrap();
        let raw = URL_SAFE.decode(SPEC_TOKEN).unwrap();
        for token in [SPEC_TOKEN.trim_end_matches('=').as_bytes(), &raw] {
            for at in 0..token.len() {
                let mut bytes = token.to_vec();
                bytes[at] ^= 1 << (at % 8);
                assert_eq!(open(&key, &bytes), Err(WrongKey), "byte {at}");
                assert_eq!(open(&key, &token[..at]), Err(WrongKey), "cut to {at}");
            }
        }
        for foreign in [&b""[..], b"g", b"\x80", b"gAAA", b"g\xFF\xFF", b"\xFD7zXZ\0", &[0x80; 57], &[0x80; 5000]] {
            assert_eq!(open(&key, foreign), Err(WrongKey), "{foreign:?}");
        }
        assert_eq!(open(&Key::generate(), &raw), Err(WrongKey));
    }

    #[test]
    fn a_key_is_parsed_from_its_text() {
        let key = Key::generate();
        assert_eq!(key.to_text().parse(), Ok(key.clone()));
        assert_ne!(Key::generate(), key);
        let spec: Key = SPEC_KEY.parse().unwrap();
        assert_eq!(spec.to_text(), SPEC_KEY);
        assert_eq!(SPEC_KEY.trim_end_matches('=').parse(), Ok(spec));
    }

    #[test]
    fn other_texts_are_not_keys() {
        let standard_alphabet = SPEC_KEY.replace('_', "/");
        let long = format!("AAAA{SPEC_KEY}");
        for bad in ["", "password", "é", &SPEC_KEY[1..], &standard_alphabet, &long] {
            assert_eq!(bad.parse::<Key>(), Err(MalformedKey), "{bad}");
        }
    }

    #[test]
    fn the_debug_form_hides_the_secret() {
        let key: Key = SPEC_KEY.parse().unwrap();
        assert_eq!(format!("{key:?}"), "Key(secret)");
    }
}
