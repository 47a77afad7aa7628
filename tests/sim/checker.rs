//! The checker: a plain reference that sees the whole world, decides nothing, and panics when the colony breaks a
//! promise.

use std::collections::BTreeMap;

use cellsync::id::ChunkId;
use cellsync::time::Time;
use cellsync::wire::beacon::Role;

use crate::network::{CONNECT_MS, STALL_MS};
use crate::requests::Behavior;
use crate::world::World;

/// Time for a healing round, its queries, sends and hints, and for the round before it. In each of them it may have to
/// wait for cells that die.
const ROUNDS_MS: u64 = 2 * (STALL_MS + 15_000);
/// On a network that loses requests, additional time for timeouts and retries.
const BROKEN_MS: u64 = 120_000;
/// Chunks with at least this many copies are not distinguished.
const LEVELS: usize = 16;

/// What a client was promised for a chunk.
#[derive(Debug, Clone, Copy)]
struct Promise {
    len: u32,
    copies: u8,
}

/// An under-replicated chunk.
#[derive(Debug, Clone, Copy)]
struct Shortage {
    /// Since when the cells can know that the chunk has at most 0, 1, 2, … copies.
    since: [Option<Time>; LEVELS],
}

impl Shortage {
    fn copies_left(&self) -> usize {
        self.since.iter().position(Option::is_some).unwrap_or(LEVELS)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Checker {
    promises: BTreeMap<ChunkId, Promise>,
    shortages: BTreeMap<ChunkId, Shortage>,
    /// Bytes of copies that were lost, and that the colony must make again.
    pub(crate) lost_bytes: u64,
    /// Is it an error if a chunk stays under-replicated for too long? Not while the network is partitioned.
    pub(crate) deadlines_apply: bool,
}

impl Checker {
    pub(crate) fn new() -> Self {
        Self { deadlines_apply: true, ..Self::default() }
    }

    /// A client's put of this chunk was acknowledged.
    pub(crate) fn put_acknowledged(&mut self, id: ChunkId, len: u32, copies: u8) {
        self.promises.insert(id, Promise { len, copies });
    }

    /// Checks the promises: no acknowledged chunk is lost, and none is under-replicated for too long.
    pub(crate) fn check(&mut self, world: &World) {
        let detection_ms = detection_ms(world);
        let is_recent = |at: Time| world.now.since_ms(at) < detection_ms;
        let assumed = world.holders_among(|board| !board.destroyed || is_recent(board.power_changed_at));
        let possible = possible_holders(world);
        let mut shortages = BTreeMap::new();
        for (id, promise) in &self.promises {
            let holders = assumed.get(id).map_or(&[][..], Vec::as_slice);
            assert!(holders.iter().any(|&index| !world.boards[index].destroyed), "chunk {} is lost", id.short());
            let left = count_staying(world, holders);
            if left < possible.min(usize::from(promise.copies)) {
                let before = self.shortages.get(id).map_or([None; LEVELS], |before| before.since);
                let since = |level| (left <= level).then(|| before[level].unwrap_or(world.now));
                shortages.insert(*id, Shortage { since: std::array::from_fn(since) });
            }
        }
        self.shortages = shortages;
        if self.deadlines_apply && !self.shortages.is_empty() {
            self.check_deadlines(world, &world.holders());
        }
    }

    fn check_deadlines(&self, world: &World, holders: &BTreeMap<ChunkId, Vec<usize>>) {
        let sending_ms = self.sending_ms(world, holders);
        for (id, shortage) in &self.shortages {
            let holders = holders.get(id).map_or(&[][..], Vec::as_slice);
            let copies = usize::from(self.promises[id].copies);
            let levels = shortage.since.iter().enumerate();
            for (left, since) in levels.filter_map(|(left, since)| Some((left, (*since)?))) {
                let noticed = holders.iter().filter_map(|&index| noticed_at(world, index, since)).min();
                let Some(noticed) = noticed else { continue };
                let (waited_ms, allowed_ms) =
                    (world.now.since_ms(noticed), allowed_ms(world, left, copies) + sending_ms);
                assert!(
                    waited_ms <= allowed_ms,
                    "chunk {} has had at most {left} copies for {waited_ms} ms, healing it takes {allowed_ms} ms at \
                     most; holders: {holders:?}",
                    id.short(),
                );
            }
        }
    }

    /// The time that the cell with the most to send needs, doubled, because others send to the same cells.
    fn sending_ms(&self, world: &World, holders: &BTreeMap<ChunkId, Vec<usize>>) -> u64 {
        let mut bytes: BTreeMap<usize, u64> = BTreeMap::new();
        for (id, shortage) in &self.shortages {
            let promise = self.promises[id];
            let missing = u64::from(promise.copies).saturating_sub(shortage.copies_left() as u64);
            for holder in holders.get(id).into_iter().flatten() {
                *bytes.entry(*holder).or_default() += missing * u64::from(promise.len);
            }
        }
        let rate = world.plan.settings.heal_rate.min(world.plan.link.bytes_per_s);
        2 * bytes.values().max().copied().unwrap_or(0) * 1000 / rate
    }

    /// Was any chunk under-replicated at the last check?
    pub(crate) fn found_shortages(&self) -> bool {
        !self.shortages.is_empty()
    }

    /// Has every chunk all copies that are possible?
    pub(crate) fn is_fully_replicated(&self, world: &World) -> bool {
        self.under_replicated(world).is_empty()
    }

    /// The under-replicated chunks, with the number of their copies.
    pub(crate) fn under_replicated(&self, world: &World) -> Vec<(ChunkId, usize)> {
        let (holders, possible) = (world.holders(), possible_holders(world));
        let left = |id| holders.get(id).map_or(0, |holders| count_staying(world, holders));
        let all = self.promises.iter().map(|(id, promise)| (*id, left(id), possible.min(usize::from(promise.copies))));
        all.filter(|(_, left, wanted)| left < wanted).map(|(id, left, _)| (id, left)).collect()
    }

    /// Bytes of copies that are missing if these boards do not count.
    pub(crate) fn bytes_without(&self, world: &World, lost: &[usize]) -> u64 {
        self.bytes_missing_among(world, |index| !lost.contains(&index))
    }

    /// Bytes of copies that are missing if only the boards count that `includes` accepts.
    pub(crate) fn bytes_missing_among(&self, world: &World, includes: impl Fn(usize) -> bool) -> u64 {
        let holders = world.holders();
        let cells = world.running().into_iter().filter(|&index| includes(index)).count();
        let missing = |(id, promise): (&ChunkId, &Promise)| {
            let left = holders.get(id).map_or(0, |holders| holders.iter().filter(|&&index| includes(index)).count());
            let wanted = cells.min(usize::from(promise.copies));
            if left == 0 { 0 } else { wanted.saturating_sub(left) as u64 * u64::from(promise.len) }
        };
        self.promises.iter().map(missing).sum()
    }

    /// Bytes that the boards which `includes` accepts must send to make all copies of the chunks of which they hold one.
    pub(crate) fn bytes_of_last_copies(&self, world: &World, includes: impl Fn(usize) -> bool) -> u64 {
        let holders = world.holders();
        let cells = world.running().into_iter().filter(|&index| includes(index)).count();
        let needed = |(id, promise): (&ChunkId, &Promise)| {
            let left = holders.get(id).map_or(0, |holders| holders.iter().filter(|&&index| includes(index)).count());
            let missing = cells.min(usize::from(promise.copies)).saturating_sub(1) as u64;
            if left == 1 { missing * u64::from(promise.len) } else { 0 }
        };
        self.promises.iter().map(needed).sum()
    }

    /// The bytes that were sent to heal are at most 10 % more than those that were lost.
    pub(crate) fn assert_moved_at_most_lost(&self, world: &World) {
        let (moved, lost) = (world.moved.healed, self.lost_bytes);
        assert!(moved * 10 <= lost * 11, "{moved} bytes were sent to heal, and {lost} were lost");
    }
}

/// Has the colony the right number of guards and storage cells, and no stem cell?
pub(crate) fn has_correct_roles(world: &World) -> bool {
    let cells = world.running().len();
    let guards = if cells < 4 { 0 } else { (cells / 8).max(1) };
    world.with_role(Role::Guard).len() == guards && world.with_role(Role::Storage).len() == cells - guards
}

/// Number of boards whose copies can count.
fn possible_holders(world: &World) -> usize {
    let can_hold = |board: &&crate::board::Board| {
        !board.destroyed && board.behavior == Behavior::Honest && !board.disk.state.draining
    };
    world.boards.iter().filter(can_hold).count()
}

/// Number of these boards that are not draining.
fn count_staying(world: &World, holders: &[usize]) -> usize {
    holders.iter().filter(|&&index| !world.boards[index].disk.state.draining).count()
}

/// When this holder can have noticed a loss. A cell that started later waits first for cells not seen yet.
fn noticed_at(world: &World, index: usize, lost: Time) -> Option<Time> {
    let board = &world.boards[index];
    let seen = board.power_changed_at.plus_ms(world.plan.settings.unheard_ms);
    board.is_running().then_some(if board.power_changed_at <= lost { lost } else { seen.max(lost) })
}

/// All cells notice a death within this time.
fn detection_ms(world: &World) -> u64 {
    let settings = &world.plan.settings;
    let broken_ms = if world.plan.link.broken > 0 { STALL_MS + settings.probe_ms } else { 0 };
    settings.silent_after_ms + 2 * settings.beacon_ms + CONNECT_MS + 2 * world.plan.quantum_ms + broken_ms
}

/// How long a chunk with this many copies left may stay under-replicated once a death is noticed: until it is due, and
/// until the last holder in rank acts if the others do not.
fn allowed_ms(world: &World, left: usize, copies: usize) -> u64 {
    let settings = &world.plan.settings;
    // A board that is all that is missing may be rebooting.
    let delay = if left + 1 >= copies { 4 } else { left.clamp(1, 4) };
    let due_ms = settings.heal_delay_ms[delay - 1];
    let ranks_ms = settings.heal_step_ms * left.saturating_sub(1) as u64;
    let broken_ms = if world.plan.link.broken > 0 { BROKEN_MS } else { 0 };
    // The hold-off for returning cells, and the pause after a holder has returned.
    let returning_ms = settings.silent_after_ms + settings.heal_delay_ms[1];
    due_ms + ranks_ms + returning_ms + ROUNDS_MS + broken_ms
}
