//! `cellsync ls`: what is in a stored directory.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use time::OffsetDateTime;

use crate::archive::Kind;
use crate::archive::index::{IndexEntry, IndexLine, index_line};
use crate::cli::client_config::ClientConfig;
use crate::cli::error::{CommandError, failed};
use crate::cli::exit_code::FAILED;
use crate::cli::interrupt::stop_on_interrupt;
use crate::cli::progress::{Bar, Unit};
use crate::cli::terminal::message;
use crate::cli::values;
use crate::client::{DEFAULT_PATIENCE, GetOptions, Part, RestoreOptions, default_jobs};
use crate::human;

const NAME: &str = "cellsync ls";

with_colony_options! {
    /// List the files of a stored directory.
    #[argh(
        subcommand,
        name = "ls",
        example = "List everything, or one folder with sizes and times:\n  \
                   cellsync ls photos.manifest\n  \
                   cellsync ls photos.manifest 2025/summer -l",
        note = "Only the index is fetched. A directory that an earlier version stored has none, and is fetched as a whole; so is \
                one whose index is lost.",
        note = "Control characters in names become escapes such as \\n, and bytes that are not UTF-8 such as \\xff. \
                Entries can be given in this form too.",
        error_code(0, "listed"),
        error_code(1, "failed, or stopped"),
        error_code(2, "invalid arguments, or there is no such entry"),
        error_code(3, "no cell responds"),
        error_code(4, "chunks are missing: they are on no cell that responds"),
        error_code(5, "data is corrupt: some chunk has only bad copies")
    )]
    command struct Args {
        /// manifest that cellsync-put wrote for a directory
        #[argh(positional, arg_name = "manifest", from_str_fn(values::path_or_dash))]
        manifest: PathBuf,
        /// list only these entries and what is below them
        #[argh(positional, arg_name = "entry", from_str_fn(values::entry_path))]
        entries: Vec<Vec<u8>>,
        /// show type, permissions, size, time and the targets of links
        #[argh(switch, short = 'l')]
        long: bool,
        /// print one JSON object a line for each entry
        #[argh(switch)]
        json: bool,
    }
}

pub(super) fn run(args: &Args) -> ExitCode {
    match list(args) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            message(NAME, &format!("cannot write to standard output: {error}"));
            ExitCode::from(FAILED)
        }
        Err(error) => failed(NAME, &error),
    }
}

/// Lists the entries. The inner error is that of standard output.
fn list(args: &Args) -> Result<io::Result<()>, CommandError> {
    let options = GetOptions {
        jobs: default_jobs(),
        force: false,
        patience: DEFAULT_PATIENCE,
        restore: RestoreOptions::default(),
        part: Part::Paths(Vec::new()),
        salvage: false,
        scope: args.scope(&ClientConfig::load()?)?,
    };
    let bar = Bar::new(NAME, Unit::Bytes, false);
    let stop = stop_on_interrupt();
    let mut out = io::BufWriter::new(io::stdout());
    let mut written = Ok(());
    let listed = crate::client::list(&args.manifest, &args.entries, &options, &bar, &stop, &mut |entry| {
        if written.is_ok() {
            written = out.write_all(line(entry, args).as_bytes());
        }
    });
    bar.clear();
    listed?;
    Ok(written.and_then(|()| out.flush()))
}

fn line(entry: &IndexEntry, args: &Args) -> String {
    if args.json {
        return index_line(&IndexLine::Entry(entry.clone()));
    }
    let path = human::escaped(&entry.path);
    if !args.long {
        return path + "\n";
    }
    let size = match &entry.kind {
        Kind::File { size, .. } => size.to_string(),
        Kind::Directory | Kind::SymbolicLink { .. } | Kind::HardLink { .. } | Kind::Other { .. } => "-".to_owned(),
    };
    let target = match &entry.kind {
        Kind::SymbolicLink { target } => format!(" -> {}", human::escaped(target)),
        Kind::HardLink { target } => format!(" = {}", human::escaped(target)),
        Kind::File { .. } | Kind::Directory | Kind::Other { .. } => String::new(),
    };
    format!("{} {size:>13} {} {path}{target}\n", mode(entry), modified(entry))
}

/// `drwxr-xr-x`, with `h` for another name of a file.
fn mode(entry: &IndexEntry) -> String {
    let mut text = String::from(match entry.kind {
        Kind::File { .. } => '-',
        Kind::Directory => 'd',
        Kind::SymbolicLink { .. } => 'l',
        Kind::HardLink { .. } => 'h',
        Kind::Other { .. } => '?',
    });
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = entry.mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (entry.mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, false) => letter.to_ascii_uppercase(),
            (true, true) => letter,
        });
    }
    text
}

/// When it was last modified, in UTC: `2026-11-27T19:30:00Z`.
fn modified(entry: &IndexEntry) -> String {
    // Years of more than four digits have no such form.
    let Ok(time) = OffsetDateTime::from_unix_timestamp(entry.modified.seconds) else {
        return format!("@{}", entry.modified.seconds);
    };
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", u8::from(month))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Timestamp;

    #[test]
    fn modes_and_times_have_their_usual_form() {
        let entry = |kind, mode, seconds| IndexEntry {
            path: b"p".to_vec(),
            kind,
            mode,
            modified: Timestamp { seconds, nanoseconds: 0 },
            offset: 0,
            length: 512,
        };
        let file = || Kind::File { size: 1, extents: None };
        let link = Kind::HardLink { target: b"t".to_vec() };
        let shown = [
            entry(file(), 0o4755, 0),
            entry(Kind::Directory, 0o1770, 1_700_000_000),
            entry(file(), 0o2644, -1),
            entry(link, 0o001, i64::MAX),
        ]
        .map(|entry| format!("{} {}", mode(&entry), modified(&entry)));
        let expected = [
            "-rwsr-xr-x 1970-01-01T00:00:00Z",
            "drwxrwx--T 2023-11-14T22:13:20Z",
            "-rw-r-Sr-- 1969-12-31T23:59:59Z",
            "h--------x @9223372036854775807",
        ];
        assert_eq!(shown, expected);
    }
}
