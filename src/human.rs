//! Numbers and times as text for people.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact() {
        let durations = [0, 50, 1500, 90_000, 60_000, 7_200_000, 86_400_000, 30 * 86_400_000].map(duration);
        assert_eq!(durations, ["0 ms", "50 ms", "1500 ms", "90 s", "1 min", "2 h", "1 day", "30 days"]);
    }
}
