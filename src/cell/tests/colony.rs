//! The cell under test in a colony whose other cells send beacons and answer probes while they are alive.

use std::collections::BTreeSet;

use super::*;
use crate::cell::membership::roles;
use crate::wire::datagram::Alert;
use crate::wire::status::{Activity, DrainProgress};

/// The length of each chunk.
pub(super) const LEN: u32 = 1 << 20;

pub(super) struct TestColony {
    pub(super) cell: TestCell,
    /// The other cells that are alive.
    pub(super) alive: BTreeSet<u8>,
    /// Those of them that are draining.
    pub(super) draining: BTreeSet<u8>,
    /// Outputs of the cell under test. Tests take out what they have handled.
    pub(super) out: Vec<Output>,
}

impl TestColony {
    /// These other cells are alive. The store is empty.
    pub(super) fn new(others: &[u8]) -> Self {
        Self::with_settings(others, Settings::default())
    }

    pub(super) fn with_settings(others: &[u8], settings: Settings) -> Self {
        let mut colony = Self {
            cell: TestCell::with_settings(&[], settings),
            alive: others.iter().copied().collect(),
            draining: BTreeSet::new(),
            out: Vec::new(),
        };
        colony.input(CopyInput::ListingDone);
        colony.pass(20);
        colony.out.clear();
        colony
    }

