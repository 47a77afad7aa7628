//! Why a client's configuration cannot be used.

use std::io;
use std::path::PathBuf;

use crate::cli::client_config::settings::{CLIENT_SETTINGS, ClientSetting};
use crate::config::{Origin, Value};

/// Why a client's configuration cannot be used. Each is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientConfigError {
    /// The file exists and cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is longer than any configuration.
    #[error("{} is longer than {max_bytes} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        max_bytes: u64,
    },
    /// This is not TOML.
    #[error("{origin}: {message}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// The message of the TOML parser.
        message: String,
    },
    /// No setting has this name.
    #[error("{origin}: unknown setting `{name}`; there are {}", names())]
    UnknownSetting {
        /// Where.
        origin: Origin,
        /// The name.
        name: String,
    },
    /// The setting does not accept this value.
    #[error("{origin}: {} cannot be {value}; it accepts {}", setting.name, setting.accepts)]
    InvalidValue {
        /// Where.
        origin: Origin,
        /// The setting.
        setting: &'static ClientSetting,
        /// The value, or the part of it that is not accepted.
        value: Value,
    },
    /// An environment variable has no such value.
    #[error("{name}: {value:?}: {expected}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// The part of its value that is not accepted.
        value: String,
        /// What is accepted.
        expected: String,
    },
}

fn names() -> String {
    CLIENT_SETTINGS.iter().map(|setting| setting.name).collect::<Vec<_>>().join(", ")
}
