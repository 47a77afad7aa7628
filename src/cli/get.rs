//! `cellsync-get`.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use argh::CommandInfoWithArgs;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::cli::check::bad_copy_json;
use crate::cli::client_config::ClientConfig;
use crate::cli::command_line::parse;
use crate::cli::error::{ArgumentError, CommandError, failed};
use crate::cli::exit_code::MISSING;
use crate::cli::interrupt::stop_on_interrupt;
use crate::cli::progress::{Bar, Unit};
use crate::cli::terminal::{omissions, print, shown_path, with_omissions};
use crate::cli::values;
use crate::client::{
    DEFAULT_PATIENCE, GetOptions, GetReport, LostPart, Part, RestoreOmission, RestoreOptions, RestoreOwners, Target,
    default_jobs, default_output_path,
};
use crate::human;

const NAME: &str = "cellsync-get";

with_colony_options! {
    /// Restore a file or a directory from the colony by its manifest. Every byte is verified before it is used, and the
    /// output appears under its name only when it is complete. To continue an interrupted get, run the same command
    /// again.
    #[argh(
        example = "Restore album.tar, or restore it to another path:\n  \
                   cellsync-get album.tar.manifest\n  \
                   cellsync-get album.tar.manifest -o /tmp/album.tar",
        example = "Restore to another program:\n  \
                   cellsync-get shop.manifest -o - | psql shop",
        example = "Restore one folder of a directory:\n  \
                   cellsync-get photos.manifest --path 2025/summer -o /tmp/summer",
        example = "Verify every byte and write nothing:\n  \
                   cellsync-get --check album.tar.manifest",
        example = "Restore a directory into an empty one, such as a new disk:\n  \
                   cellsync-get photos.manifest -o /mnt/disk",
        example = "Wait for up to an hour while the boards are moved to another room:\n  \
                   cellsync-get album.tar.manifest --wait 1h",
        note = "If cells stop responding in the middle and no other has a good copy of some chunk, the get searches for \
                them and continues when they return. Every chunk that arrives begins the wait anew. A chunk that no cell \
                has, although all cells respond, is reported after some seconds. A get that finds no cell at its start \
                does not wait.",
        note = "A chunk whose holder takes more than three times as long as holders did lately is requested from a second \
                one too. A holder that sends less than 64 KiB in 10 seconds is asked last.",
        note = "A file gets its mode and its time of modification. If the manifest has no mode, only its owner can read \
                the file.",
        note = "An unfinished file is beside its name, in NAME.cellsync-part, with a list of its blocks in \
                NAME.cellsync-part.log. The same command verifies these blocks and fetches the others. An unfinished \
                directory is in the folder NAME.cellsync-part, or in restore.cellsync-part inside a directory that \
                exists. It continues where it was, but starts anew if the machine was restarted meanwhile. So does a get \
                with --path, --range or --salvage. What was left of other gets is named and not removed.",
        note = "A directory gets modes, times of modification, hard links, symbolic links and holes. Root also restores \
                owners, extended attributes, access control lists and capabilities; see --owner and --xattrs. \
                Set-user-id and set-group-id come back only for the user and the group that they were for. The path must \
                be new or an empty directory.",
        note = "With --path, the index is fetched, and of everything else what the entries need. If the index is lost, or an \
                earlier version stored the directory without one, all of it is read to find the entries.",
        note = "An entry for --path can have the form in which cellsync ls shows it, with escapes such as \\n and \\xff, if no \
                entry has that name literally.",
        note = "With --path, the folders around an entry get the permissions of their owner only, and a hard link to a file \
                that is not restored becomes the file.",
        note = "With --salvage, the permissions, owner and attributes of a file whose header is lost are unknown: it gets \
                those of its owner alone. Each lost part is named.",
        note = "What the target does not support or permit is left out and named, and the exit code is 6. Of two names \
                that are one on the target, the first is restored. Nothing outside the path is written.",
        error_code(0, "restored; with --check, everything can be restored"),
        error_code(1, "failed, or stopped; to continue, run the same command again"),
        error_code(2, "invalid arguments; nothing was written"),
        error_code(3, "no cell responds"),
        error_code(4, "chunks are missing: they are on no cell that responds; with --salvage, everything else is restored"),
        error_code(5, "data is corrupt: some chunk has only bad copies"),
        error_code(6, "restored, except for what was named: what the target does not support or permit"),
        error_code(141, "standard output was closed before everything was written; no message reports it")
    )]
    program struct Args {
        /// manifest that cellsync-put wrote
        #[argh(positional, arg_name = "manifest", from_str_fn(values::path_or_dash))]
        manifest: PathBuf,
        /// restore to this path, or to standard output if it is - (default: the manifest's path without .manifest)
        #[argh(option, short = 'o', arg_name = "path", from_str_fn(values::path_or_dash))]
        output: Option<PathBuf>,
        /// fetch and verify everything, write nothing
        #[argh(switch)]
        check: bool,
        /// chunks opened in parallel, 1 to 64 (default: one per processor)
        #[argh(option, arg_name = "n", default = "default_jobs()", from_str_fn(values::jobs))]
        jobs: usize,
        /// print the result as JSON
        #[argh(switch)]
        json: bool,
        /// print only errors
        #[argh(switch)]
        quiet: bool,
        /// wait this long, without any progress, for cells that stopped responding, such as 90s, 10m or 2h; up to 24h, and 0
        /// to give up at once (default: 2m)
        #[argh(option, arg_name = "duration", default = "DEFAULT_PATIENCE", from_str_fn(values::patience))]
        wait: Duration,
        /// restore only this entry of a directory and what is below it; can be repeated (cellsync ls lists the entries); requires -o
        #[argh(option, arg_name = "entry", from_str_fn(values::entry_path))]
        path: Vec<Vec<u8>>,
        /// restore only these bytes of a file, from the first to the last, such as 0-1048575, or 100- up to the end; requires -o
        #[argh(option, arg_name = "start-end", from_str_fn(values::byte_range))]
        range: Option<Range<u64>>,
        /// restore what is there if chunks are lost: lost parts of files become zeros and are listed, and the exit code is 4
        #[argh(switch)]
        salvage: bool,
        /// overwrite an existing file, also the unfinished one of another manifest
        #[argh(switch)]
        force: bool,
        /// give the files of a directory their owners, by name or else by number (default as root)
        #[argh(switch)]
        owner: bool,
        /// give the files of a directory their owners, by number alone
        #[argh(switch)]
        numeric_owner: bool,
        /// leave the files of a directory to the user who restores them (default except as root)
        #[argh(switch)]
        no_owner: bool,
        /// restore extended attributes, access control lists and capabilities in a directory (default as root)
        #[argh(switch)]
        xattrs: bool,
        /// do not restore them (default except as root)
        #[argh(switch)]
        no_xattrs: bool,
    }
}

