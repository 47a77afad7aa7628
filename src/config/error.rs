//! Why a configuration cannot be used.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::setting::Setting;
use crate::config::value::Value;

/// Why a configuration cannot be used. Each is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// This is not TOML.
    #[error("{origin}: {message}{}", origin.syntax_hint())]
    Syntax {
        /// Where it was given.
        origin: Origin,
        /// The message of the TOML parser.
        message: String,
    },
    /// `--set` needs one assignment in one line.
    #[error("--set {text}: expected KEY=VALUE")]
    NoAssignment {
        /// What was given.
        text: String,
    },
    /// No setting has this name.
    #[error("{origin}: unknown setting `{name}`; cellsync-node --help lists all settings")]
    UnknownSetting {
        /// Where it was given.
        origin: Origin,
        /// The name.
        name: String,
    },
    /// The setting does not accept this value.
    #[error("{origin}: {} cannot be {value}; it accepts {}", setting.name, setting.accepts())]
    InvalidValue {
        /// Where it was given.
        origin: Origin,
        /// The setting.
        setting: &'static Setting,
        /// The value, or the part of it that is not accepted.
        value: Value,
    },
    /// A lost datagram would make a cell silent.
    #[error(
        "silent_after_ms = {silent_after_ms} is too short: it must be at least 3 times beacon_ms, which is {min_ms}"
    )]
    ShortSilence {
        /// The setting.
        silent_after_ms: u64,
        /// The shortest that goes with `beacon_ms`.
        min_ms: u64,
    },
    /// A cell would be forgotten while it is active.
    #[error("forget_ms = {forget_ms} is too short: it must be at least silent_after_ms, which is {silent_after_ms}")]
    ShortMemory {
        /// The setting.
        forget_ms: u64,
        /// The shortest that is possible.
        silent_after_ms: u64,
    },
    /// Beacons need a port that others know.
    #[error("udp_port = 0: choose one port from 1 to 65535 for the whole colony")]
    NoUdpPort,
    /// A cell that uses only the loopback interface would serve other machines.
    #[error("listen = \"{listen}\" does not go with loopback = true: choose an address of 127.0.0.0/8")]
    NotOnLoopback {
        /// The address to listen on.
        listen: SocketAddr,
    },
    /// The cell would send beacons to a network from which it cannot be reached.
    #[error(
        "listen = \"{listen}\" can only be reached from this machine; for a colony on one machine also set loopback = \
         true"
    )]
    OnlyOnLoopback {
        /// The address to listen on.
        listen: SocketAddr,
    },
}

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line in it, from 1.
        line: usize,
    },
    /// With `--set`.
    Set {
        /// `KEY=VALUE`.
        text: String,
    },
    /// With an option of its own.
    Option {
        /// The option, with its dashes.
        name: &'static str,
    },
}

impl Origin {
    fn syntax_hint(&self) -> &'static str {
        match self {
            Self::File { .. } | Self::Option { .. } => "",
            Self::Set { .. } => "; values are written as in node.toml, with text and sizes in quotes",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(formatter, "{}, line {line}", path.display()),
            Self::Set { text } => write!(formatter, "--set {text}"),
            Self::Option { name } => formatter.write_str(name),
        }
    }
}
