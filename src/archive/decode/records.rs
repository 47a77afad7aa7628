//! Extension records of pax headers (POSIX.1-2017, *pax*, "pax Extended Header"): `LENGTH KEY=VALUE\n`, where the length
//! in decimal counts all bytes of the record. Values may have any bytes, also newlines.
//!
//! Extended attributes and access control lists are in the records of star, which GNU tar and bsdtar write too:
//! `SCHILY.xattr.NAME`, `SCHILY.acl.access` and `SCHILY.acl.default`.

use std::collections::BTreeMap;

use crate::archive::entry::Timestamp;

const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";
const SPARSE_PREFIX: &[u8] = b"GNU.sparse.";

/// What the records before an entry say about it, in place of the fields of its header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PaxRecords {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
    pub(super) modified: Option<Timestamp>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) access_acl: Option<String>,
    pub(super) default_acl: Option<String>,
    /// The data is a sparse file in the form of GNU tar for pax headers.
    pub(super) is_sparse: bool,
}

/// The records do not have the form of POSIX, or a value is none of its key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl PaxRecords {
    /// Adds the records in the data of one extension header. A record replaces an earlier one with the same key, and an
    /// empty value removes it. Unknown keys are ignored.
    pub(super) fn add(&mut self, mut data: &[u8]) -> Result<(), Malformed> {
        while !data.is_empty() {
            let (key, value, rest) = split_record(data).ok_or(Malformed)?;
            self.set(key, value).ok_or(Malformed)?;
            data = rest;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
            // An attribute can have an empty value.
            self.xattrs.insert(decoded_name(name), value.to_owned());
            return Some(());
        }
        match key {
            b"path" => replace(&mut self.path, value, |value| Some(value.to_owned()))?,
            b"linkpath" => replace(&mut self.link_path, value, |value| Some(value.to_owned()))?,
            b"size" => replace(&mut self.size, value, number)?,
            b"uid" => replace(&mut self.uid, value, number)?,
            b"gid" => replace(&mut self.gid, value, number)?,
            // A name that is not UTF-8 is not the name of an account.
            b"uname" => self.user = text(value).filter(|name| !name.is_empty()),
            b"gname" => self.group = text(value).filter(|name| !name.is_empty()),
            b"mtime" => replace(&mut self.modified, value, timestamp)?,
            b"SCHILY.acl.access" => replace(&mut self.access_acl, value, text)?,
            b"SCHILY.acl.default" => replace(&mut self.default_acl, value, text)?,
            _ if key.starts_with(SPARSE_PREFIX) => self.is_sparse = true,
            _ => {}
        }
        Some(())
    }
}

/// The key and the value of the first record, and what follows it.
fn split_record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let digits = data.iter().position(|&byte| byte == b' ')?;
    let length = number(data.get(..digits)?)?;
    let (record, rest) = data.split_at_checked(length)?;
    let record = record.get(digits + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=').filter(|&equals| equals > 0)?;
    Some((record.get(..equals)?, record.get(equals + 1..)?, rest))
}

/// Sets a field to the parsed value, or to nothing if the record is empty. `None` means that it is malformed.
fn replace<'a, T>(field: &mut Option<T>, value: &'a [u8], parse: impl FnOnce(&'a [u8]) -> Option<T>) -> Option<()> {
    *field = if value.is_empty() { None } else { Some(parse(value)?) };
    Some(())
}

fn text(value: &[u8]) -> Option<String> {
    String::from_utf8(value.to_owned()).ok()
}

/// A number in decimal digits, and nothing else.
fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    let text = str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit))?;
    text.parse().ok()
}

