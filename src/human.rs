//! Numbers, times and names as text for people.

use std::fmt::Write as _;

/// `1.5 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    bytesize::ByteSize::b(count).display().iec().to_string()
}

/// `3 chunks`, `1 chunk`. `noun` takes an `s` in the plural.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// `3 copies`, `1 copy`.
pub(crate) fn copies(number: usize) -> String {
    if number == 1 { "1 copy".to_owned() } else { format!("{number} copies") }
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
            // The marks that change the direction of text: they could make a name look like another one.
            let is_direction =
                matches!(character, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if character.is_control() || is_direction || character == '\\' {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_control_the_terminal() {
        let escapes =
            [&b"a\nb"[..], b"\x1b[2J", b"\xff\xc3\xa9", b"back\\slash", "\u{202e}gpj".as_bytes(), b"plain name"];
        let texts = escapes.map(escaped);
        assert_eq!(texts, ["a\\nb", "\\u{1b}[2J", "\\xff\u{e9}", "back\\\\slash", "\\u{202e}gpj", "plain name"]);
    }

    #[test]
    fn durations_are_exact() {
        let durations = [0, 50, 1500, 90_000, 60_000, 7_200_000, 86_400_000, 30 * 86_400_000].map(duration);
        assert_eq!(durations, ["0 ms", "50 ms", "1500 ms", "90 s", "1 min", "2 h", "1 day", "30 days"]);
    }
}
