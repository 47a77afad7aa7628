//! Cells die and come back, and bytes flip, at random; never more at a time than the file's copies can bear.

// A shell: it goes on for as long as it is told.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use console::style;

use crate::demo::attack::{MAX_KILLED, watch_healing};
use crate::demo::colony::Colony;
use crate::demo::counters::CopyCounts;
use crate::demo::disks::Disks;
use crate::demo::file::{Stored, show_map};
use crate::demo::live::{Live, time};
use crate::demo::map::{Map, show_copies};
use crate::demo::narration::{Stage, aside, line, tell, warn};
use crate::demo::wait::Deadline;
use crate::demo::{DemoError, Scene};
use crate::human;
use crate::id::DEFAULT_COPIES;

/// Between two events, in milliseconds.
const PAUSE_MS: std::ops::RangeInclusive<u64> = 300..=2500;
/// Of ten events, so many are flips.
const FLIPS: u8 = 4;
/// Events that cannot be borne are passed over; after so many in a row, some time shall pass.
const MAX_PASSED_OVER: usize = 20;

/// What is to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intent {
    /// If the cell lives it is killed, if it is dead it is revived.
    Turn(usize),
    /// Bytes flip in a copy of this cell: of the chunk of that number, or of a later one.
    Flip(usize, usize),
}

/// The order of events: the same for the same seed and number of cells, whatever the colony does.
struct Plan {
    rng: fastrand::Rng,
    cells: usize,
}

impl Plan {
    fn new(seed: u64, cells: usize) -> Self {
        Self { rng: fastrand::Rng::with_seed(seed), cells }
    }
}

impl Iterator for Plan {
    type Item = (Duration, Intent);

    fn next(&mut self) -> Option<Self::Item> {
        let pause = Duration::from_millis(self.rng.u64(PAUSE_MS));
        let cell = self.rng.usize(1..=self.cells);
        let (is_flip, chunk) = (self.rng.u8(0..10) < FLIPS, self.rng.usize(0..1 << 20));
        Some((pause, if is_flip { Intent::Flip(cell, chunk) } else { Intent::Turn(cell) }))
    }
}

/// What happened.
#[derive(Debug, Default)]
pub(super) struct Harm {
    kills: usize,
    revivals: usize,
    flips: usize,
    tally: CopyCounts,
}

/// Harms the colony for so long.
pub(super) fn chaos(
    scene: &Scene,
    colony: &mut Colony,
    stored: &Stored,
    seconds: u64,
    seed: u64,
) -> Result<Harm, DemoError> {
    scene.stage(Stage::Chaos)?;
    tell(&format!(
        "for {seconds} s cells are killed and revived and bytes flip on disks, at random, but never the last good living \
         copy of a chunk; --seed {seed} has the same order of events"
    ));
    let mut disks = Disks::default();
    let mut harm = Harm::default();
    let plan = Plan::new(seed, colony.cells().len());
    let began = Instant::now();
    let end = Duration::from_secs(seconds);
    let mut passed_over = 0;
    for (pause, intent) in plan {
        if passed_over == 0 {
            let until = (began.elapsed() + pause).min(end);
            wait(scene, colony, &mut harm.tally, began, until)?;
        }
        if began.elapsed() >= end {
            break;
        }
        let told = harm.happen(scene, colony, stored, &mut disks, intent)?;
        if let Some(told) = &told {
            let least = show_copies(look(colony, stored, &mut disks).fewest_copies());
            line(format_args!("{} {told:<34} at least {least} of each chunk", time(began.elapsed())));
        }
        passed_over = if told.is_some() || passed_over == MAX_PASSED_OVER { 0 } else { passed_over + 1 };
    }
    if harm.kills + harm.flips == 0 {
        warn("nothing could be spared, or there was no time: no harm was done");
    }
    aside("no more harm from here on");
    Ok(harm)
}

/// Lets time pass. Counters are looked at meanwhile, since a cell that is killed takes its own with it.
fn wait(
    scene: &Scene,
    colony: &Colony,
    tally: &mut CopyCounts,
    began: Instant,
    until: Duration,
) -> Result<(), DemoError> {
    Deadline::of_cells(Duration::MAX).wait(scene.stop, "", || {
        tally.look(&colony.statuses());
        Ok((began.elapsed() >= until).then_some(()))
    })
}

