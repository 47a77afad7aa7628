//! The stage liar: a lying cell joins, accepts chunks and returns damaged ones; the colony isolates it and heals.

// A shell: it measures how long things take.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use console::style;

use crate::demo::attack::goal;
use crate::demo::colony::Colony;
use crate::demo::corruption::{action, finder};
use crate::demo::file::{Stored, upload_letters};
use crate::demo::genesis::with_role;
use crate::demo::liar::{CLAIMED_FREE_BYTES, Liar};
use crate::demo::live::LiveMap;
use crate::demo::narration::{Stage, line, note, paragraph};
use crate::demo::timing::MIN_CELLS_FOR_GUARDS;
use crate::demo::wait::{CELL_TIMEOUT, Deadline, healing_timeout};
use crate::demo::{DemoError, Scene};
use crate::human;
use crate::id::{CellId, DEFAULT_COPIES};
use crate::wire::beacon::Role;
use crate::wire::peers::Presence;
use crate::wire::status::CellStatus;

/// The fewest chunks of the second file. With more cells it has more, so that some holder finds three bad copies.
const LETTERS: usize = 8;
/// With more cells than this, finding the liar takes too long to watch.
const MAX_CELLS: usize = 12;

/// Returns the second file and the liar, which runs to the end of the demo; `None` if this colony has no such stage.
pub(super) fn isolation(scene: &Scene, colony: &Colony) -> Result<Option<(Stored, Liar)>, DemoError> {
    let running = colony.running().count();
    let Some(dead) = colony.dead().next() else { return Ok(None) };
    scene.stage(Stage::Liar)?;
    if running + 1 < MIN_CELLS_FOR_GUARDS {
        line("skipped: so small a colony has no guard");
        return Ok(None);
    }
    if running > MAX_CELLS {
        paragraph("skipped: guards audit random copies, and with this many cells it takes minutes to find a liar");
        return Ok(None);
    }
    let liar = Liar::start(dead.id, colony.udp_port())
        .map_err(|source| DemoError::Setup { action: "start the lying cell", source })?;
    paragraph(&format!(
        "a lying cell joins with the id of cell {} ({}), which is dead, and claims {} of free space",
        dead.number,
        dead.id.short(),
        human::bytes(CLAIMED_FREE_BYTES),
    ));
    let deadline = Deadline::new(CELL_TIMEOUT);
    colony.wait_until_all_see(liar.id, Presence::Active, &deadline, scene.stop)?;
    // One more cell may be the one with which the colony needs a guard.
    Deadline::of_cells(CELL_TIMEOUT)
        .wait(scene.stop, "no cell has become a guard", || Ok(with_role(&colony.roles(), Role::Guard).next()))?;
    let before = colony.statuses();
    let letters = upload_letters(LETTERS.max(running * 3 / 2), scene, colony)?;
    line(style(format!("it accepted {} and returns damaged ones", human::count(liar.accepted(), "chunk"))).red());
    follow(scene, colony, &before, &letters, liar.id)?;
    Ok(Some((letters, liar)))
}

/// Shows as it happens which cell finds a bad copy, which isolates the liar, and how the others replace its copies.
fn follow(
    scene: &Scene,
    colony: &Colony,
    before: &BTreeMap<usize, CellStatus>,
    letters: &Stored,
    liar: CellId,
) -> Result<(), DemoError> {
    let mut live = LiveMap::new();
    let (mut is_alerted, mut is_isolated) = (false, false);
    let goal = goal(colony);
    let bytes = letters.sealed_bytes * u64::from(DEFAULT_COPIES);
    let condition = format!("the liar is not isolated, or not every chunk has {} without it", human::copies(goal));
    let map = Deadline::of_cells(healing_timeout(bytes)).wait(scene.stop, &condition, || {
        let map = letters.map(colony);
        let statuses = colony.statuses();
        if let Some(finder) = finder(before, &statuses).filter(|_| !is_alerted) {
            let text = format!("cell {finder} received bytes that are not the chunk");
            live.event(format_args!("{}  {text}", action("ALERT").red()));
            is_alerted = true;
        }
        if let Some(first) = isolating(statuses.values(), liar).next().filter(|_| !is_isolated) {
            let number = statuses.iter().find(|(_, status)| status.beacon.node_id == first);
            let number = number.map_or(0, |(number, _)| *number);
            let text = format!("cell {number} found three bad copies and isolates the liar");
            live.event(format_args!("{}  {text}", action("ISOLATION").yellow()));
            is_isolated = true;
        }
        live.show(&map);
        Ok((is_isolated && map.has(goal)).then_some(map))
    })?;
    live.finish(&map);
    let statuses = colony.statuses();
    let isolating = isolating(statuses.values(), liar).count();
    line(format_args!(
        "{}  without the liar each chunk has {} after {}",
        action("RECOVERY").green(),
        human::copies(goal),
        live.elapsed()
    ));
    line(format_args!(
        "{isolating} of {} isolate it, each because of bad copies that it found itself",
        human::count(statuses.len(), "cell")
    ));
    if goal < usize::from(DEFAULT_COPIES) {
        note("there are too few cells for more copies");
    }
    Ok(())
}

/// The cells that isolate this cell.
fn isolating<'a>(statuses: impl Iterator<Item = &'a CellStatus>, culprit: CellId) -> impl Iterator<Item = CellId> {
    statuses.filter(move |status| status.activity.isolated.contains(&culprit)).map(|status| status.beacon.node_id)
}
