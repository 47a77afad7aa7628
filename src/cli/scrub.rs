//! `cellsync scrub`: making cells verify all copies that they hold.

use std::process::ExitCode;

use crate::cli::client_config::ClientConfig;
use crate::cli::error::{CommandError, failed};
use crate::cli::exit_code::{CORRUPT, FAILED};
use crate::cli::interrupt::stop_on_interrupt;
use crate::cli::progress::{Bar, Unit};
use crate::cli::terminal::{message, print};
use crate::cli::values;
use crate::client::{CellSelector, ClientError, ScrubOutcome, find_cell, find_cells};
use crate::human;
use crate::net::client::{Http, Timeouts};

const NAME: &str = "cellsync scrub";

with_colony_options! {
    /// Make one cell, or all cells, read and verify all of their copies now.
    #[argh(
        subcommand,
        name = "scrub",
        note = "Bad copies are quarantined, and good ones are fetched from other cells.",
        note = "Ctrl-C ends the waiting; the cells continue to scrub.",
        error_code(0, "all copies are good; with --no-wait, the cells accepted the request"),
        error_code(1, "a cell refused or is gone, copies are unreadable, or the waiting was stopped"),
        error_code(2, "invalid arguments"),
        error_code(3, "no cell responds"),
        error_code(5, "bad copies were found")
    )]
    command struct Args {
        /// the cell: its URL, HOST:PORT, or at least the first four digits of its id (default: all cells)
        #[argh(positional, arg_name = "cell", from_str_fn(values::cell_selector))]
        cell: Option<CellSelector>,
        /// return without waiting
        #[argh(switch)]
        no_wait: bool,
    }
}

pub(super) fn run(args: &Args) -> ExitCode {
    match scrub(args) {
        Ok(cells) => report(&cells, !args.no_wait),
        Err(error) => failed(NAME, &error),
    }
}

fn scrub(args: &Args) -> Result<Vec<ScrubOutcome>, CommandError> {
    let scope = args.scope(&ClientConfig::load()?)?;
    let http = Http::new(Timeouts::PROBE, 1, 64);
    let cells = match &args.cell {
        Some(cell) => vec![find_cell(&http, &scope, cell)?],
        None => find_cells(&http, &scope, usize::MAX)?,
    };
    if cells.is_empty() {
        return Err(ClientError::NoCells { scope }.into());
    }
    let bar = Bar::new(NAME, Unit::Items("copies"), false);
    let scrubbed = crate::client::scrub(&http, &cells, !args.no_wait, &bar, &stop_on_interrupt());
    bar.clear();
    Ok(scrubbed?)
}

/// Prints what the cells found; if they have not `ended`, that they have begun.
fn report(cells: &[ScrubOutcome], ended: bool) -> ExitCode {
    let printed = print(NAME, &cells.iter().filter_map(|cell| line(cell, ended)).collect::<String>());
    let errors: Vec<&ClientError> = cells.iter().filter_map(|cell| cell.result.as_ref().err()).collect();
    for error in &errors {
        message(NAME, &error.to_string());
    }
    let found = |is_found: fn(u64, u64) -> bool| {
        let mut scrubs = cells.iter().filter_map(|cell| cell.result.as_ref().ok());
        ended && scrubs.any(|scrub| is_found(scrub.bad, scrub.unread))
    };
    if !errors.is_empty() || found(|_, unread| unread > 0) {
        ExitCode::from(FAILED)
    } else if found(|bad, _| bad > 0) {
        ExitCode::from(CORRUPT)
    } else {
        printed
    }
}

/// The line for a cell, unless it failed.
fn line(ScrubOutcome { cell, result }: &ScrubOutcome, ended: bool) -> Option<String> {
    let scrub = result.as_ref().ok()?;
    let copies = |number| human::copies(usize::try_from(number).unwrap_or(usize::MAX));
    let name = cell.name();
    if !ended {
        return Some(format!("cell {name}: scrub of {} started\n", copies(scrub.total)));
    }
    let bad = match scrub.bad {
        0 if scrub.unread > 0 => String::new(),
        0 => ", all good".to_owned(),
        bad => format!(", {bad} bad and quarantined"),
    };
    let unread = match scrub.unread {
        0 => String::new(),
        unread => {
            format!(", {unread} could not be read or quarantined; its disk may be failing, see the log of the cell")
        }
    };
    Some(format!("cell {name}: {} verified{bad}{unread}\n", copies(scrub.done)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{CellName, KnownCell};
    use crate::wire::beacon::{Role, Status};
    use crate::wire::status::ScrubProgress;

    fn outcome(result: Result<ScrubProgress, ClientError>) -> ScrubOutcome {
        let (url, role, status) = ("http://a".into(), Role::Storage, Status::Active);
        ScrubOutcome { cell: KnownCell { url, id: None, role, status, free_bytes: None }, result }
    }

    #[test]
    fn bad_and_unreadable_copies_have_exit_codes() {
        let found = |bad| outcome(Ok(ScrubProgress { done: 40, total: 40, bad, unread: 0, finished: true }));
        let unreadable = || outcome(Ok(ScrubProgress { done: 40, total: 40, bad: 0, unread: 3, finished: true }));
        let gone = || outcome(Err(ClientError::ScrubLost { cell: CellName { id: None, url: "http://a".into() } }));
        assert_eq!(line(&found(0), true).unwrap(), "cell http://a: 40 copies verified, all good\n");
        assert_eq!(line(&found(2), true).unwrap(), "cell http://a: 40 copies verified, 2 bad and quarantined\n");
        assert_eq!(line(&found(2), false).unwrap(), "cell http://a: scrub of 40 copies started\n");
        let text = line(&unreadable(), true).unwrap();
        assert!(text.contains("3 could not be read") && !text.contains("good"), "{text}");
        assert_eq!(line(&gone(), true), None);
        assert_eq!(report(&[unreadable()], true), ExitCode::from(FAILED));
        assert_eq!(report(&[found(0), found(0)], true), ExitCode::SUCCESS);
        assert_eq!(report(&[found(0), found(1)], true), ExitCode::from(CORRUPT));
        assert_eq!(report(&[found(1)], false), ExitCode::SUCCESS);
        assert_eq!(report(&[found(1), gone()], true), ExitCode::from(FAILED));
    }
}
