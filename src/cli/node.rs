//! `cellsync-node`, and `cellsync node`, which is the same: one cell.

use std::path::PathBuf;
use std::process::ExitCode;

use argh::{ArgsInfo, CommandInfoWithArgs, FromArgs};

use crate::cli::command_line::parse;
use crate::cli::exit_code::{FAILED, USAGE};
use crate::cli::terminal::{message, print, shown_path};
use crate::cli::values;
use crate::config::{Config, ConfigError, Overrides, Value};
use crate::node::{NodeError, Started, init, run};

const NAME: &str = "cellsync-node";
/// The same command within `cellsync`.
pub(super) const SUBCOMMAND: &str = "cellsync node";

/// Run a cell of a storage colony.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "node",
    help_triggers("-h", "--help"),
    note = "Options take precedence over the settings in the file that --config names.",
    example = "Start a cell for the first time, and later:\n  \
               cellsync-node --init --data /srv/cellsync\n  \
               cellsync-node --data /srv/cellsync",
    example = "Start it with the settings of a file, except for one:\n  \
               cellsync-node --config /etc/cellsync/node.toml --set heal_rate='\"2 MiB\"'",
    example = "Run a cell on this machine only, to try it out:\n  \
               cellsync-node --init --data /tmp/cell --loopback --listen 127.0.0.1:0",
    error_code(0, "ended by a signal, in order"),
    error_code(1, "failed"),
    error_code(2, "invalid arguments or settings; do not restart unchanged")
)]
pub(super) struct Args {
    /// read settings from this file (the packages use /etc/cellsync/node.toml)
    #[argh(option, arg_name = "file", from_str_fn(values::path_or_dash))]
    config: Option<PathBuf>,
    /// folder that holds all data of the cell (default /var/lib/cellsync)
    #[argh(option, arg_name = "dir", from_str_fn(values::text))]
    data: Option<String>,
    /// initialize the data folder, if it is empty or does not exist, and start
    #[argh(switch)]
    init: bool,
    /// initialize the data folder and exit
    #[argh(switch)]
    init_only: bool,
    /// address and TCP port of the HTTP server; port 0 selects a free one (default 0.0.0.0:8080)
    #[argh(option, arg_name = "addr:port", from_str_fn(values::text))]
    listen: Option<String>,
    /// UDP port for discovery (default 5000)
    #[argh(option, arg_name = "port", from_str_fn(values::udp_port))]
    udp_port: Option<u16>,
    /// use only the loopback interface; nothing is sent to any network
    #[argh(switch)]
    loopback: bool,
    /// address of a cell that broadcast does not reach; can be repeated
    #[argh(option, arg_name = "host:port", from_str_fn(values::text))]
    peer: Vec<String>,
    /// least severe messages to log: off, error, warn, info, debug or trace (default info)
    #[argh(option, arg_name = "level", from_str_fn(values::text))]
    log: Option<String>,
    /// disk space to leave free, such as "1 GiB" (default: 1 GiB or 5 % of the disk, whichever is smaller)
    #[argh(option, arg_name = "size", from_str_fn(values::text))]
    reserve: Option<String>,
    /// maximum disk space for chunks, such as "20 GiB" (default: as much as the reserve leaves)
    #[argh(option, arg_name = "size", from_str_fn(values::text))]
    quota: Option<String>,
    /// set any setting, with its value as in node.toml (text in quotes); can be repeated
    #[argh(option, arg_name = "key=value", from_str_fn(values::text))]
    set: Vec<String>,
    /// exit when this process, which must be the parent, ends; for disposable cells
    #[argh(option, hidden_help, arg_name = "pid")]
    parent: Option<i32>,
    /// print the version
    #[argh(switch, short = 'V')]
    #[allow(dead_code)] // Handled before all others; here for --help.
    version: bool,
}

pub(super) fn info() -> CommandInfoWithArgs {
    CommandInfoWithArgs { name: NAME, ..Args::get_args_info() }
}

/// Runs `cellsync-node`.
pub fn node() -> ExitCode {
    match parse(NAME) {
        Ok(args) => run_as(NAME, args),
        Err(code) => code,
    }
}

