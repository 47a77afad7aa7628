//! Words of the command line as text for argh, which takes `&str` and no other bytes, and takes every word that begins
//! with a dash for an option.
//!
//! A byte that argh must not see is written as NUL and two hexadecimal digits. No word of a command line can contain
//! NUL, so nothing else looks like it.

use std::ffi::{OsStr, OsString};

const ESCAPE: char = '\0';

/// The word for argh: `-` and bytes that are not UTF-8 are escaped. `None` if the system's words are not bytes, and this
/// one is not Unicode.
#[cfg_attr(unix, allow(clippy::unnecessary_wraps))] // It can fail on other systems.
pub(super) fn encode(word: &OsStr) -> Option<String> {
    if word == "-" {
        return Some(escape(b'-'));
    }
    #[cfg(unix)]
    {
        let mut text = String::new();
        for chunk in std::os::unix::ffi::OsStrExt::as_bytes(word).utf8_chunks() {
            text += chunk.valid();
            chunk.invalid().iter().for_each(|byte| text += &escape(*byte));
        }
        Some(text)
    }
    #[cfg(not(unix))]
    word.to_str().map(ToOwned::to_owned)
}

fn escape(byte: u8) -> String {
    format!("{ESCAPE}{byte:02x}")
}

/// The word as the user gave it.
pub(super) fn decode(text: &str) -> OsString {
    #[cfg(unix)]
    return std::os::unix::ffi::OsStringExt::from_vec(bytes(text));
    #[cfg(not(unix))]
    return shown(text).into();
}

/// A message about encoded words, as it is shown.
pub(super) fn shown(text: &str) -> String {
    String::from_utf8_lossy(&bytes(text)).into_owned()
}

fn bytes(text: &str) -> Vec<u8> {
    let mut parts = text.split(ESCAPE);
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        bytes.extend(u8::from_str_radix(digits, 16).ok());
        bytes.extend(rest.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_words_stay_and_a_dash_is_hidden() {
        for word in ["", "album.tar", "--json", "-o", "a-b", "Ä 1 \n"] {
            assert_eq!(encode(OsStr::new(word)).as_deref(), Some(word));
            assert_eq!(decode(word), word);
        }
        let dash = encode(OsStr::new("-")).unwrap();
        assert!(!dash.contains('-'));
        assert_eq!((decode(&dash), shown(&dash)), ("-".into(), "-".to_owned()));
    }

    #[cfg(unix)]
    #[test]
    fn every_byte_of_a_name_comes_back() {
        use std::os::unix::ffi::OsStringExt;
        let all = OsString::from_vec((1..=255).collect());
        for name in [all, OsString::from_vec(b"caf\xe9\xff10".to_vec()), OsString::from_vec(b"\xc3".to_vec())] {
            let text = encode(&name).unwrap();
            assert_eq!(decode(&text), name);
            assert!(text.contains(ESCAPE) && !shown(&text).contains(ESCAPE));
        }
    }

    #[test]
    fn damaged_escapes_do_not_panic() {
        for text in ["\0", "\0x", "\0zz1", "\0ä", "a\0", "\0\0"] {
            drop((decode(text), shown(text)));
        }
    }
}
