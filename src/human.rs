//! Numbers, times and names as text for people.

use std::fmt::{Display, Write as _};
use std::path::Path;

/// `1.5 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    bytesize::ByteSize::b(count).display().iec().to_string()
}

/// A number of things.
pub(crate) trait Number: Copy + Display + PartialEq + From<u8> {}

impl<T: Copy + Display + PartialEq + From<u8>> Number for T {}

/// `3 chunks`, `1 chunk`. `noun` takes an `s` in the plural.
pub(crate) fn count<N: Number>(number: N, noun: &str) -> String {
    if number == N::from(1) { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// `3 copies`, `1 copy`.
pub(crate) fn copies<N: Number>(number: N) -> String {
    format!("{number} {}", if_one(&number, "copy", "copies"))
}

/// `1 of 3 chunks`, `1 of 1 chunk`.
pub(crate) fn part<N: Number>(part: N, of: N, noun: &str) -> String {
    format!("{part} of {}", count(of, noun))
}

/// The word that goes with one thing, or the one that goes with any other number of them: `has`, `have`.
pub(crate) fn if_one<'a, N: Number>(number: &N, one: &'a str, other: &'a str) -> &'a str {
    if *number == N::from(1) { one } else { other }
}

/// `4 s ago`, `3 min ago`: rounded down, in the unit that suits an age.
pub(crate) fn ago(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..120 => format!("{seconds} s ago"),
        seconds @ 120..7200 => format!("{} min ago", seconds / 60),
        seconds => format!("{} h ago", seconds / 3600),
    }
}

/// `90 s`, `1 h`, `30 days`: exact, in the largest unit that has no fraction.
pub(crate) fn duration(ms: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400_000, "day"), (3_600_000, "h"), (60_000, "min"), (1000, "s")];
    match UNITS.iter().find(|(unit_ms, _)| ms > 0 && ms.is_multiple_of(*unit_ms)) {
        Some((unit_ms, "day")) => count(usize::try_from(ms / unit_ms).unwrap_or(usize::MAX), "day"),
        Some((unit_ms, unit)) => format!("{} {unit}", ms / unit_ms),
        None => format!("{ms} ms"),
    }
}

