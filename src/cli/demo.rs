//! `cellsync demo`: a colony of real cells on this machine.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};

use crate::cli::error::{ArgumentError, failed};
use crate::cli::exit_code::FAILED;
use crate::cli::interrupt::stop_on_interrupt;
use crate::cli::terminal::message;
use crate::cli::values;
use crate::demo::{ChaosOptions, Options};

const NAME: &str = "cellsync demo";

/// The attack kills four of these and leaves five, which can still hold five copies of each chunk.
const DEFAULT_CELLS: usize = 9;
const MAX_CELLS: usize = 50;
const MAX_CHAOS_SECONDS: u64 = 3600;

/// Watch a colony of real cells on this machine lose cells and copies, heal, and restore a file.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "demo",
    help_triggers("-h", "--help"),
    note = "Nothing leaves this machine, and nothing stays on it.",
    example = "Twelve cells, and a minute of random harm:\n  \
               cellsync demo --cells 12 --chaos 60",
    error_code(0, "the file came back whole"),
    error_code(1, "failed, or stopped"),
    error_code(2, "invalid arguments; nothing was started")
)]
pub(super) struct Args {
    /// file to store; it is only read (default: a generated file)
    #[argh(positional, arg_name = "file", from_str_fn(values::path_or_dash))]
    file: Option<PathBuf>,
    /// number of cells, 1 to 50 (default 9)
    #[argh(option, arg_name = "n", default = "DEFAULT_CELLS", from_str_fn(number_of_cells))]
    cells: usize,
    /// wait for Enter before each stage
    #[argh(switch)]
    step: bool,
    /// instead of the attack and the stages after it, kill, restart and damage cells at random for 1 to 3600 seconds
    #[argh(option, arg_name = "seconds", from_str_fn(number_of_seconds))]
    chaos: Option<u64>,
    /// with --chaos, repeat the order of events of an earlier run, which printed its seed (default: random)
    #[argh(option, arg_name = "n")]
    seed: Option<u64>,
    /// keep the folder with the cells' data, their logs, the manifests and the restored files
    #[argh(switch)]
    keep: bool,
}

fn number_of_cells(word: &str) -> Result<usize, String> {
    values::number(word, 1..=MAX_CELLS)
}

fn number_of_seconds(word: &str) -> Result<u64, String> {
    values::number(word, 1..=MAX_CHAOS_SECONDS)
}

pub(super) fn run(args: Args) -> ExitCode {
    let options = match options(args) {
        Ok(options) => options,
        Err(error) => return failed(NAME, &error.into()),
    };
    match crate::demo::run(&options, &stop_on_interrupt()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            message(NAME, &error.to_string());
            ExitCode::from(FAILED)
        }
    }
}

fn options(args: Args) -> Result<Options, ArgumentError> {
    if args.seed.is_some() && args.chaos.is_none() {
        return Err(ArgumentError::Requires { option: "--seed", required: "--chaos" });
    }
    if args.step && !std::io::stdin().is_terminal() {
        return Err(ArgumentError::NoTerminal);
    }
    if let Some(path) = args.file.as_ref().filter(|path| path.exists() && !path.is_file()) {
        return Err(ArgumentError::NotAFile { path: path.clone() });
    }
    let chaos = args.chaos.map(|seconds| ChaosOptions { seconds, seed: args.seed });
    Ok(Options { file: args.file, cells: args.cells, step: args.step, chaos, keep: args.keep })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_states_bounds_and_defaults() {
        let describes = |option: &str, facts: [&str; 2]| {
            let flag = Args::get_args_info().flags.iter().find(|flag| flag.long == option).unwrap();
            assert!(facts.iter().all(|fact| flag.description.contains(fact)), "{}", flag.description);
        };
        describes("--cells", [&format!("1 to {MAX_CELLS}"), &format!("(default {DEFAULT_CELLS})")]);
        describes("--chaos", [&format!("1 to {MAX_CHAOS_SECONDS}"), "seconds"]);
    }
}
