//! `cellsync scrub`: having cells look at all that they hold.

use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};

use crate::cli::error::CommandError;
use crate::cli::progress::{Bar, Direction};
use crate::cli::{FAILED, cell_selector, colony_scope, complain, failed, say, stop_on_interrupt};
use crate::client::{ClientError, ScrubOutcome};
use crate::client::{find_cell, find_cells};
use crate::human;
use crate::net::client::{Http, Timeouts};

const NAME: &str = "cellsync scrub";
/// Exit code when there were bad copies.
const BAD_COPIES: u8 = 5;

/// Have a cell, or all cells, read and hash every copy that they hold, now. Bad copies are set aside there, and good
/// ones fetched in their place.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "scrub",
    note = "Ctrl-C ends the waiting, not the scrub.",
    error_code(0, "all copies are good; with --no-wait, the cells were told"),
    error_code(1, "a cell could not be told or is gone, copies could not be read, or the waiting was stopped"),
    error_code(2, "the command cannot be meant so"),
    error_code(3, "no cell answers"),
    error_code(5, "bad copies were found")
)]
pub(super) struct Args {
    /// the cell: its URL, HOST:PORT, or the first digits of its id, four at least (default: all cells)
    #[argh(positional, arg_name = "cell")]
    cell: Option<String>,
    /// do not wait until it is done
    #[argh(switch)]
    no_wait: bool,
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
    match scrub(args) {
        Ok(cells) => tell(&cells, args.no_wait),
        Err(error) => failed(NAME, &error),
    }
}

fn scrub(args: &Args) -> Result<Vec<ScrubOutcome>, CommandError> {
    let scope = colony_scope(&args.node, args.udp_port, args.loopback)?;
    let http = Http::new(Timeouts::PROBE, 1, 64);
    let cells = match &args.cell {
        Some(word) => vec![find_cell(&http, &scope, &cell_selector(word)?)?],
        None => find_cells(&http, &scope, usize::MAX)?,
    };
    if cells.is_empty() {
        return Err(ClientError::NoCells { scope }.into());
    }
    let bar = Bar::new(NAME, Direction::Count("copies"), false);
    let scrubbed = crate::client::scrub(&http, &cells, !args.no_wait, &bar, &stop_on_interrupt());
    bar.clear();
    Ok(scrubbed?)
}

fn tell(cells: &[ScrubOutcome], begun: bool) -> ExitCode {
    let said = say(NAME, &cells.iter().filter_map(|cell| in_words(cell, begun)).collect::<String>());
    let errors: Vec<&ClientError> = cells.iter().filter_map(|cell| cell.result.as_ref().err()).collect();
    for error in &errors {
        complain(NAME, &error.to_string());
    }
    let is_unsure = |cell: &ScrubOutcome| cell.result.as_ref().is_ok_and(|scrub| scrub.unread > 0);
    if !errors.is_empty() || (!begun && cells.iter().any(is_unsure)) {
        ExitCode::from(FAILED)
    } else if !begun && cells.iter().any(|cell| cell.result.as_ref().is_ok_and(|scrub| scrub.bad > 0)) {
        ExitCode::from(BAD_COPIES)
    } else {
        said
    }
}

/// A line, if the cell did it.
fn in_words(ScrubOutcome { cell, result }: &ScrubOutcome, begun: bool) -> Option<String> {
    let scrub = result.as_ref().ok()?;
    let copies = |number| human::copies(usize::try_from(number).unwrap_or(usize::MAX));
    let name = cell.name();
    if begun {
        return Some(format!("cell {name}: {} are looked at from now on\n", copies(scrub.total)));
    }
    let bad = match scrub.bad {
        0 if scrub.unread > 0 => String::new(),
        0 => ", all good".to_owned(),
        bad => format!(", {bad} bad and set aside"),
    };
    let unread = match scrub.unread {
        0 => String::new(),
        unread => format!(", {unread} could not be read or set aside: its disk may be failing, and its log tells more"),
    };
    Some(format!("cell {name}: {} looked at{bad}{unread}\n", copies(scrub.done)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{CellName, KnownCell};
    use crate::wire::beacon::{Role, Status};
    use crate::wire::status::ScrubProgress;

    fn scrubbed(result: Result<ScrubProgress, ClientError>) -> ScrubOutcome {
        let (url, role, status) = ("http://a".into(), Role::Storage, Status::Active);
        ScrubOutcome { cell: KnownCell { url, id: None, role, status, free_bytes: None }, result }
    }

    #[test]
    fn each_cell_is_a_line_and_bad_copies_are_an_exit_code() {
        let found = |bad| scrubbed(Ok(ScrubProgress { done: 40, total: 40, bad, unread: 0, finished: true }));
        let unsure = || scrubbed(Ok(ScrubProgress { done: 40, total: 40, bad: 0, unread: 3, finished: true }));
        let gone = || scrubbed(Err(ClientError::ScrubLost { cell: CellName { id: None, url: "http://a".into() } }));
        assert_eq!(in_words(&found(0), false).unwrap(), "cell http://a: 40 copies looked at, all good\n");
        assert_eq!(in_words(&found(2), false).unwrap(), "cell http://a: 40 copies looked at, 2 bad and set aside\n");
        assert_eq!(in_words(&found(2), true).unwrap(), "cell http://a: 40 copies are looked at from now on\n");
        let words = in_words(&unsure(), false).unwrap();
        assert!(words.contains("3 could not be read") && !words.contains("good"), "{words}");
        assert_eq!(in_words(&gone(), false), None);
        assert_eq!(tell(&[unsure()], false), ExitCode::from(FAILED));
        assert_eq!(tell(&[found(0), found(0)], false), ExitCode::SUCCESS);
        assert_eq!(tell(&[found(0), found(1)], false), ExitCode::from(BAD_COPIES));
        assert_eq!(tell(&[found(1)], true), ExitCode::SUCCESS);
        assert_eq!(tell(&[found(1), gone()], false), ExitCode::from(FAILED));
    }
}