/// A name from an archive or a directory, safe to print on a terminal. Control characters and bytes that are not UTF-8
/// become escapes such as `\n` and `\xff`, and characters that change the direction of text become `\u{202e}`.
pub(crate) fn escaped(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for piece in name.utf8_chunks() {
        for character in piece.valid().chars() {
            if controls_terminal(character) || character == '\\' {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in piece.invalid() {
            // Writing to a string never fails.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Longest name in a message, in bytes. Longer than any name of a file; a path can have more.
const MAX_SHOWN_BYTES: usize = 512;
/// What is left of a longer one: its beginning and its end, in bytes.
const SHOWN_START_BYTES: usize = 320;
const SHOWN_END_BYTES: usize = 160;

/// A name for a message: [`escaped`], and without its middle if it is long.
pub(crate) fn shown(name: &[u8]) -> String {
    if name.len() <= MAX_SHOWN_BYTES {
        return escaped(name);
    }
    // Characters stay whole.
    let is_start = |at: &usize| name.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
    let start = (0..=SHOWN_START_BYTES).rev().take(4).find(is_start).unwrap_or(SHOWN_START_BYTES);
    let end = name.len() - SHOWN_END_BYTES;
    let end = (end..).take(4).find(is_start).unwrap_or(end);
    let (start, end) = (name.get(..start).unwrap_or_default(), name.get(end..).unwrap_or_default());
    format!("{}…{}", escaped(start), escaped(end))
}

/// The name that [`escaped`] shows as this text; `None` if it shows no name so.
pub(crate) fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        name.extend_from_slice(plain.as_bytes());
        let mut characters = escape.chars();
        rest = match characters.next()? {
            'u' => {
                let (digits, rest) = characters.as_str().strip_prefix('{')?.split_once('}')?;
                let character = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
                name.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest
            }
            'x' => {
                let (digits, rest) = characters.as_str().split_at_checked(2)?;
                name.push(u8::from_str_radix(digits, 16).ok()?);
                rest
            }
            letter => {
                name.push(match letter {
                    'n' => b'\n',
                    'r' => b'\r',
                    't' => b'\t',
                    '\\' => b'\\',
                    _ => return None,
                });
                characters.as_str()
            }
        };
    }
    name.extend_from_slice(rest.as_bytes());
    (escaped(&name) == text).then_some(name)
}

/// A text with names in it as one line that is safe to print on a terminal. What [`escaped`] made stays as it is.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if controls_terminal(character) {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// Is this a control character, or a mark that changes the direction of text and could make a name look like another?
fn controls_terminal(character: char) -> bool {
    let is_direction = matches!(character, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() || is_direction
}

/// The command that removes these files and directories, with their names quoted for a shell.
pub(crate) fn removal_command<P: AsRef<Path>>(paths: impl Iterator<Item = P>) -> String {
    let words: Vec<String> = paths.map(|path| shell_word(path.as_ref().as_os_str().as_encoded_bytes())).collect();
    format!("rm -r -- {}", words.join(" "))
}

/// A name as one word of a shell command. One with control characters, or with bytes that are not UTF-8, has the form
/// `$'...'`, which not every shell reads.
fn shell_word(name: &[u8]) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+,:=@%".contains(byte);
    match str::from_utf8(name) {
        Ok(text) if !text.is_empty() && name.iter().all(is_plain) => text.to_owned(),
        Ok(text) if !text.chars().any(controls_terminal) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => {
            let mut word = String::from("$'");
            for &byte in name {
                if byte.is_ascii_graphic() && !b"\\'".contains(&byte) || byte == b' ' {
                    word.push(char::from(byte));
                } else {
                    // Three octal digits: a digit after them is not part of the byte.
                    let _ = write!(word, "\\{byte:03o}");
                }
            }
            word + "'"
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_shell_removes_what_the_command_names() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        let names =
            [&b"plain-1.tar"[..], b"it's $HOME", b"-rf", b"a\nb", b"\xff7'", "\u{202e}e\u{301}".as_bytes(), b"~"];
        let paths = names.map(|name| folder.path().join(OsStr::from_bytes(name)));
        for path in &paths {
            std::fs::write(path, "x").unwrap();
        }
        std::fs::write(folder.path().join("other"), "x").unwrap();
        let command = removal_command(paths.iter());
        assert!(std::process::Command::new("bash").args(["-c", &command]).status().unwrap().success(), "{command}");
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["other"], "{command}");
        assert_eq!(one_line(&command), command, "nothing in it is escaped once more");
    }

    #[test]
    fn names_cannot_control_the_terminal() {
        let escapes =
            [&b"a\nb"[..], b"\x1b[2J", b"\xff\xc3\xa9", b"back\\slash", "\u{202e}gpj".as_bytes(), b"plain name"];
        let texts = escapes.map(escaped);
        assert_eq!(texts, ["a\\nb", "\\u{1b}[2J", "\\xff\u{e9}", "back\\\\slash", "\\u{202e}gpj", "plain name"]);
        let line = one_line(&format!("cannot read {}: {}", "a\x1b[2J\nb \u{202e}", escaped(b"c\\\n")));
        assert_eq!(line, "cannot read a\\u{1b}[2J\\nb \\u{202e}: c\\\\\\n");
    }

    #[test]
    fn what_is_shown_can_be_typed_back() {
        let names =
            [&b"a\nb"[..], b"\x1b[2J\t\r", b"\xff\xc3\xa9/\xe2\x82", b"back\\slash\\n", "\u{202e}gpj".as_bytes(), b""];
        for name in names {
            assert_eq!(unescaped(&escaped(name)).as_deref(), Some(name));
        }
        for text in ["a\\", "\\q", "\\x4", "\\x41", "\\u{41}", "\\u{d800}", "\\u41", "\\xfé", "a\nb", "\\xFF"] {
            assert_eq!(unescaped(text), None, "{text:?}");
        }
    }

    #[test]
    fn long_names_are_cut_in_messages() {
        assert_eq!(shown(&[b'a'; MAX_SHOWN_BYTES]).len(), MAX_SHOWN_BYTES);
        let name = [&b"start\n"[..], &[b'a'; 5000], b"/end"].concat();
        let text = shown(&name);
        assert!(text.starts_with("start\\naaa") && text.contains("a…a") && text.ends_with("a/end"), "{text}");
        assert!(text.len() < MAX_SHOWN_BYTES);
        for shift in 0..3 {
            let name = "x".repeat(shift) + &"€".repeat(1000);
            assert!(!shown(name.as_bytes()).contains('\\'), "characters stay whole");
        }
        assert!(shown(&[0xbf; 1000]).starts_with("\\xbf"));
    }

    #[test]
    fn one_thing_is_singular() {
        let texts = [0, 1, 2].map(|number: u64| format!("{}, {}", count(number, "cell"), copies(number)));
        assert_eq!(texts, ["0 cells, 0 copies", "1 cell, 1 copy", "2 cells, 2 copies"]);
        assert_eq!([part(1, 3, "chunk"), part(1, 1, "chunk")], ["1 of 3 chunks", "1 of 1 chunk"]);
        assert_eq!([0, 1, 2].map(|number| if_one(&number, "has", "have")), ["have", "has", "have"]);
    }

    #[test]
    fn durations_are_exact() {
        let durations = [0, 50, 1500, 90_000, 60_000, 7_200_000, 86_400_000, 30 * 86_400_000].map(duration);
        assert_eq!(durations, ["0 ms", "50 ms", "1500 ms", "90 s", "1 min", "2 h", "1 day", "30 days"]);
    }
}