pub(super) fn info() -> CommandInfoWithArgs {
    CommandInfoWithArgs { name: NAME, ..<Args as argh::ArgsInfo>::get_args_info() }
}

/// Runs `cellsync-get`.
pub fn get() -> ExitCode {
    let args: Args = match parse(NAME) {
        Ok(args) => args,
        Err(code) => return code,
    };
    crate::pipeline::keep_freed_memory();
    let (report, target) = match run(&args) {
        Ok(done) => done,
        Err(error) => return failed(NAME, &error),
    };
    let printed = match &target {
        // Standard output is for the restored bytes.
        Target::StandardOutput => ExitCode::SUCCESS,
        _ if args.json => print(NAME, &format!("{}\n", json(&report, &target))),
        _ if args.quiet => ExitCode::SUCCESS,
        _ => print(NAME, &summary(&report, &target)),
    };
    if report.is_salvaged && printed == ExitCode::SUCCESS {
        return ExitCode::from(MISSING);
    }
    with_omissions(printed, report.omissions)
}

fn run(args: &Args) -> Result<(GetReport, Target), CommandError> {
    let target = target(args)?;
    let scope = args.scope(&ClientConfig::load()?)?;
    let options = GetOptions {
        jobs: args.jobs,
        force: args.force,
        patience: args.wait,
        restore: restore_options(args)?,
        part: part(args)?,
        salvage: args.salvage,
        scope,
    };
    let bar = Bar::new(NAME, Unit::Bytes, args.quiet);
    let report = crate::client::get(&args.manifest, &target, &options, &bar, &stop_on_interrupt());
    bar.clear();
    Ok((report?, target))
}

fn part(args: &Args) -> Result<Part, ArgumentError> {
    match (&args.path[..], &args.range) {
        ([], None) => Ok(Part::Whole),
        ([], Some(range)) => Ok(Part::Range(range.clone())),
        (paths, None) => Ok(Part::Paths(paths.to_vec())),
        (_, Some(_)) => Err(ArgumentError::Exclusive { one: "--path", other: "--range" }),
    }
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
        // A part must not look like the whole file.
        None if !args.path.is_empty() => Err(ArgumentError::Requires { option: "--path", required: "-o PATH" }),
        None if args.range.is_some() => Err(ArgumentError::Requires { option: "--range", required: "-o PATH" }),
        None => match default_output_path(&args.manifest) {
            Some(path) => Ok(Target::Path(path)),
            None => Err(ArgumentError::UnnamedOutput { manifest: args.manifest.clone() }),
        },
    }
}

