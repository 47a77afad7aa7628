//! `cellsync status`: the colony as a table.

use std::collections::BTreeMap;
use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};
use serde::Serialize;

use crate::cli::error::CommandError;
use crate::cli::{colony_scope, failed, say};
use crate::client::find_cells;
use crate::client::{ClientError, ColonyScope, query_cells};
use crate::human;
use crate::id::CellId;
use crate::net::client::{Http, Timeouts};
use crate::wire::peers::{CellView, Presence};
use crate::wire::status::Activity;

const NAME: &str = "cellsync status";

/// Cells that are asked for others: those that are gone are known to all that are left.
const MAX_ASKED: usize = 3;

/// Show the cells of the colony: role, state, chunks, room, when last heard; and what needs time or care.
#[derive(FromArgs, ArgsInfo)]
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
    match colony_scope(&args.node, args.udp_port, args.loopback)
        .map_err(CommandError::from)
        .and_then(|scope| look(&scope))
    {
        Ok(cells) if args.json => {
            let cells = serde_json::json!({ "cells": cells });
            say(NAME, &format!("{cells}\n"))
        }
        Ok(cells) => say(NAME, &table(&cells)),
        Err(error) => failed(NAME, &error),
    }
}

/// A cell, and what it does, if it told that itself.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    view: CellView,
    #[serde(skip_serializing_if = "Option::is_none")]
    life: Option<Activity>,
}

/// The colony: of each cell its own word, and of those that are gone the word of the cell that heard it last.
fn look(scope: &ColonyScope) -> Result<Vec<Row>, CommandError> {
    let http = Http::new(Timeouts::PROBE, 1, 16);
    let found = find_cells(&http, scope, usize::MAX)?;
    // Those that do not answer are left out.
    let words = found.iter().zip(query_cells(&found, |cell| http.status(&cell.url).ok()));
    let mut cells: BTreeMap<CellId, Row> = words
        .filter_map(|(cell, status)| {
            let (own, life) = status.map(|status| (status.beacon, Some(status.activity)))?;
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
            Some((own.node_id, Row { view, life }))
        })
        .collect();
    if cells.is_empty() {
        return Err(ClientError::NoCells { scope: scope.clone() }.into());
    }
    for cell in found.iter().take(MAX_ASKED) {
        for view in http.peers(&cell.url).map(|peers| peers.cells).unwrap_or_default() {
            match cells.get(&view.node_id) {
                Some(known) if known.view.seen_ms <= view.seen_ms => {}
                _ => drop(cells.insert(view.node_id, Row { view, life: None })),
            }
        }
    }
    let mut cells: Vec<Row> = cells.into_values().collect();
    cells.sort_by(|Row { view: a, .. }, Row { view: b, .. }| {
        (a.state != Presence::Active, &a.url).cmp(&(b.state != Presence::Active, &b.url))
    });
    Ok(cells)
}

fn table(cells: &[Row]) -> String {
    let mut rows = vec![["CELL", "ADDRESS", "ROLE", "STATE", "CHUNKS", "FREE", "LAST HEARD"].map(ToOwned::to_owned)];
    rows.extend(cells.iter().map(|cell| row(&cell.view)));
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
    let active = cells.iter().filter(|cell| cell.view.state == Presence::Active).count();
    text += &format!("{}, {active} active\n", human::count(cells.len(), "cell"));
    text + &needs(cells)
}