/// Runs a cell. Messages begin with `name`.
pub(super) fn run_as(name: &str, args: Args) -> ExitCode {
    if let Some(parent) = args.parent
        && let Err(error) = die_with(parent)
    {
        message(name, &format!("--parent {parent}: {error}"));
        return ExitCode::from(FAILED);
    }
    let init_only = args.init_only;
    let config = match configure(args) {
        Ok(config) => config,
        Err(error) => return failed(name, &error.into()),
    };
    if init_only {
        return match init(&config) {
            Ok(id) => print(name, &format!("cell {id} is initialized in {}\n", shown_path(&config.data))),
            Err(error) => failed(name, &error),
        };
    }
    env_logger::Builder::new().filter_level(config.log).format_target(false).init();
    let started = |Started { id, address }| {
        // A failure to print does not stop the cell.
        print(name, &format!("cell {id} listens on http://{address} with {}\n", shown_path(&config.data)));
    };
    match run(&config, started) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(name, &error),
    }
}

fn failed(name: &str, error: &NodeError) -> ExitCode {
    message(name, &error.to_string());
    ExitCode::from(if matches!(error, NodeError::Config(_)) { USAGE } else { FAILED })
}

/// Makes the kernel kill this process when its parent ends, however that happens. (More precisely: when the thread that
/// started it ends.)
fn die_with(parent: i32) -> Result<(), String> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| error.to_string())?;
    // A parent that ended before that call causes no signal.
    let actual = rustix::process::getppid().map_or(0, rustix::process::Pid::as_raw_pid);
    if actual == parent { Ok(()) } else { Err("it is not the parent of this process, or has ended".to_owned()) }
}

fn configure(args: Args) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    if let Some(path) = &args.config {
        config.apply(&Overrides::read(path)?)?;
    }
    for setting in &args.set {
        config.apply(&Overrides::parse_set(setting)?)?;
    }
    config.init = args.init;
    config.apply(&options(args)?)?;
    config.check()?;
    Ok(config)
}

/// The settings that have an option of their own.
fn options(args: Args) -> Result<Overrides, ConfigError> {
    let mut options = Overrides::default();
    for (option, setting, value) in [
        ("--data", "data", args.data.map(Value::Text)),
        ("--listen", "listen", args.listen.map(Value::Text)),
        ("--udp-port", "udp_port", args.udp_port.map(|port| Value::Integer(port.into()))),
        ("--loopback", "loopback", args.loopback.then_some(Value::Switch(true))),
        (
            "--peer",
            "peers",
            (!args.peer.is_empty()).then(|| Value::List(args.peer.into_iter().map(Value::Text).collect())),
        ),
        ("--log", "log", args.log.map(Value::Text)),
        ("--reserve", "reserve", args.reserve.map(Value::Text)),
        ("--quota", "quota", args.quota.map(Value::Text)),
    ] {
        if let Some(value) = value {
            options.add_option(option, setting, value)?;
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The options that stand for a setting.
    fn option_of(setting: &str) -> &'static argh::FlagInfo<'static> {
        let option = format!("--{}", setting.replace('_', "-").replace("peers", "peer"));
        Args::get_args_info().flags.iter().find(|flag| flag.long == option).unwrap()
    }

    /// argh takes descriptions as literals, so they are held against the table of settings here.
    #[test]
    fn options_are_described_as_their_settings() {
        for name in ["data", "listen", "udp_port", "loopback", "log", "reserve", "quota"] {
            let setting = crate::config::settings().find(|setting| setting.name == name).unwrap();
            let (description, summary) = (option_of(name).description, setting.summary);
            assert!(description.to_lowercase().contains(&summary.to_lowercase()), "{description}\n{summary}");
            let default = setting.default_text().replace('"', "");
            assert!(name == "loopback" || description.contains(&default), "{description}\n{default}");
        }
    }

    #[test]
    fn options_win_over_set_and_set_over_defaults() {
        let words = ["--set", "udp_port=5001", "--set", "quota=\"1 GiB\"", "--udp-port", "5002", "--peer", "pi:1"];
        let config = configure(Args::from_args(&[NAME], &words).unwrap()).unwrap();
        assert_eq!(
            (config.udp_port, config.quota, config.peers.as_slice()),
            (5002, Some(1 << 30), &["pi:1".to_owned()][..])
        );
        let args = Args::from_args(&[NAME], &["--listen", "8080"]).unwrap();
        let error = configure(args).unwrap_err().to_string();
        assert!(error.starts_with("--listen: listen cannot be \"8080\""), "{error}");
    }
}
