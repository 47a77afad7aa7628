//! `cellsync repair`: the copies of a file that are lacking, made now.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};

use crate::cli::check::{bad_as_json, names};
use crate::cli::error::CommandError;
use crate::cli::progress::{Bar, Direction};
use crate::cli::{colony_scope, copies, failed, path_or_dash, say, say_json, stop_on_interrupt};
use crate::client::{CheckOptions, RepairReport};
use crate::human;

const NAME: &str = "cellsync repair";

/// Bring every chunk of a file back to its copies now, without waiting until the colony heals by itself. It can be
/// stopped at any time, and run again.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "repair",
    note = "Chunks are moved as they are, sealed: the manifest's key is not used.",
    error_code(0, "every chunk has the copies that it should have"),
    error_code(1, "it failed, or was stopped"),
    error_code(2, "the command cannot be meant so"),
    error_code(3, "some chunk still has fewer copies than it should: too few cells take chunks"),
    error_code(4, "some chunk is on no cell that answers"),
    error_code(5, "all copies of some chunk are bad")
)]
pub(super) struct Args {
    /// the manifest that cellsync-put wrote
    #[argh(positional, arg_name = "manifest", from_str_fn(path_or_dash))]
    manifest: PathBuf,
    /// have every copy read and hashed on its cell first; bad ones are replaced
    #[argh(switch)]
    deep: bool,
    /// copies that each chunk should have, 1 to 32 (default: as many as the put was asked for)
    #[argh(option, arg_name = "n")]
    copies: Option<u8>,
    /// print the result as JSON
    #[argh(switch)]
    json: bool,
    /// ask this cell instead of the network; can be given many times
    #[argh(option, arg_name = "url")]
    node: Vec<String>,
    /// UDP port on which the colony finds itself (default 5000)
    #[argh(option, arg_name = "port")]
    udp_port: Option<u16>,
    /// look for cells on this machine only
    #[argh(switch)]
    loopback: bool,
}

pub(super) fn run(args: &Args) -> ExitCode {
    crate::pipeline::keep_freed_memory();
    let bar = Bar::new(NAME, Direction::Count(if args.deep { "copies or chunks" } else { "chunks" }), false);
    let repaired = repair(args, &bar);
    bar.clear();
    let report = match repaired {
        Ok(report) => report,
        Err(error) => return failed(NAME, &error),
    };
    let said = if args.json {
        say_json(NAME, &as_json(&report, &args.manifest))
    } else {
        say(NAME, &format!("{}\n", in_words(&report, &args.manifest)))
    };
    match report.failure() {
        Some(error) => failed(NAME, &error.into()),
        None => said,
    }
}

fn repair(args: &Args, bar: &Bar) -> Result<RepairReport, CommandError> {
    let options = CheckOptions {
        deep: args.deep,
        copies: copies(args.copies)?,
        scope: colony_scope(&args.node, args.udp_port, args.loopback)?,
    };
    Ok(crate::client::repair(&args.manifest, &options, bar, &stop_on_interrupt())?)
}

fn in_words(report: &RepairReport, manifest: &Path) -> String {
    let manifest = manifest.display();
    let wanted = human::copies(report.wanted);
    if report.short == 0 && report.made_copies == 0 && report.still_short == 0 {
        return format!("{manifest}: every chunk has its {wanted}; there was nothing to do");
    }
    let made = usize::try_from(report.made_copies).unwrap_or(usize::MAX);
    let mut text = format!(
        "{manifest}: {} had fewer than {wanted}; {} made, {}",
        human::count(report.short, "chunk"),
        human::copies(made),
        human::bytes(report.made_bytes)
    );
    if report.still_short == 0 {
        text += &format!("; every chunk has its {wanted}");
    }
    text
}

fn as_json(report: &RepairReport, manifest: &Path) -> serde_json::Value {
    serde_json::json!({
        "manifest": manifest,
        "chunks": report.chunks,
        "wanted": report.wanted,
        "short": report.short,
        "made_copies": report.made_copies,
        "made_bytes": report.made_bytes,
        "still_short": report.still_short,
        "missing": report.missing,
        "corrupt": report.corrupt,
        "bad_copies": report.bad_copies.iter().map(bad_as_json).collect::<Vec<_>>(),
        "unheard": names(&report.unheard),
        "cells": report.cells,
        "requests": report.requests,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_said_and_nothing_too() {
        let report = RepairReport { chunks: 39, wanted: 5, ..RepairReport::default() };
        let said = |report: &RepairReport| in_words(report, Path::new("a.manifest"));
        assert_eq!(said(&report), "a.manifest: every chunk has its 5 copies; there was nothing to do");
        let mut report = RepairReport { short: 3, made_copies: 7, made_bytes: 7 << 20, ..report };
        assert_eq!(
            said(&report),
            "a.manifest: 3 chunks had fewer than 5 copies; 7 copies made, 7.0 MiB; every chunk has its 5 copies"
        );
        report.still_short = 1;
        assert_eq!(said(&report), "a.manifest: 3 chunks had fewer than 5 copies; 7 copies made, 7.0 MiB");
    }
}
