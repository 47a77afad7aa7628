//! The value of a setting, as `node.toml` writes it.

use std::fmt;
use std::str::FromStr;

/// A value, whatever setting it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text, in quotes.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// `true` or `false`.
    Switch(bool),
    /// Values in brackets.
    List(Vec<Value>),
    /// Something that no setting accepts, in words.
    Other(String),
}

impl Value {
    pub(crate) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// What the text stands for.
    pub(crate) fn parse<T: FromStr>(&self) -> Option<T> {
        self.text()?.parse().ok()
    }

    pub(crate) fn integer(&self) -> Option<u64> {
        if let Self::Integer(number) = self { u64::try_from(*number).ok() } else { None }
    }

    pub(crate) fn list(&self) -> Option<&[Self]> {
        if let Self::List(list) = self { Some(list) } else { None }
    }
}

impl From<toml::Value> for Value {
    fn from(value: toml::Value) -> Self {
        match value {
            toml::Value::String(text) => Self::Text(text),
            toml::Value::Integer(number) => Self::Integer(number),
            toml::Value::Boolean(on) => Self::Switch(on),
            toml::Value::Array(list) => Self::List(list.into_iter().map(Self::from).collect()),
            other => Self::Other(format!("a {}", other.type_str())),
        }
    }
}

/// In one line, as it stands in a `node.toml`.
impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(formatter, "{text:?}"),
            Self::Integer(number) => write!(formatter, "{number}"),
            Self::Switch(on) => write!(formatter, "{on}"),
            Self::List(list) => {
                formatter.write_str("[")?;
                for (index, value) in list.iter().enumerate() {
                    write!(formatter, "{}{value}", if index == 0 { "" } else { ", " })?;
                }
                formatter.write_str("]")
            }
            Self::Other(what) => formatter.write_str(what),
        }
    }
}
