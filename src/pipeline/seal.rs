//! The seal around a compressed block: a Fernet token in binary form. [`crate::pipeline`] draws its bytes.
//!
//! Fernet specifies the token as URL-safe base64 text, which is a third longer. Cells store the decoded bytes; chunks
//! of earlier versions are the text. [`open`] reads both.
//!
//! The `fernet` crate reads and writes text only. So this module makes and reads the binary form itself, in place, with
//! the ciphers that `fernet` uses; `fernet` makes the keys, reads the text form, and judges this module in tests. To
//! seal and open a megabyte without base64 takes half the time.
//!
//! The timestamp is written and never checked. A board without a real-time clock starts in 1970, when every chunk is
//! from the future, and a backup must open at any age.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use aes::Aes128;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use fernet::Fernet;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The first byte of a token in binary form: Fernet's version.
const VERSION: u8 = 0x80;

/// The first character of a token as base64 text: the top six bits of [`VERSION`].
const FIRST_OF_TEXT: u8 = b'g';

/// The length of a key's halves, of the initialization vector, and of a block of AES-128, in bytes.
const AES_BYTES: usize = 16;

/// The length of what precedes the ciphertext, in bytes: version, timestamp, initialization vector.
pub(super) const HEADER_BYTES: usize = 1 + 8 + AES_BYTES;

/// The length of the HMAC that ends a token, in bytes.
const MAC_BYTES: usize = 32;

/// Fernet rejects a token whose timestamp is more than this many seconds after the current time.
const SKEW_S: u64 = 60;
/// The current time that is passed to Fernet, in seconds: the largest to which [`SKEW_S`] can be added, so that it
/// rejects no timestamp.
const END_OF_TIME_S: u64 = u64::MAX - SKEW_S;

/// The secret key of one file. Its owner can read the file and forge chunks of it. Only the manifest and the journal of
/// a put hold it. The `Debug` form hides it.
#[derive(Clone)]
pub struct Key {
    /// The key of the HMAC.
    mac: [u8; AES_BYTES],
    /// The key of AES.
    cipher: [u8; AES_BYTES],
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
        let Ok(key) = Fernet::generate_key().parse() else { unreachable!("Fernet generates 32 bytes in base64") };
        key
    }

    /// The key as text, as the manifest holds it. The text is the secret: never put it in a message or a log.
    pub fn to_text(&self) -> String {
        URL_SAFE.encode([self.mac, self.cipher].as_flattened())
    }

    /// The HMAC of the bytes before it, not yet finished.
    fn mac_of(&self, bytes: &[u8]) -> Hmac<Sha256> {
        let Ok(mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.mac) else {
            unreachable!("HMAC takes keys of any length")
        };
        mac.chain_update(bytes)
    }
}

impl Key {
    /// The 32 bytes of the key, to derive other keys from.
    pub(super) fn secret(&self) -> [[u8; AES_BYTES]; 2] {
        [self.mac, self.cipher]
    }

    /// The key at this position of a list of chunks: the HMAC-SHA256 (RFC 2104) of the label, followed by the position as
    /// eight bytes in big-endian order, under the 32 bytes of this key. Who knows it can open that chunk and no other.
    #[must_use]
    pub fn derive(&self, label: KeyLabel, position: u64) -> Self {
        let Ok(mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(self.secret().as_flattened()) else {
            unreachable!("HMAC takes keys of any length")
        };
        let bytes: [u8; 32] =
            mac.chain_update(label.text()).chain_update(position.to_be_bytes()).finalize().into_bytes().into();
        let (mac, cipher) = bytes.split_at(AES_BYTES);
        let half = |half: &[u8]| std::array::from_fn(|at| half.get(at).copied().unwrap_or_default());
        Self { mac: half(mac), cipher: half(cipher) }
    }
}

/// The list of chunks in which a derived key is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyLabel {
    /// The chunks of the stored bytes.
    Chunk,
    /// The chunks of the index of a directory.
    Tree,
}

