//! `cellsync-get`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use argh::{ArgsInfo, CommandInfoWithArgs, FromArgs};

use crate::cli::check::bad_as_json;
use crate::cli::error::{ArgumentError, CommandError};
use crate::cli::progress::{Bar, Direction};
use crate::cli::{colony_scope, failed, jobs, path_or_dash, say, stop_on_interrupt, understand};
use crate::client::{GetOptions, GetReport, Target, default_output_path};
use crate::human;

const NAME: &str = "cellsync-get";

/// Restore from the colony what a manifest describes. Every byte is verified before it is used; nothing half-written is
/// left behind.
#[derive(FromArgs, ArgsInfo)]
struct Args {
    /// the manifest that cellsync-put wrote
    #[argh(positional, arg_name = "manifest", from_str_fn(path_or_dash))]
    manifest: PathBuf,
    /// where to restore to, or - for standard output (default: the manifest's name without .manifest)
    #[argh(option, short = 'o', arg_name = "path", from_str_fn(path_or_dash))]
    output: Option<PathBuf>,
    /// fetch and verify everything, write nothing
    #[argh(switch)]
    check: bool,
    /// ask this cell instead of the network; can be given many times
    #[argh(option, arg_name = "url")]
    node: Vec<String>,
    /// UDP port on which the colony finds itself (default 5000)
    #[argh(option, arg_name = "port")]
    udp_port: Option<u16>,
    /// look for cells on this machine only
    #[argh(switch)]
    loopback: bool,
    /// chunks opened at the same time, 1 to 64 (default: one for each processor)
    #[argh(option, arg_name = "n")]
    jobs: Option<usize>,
    /// print the result as JSON
    #[argh(switch)]
    json: bool,
    /// print nothing but errors
    #[argh(switch)]
    quiet: bool,
    /// write over a file that is there
    #[argh(switch)]
    force: bool,
    /// show the version
    #[argh(switch)]
    #[allow(dead_code)] // Answered before the others are read; here for --help.
    version: bool,
}

/// What it understands.
pub(super) fn info() -> CommandInfoWithArgs {
    CommandInfoWithArgs { name: NAME, ..Args::get_args_info() }
}

/// Runs `cellsync-get`.
pub fn get() -> ExitCode {
    let args: Args = match understand(NAME) {
        Ok(args) => args,
        Err(code) => return code,
    };
    crate::pipeline::keep_freed_memory();
    match run(&args) {
        Ok((report, target)) => {
            // On standard output there is nothing but what was asked for.
            let taken = target == Target::StandardOutput;
            if args.json && !taken {
                say(NAME, &format!("{}\n", as_json(&report, &target)))
            } else if !args.quiet && !taken {
                say(NAME, &format!("{}\n", in_words(&report, &target)))
            } else {
                ExitCode::SUCCESS
            }
        }
        Err(error) => failed(NAME, &error),
    }
}

fn run(args: &Args) -> Result<(GetReport, Target), CommandError> {
    let target = target(args)?;
    let options = GetOptions {
        jobs: jobs(args.jobs)?,
        force: args.force,
        scope: colony_scope(&args.node, args.udp_port, args.loopback)?,
    };
    let bar = Bar::new(NAME, Direction::Get, args.quiet);
    let report = crate::client::get(&args.manifest, &target, &options, &bar, &stop_on_interrupt());
    bar.clear();
    Ok((report?, target))
}

fn target(args: &Args) -> Result<Target, ArgumentError> {
    match &args.output {
        Some(_) if args.check => Err(ArgumentError::Exclusive { one: "--check", other: "-o" }),
        _ if args.check => Ok(Target::Nothing),
        Some(path) if path == Path::new("-") && args.json => {
            Err(ArgumentError::Exclusive { one: "--json", other: "-o -" })
        }
        Some(path) if path == Path::new("-") => Ok(Target::StandardOutput),
        Some(path) => Ok(Target::Path(path.clone())),
        None => match default_output_path(&args.manifest) {
            Some(path) => Ok(Target::Path(path)),
            None => Err(ArgumentError::UnnamedOutput { manifest: args.manifest.clone() }),
        },
    }
}

fn in_words(report: &GetReport, target: &Target) -> String {
    let GetReport { size, chunks, cells, fewest_copies, .. } = *report;
    let what = match target {
        Target::Path(path) => format!("{} restored", path.display()),
        _ => "all can be restored".to_owned(),
    };
    let mut text = format!(
        "{what} ({}, {} from {}; at least {} of each)",
        human::bytes(size),
        human::count(chunks, "chunk"),
        human::count(cells, "cell"),
        human::copies(fewest_copies),
    );
    let bad = report.bad_copies.len();
    if bad > 0 {
        text += &format!("; {bad} bad {} passed over", if bad == 1 { "copy was" } else { "copies were" });
    }
    text
}

fn as_json(report: &GetReport, target: &Target) -> serde_json::Value {
    let bad: Vec<_> = report.bad_copies.iter().map(bad_as_json).collect();
    serde_json::json!({
        "output": if let Target::Path(path) = target { Some(path) } else { None },
        "size": report.size,
        "chunks": report.chunks,
        "fetched_bytes": report.fetched_bytes,
        "fewest_copies": report.fewest_copies,
        "bad_copies": bad,
        "cells": report.cells,
        "requests": report.requests,
    })
}
