//! The configuration of the clients: `client.toml`, and the environment variable that names cells.
//!
//! ```text
//!  option ─▶ CELLSYNC_NODE ─▶ the user's client.toml ─▶ /etc/cellsync/client.toml ─▶ default
//! ```
//!
//! Each setting is taken from the first of these that has it. [`CLIENT_SETTINGS`] describes the settings; the manual
//! page is made from it.

mod error;
mod files;
mod settings;

use std::path::Path;

pub use crate::cli::client_config::error::ClientConfigError;
pub use crate::cli::client_config::settings::{CLIENT_SETTINGS, ClientConfig, ClientSetting};

use crate::cli::values;
use crate::client::ColonyScope;
use crate::config::document::{self, Entry, NotToml};
use crate::config::{DEFAULT_UDP_PORT, Origin};

/// The environment variable with cells to contact.
const NODE_VARIABLE: &str = "CELLSYNC_NODE";

impl ClientConfig {
    /// Reads the files, those that exist.
    pub(super) fn load() -> Result<Self, ClientConfigError> {
        let mut config = Self::default();
        for path in files::paths() {
            if let Some(text) = files::read(&path)? {
                config.apply(&text, &path)?;
            }
        }
        Ok(config)
    }

    /// Sets what the text of the file at `path` sets. All else stays.
    pub fn apply(&mut self, text: &str, path: &Path) -> Result<(), ClientConfigError> {
        let origin = |offset| Origin::File { path: path.to_owned(), line: document::line(text, offset) };
        let entries = document::parse(text)
            .map_err(|NotToml { offset, message }| ClientConfigError::Syntax { origin: origin(offset), message })?;
        for Entry { name, value, offset } in entries {
            let Some(setting) = CLIENT_SETTINGS.iter().find(|setting| setting.name == name) else {
                return Err(ClientConfigError::UnknownSetting { origin: origin(offset), name });
            };
            (setting.assign)(self, &value).map_err(|value| ClientConfigError::InvalidValue {
                origin: origin(offset),
                setting,
                value,
            })?;
        }
        Ok(())
    }

    /// Where to search for the colony, with the options of the command line. An option that says how to search prevails
    /// over cells that are named elsewhere.
    pub(super) fn scope(
        &self,
        nodes: &[String],
        udp_port: Option<u16>,
        loopback: bool,
    ) -> Result<ColonyScope, ClientConfigError> {
        let nodes = match nodes {
            [] if udp_port.is_some() || loopback => Vec::new(),
            [] => match std::env::var_os(NODE_VARIABLE).filter(|value| !value.is_empty()) {
                Some(value) => nodes_of_variable(&value.to_string_lossy())?,
                None => self.nodes.clone(),
            },
            named => named.to_vec(),
        };
        let udp_port = udp_port.or(self.udp_port).unwrap_or(DEFAULT_UDP_PORT);
        Ok(ColonyScope { nodes, udp_port, loopback })
    }
}

/// The cells that the variable names, with spaces or commas between them.
fn nodes_of_variable(value: &str) -> Result<Vec<String>, ClientConfigError> {
    let words = value.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    words.map(|word| values::cell_url(word).map_err(|expected| variable_error(word, expected))).collect()
}

