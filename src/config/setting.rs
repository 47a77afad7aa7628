//! What a setting is: its name, the values it accepts, the field of [`Config`] that it sets, and its description.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use bytesize::ByteSize;
use log::LevelFilter;

use crate::cell::MAX_PEERS;
use crate::config::node_config::Config;
use crate::config::value::Value;
use crate::human;

/// Lowest rate, in bytes a second. Below it, a single chunk takes more than half a minute.
const MIN_RATE: u64 = 64 << 10;
/// Highest rate, in bytes a second. No link is faster, and sums of it stay far from any overflow.
const MAX_RATE: u64 = 1 << 40;

pub(super) const SECOND_MS: u64 = 1_000;
pub(super) const MINUTE_MS: u64 = 60 * SECOND_MS;
pub(super) const HOUR_MS: u64 = 60 * MINUTE_MS;
pub(super) const DAY_MS: u64 = 24 * HOUR_MS;

/// Settings that belong together.
pub struct Group {
    /// Heading.
    pub title: &'static str,
    /// What holds for all settings of the group; may be empty.
    pub about: &'static str,
    /// The settings, in the order in which they are shown and applied.
    pub settings: &'static [Setting],
}

/// One setting of `node.toml`. Names in its texts stand in backquotes.
pub struct Setting {
    /// The key in `node.toml`.
    pub name: &'static str,
    /// One line without a full stop: what it sets.
    pub summary: &'static str,
    /// How to choose it, and what goes wrong at the extremes; may be empty.
    pub details: &'static str,
    pub(super) kind: Kind,
    /// The value to show as an example, as `node.toml` writes it. `None`: the default.
    pub(super) example: Option<&'static str>,
    /// The default in words, where it is not a value.
    pub(super) default_text: Option<&'static str>,
    /// Adjusts what depends on this setting. Settings that are applied later can override that.
    pub(super) adjust: Option<fn(&mut Config)>,
}

/// Points at a field of the configuration.
pub(super) type Field<T> = fn(&mut Config) -> &mut T;

/// The values that a setting accepts, and the field that takes them.
pub(super) enum Kind {
    Path(Field<PathBuf>),
    Address(Field<SocketAddr>),
    Port(Field<u16>),
    Switch(Field<bool>),
    Peers(Field<Vec<String>>),
    Level(Field<LevelFilter>),
    Size(Field<Option<u64>>),
    /// Bytes a second.
    Rate {
        or_zero: bool,
        field: Field<u64>,
    },
    Milliseconds(RangeInclusive<u64>, Field<u64>),
    /// One delay for each number of copies that are left.
    HealDelays(Field<[u64; 4]>),
}

impl Setting {
    /// What most settings have.
    pub(super) const BASE: Self = Self {
        name: "",
        summary: "",
        details: "",
        kind: Kind::Switch(|config| &mut config.loopback),
        example: None,
        default_text: None,
        adjust: None,
    };

    /// The values that it accepts, in words.
    pub fn accepts(&self) -> String {
        match &self.kind {
            Kind::Path(_) => "a path".to_owned(),
            Kind::Address(_) => "ADDRESS:PORT, such as 0.0.0.0:8080".to_owned(),
            Kind::Port(_) => "1 to 65535".to_owned(),
            Kind::Switch(_) => "true or false".to_owned(),
            Kind::Peers(_) => {
                format!("at most {MAX_PEERS} of HOST:PORT, such as 10.0.2.7:8080 or [fd00::7]:8080")
            }
            Kind::Level(_) => {
                let levels: Vec<_> = LevelFilter::iter().map(|level| level.as_str().to_lowercase()).collect();
                levels.join(", ")
            }
            Kind::Size(_) => "a size such as \"500 MiB\" or \"20 GB\"".to_owned(),
            Kind::Rate { or_zero, .. } => {
                let zero = if *or_zero { "\"0\", or " } else { "" };
                format!("{zero}\"{}\" to \"{}\" per second", size(MIN_RATE), size(MAX_RATE))
            }
            Kind::Milliseconds(bounds, _) => {
                format!("milliseconds from {} to {}", bounds.start(), with_unit(*bounds.end()))
            }
            Kind::HealDelays(_) => format!(
                "four ascending delays in milliseconds, for one copy left, two, three, and more; each at most {}",
                with_unit(DAY_MS)
            ),
        }
    }

    /// An example of a value, as `node.toml` writes it.
    pub fn example(&self) -> String {
        self.example.map_or_else(|| self.default_value().to_string(), ToOwned::to_owned)
    }

    /// The default, in words.
    pub fn default_text(&self) -> String {
        if let Some(text) = self.default_text {
            return text.to_owned();
        }
        match self.default_value() {
            Value::Integer(ms) if matches!(self.kind, Kind::Milliseconds(..)) => {
                with_unit(ms.try_into().unwrap_or_default())
            }
            value => value.to_string(),
        }
    }