impl KeyLabel {
    fn text(self) -> &'static [u8] {
        match self {
            Self::Chunk => b"chunk",
            Self::Tree => b"tree",
        }
    }
}

impl FromStr for Key {
    type Err = MalformedKey;

    fn from_str(text: &str) -> Result<Self, MalformedKey> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| MalformedKey)?;
        let (mac, cipher) = bytes.split_at_checked(AES_BYTES).ok_or(MalformedKey)?;
        let half = |half: &[u8]| half.try_into().map_err(|_| MalformedKey);
        Ok(Self { mac: half(mac)?, cipher: half(cipher)? })
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        (self.mac, self.cipher) == (other.mac, other.cipher)
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(secret)")
    }
}

/// The length of a token around `len` bytes. The padding has 1 to 16 bytes.
pub(super) fn sealed_len(len: usize) -> usize {
    HEADER_BYTES + (len / AES_BYTES + 1) * AES_BYTES + MAC_BYTES
}

/// Seals data in place with the timestamp `now_s`, in seconds since 1970. `token` contains [`HEADER_BYTES`] bytes of any
/// value, then the data; it becomes a token in binary form. Reserve [`sealed_len`] bytes, so that it need not grow.
///
/// # Panics
///
/// If the system's source of randomness fails, or the buffer is shorter than a header.
pub(super) fn seal(key: &Key, token: &mut Vec<u8>, now_s: u64) {
    let mut iv = [0; AES_BYTES];
    if let Err(error) = getrandom::fill(&mut iv) {
        panic!("the system's source of randomness failed: {error}");
    }
    seal_with_iv(key, token, now_s, iv);
}

fn seal_with_iv(key: &Key, token: &mut Vec<u8>, now_s: u64, iv: [u8; AES_BYTES]) {
    assert!(token.len() >= HEADER_BYTES, "a buffer of {} bytes has no room for the header", token.len());
    let data_len = token.len() - HEADER_BYTES;
    token.resize(sealed_len(data_len) - MAC_BYTES, 0);
    let (header, ciphertext) = token.split_at_mut(HEADER_BYTES);
    let fields = [VERSION].into_iter().chain(now_s.to_be_bytes()).chain(iv);
    header.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    let cipher = cbc::Encryptor::<Aes128>::new(&key.cipher.into(), &iv.into());
    let sealed = cipher.encrypt_padded_mut::<Pkcs7>(ciphertext, data_len);
    assert!(sealed.is_ok(), "the buffer has no room for the padding");
    let mac = key.mac_of(token).finalize();
    token.extend_from_slice(&mac.into_bytes());
}

/// Opens a token, in binary form or as the base64 text of earlier versions. Decrypts it in place: afterwards the buffer
/// contains the data in the returned range, and no token. After an error its content is undefined.
///
/// The HMAC is checked first, in constant time. A token that fails it is never decrypted.
pub(super) fn open(key: &Key, token: &mut Vec<u8>) -> Result<Range<usize>, WrongKey> {
    match token.first() {
        Some(&VERSION) => open_binary(key, token).ok_or(WrongKey),
        Some(&FIRST_OF_TEXT) => {
            let text = std::str::from_utf8(token).map_err(|_| WrongKey)?;
            let fernet = Fernet::new(&key.to_text()).ok_or(WrongKey)?;
            *token = fernet.decrypt_at_time(text, None, END_OF_TIME_S).map_err(|_| WrongKey)?;
            Ok(0..token.len())
        }
        _ => Err(WrongKey),
    }
}

/// One result for every fault: only the owner of the key can make a token with a valid HMAC, and even his mistakes are
/// not described to others.
fn open_binary(key: &Key, token: &mut [u8]) -> Option<Range<usize>> {
    let (signed, mac) = token.split_last_chunk_mut::<MAC_BYTES>()?;
    key.mac_of(signed).verify_slice(mac).ok()?;
    let (header, ciphertext) = signed.split_at_mut_checked(HEADER_BYTES)?;
    let iv = *header.last_chunk::<AES_BYTES>()?;
    let cipher = cbc::Decryptor::<Aes128>::new(&key.cipher.into(), &iv.into());
    let len = cipher.decrypt_padded_mut::<Pkcs7>(ciphertext).ok()?.len();
    Some(HEADER_BYTES..HEADER_BYTES + len)
}

