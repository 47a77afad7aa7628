//! `cellsync status`: the cells of the colony as a table.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::Serialize;

use crate::cli::client_config::ClientConfig;
use crate::cli::error::{CommandError, failed};
use crate::cli::terminal::{print, print_json};
use crate::client::{ClientError, ColonyScope, find_cells, query_cells};
use crate::human;
use crate::id::CellId;
use crate::net::client::{Http, Timeouts};
use crate::wire::peers::{CellView, Presence};
use crate::wire::status::Activity;

const NAME: &str = "cellsync status";

/// Maximum number of cells that are queried for their members. A few suffice: each of them remembers dead cells.
const MAX_MEMBER_LISTS: usize = 3;

with_colony_options! {
    /// Show the cells of the colony and what needs attention.
    #[argh(
        subcommand,
        name = "status",
        error_code(0, "printed"),
        error_code(1, "failed"),
        error_code(2, "invalid arguments"),
        error_code(3, "no cell responds")
    )]
    command struct Args {
        /// print the result as JSON
        #[argh(switch)]
        json: bool,
    }
}

pub(super) fn run(args: &Args) -> ExitCode {
    match cells(args) {
        Ok(cells) if args.json => print_json(NAME, &serde_json::json!({ "cells": cells })),
        Ok(cells) => print(NAME, &table(&cells)),
        Err(error) => failed(NAME, &error),
    }
}

fn cells(args: &Args) -> Result<Vec<Row>, CommandError> {
    Ok(query(&args.scope(&ClientConfig::load()?)?)?)
}

/// A cell, and what it is doing, if it responds.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    view: CellView,
    #[serde(rename = "life", skip_serializing_if = "Option::is_none")]
    activity: Option<Activity>,
    /// Is its disk read-only, as the cell itself says?
    read_only: bool,
}