    pub(super) fn input(&mut self, input: impl Into<Input>) {
        self.out.extend(self.cell.input(input));
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            for cell in self.alive.clone() {
                self.beacon(cell, self.status_of(cell));
            }
            let out = self.cell.pass(SECOND);
            for (task_id, address) in probes(&out) {
                let address: SocketAddr = address.parse().unwrap();
                let cell = cell_at(address);
                let outcome = if self.alive.contains(&cell) {
                    ProbeOutcome::Cell(address, Beacon { status: self.status_of(cell), ..beacon(cell, 1) })
                } else {
                    ProbeOutcome::Unreachable
                };
                self.out.extend(self.cell.probe_done(task_id, outcome));
            }
            self.out.extend(out);
        }
    }

    fn status_of(&self, cell: u8) -> Status {
        if self.draining.contains(&cell) { Status::Draining } else { Status::Active }
    }

    /// A beacon of this cell arrives, with this status.
    pub(super) fn beacon(&mut self, cell: u8, status: Status) {
        self.out.extend(self.cell.beacon(ip(cell), Beacon { status, ..beacon(cell, 1) }));
    }

    /// These cells die. Lets time pass until the cell under test has noticed.
    pub(super) fn kill(&mut self, cells: &[u8]) {
        for cell in cells {
            self.alive.remove(cell);
        }
        while cells.iter().any(|cell| self.cell.presence_of(*cell) != Some(Presence::Dead)) {
            self.pass(1);
        }
    }

    /// Gives the cell under test an id with which it is the guard among these others.
    pub(super) fn make_guard(&mut self, others: &[u8]) -> CellId {
        let others = || others.iter().map(|cell| id(*cell));
        let mut ids = (10..=u8::MAX).map(id);
        let guard = ids.find(|id| roles::needed(id, others()) == Role::Guard).unwrap();
        (self.cell.cell.context.id, self.cell.cell.needed_role) = (guard, Role::Guard);
        guard
    }

    /// A put has stored a chunk, with these holders. Five copies must be kept.
    pub(super) fn put(&mut self, chunk: ChunkId, holders: &[u8]) {
        self.put_copies(chunk, 5, holders);
    }

    /// A put has stored a chunk, with these holders. This many copies must be kept.
    pub(super) fn put_copies(&mut self, chunk: ChunkId, copies: u8, holders: &[u8]) {
        let holders = holders.iter().map(|cell| id(*cell)).collect();
        self.input(CopyInput::Present(vec![LocalCopy { id: chunk, len: LEN, copies, bare: false, holders }]));
    }

    /// An alert of cell 9 arrives.
    pub(super) fn alert(&mut self, culprit: CellId, chunk: ChunkId) {
        let found = ChunkId::of(b"bad");
        self.input(CopyInput::Alert(Alert { node_id: id(9), culprit, chunk, found }));
    }

    pub(super) fn activity(&self) -> Activity {
        self.cell.cell.activity()
    }

    pub(super) fn drain(&self) -> DrainProgress {
        self.activity().drain.unwrap()
    }

    pub(super) fn events(&self) -> Vec<&Event> {
        events(&self.out)
    }

    /// The queries that wait for an answer, with the cells that are asked.
    pub(super) fn queries(&self) -> Vec<(TaskId, u8, Vec<ChunkId>)> {
        let query = |output: &Output| match output {
            Output::Task(Task::QueryHave { task_id, to, chunks }) => Some((*task_id, cell_at(*to), chunks.clone())),
            _ => None,
        };
        self.out.iter().filter_map(query).collect()
    }

    /// The cells that are asked.
    pub(super) fn queried(&self) -> Vec<u8> {
        self.queries().iter().map(|(_, cell, _)| *cell).collect()
    }

    pub(super) fn answer(&mut self, task_id: TaskId, has: Option<Vec<ChunkId>>) {
        let outcome = has.map_or(QueryOutcome::Unanswered, QueryOutcome::Answered);
        self.input(CopyInput::QueryDone { task_id, outcome });
        self.drop_queries(|other| other == task_id);
    }

    /// Answers all queries: these cells have all chunks, the others none.
    pub(super) fn answer_all(&mut self, holders: &[u8]) {
        for (task_id, cell, chunks) in self.queries() {
            self.answer(task_id, Some(if holders.contains(&cell) { chunks } else { Vec::new() }));
        }
    }

    /// Answers all queries, except that this cell does not respond: all others have all chunks.
    pub(super) fn answer_all_but(&mut self, silent: u8) {
        for (task_id, cell, chunks) in self.queries() {
            self.answer(task_id, (cell != silent).then_some(chunks));
        }
    }

    pub(super) fn drop_queries(&mut self, which: impl Fn(TaskId) -> bool) {
        self.out.retain(|output| !matches!(output, Output::Task(Task::QueryHave { task_id, .. }) if which(*task_id)));
    }

    /// The copies that are being sent, with their targets.
    pub(super) fn sends(&self) -> Vec<(TaskId, u8, ChunkId)> {
        let send = |output: &Output| match output {
            Output::Task(Task::Send { task_id, to, chunk, .. }) => Some((*task_id, cell_at(*to), *chunk)),
            _ => None,
        };
        self.out.iter().filter_map(send).collect()
    }

    /// The targets of the copies that are being sent.
    pub(super) fn targets(&self) -> Vec<u8> {
        self.sends().iter().map(|(_, cell, _)| *cell).collect()
    }

    pub(super) fn send_done(&mut self, task_id: TaskId, outcome: SendOutcome) {
        self.out
            .retain(|output| !matches!(output, Output::Task(Task::Send { task_id: other, .. }) if *other == task_id));
        self.input(CopyInput::SendDone { task_id, outcome });
    }

    /// Is nothing queried and nothing sent?
    pub(super) fn is_quiet(&self) -> bool {
        self.queries().is_empty() && self.sends().is_empty()
    }

    /// A second passes. These cells have all chunks that they are asked for, and all copies that are sent are stored.
    /// Returns their targets.
    pub(super) fn live(&mut self, holders: &[u8]) -> Vec<u8> {
        self.pass(1);
        self.answer_all(holders);
        let mut targets = Vec::new();
        while let Some((task_id, cell, _)) = self.sends().first().copied() {
            targets.push(cell);
            self.send_done(task_id, SendOutcome::Stored);
        }
        self.out.clear();
        targets
    }

    /// The audits that wait for their end, with the cells that are audited.
    pub(super) fn audits(&self) -> Vec<(TaskId, u8, AuditTarget)> {
        let audit = |output: &Output| match output {
            Output::Task(Task::Audit { task_id, from, target }) => Some((*task_id, cell_at(*from), *target)),
            _ => None,
        };
        self.out.iter().filter_map(audit).collect()
    }

    pub(super) fn audit_done(&mut self, task_id: TaskId, outcome: AuditOutcome) {
        self.out
            .retain(|output| !matches!(output, Output::Task(Task::Audit { task_id: other, .. }) if *other == task_id));
        self.input(CopyInput::AuditDone { task_id, outcome });
    }

    /// Ends all audits: these cells have no copy, the others a good one.
    pub(super) fn end_audits(&mut self, without_copy: &[u8]) {
        while let Some((task_id, cell, target)) = self.audits().first().copied() {
            let (AuditTarget::Chunk(chunk) | AuditTarget::After(chunk)) = target;
            let has_copy = !without_copy.contains(&cell);
            let outcome = if has_copy { AuditOutcome::Good { chunk, len: LEN } } else { AuditOutcome::Missing };
            self.audit_done(task_id, outcome);
        }
    }

    /// The fetch under way, and the cell that it is from.
    pub(super) fn fetch(&self) -> Option<(TaskId, u8)> {
        self.out.iter().rev().find_map(|output| match output {
            Output::Task(Task::Fetch { task_id, from, .. }) => Some((*task_id, cell_at(*from))),
            _ => None,
        })
    }

    /// The states that were saved.
    pub(super) fn saved_states(&self) -> Vec<&SavedState> {
        let state = |output| if let &Output::Persist(Persist::State(ref state)) = output { Some(state) } else { None };
        self.out.iter().filter_map(state).collect()
    }
}

/// A chunk for which cell 1 has this rank among these holders; 0 is the first.
pub(super) fn chunk_with_rank(rank: usize, holders: &[u8]) -> ChunkId {
    let draw = |chunk: &ChunkId, cell: u8| rank::draw(chunk, &id(cell));
    let rank_of_1 = |chunk: &ChunkId| holders.iter().filter(|cell| draw(chunk, **cell) > draw(chunk, 1)).count();
    (0..u32::MAX).map(chunk).find(|chunk| rank_of_1(chunk) == rank).unwrap()
}
