//! The command lines. Each command is a file: what it understands (argh), how it runs, what it prints. Nothing else
//! in the library prints.

// It is here that users are spoken to.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod check;
#[cfg(all(target_os = "linux", feature = "demo"))]
mod demo;
mod drain;
mod error;
mod get;
#[cfg(target_os = "linux")]
mod node;
mod progress;
mod put;
mod repair;
mod scrub;
mod status;
mod tool;

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use argh::CommandInfoWithArgs;

use crate::cli::error::{ArgumentError, CommandError};
use crate::client::{CellSelector, ColonyScope, MAX_JOBS, StopSignal, default_jobs};
use crate::config::DEFAULT_UDP_PORT;
use crate::id::MAX_HOLDERS;

pub use crate::cli::get::get;
#[cfg(target_os = "linux")]
pub use crate::cli::node::node;
pub use crate::cli::put::put;
pub use crate::cli::tool::tool;

/// Exit code for a command line that cannot be understood.
const USAGE: u8 = 2;
/// Exit code for whatever has none of its own.
const FAILED: u8 = 1;

/// Stands for the word `-` while the command line is read: argh takes every word that begins with a dash for an
/// option. No word of a command line can have this character.
const DASH: &str = "\0";

/// What each program understands. Manual pages and shell completions are made from this, so that they tell what `--help`
/// tells: the options that it hides are `hidden` here.
pub fn commands() -> Vec<CommandInfoWithArgs> {
    Vec::from([
        tool::info(),
        put::info(),
        get::info(),
        #[cfg(target_os = "linux")]
        node::info(),
    ])
}

/// Reads the command line into `T`. `--help` and `--version` are answered here, and what cannot be understood.
fn understand<T: argh::FromArgs>(name: &str) -> Result<T, ExitCode> {
    let words: Result<Vec<String>, _> = std::env::args_os().skip(1).map(OsString::into_string).collect();
    let words = words.map_err(|word| {
        let what = "is not valid UTF-8; a file of such a name can be stored from standard input: cellsync-put - -o NAME < FILE";
        complain(name, &format!("{} {what}", word.display()));
        ExitCode::from(USAGE)
    })?;
    if words.iter().any(|word| word == "--version") {
        return Err(say(name, &format!("{name} {}\n", env!("CARGO_PKG_VERSION"))));
    }
    let words: Vec<&str> = words.iter().map(|word| if word == "-" { DASH } else { word }).collect();
    T::from_args(&[name], &words).map_err(|exit| {
        if exit.status.is_ok() {
            return say(name, &format!("{}\n", exit.output.trim_end()));
        }
        let what = one_line(&exit.output).replace(DASH, "-");
        complain(name, &format!("{what}; {name} --help tells what it understands"));
        ExitCode::from(USAGE)
    })
}

/// For argh: a path, or `-`.
#[allow(clippy::unnecessary_wraps)] // So argh wants it.
fn path_or_dash(word: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(if word == DASH { "-" } else { word }))
}

/// Prints what was asked for. Who closes the pipe early has seen enough; any other failure to print is one of the
/// program.
fn say(name: &str, text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    said(name, out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

fn said(name: &str, written: io::Result<()>) -> ExitCode {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(name, &format!("cannot write standard output: {error}"));
            ExitCode::from(FAILED)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// As [`say`], for what may be too long to be held as a text.
fn say_json(name: &str, value: &impl serde::Serialize) -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = serde_json::to_writer(&mut out, value).map_err(io::Error::from);
    said(name, written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()))
}

/// Prints a line for the user on standard error. If that is closed, nobody wants to know.
fn complain(name: &str, text: &str) {
    drop(writeln!(io::stderr().lock(), "{name}: {text}"));
}

fn one_line(text: &str) -> String {
    let lines: Vec<_> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("Run ")).collect();
    lines.join(" ")
}

/// Says what went wrong, in one line, and gives the exit code.
fn failed(name: &str, error: &CommandError) -> ExitCode {
    complain(name, &error.to_string());
    ExitCode::from(error.exit_code())
}

/// Where the colony is, as the options say.
fn colony_scope(nodes: &[String], udp_port: Option<u16>, loopback: bool) -> Result<ColonyScope, ArgumentError> {
    let udp_port = udp_port.unwrap_or(DEFAULT_UDP_PORT);
    if udp_port == 0 {
        return Err(ArgumentError::OutOfRange { option: "--udp-port", max: u16::MAX.into() });
    }
    let nodes = nodes.iter().map(|node| url_of(&node.replace(DASH, "-")));
    let wrong = |value| ArgumentError::NodeUrl { value };
    let nodes = nodes.collect::<Result<_, _>>().map_err(wrong)?;
    Ok(ColonyScope { nodes, udp_port, loopback })
}

/// The URL of a cell's door that is named as one, or as `HOST:PORT`; the word, if it is neither.
fn url_of(word: &str) -> Result<String, String> {
    let url = if word.contains("://") { word.to_owned() } else { format!("http://{word}") };
    match url.strip_prefix("http://") {
        Some(host) if !host.trim_end_matches('/').is_empty() => Ok(url),
        _ => Err(word.to_owned()),
    }
}

/// Which cell is meant.
fn cell_selector(word: &str) -> Result<CellSelector, ArgumentError> {
    if let Some(id) = CellSelector::from_id_prefix(word) {
        return Ok(id);
    }
    let has_port = word.contains(':');
    url_of(word)
        .ok()
        .filter(|_| has_port)
        .map(CellSelector::Url)
        .ok_or_else(|| ArgumentError::CellSelector { word: word.to_owned() })
}

/// How many copies, if that is told.
fn copies(asked: Option<u8>) -> Result<Option<u8>, ArgumentError> {
    match asked {
        Some(copies) if copies == 0 || usize::from(copies) > MAX_HOLDERS => {
            Err(ArgumentError::OutOfRange { option: "--copies", max: MAX_HOLDERS as u64 })
        }
        asked => Ok(asked),
    }
}

/// The number of workers.
fn jobs(asked: Option<usize>) -> Result<usize, ArgumentError> {
    match asked {
        None => Ok(default_jobs()),
        Some(jobs @ 1..=MAX_JOBS) => Ok(jobs),
        Some(_) => Err(ArgumentError::OutOfRange { option: "--jobs", max: MAX_JOBS as u64 }),
    }
}

/// Lets Ctrl-C end the work in order. A second one ends it at once.
fn stop_on_interrupt() -> StopSignal {
    let stop = StopSignal::default();
    let asked = stop.clone();
    // Where signals cannot be caught they end the process: the journal is as good then.
    drop(ctrlc::set_handler(move || {
        if asked.is_set() {
            #[allow(clippy::exit)] // The user has asked twice.
            std::process::exit(i32::from(FAILED));
        }
        asked.set();
    }));
    stop
}
