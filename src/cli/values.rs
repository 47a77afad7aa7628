//! Values on the command line. argh shows the errors together with the option and the value.

use std::fmt::Display;
use std::net::Ipv6Addr;
use std::num::NonZeroU16;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::cli::encoded::decode;
use crate::client::{CellSelector, MAX_JOBS, MAX_PATIENCE};
use crate::config::DEFAULT_PORT;
use crate::id::MAX_HOLDERS;

/// A path, or `-` for standard input or output. It need not be UTF-8.
pub(super) fn path_or_dash(word: &str) -> Result<PathBuf, String> {
    if word.is_empty() { Err("expected a path".to_owned()) } else { Ok(decode(word).into()) }
}

/// Text that is not a path.
pub(super) fn text(word: &str) -> Result<String, String> {
    decode(word).into_string().map_err(|_| "not valid Unicode".to_owned())
}

/// The URL of a cell, from `http://HOST:PORT` or from `HOST:PORT`, where the port can be omitted if it is the default.
pub(super) fn cell_url(word: &str) -> Result<String, String> {
    let expected = || "expected http://HOST:PORT or HOST:PORT".to_owned();
    if let Some(authority) = word.strip_prefix("http://") {
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        return if is_authority(authority) { Ok(format!("http://{authority}")) } else { Err(expected()) };
    }
    let has_port = word.rsplit_once(':').is_some_and(|(host, _)| !host.is_empty() && !host.ends_with(':'));
    let is_bare_ipv6 = word.parse::<Ipv6Addr>().is_ok();
    let authority = match has_port && !word.ends_with(']') {
        _ if is_bare_ipv6 => format!("[{word}]:{DEFAULT_PORT}"),
        true => word.to_owned(),
        false => format!("{word}:{DEFAULT_PORT}"),
    };
    if is_authority(&authority) { Ok(format!("http://{authority}")) } else { Err(expected()) }
}

/// `HOST` or `HOST:PORT`; an IPv6 address has brackets.
fn is_authority(authority: &str) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    // The parser of numbers would accept a sign.
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<NonZeroU16>().is_ok();
    let is_in_name = |c: char| c.is_alphanumeric() || "-._".contains(c);
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(is_in_name),
    };
    is_host && port.is_none_or(is_port)
}

/// A cell, named by URL, by `HOST:PORT` or by the first digits of its id.
pub(super) fn cell_selector(word: &str) -> Result<CellSelector, String> {
    if let Some(selector) = CellSelector::from_id_prefix(word) {
        return Ok(selector);
    }
    let url = if word.contains(':') { cell_url(word).ok() } else { None };
    let expected = "expected a URL, HOST:PORT or at least the first four digits of a cell id";
    url.map(CellSelector::Url).ok_or_else(|| expected.to_owned())
}

pub(super) fn udp_port(word: &str) -> Result<u16, String> {
    number(word, 1..=u16::MAX)
}

/// Copies of each chunk.
pub(super) fn copies(word: &str) -> Result<u8, String> {
    number(word, 1..=u8::try_from(MAX_HOLDERS).unwrap_or(u8::MAX))
}

/// Workers.
pub(super) fn jobs(word: &str) -> Result<usize, String> {
    number(word, 1..=MAX_JOBS)
}

/// The path of an entry in a stored directory, as bytes.
pub(super) fn entry_path(word: &str) -> Result<Vec<u8>, String> {
    let path = decode(word).into_encoded_bytes();
    if path.is_empty() {
        return Err("expected the path of an entry; . is everything".to_owned());
    }
    let leads_out = path.split(|byte| *byte == b'/').any(|name| name == b"..");
    if leads_out { Err("expected the path of an entry, without ..".to_owned()) } else { Ok(path) }
}

/// A range of bytes with its first and its last byte, such as `0-1048575`, or `100-` up to the end.
pub(super) fn byte_range(word: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let parsed = word.split_once('-').and_then(|(start, last)| {
        let start = number(start)?;
        let end = if last.is_empty() { u64::MAX } else { number(last)?.checked_add(1)? };
        (start < end).then_some(start..end)
    });
    parsed.ok_or_else(|| "expected the first and the last byte, such as 0-1048575, or 100- up to the end".to_owned())
}