    fn default_value(&self) -> Value {
        let config = &mut Config::default();
        let integer = |number: u64| Value::Integer(number.try_into().unwrap_or(i64::MAX));
        match &self.kind {
            Kind::Path(field) => Value::Text(field(config).display().to_string()),
            Kind::Address(field) => Value::Text(field(config).to_string()),
            Kind::Port(field) => Value::Integer((*field(config)).into()),
            Kind::Switch(field) => Value::Switch(*field(config)),
            Kind::Peers(field) => Value::List(field(config).iter().cloned().map(Value::Text).collect()),
            Kind::Level(field) => Value::Text(field(config).as_str().to_lowercase()),
            Kind::Size(field) => Value::Text(size(field(config).unwrap_or_default())),
            Kind::Rate { field, .. } => Value::Text(size(*field(config))),
            Kind::Milliseconds(_, field) => integer(*field(config)),
            Kind::HealDelays(field) => Value::List(field(config).iter().copied().map(integer).collect()),
        }
    }

    /// Sets the field. If the value is not accepted, nothing changes, and the part of it that is wrong comes back.
    pub(super) fn assign(&self, config: &mut Config, value: &Value) -> Result<(), Value> {
        self.kind.assign(config, value)?;
        if let Some(adjust) = self.adjust {
            adjust(config);
        }
        Ok(())
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Setting").field(&self.name).finish()
    }
}

impl Kind {
    fn assign(&self, config: &mut Config, value: &Value) -> Result<(), Value> {
        let wrong = || value.clone();
        match self {
            Self::Path(field) => *field(config) = value.text().ok_or_else(wrong)?.into(),
            Self::Address(field) => *field(config) = value.parse().ok_or_else(wrong)?,
            Self::Port(field) => {
                // 0 is refused by `Config::check`, so that a file with it can be overridden.
                let port = value.integer().and_then(|port| u16::try_from(port).ok());
                *field(config) = port.ok_or_else(wrong)?;
            }
            Self::Switch(field) => match value {
                Value::Switch(on) => *field(config) = *on,
                _ => return Err(wrong()),
            },
            Self::Peers(field) => *field(config) = peers(value)?,
            Self::Level(field) => *field(config) = value.parse().ok_or_else(wrong)?,
            Self::Size(field) => *field(config) = Some(value.parse::<ByteSize>().ok_or_else(wrong)?.as_u64()),
            Self::Rate { or_zero, field } => {
                let rate = value.parse::<ByteSize>().map(|rate| rate.as_u64());
                let is_accepted = |rate: &u64| (*rate == 0 && *or_zero) || (MIN_RATE..=MAX_RATE).contains(rate);
                *field(config) = rate.filter(is_accepted).ok_or_else(wrong)?;
            }
            Self::Milliseconds(bounds, field) => {
                *field(config) = value.integer().filter(|ms| bounds.contains(ms)).ok_or_else(wrong)?;
            }
            Self::HealDelays(field) => {
                let delays: Option<Vec<u64>> = value.list().and_then(|list| list.iter().map(Value::integer).collect());
                let delays = delays.and_then(|delays| <[u64; 4]>::try_from(delays).ok());
                let is_accepted = |delays: &[u64; 4]| delays.is_sorted() && delays.iter().all(|delay| *delay <= DAY_MS);
                *field(config) = delays.filter(is_accepted).ok_or_else(wrong)?;
            }
        }
        Ok(())
    }
}

fn peers(value: &Value) -> Result<Vec<String>, Value> {
    let list = value.list().ok_or_else(|| value.clone())?;
    if list.len() > MAX_PEERS {
        return Err(Value::Other(format!("a list of {}", list.len())));
    }
    let peer = |peer: &Value| match peer.text() {
        Some(text) if is_peer(text) => Ok(text.to_owned()),
        _ => Err(peer.clone()),
    };
    list.iter().map(peer).collect()
}

fn is_peer(peer: &str) -> bool {
    let Some((host, port)) = peer.rsplit_once(':') else { return false };
    let is_in_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    // An IPv6 address needs brackets: its last group could be the port otherwise.
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.len() <= 253 && host.chars().all(is_in_name),
    };
    // The parser of numbers would accept a sign.
    is_host && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<NonZeroU16>().is_ok()
}

/// `8 MiB`, as `node.toml` writes it.
fn size(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        bytes => human::bytes(bytes).replace(".0 ", " "),
    }
}

/// `3600000 (1 h)`.
fn with_unit(ms: u64) -> String {
    format!("{ms} ({})", human::duration(ms))
}
