//! The first two stages: cells start as stem cells, find each other, and become what the colony needs.

// A shell: it tells how long things took.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::time::Instant;

use crate::demo::colony::Colony;
use crate::demo::narration::{Stage, aside, line, tell};
use crate::demo::timing::{MIN_CELLS_FOR_GUARDS, Watch, settings};
use crate::demo::wait::{Deadline, PATIENCE};
use crate::demo::{DemoError, Scene};
use crate::human;
use crate::wire::beacon::Role;

/// More cells than this are named several in a line.
const MAX_LISTED: usize = 12;
const NAMED_IN_A_LINE: usize = 4;

pub(super) fn genesis(scene: &Scene, count: usize, blocks: u64, watch: Watch) -> Result<Colony, DemoError> {
    scene.stage(Stage::Genesis)?;
    line(format_args!("{} on this machine: a process and a folder for each, under", human::count(count, "cell")));
    line(scene.folder.display());
    let settings = settings(count, blocks, watch);
    for row in rows(&settings) {
        aside(row);
    }
    let began = Instant::now();
    let colony = Colony::start(scene.folder, count, &settings, scene.stop)?;
    let cells = colony.cells();
    if count <= MAX_LISTED {
        let roles = colony.roles();
        for cell in cells {
            let door = cell.url.trim_start_matches("http://");
            let role = roles.get(&cell.number).copied().unwrap_or_default();
            line(format_args!("cell {:<2}  {}  {door}  {role}  pid {}", cell.number, cell.id.short(), cell.pid));
        }
    } else {
        for row in cells.chunks(NAMED_IN_A_LINE) {
            let names: Vec<_> =
                row.iter().map(|cell| format!("{:>2} {} {:<7}", cell.number, cell.id.short(), cell.pid)).collect();
            line(names.join(" ").trim_end());
        }
    }
    colony.wait_until_all_know_each_other(scene.stop)?;
    let seconds = began.elapsed().as_secs_f64();
    if count == 1 {
        line(format_args!("it is alone, and ready after {seconds:.1} s"));
    } else {
        line(format_args!("all know each other after {seconds:.1} s, from their beacons; there is no master"));
    }
    Ok(colony)
}

/// `--set` options, some in a line.
fn rows(settings: &[String]) -> Vec<String> {
    let mut rows = vec!["quicker than real ones, by options that real ones have:".to_owned()];
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
    line(format_args!("still stem cells: {stems} of {count}"));
    tell("each looks at whom it knows, and takes the role that is needed of it, with no vote: all come to the same");
    let deadline = Deadline::of_cells(PATIENCE);
    let roles = deadline.wait(scene.stop, "the cells have not taken their roles", || {
        let roles = colony.roles();
        let has_guards = count < MIN_CELLS_FOR_GUARDS || of_role(&roles, Role::Guard).next().is_some();
        Ok((roles.len() == count && of_role(&roles, Role::Stem).next().is_none() && has_guards).then_some(roles))
    })?;
    let seconds = deadline.seconds();
    for (role, does) in [
        (Role::Storage, "to hold chunks, and to heal"),
        (Role::Guard, "to look at the copies of others as well, and to warn of bad ones"),
    ] {
        let cells: Vec<_> = of_role(&roles, role).map(|number| number.to_string()).collect();
        if !cells.is_empty() {
            let noun = if cells.len() == 1 { "cell" } else { "cells" };
            tell(&format!("{role}: {noun} {}, {does}", cells.join(", ")));
        }
    }
    if count < MIN_CELLS_FOR_GUARDS {
        aside(format_args!(
            "a colony of fewer than {MIN_CELLS_FOR_GUARDS} has no guard: every cell is needed for copies"
        ));
    }
    line(format_args!("no stem cell is left after {seconds:.1} s"));
    Ok(())
}

/// The numbers of the cells that have this role.
pub(super) fn of_role(roles: &BTreeMap<usize, Role>, role: Role) -> impl Iterator<Item = usize> + '_ {
    roles.iter().filter(move |(_, other)| **other == role).map(|(number, _)| *number)
}
