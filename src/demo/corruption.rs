//! The stage corruption: a copy is damaged on a disk, and the colony finds and replaces it.

// A shell: it measures how long things take.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use console::{StyledObject, style};

use crate::demo::colony::Colony;
use crate::demo::disks;
use crate::demo::disks::{DAMAGED_BYTES, Disks};
use crate::demo::file::Stored;
use crate::demo::genesis::with_role;
use crate::demo::live::LiveMap;
use crate::demo::map::Map;
use crate::demo::narration::{Stage, line, paragraph, warn};
use crate::demo::timing::Detection;
use crate::demo::wait::{Deadline, HEALING_TIMEOUT};
use crate::demo::{DemoError, Scene};
use crate::id::ChunkId;
use crate::wire::beacon::Role;
use crate::wire::status::CellStatus;

/// The word at the start of a line about an action of the colony.
pub(super) fn action(text: &str) -> StyledObject<String> {
    style(format!("{text:<10}")).bold()
}

pub(super) fn corruption(
    scene: &Scene,
    colony: &Colony,
    stored: &Stored,
    detection: Detection,
) -> Result<(), DemoError> {
    scene.stage(Stage::Corruption)?;
    let mut disks = Disks::default();
    if stored.ids.is_empty() {
        line("an empty file has no chunks, so there is nothing to damage");
        return Ok(());
    }
    let columns: Vec<_> = colony.cells().iter().map(|cell| disks.verify(cell, &stored.ids)).collect();
    let map = Map::new(&stored.ids, &columns);
    // A guard audits only the copies of other cells.
    let spared = guards(scene, colony, detection)?;
    let Some((holder, number, chunk)) = map.soonest_found(&spared) else {
        warn("no chunk has two copies on running cells, so no copy can be damaged without losing data");
        return Ok(());
    };
    let Some(cell) = colony.cell(holder) else { return Ok(()) };
    let before = colony.statuses();
    disks.damage(cell, chunk)?;
    paragraph(&format!(
        "changing {DAMAGED_BYTES} bytes of cell {}'s copy of chunk {number} ({}) on its disk, without the cell's knowledge",
        cell.number,
        chunk.short()
    ));
    follow(scene, colony, &before, cell.number, chunk, detection, &mut disks)
}

/// The guards, if the damage is to be found by one.
fn guards(scene: &Scene, colony: &Colony, detection: Detection) -> Result<Vec<usize>, DemoError> {
    if detection != Detection::Guards {
        return Ok(Vec::new());
    }
    let guards = || with_role(&colony.roles(), Role::Guard).collect::<Vec<_>>();
    // A guard that was killed is replaced within seconds.
    Deadline::of_cells(HEALING_TIMEOUT)
        .wait(scene.stop, "no cell has become a guard", || Ok(Some(guards()).filter(|guards| !guards.is_empty())))
}

/// Shows as it happens which cell finds the bad copy, its quarantine, and its replacement.
fn follow(
    scene: &Scene,
    colony: &Colony,
    before: &BTreeMap<usize, CellStatus>,
    victim: usize,
    chunk: &ChunkId,
    detection: Detection,
    disks: &mut Disks,
) -> Result<(), DemoError> {
    let Some(cell) = colony.cell(victim) else { return Ok(()) };
    let mut live = LiveMap::new();
    let (mut step, mut is_alerted) = (0, false);
    if detection == Detection::Scrub {
        line("in this colony no guard finds it soon, but each cell scrubs its own copies");
    }
    let condition = format!("cell {victim} has not replaced its bad copy of chunk {}", chunk.short());
    Deadline::of_cells(HEALING_TIMEOUT).wait(scene.stop, &condition, || {
        if step == 0 {
            let statuses = colony.statuses();
            match finder(before, &statuses) {
                Some(finder) => {
                    let is_guard = statuses.get(&finder).is_some_and(|status| status.beacon.role == Role::Guard);
                    let role = if is_guard { "guard" } else { "another holder" };
                    live.event(format_args!(
                        "{}  cell {finder} ({role}) found it bad and alerts all cells",
                        action("ALERT").red()
                    ));
                    is_alerted = true;
                }
                None if detection == Detection::Guards => return Ok(None),
                None => {}
            }
            step = 1;
        }
        if step == 1 && disks::is_quarantined(cell, chunk) {
            let how = if is_alerted { "checked its copy" } else { "found it by a scrub" };
            let text = format!("cell {victim} {how} and quarantined it");
            live.event(format_args!("{}  {text}", action("QUARANTINE").yellow()));
            step = 2;
        }
        if step == 2 && disks.is_good(cell, chunk) == Some(true) {
            let text = format!("cell {victim} fetched a good copy from another holder");
            live.event(format_args!("{}  {text}", action("RECOVERY").green()));
            step = 3;
        }
        Ok((step == 3).then_some(()))
    })?;
    if is_alerted {
        paragraph("an alert is only a hint: each cell that received it checked the copy itself");
    }
    Ok(())
}

/// The cell that has found more bad copies of other cells than before; a guard, if there are several.
pub(super) fn finder(before: &BTreeMap<usize, CellStatus>, now: &BTreeMap<usize, CellStatus>) -> Option<usize> {
    let found = |number: &usize| before.get(number).map_or(0, |status| status.activity.audits_bad);
    let more = now.iter().filter(|(number, status)| status.activity.audits_bad > found(number));
    more.min_by_key(|(_, status)| status.beacon.role != Role::Guard).map(|(number, _)| *number)
}
