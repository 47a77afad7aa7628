//! The clients' settings, and the table that describes them.

use std::fmt;

use crate::cli::values;
use crate::client::is_pattern;
use crate::config::Value;
use crate::pipeline::Level;

/// The most cells that a file names.
pub(super) const MAX_NODES: usize = 256;
/// The most patterns that a file excludes.
pub(super) const MAX_PATTERNS: usize = 1000;

/// What the files set. The meaning of each field is that of the setting of this name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)] // The table describes them.
pub struct ClientConfig {
    pub nodes: Vec<String>,
    pub udp_port: Option<u16>,
    pub copies: Option<u8>,
    pub min_copies: Option<u8>,
    pub compress: Option<Level>,
    pub exclude: Vec<String>,
}

/// One setting of `client.toml`. Names in its texts stand in backquotes.
pub struct ClientSetting {
    /// The key in the file.
    pub name: &'static str,
    /// What it sets, what prevails over it, and its default.
    pub about: &'static str,
    /// The values that it accepts.
    pub accepts: &'static str,
    /// A value, as the file writes it.
    pub example: &'static str,
    /// Sets the field. If the value is not accepted, nothing changes, and the part of it that is wrong comes back.
    pub(super) assign: fn(&mut ClientConfig, &Value) -> Result<(), Value>,
}

impl fmt::Debug for ClientSetting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("ClientSetting").field(&self.name).finish()
    }
}

/// All settings.
pub const CLIENT_SETTINGS: &[ClientSetting] = &[
    ClientSetting {
        name: "nodes",
        about: "Cells to contact instead of searching the network, for a colony that broadcast does not reach. \
                `--node` and CELLSYNC_NODE prevail over them, and so do `--loopback` and `--udp-port`, which ask for a \
                search.",
        accepts: "a list of at most 256 of http://HOST:PORT, HOST:PORT or HOST",
        example: "[\"10.0.2.7:8080\", \"attic.local\"]",
        assign: |config, value| {
            config.nodes = list(value, MAX_NODES, |node| values::cell_url(node).ok())?;
            Ok(())
        },
    },
    ClientSetting {
        name: "udp_port",
        about: "UDP port for discovery. `--udp-port` prevails over it. Default: 5000.",
        accepts: "1 to 65535",
        example: "5001",
        assign: |config, value| {
            config.udp_port = Some(integer(value, values::udp_port)?);
            Ok(())
        },
    },
    ClientSetting {
        name: "copies",
        about: "Copies of each chunk that cellsync-put makes. `--copies` prevails over it. Default: 5.",
        accepts: "1 to 32",
        example: "3",
        assign: |config, value| {
            config.copies = Some(integer(value, values::copies)?);
            Ok(())
        },
    },
    ClientSetting {
        name: "min_copies",
        about: "The fewest copies of each chunk that cellsync-put accepts, by default 2; never more than it makes. \
                `--min-copies` prevails over it.",
        accepts: "1 to 32",
        example: "2",
        assign: |config, value| {
            config.min_copies = Some(integer(value, values::copies)?);
            Ok(())
        },
    },
    ClientSetting {
        name: "compress",
        about: "Compression level of cellsync-put. `--compress` prevails over it. Default: \"9e\".",
        accepts: "\"0\" (fast) to \"9\" (small), with e for extreme, such as \"9e\"",
        example: "\"6\"",
        assign: |config, value| {
            let level = match value {
                Value::Integer(number) => number.to_string().parse().ok(),
                other => other.parse(),
            };
            config.compress = Some(level.ok_or_else(|| value.clone())?);
            Ok(())
        },
    },
    ClientSetting {
        name: "exclude",
        about: "Patterns of names that cellsync-put leaves out of directories, in addition to those of `--exclude`. \
                Default: none.",
        accepts: "a list of at most 1000 patterns as of --exclude, such as \"*.o\"",
        example: "[\"*.o\", \".cache\"]",
        assign: |config, value| {
            config.exclude = list(value, MAX_PATTERNS, |pattern| is_pattern(pattern).then(|| pattern.to_owned()))?;
            Ok(())
        },
    },
];

/// An integer, by the function that reads the option of this meaning.
fn integer<T>(value: &Value, read: fn(&str) -> Result<T, String>) -> Result<T, Value> {
    let number = value.integer().and_then(|number| read(&number.to_string()).ok());
    number.ok_or_else(|| value.clone())
}

fn list(value: &Value, max: usize, read: fn(&str) -> Option<String>) -> Result<Vec<String>, Value> {
    let list = value.list().ok_or_else(|| value.clone())?;
    if list.len() > max {
        return Err(Value::Other(format!("a list of {}", list.len())));
    }
    list.iter().map(|entry| entry.text().and_then(read).ok_or_else(|| entry.clone())).collect()
}