/// How long a get waits for cells.
pub(super) fn patience(word: &str) -> Result<Duration, String> {
    duration(word, MAX_PATIENCE)
}

/// A whole number with a unit, such as `90s`, `10m` or `2h`, or `0`.
fn duration(word: &str, max: Duration) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3600)];
    let parsed = UNITS.iter().find_map(|(unit, seconds)| {
        let number = word.strip_suffix(unit)?.trim_end();
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
        let number = number.parse::<u64>().ok().filter(|_| is_number)?;
        Some(Duration::from_secs(number.checked_mul(*seconds)?))
    });
    let zero = (word == "0").then_some(Duration::ZERO);
    let max_hours = max.as_secs() / 3600;
    let expected = || format!("expected a time such as 90s, 10m or 2h, from 0 to {max_hours}h");
    parsed.or(zero).filter(|duration| *duration <= max).ok_or_else(expected)
}

pub(super) fn number<T: FromStr + PartialOrd + Display>(word: &str, bounds: RangeInclusive<T>) -> Result<T, String> {
    let number = word.parse().ok().filter(|number| bounds.contains(number));
    number.ok_or_else(|| format!("expected a number from {} to {}", bounds.start(), bounds.end()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::encoded::encode;

    #[test]
    fn a_range_has_its_first_and_last_byte() {
        assert_eq!([byte_range("0-0"), byte_range("5-9"), byte_range("7-")], [Ok(0..1), Ok(5..10), Ok(7..u64::MAX)]);
        for bad in ["", "-", "-5", "9-5", "5", "+1-2", "1-+2", "a-b", "0-18446744073709551615", "1-2-3", "1..2"] {
            assert!(byte_range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_have_bounds() {
        assert_eq!((copies("1"), copies("32"), udp_port("65535"), jobs("64")), (Ok(1), Ok(32), Ok(65535), Ok(64)));
        for error in [copies("0"), copies("33"), copies("256"), copies("-1"), copies("")] {
            assert_eq!(error, Err("expected a number from 1 to 32".to_owned()));
        }
        assert!(udp_port("0").is_err() && jobs("65").is_err());
    }

    #[test]
    fn a_duration_has_a_unit_and_bounds() {
        let durations = ["0", "0s", "90s", "2m", "2 m", "24h"].map(|word| patience(word).unwrap().as_secs());
        assert_eq!(durations, [0, 0, 90, 120, 120, 86_400]);
        for bad in
            ["", "2", "m", "-1s", "+1s", "1.5h", "25h", "1d", "2 min", "99999999999999999999s", "9999999999999999h"]
        {
            let error = patience(bad).unwrap_err();
            assert!(error.contains("90s") && error.contains("24h"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_cell_has_a_url_an_address_or_an_id() {
        for (word, url) in [
            ("10.0.0.7:80", "http://10.0.0.7:80"),
            ("10.0.0.7", "http://10.0.0.7:8080"),
            ("pi_7.local", "http://pi_7.local:8080"),
            ("[fd00::7]:80", "http://[fd00::7]:80"),
            ("[fd00::7]", "http://[fd00::7]:8080"),
            ("fd00::7", "http://[fd00::7]:8080"),
            ("http://pi:80/", "http://pi:80"),
            // The default port of HTTP.
            ("http://pi", "http://pi"),
            ("http://[fd00::7]", "http://[fd00::7]"),
        ] {
            assert_eq!(cell_url(word).as_deref(), Ok(url), "{word}");
        }
        assert!(matches!(cell_selector("pi:8080"), Ok(CellSelector::Url(url)) if url == "http://pi:8080"));
        assert!(matches!(cell_selector("a419"), Ok(selector) if !matches!(selector, CellSelector::Url(_))));
        let dash = encode("-".as_ref()).unwrap();
        for bad in [
            "https://pi",
            "http://",
            "http:///",
            "",
            &dash,
            "pi:",
            ":80",
            "pi:0",
            "pi:+80",
            "pi:99999",
            "pi:80/status",
            "http://pi:80/status",
            "a b:80",
            "user@pi:80",
            "[pi]:80",
            "pi:80:80",
            "http://http://pi",
        ] {
            assert!(cell_url(bad).is_err(), "{bad}");
        }
        for bad in ["a41", "pi", "", "pi:x"] {
            assert!(cell_selector(bad).is_err(), "{bad}");
        }
    }
}
