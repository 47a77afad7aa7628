//! `cellsync drain`: preparing a cell to be unplugged.

use std::process::ExitCode;

use crate::cli::client_config::ClientConfig;
use crate::cli::error::{CommandError, failed};
use crate::cli::interrupt::stop_on_interrupt;
use crate::cli::progress::{Bar, Unit};
use crate::cli::terminal::print;
use crate::cli::values;
use crate::client::{CellSelector, KnownCell, find_cell};
use crate::human;
use crate::net::client::{Http, Timeouts};
use crate::wire::status::DrainProgress;

const NAME: &str = "cellsync drain";

with_colony_options! {
    /// Make a cell hand its copies on to other cells, and wait until it can be unplugged.
    #[argh(
        subcommand,
        name = "drain",
        note = "The cell accepts no new chunks from now on. Ctrl-C ends the waiting; the cell continues to drain.",
        error_code(0, "the cell can be unplugged; with --no-wait or --undo, it accepted the request"),
        error_code(1, "the cell refused or is gone, or the waiting was stopped"),
        error_code(2, "invalid arguments"),
        error_code(3, "no cell responds")
    )]
    command struct Args {
        /// the cell: its URL, HOST:PORT, or at least the first four digits of its id
        #[argh(positional, arg_name = "cell", from_str_fn(values::cell_selector))]
        cell: CellSelector,
        /// cancel: the cell stays and accepts chunks again
        #[argh(switch)]
        undo: bool,
        /// return without waiting
        #[argh(switch)]
        no_wait: bool,
    }
}

pub(super) fn run(args: &Args) -> ExitCode {
    match drain(args) {
        Ok(text) => print(NAME, &format!("{text}\n")),
        Err(error) => failed(NAME, &error),
    }
}

fn drain(args: &Args) -> Result<String, CommandError> {
    let http = Http::new(Timeouts::PROBE, 1, 4);
    let cell = find_cell(&http, &args.scope(&ClientConfig::load()?)?, &args.cell)?;
    if args.undo {
        crate::client::undrain(&http, &cell)?;
        return Ok(format!("cell {} stays and accepts chunks again", cell.name()));
    }
    let bar = Bar::new(NAME, Unit::Items("copies handed on"), false);
    let drained = crate::client::drain(&http, &cell, !args.no_wait, &bar, &stop_on_interrupt());
    bar.clear();
    Ok(summary(&cell, &drained?))
}

fn summary(cell: &KnownCell, drain: &DrainProgress) -> String {
    let (name, total) = (cell.name(), usize::try_from(drain.total).unwrap_or(usize::MAX));
    match (drain.safe, total) {
        (true, 0) => format!("cell {name} can be unplugged: it holds no copies"),
        (true, 1) => format!("cell {name} can be unplugged: its only copy is on other cells"),
        (true, _) => format!("cell {name} can be unplugged: all {total} of its copies are on other cells"),
        (false, _) => format!("cell {name} is draining: {} of {} left", drain.left, human::copies(total)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::CellId;
    use crate::wire::beacon::{Role, Status};

    #[test]
    fn only_a_safe_cell_can_be_unplugged() {
        let cell = KnownCell {
            url: "http://10.0.0.7:8080".into(),
            id: Some(CellId::from_bytes([7; 16])),
            role: Role::Storage,
            status: Status::Draining,
            free_bytes: None,
        };
        let summary = |left, total, safe| summary(&cell, &DrainProgress { left, total, stuck: 0, safe });
        let name = "cell 07070707 (http://10.0.0.7:8080)";
        assert_eq!(summary(0, 200, true), format!("{name} can be unplugged: all 200 of its copies are on other cells"));
        assert_eq!(summary(0, 0, true), format!("{name} can be unplugged: it holds no copies"));
        assert_eq!(summary(0, 200, false), format!("{name} is draining: 0 of 200 copies left"));
        assert_eq!(summary(9, 200, false), format!("{name} is draining: 9 of 200 copies left"));
    }
}
