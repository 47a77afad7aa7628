//! What is printed: results on standard output, everything else on standard error.

use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::cli::exit_code::{FAILED, OMISSIONS};
use crate::human;

/// Prints a result. A closed pipe is no failure: its reader has seen enough.
pub(super) fn print(command: &str, text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    printed(command, out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Prints a result as one line of JSON, without holding its text in memory.
pub(super) fn print_json(command: &str, value: &impl serde::Serialize) -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = serde_json::to_writer(&mut out, value).map_err(io::Error::from);
    printed(command, written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()))
}

fn printed(command: &str, written: io::Result<()>) -> ExitCode {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            message(command, &format!("cannot write to standard output: {error}"));
            ExitCode::from(FAILED)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Prints a line on standard error. A failure to do so cannot be reported anywhere. Paths and other words of the text may
/// have control characters; they become escapes.
pub(super) fn message(command: &str, text: &str) {
    drop(writeln!(io::stderr().lock(), "{command}: {}", human::one_line(text)));
}

/// A path as part of a result for people. Control characters become escapes.
pub(super) fn shown_path(path: &Path) -> String {
    human::one_line(&path.to_string_lossy())
}

/// The exit code of work that is done: its own if that succeeded without omissions.
pub(super) fn with_omissions(printed: ExitCode, omissions: usize) -> ExitCode {
    if omissions > 0 && printed == ExitCode::SUCCESS { ExitCode::from(OMISSIONS) } else { printed }
}

/// What a summary adds if there were omissions.
pub(super) fn omissions(omissions: usize) -> String {
    if omissions == 0 { String::new() } else { format!("; {}, see above", human::count(omissions, "omission")) }
}
