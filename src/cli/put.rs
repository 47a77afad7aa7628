//! `cellsync-put`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use argh::CommandInfoWithArgs;

use crate::cli::client_config::ClientConfig;
use crate::cli::command_line::parse;
use crate::cli::error::{ArgumentError, CommandError, failed};
use crate::cli::interrupt::stop_on_interrupt;
use crate::cli::progress::{Bar, Unit};
use crate::cli::terminal::{message, omissions, print, shown_path, with_omissions};
use crate::cli::values;
use crate::client::{
    PutOptions, PutReport, Source, default_jobs, default_manifest_path, read_patterns, stores_xattrs_by_default,
};
use crate::human;
use crate::id::DEFAULT_COPIES;
use crate::pipeline::Level;

const NAME: &str = "cellsync-put";

with_colony_options! {
    /// Store a file or a directory in the colony. The result is a small manifest, which holds the only key: keep it,
    /// and keep it private. To continue an interrupted put, run the same command again: only what changed since is sent.
    #[argh(
        example = "Store a file; the manifest is album.tar.manifest:\n  \
                   cellsync-put album.tar",
        example = "Store a directory, with the manifest elsewhere:\n  \
                   cellsync-put -o /media/usb/photos.manifest photos",
        example = "Store the output of another program:\n  \
                   pg_dump shop | cellsync-put - -o shop.manifest",
        example = "Compress less, and accept three copies of each chunk or more:\n  \
                   cellsync-put --compress 1 --min-copies 3 album.tar",
        example = "Store a home directory without caches and objects:\n  \
                   cellsync-put --exclude-caches --exclude '*.o' --exclude /Downloads/ /home/ada",
        note = "A directory is stored with links, holes, permissions, owners and times of modification, and with \
                extended attributes, access control lists and capabilities if --xattrs says so. Not stored are times of \
                access, status change and birth, inode flags, SELinux labels, locks and reflinks. FIFOs, sockets and \
                devices are named and skipped.",
        note = "Of a single file, permission bits and the time of modification are stored. Set-user-id and set-group-id \
                bits, capabilities and access control lists are not, and are named; nor are other extended attributes \
                and the owner. A directory keeps all of these of its files.",
        note = "What cannot be read is named before anything is sent. A file that changes while it is stored keeps its \
                length, cut or padded with zeros, and is named. Files are read one after the other: for a database, \
                store a dump or a snapshot.",
        note = "Patterns: * and ? match no /, [abc] matches one byte, braces hold alternatives with commas in between, \
                and a backslash takes the meaning from the next character. a/b matches at any depth. Names of owners come from /etc/passwd and /etc/group alone.",
        error_code(0, "stored, and the manifest is written; a warning reports chunks with fewer copies than wanted"),
        error_code(1, "failed, or stopped; to continue, run the same command again"),
        error_code(2, "invalid arguments; nothing was stored"),
        error_code(3, "no cell responds, too few cells accept chunks, or the cells have too little room"),
        error_code(
            6,
            "stored, except for what was named: files that changed or could not be read, special files, and metadata of \
             a single file"
        )
    )]
    program struct Args {
        /// file or directory to store, or - for standard input
        #[argh(positional, arg_name = "path", from_str_fn(values::path_or_dash))]
        path: PathBuf,
        /// write the manifest to this file (default: the path with .manifest appended)
        #[argh(option, short = 'o', arg_name = "file", from_str_fn(values::path_or_dash))]
        output: Option<PathBuf>,
        /// copies of each chunk, on as many cells, 1 to 32 (default 5)
        #[argh(option, arg_name = "n", from_str_fn(values::copies))]
        copies: Option<u8>,
        /// accept as few as k copies of each chunk when too few cells have room; the colony makes the others later
        /// (default: 2, or as --copies if that is fewer)
        #[argh(option, arg_name = "k", from_str_fn(values::copies))]
        min_copies: Option<u8>,
        /// compression level: 0 (fast) to 9 (small), with e for extreme (default 9e)
        #[argh(option, arg_name = "level")]
        compress: Option<Level>,
        /// chunks compressed in parallel, 1 to 64 (default: one per processor)
        #[argh(option, arg_name = "n", default = "default_jobs()", from_str_fn(values::jobs))]
        jobs: usize,
        /// store standard input even if it is empty, which otherwise is an error
        #[argh(switch)]
        allow_empty: bool,
        /// leave out what matches this pattern when a directory is stored; may be repeated. A pattern without / matches
        /// names at any depth, one that begins with / is relative to the stored directory, one that ends with /
        /// matches directories only; ** matches any number of directories
        #[argh(option, arg_name = "glob", from_str_fn(values::text))]
        exclude: Vec<String>,
        /// leave out what matches the patterns in this file, one a line; lines that begin with # are comments; may be
        /// repeated
        #[argh(option, arg_name = "file", from_str_fn(values::path_or_dash))]
        exclude_from: Vec<PathBuf>,
        /// leave out the contents of directories that a CACHEDIR.TAG marks as caches, except the tag
        #[argh(switch)]
        exclude_caches: bool,
        /// store directories on which another file system is mounted as empty ones
        #[argh(switch)]
        one_file_system: bool,
        /// store extended attributes, access control lists and capabilities of the files in a directory (default for
        /// root)
        #[argh(switch)]
        xattrs: bool,
        /// fail if anything cannot be stored as it is, before the first byte is stored where that is known
        #[argh(switch)]
        strict: bool,
        /// print the result as JSON
        #[argh(switch)]
        json: bool,
        /// print only errors and warnings
        #[argh(switch)]
        quiet: bool,
        /// begin even if the cells have too little room for data that does not compress
        #[argh(switch)]
        no_room_check: bool,
        /// overwrite an existing manifest
        #[argh(switch)]
        force: bool,
    }
}