/// Seals and opens into buffers of its own, for tests.
#[cfg(test)]
pub(super) mod testing {
    use super::{HEADER_BYTES, Key, WrongKey};

    pub(in crate::pipeline) fn sealed(key: &Key, data: &[u8], now_s: u64) -> Vec<u8> {
        let mut token = [&[0xAA; HEADER_BYTES][..], data].concat();
        super::seal(key, &mut token, now_s);
        token
    }

    pub(in crate::pipeline) fn opened(key: &Key, token: &[u8]) -> Result<Vec<u8>, WrongKey> {
        let mut token = token.to_vec();
        let data = super::open(key, &mut token)?;
        Ok(token[data].to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{opened, sealed};
    use super::*;

    /// Key and token from `generate.json` and `verify.json` of the Fernet specification.
    const SPEC_KEY: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
    const SPEC_TOKEN: &str =
        "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";

    #[test]
    fn the_token_of_the_specification_opens_in_both_forms() {
        let key: Key = SPEC_KEY.parse().unwrap();
        assert_eq!(opened(&key, SPEC_TOKEN.as_bytes()).as_deref(), Ok(&b"hello"[..]));
        assert_eq!(opened(&key, &URL_SAFE.decode(SPEC_TOKEN).unwrap()).as_deref(), Ok(&b"hello"[..]));
    }

    /// Computed with Python's `hmac`: manifests must open forever.
    #[test]
    fn derived_keys_are_the_documented_ones() {
        let key: Key = SPEC_KEY.parse().unwrap();
        let derived = |label, position| key.derive(label, position).to_text();
        assert_eq!(derived(KeyLabel::Chunk, 0), "WaQPBxxqARoLjkAT2pWaAY28AG8fGNKimsMCaNEQyIg=");
        assert_eq!(derived(KeyLabel::Chunk, 300), "oICdL_vKRTSml64HQDIBDNpD2cvKB9qajRaEPxA0Nek=");
        assert_eq!(derived(KeyLabel::Tree, 0), "3VuxdVW57zcwuv9YZSHUTLt9RRLJU7GuUbwn-V-6ejY=");
    }

    fn spec_token() -> Vec<u8> {
        URL_SAFE.decode(SPEC_TOKEN).unwrap()
    }

    /// Lengths around the block size of AES, and some larger ones.
    fn lengths() -> impl Iterator<Item = usize> {
        (0..=65).chain([1000, 4095, 4096, 65_537])
    }

    #[test]
    fn the_token_of_the_specification_is_reproduced() {
        let key: Key = SPEC_KEY.parse().unwrap();
        let iv = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let mut token = [&[0; HEADER_BYTES][..], b"hello"].concat();
        seal_with_iv(&key, &mut token, 499_162_800, iv);
        assert_eq!(token, spec_token());
    }

    /// Goal: other programs open our tokens, and we open theirs. Method: the `fernet` crate, at every length around the
    /// block size.
    #[test]
    fn the_fernet_crate_opens_our_tokens_and_we_open_its() {
        let key = Key::generate();
        let fernet = Fernet::new(&key.to_text()).unwrap();
        for len in lengths() {
            let data = crate::pipeline::incompressible::testing::random(len, len as u64);
            let ours = sealed(&key, &data, 1_800_000_000);
            let ours = fernet.decrypt_at_time(&URL_SAFE.encode(ours), None, END_OF_TIME_S);
            assert!(ours.unwrap() == data, "ours of {len}");
            let theirs = fernet.encrypt_at_time(&data, 1_800_000_000);
            assert!(opened(&key, theirs.as_bytes()).unwrap() == data, "text of {len}");
            assert!(opened(&key, &URL_SAFE.decode(theirs).unwrap()).unwrap() == data, "theirs of {len}");
        }
    }

    #[test]
    fn sealing_allocates_nothing_if_its_length_is_reserved() {
        for len in lengths() {
            let mut token = Vec::with_capacity(sealed_len(len));
            let capacity = token.capacity();
            token.resize(HEADER_BYTES + len, 7);
            seal(&Key::generate(), &mut token, 1);
            assert_eq!((token.len(), token.capacity()), (sealed_len(len), capacity));
        }
    }

    /// Goal: a token whose HMAC is wrong is never decrypted. Method: the buffer is unchanged after the error.
    #[test]
    fn nothing_is_decrypted_before_the_hmac_is_checked() {
        let key: Key = SPEC_KEY.parse().unwrap();
        let mut token = spec_token();
        *token.last_mut().unwrap() ^= 1;
        let before = token.clone();
        assert_eq!(open(&key, &mut token), Err(WrongKey));
        assert_eq!(token, before);
    }

    /// Goal: a token that the owner of the key made wrongly gives the same error as a forged one. Method: valid HMACs
    /// around no ciphertext, a part of a block, and a block without valid padding.
    #[test]
    fn faults_behind_a_valid_hmac_are_not_distinguished() {
        let key: Key = SPEC_KEY.parse().unwrap();
        let valid = spec_token();
        for len in [0, 1, 9, 24, 25, 26, 40] {
            let mut token = valid[..len].to_vec();
            token.extend_from_slice(&key.mac_of(&valid[..len]).finalize().into_bytes());
            assert_eq!(opened(&key, &token), Err(WrongKey), "{len} bytes");
        }
        for last in 0..=u8::MAX {
            // In CBC, the vector is added to the first block, so this changes the last byte of the padding.
            let mut token = valid[..valid.len() - MAC_BYTES].to_vec();
            token[HEADER_BYTES - 1] ^= last;
            token.extend_from_slice(&key.mac_of(&token).finalize().into_bytes());
            let fernet = Fernet::new(SPEC_KEY).unwrap();
            let theirs = fernet.decrypt_at_time(&URL_SAFE.encode(&token), None, END_OF_TIME_S);
            assert_eq!(opened(&key, &token), theirs.map_err(|_| WrongKey), "{last}");
        }
    }

    #[test]
    fn a_token_is_binary_has_the_timestamp_and_opens() {
        let key = Key::generate();
        for len in [0, 1, 15, 16, 17, 1000] {
            let data = vec![b'x'; len];
            let token = sealed(&key, &data, 0x0102_0304_0506_0708);
            assert!(token.starts_with(&[0x80, 1, 2, 3, 4, 5, 6, 7, 8]));
            assert_eq!(token.len(), 1 + 8 + 16 + (len / 16 + 1) * 16 + 32);
            assert_eq!(opened(&key, &token), Ok(data));
        }
    }

    #[test]
    fn sealing_the_same_data_again_gives_another_token() {
        let key = Key::generate();
        assert_ne!(sealed(&key, b"data", 1), sealed(&key, b"data", 1));
    }

    /// Goal: a board whose clock is in 1970 opens chunks that were sealed in any year.
    #[test]
    fn a_token_with_any_timestamp_opens() {
        let key = Key::generate();
        for now_s in [0, 1, 1_800_000_000, u64::MAX - 61, u64::MAX - 60, u64::MAX] {
            assert_eq!(opened(&key, &sealed(&key, b"data", now_s)).as_deref(), Ok(&b"data"[..]), "{now_s}");
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
                assert_eq!(opened(&key, &bytes), Err(WrongKey), "byte {at}");
                assert_eq!(opened(&key, &token[..at]), Err(WrongKey), "cut to {at}");
            }
        }
        for foreign in [&b""[..], b"g", b"\x80", b"gAAA", b"g\xFF\xFF", b"\xFD7zXZ\0", &[0x80; 57], &[0x80; 5000]] {
            assert_eq!(opened(&key, foreign), Err(WrongKey), "{foreign:?}");
        }
        assert_eq!(opened(&Key::generate(), &raw), Err(WrongKey));
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
