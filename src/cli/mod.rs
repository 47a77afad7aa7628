//! The command lines. Each command is a file: its options (for argh), how it runs, what it prints. Nothing else in the
//! library prints.
//!
//! ```text
//!  command_line: words ─▶ argh, with values ─▶ Args ─▶ run() ─▶ client, node ─▶ terminal, progress
//!                └▶ help: what --help prints       ▲           └▶ error: message and exit code
//!                                      client_config: client.toml, CELLSYNC_NODE
//! ```

// Here the library speaks to users.
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
mod colony_options;

mod cellsync;
mod check;
mod client_config;
mod command_line;
#[cfg(all(target_os = "linux", feature = "demo"))]
mod demo;
mod drain;
mod encoded;
mod error;
mod exit_code;
mod get;
mod help;
mod interrupt;
mod ls;
#[cfg(target_os = "linux")]
mod node;
mod progress;
mod put;
mod repair;
mod scrub;
mod status;
mod terminal;
mod values;
mod words;

use argh::CommandInfoWithArgs;

pub use crate::cli::cellsync::cellsync;
pub use crate::cli::client_config::{CLIENT_SETTINGS, ClientConfig, ClientConfigError, ClientSetting};
pub use crate::cli::get::get;
#[cfg(target_os = "linux")]
pub use crate::cli::node::node;
pub use crate::cli::put::put;

/// The description of each program. The manual pages and shell completions are made from it. Options that `--help` does
/// not show are marked as `hidden`.
pub fn commands() -> Vec<CommandInfoWithArgs> {
    Vec::from([
        cellsync::info(),
        put::info(),
        get::info(),
        #[cfg(target_os = "linux")]
        node::info(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::MAX_JOBS;
    use crate::config::{Config, DEFAULT_UDP_PORT};
    use crate::id::DEFAULT_COPIES;
    use crate::id::MAX_HOLDERS;
    use crate::pipeline::Level;

    /// Descriptions of an option, of all commands that have it.
    fn descriptions(option: &str) -> Vec<&'static str> {
        let programs = commands();
        let subcommands = programs.iter().flat_map(|program| &program.commands).map(|command| &command.command);
        let flags = programs.iter().chain(subcommands).flat_map(|command| command.flags);
        let descriptions: Vec<_> =
            flags.filter(|flag| flag.long == option).map(|flag| flag.description.trim()).collect();
        assert!(!descriptions.is_empty(), "{option}");
        descriptions
    }

    /// argh takes descriptions as literals, so numbers in them are held against the constants here.
    #[test]
    fn help_states_bounds_and_defaults() {
        let default_listen = Config::default().listen;
        for (option, fact) in [
            ("--udp-port", format!("(default {DEFAULT_UDP_PORT})")),
            ("--copies", format!("1 to {MAX_HOLDERS}")),
            ("--jobs", format!("1 to {MAX_JOBS}")),
            ("--compress", format!("(default {})", Level::default())),
            ("--data", format!("(default {})", Config::default().data.display())),
            ("--listen", format!("(default {default_listen})")),
            ("--log", format!("(default {})", Config::default().log.as_str().to_lowercase())),
        ] {
            for description in descriptions(option) {
                assert!(description.contains(&fact), "{option}: {fact} is not in: {description}");
            }
        }
        let put = put::info();
        let copies = put.flags.iter().find(|flag| flag.long == "--copies").unwrap();
        assert!(copies.description.contains(&format!("(default {DEFAULT_COPIES})")));
    }
}