/// Asks every cell for its own status, and some for the cells that do not respond.
fn query(scope: &ColonyScope) -> Result<Vec<Row>, ClientError> {
    let http = Http::new(Timeouts::PROBE, 1, 16);
    let found = find_cells(&http, scope, usize::MAX)?;
    let statuses = found.iter().zip(query_cells(&found, |cell| http.status(&cell.url).ok()));
    let mut cells: BTreeMap<CellId, Row> = statuses
        .filter_map(|(cell, status)| {
            let (own, activity, read_only) =
                status.map(|status| (status.beacon, Some(status.activity), status.read_only))?;
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
            Some((own.node_id, Row { view, activity, read_only }))
        })
        .collect();
    if cells.is_empty() {
        return Err(ClientError::NoCells { scope: scope.clone() });
    }
    for cell in found.iter().take(MAX_MEMBER_LISTS) {
        for view in http.peers(&cell.url).map(|peers| peers.cells).unwrap_or_default() {
            match cells.get(&view.node_id) {
                Some(known) if known.view.seen_ms <= view.seen_ms => {}
                _ => drop(cells.insert(view.node_id, Row { view, activity: None, read_only: false })),
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
    let mut rows = vec![["CELL", "ADDRESS", "ROLE", "STATE", "CHUNKS", "FREE", "LAST SEEN"].map(ToOwned::to_owned)];
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
    text + &attention(cells)
}

/// What is in progress or needs attention, a line for each. Empty if all is well.
fn attention(cells: &[Row]) -> String {
    let mut text = String::new();
    let activities = || cells.iter().filter_map(|cell| cell.activity.as_ref());
    if let Some(short) = range_of_total(activities().map(|activity| activity.short)) {
        let stuck = range_of_total(activities().map(|activity| activity.stuck));
        let stuck = stuck.map_or_else(String::new, |stuck| format!(" ({stuck} stuck: no cell can take a copy)"));
        text += &format!("under-replicated chunks: {short}{stuck}\n");
    }
    if let Some(wait_s) = activities().filter_map(|activity| activity.split_wait_s).max() {
        let wait = human::count(wait_s.div_ceil(60), "minute");
        text += &format!("healing waits up to {wait}: many cells fell silent at once, check the network\n");
    }
    for cell in cells {
        let Some(drain) = cell.activity.as_ref().and_then(|activity| activity.drain.as_ref()) else { continue };
        let name = cell.view.node_id.short();
        text += &if drain.safe {
            format!("{name} can be unplugged\n")
        } else {
            format!("{name} is draining: {} of {} left\n", drain.left, human::copies(drain.total))
        };
    }
    for cell in cells {
        let Some(activity) = cell.activity.as_ref().filter(|activity| activity.suspect_copies > 0 || activity.failing)
        else {
            continue;
        };
        let (name, unread) = (cell.view.node_id.short(), human::copies(activity.suspect_copies));
        let failing = if activity.failing { ", which is failing, and takes no new chunks" } else { "" };
        text += &format!("{name} cannot read {unread} on its disk{failing}; check the disk and its cable\n");
    }
    for cell in cells.iter().filter(|cell| cell.read_only) {
        let name = cell.view.node_id.short();
        text += &format!("{name} accepts nothing: its disk is read-only; check it, and mount it for writing\n");
    }
    let mut isolated: BTreeMap<CellId, usize> = BTreeMap::new();
    for cell in activities().flat_map(|activity| &activity.isolated) {
        *isolated.entry(*cell).or_default() += 1;
    }
    for (cell, by) in isolated {
        text += &format!("{} is isolated by {}: it delivered bad copies\n", cell.short(), human::count(by, "cell"));
    }
    text
}

/// The number of distinct chunks that several cells count, each among its own. Most chunks are on several cells, so the
/// number is between the highest count and the sum.
fn range_of_total(counts: impl Iterator<Item = u64> + Clone) -> Option<String> {
    let (min, max) = (counts.clone().max().unwrap_or_default(), counts.sum::<u64>());
    (max > 0).then(|| if min == max { min.to_string() } else { format!("{min} to {max}") })
}

fn row(cell: &CellView) -> [String; 7] {
    let unknown = || "?".to_owned();
    [
        cell.node_id.short(),
        cell.url.trim_start_matches("http://").to_owned(),
        cell.role.to_string(),
        if cell.state == Presence::Active { cell.status.to_string() } else { cell.state.to_string() },
        cell.chunks.map_or_else(unknown, |chunks| chunks.to_string()),
        cell.free.map_or_else(unknown, human::bytes),
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
        Row { view, activity: None, read_only: false }
    }

    #[test]
    fn columns_are_aligned() {
        let text = table(&[cell(7, Presence::Active, 0), cell(123, Presence::Dead, 600_000)]);
        let expected = "\
CELL      ADDRESS          ROLE     STATE  CHUNKS  FREE     LAST SEEN
07070707  10.0.0.7:8080    storage  full   ?       5.0 GiB  now
7b7b7b7b  10.0.0.123:8080  storage  dead   ?       5.0 GiB  10 min ago
2 cells, 1 active
";
        assert_eq!(text, expected);
    }

    #[test]
    fn attention_is_below_the_table_and_in_json() {
        let mut cells = [1, 2, 3].map(|n| cell(n, Presence::Active, 0));
        assert_eq!(attention(&cells), "");
        cells[0].activity = Some(Activity { short: 12, stuck: 3, ..Activity::default() });
        assert_eq!(attention(&cells), "under-replicated chunks: 12 (3 stuck: no cell can take a copy)\n");
        cells[0].activity = Some(Activity { split_wait_s: Some(840), ..Activity::default() });
        let waits = "healing waits up to 14 minutes: many cells fell silent at once, check the network\n";
        assert_eq!(attention(&cells), waits);
        cells[0].activity = Some(Activity { short: 12, stuck: 3, ..Activity::default() });
        let isolated = vec![CellId::from_bytes([9; 16])];
        let drain = DrainProgress { left: 120, total: 200, stuck: 0, safe: false };
        let activity = Activity { short: 4, isolated: isolated.clone(), drain: Some(drain), ..Activity::default() };
        cells[1].activity = Some(activity);
        let drain = DrainProgress { left: 0, total: 200, stuck: 0, safe: true };
        cells[2].activity =
            Some(Activity { isolated, drain: Some(drain), suspect_copies: 12, failing: true, ..Activity::default() });
        cells[0].read_only = true;
        let expected = "\
under-replicated chunks: 12 to 16 (3 stuck: no cell can take a copy)
02020202 is draining: 120 of 200 copies left
03030303 can be unplugged
03030303 cannot read 12 copies on its disk, which is failing, and takes no new chunks; check the disk and its cable
01010101 accepts nothing: its disk is read-only; check it, and mount it for writing
09090909 is isolated by 2 cells: it delivered bad copies
";
        assert_eq!(attention(&cells), expected);
        let json = serde_json::to_value(&cells[0]).unwrap();
        assert_eq!((&json["life"]["short"], &json["url"]), (&12.into(), &"http://10.0.0.1:8080".into()));
    }
}
