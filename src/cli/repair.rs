//! `cellsync repair`: making the missing copies of a file now.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::check::{bad_copy_json, names};
use crate::cli::client_config::ClientConfig;
use crate::cli::error::{CommandError, failed};
use crate::cli::interrupt::stop_on_interrupt;
use crate::cli::progress::{Bar, Unit};
use crate::cli::terminal::{print, print_json, shown_path};
use crate::cli::values;
use crate::client::{CheckOptions, RepairReport};
use crate::human;

const NAME: &str = "cellsync repair";

with_colony_options! {
    /// Make the missing copies of a file now, without waiting for the colony to heal.
    #[argh(
        subcommand,
        name = "repair",
        note = "It can be stopped at any time and run again.",
        note = "Chunks are copied as they are, sealed: the key in the manifest is not used.",
        error_code(0, "every chunk has the wanted copies"),
        error_code(1, "failed, or stopped"),
        error_code(2, "invalid arguments; nothing was copied"),
        error_code(3, "some chunk still has too few copies, because too few cells accept chunks, or no cell responds"),
        error_code(4, "some chunk is on no cell that responds"),
        error_code(5, "some chunk has only bad copies")
    )]
    command struct Args {
        /// manifest that cellsync-put wrote
        #[argh(positional, arg_name = "manifest", from_str_fn(values::path_or_dash))]
        manifest: PathBuf,
        /// have the cells read and hash every copy first, and replace bad ones
        #[argh(switch)]
        deep: bool,
        /// wanted copies of each chunk, 1 to 32 (default: as when the file was stored)
        #[argh(option, arg_name = "n", from_str_fn(values::copies))]
        copies: Option<u8>,
        /// print the result as JSON
        #[argh(switch)]
        json: bool,
    }
}

pub(super) fn run(args: &Args) -> ExitCode {
    crate::pipeline::keep_freed_memory();
    let report = match repair(args) {
        Ok(report) => report,
        Err(error) => return failed(NAME, &error),
    };
    let printed = if args.json {
        print_json(NAME, &json(&report, &args.manifest))
    } else {
        print(NAME, &summary(&report, &args.manifest))
    };
    match report.failure() {
        Some(error) => failed(NAME, &error.into()),
        None => printed,
    }
}

fn repair(args: &Args) -> Result<RepairReport, CommandError> {
    let scope = args.scope(&ClientConfig::load()?)?;
    let bar = Bar::new(NAME, Unit::Items(if args.deep { "copies or chunks" } else { "chunks" }), false);
    let options = CheckOptions { deep: args.deep, copies: args.copies, scope };
    let result = crate::client::repair(&args.manifest, &options, &bar, &stop_on_interrupt());
    bar.clear();
    Ok(result?)
}

fn summary(report: &RepairReport, manifest: &Path) -> String {
    let (manifest, wanted) = (shown_path(manifest), human::copies(report.wanted));
    if report.short == 0 && report.made_copies == 0 && report.still_short == 0 {
        return format!("{manifest}: every chunk has {wanted}; nothing to do\n");
    }
    let made = usize::try_from(report.made_copies).unwrap_or(usize::MAX);
    let now = if report.still_short == 0 { format!("; every chunk has {wanted} now") } else { String::new() };
    format!(
        "{manifest}: {} had fewer than {wanted}; {} made, {}{now}\n",
        human::count(report.short, "chunk"),
        human::copies(made),
        human::bytes(report.made_bytes)
    )
}

fn json(report: &RepairReport, manifest: &Path) -> serde_json::Value {
    serde_json::json!({
        "manifest": manifest.display().to_string(),
        "chunks": report.chunks,
        "wanted": report.wanted,
        "short": report.short,
        "made_copies": report.made_copies,
        "made_bytes": report.made_bytes,
        "still_short": report.still_short,
        "missing": report.missing,
        "corrupt": report.corrupt,
        "bad_copies": report.bad_copies.iter().map(bad_copy_json).collect::<Vec<_>>(),
        "unheard": names(&report.unresponsive),
        "cells": report.cells,
        "requests": report.requests,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_what_was_made() {
        let report = RepairReport { chunks: 39, wanted: 5, ..RepairReport::default() };
        let summary = |report: &RepairReport| summary(report, Path::new("a.manifest"));
        assert_eq!(summary(&report), "a.manifest: every chunk has 5 copies; nothing to do\n");
        let mut report = RepairReport { short: 3, made_copies: 7, made_bytes: 7 << 20, ..report };
        let made = "a.manifest: 3 chunks had fewer than 5 copies; 7 copies made, 7.0 MiB";
        assert_eq!(summary(&report), format!("{made}; every chunk has 5 copies now\n"));
        report.still_short = 1;
        assert_eq!(summary(&report), format!("{made}\n"));
    }
}
