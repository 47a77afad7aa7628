//! `cellsync status`: the colony as a table.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::thread;

use argh::FromArgs;

use super::{failed, place, say, show};
use crate::client::{ClientError, KnownCell, Place, locate, no_cells};
use crate::net::client::{Http, Patience};
use crate::wire::CellId;
use crate::wire::api::{CellView, Presence};
use crate::wire::beacon::Beacon;

const NAME: &str = "cellsync status";

/// What each cell says of itself; those that do not answer are left out. Some are asked at a time, so that one that
/// hangs holds up few.
fn own_words<'a>(http: &Http, found: &'a [KnownCell]) -> Vec<(&'a KnownCell, Beacon)> {
    let ask = |cell: &'a KnownCell| Some((cell, http.status(&cell.url).ok()?.beacon));
    let mut words = Vec::new();
    for some in found.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let asked: Vec<_> = some.iter().map(|cell| scope.spawn(move || ask(cell))).collect();
            words.extend(asked.into_iter().filter_map(|asked| asked.join().ok().flatten()));
        });
    }
    words
}

/// Cells asked at the same time.
const AT_ONCE: usize = 32;

/// Cells that are asked for others: those that are gone are known to all that are left.
const MAX_ASKED: usize = 3;

/// Show the cells of the colony: role, state, chunks, room, when last heard.
#[derive(FromArgs)]
#[argh(subcommand, name = "status")]
pub(super) struct Args {
    /// ask this cell instead of the network; can be given many times
    #[argh(option, arg_name = "url")]
    node: Vec<String>,
    /// UDP port on which the colony finds itself (default 5000)
    #[argh(option, arg_name = "port")]
    udp_port: Option<u16>,
    /// look for cells on this machine only
    #[argh(switch)]
    loopback: bool,
    /// print it as JSON
    #[argh(switch)]
    json: bool,
}

pub(super) fn run(args: &Args) -> ExitCode {
    match place(&args.node, args.udp_port, args.loopback).and_then(|place| look(&place)) {
        Ok(cells) if args.json => {
            let cells = serde_json::json!({ "cells": cells });
            say(NAME, &format!("{cells}\n"))
        }
        Ok(cells) => say(NAME, &table(&cells)),
        Err(error) => failed(NAME, &error),
    }
}

/// The colony: of each cell its own word, and of those that are gone the word of the cell that heard it last.
fn look(place: &Place) -> Result<Vec<CellView>, ClientError> {
    let http = Http::new(Patience::PROBE, 1, 16);
    let found = locate(&http, place, usize::MAX)?;
    let mut cells: BTreeMap<CellId, CellView> = own_words(&http, &found)
        .into_iter()
        .map(|(cell, own)| {
            let view = CellView {
                node_id: own.node_id,
                url: cell.url.clone(),
                role: own.role,
                status: own.status,
                state: Presence::Active,
                free: own.free,
                chunks: own.chunks,
                seen_ms: 0,
            };
            (own.node_id, view)
        })
        .collect();
    if cells.is_empty() {
        return Err(no_cells(place));
    }
    for cell in found.iter().take(MAX_ASKED) {
        for view in http.peers(&cell.url).map(|peers| peers.cells).unwrap_or_default() {
            match cells.get(&view.node_id) {
                Some(known) if known.seen_ms <= view.seen_ms => {}
                _ => drop(cells.insert(view.node_id, view)),
            }
        }
    }
    let mut cells: Vec<CellView> = cells.into_values().collect();
    cells.sort_by(|a, b| (a.state != Presence::Active, &a.url).cmp(&(b.state != Presence::Active, &b.url)));
    Ok(cells)
}

fn table(cells: &[CellView]) -> String {
    let mut rows = vec![["CELL", "ADDRESS", "ROLE", "STATE", "CHUNKS", "FREE", "LAST HEARD"].map(ToOwned::to_owned)];
    rows.extend(cells.iter().map(row));
    let mut widths = [0; 7];
    for row in &rows {
        for (width, field) in widths.iter_mut().zip(row) {
            *width = field.len().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let fields: Vec<_> = row.iter().zip(widths).map(|(field, width)| format!("{field:<width$}")).collect();
        text += fields.join("  ").trim_end();
        text.push('\n');
    }
    let active = cells.iter().filter(|cell| cell.state == Presence::Active).count();
    text += &format!("{}, {active} active\n", show::count(cells.len(), "cell"));
    text
}

fn row(cell: &CellView) -> [String; 7] {
    let untold = || "?".to_owned();
    [
        cell.node_id.short(),
        cell.url.trim_start_matches("http://").to_owned(),
        cell.role.to_string(),
        if cell.state == Presence::Active { cell.status.to_string() } else { cell.state.to_string() },
        cell.chunks.map_or_else(untold, |chunks| chunks.to_string()),
        cell.free.map_or_else(untold, show::bytes),
        if cell.seen_ms == 0 { "now".to_owned() } else { show::ago(cell.seen_ms) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::beacon::{Role, Status};

    #[test]
    fn the_table_lines_up_and_counts() {
        let cell = |n: u8, state, seen_ms| CellView {
            node_id: CellId::from_bytes([n; 16]),
            url: format!("http://10.0.0.{n}:8080"),
            role: Role::Storage,
            status: Status::Full,
            state,
            free: Some(5 << 30),
            chunks: None,
            seen_ms,
        };
        let text = table(&[cell(7, Presence::Active, 0), cell(123, Presence::Dead, 600_000)]);
        let expected = "\
CELL      ADDRESS          ROLE     STATE  CHUNKS  FREE     LAST HEARD
07070707  10.0.0.7:8080    storage  full   ?       5.0 GiB  now
7b7b7b7b  10.0.0.123:8080  storage  dead   ?       5.0 GiB  10 min ago
2 cells, 1 active
";
        assert_eq!(text, expected);
    }
}
