//! `cellsync`: looking at a colony and after it, and showing what one does.

use std::process::ExitCode;

use argh::{ArgsInfo, CommandInfoWithArgs, FromArgs};

#[cfg(all(target_os = "linux", feature = "demo"))]
use crate::cli::demo;
#[cfg(target_os = "linux")]
use crate::cli::node;
use crate::cli::{check, drain, repair, scrub, status, understand};

const NAME: &str = "cellsync";

/// Look at a storage colony and after it, or watch one at work.
#[derive(FromArgs, ArgsInfo)]
struct Args {
    #[argh(subcommand)]
    command: Command,
    /// show the version
    #[argh(switch)]
    #[allow(dead_code)] // Answered before the others are read; here for --help.
    version: bool,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
enum Command {
    Status(status::Args),
    Check(check::Args),
    Repair(repair::Args),
    Drain(drain::Args),
    Scrub(scrub::Args),
    #[cfg(all(target_os = "linux", feature = "demo"))]
    Demo(demo::Args),
    #[cfg(target_os = "linux")]
    Node(node::Args),
}

/// What it understands.
pub(super) fn info() -> CommandInfoWithArgs {
    CommandInfoWithArgs { name: NAME, ..Args::get_args_info() }
}

/// Runs `cellsync`.
pub fn tool() -> ExitCode {
    let args: Args = match understand(NAME) {
        Ok(args) => args,
        Err(code) => return code,
    };
    match args.command {
        Command::Status(args) => status::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Repair(args) => repair::run(&args),
        Command::Drain(args) => drain::run(&args),
        Command::Scrub(args) => scrub::run(&args),
        #[cfg(all(target_os = "linux", feature = "demo"))]
        Command::Demo(args) => demo::run(args),
        #[cfg(target_os = "linux")]
        Command::Node(args) => node::run_as("cellsync node", args),
    }
}