pub(super) fn info() -> CommandInfoWithArgs {
    CommandInfoWithArgs { name: NAME, ..<Args as argh::ArgsInfo>::get_args_info() }
}

/// Runs `cellsync-put`.
pub fn put() -> ExitCode {
    let args: Args = match parse(NAME) {
        Ok(args) => args,
        Err(code) => return code,
    };
    crate::pipeline::keep_freed_memory();
    let Done { report, manifest, copies } = match run(&args) {
        Ok(done) => done,
        Err(error) => return failed(NAME, &error),
    };
    let printed = match (args.json, args.quiet) {
        (true, _) => print(NAME, &format!("{}\n", json(&report, &manifest))),
        (false, false) => print(NAME, &summary(&report, &manifest, copies)),
        (false, true) => ExitCode::SUCCESS,
    };
    with_omissions(printed, report.omissions)
}

impl Args {
    /// An option that was given and has no meaning for a single file.
    fn directory_option(&self) -> Option<&'static str> {
        let options = [
            (!self.exclude.is_empty(), "--exclude"),
            (!self.exclude_from.is_empty(), "--exclude-from"),
            (self.exclude_caches, "--exclude-caches"),
            (self.one_file_system, "--one-file-system"),
            (self.xattrs, "--xattrs"),
        ];
        options.into_iter().find_map(|(is_given, option)| is_given.then_some(option))
    }
}

struct Done {
    report: PutReport,
    manifest: PathBuf,
    /// Copies wanted.
    copies: u8,
}

fn run(args: &Args) -> Result<Done, CommandError> {
    let config = ClientConfig::load()?;
    let copies = args.copies.or(config.copies).unwrap_or(DEFAULT_COPIES);
    if let Some(min) = args.min_copies.filter(|min| *min > copies) {
        return Err(ArgumentError::MinCopies { min, copies }.into());
    }
    let source = Source::named(&args.path)?;
    let manifest = match &args.output {
        Some(path) if path == Path::new("-") => return Err(ArgumentError::ManifestToStandardOutput.into()),
        Some(path) => path.clone(),
        None => default_manifest_path(&source).ok_or(ArgumentError::UnnamedSource)?,
    };
    let mut exclude = args.exclude.clone();
    for path in &args.exclude_from {
        exclude.extend(read_patterns(path)?);
    }
    if matches!(source, Source::Directory(_)) && !config.exclude.is_empty() {
        // What a file of long ago excludes must not go unnoticed.
        if !args.quiet {
            message(NAME, &format!("leaving out {}, as client.toml says", config.exclude.join(", ")));
        }
        exclude.extend(config.exclude.iter().cloned());
    }
    if !matches!(source, Source::Directory(_))
        && let Some(option) = args.directory_option()
    {
        return Err(ArgumentError::NotADirectory { option }.into());
    }
    let options = PutOptions {
        copies,
        min_copies: args.min_copies.or(config.min_copies.map(|min| min.min(copies))),
        level: args.compress.or(config.compress).unwrap_or_default(),
        jobs: args.jobs,
        allow_empty: args.allow_empty,
        force: args.force,
        skip_room_check: args.no_room_check,
        exclude,
        exclude_caches: args.exclude_caches,
        one_file_system: args.one_file_system,
        xattrs: args.xattrs || stores_xattrs_by_default(),
        strict: args.strict,
        scope: args.scope(&config)?,
    };
    let bar = Bar::new(NAME, Unit::Bytes, args.quiet);
    let report = crate::client::put(&source, &manifest, &options, &bar, &stop_on_interrupt());
    bar.clear();
    Ok(Done { report: report?, manifest, copies })
}

fn summary(report: &PutReport, manifest: &Path, copies: u8) -> String {
    let PutReport { size, chunks, short_chunks, fewest_copies, cells, .. } = *report;
    let copies = human::copies(copies);
    let copies = match short_chunks {
        0 => format!("{copies} of each"),
        short => {
            format!("{} with fewer than {copies}, none with fewer than {fewest_copies}", human::count(short, "chunk"))
        }
    };
    format!(
        "{} ({}, {}) on {}: {copies}{}\n",
        shown_path(manifest),
        human::bytes(size),
        human::count(chunks, "chunk"),
        human::count(cells, "cell"),
        omissions(report.omissions),
    ) + &key_reminder(manifest)
}

/// Users delete the file, keep the manifest beside where it was, and lose both with the disk.
fn key_reminder(manifest: &Path) -> String {
    format!("{} is the only key to this upload: keep a copy of it elsewhere\n", shown_path(manifest))
}

fn json(report: &PutReport, manifest: &Path) -> serde_json::Value {
    let omitted = report.omitted.iter().map(
        |omission| serde_json::json!({"path": omission.path.to_string_lossy(), "reason": omission.reason.to_string()}),
    );
    serde_json::json!({
        "manifest": manifest.display().to_string(),
        "size": report.size,
        "chunks": report.chunks,
        "index_chunks": report.index_chunks,
        "sealed_bytes": report.sealed_bytes,
        "sent_bytes": report.sent_bytes,
        "sent_copies": report.sent_copies,
        "resumed_chunks": report.resumed_chunks,
        "short_chunks": report.short_chunks,
        "fewest_copies": report.fewest_copies,
        "cells": report.cells,
        "requests": report.requests,
        "omissions": report.omissions,
        "omitted": omitted.collect::<Vec<_>>(),
    })
}
