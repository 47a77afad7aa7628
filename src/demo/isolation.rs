//! A liar joins, takes chunks, and gives back others; the colony finds out, and does without it.

// A shell: it tells how long things took.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use console::style;

use crate::demo::attack::goal;
use crate::demo::colony::Colony;
use crate::demo::corruption::{raiser, word};
use crate::demo::file::{Stored, upload_letters};
use crate::demo::genesis::of_role;
use crate::demo::liar::{CLAIMED_ROOM_BYTES, Liar};
use crate::demo::live::Live;
use crate::demo::map::show_copies;
use crate::demo::narration::{Stage, aside, line, tell};
use crate::demo::timing::MIN_CELLS_FOR_GUARDS;
use crate::demo::wait::{Deadline, PATIENCE, healing_of};
use crate::demo::{DemoError, Scene};
use crate::human;
use crate::id::CellId;
use crate::id::DEFAULT_COPIES;
use crate::wire::beacon::Role;
use crate::wire::peers::Presence;
use crate::wire::status::CellStatus;

/// Chunks of the second file. With more cells it has more, so that each holder comes to see three bad ones.
const LETTERS: usize = 8;
/// Among more cells nobody would watch for as long as it takes.
const MAX_DECEIVED: usize = 12;

/// The second file, and the liar, which stays to the end. None where there is no stage for it.
pub(super) fn deceit(scene: &Scene, colony: &Colony) -> Result<Option<(Stored, Liar)>, DemoError> {
    let living = colony.living().count();
    let Some(dead) = colony.dead().next() else { return Ok(None) };
    scene.stage(Stage::Liar)?;
    if living + 1 < MIN_CELLS_FOR_GUARDS {
        line("so small a colony has no guard: no liar is sent");
        return Ok(None);
    }
    if living > MAX_DECEIVED {
        tell(
            "guards look anywhere at random: among so many cells it takes them minutes to see through a liar: none is sent",
        );
        return Ok(None);
    }
    let liar = Liar::start(dead.id, colony.udp_port())
        .map_err(|source| DemoError::File { doing: "cannot start a liar".into(), source })?;
    tell(&format!(
        "a stranger takes the name of cell {} ({}), who is dead, and says that it has {} of room",
        dead.number,
        dead.id.short(),
        human::bytes(CLAIMED_ROOM_BYTES),
    ));
    let deadline = Deadline::new(PATIENCE);
    colony.wait_until_all_see(liar.id, Presence::Active, &deadline, scene.stop)?;
    // With one cell more the colony may need a guard that it did not need before.
    Deadline::of_cells(PATIENCE)
        .wait(scene.stop, "no cell has become a guard", || Ok(of_role(&colony.roles(), Role::Guard).next()))?;
    let before = colony.statuses();
    let letters = upload_letters(LETTERS.max(living * 3 / 2), scene, colony)?;
    line(style(format!("it was given {}, and gives back others", human::count(liar.taken(), "chunk"))).red());
    follow(scene, colony, &before, &letters, liar.id)?;
    Ok(Some((letters, liar)))
}

/// Tells, as it happens, who noticed, who counts on the liar no more, and that others have what it should have.
fn follow(
    scene: &Scene,
    colony: &Colony,
    before: &BTreeMap<usize, CellStatus>,
    letters: &Stored,
    liar: CellId,
) -> Result<(), DemoError> {
    let mut live = Live::new();
    let (mut is_alerted, mut is_isolated) = (false, false);
    let goal = goal(colony);
    let bytes = letters.sealed_bytes * u64::from(DEFAULT_COPIES);
    let trouble = format!("the liar is not isolated, or not every chunk has {} without it", show_copies(goal));
    let map = Deadline::of_cells(healing_of(bytes)).wait(scene.stop, &trouble, || {
        let map = letters.map(colony);
        let statuses = colony.statuses();
        if let Some(guard) = raiser(before, &statuses).filter(|_| !is_alerted) {
            let what = format!("cell {guard} was given bytes that do not hash to their name");
            live.tell(format_args!("{}  {what}", word("ALERT").red()));
            is_alerted = true;
        }
        if let Some(first) = isolating(statuses.values(), liar).next().filter(|_| !is_isolated) {
            let number = statuses.iter().find(|(_, status)| status.beacon.node_id == first);
            let number = number.map_or(0, |(number, _)| *number);
            let what = format!("cell {number} has seen three, and counts on the liar no more");
            live.tell(format_args!("{}  {what}", word("ISOLATION").yellow()));
            is_isolated = true;
        }
        live.show(&map);
        Ok((is_isolated && map.has(goal)).then_some(map))
    })?;
    live.end(&map);
    let statuses = colony.statuses();
    let isolating = isolating(statuses.values(), liar).count();
    line(format_args!(
        "{}  without the liar each chunk has {}, after {}",
        word("RECOVERY").green(),
        show_copies(goal),
        live.took()
    ));
    line(format_args!(
        "{isolating} of {} isolate it: each by what it has seen itself",
        human::count(statuses.len(), "cell")
    ));
    if goal < usize::from(DEFAULT_COPIES) {
        aside("more copies have no place: there are too few cells");
    }
    Ok(())
}

/// The cells that isolate this one.
fn isolating<'a>(statuses: impl Iterator<Item = &'a CellStatus>, whom: CellId) -> impl Iterator<Item = CellId> {
    statuses.filter(move |status| status.activity.isolated.contains(&whom)).map(|status| status.beacon.node_id)
}
