//! Values on the command line. argh shows the errors together with the option and the value.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use crate::cli::command_line::DASH;
use crate::client::{CellSelector, MAX_JOBS};
use crate::id::MAX_HOLDERS;

/// A path, or `-` for standard input or output.
#[allow(clippy::unnecessary_wraps)] // argh requires a `Result`.
pub(super) fn path_or_dash(word: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(if word == DASH { "-" } else { word }))
}

/// The URL of a cell, from a URL or `HOST:PORT`.
pub(super) fn cell_url(word: &str) -> Result<String, String> {
    let url = if word.contains("://") { word.to_owned() } else { format!("http://{word}") };
    match url.strip_prefix("http://") {
        Some(host) if !host.trim_end_matches('/').is_empty() && word != DASH => Ok(url),
        _ => Err("expected http://HOST:PORT".to_owned()),
    }
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

pub(super) fn number<T: FromStr + PartialOrd + Display>(word: &str, bounds: RangeInclusive<T>) -> Result<T, String> {
    let number = word.parse().ok().filter(|number| bounds.contains(number));
    number.ok_or_else(|| format!("expected a number from {} to {}", bounds.start(), bounds.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_bounds() {
        assert_eq!((copies("1"), copies("32"), udp_port("65535"), jobs("64")), (Ok(1), Ok(32), Ok(65535), Ok(64)));
        for error in [copies("0"), copies("33"), copies("256"), copies("-1"), copies("")] {
            assert_eq!(error, Err("expected a number from 1 to 32".to_owned()));
        }
        assert!(udp_port("0").is_err() && jobs("65").is_err());
    }

    #[test]
    fn a_cell_has_a_url_an_address_or_an_id() {
        assert_eq!(cell_url("10.0.0.7:8080"), Ok("http://10.0.0.7:8080".to_owned()));
        assert_eq!(cell_url("http://pi:8080/"), Ok("http://pi:8080/".to_owned()));
        assert!(matches!(cell_selector("pi:8080"), Ok(CellSelector::Url(url)) if url == "http://pi:8080"));
        assert!(matches!(cell_selector("a419"), Ok(selector) if !matches!(selector, CellSelector::Url(_))));
        for bad in ["https://pi", "http://", "http:///", "", DASH] {
            assert!(cell_url(bad).is_err(), "{bad}");
        }
        for bad in ["a41", "pi", ""] {
            assert!(cell_selector(bad).is_err(), "{bad}");
        }
    }
}
