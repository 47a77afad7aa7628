//! `cellsync drain`: making a cell ready to be unplugged.

use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};

use crate::cli::error::CommandError;
use crate::cli::progress::{Bar, Direction};
use crate::cli::{cell_selector, colony_scope, failed, say, stop_on_interrupt};
use crate::client::KnownCell;
use crate::client::find_cell;
use crate::human;
use crate::net::client::{Http, Timeouts};
use crate::wire::status::DrainProgress;

const NAME: &str = "cellsync drain";

/// Have a cell hand its copies on to the others, and wait until it can be unplugged. It takes no new chunks meanwhile.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "drain",
    note = "Ctrl-C ends the waiting, not the draining.",
    error_code(0, "the cell can be unplugged; with --no-wait or --undo, it was told"),
    error_code(1, "it was not told, is gone, or the waiting was stopped"),
    error_code(2, "the command cannot be meant so"),
    error_code(3, "no cell answers")
)]
pub(super) struct Args {
    /// the cell: its URL, HOST:PORT, or the first digits of its id, four at least
    #[argh(positional, arg_name = "cell")]
    cell: String,
    /// let it stay: it takes chunks again
    #[argh(switch)]
    undo: bool,
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
    match drain(args) {
        Ok(text) => say(NAME, &format!("{text}\n")),
        Err(error) => failed(NAME, &error),
    }
}

fn drain(args: &Args) -> Result<String, CommandError> {
    let scope = colony_scope(&args.node, args.udp_port, args.loopback)?;
    let http = Http::new(Timeouts::PROBE, 1, 4);
    let cell = find_cell(&http, &scope, &cell_selector(&args.cell)?)?;
    if args.undo {
        crate::client::undrain(&http, &cell)?;
        return Ok(format!("cell {} stays, and takes chunks again", cell.name()));
    }
    let bar = Bar::new(NAME, Direction::Count("copies are elsewhere"), false);
    let drained = crate::client::drain(&http, &cell, !args.no_wait, &bar, &stop_on_interrupt());
    bar.clear();
    Ok(in_words(&cell, &drained?))
}

fn in_words(cell: &KnownCell, drain: &DrainProgress) -> String {
    let (name, total) = (cell.name(), usize::try_from(drain.total).unwrap_or(usize::MAX));
    match (drain.safe, total) {
        (true, 0) => format!("cell {name} can be unplugged: it holds no copies"),
        (true, 1) => format!("cell {name} can be unplugged: its one copy is on other cells"),
        (true, _) => format!("cell {name} can be unplugged: all {total} of its copies are on other cells"),
        (false, _) => format!("cell {name} hands its copies on: {} of {} left", drain.left, human::copies(total)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::CellId;
    use crate::wire::beacon::{Role, Status};

    #[test]
    fn a_cell_is_said_to_be_safe_only_when_it_is() {
        let cell = KnownCell {
            url: "http://10.0.0.7:8080".into(),
            id: Some(CellId::from_bytes([7; 16])),
            role: Role::Storage,
            status: Status::Draining,
            free_bytes: None,
        };
        let said = |left, total, safe| in_words(&cell, &DrainProgress { left, total, stuck: 0, safe });
        let name = "cell 07070707 (http://10.0.0.7:8080)";
        assert_eq!(said(0, 200, true), format!("{name} can be unplugged: all 200 of its copies are on other cells"));
        assert_eq!(said(0, 0, true), format!("{name} can be unplugged: it holds no copies"));
        assert_eq!(said(0, 200, false), format!("{name} hands its copies on: 0 of 200 copies left"));
        assert_eq!(said(9, 200, false), format!("{name} hands its copies on: 9 of 200 copies left"));
    }
}
