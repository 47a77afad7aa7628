//! Bytes of a copy flip on a disk, and the colony finds them.

// A shell: it tells how long things took.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use console::{StyledObject, style};

use crate::demo::colony::Colony;
use crate::demo::disks;
use crate::demo::disks::{Disks, FLIPPED_BYTES};
use crate::demo::file::Stored;
use crate::demo::genesis::of_role;
use crate::demo::live::Live;
use crate::demo::map::Map;
use crate::demo::narration::{Stage, line, tell, warn};
use crate::demo::timing::Watch;
use crate::demo::wait::{Deadline, HEALING};
use crate::demo::{DemoError, Scene};
use crate::id::ChunkId;
use crate::wire::beacon::Role;
use crate::wire::status::CellStatus;

/// Words that begin a line about what the colony does by itself.
pub(super) fn word(text: &str) -> StyledObject<String> {
    style(format!("{text:<10}")).bold()
}

pub(super) fn corruption(scene: &Scene, colony: &Colony, stored: &Stored, watch: Watch) -> Result<(), DemoError> {
    scene.stage(Stage::Corruption)?;
    let mut disks = Disks::default();
    if stored.ids.is_empty() {
        line("an empty file has no chunks, so there is nothing to damage");
        return Ok(());
    }
    let columns: Vec<_> = colony.cells().iter().map(|cell| disks.verified(cell, &stored.ids)).collect();
    let map = Map::new(&stored.ids, &columns);
    // A guard looks at the copies of others only.
    let spared = guards(scene, colony, watch)?;
    let Some((holder, number, chunk)) = map.soonest_found(&spared) else {
        warn("with one living copy of each chunk none can be spared: none is damaged");
        return Ok(());
    };
    let Some(cell) = colony.cell(holder) else { return Ok(()) };
    let before = colony.statuses();
    disks.flip(cell, chunk)?;
    tell(&format!(
        "{FLIPPED_BYTES} bytes in the middle of cell {}'s copy of chunk {number} ({}) flip on its disk, behind its back",
        cell.number,
        chunk.short()
    ));
    follow(scene, colony, &before, cell.number, chunk, watch, &mut disks)
}

/// The guards, where they are to find it.
fn guards(scene: &Scene, colony: &Colony, watch: Watch) -> Result<Vec<usize>, DemoError> {
    if watch != Watch::Guards {
        return Ok(Vec::new());
    }
    let guards = || of_role(&colony.roles(), Role::Guard).collect::<Vec<_>>();
    // One that died may just be replaced.
    Deadline::of_cells(HEALING)
        .wait(scene.stop, "no cell has become a guard", || Ok(Some(guards()).filter(|guards| !guards.is_empty())))
}

/// Tells, as it happens, who found the bad copy, that it was set aside, and that a good one took its place.
fn follow(
    scene: &Scene,
    colony: &Colony,
    before: &BTreeMap<usize, CellStatus>,
    victim: usize,
    chunk: &ChunkId,
    watch: Watch,
    disks: &mut Disks,
) -> Result<(), DemoError> {
    let Some(cell) = colony.cell(victim) else { return Ok(()) };
    let mut live = Live::new();
    let (mut told, mut is_alerted) = (0, false);
    if watch == Watch::Scrub {
        line("no guard will find it soon, here: but each cell looks through its own copies");
    }
    let trouble = format!("cell {victim} has no good copy of chunk {} again", chunk.short());
    Deadline::of_cells(HEALING).wait(scene.stop, &trouble, || {
        if told == 0 {
            let statuses = colony.statuses();
            match raiser(before, &statuses) {
                Some(finder) => {
                    let is_guard = statuses.get(&finder).is_some_and(|status| status.beacon.role == Role::Guard);
                    let role = if is_guard { "guard" } else { "another holder" };
                    live.tell(format_args!(
                        "{}  cell {finder} ({role}) has fetched it, hashed it, and warns all",
                        word("ALERT").red()
                    ));
                    is_alerted = true;
                }
                None if watch == Watch::Guards => return Ok(None),
                None => {}
            }
            told = 1;
        }
        if told == 1 && disks::is_quarantined(cell, chunk) {
            let by = if is_alerted { "looks for itself, and" } else { "came upon it, and" };
            live.tell(format_args!("{}  cell {victim} {by} sets the bad copy aside", word("QUARANTINE").yellow()));
            told = 2;
        }
        if told == 2 && disks.is_good(cell, chunk) == Some(true) {
            let what = format!("cell {victim} has fetched a good copy from another holder");
            live.tell(format_args!("{}  {what}", word("RECOVERY").green()));
            told = 3;
        }
        Ok((told == 3).then_some(()))
    })?;
    if is_alerted {
        tell("an alert is a hint and never an order: nobody has believed it, all have looked");
    }
    Ok(())
}

/// The cell that has seen more bad copies of others than before; a guard, if there are several.
pub(super) fn raiser(before: &BTreeMap<usize, CellStatus>, now: &BTreeMap<usize, CellStatus>) -> Option<usize> {
    let seen = |number: &usize| before.get(number).map_or(0, |status| status.activity.audits_bad);
    let more = now.iter().filter(|(number, status)| status.activity.audits_bad > seen(number));
    more.min_by_key(|(_, status)| status.beacon.role != Role::Guard).map(|(number, _)| *number)
}