/// What needs time, or somebody: a line for each kind, none if all is well.
fn needs(cells: &[Row]) -> String {
    let mut text = String::new();
    let lives = || cells.iter().filter_map(|cell| cell.life.as_ref());
    let short = spread(lives().map(|life| life.short));
    if let Some(short) = short {
        let stuck =
            spread(lives().map(|life| life.stuck)).map_or_else(String::new, |stuck| format!(" ({stuck} stuck)"));
        text += &format!("chunks short of copies: {short}{stuck}\n");
    }
    for cell in cells {
        let Some(drain) = cell.life.as_ref().and_then(|life| life.drain.as_ref()) else { continue };
        let name = cell.view.node_id.short();
        text += &if drain.safe {
            format!("{name} can be unplugged\n")
        } else {
            format!("{name} is being drained: {} of {} copies left\n", drain.left, drain.total)
        };
    }
    let mut isolated: BTreeMap<CellId, usize> = BTreeMap::new();
    for cell in lives().flat_map(|life| &life.isolated) {
        *isolated.entry(*cell).or_default() += 1;
    }
    for (cell, by) in isolated {
        text += &format!("{} is isolated by {}: it had bad copies\n", cell.short(), human::count(by, "cell"));
    }
    text
}

/// Each cell counts its own chunks, and most chunks are on several cells: all together they have at least as many as the
/// one that counts the most, and no more than the sum.
fn spread(counts: impl Iterator<Item = u64> + Clone) -> Option<String> {
    let (least, most) = (counts.clone().max().unwrap_or_default(), counts.sum::<u64>());
    (most > 0).then(|| if least == most { least.to_string() } else { format!("{least} to {most}") })
}

fn row(cell: &CellView) -> [String; 7] {
    let untold = || "?".to_owned();
    [
        cell.node_id.short(),
        cell.url.trim_start_matches("http://").to_owned(),
        cell.role.to_string(),
        if cell.state == Presence::Active { cell.status.to_string() } else { cell.state.to_string() },
        cell.chunks.map_or_else(untold, |chunks| chunks.to_string()),
        cell.free.map_or_else(untold, human::bytes),
        if cell.seen_ms == 0 { "now".to_owned() } else { human::ago(cell.seen_ms) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::beacon::{Role, Status};
    use crate::wire::status::DrainProgress;

    fn cell(n: u8, state: Presence, seen_ms: u64) -> Row {
        let view = CellView {
            node_id: CellId::from_bytes([n; 16]),
            url: format!("http://10.0.0.{n}:8080"),
            role: Role::Storage,
            status: Status::Full,
            state,
            free: Some(5 << 30),
            chunks: None,
            seen_ms,
        };
        Row { view, life: None }
    }

    #[test]
    fn the_table_lines_up_and_counts() {
        let text = table(&[cell(7, Presence::Active, 0), cell(123, Presence::Dead, 600_000)]);
        let expected = "\
CELL      ADDRESS          ROLE     STATE  CHUNKS  FREE     LAST HEARD
07070707  10.0.0.7:8080    storage  full   ?       5.0 GiB  now
7b7b7b7b  10.0.0.123:8080  storage  dead   ?       5.0 GiB  10 min ago
2 cells, 1 active
";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_needs_time_or_somebody_is_told_below_the_table_and_in_json() {
        let mut cells = [1, 2, 3].map(|n| cell(n, Presence::Active, 0));
        assert_eq!(needs(&cells), "");
        cells[0].life = Some(Activity { short: 12, stuck: 3, ..Activity::default() });
        assert_eq!(needs(&cells), "chunks short of copies: 12 (3 stuck)\n");
        let isolated = vec![CellId::from_bytes([9; 16])];
        let drain = DrainProgress { left: 120, total: 200, stuck: 0, safe: false };
        let life = Activity { short: 4, isolated: isolated.clone(), drain: Some(drain), ..Activity::default() };
        cells[1].life = Some(life);
        let drain = DrainProgress { left: 0, total: 200, stuck: 0, safe: true };
        cells[2].life = Some(Activity { isolated, drain: Some(drain), ..Activity::default() });
        let expected = "\
chunks short of copies: 12 to 16 (3 stuck)
02020202 is being drained: 120 of 200 copies left
03030303 can be unplugged
09090909 is isolated by 2 cells: it had bad copies
";
        assert_eq!(needs(&cells), expected);
        let json = serde_json::to_value(&cells[0]).unwrap();
        assert_eq!((&json["life"]["short"], &json["url"]), (&12.into(), &"http://10.0.0.1:8080".into()));
    }
}