/// Seconds since 1970 as a decimal fraction, such as `-1.5`. Digits after the ninth are cut off, towards the past.
fn timestamp(value: &[u8]) -> Option<Timestamp> {
    let (is_negative, value) = value.strip_prefix(b"-").map_or((false, value), |value| (true, value));
    let (whole, fraction) = match value.iter().position(|&byte| byte == b'.') {
        Some(dot) => (value.get(..dot)?, value.get(dot + 1..)?),
        None => (value, &[][..]),
    };
    let seconds: i64 = number(whole)?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0, |sum, digit| 10 * sum + u32::from(digit - b'0'));
    let is_cut = fraction.iter().skip(9).any(|&digit| digit != b'0');
    Some(match (is_negative, nanoseconds + u32::from(is_negative && is_cut)) {
        (false, _) => Timestamp { seconds, nanoseconds },
        (true, 0) => Timestamp { seconds: -seconds, nanoseconds: 0 },
        (true, nanoseconds) => Timestamp { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

/// The name of an extended attribute. `=` would end the key of a record, so it is written as `%3D`, and `%` as `%25`.
fn decoded_name(name: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, tail)) = rest.split_first() {
        let (byte, length) = match rest.get(..3) {
            Some(b"%3D" | b"%3d") => (b'=', 3),
            Some(b"%25") => (b'%', 3),
            _ => (byte, 1),
        };
        decoded.push(byte);
        rest = tail.get(length - 1..).unwrap_or_default();
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(data: &[u8]) -> Result<PaxRecords, Malformed> {
        let mut records = PaxRecords::default();
        records.add(data).map(|()| records)
    }

    #[test]
    fn values_may_have_any_bytes() {
        let records = added(b"11 path=\n\n\n34 SCHILY.xattr.user.a%3Db%25=\n\xff\0\n12 uid=1000\n").unwrap();
        assert_eq!(records.path.as_deref(), Some(&b"\n\n"[..]));
        assert_eq!(records.xattrs.into_iter().collect::<Vec<_>>(), [(b"user.a=b%".to_vec(), b"\n\xff\0".to_vec())]);
        assert_eq!(records.uid, Some(1000));
    }

    #[test]
    fn a_later_record_replaces_and_an_empty_one_removes() {
        assert_eq!(added(b"9 path=a\n9 path=b\n").unwrap().path, Some(b"b".to_vec()));
        assert_eq!(added(b"9 path=a\n8 path=\n").unwrap(), PaxRecords::default());
        assert_eq!(added(b"17 comment=hello\n").unwrap(), PaxRecords::default());
    }

    #[test]
    fn malformed_records_are_refused() {
        let malformed: [&[u8]; 14] = [
            b"x",
            b"9 path=a",
            b"11 path=a\n",
            b"8 path=a\n",
            b" 9 path=a\n",
            b"+10 path=\n",
            b"0 \n",
            b"7 path\n",
            b"5 =a\n",
            b"99999999999999999999 path=a\n",
            b"10 uid=-1\n",
            b"18 uid=4294967296\n",
            b"11 mtime=.\n",
            b"14 mtime=1.2x\n",
        ];
        for data in malformed {
            assert_eq!(added(data), Err(Malformed), "{}", data.escape_ascii());
        }
    }

    #[test]
    fn times_are_exact_before_and_after_1970() {
        let times: [(&[u8], i64, u32); 9] = [
            (b"0", 0, 0),
            (b"1.5", 1, 500_000_000),
            (b"-1.5", -2, 500_000_000),
            (b"-0.000000001", -1, 999_999_999),
            (b"-460000000", -460_000_000, 0),
            (b"1.0000000019", 1, 1),
            (b"-1.0000000019", -2, 999_999_998),
            (b"1234567890.123456789", 1_234_567_890, 123_456_789),
            (b"-9223372036854775807.5", i64::MIN, 500_000_000),
        ];
        for (text, seconds, nanoseconds) in times {
            assert_eq!(timestamp(text), Some(Timestamp { seconds, nanoseconds }), "{}", text.escape_ascii());
        }
        assert_eq!(timestamp(b"9223372036854775808"), None);
        assert_eq!(timestamp(b"--1"), None);
    }
}
