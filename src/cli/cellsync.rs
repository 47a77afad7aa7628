//! `cellsync`: inspecting and maintaining a colony.

use std::process::ExitCode;

use argh::{ArgsInfo, CommandInfoWithArgs, FromArgs};

use crate::cli::command_line::parse;
#[cfg(all(target_os = "linux", feature = "demo"))]
use crate::cli::demo;
#[cfg(target_os = "linux")]
use crate::cli::node;
use crate::cli::{check, drain, ls, repair, scrub, status};

const NAME: &str = "cellsync";

/// Inspect and maintain a storage colony.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    help_triggers("-h", "--help"),
    note = "Cells are found by broadcast in the local network; where that does not reach them, --node names one.",
    example = "List the cells of this network, or of another one:\n  \
               cellsync status\n  \
               cellsync status --node http://10.0.2.7:8080",
    example = "Count the copies of a file, and have each of them read and verified:\n  \
               cellsync check album.tar.manifest --deep",
    example = "List the files of a stored directory:\n  \
               cellsync ls photos.manifest",
    example = "Make missing copies now:\n  \
               cellsync repair album.tar.manifest",
    example = "Prepare a cell to be unplugged, or cancel that:\n  \
               cellsync drain a419a923\n  \
               cellsync drain --undo a419a923",
    error_code(0, "done; for commands that check copies: all is well"),
    error_code(1, "failed, or stopped"),
    error_code(2, "invalid arguments; nothing was done"),
    error_code(3, "no cell responds, or there are too few cells or copies"),
    error_code(4, "chunks are missing: they are on no cell that responds"),
    error_code(5, "data is corrupt: bad copies were found")
)]
struct Args {
    #[argh(subcommand)]
    command: Command,
    /// print the version
    #[argh(switch, short = 'V')]
    #[allow(dead_code)] // Handled before all others; here for --help.
    version: bool,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
enum Command {
    Status(status::Args),
    Ls(ls::Args),
    Check(check::Args),
    Repair(repair::Args),
    Drain(drain::Args),
    Scrub(scrub::Args),
    #[cfg(all(target_os = "linux", feature = "demo"))]
    Demo(demo::Args),
    #[cfg(target_os = "linux")]
    Node(node::Args),
}

pub(super) fn info() -> CommandInfoWithArgs {
    CommandInfoWithArgs { name: NAME, ..Args::get_args_info() }
}

/// Runs `cellsync`.
pub fn cellsync() -> ExitCode {
    let args: Args = match parse(NAME) {
        Ok(args) => args,
        Err(code) => return code,
    };
    match args.command {
        Command::Status(args) => status::run(&args),
        Command::Ls(args) => ls::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Repair(args) => repair::run(&args),
        Command::Drain(args) => drain::run(&args),
        Command::Scrub(args) => scrub::run(&args),
        #[cfg(all(target_os = "linux", feature = "demo"))]
        Command::Demo(args) => demo::run(args),
        #[cfg(target_os = "linux")]
        Command::Node(args) => node::run_as(node::SUBCOMMAND, args),
    }
}
