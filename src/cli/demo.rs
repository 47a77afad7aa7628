//! `cellsync demo`: a colony of real cells on this machine.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};

use crate::cli::error::ArgumentError;
use crate::cli::{FAILED, complain, failed, stop_on_interrupt};
use crate::demo::{ChaosOptions, Options};

const NAME: &str = "cellsync demo";

/// The attack kills four of these and leaves five, which can still hold five copies of each chunk.
const DEFAULT_CELLS: usize = 9;
const MAX_CELLS: usize = 50;
const MAX_CHAOS_SECONDS: u64 = 3600;

/// Run a colony of real cells on this machine: store a file, kill cells, damage copies, expose a lying cell, and restore
/// the file. Nothing leaves this machine, and nothing stays on it.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "demo")]
pub(super) struct Args {
    /// file to store; it is only read (default: a generated file)
    #[argh(positional, arg_name = "file")]
    file: Option<PathBuf>,
    /// number of cells, 1 to 50 (default 9)
    #[argh(option, arg_name = "n")]
    cells: Option<usize>,
    /// wait for Enter before each stage
    #[argh(switch)]
    step: bool,
    /// instead of the attack and the stages after it, kill, revive and damage cells at random for this many seconds, 1 to
    /// 3600
    #[argh(option, arg_name = "seconds")]
    chaos: Option<u64>,
    /// with --chaos, repeat the order of events of an earlier run, which printed its seed (default: random)
    #[argh(option, arg_name = "n")]
    seed: Option<u64>,
    /// keep the folder with the cells' data, their logs, the manifests and the restored files
    #[argh(switch)]
    keep: bool,
}

pub(super) fn run(args: Args) -> ExitCode {
    let options = match options(args) {
        Ok(options) => options,
        Err(error) => return failed(NAME, &error.into()),
    };
    match crate::demo::run(&options, &stop_on_interrupt()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(NAME, &error.to_string());
            ExitCode::from(FAILED)
        }
    }
}

fn options(args: Args) -> Result<Options, ArgumentError> {
    let cells = args.cells.unwrap_or(DEFAULT_CELLS);
    if !(1..=MAX_CELLS).contains(&cells) {
        return Err(ArgumentError::OutOfRange { option: "--cells", max: MAX_CELLS as u64 });
    }
    let chaos = match (args.chaos, args.seed) {
        (Some(seconds), _) if !(1..=MAX_CHAOS_SECONDS).contains(&seconds) => {
            return Err(ArgumentError::OutOfRange { option: "--chaos", max: MAX_CHAOS_SECONDS });
        }
        (None, Some(_)) => return Err(ArgumentError::Requires { option: "--seed", required: "--chaos" }),
        (seconds, seed) => seconds.map(|seconds| ChaosOptions { seconds, seed }),
    };
    if args.step && !std::io::stdin().is_terminal() {
        return Err(ArgumentError::NoTerminal);
    }
    if let Some(path) = args.file.as_ref().filter(|path| path.exists() && !path.is_file()) {
        return Err(ArgumentError::NotAFile { path: path.clone() });
    }
    Ok(Options { file: args.file, cells, step: args.step, chaos, keep: args.keep })
}
