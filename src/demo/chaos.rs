//! The stage chaos: cells are killed and restarted and copies damaged at random, but the last good copy of a chunk never.

// A shell: it runs for a given time.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use console::style;

use crate::demo::attack::{MAX_KILLED, watch_healing};
use crate::demo::colony::Colony;
use crate::demo::counters::Counters;
use crate::demo::disks::Disks;
use crate::demo::file::{Stored, show_map};
use crate::demo::live::{LiveMap, time};
use crate::demo::map::Map;
use crate::demo::narration::{Stage, line, note, paragraph, warn};
use crate::demo::wait::Deadline;
use crate::demo::{DemoError, Scene};
use crate::human;
use crate::id::DEFAULT_COPIES;

/// The pause between two events, in milliseconds.
const PAUSE_MS: std::ops::RangeInclusive<u64> = 300..=2500;
/// The number of damaged copies in ten events.
const DAMAGE_IN_TEN: u8 = 4;
/// Events that would lose data are skipped without a pause, this many in a row at most.
const MAX_SKIPPED: usize = 20;

/// A planned event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// Kills the cell if it runs, restarts it if it is dead.
    Toggle(usize),
    /// Damages a copy on this cell: of the chunk with that index, or of a later one.
    Damage(usize, usize),
}

/// The sequence of events. It depends only on the seed and the number of cells.
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
    type Item = (Duration, Event);

    fn next(&mut self) -> Option<Self::Item> {
        let pause = Duration::from_millis(self.rng.u64(PAUSE_MS));
        let cell = self.rng.usize(1..=self.cells);
        let (is_damage, chunk) = (self.rng.u8(0..10) < DAMAGE_IN_TEN, self.rng.usize(0..1 << 20));
        Some((pause, if is_damage { Event::Damage(cell, chunk) } else { Event::Toggle(cell) }))
    }
}

/// What the stage has done, and what the cells have counted meanwhile.
#[derive(Debug, Default)]
pub(super) struct Damage {
    kills: usize,
    restarts: usize,
    damaged: usize,
    counters: Counters,
}

/// Damages the colony for this many seconds.
pub(super) fn chaos(
    scene: &Scene,
    colony: &mut Colony,
    stored: &Stored,
    seconds: u64,
    seed: u64,
) -> Result<Damage, DemoError> {
    scene.stage(Stage::Chaos)?;
    paragraph(&format!(
        "for {seconds} s, cells are killed and restarted and copies damaged at random, except the last good copy of a chunk; \
         --seed {seed} repeats this order of events"
    ));
    let mut disks = Disks::default();
    let mut damage = Damage::default();
    let plan = Plan::new(seed, colony.cells().len());
    let began = Instant::now();
    let end = Duration::from_secs(seconds);
    let mut skipped = 0;
    for (pause, event) in plan {
        if skipped == 0 {
            let until = (began.elapsed() + pause).min(end);
            wait(scene, colony, &mut damage.counters, began, until)?;
        }
        if began.elapsed() >= end {
            break;
        }
        let done = damage.perform(scene, colony, stored, &mut disks, event)?;
        if let Some(done) = &done {
            let least = human::copies(read_map(colony, stored, &mut disks).fewest_copies());
            line(format_args!("{} {done:<34} each chunk has at least {least}", time(began.elapsed())));
        }
        skipped = if done.is_some() || skipped == MAX_SKIPPED { 0 } else { skipped + 1 };
    }
    if damage.kills + damage.damaged == 0 {
        warn("no damage was done: there was no time, or every event would have lost data");
    }
    note("the damage ends here");
    Ok(damage)
}

/// Waits, and updates the counters meanwhile: a killed cell loses its own.
fn wait(
    scene: &Scene,
    colony: &Colony,
    counters: &mut Counters,
    began: Instant,
    until: Duration,
) -> Result<(), DemoError> {
    Deadline::of_cells(Duration::MAX).wait(scene.stop, "", || {
        counters.update(&colony.statuses());
        Ok((began.elapsed() >= until).then_some(()))
    })
}

