//! The plain reference: it knows everything, decides nothing, and says when the colony breaks its promises.

use std::collections::BTreeMap;

use cellsync::id::ChunkId;
use cellsync::time::Time;
use cellsync::wire::beacon::Role;

use crate::calls::Nature;
use crate::network::{CONNECT_MS, STALL_MS};
use crate::world::World;

/// Asking, sending and telling in one round of healing, and waiting for the round before it; in each of them cells may
/// die that are waited for.
const ROUNDS_MS: u64 = 2 * (STALL_MS + 15_000);
/// On a network that loses calls each of them may have to wait for its end, and for the next attempt.
const BROKEN_MS: u64 = 120_000;

#[derive(Debug, Clone, Copy)]
struct Deposit {
    len: u32,
    copies: u8,
}

/// A chunk that lacks copies.
#[derive(Debug, Clone, Copy)]
struct Short {
    /// Since when the cells can know that it has no more than so many; the first is for none.
    since: [Option<Time>; LEVELS],
}

/// With more copies than this a chunk is as safe as can be.
const LEVELS: usize = 16;

impl Short {
    fn left(&self) -> usize {
        self.since.iter().position(Option::is_some).unwrap_or(LEVELS)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Judge {
    deposits: BTreeMap<ChunkId, Deposit>,
    short: BTreeMap<ChunkId, Short>,
    /// Bytes of copies that the colony has to make again.
    pub(crate) owed_bytes: u64,
    /// Is it said too when a chunk lacks copies for longer than the rules allow? Not while the colony is cut in parts.
    pub(crate) impatient: bool,
}

impl Judge {
    pub(crate) fn new() -> Self {
        Self { impatient: true, ..Self::default() }
    }

    pub(crate) fn acknowledged(&mut self, id: ChunkId, len: u32, copies: u8) {
        self.deposits.insert(id, Deposit { len, copies });
    }

    /// What every look must show: nothing acknowledged is lost, and what lacks copies does not lack them for long.
    pub(crate) fn look(&mut self, world: &World) {
        let noticed_ms = noticed_ms(world);
        let believed = world.holders_among(|host| !host.gone || world.now.since_ms(host.turned) < noticed_ms);
        let takers = takers(world);
        let mut short = BTreeMap::new();
        for (id, deposit) in &self.deposits {
            let on = believed.get(id).map_or(&[][..], Vec::as_slice);
            assert!(on.iter().any(|&index| !world.hosts[index].gone), "chunk {} is lost", id.short());
            let left = staying(world, on);
            if left < takers.min(usize::from(deposit.copies)) {
                let before = self.short.get(id).map_or([None; LEVELS], |before| before.since);
                let since = |level| (left <= level).then(|| before[level].unwrap_or(world.now));
                short.insert(*id, Short { since: std::array::from_fn(since) });
            }
        }
        self.short = short;
        if self.impatient && !self.short.is_empty() {
            let holders = world.holders();
            self.nothing_takes_too_long(world, &holders);
        }
    }

    fn nothing_takes_too_long(&self, world: &World, holders: &BTreeMap<ChunkId, Vec<usize>>) {
        let rate_ms = self.sending_ms(world, holders);
        for (id, short) in &self.short {
            let on = holders.get(id).map_or(&[][..], Vec::as_slice);
            for (left, since) in short.since.iter().enumerate().filter_map(|(left, since)| Some((left, (*since)?))) {
                let Some(known) = on.iter().filter_map(|&index| known(world, index, since)).min() else { continue };
                let (waited_ms, allowed_ms) = (world.now.since_ms(known), allowed_ms(world, left) + rate_ms);
                assert!(
                    waited_ms <= allowed_ms,
                    "chunk {} has had at most {left} copies for {waited_ms} ms and was to be healed after {allowed_ms}; \
                     held by {on:?}",
                    id.short(),
                );
            }
        }
    }

    /// How long the cell that may have the most to send takes for it, twice: others send to the same cells.
    fn sending_ms(&self, world: &World, holders: &BTreeMap<ChunkId, Vec<usize>>) -> u64 {
        let mut bytes: BTreeMap<usize, u64> = BTreeMap::new();
        for (id, short) in &self.short {
            let deposit = self.deposits[id];
            let missing = u64::from(deposit.copies).saturating_sub(short.left() as u64) * u64::from(deposit.len);
            for holder in holders.get(id).into_iter().flatten() {
                *bytes.entry(*holder).or_default() += missing;
            }
        }
        let rate = world.plan.settings.heal_rate.min(world.plan.link.bytes_per_s);
        2 * bytes.values().max().copied().unwrap_or(0) * 1000 / rate
    }

    /// Did any chunk lack copies at the last look?
    pub(crate) fn saw_lacks(&self) -> bool {
        !self.short.is_empty()
    }

    /// Are all copies there that there can be?
    pub(crate) fn is_whole(&self, world: &World) -> bool {
        self.lacking(world).is_empty()
    }

    /// The chunks that lack copies, and how many they have.
    pub(crate) fn lacking(&self, world: &World) -> Vec<(ChunkId, usize)> {
        let (holders, takers) = (world.holders(), takers(world));
        let left = |id| holders.get(id).map_or(0, |holders| staying(world, holders));
        let all = self.deposits.iter().map(|(id, deposit)| (*id, left(id), takers.min(usize::from(deposit.copies))));
        all.filter(|(_, left, wanted)| left < wanted).map(|(id, left, _)| (id, left)).collect()
    }

    /// Bytes that the colony has to move if these boards no longer count.
    pub(crate) fn bytes_without(&self, world: &World, lost: &[usize]) -> u64 {
        self.bytes_to_make(world, |index| !lost.contains(&index))
    }

    /// Bytes that are missing among those boards for whom this is true, if they are on their own.
    pub(crate) fn bytes_to_make(&self, world: &World, there: impl Fn(usize) -> bool) -> u64 {
        let holders = world.holders();
        let cells = world.up().into_iter().filter(|&index| there(index)).count();
        let missing = |(id, deposit): (&ChunkId, &Deposit)| {
            let left = holders.get(id).map_or(0, |holders| holders.iter().filter(|&&index| there(index)).count());
            let wanted = cells.min(usize::from(deposit.copies));
            if left == 0 { 0 } else { wanted.saturating_sub(left) as u64 * u64::from(deposit.len) }
        };
        self.deposits.iter().map(missing).sum()
    }

    /// Bytes moved to heal are at most a tenth more than those that had to be.
    pub(crate) fn moved_no_more_than_was_lost(&self, world: &World) {
        let (moved, owed) = (world.moved.healed, self.owed_bytes);
        assert!(moved * 10 <= owed * 11, "{moved} bytes were moved to heal, and {owed} were lost");
    }
}

/// Guards and storage cells are as many as the rule says, and nobody is a stem cell any more.
pub(crate) fn roles_are_right(world: &World) -> bool {
    let cells = world.up().len();
    let guards = if cells < 4 { 0 } else { (cells / 8).max(1) };
    world.with_role(Role::Guard).len() == guards && world.with_role(Role::Storage).len() == cells - guards
}

/// Boards that can hold a copy that counts.
fn takers(world: &World) -> usize {
    world.hosts.iter().filter(|host| !host.gone && host.nature == Nature::Honest && !host.disk.state.draining).count()
}

/// Of these boards, those that are not about to leave.
fn staying(world: &World, holders: &[usize]) -> usize {
    holders.iter().filter(|&&index| !world.hosts[index].disk.state.draining).count()
}

/// Since when this holder can have known of a loss. One that started later waits first for those it has not heard yet.
fn known(world: &World, index: usize, lost: Time) -> Option<Time> {
    let host = &world.hosts[index];
    let heard = host.turned.plus_ms(world.plan.settings.unheard_ms);
    host.is_up().then_some(if host.turned <= lost { lost } else { heard.max(lost) })
}

/// All cells notice a death within this time.
fn noticed_ms(world: &World) -> u64 {
    let settings = &world.plan.settings;
    let broken_ms = if world.plan.link.broken > 0 { STALL_MS + settings.probe_ms } else { 0 };
    settings.silent_after_ms + 2 * settings.beacon_ms + CONNECT_MS + 2 * world.plan.quantum_ms + broken_ms
}

/// How long a chunk with so many copies left may wait when the death has been noticed: until it is due, and until the
/// last in rank acts if the others do not.
fn allowed_ms(world: &World, left: usize) -> u64 {
    let settings = &world.plan.settings;
    let due_ms = settings.heal_delay_ms[left.clamp(1, 4) - 1];
    let ranks_ms = settings.heal_step_ms * left.saturating_sub(1) as u64;
    let broken_ms = if world.plan.link.broken > 0 { BROKEN_MS } else { 0 };
    // Cells that come back are waited for, and so is the next copy when one has come back.
    let patience_ms = settings.silent_after_ms + settings.heal_delay_ms[1];
    due_ms + ranks_ms + patience_ms + ROUNDS_MS + broken_ms
}
