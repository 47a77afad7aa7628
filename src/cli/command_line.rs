//! From the words of the command line to a command's arguments.

use std::ffi::OsString;
use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};

use crate::cli::exit_code::USAGE;
use crate::cli::help;
use crate::cli::terminal::{message, print};

/// Stands for the word `-` while argh parses, which takes every word that begins with a dash for an option. No word of
/// a command line can contain this character.
pub(super) const DASH: &str = "\0";

/// Parses the command line of a program. `--help`, `--version` and invalid arguments are dealt with here, and leave
/// nothing to do but to return the exit code.
pub(super) fn parse<T: FromArgs + ArgsInfo>(program: &str) -> Result<T, ExitCode> {
    let words: Result<Vec<String>, _> = std::env::args_os().skip(1).map(OsString::into_string).collect();
    let words = words.map_err(|word| {
        let remedy = "to store a file of such a name, use: cellsync-put - -o NAME < FILE";
        message(program, &format!("argument {} is not valid UTF-8; {remedy}", word.display()));
        ExitCode::from(USAGE)
    })?;
    if words.iter().any(|word| word == "--version") {
        return Err(print(program, &format!("{program} {}\n", env!("CARGO_PKG_VERSION"))));
    }
    let words: Vec<&str> = words.iter().map(|word| if word == "-" { DASH } else { word }).collect();
    T::from_args(&[program], &words).map_err(|exit| {
        if exit.status.is_ok() {
            return print(program, &help::text(&exit.output));
        }
        let command = called::<T>(program, &words);
        message(&command, &format!("{}; see {command} --help", one_line(&exit.output).replace(DASH, "-")));
        ExitCode::from(USAGE)
    })
}

/// The program, with its subcommand if the words name one.
fn called<T: ArgsInfo>(program: &str, words: &[&str]) -> String {
    let subcommands = T::get_args_info().commands;
    match words.iter().find(|word| !word.starts_with('-')) {
        Some(word) if subcommands.iter().any(|command| command.name == *word) => format!("{program} {word}"),
        _ => program.to_owned(),
    }
}

/// The message of argh in one line, without its own reference to `--help`.
fn one_line(message: &str) -> String {
    let lines = message.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("Run "));
    lines.collect::<Vec<_>>().join(" ")
}