/// The good and bad copies on the disks now.
fn read_map(colony: &Colony, stored: &Stored, disks: &mut Disks) -> Map {
    let columns: Vec<_> = colony.cells().iter().map(|cell| disks.verify(cell, &stored.ids)).collect();
    Map::new(&stored.ids, &columns)
}

impl Damage {
    /// Performs an event and describes it; `None` if it would lose data.
    fn perform(
        &mut self,
        scene: &Scene,
        colony: &mut Colony,
        stored: &Stored,
        disks: &mut Disks,
        event: Event,
    ) -> Result<Option<String>, DemoError> {
        match event {
            Event::Toggle(number) if colony.cell(number).is_some_and(|cell| !cell.is_running()) => {
                colony.restart(number, scene.stop)?;
                self.restarts += 1;
                Ok(Some(style(format!("restart  cell {number}")).green().to_string()))
            }
            Event::Toggle(number) => {
                let (running, dead) = (colony.running().count(), colony.dead().count());
                if dead >= MAX_KILLED || running < 2 || !read_map(colony, stored, disks).can_spare(number) {
                    return Ok(None);
                }
                self.counters.update(&colony.statuses());
                colony.kill(number)?;
                self.counters.cell_killed(number);
                self.kills += 1;
                Ok(Some(style(format!("kill     cell {number}")).red().to_string()))
            }
            Event::Damage(number, from) => {
                let map = read_map(colony, stored, disks);
                let Some(cell) = colony.cell(number) else { return Ok(None) };
                let Some((chunk, id)) = map.can_spare_copy(number, from) else { return Ok(None) };
                disks.damage(cell, id)?;
                self.damaged += 1;
                Ok(Some(style(format!("damage   cell {number}, chunk {chunk}")).yellow().to_string()))
            }
        }
    }

    /// Lets the colony heal. Cells are restarted only if the copies need more of them.
    pub(super) fn heal(&mut self, scene: &Scene, colony: &mut Colony, stored: &Stored) -> Result<(), DemoError> {
        scene.stage(Stage::Healing)?;
        let enough = usize::from(DEFAULT_COPIES).min(colony.cells().len());
        while colony.running().count() < enough {
            let Some(number) = colony.dead().map(|cell| cell.number).next() else { break };
            colony.restart(number, scene.stop)?;
            self.restarts += 1;
            line(format_args!("restarted cell {number}: {} need as many cells", human::copies(enough)));
        }
        let mut disks = Disks::default();
        let bytes = stored.sealed_bytes * u64::from(DEFAULT_COPIES);
        let map = watch_healing(scene, colony, bytes, &mut LiveMap::new(), || read_map(colony, stored, &mut disks))?;
        self.counters.update(&colony.statuses());
        if !console::Term::stdout().is_term() {
            show_map(&map);
        }
        if map.counts().into_iter().any(|count| count > DEFAULT_COPIES.into()) {
            paragraph("restarted cells still have their copies; extra copies are removed only when space is short");
        }
        Ok(())
    }

    /// Prints what was done and what the cells counted.
    pub(super) fn print_summary(&self) {
        let sums = self.counters.sums();
        line(format_args!(
            "{}, {}, {} damaged",
            human::count(self.kills, "kill"),
            human::count(self.restarts, "restart"),
            human::copies(self.damaged),
        ));
        line(format_args!(
            "bad copies: {} found in audits, {} quarantined, {} replaced; {} alerts",
            sums.found, sums.quarantined, sums.replaced, sums.alerts,
        ));
        line(format_args!("healed: sent {}, {}", human::copies(sums.healed), human::bytes(sums.healed_bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_determines_the_order_of_events() {
        let plan = |seed| Plan::new(seed, 9).take(100).collect::<Vec<_>>();
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
    }

    #[test]
    fn every_kind_of_event_reaches_every_cell() {
        let events: Vec<_> = Plan::new(1, 3).take(200).map(|(_, event)| event).collect();
        for cell in 1..=3 {
            assert!(events.contains(&Event::Toggle(cell)));
            assert!(events.iter().any(|event| matches!(event, Event::Damage(damaged, _) if *damaged == cell)));
        }
    }
}
