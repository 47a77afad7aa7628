//! A round of healing: for some chunks the living cells are asked what they have, the copies that are missing are sent,
//! and all who have one are told.
//!
//! ```text
//!   asking ── all have answered, or long enough ──▶ plan ──▶ sending ── nothing queued or on its way ──▶ telling
//! ```
//!
//! What always holds:
//!
//! - No byte moves before the plan is made, and that counts all copies that are believed to be there, or said to be.
//! - Once made, the plan does not grow. What is learned later spares a copy, or moves it to the next target: a holder is
//!   back, a target refuses.
//! - A copy goes only to a cell that was asked and said that it does not have the chunk. Targets are chosen by rendezvous
//!   hashing, so that two healers who do meet choose the same ones, and the second finds the copy there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::cell::context::{TaskIds, View};
use crate::cell::heal::backoff::Avoided;
use crate::cell::heal::{Questions, bytes_of, copies_left};
use crate::cell::placement::{Candidate, prefer};
use crate::cell::replicas::map::{Holding, Holdings};
use crate::cell::token_bucket::Bucket;
use crate::cell::{Event, Output, Persist, SendOutcome, Task, TaskId};
use crate::id::CellId;
use crate::id::ChunkId;
use crate::id::MAX_HOLDERS;
use crate::time::Time;
use crate::wire::holder_hints::HolderHint;

/// Copies on their way at once.
const MAX_SENDS: usize = 4;
/// In a colony of up to so many others each is asked; in a larger one the believed holders and the likeliest targets.
const ASK_ALL: usize = 64;
/// Likeliest targets asked in a larger colony.
const ASK_TARGETS: usize = 12;
/// After so long a round goes on with the answers that are there, in milliseconds.
const ANSWER_PATIENCE_MS: u64 = 20_000;
/// A round that has not ended after so long is given up, in milliseconds.
const ROUND_PATIENCE_MS: u64 = 900_000;

#[derive(Debug, Default)]
pub(super) struct Round {
    number: u64,
    began: Time,
    chunks: BTreeMap<ChunkId, Healing>,
    /// Cells that have not answered yet.
    asking: usize,
    /// Is it settled what is to be sent? Answers that come later change beliefs, but not the round.
    planned: bool,
    /// One entry for each copy that is to be sent.
    queue: VecDeque<ChunkId>,
    sends: BTreeMap<TaskId, (ChunkId, CellId)>,
    copies: u64,
    bytes: u64,
}

/// What a round does for one chunk.
#[derive(Debug, Default)]
struct Healing {
    /// Cells that said they have it.
    present: usize,
    /// Cells that said they do not.
    absent: Vec<CellId>,
    /// Those of them that it may go to, best first.
    targets: VecDeque<CellId>,
    under_way: Vec<CellId>,
    /// Where it is now that it was not.
    gained: Vec<CellId>,
}