fn restore_options(args: &Args) -> Result<RestoreOptions, ArgumentError> {
    let mut options = RestoreOptions::default();
    options.owners = match (args.owner, args.numeric_owner, args.no_owner) {
        (false, false, false) => options.owners,
        (_, true, false) => RestoreOwners::ByNumber,
        (true, false, false) => RestoreOwners::ByName,
        (false, false, true) => RestoreOwners::None,
        (true, _, true) => return Err(ArgumentError::Exclusive { one: "--owner", other: "--no-owner" }),
        (false, true, true) => return Err(ArgumentError::Exclusive { one: "--numeric-owner", other: "--no-owner" }),
    };
    options.xattrs = match (args.xattrs, args.no_xattrs) {
        (true, true) => return Err(ArgumentError::Exclusive { one: "--xattrs", other: "--no-xattrs" }),
        (xattrs, no_xattrs) => xattrs || (options.xattrs && !no_xattrs),
    };
    Ok(options)
}

fn summary(report: &GetReport, target: &Target) -> String {
    let GetReport { size, chunks, cells, fewest_copies, .. } = *report;
    let what = match target {
        Target::Path(path) => format!("{} restored", shown_path(path)),
        _ if report.is_salvaged => "verified: not everything can be restored".to_owned(),
        _ => "verified: everything can be restored".to_owned(),
    };
    let fetched = match report.wanted_chunks - report.lost_chunks.min(report.wanted_chunks) {
        wanted if wanted < chunks => format!("{wanted} of {}", human::count(chunks, "chunk")),
        _ => human::count(chunks, "chunk"),
    };
    let lost = match (report.lost_bytes, report.lost.len()) {
        (0, 0) => String::new(),
        // Of these, only owners and attributes are lost.
        (0, entries) => format!(
            "; metadata of {} lost, see above",
            human::if_one(&entries, "one entry is", &format!("{entries} entries are"))
        ),
        (bytes, _) => format!("; {} are lost, see above", human::bytes(bytes)),
    };
    let bad = match report.bad_copies.len() {
        0 => String::new(),
        bad => format!("; {bad} bad {} skipped", human::if_one(&bad, "copy was", "copies were")),
    };
    let reused = match report.reused_bytes {
        0 => String::new(),
        reused => format!("; {} were there from before", human::bytes(reused)),
    };
    format!(
        "{what} ({}, {} from {}; at least {} of each){reused}{bad}{lost}{}\n",
        human::bytes(size),
        fetched,
        human::count(cells, "cell"),
        human::copies(fewest_copies),
        omissions(report.omissions),
    )
}

fn json(report: &GetReport, target: &Target) -> serde_json::Value {
    let omitted = |RestoreOmission { path, reason }: &RestoreOmission| serde_json::json!({ "path": human::escaped(path), "reason": reason.to_string() });
    let omitted: Vec<_> = report.named_omissions.iter().map(omitted).collect();
    let lost = |part: &LostPart| {
        let bytes: Vec<_> = part.bytes.iter().map(|range| [range.start, range.end - 1]).collect();
        // As cellsync ls has them.
        match part.path.as_deref().map(|path| (str::from_utf8(path), path)) {
            Some((Err(_), path)) => serde_json::json!({
                "path_base64": STANDARD.encode(path), "bytes": bytes, "metadata": part.metadata
            }),
            path => serde_json::json!({
                "path": path.and_then(|(text, _)| text.ok()), "bytes": bytes, "metadata": part.metadata
            }),
        }
    };
    let lost: Vec<_> = report.lost.iter().map(lost).collect();
    let bad: Vec<_> = report.bad_copies.iter().map(bad_copy_json).collect();
    serde_json::json!({
        "output": if let Target::Path(path) = target { Some(path.display().to_string()) } else { None },
        "size": report.size,
        "chunks": report.chunks,
        "wanted_chunks": report.wanted_chunks,
        "fetched_bytes": report.fetched_bytes,
        "reused_bytes": report.reused_bytes,
        "fewest_copies": report.fewest_copies,
        "bad_copies": bad,
        "cells": report.cells,
        "requests": report.requests,
        "omissions": report.omissions,
        "omitted": omitted,
        "lost": lost,
        "lost_bytes": report.lost_bytes,
        "lost_chunks": report.lost_chunks,
    })
}