/// Good and bad copies, as the disks are now.
fn look(colony: &Colony, stored: &Stored, disks: &mut Disks) -> Map {
    let columns: Vec<_> = colony.cells().iter().map(|cell| disks.verified(cell, &stored.ids)).collect();
    Map::new(&stored.ids, &columns)
}

impl Harm {
    /// Does it, and says so; none if it could not be borne.
    fn happen(
        &mut self,
        scene: &Scene,
        colony: &mut Colony,
        stored: &Stored,
        disks: &mut Disks,
        intent: Intent,
    ) -> Result<Option<String>, DemoError> {
        match intent {
            Intent::Turn(number) if colony.cell(number).is_some_and(|cell| !cell.lives()) => {
                colony.revive(number, scene.stop)?;
                self.revivals += 1;
                Ok(Some(style(format!("revive  cell {number}")).green().to_string()))
            }
            Intent::Turn(number) => {
                let (living, dead) = (colony.living().count(), colony.dead().count());
                if dead >= MAX_KILLED || living < 2 || !look(colony, stored, disks).can_spare(number) {
                    return Ok(None);
                }
                self.tally.look(&colony.statuses());
                colony.kill(number)?;
                self.tally.ended(number);
                self.kills += 1;
                Ok(Some(style(format!("kill    cell {number}")).red().to_string()))
            }
            Intent::Flip(number, from) => {
                let map = look(colony, stored, disks);
                let Some(cell) = colony.cell(number) else { return Ok(None) };
                let Some((chunk, id)) = map.can_spare_copy(number, from) else { return Ok(None) };
                disks.flip(cell, id)?;
                self.flips += 1;
                Ok(Some(style(format!("flip    cell {number}, chunk {chunk}")).yellow().to_string()))
            }
        }
    }

    /// The colony is left alone, and heals. Only as many cells are revived as its copies need.
    pub(super) fn heal(&mut self, scene: &Scene, colony: &mut Colony, stored: &Stored) -> Result<(), DemoError> {
        scene.stage(Stage::Healing)?;
        let enough = usize::from(DEFAULT_COPIES).min(colony.cells().len());
        while colony.living().count() < enough {
            let Some(number) = colony.dead().map(|cell| cell.number).next() else { break };
            colony.revive(number, scene.stop)?;
            self.revivals += 1;
            line(format_args!("cell {number} is revived: {} need as many cells", show_copies(enough)));
        }
        let mut disks = Disks::default();
        let bytes = stored.sealed_bytes * u64::from(DEFAULT_COPIES);
        let map = watch_healing(scene, colony, bytes, &mut Live::new(), || look(colony, stored, &mut disks))?;
        self.tally.look(&colony.statuses());
        if !console::Term::stdout().is_term() {
            show_map(&map);
        }
        if map.counts().into_iter().any(|count| count > DEFAULT_COPIES.into()) {
            tell("a cell that comes back has its copies still: those that are too many go only when room is short");
        }
        Ok(())
    }

    /// What it was all together.
    pub(super) fn tell(&self) {
        let sums = self.tally.sums();
        line(format_args!(
            "{}, {}, {} on disks",
            human::count(self.kills, "kill"),
            human::count(self.revivals, "revival"),
            human::count(self.flips, "flip"),
        ));
        line(format_args!(
            "bad copies: {} seen by others, {} quarantined, {} replaced; alerts heard: {}",
            sums.seen, sums.quarantined, sums.mended, sums.alerts,
        ));
        line(format_args!("copies healed: {}, {}", sums.healed, human::bytes(sums.healed_bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_has_the_same_order_of_events_and_another_has_another() {
        let plan = |seed| Plan::new(seed, 9).take(100).collect::<Vec<_>>();
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
    }

    #[test]
    fn everything_happens_to_everybody() {
        let events: Vec<_> = Plan::new(1, 3).take(200).map(|(_, intent)| intent).collect();
        for cell in 1..=3 {
            assert!(events.contains(&Intent::Turn(cell)));
            assert!(events.iter().any(|intent| matches!(intent, Intent::Flip(flipped, _) if *flipped == cell)));
        }
    }
}
