//! A scenario: a world, the checker that watches it, and what tests do to it.

use cellsync::cell::{CopyInput, Input};
use cellsync::id::ChunkId;
use cellsync::wire::status::Activity;

use crate::checker::{self, Checker};
use crate::world::{Plan, World};

/// Interval between two checks, in milliseconds.
const CHECK_MS: u64 = 1_000;

pub(crate) struct Scenario {
    pub(crate) world: World,
    pub(crate) checker: Checker,
    next_check: u64,
}

/// Runs a test at each of these sizes with seeds from 1 to `seeds`; or with `SEED` and `CELLS`, if they are set.
pub(crate) fn for_each_seed(name: &'static str, sizes: &[usize], seeds: u64, run: impl Fn(Plan)) {
    let sizes = env_number("CELLS").map_or(sizes.to_vec(), |cells| vec![usize::try_from(cells).unwrap()]);
    let seeds: Vec<u64> = env_number("SEED").map_or((1..=seeds).collect(), |seed| vec![seed]);
    for cells in sizes {
        for seed in &seeds {
            run(Plan::new(name, cells, *seed));
        }
    }
}

/// The number in this environment variable, if it is set.
pub(crate) fn env_number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number: {text}")))
}

impl Scenario {
    pub(crate) fn new(plan: Plan) -> Self {
        Self { world: World::new(plan), checker: Checker::new(), next_check: 0 }
    }

    /// A colony whose cells have taken their roles.
    pub(crate) fn settled(plan: Plan) -> Self {
        let mut scenario = Self::new(plan);
        scenario.pass(scenario.settling_ms());
        scenario
    }

    /// Time until a new cell, or a changed colony, has its roles.
    pub(crate) fn settling_ms(&self) -> u64 {
        let plan = &self.world.plan;
        let settings = &plan.settings;
        plan.start_within_ms + settings.differentiate_after_ms + settings.role_stable_ms + 3 * settings.beacon_ms
    }

    /// Lets time pass, and checks the promises.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end = self.world.now.plus_ms(ms);
        while self.world.now < end {
            self.world.step();
            if self.world.now.0 >= self.next_check {
                self.checker.check(&self.world);
                self.next_check = self.world.now.0 + CHECK_MS.max(self.world.boards.len() as u64 * 5);
            }
        }
    }

    /// Lets time pass until a condition is true. Panics after `within_ms`. Returns how long it took.
    pub(crate) fn until(&mut self, within_ms: u64, what: &str, condition: impl Fn(&Self) -> bool) -> u64 {
        let start = self.world.now;
        while !condition(self) {
            let passed_ms = self.world.now.since_ms(start);
            if passed_ms >= within_ms {
                let short = self.checker.under_replicated(&self.world);
                let some: Vec<_> = short.iter().take(3).collect();
                panic!("after {passed_ms} ms not yet: {what}; {} chunks are under-replicated: {some:?}", short.len());
            }
            self.pass(CHECK_MS);
        }
        self.world.now.since_ms(start)
    }

    /// Lets time pass until every chunk is fully replicated. The checker panics if that takes too long.
    pub(crate) fn until_fully_replicated(&mut self) -> u64 {
        assert!(self.checker.deadlines_apply);
        // Counting all copies takes long, and chunks with a shortage at the last check most likely still have it.
        let is_done = |scenario: &Self| {
            !scenario.checker.found_shortages() && scenario.checker.is_fully_replicated(&scenario.world)
        };
        self.until(3_600_000, "every chunk is fully replicated", is_done)
    }

    /// Clients put this many chunks on random cells.
    pub(crate) fn put(&mut self, chunks: usize, copies: u8) -> Vec<ChunkId> {
        let among = self.world.running();
        self.put_among(chunks, copies, &among)
    }

    /// Clients put this many chunks on random cells among these.
    pub(crate) fn put_among(&mut self, chunks: usize, copies: u8, among: &[usize]) -> Vec<ChunkId> {
        (0..chunks).map(|_| self.put_one(copies, among)).collect()
    }

    fn put_one(&mut self, copies: u8, among: &[usize]) -> ChunkId {
        let world = &mut self.world;
        let mut bytes = [0; 32];
        world.rng.fill(&mut bytes);
        let (id, len) = (ChunkId::from_bytes(bytes), world.rng.u32(200_000..1_060_000));
        let on = world.rng.choose_multiple(among.iter().copied(), usize::from(copies));
        if !world.put(id, len, copies, &on).is_empty() {
            self.checker.put_acknowledged(id, len, copies);
        }
        id
    }

    /// Clients put chunks of at least `min_copies` until so few disks have room that no other one fits.
    pub(crate) fn fill_disks(&mut self, min_copies: usize) {
        loop {
            let is_full = |index: &usize| self.world.boards[*index].disk.stats().full;
            let with_space: Vec<usize> = self.world.running().into_iter().filter(|index| !is_full(index)).collect();
            if with_space.len() < min_copies {
                return;
            }
            self.put_among(1, with_space.len().min(5) as u8, &with_space);
        }
    }

    /// Destroys this board with all its copies.
    pub(crate) fn destroy(&mut self, index: usize) {
        // So that the checker sees each shortage begin.
        self.checker.check(&self.world);
        let before = self.checker.bytes_without(&self.world, &[]);
        self.world.destroy(index);
        self.checker.check(&self.world);
        self.checker.lost_bytes += self.checker.bytes_without(&self.world, &[]).saturating_sub(before);
    }

    /// Would every chunk on this board have at least `copies` copies without it, all on running boards?
    pub(crate) fn can_spare(&self, index: usize, copies: usize) -> bool {
        let mut holders = self.world.holders().into_values().filter(|holders| holders.contains(&index));
        holders.all(|on| on.len() > copies && on.iter().all(|&at| self.world.boards[at].is_running()))
    }

    /// Lets time pass, in which no chunk must be sent or fetched.
    pub(crate) fn assert_nothing_moves_for(&mut self, ms: u64) {
        let before = self.world.moved;
        self.pass(ms);
        let moved = self.world.moved;
        assert_eq!(
            (moved.healed, moved.refetched),
            (before.healed, before.refetched),
            "bytes were moved without need: healed, refetched"
        );
    }

    pub(crate) fn has_correct_roles(&self) -> bool {
        checker::has_correct_roles(&self.world)
    }

    pub(crate) fn activity(&self, index: usize) -> Activity {
        self.world.boards[index].cell.as_ref().unwrap().activity()
    }

    pub(crate) fn drain(&mut self, index: usize, on: bool) {
        self.world.input(index, Input::Copy(CopyInput::Drain(on)));
    }
}
