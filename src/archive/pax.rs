//! The records of a pax extended header, which hold what has no room in the header of an entry.
//!
//! A record is `LENGTH KEYWORD=VALUE\n`. The length counts the whole record, itself included, in decimal digits. Values
//! are UTF-8 unless the record `hdrcharset=BINARY` comes first. Those of extended attributes are bytes in any case.
//! Source: POSIX.1-2017, the utility `pax`, "pax Extended Header".

use crate::archive::entry::Timestamp;

/// The path of the entry.
pub(super) const PATH: &str = "path";
/// The target of a link.
pub(super) const LINK_PATH: &str = "linkpath";
/// When the content was modified.
pub(super) const MODIFIED: &str = "mtime";
/// The numbers of the owner.
pub(super) const USER_ID: &str = "uid";
pub(super) const GROUP_ID: &str = "gid";
/// The names of the owner.
pub(super) const USER_NAME: &str = "uname";
pub(super) const GROUP_NAME: &str = "gname";
/// How paths and names are encoded: [`BINARY`] if one is not UTF-8.
pub(super) const CHARSET: &str = "hdrcharset";
pub(super) const BINARY: &str = "BINARY";
/// The name of an extended attribute follows.
pub(super) const XATTR_PREFIX: &str = "SCHILY.xattr.";
/// Access control lists.
pub(super) const ACCESS_ACL: &str = "SCHILY.acl.access";
pub(super) const DEFAULT_ACL: &str = "SCHILY.acl.default";

/// Appends a record.
pub(super) fn push(records: &mut Vec<u8>, keyword: &[u8], value: &[u8]) {
    // The space, the equals sign and the line break.
    let rest = keyword.len() + value.len() + 3;
    let mut length = rest + decimal_digits(rest);
    // Its own digits may make the length one digit longer.
    length = rest + decimal_digits(length);
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(keyword);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn decimal_digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// The keyword of an extended attribute. `%` and `=` in its name are escaped as GNU tar does, since the first `=` ends
/// the keyword.
pub(super) fn xattr_keyword(name: &[u8]) -> Vec<u8> {
    let mut keyword = XATTR_PREFIX.as_bytes().to_vec();
    for &byte in name {
        match byte {
            b'%' => keyword.extend_from_slice(b"%25"),
            b'=' => keyword.extend_from_slice(b"%3D"),
            byte => keyword.push(byte),
        }
    }
    keyword
}

/// A time in decimal seconds, exact and as short as possible: `-1.5` for half a second before `-1`.
pub(super) fn time(Timestamp { seconds, nanoseconds }: Timestamp) -> String {
    // A time of -2 s and 0.5 s after it is -1.5.
    let (sign, seconds, nanoseconds) = match (seconds < 0, nanoseconds) {
        (false, _) => ("", seconds.unsigned_abs(), nanoseconds),
        (true, 0) => ("-", seconds.unsigned_abs(), 0),
        (true, _) => ("-", seconds.unsigned_abs() - 1, 1_000_000_000_u32.saturating_sub(nanoseconds)),
    };
    let text = format!("{sign}{seconds}.{nanoseconds:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_record_counts_its_own_digits() {
        for value in [0, 1, 80, 87, 88, 89, 90, 91, 92, 979, 980, 981, 982, 983, 990, 1000, 99_990] {
            let mut records = Vec::new();
            push(&mut records, b"path", &vec![b'x'; value]);
            let space = records.iter().position(|byte| *byte == b' ').unwrap();
            let length: usize = std::str::from_utf8(&records[..space]).unwrap().parse().unwrap();
            assert_eq!(length, records.len(), "{value}");
        }
    }

    #[test]
    fn times_are_exact_and_short() {
        let text = |seconds, nanoseconds| time(Timestamp { seconds, nanoseconds });
        let times = [(0, 0), (5, 1), (7, 500_000_000), (-1, 0), (-2, 500_000_000), (-1, 999_999_999), (100, 0)];
        let texts = times.map(|(seconds, nanoseconds)| text(seconds, nanoseconds));
        assert_eq!(texts, ["0", "5.000000001", "7.5", "-1", "-1.5", "-0.000000001", "100"]);
        assert_eq!(text(i64::MIN, 1), "-9223372036854775807.999999999");
    }
}
