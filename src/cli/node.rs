//! `cellsync-node`, and `cellsync node`: one cell, under either name by the same code.

use std::path::PathBuf;
use std::process::ExitCode;

use argh::{ArgsInfo, CommandInfoWithArgs, FromArgs};

use crate::cli::{FAILED, USAGE, complain, say, understand};
use crate::config::{Config, ConfigError, Given};
use crate::node::{NodeError, Started, init, run};

const NAME: &str = "cellsync-node";

/// Run a cell of a storage colony. Options win over the file that --config names.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "node")]
pub(super) struct Args {
    /// read settings from this file (the packages use /etc/cellsync/node.toml)
    #[argh(option, arg_name = "file")]
    config: Option<PathBuf>,
    /// folder that holds everything the cell keeps (default /var/lib/cellsync)
    #[argh(option, arg_name = "dir")]
    data: Option<PathBuf>,
    /// make the data folder a cell's, if it is empty or not there yet, and start
    #[argh(switch)]
    init: bool,
    /// the same, but end then instead of starting the cell
    #[argh(switch)]
    init_only: bool,
    /// address and TCP port of the HTTP door; port 0 takes a free one (default 0.0.0.0:8080)
    #[argh(option, arg_name = "addr:port")]
    listen: Option<String>,
    /// UDP port on which the colony finds itself (default 5000)
    #[argh(option, arg_name = "port")]
    udp_port: Option<u16>,
    /// live on this machine only: nothing is sent to any network
    #[argh(switch)]
    loopback: bool,
    /// a cell that broadcast does not reach; can be given many times
    #[argh(option, arg_name = "host:port")]
    peer: Vec<String>,
    /// off, error, warn, info, debug or trace (default info)
    #[argh(option, arg_name = "level")]
    log: Option<String>,
    /// room on the disk that is left to others, such as "1 GiB" (default 1 GiB or 5 %, the smaller)
    #[argh(option, arg_name = "size")]
    reserve: Option<String>,
    /// the most that chunks may take in all, such as "20 GiB" (default: what the reserve leaves)
    #[argh(option, arg_name = "size")]
    quota: Option<String>,
    /// any setting of node.toml by its name there, with its value as there (words in quotes); can be given many times
    #[argh(option, arg_name = "key=value")]
    set: Vec<String>,
    /// end at once when this process, which started the cell, ends; for cells that are thrown away
    #[argh(option, hidden_help, arg_name = "pid")]
    parent: Option<i32>,
    /// show the version
    #[argh(switch)]
    #[allow(dead_code)] // Answered before the others are read; here for --help.
    version: bool,
}

/// What it understands.
pub(super) fn info() -> CommandInfoWithArgs {
    CommandInfoWithArgs { name: NAME, ..Args::get_args_info() }
}

/// Runs `cellsync-node`.
pub fn node() -> ExitCode {
    match understand(NAME) {
        Ok(args) => run_as(NAME, args),
        Err(code) => code,
    }
}

/// Runs a cell; `name` is what it is called in messages.
pub(super) fn run_as(name: &str, args: Args) -> ExitCode {
    if let Some(parent) = args.parent
        && let Err(what) = die_with(parent)
    {
        complain(name, &format!("--parent {parent}: {what}"));
        return ExitCode::from(FAILED);
    }
    let init_only = args.init_only;
    let config = match configure(args) {
        Ok(config) => config,
        Err(error) => {
            complain(name, &error.to_string());
            return ExitCode::from(USAGE);
        }
    };
    if init_only {
        return match init(&config) {
            Ok(id) => say(name, &format!("cell {id} lives in {}\n", config.data.display())),
            Err(error) => failed(name, &error),
        };
    }
    env_logger::Builder::new().filter_level(config.log).format_target(false).init();
    let started = |Started { id, address }| {
        // A cell that nobody listens to does its work all the same.
        say(name, &format!("cell {id} listens on http://{address} with {}\n", config.data.display()));
    };
    match run(&config, started) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(name, &error),
    }
}

fn failed(name: &str, error: &NodeError) -> ExitCode {
    complain(name, &error.to_string());
    ExitCode::from(if matches!(error, NodeError::Config(_)) { USAGE } else { FAILED })
}

/// The kernel ends this process when its parent ends, whatever the parent dies of. (Exactly: when the thread that
/// started it ends.)
fn die_with(parent: i32) -> Result<(), String> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| error.to_string())?;
    // If it died before the kernel knew, nobody else would tell.
    let actual = rustix::process::getppid().map_or(0, rustix::process::Pid::as_raw_pid);
    if actual == parent { Ok(()) } else { Err("it is not the process that started this cell, or has ended".to_owned()) }
}

fn configure(args: Args) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    if let Some(path) = &args.config {
        config.apply(Given::read(path)?)?;
    }
    for setting in &args.set {
        config.apply(Given::parse_one(setting)?)?;
    }
    config.apply(Given {
        data: args.data,
        listen: args.listen,
        udp_port: args.udp_port,
        loopback: args.loopback.then_some(true),
        peers: (!args.peer.is_empty()).then_some(args.peer),
        log: args.log,
        reserve: args.reserve,
        quota: args.quota,
        ..Given::default()
    })?;
    config.init = args.init;
    config.check()?;
    Ok(config)
}
