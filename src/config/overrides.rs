//! Settings that a file or the command line gives, in place of the defaults.

use std::path::Path;

use crate::config::document::{self, Entry, NotToml};
use crate::config::error::{ConfigError, Origin};
use crate::config::node_config::Config;
use crate::config::setting::Setting;
use crate::config::settings_table::{find, settings};
use crate::config::value::Value;

/// Settings that a file or the command line gives.
#[derive(Debug, Default)]
pub struct Overrides(Vec<Override>);

#[derive(Debug)]
struct Override {
    origin: Origin,
    setting: &'static Setting,
    value: Value,
}

impl Overrides {
    /// Reads a `node.toml`.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Parses a `node.toml` that was read from `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        Self::document(text, |offset| Origin::File { path: path.to_owned(), line: document::line(text, offset) })
    }

    /// Parses one setting as `KEY=VALUE`, with the value as in a `node.toml`.
    pub fn parse_set(text: &str) -> Result<Self, ConfigError> {
        let is_key =
            |key: &str| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match text.split_once('=') {
            Some((key, _)) if is_key(key.trim()) && !text.contains('\n') => {}
            _ => return Err(ConfigError::NoAssignment { text: text.to_owned() }),
        }
        Self::document(text, |_| Origin::Set { text: text.to_owned() })
    }

    /// Adds the value of an option that stands for the setting `name`.
    pub fn add_option(&mut self, option: &'static str, name: &str, value: Value) -> Result<(), ConfigError> {
        self.add(Origin::Option { name: option }, name, value)
    }

    fn document(text: &str, origin: impl Fn(usize) -> Origin) -> Result<Self, ConfigError> {
        let entries = document::parse(text)
            .map_err(|NotToml { offset, message }| ConfigError::Syntax { origin: origin(offset), message })?;
        let mut overrides = Self::default();
        for Entry { name, value, offset } in entries {
            overrides.add(origin(offset), &name, value)?;
        }
        Ok(overrides)
    }

    fn add(&mut self, origin: Origin, name: &str, value: Value) -> Result<(), ConfigError> {
        match find(name) {
            Some(setting) => self.0.push(Override { origin, setting, value }),
            None => return Err(ConfigError::UnknownSetting { origin, name: name.to_owned() }),
        }
        Ok(())
    }
}

impl Config {
    /// Sets what `overrides` gives, in the order of the settings' table. All else stays.
    pub fn apply(&mut self, overrides: &Overrides) -> Result<(), ConfigError> {
        for setting in settings() {
            for given in overrides.0.iter().filter(|given| given.setting.name == setting.name) {
                setting.assign(self, &given.value).map_err(|value| ConfigError::InvalidValue {
                    origin: given.origin.clone(),
                    setting,
                    value,
                })?;
            }
        }
        Ok(())
    }
}
