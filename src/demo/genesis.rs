//! The stages genesis and differentiation: cells start as stem cells, find each other, and take roles.

// A shell: it measures how long things take.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::time::Instant;

use crate::demo::colony::Colony;
use crate::demo::narration::{Stage, line, note, paragraph};
use crate::demo::timing::{Detection, MIN_CELLS_FOR_GUARDS, settings};
use crate::demo::wait::{CELL_TIMEOUT, Deadline};
use crate::demo::{DemoError, Scene};
use crate::human;
use crate::wire::beacon::Role;

/// Up to this many cells are listed on a line each; more are listed in rows.
const MAX_LISTED: usize = 12;
const CELLS_PER_ROW: usize = 4;

pub(super) fn genesis(scene: &Scene, count: usize, blocks: u64, detection: Detection) -> Result<Colony, DemoError> {
    scene.stage(Stage::Genesis)?;
    line(format_args!(
        "{} on this machine, each a process with a data folder of its own in",
        human::count(count, "cell")
    ));
    line(scene.folder.display());
    let settings = settings(count, blocks, detection);
    for row in rows(&settings) {
        note(row);
    }
    let began = Instant::now();
    let colony = Colony::start(scene.folder, count, &settings, scene.stop)?;
    let cells = colony.cells();
    if count <= MAX_LISTED {
        let roles = colony.roles();
        for cell in cells {
            let address = cell.url.trim_start_matches("http://");
            let role = roles.get(&cell.number).copied().unwrap_or_default();
            line(format_args!("cell {:<2}  {}  {address}  {role}  pid {}", cell.number, cell.id.short(), cell.pid));
        }
    } else {
        for row in cells.chunks(CELLS_PER_ROW) {
            let names: Vec<_> =
                row.iter().map(|cell| format!("{:>2} {} {:<7}", cell.number, cell.id.short(), cell.pid)).collect();
            line(names.join(" ").trim_end());
        }
    }
    colony.wait_until_connected(scene.stop)?;
    let seconds = began.elapsed().as_secs_f64();
    if count == 1 {
        line(format_args!("the only cell is ready after {seconds:.1} s"));
    } else {
        line(format_args!("all cells found each other by their beacons in {seconds:.1} s; none is a master"));
    }
    Ok(colony)
}

/// The `--set` options, two in a row.
fn rows(settings: &[String]) -> Vec<String> {
    let mut rows = vec!["options that make this colony faster than the defaults:".to_owned()];
    for pair in settings.chunks(2) {
        let words: Vec<_> = pair.iter().map(|setting| format!("--set {setting}")).collect();
        rows.push(format!("  {}", words.join(" ")));
    }
    rows
}

pub(super) fn differentiation(scene: &Scene, colony: &Colony) -> Result<(), DemoError> {
    scene.stage(Stage::Differentiation)?;
    let stems = colony.roles().values().filter(|role| **role == Role::Stem).count();
    let count = colony.cells().len();
    line(format_args!("stem cells: {stems} of {count}"));
    paragraph(
        "each cell takes the role that the colony needs; all cells apply one rule to the same list of members, so they need no vote",
    );
    let deadline = Deadline::of_cells(CELL_TIMEOUT);
    let roles = deadline.wait(scene.stop, "not every cell has taken a role", || {
        let roles = colony.roles();
        let has_guards = count < MIN_CELLS_FOR_GUARDS || with_role(&roles, Role::Guard).next().is_some();
        Ok((roles.len() == count && with_role(&roles, Role::Stem).next().is_none() && has_guards).then_some(roles))
    })?;
    let seconds = deadline.seconds();
    for (role, task) in [
        (Role::Storage, "stores chunks and heals"),
        (Role::Guard, "also audits the copies of other cells and raises alerts"),
    ] {
        let cells: Vec<_> = with_role(&roles, role).map(|number| number.to_string()).collect();
        if !cells.is_empty() {
            let noun = if cells.len() == 1 { "cell" } else { "cells" };
            paragraph(&format!("{role} ({task}): {noun} {}", cells.join(", ")));
        }
    }
    if count < MIN_CELLS_FOR_GUARDS {
        note(format_args!(
            "with fewer than {MIN_CELLS_FOR_GUARDS} cells there is no guard: every cell is needed for copies"
        ));
    }
    line(format_args!("all cells have a role after {seconds:.1} s"));
    Ok(())
}

/// The numbers of the cells with this role.
pub(super) fn with_role(roles: &BTreeMap<usize, Role>, role: Role) -> impl Iterator<Item = usize> + '_ {
    roles.iter().filter(move |(_, other)| **other == role).map(|(number, _)| *number)
}
