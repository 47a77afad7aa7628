//! The configuration of a cell: the options of store, network and cell, gathered.
//!
//! ```text
//!  Config::default() ◀── apply ── Overrides ◀── node.toml, --set KEY=VALUE, options such as --listen
//!                          ▲
//!                        GROUPS: the table of all settings: name, accepted values, field of Config, description
//! ```
//!
//! A new setting is a field of [`Config`] or [`Settings`](crate::cell::Settings), where its default stands, and a row
//! in the table, from which `--help`, the manual page and the `node.toml` of the packages are made.

mod check;
pub(crate) mod document;
mod error;
mod node_config;
mod overrides;
mod setting;
mod settings_table;
#[cfg(test)]
mod tests;
mod value;

pub use crate::config::error::{ConfigError, Origin};
pub use crate::config::node_config::{Config, DEFAULT_PORT, DEFAULT_UDP_PORT};
pub use crate::config::overrides::Overrides;
pub use crate::config::setting::{Group, Setting};
pub use crate::config::settings_table::{GROUPS, settings};
pub use crate::config::value::Value;
