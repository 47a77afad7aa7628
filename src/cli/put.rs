//! `cellsync-put`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use argh::{ArgsInfo, CommandInfoWithArgs, FromArgs};

use crate::cli::error::{ArgumentError, CommandError};
use crate::cli::progress::{Bar, Direction};
use crate::cli::{colony_scope, copies, failed, jobs, path_or_dash, say, stop_on_interrupt, understand};
use crate::client::{PutOptions, PutReport, Source, default_manifest_path};
use crate::human;
use crate::id::DEFAULT_COPIES;
use crate::pipeline::Level;

const NAME: &str = "cellsync-put";

/// Store a file or a directory in the colony. What stays here is a small manifest: keep it, and keep it private; it
/// holds the only key. An interrupted put goes on where it was when the same command is run again.
#[derive(FromArgs, ArgsInfo)]
struct Args {
    /// what to store: a file, a directory, or - for standard input
    #[argh(positional, arg_name = "path", from_str_fn(path_or_dash))]
    path: PathBuf,
    /// where the manifest goes (default PATH.manifest)
    #[argh(option, short = 'o', arg_name = "file", from_str_fn(path_or_dash))]
    output: Option<PathBuf>,
    /// copies of each chunk, on as many cells, 1 to 32 (default 5)
    #[argh(option, arg_name = "n")]
    copies: Option<u8>,
    /// accept so few copies when there are not cells enough that take them
    #[argh(option, arg_name = "k")]
    min_copies: Option<u8>,
    /// ask this cell instead of the network; can be given many times
    #[argh(option, arg_name = "url")]
    node: Vec<String>,
    /// UDP port on which the colony finds itself (default 5000)
    #[argh(option, arg_name = "port")]
    udp_port: Option<u16>,
    /// look for cells on this machine only
    #[argh(switch)]
    loopback: bool,
    /// how hard to compress: 0 (fast) to 9 (small), with e for extreme (default 9e)
    #[argh(option, arg_name = "level")]
    compress: Option<Level>,
    /// chunks compressed at the same time, 1 to 64 (default: one for each processor)
    #[argh(option, arg_name = "n")]
    jobs: Option<usize>,
    /// print the result as JSON
    #[argh(switch)]
    json: bool,
    /// print nothing but errors and warnings
    #[argh(switch)]
    quiet: bool,
    /// write over a manifest that is there
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

/// Runs `cellsync-put`.
pub fn put() -> ExitCode {
    let args: Args = match understand(NAME) {
        Ok(args) => args,
        Err(code) => return code,
    };
    crate::pipeline::keep_freed_memory();
    match run(&args) {
        Ok((report, manifest)) => {
            if args.json {
                say(NAME, &format!("{}\n", as_json(&report, &manifest)))
            } else if !args.quiet {
                let copies = args.copies.unwrap_or(DEFAULT_COPIES);
                say(NAME, &format!("{}\n", in_words(&report, &manifest, copies)))
            } else {
                ExitCode::SUCCESS
            }
        }
        Err(error) => failed(NAME, &error),
    }
}

fn run(args: &Args) -> Result<(PutReport, PathBuf), CommandError> {
    let copies = copies(args.copies)?.unwrap_or(DEFAULT_COPIES);
    if args.min_copies.is_some_and(|least| least == 0 || least > copies) {
        return Err(ArgumentError::MinCopies { copies }.into());
    }
    let source = Source::named(&args.path)?;
    let manifest = match &args.output {
        Some(path) if path == Path::new("-") => {
            return Err(ArgumentError::ManifestToStandardOutput.into());
        }
        Some(path) => path.clone(),
        None => default_manifest_path(&source).ok_or(ArgumentError::UnnamedSource)?,
    };
    let options = PutOptions {
        copies,
        min_copies: args.min_copies,
        level: args.compress.unwrap_or_default(),
        jobs: jobs(args.jobs)?,
        force: args.force,
        scope: colony_scope(&args.node, args.udp_port, args.loopback)?,
    };
    let bar = Bar::new(NAME, Direction::Put, args.quiet);
    let report = crate::client::put(&source, &manifest, &options, &bar, &stop_on_interrupt());
    bar.clear();
    Ok((report?, manifest))
}

fn in_words(report: &PutReport, manifest: &Path, copies: u8) -> String {
    let PutReport { size, chunks, short_chunks, fewest_copies, cells, .. } = *report;
    let mut text = format!(
        "{} ({}, {}) on {}: ",
        manifest.display(),
        human::bytes(size),
        human::count(chunks, "chunk"),
        human::count(cells, "cell"),
    );
    if short_chunks == 0 {
        text += &format!("{copies} copies of each");
    } else {
        text += &format!("{short_chunks} with fewer than the {copies} copies wanted, {fewest_copies} at least");
    }
    text
}

fn as_json(report: &PutReport, manifest: &Path) -> serde_json::Value {
    serde_json::json!({
        "manifest": manifest,
        "size": report.size,
        "chunks": report.chunks,
        "sealed_bytes": report.sealed_bytes,
        "sent_bytes": report.sent_bytes,
        "sent_copies": report.sent_copies,
        "resumed_chunks": report.resumed_chunks,
        "short_chunks": report.short_chunks,
        "fewest_copies": report.fewest_copies,
        "cells": report.cells,
        "requests": report.requests,
    })
}
