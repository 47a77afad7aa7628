//! The stages attack and healing: cells are killed, and the others replace the lost copies.

// A shell: it measures how long things take.
#![allow(clippy::disallowed_methods)]

use console::style;

use crate::demo::colony::Colony;
use crate::demo::disks;
use crate::demo::file::{Stored, show_map};
use crate::demo::live::LiveMap;
use crate::demo::map::Map;
use crate::demo::narration::{Stage, line, note, paragraph, percent, warn};
use crate::demo::wait::{CELL_TIMEOUT, Deadline, healing_timeout};
use crate::demo::{DemoError, Scene};
use crate::human;
use crate::id::DEFAULT_COPIES;
use crate::wire::beacon::Role;
use crate::wire::peers::Presence;

/// The attack leaves one holder of a chunk alive.
pub(super) const MAX_KILLED: usize = DEFAULT_COPIES as usize - 1;

/// Counters are read at the latest after this time, in seconds, even if they have not reached the expected number.
const COUNTED_AFTER_S: f64 = 5.0;

/// The number of copies that each chunk can have: at most one on each running cell.
pub(super) fn goal(colony: &Colony) -> usize {
    colony.running().count().min(DEFAULT_COPIES.into())
}

/// The number of cells to kill: the rest can hold all copies, if there are enough cells at all.
fn most_killed(cells: usize) -> usize {
    cells.saturating_sub(DEFAULT_COPIES.into()).clamp(1, MAX_KILLED)
}

/// The number of cells that survive the attack.
pub(super) fn survivors(cells: usize) -> usize {
    cells - most_killed(cells).min(cells)
}

/// Kills holders of one chunk: as many as leave enough cells to heal to, and at least one.
pub(super) fn attack(scene: &Scene, colony: &mut Colony, stored: &Stored) -> Result<(), DemoError> {
    scene.stage(Stage::Attack)?;
    let mut map = stored.map(colony);
    let Some((chunk, holders)) = map.first() else {
        line("an empty file has no chunks, so there is nothing to attack");
        return Ok(());
    };
    if !holders.iter().any(|&cell| map.can_spare(cell)) {
        warn("some chunk has only one copy, so no cell can be killed without losing data");
        return Ok(());
    }
    let most = most_killed(colony.cells().len());
    paragraph(&format!(
        "killing {most} of the {} of chunk 0 ({}) with SIGKILL",
        human::count(holders.len(), "holder"),
        chunk.short(),
    ));
    // Guards last: the stage corruption needs one.
    let roles = colony.roles();
    let (guards, others): (Vec<usize>, Vec<usize>) =
        holders.into_iter().partition(|number| roles.get(number) == Some(&Role::Guard));
    for number in others.into_iter().chain(guards) {
        if scene.stop.is_set() {
            return Err(DemoError::Stopped);
        }
        // The last copy of a chunk is never killed: in a small colony, a put may have stored some chunk only once.
        if colony.dead().count() == most || !map.can_spare(number) {
            continue;
        }
        colony.kill(number)?;
        map.kill(number);
        if let Some(cell) = colony.cell(number) {
            line(style(format!("cell {number:<2}  {}  pid {} is dead", cell.id.short(), cell.pid)).red());
        }
    }
    let (lost, all) = map.lost();
    line(format_args!(
        "{} of {} still answer; {lost} of {} lost",
        colony.statuses().len(),
        human::count(colony.cells().len(), "cell"),
        human::copies(all),
    ));
    line(format_args!("each chunk still has at least {}", human::copies(map.fewest_copies())));
    show_map(&map);
    Ok(())
}

/// The bytes and copies that the running cells have sent each other to heal.
fn healed(colony: &Colony) -> (u64, u64) {
    let statuses = colony.statuses().into_values().map(|status| status.activity);
    statuses.fold((0, 0), |(bytes, copies), one| (bytes + one.healed_bytes, copies + one.healed_copies))
}

/// Shows how the colony notices the dead cells and heals.
pub(super) fn healing(scene: &Scene, colony: &Colony, stored: &Stored) -> Result<(), DemoError> {
    scene.stage(Stage::Healing)?;
    let mut live = LiveMap::new();
    let deadline = Deadline::new(CELL_TIMEOUT);
    for dead in colony.dead() {
        colony.wait_until_all_see(dead.id, Presence::Dead, &deadline, scene.stop)?;
    }
    live.event("all other cells have noticed: no beacons, and no answer to a probe");
    let goal = goal(colony);
    if stored.map(colony).has(goal) && goal < usize::from(DEFAULT_COPIES) {
        paragraph(&format!(
            "every running cell has a copy of each chunk; {} are possible until more cells join",
            human::copies(goal),
        ));
        return Ok(());
    }
    note("the fewer copies a chunk has left, the sooner it is healed");
    let bytes = stored.sealed_bytes * u64::from(DEFAULT_COPIES);
    let map = watch_healing(scene, colony, bytes, &mut live, || stored.map(colony))?;
    let (lost, _) = map.lost();
    let lost_bytes: u64 = colony.dead().map(|cell| disks::bytes(cell, &stored.ids)).sum();
    // A copy is on the disk a moment before its sender counts it, and is not counted if the response was lost.
    let counted = Deadline::of_cells(CELL_TIMEOUT);
    let (moved, copies) = counted.wait(scene.stop, "the cells do not report the copies that they sent", || {
        let (moved, copies) = healed(colony);
        Ok((copies >= lost as u64 || counted.seconds() > COUNTED_AFTER_S).then_some((moved, copies)))
    })?;
    line(format_args!("lost  {lost:>3} copies, {}", human::bytes(lost_bytes)));
    line(format_args!(
        "sent  {copies:>3} copies, {}: {} % of what was lost",
        human::bytes(moved),
        percent(moved, lost_bytes),
    ));
    Ok(())
}

/// Waits until every chunk has all possible copies and no bad one, and shows the progress.
pub(super) fn watch_healing(
    scene: &Scene,
    colony: &Colony,
    bytes: u64,
    live: &mut LiveMap,
    mut read_map: impl FnMut() -> Map,
) -> Result<Map, DemoError> {
    let goal = goal(colony);
    let condition = format!("not every chunk has {} again and no bad one", human::copies(goal));
    let map = Deadline::of_cells(healing_timeout(bytes)).wait(scene.stop, &condition, || {
        let map = read_map();
        live.show(&map);
        Ok((map.has(goal) && !map.has_bad()).then_some(map))
    })?;
    live.finish(&map);
    line(style(format!("each chunk has {} again after {}", human::copies(goal), live.elapsed())).green());
    Ok(map)
}
