//! From the words of the command line to a command's arguments.

use std::process::ExitCode;

use argh::{ArgsInfo, CommandInfoWithArgs, FromArgs};

use crate::cli::encoded::shown;
use crate::cli::exit_code::USAGE;
use crate::cli::help;
use crate::cli::terminal::{message, print};
use crate::cli::words::{Request, WordError, sort};

/// All programs. A user may take one for a subcommand of `cellsync`.
const PROGRAMS: [&str; 4] = ["cellsync", "cellsync-put", "cellsync-get", "cellsync-node"];

/// Parses the command line of a program. `--help`, `--version` and invalid arguments are dealt with here, and leave
/// nothing to do but to return the exit code.
pub(super) fn parse<T: FromArgs + ArgsInfo>(program: &'static str) -> Result<T, ExitCode> {
    let info = CommandInfoWithArgs { name: program, ..T::get_args_info() };
    let line = sort(&info, &PROGRAMS, std::env::args_os().skip(1))
        .map_err(|WordError { command, problem }| refuse(&command, &problem.to_string()))?;
    if line.request == Request::Version {
        return Err(print(program, &format!("{program} {}\n", env!("CARGO_PKG_VERSION"))));
    }
    let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
    T::from_args(&[program], &words).map_err(|exit| match exit.status {
        Ok(()) => print(program, &help::text(&exit.output)),
        Err(()) => refuse(&line.command, &shown(&one_line(&exit.output))),
    })
}

fn refuse(command: &str, problem: &str) -> ExitCode {
    let end = if problem.ends_with('?') { " See" } else { "; see" };
    message(command, &format!("{problem}{end} {command} --help"));
    ExitCode::from(USAGE)
}

/// The message of argh in one line, without its own reference to `--help`.
fn one_line(message: &str) -> String {
    let lines = message.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("Run "));
    lines.collect::<Vec<_>>().join(" ")
}