impl Round {
    /// The round with this number, which begins now, by asking this.
    pub(super) fn new(number: u64, now: Time, questions: &Questions) -> Self {
        let asked: BTreeSet<ChunkId> = questions.values().flatten().copied().collect();
        let chunks = asked.into_iter().map(|id| (id, Healing::default())).collect();
        Self { number, began: now, chunks, asking: questions.len(), ..Self::default() }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Is it to be given up?
    pub(super) fn is_overdue(&self, now: Time) -> bool {
        now.since_ms(self.began) > ROUND_PATIENCE_MS
    }

    /// Notes what a cell answered: which of the chunks in question it has, and which not.
    pub(super) fn answered(&mut self, view: &View, cell: CellId, present: &[ChunkId], absent: &[ChunkId]) {
        if self.planned {
            return;
        }
        self.asking = self.asking.saturating_sub(1);
        for id in present.iter().filter(|_| view.counts(&cell)) {
            if let Some(healing) = self.chunks.get_mut(id) {
                healing.present += 1;
            }
        }
        for id in absent {
            if let Some(healing) = self.chunks.get_mut(id) {
                healing.absent.push(cell);
            }
        }
    }

    /// Plans what is to be sent as soon as all have answered, and sends what may be sent now. True when all is done.
    pub(super) fn advance(
        &mut self,
        view: &View,
        holdings: &Holdings,
        avoided: &Avoided,
        bucket: &mut Bucket,
        task_ids: &mut TaskIds,
        out: &mut Vec<Output>,
    ) -> bool {
        if self.asking > 0 && view.now.since_ms(self.began) < ANSWER_PATIENCE_MS {
            return false;
        }
        if !self.planned {
            self.planned = true;
            self.plan(view, holdings, avoided);
        }
        while self.sends.len() < MAX_SENDS && !self.queue.is_empty() && bucket.is_open(view.now) {
            let Some(id) = self.queue.pop_front() else { break };
            if let Some(send) = self.send(view, holdings, avoided, id, task_ids) {
                bucket.spend(bytes_of(holdings, &id));
                out.push(send);
            }
        }
        self.queue.is_empty() && self.sends.is_empty()
    }

    /// Puts the copies that are missing in the queue: all but those that are there already.
    fn plan(&mut self, view: &View, holdings: &Holdings, avoided: &Avoided) {
        for (id, healing) in &mut self.chunks {
            let Some(holding) = holdings.get(id) else { continue };
            let there =
                usize::from(copies_left(view, holdings, holding)).max(healing.present + usize::from(!view.draining));
            let missing = usize::from(holding.copies).saturating_sub(there);
            let fit: Vec<(CellId, Candidate)> = std::mem::take(&mut healing.absent)
                .into_iter()
                .filter(|cell| !avoided.contains(view.now, cell))
                .filter_map(|cell| Some((cell, view.takes(&cell, holding.len)?)))
                .collect();
            healing.targets = prefer(id, &fit).into();
            self.queue.extend(std::iter::repeat_n(*id, missing.min(healing.targets.len())));
        }
    }

    /// The next copy of this chunk goes on its way; none if it is not needed any more, or has nowhere to go.
    fn send(
        &mut self,
        view: &View,
        holdings: &Holdings,
        avoided: &Avoided,
        id: ChunkId,
        task_ids: &mut TaskIds,
    ) -> Option<Output> {
        let (healing, holding) = (self.chunks.get_mut(&id)?, holdings.get(&id)?);
        // Holders may have come back since it was planned.
        let there = usize::from(copies_left(view, holdings, holding)) + healing.under_way.len();
        if there >= usize::from(holding.copies) {
            return None;
        }
        let target = healing.next_target(view, avoided, holding)?;
        let to = view.door(&target)?;
        let mut holders: Vec<CellId> = holdings
            .names_of(holding)
            .filter(|cell| view.counts(cell))
            .chain(healing.under_way.iter().copied())
            .collect();
        holders.push(target);
        if !view.draining {
            holders.push(view.id);
        }
        holders.truncate(MAX_HOLDERS);
        healing.under_way.push(target);
        let task_id = task_ids.next();
        self.sends.insert(task_id, (id, target));
        Some(Output::Task(Task::Send { task_id, chunk: id, to, copies: holding.copies, holders }))
    }

    /// Notes how sending a copy ended. Tells of which chunk it was, and who was to have it; none if it is no copy of this
    /// round.
    pub(super) fn sent(
        &mut self,
        holdings: &mut Holdings,
        task_id: TaskId,
        how: SendOutcome,
    ) -> Option<(ChunkId, CellId)> {
        let (id, target) = self.sends.remove(&task_id)?;
        let healing = self.chunks.get_mut(&id)?;
        healing.under_way.retain(|cell| *cell != target);
        match how {
            SendOutcome::Stored => {
                holdings.believe(&id, target, true);
                healing.gained.push(target);
                self.copies += 1;
                self.bytes += bytes_of(holdings, &id);
            }
            SendOutcome::Refused | SendOutcome::Failed => self.queue.push_back(id),
            SendOutcome::OwnCopyBad | SendOutcome::OwnCopyGone | SendOutcome::OwnCopyUnreadable => {
                self.queue.retain(|queued| *queued != id);
            }
        }
        Some((id, target))
    }

    /// Tells all who have one where the new copies are. Gives the chunks of the round, each with how many cells have
    /// said that they have it, or took it.
    pub(super) fn tell(self, view: &View, holdings: &Holdings, out: &mut Vec<Output>) -> Vec<(ChunkId, usize)> {
        let mut present = Vec::with_capacity(self.chunks.len());
        let mut told: BTreeMap<CellId, Vec<HolderHint>> = BTreeMap::new();
        for (id, healing) in self.chunks {
            present.push((id, healing.present + healing.gained.len()));
            if healing.gained.is_empty() {
                continue;
            }
            let mut holders: Vec<CellId> = holdings.holders(&id).collect();
            for cell in &holders {
                // Those that have it now know only of those that had it before them.
                let others: Vec<CellId> = healing.gained.iter().copied().filter(|gained| gained != cell).collect();
                if !others.is_empty() {
                    told.entry(*cell).or_default().push(HolderHint { id, holders: others });
                }
            }
            holders.push(view.id);
            holders.sort_unstable();
            out.push(Output::Persist(Persist::Holders { chunk: id, holders }));
        }
        for (cell, news) in told {
            if let Some(to) = view.door(&cell) {
                out.push(Output::Task(Task::SendHints { to, hints: news }));
            }
        }
        if self.copies > 0 {
            out.push(Output::Event(Event::HealDone { copies: self.copies, bytes: self.bytes }));
        }
        present
    }
}

impl Healing {
    /// The best cell that is left to send a copy to.
    fn next_target(&mut self, view: &View, avoided: &Avoided, holding: &Holding) -> Option<CellId> {
        loop {
            let target = self.targets.pop_front()?;
            if !avoided.contains(view.now, &target) && view.takes(&target, holding.len).is_some() {
                return Some(target);
            }
        }
    }
}

/// Who is to be asked what about these chunks.
pub(super) fn questions(view: &View, holdings: &Holdings, chosen: &[ChunkId]) -> Questions {
    let there: Vec<CellId> = view.reachable().map(|(cell, _)| cell).collect();
    if there.len() <= ASK_ALL {
        return if chosen.is_empty() {
            Questions::new()
        } else {
            there.into_iter().map(|cell| (cell, chosen.to_vec())).collect()
        };
    }
    let mut questions = Questions::new();
    for id in chosen {
        let Some(holding) = holdings.get(id) else { continue };
        let believed: BTreeSet<CellId> = holdings.names_of(holding).filter(|cell| view.door(cell).is_some()).collect();
        // Whoever knows of no other holder has forgotten them, and they may be anywhere.
        let asked: BTreeSet<CellId> = if believed.is_empty() {
            there.iter().copied().collect()
        } else {
            let fit = there.iter().filter(|cell| !believed.contains(cell));
            let fit: Vec<_> = fit.filter_map(|cell| Some((*cell, view.takes(cell, holding.len)?))).collect();
            prefer(id, &fit).into_iter().take(ASK_TARGETS).chain(believed.iter().copied()).collect()
        };
        for cell in asked {
            questions.entry(cell).or_default().push(*id);
        }
    }
    questions
}
