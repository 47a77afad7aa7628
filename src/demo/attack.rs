//! Cells are killed, and the others heal what was lost with them.

// A shell: it tells how long things took.
#![allow(clippy::disallowed_methods)]

use console::style;

use crate::demo::colony::Colony;
use crate::demo::disks;
use crate::demo::file::{Stored, show_map};
use crate::demo::live::Live;
use crate::demo::map::{Map, show_copies};
use crate::demo::narration::{Stage, aside, line, percent, tell, warn};
use crate::demo::wait::{Deadline, PATIENCE, healing_of};
use crate::demo::{DemoError, Scene};
use crate::human;
use crate::id::DEFAULT_COPIES;
use crate::wire::beacon::Role;
use crate::wire::peers::Presence;

/// One holder of the chunk is left.
pub(super) const MAX_KILLED: usize = DEFAULT_COPIES as usize - 1;

/// After so long, in seconds, what has not been counted is not going to be.
const COUNTED_AFTER_S: f64 = 5.0;

/// How many copies of each chunk there can be.
pub(super) fn goal(colony: &Colony) -> usize {
    colony.living().count().min(DEFAULT_COPIES.into())
}

/// How many of so many cells the attack kills: what it leaves can have all copies, if that can be.
fn most_killed(cells: usize) -> usize {
    cells.saturating_sub(DEFAULT_COPIES.into()).clamp(1, MAX_KILLED)
}

/// How many cells the attack leaves.
pub(super) fn left_of(cells: usize) -> usize {
    cells - most_killed(cells).min(cells)
}

/// Kills holders of one chunk: as many as leave cells enough to heal to, and one where that is none.
pub(super) fn attack(scene: &Scene, colony: &mut Colony, stored: &Stored) -> Result<(), DemoError> {
    scene.stage(Stage::Attack)?;
    let mut map = stored.map(colony);
    let Some((chunk, holders)) = map.first() else {
        line("an empty file has no chunks, so nobody holds anything worth killing for");
        return Ok(());
    };
    if !holders.iter().any(|&cell| map.can_spare(cell)) {
        warn("with one copy of each chunk no cell can be spared: none is killed");
        return Ok(());
    }
    let most = most_killed(colony.cells().len());
    tell(&format!(
        "of the {} of chunk 0 ({}) {most} {} SIGKILL, without warning",
        human::count(holders.len(), "holder"),
        chunk.short(),
        if most == 1 { "gets" } else { "get" },
    ));
    // Guards last: they are the story's other half.
    let roles = colony.roles();
    let (guards, others): (Vec<usize>, Vec<usize>) =
        holders.into_iter().partition(|number| roles.get(number) == Some(&Role::Guard));
    for number in others.into_iter().chain(guards) {
        if scene.stop.is_set() {
            return Err(DemoError::Stopped);
        }
        // A last copy is never killed: a put into a small colony may have left some chunk with one.
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
        "{} of {} still answer; {lost} of {all} copies are gone",
        colony.statuses().len(),
        human::count(colony.cells().len(), "cell"),
    ));
    line(format_args!("left of each chunk: at least {}", show_copies(map.fewest_copies())));
    show_map(&map);
    Ok(())
}

/// Bytes that the living cells have sent each other to heal, and copies.
fn healed(colony: &Colony) -> (u64, u64) {
    let lives = colony.statuses().into_values().map(|status| status.activity);
    lives.fold((0, 0), |(bytes, copies), life| (bytes + life.healed_bytes, copies + life.healed_copies))
}

/// Watches the colony notice its dead, and heal.
pub(super) fn healing(scene: &Scene, colony: &Colony, stored: &Stored) -> Result<(), DemoError> {
    scene.stage(Stage::Healing)?;
    let mut live = Live::new();
    let deadline = Deadline::new(PATIENCE);
    for dead in colony.dead() {
        colony.wait_until_all_see(dead.id, Presence::Dead, &deadline, scene.stop)?;
    }
    live.tell("all others have noticed: no beacon, and nobody at the door");
    let goal = goal(colony);
    if stored.map(colony).has(goal) && goal < usize::from(DEFAULT_COPIES) {
        tell(&format!(
            "every living cell has a copy of each chunk: there is nobody left to heal to, so {} must do until cells join",
            show_copies(goal),
        ));
        return Ok(());
    }
    aside("nobody is asked: the fewer copies are left of a chunk, the sooner it is healed");
    let bytes = stored.sealed_bytes * u64::from(DEFAULT_COPIES);
    let map = watch_healing(scene, colony, bytes, &mut live, || stored.map(colony))?;
    let (lost, _) = map.lost();
    let lost_bytes: u64 = colony.dead().map(|cell| disks::bytes(cell, &stored.ids)).sum();
    // A copy is there a moment before its sender counts it, and is not counted if the answer was lost.
    let counted = Deadline::of_cells(PATIENCE);
    let (moved, copies) = counted.wait(scene.stop, "the cells have not counted what they have sent", || {
        let (moved, copies) = healed(colony);
        Ok((copies >= lost as u64 || counted.seconds() > COUNTED_AFTER_S).then_some((moved, copies)))
    })?;
    line(format_args!("lost   {lost:>3} copies, {}", human::bytes(lost_bytes)));
    line(format_args!(
        "moved  {copies:>3} copies, {}, as the cells count: {} % of what was lost",
        human::bytes(moved),
        percent(moved, lost_bytes),
    ));
    Ok(())
}

/// Watches until every chunk has all the copies that it can have, and no bad one.
pub(super) fn watch_healing(
    scene: &Scene,
    colony: &Colony,
    bytes: u64,
    live: &mut Live,
    mut look: impl FnMut() -> Map,
) -> Result<Map, DemoError> {
    let goal = goal(colony);
    let trouble = format!("not every chunk has {} again and no bad one", show_copies(goal));
    let map = Deadline::of_cells(healing_of(bytes)).wait(scene.stop, &trouble, || {
        let map = look();
        live.show(&map);
        Ok((map.has(goal) && !map.has_bad()).then_some(map))
    })?;
    live.end(&map);
    line(style(format!("each chunk has {} again, after {}", show_copies(goal), live.took())).green());
    Ok(map)
}
