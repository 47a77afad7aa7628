//! `cellsync`: looking at a colony, and showing what one does.

use std::process::ExitCode;

use argh::FromArgs;

#[cfg(target_os = "linux")]
use super::{demo, node};
use super::{status, understand};

const NAME: &str = "cellsync";

/// Look at a storage colony, or watch one at work.
#[derive(FromArgs)]
struct Args {
    #[argh(subcommand)]
    command: Command,
    /// show the version
    #[argh(switch)]
    #[allow(dead_code)] // Answered before the others are read; here for --help.
    version: bool,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Status(status::Args),
    #[cfg(target_os = "linux")]
    Demo(demo::Args),
    #[cfg(target_os = "linux")]
    Node(node::Args),
}

/// Runs `cellsync`.
pub fn tool() -> ExitCode {
    let args: Args = match understand(NAME) {
        Ok(args) => args,
        Err(code) => return code,
    };
    match args.command {
        Command::Status(args) => status::run(&args),
        #[cfg(target_os = "linux")]
        Command::Demo(args) => demo::run(&args),
        #[cfg(target_os = "linux")]
        Command::Node(args) => node::run_as("cellsync node", args),
    }
}