fn variable_error(word: &str, expected: String) -> ClientConfigError {
    ClientConfigError::Variable { name: NODE_VARIABLE, value: word.to_owned(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client_config::settings::{MAX_NODES, MAX_PATTERNS};
    use crate::id::{DEFAULT_COPIES, MAX_HOLDERS};
    use crate::pipeline::Level;

    #[test]
    fn options_prevail_over_the_file() {
        let mut config = ClientConfig::default();
        config.apply("nodes = [\"a:1\"]\nudp_port = 7", Path::new("client.toml")).unwrap();
        let scope = |nodes: &[String], udp_port, loopback| config.scope(nodes, udp_port, loopback).unwrap();
        let expected = |nodes: &[&str], udp_port, loopback| ColonyScope {
            nodes: nodes.iter().map(ToString::to_string).collect(),
            udp_port,
            loopback,
        };
        assert_eq!(scope(&[], None, false), expected(&["http://a:1"], 7, false));
        assert_eq!(scope(&["http://b:2".to_owned()], None, false), expected(&["http://b:2"], 7, false));
        assert_eq!(scope(&[], None, true), expected(&[], 7, true));
        assert_eq!(scope(&[], Some(8), false), expected(&[], 8, false));
        assert_eq!(ClientConfig::default().scope(&[], None, false).unwrap(), expected(&[], DEFAULT_UDP_PORT, false));
    }

    #[test]
    fn the_variable_names_several_cells() {
        assert_eq!(nodes_of_variable(" a:1,b  http://c:2/,\n").unwrap(), ["http://a:1", "http://b:8080", "http://c:2"]);
        assert_eq!(nodes_of_variable(" , ").unwrap(), [""; 0]);
        let error = nodes_of_variable("a:1 b:x").unwrap_err().to_string();
        assert_eq!(error, "CELLSYNC_NODE: \"b:x\": expected http://HOST:PORT or HOST:PORT");
    }

    fn read(text: &str) -> Result<ClientConfig, String> {
        let mut config = ClientConfig::default();
        config.apply(text, Path::new("client.toml")).map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn every_setting_is_taken_over() {
        let text = "nodes = [\"a:1\", \"http://b\"]\nudp_port = 2\ncopies = 3\nmin_copies = 2\ncompress = \"4e\"\n\
                    exclude = [\"*.o\", \"cache/\"]";
        let expected = ClientConfig {
            nodes: vec!["http://a:1".into(), "http://b".into()],
            udp_port: Some(2),
            copies: Some(3),
            min_copies: Some(2),
            compress: "4e".parse().ok(),
            exclude: vec!["*.o".into(), "cache/".into()],
        };
        assert_eq!(read(text).unwrap(), expected);
        assert_eq!(text.lines().count(), CLIENT_SETTINGS.len());
        assert_eq!(read("compress = 4").unwrap().compress, "4".parse().ok());
        assert_eq!(read("# nothing\n").unwrap(), ClientConfig::default());
    }

    #[test]
    fn a_later_file_prevails_setting_by_setting() {
        let mut config = read("copies = 3\nnodes = [\"a:1\"]").unwrap();
        config.apply("copies = 4\nexclude = []", Path::new("other.toml")).unwrap();
        assert_eq!((config.copies, config.nodes.len()), (Some(4), 1));
    }

    #[test]
    fn settings_are_described_with_their_bounds_and_defaults() {
        for setting in CLIENT_SETTINGS {
            read(&format!("{} = {}", setting.name, setting.example)).unwrap();
            assert!(setting.about.is_ascii() && setting.about.ends_with('.'), "{}", setting.about);
        }
        let setting = |name| CLIENT_SETTINGS.iter().find(|setting| setting.name == name).unwrap();
        for (name, fact) in [
            ("udp_port", format!("Default: {DEFAULT_UDP_PORT}.")),
            ("copies", format!("Default: {DEFAULT_COPIES}.")),
            ("compress", format!("Default: \"{}\".", Level::default())),
        ] {
            assert!(setting(name).about.contains(&fact), "{fact}");
        }
        for (name, fact) in [
            ("nodes", format!("at most {MAX_NODES} ")),
            ("copies", format!("1 to {MAX_HOLDERS}")),
            ("min_copies", format!("1 to {MAX_HOLDERS}")),
            ("exclude", format!("at most {MAX_PATTERNS} ")),
        ] {
            assert!(setting(name).accepts.contains(&fact), "{fact}");
        }
    }

    #[test]
    fn a_refused_value_is_shown_with_its_line() {
        for (text, facts) in [
            ("copies = 3\ncolour = 1", &["client.toml, line 2: ", "`colour`", "nodes, udp_port, copies"][..]),
            ("[put]\ncopies = 3", &["client.toml, line 1: ", "`put`"]),
            ("\n\ncopies = ", &["client.toml, line 3: "]),
            ("copies = 3\ncopies = 4", &["client.toml, line 2: ", "duplicate"]),
            ("copies = 0", &["client.toml, line 1: copies cannot be 0; it accepts 1 to 32"]),
            ("copies = \"3\"", &["copies cannot be \"3\"; it accepts 1 to 32"]),
            ("copies = -1", &["copies cannot be -1"]),
            ("copies = 3.0", &["copies cannot be a float"]),
            ("min_copies = 33", &["min_copies cannot be 33"]),
            ("udp_port = 65536", &["udp_port cannot be 65536; it accepts 1 to 65535"]),
            ("compress = \"fast\"", &["compress cannot be \"fast\"", "\"9e\""]),
            ("compress = 10", &["compress cannot be 10"]),
            ("nodes = \"a:1\"", &["nodes cannot be \"a:1\"; it accepts a list"]),
            ("nodes = [\"a:1\",\n \"b:x\"]", &["line 1: nodes cannot be \"b:x\"", "HOST:PORT"]),
            ("nodes = [1]", &["nodes cannot be 1"]),
            ("exclude = [\"\"]", &["exclude cannot be \"\""]),
            ("exclude = [\"*.o\", \"[\"]", &["exclude cannot be \"[\"; it accepts a list", "--exclude"]),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.lines().count(), 1, "{error}");
            for fact in facts {
                assert!(error.contains(fact), "{text}: no {fact:?} in: {error}");
            }
        }
        let nodes = vec!["\"a:1\""; MAX_NODES + 1].join(",");
        assert!(read(&format!("nodes = [{nodes}]")).unwrap_err().contains("a list of 257"));
    }
}
