//! A TOML document of settings: a flat table in which each value has its position.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use crate::config::value::Value;

/// One `key = value`.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) value: Value,
    /// Where the value begins in the text, in bytes.
    pub(crate) offset: usize,
}

/// The text is not TOML.
pub(crate) struct NotToml {
    /// Where, in bytes.
    pub(crate) offset: usize,
    /// The message of the parser, in one line.
    pub(crate) message: String,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Document(BTreeMap<String, Spanned<toml::Value>>);

/// The entries in the order of the text, so that the first mistake in it is the one that is reported.
pub(crate) fn parse(text: &str) -> Result<Vec<Entry>, NotToml> {
    let Document(settings) = toml::from_str(text).map_err(|error: toml::de::Error| NotToml {
        offset: error.span().map_or(0, |span| span.start),
        message: error.message().replace('\n', " "),
    })?;
    let entry = |(name, value): (String, Spanned<toml::Value>)| Entry {
        name,
        offset: value.span().start,
        value: value.into_inner().into(),
    };
    let mut entries: Vec<_> = settings.into_iter().map(entry).collect();
    entries.sort_by_key(|entry| entry.offset);
    Ok(entries)
}

/// The line of a position, from 1.
pub(crate) fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
}
