//! A world, the judge who watches it, and what tests do to it.

use cellsync::cell::{CopyInput, Input};
use cellsync::id::ChunkId;
use cellsync::wire::status::Activity;

use crate::judge::{self, Judge};
use crate::world::{Plan, World};

/// The judge looks so often, in milliseconds.
const LOOK_MS: u64 = 1_000;

pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) judge: Judge,
    next_look: u64,
}

/// Runs a test at each of these sizes with so many seeds; or with `SEED` and `CELLS`, if they are set.
pub(crate) fn each(name: &'static str, sizes: &[usize], seeds: u64, run: impl Fn(Plan)) {
    let sizes = number("CELLS").map_or(sizes.to_vec(), |cells| vec![usize::try_from(cells).unwrap()]);
    let seeds: Vec<u64> = number("SEED").map_or((1..=seeds).collect(), |seed| vec![seed]);
    for cells in sizes {
        for seed in &seeds {
            run(Plan::new(name, cells, *seed));
        }
    }
}

/// What this environment variable says.
pub(crate) fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

impl Scene {
    pub(crate) fn new(plan: Plan) -> Self {
        Self { world: World::new(plan), judge: Judge::new(), next_look: 0 }
    }

    /// A colony whose cells have taken their roles.
    pub(crate) fn settled(plan: Plan) -> Self {
        let mut scene = Self::new(plan);
        scene.pass(scene.settling_ms());
        scene
    }

    /// How long a new cell, or a changed colony, takes to find its roles.
    pub(crate) fn settling_ms(&self) -> u64 {
        let plan = &self.world.plan;
        let settings = &plan.settings;
        plan.start_within_ms + settings.differentiate_after_ms + settings.role_stable_ms + 3 * settings.beacon_ms
    }

    /// Lets time pass under the eyes of the judge.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end = self.world.now.plus_ms(ms);
        while self.world.now < end {
            self.world.step();
            if self.world.now.0 >= self.next_look {
                self.judge.look(&self.world);
                self.next_look = self.world.now.0 + LOOK_MS.max(self.world.hosts.len() as u64 * 5);
            }
        }
    }

    /// Lets time pass until this is so. It must be within so many milliseconds. Gives how long it took.
    pub(crate) fn until(&mut self, within_ms: u64, what: &str, so: impl Fn(&Self) -> bool) -> u64 {
        let start = self.world.now;
        while !so(self) {
            let passed_ms = self.world.now.since_ms(start);
            if passed_ms >= within_ms {
                let lacking = self.judge.lacking(&self.world);
                let few: Vec<_> = lacking.iter().take(3).collect();
                panic!("not so after {passed_ms} ms: {what}; {} chunks lack copies, such as {few:?}", lacking.len());
            }
            self.pass(LOOK_MS);
        }
        self.world.now.since_ms(start)
    }

    /// Until every chunk has its copies. The judge knows how long that may take.
    pub(crate) fn until_whole(&mut self) -> u64 {
        assert!(self.judge.impatient);
        // What lacked copies at the last look most likely lacks them still, and counting all is dear.
        let is_whole = |scene: &Self| !scene.judge.saw_lacks() && scene.judge.is_whole(&scene.world);
        self.until(3_600_000, "every chunk has its copies", is_whole)
    }

    /// Clients store so many chunks on random cells.
    pub(crate) fn store(&mut self, chunks: usize, copies: u8) -> Vec<ChunkId> {
        let among = self.world.up();
        self.store_among(chunks, copies, &among)
    }

    /// Clients store so many chunks on random cells among these.
    pub(crate) fn store_among(&mut self, chunks: usize, copies: u8, among: &[usize]) -> Vec<ChunkId> {
        (0..chunks).map(|_| self.store_one(copies, among)).collect()
    }

    fn store_one(&mut self, copies: u8, among: &[usize]) -> ChunkId {
        let world = &mut self.world;
        let mut bytes = [0; 32];
        world.rng.fill(&mut bytes);
        let (id, len) = (ChunkId::from_bytes(bytes), world.rng.u32(200_000..1_060_000));
        let on = world.rng.choose_multiple(among.iter().copied(), usize::from(copies));
        if !world.put(id, len, copies, &on).is_empty() {
            self.judge.acknowledged(id, len, copies);
        }
        id
    }

    /// This board dies, with all its copies.
    pub(crate) fn kill(&mut self, index: usize) {
        // What is whole now and lacks a copy then has lacked it since now.
        self.judge.look(&self.world);
        let before = self.judge.bytes_without(&self.world, &[]);
        self.world.kill(index);
        self.judge.look(&self.world);
        self.judge.owed_bytes += self.judge.bytes_without(&self.world, &[]).saturating_sub(before);
    }

    /// Would every chunk on this board still have so many copies, on boards that run, if it were not there?
    pub(crate) fn can_spare(&self, index: usize, copies: usize) -> bool {
        let mut holders = self.world.holders().into_values().filter(|holders| holders.contains(&index));
        holders.all(|on| on.len() > copies && on.iter().all(|&at| self.world.hosts[at].is_up()))
    }

    /// Nothing is moved while so much time passes.
    pub(crate) fn nothing_moves_for(&mut self, ms: u64) {
        let before = self.world.moved;
        self.pass(ms);
        let moved = self.world.moved;
        assert_eq!((moved.healed, moved.mended), (before.healed, before.mended), "bytes that nobody needed were moved");
    }

    pub(crate) fn roles_are_right(&self) -> bool {
        judge::roles_are_right(&self.world)
    }

    pub(crate) fn life(&self, index: usize) -> Activity {
        self.world.hosts[index].cell.as_ref().unwrap().activity()
    }

    pub(crate) fn drain(&mut self, index: usize, on: bool) {
        self.world.give(index, Input::Copy(CopyInput::Drain(on)));
    }
}
