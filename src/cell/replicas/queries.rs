//! Keeping what is believed about other holders true, by asking them.
//!
//! Every chunk's holders are asked once in a while, a slice of the chunks at a time. A cell that is back from the dead is
//! asked about what it is believed to have; and what others tell about copies is asked for before it is believed. An
//! answer changes a belief; no answer changes nothing, since silence is judged elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use crate::cell::context::{TaskIds, View};
use crate::cell::heal::Questions;
use crate::cell::replicas::map::Holdings;
use crate::cell::{Output, Task, TaskId};
use crate::id::CellId;
use crate::id::ChunkId;
use crate::time::Time;
use crate::wire::holder_hints::{HolderHint, MAX_HOLDER_HINTS};
use crate::wire::id_lists::MAX_HAVE_IDS;

/// Chunks in one slice.
const SLICE: usize = 2000;
/// Questions under way because somebody told something, at the most: hints of strangers shall not make us ask without
/// end. What is passed over the next audit finds.
const MAX_HINTED: usize = 64;

/// A cell that comes and goes is asked what it still has so often at the most, in milliseconds.
const RETURNED_EVERY_MS: u64 = 60_000;

/// Why a cell is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// For the round of healing with this number.
    Round(u64),
    Audit,
    Hint,
}

#[derive(Debug)]
struct Question {
    cell: CellId,
    ids: Vec<ChunkId>,
    why: Why,
}

/// What an answer was about.
#[derive(Debug)]
pub(in crate::cell) struct Learned {
    /// Who was asked.
    pub(in crate::cell) cell: CellId,
    /// Chunks of which something else is believed now.
    pub(in crate::cell) changed: Vec<ChunkId>,
    /// Chunks that the cell was asked for and has.
    pub(in crate::cell) present: Vec<ChunkId>,
    /// Chunks that it was asked for and does not have.
    pub(in crate::cell) absent: Vec<ChunkId>,
    /// For which round of healing it was asked, if for one.
    pub(in crate::cell) round: Option<u64>,
    /// Did it answer at all?
    pub(in crate::cell) answered: bool,
}

#[derive(Debug, Default)]
pub(in crate::cell) struct Beliefs {
    asked: BTreeMap<TaskId, Question>,
    /// The last chunk of the slice before; none at the beginning.
    cursor: Option<ChunkId>,
    next_slice: Option<Time>,
    /// When cells that came back were last asked for that.
    returned: BTreeMap<CellId, Time>,
}

impl Beliefs {
    /// Asks for the round of healing with this number.
    pub(in crate::cell) fn ask_for_round(
        &mut self,
        view: &View,
        round: u64,
        questions: Questions,
        task_ids: &mut TaskIds,
        out: &mut Vec<Output>,
    ) {
        self.ask(view, questions, Why::Round(round), task_ids, out);
    }

    /// Asks about the next slice of chunks when its time has come. Gives the holders believed for them that are no
    /// members any more.
    pub(in crate::cell) fn audit(
        &mut self,
        view: &View,
        holdings: &Holdings,
        task_ids: &mut TaskIds,
        rng: &mut fastrand::Rng,
        out: &mut Vec<Output>,
    ) -> Vec<(ChunkId, CellId)> {
        let mut gone = Vec::new();
        let period_ms = view.settings.belief_audit_ms.max(1000);
        let slices = holdings.len().div_ceil(SLICE).max(1) as u64;
        let Some(next) = self.next_slice else {
            // Cells that start together do not audit together.
            self.next_slice = Some(view.now.plus_ms(rng.u64(0..=period_ms)));
            return gone;
        };
        if view.now < next || holdings.len() == 0 {
            return gone;
        }
        let pause_ms = period_ms / slices;
        self.next_slice = Some(view.now.plus_ms(pause_ms - pause_ms / 10 + rng.u64(0..=pause_ms / 5)));
        let mut questions = Questions::new();
        let (mut last, mut count) = (None, 0);
        for (id, holding) in holdings.after(self.cursor.as_ref(), SLICE) {
            for cell in holdings.names_of(holding) {
                if view.door(&cell).is_some() {
                    questions.entry(cell).or_default().push(*id);
                } else if view.members.get(&cell).is_none() {
                    gone.push((*id, cell));
                }
            }
            (last, count) = (Some(*id), count + 1);
        }
        self.cursor = last.filter(|_| count == SLICE);
        self.ask(view, questions, Why::Audit, task_ids, out);
        gone
    }

    /// A cell is back: what does it still have?
    pub(in crate::cell) fn returned(
        &mut self,
        view: &View,
        holdings: &Holdings,
        cell: CellId,
        task_ids: &mut TaskIds,
        out: &mut Vec<Output>,
    ) {
        self.returned.retain(|_, then| view.now.since_ms(*then) < RETURNED_EVERY_MS);
        if self.returned.contains_key(&cell) {
            return;
        }
        self.returned.insert(cell, view.now);
        let shared = holdings.shared_with(&cell);
        if !shared.is_empty() {
            self.ask(view, BTreeMap::from([(cell, shared)]), Why::Audit, task_ids, out);
        }
    }

    /// Somebody tells where copies are: those named are asked.
    pub(in crate::cell) fn told(
        &mut self,
        view: &View,
        holdings: &Holdings,
        hints: &[HolderHint],
        task_ids: &mut TaskIds,
        out: &mut Vec<Output>,
    ) {
        let mut questions: BTreeMap<CellId, BTreeSet<ChunkId>> = BTreeMap::new();
        for HolderHint { id, holders } in hints.iter().take(MAX_HOLDER_HINTS).filter(|hint| holdings.has(&hint.id)) {
            for cell in holders.iter().filter(|cell| **cell != view.id && !holdings.believes(id, cell)) {
                if view.counts(cell) && view.door(cell).is_some() {
                    questions.entry(*cell).or_default().insert(*id);
                }
            }
        }
        let hinted = self.asked.values().filter(|question| question.why == Why::Hint);
        let hinted: BTreeSet<CellId> = hinted.map(|question| question.cell).collect();
        let under_way = hinted.len();
        questions.retain(|cell, _| !hinted.contains(cell));
        let questions = questions.into_iter().take(MAX_HINTED.saturating_sub(under_way));
        self.ask(
            view,
            questions.map(|(cell, ids)| (cell, ids.into_iter().collect())).collect(),
            Why::Hint,
            task_ids,
            out,
        );
    }

    fn ask(&mut self, view: &View, questions: Questions, why: Why, task_ids: &mut TaskIds, out: &mut Vec<Output>) {
        // Those who are known to answer first: strangers that hang must not keep them waiting.
        let (known, strange): (Vec<_>, Vec<_>) =
            questions.into_iter().partition(|(cell, _)| view.voices.is_known(cell));
        for (cell, mut ids) in known.into_iter().chain(strange) {
            let Some(to) = view.door(&cell) else { continue };
            ids.truncate(MAX_HAVE_IDS);
            let task_id = task_ids.next();
            out.push(Output::Task(Task::QueryHave { task_id, to, chunks: ids.clone() }));
            self.asked.insert(task_id, Question { cell, ids, why });
        }
    }

    /// Takes in what a cell answered; none if nobody waits for it.
    pub(in crate::cell) fn answered(
        &mut self,
        holdings: &mut Holdings,
        task_id: TaskId,
        has: Option<&[ChunkId]>,
    ) -> Option<Learned> {
        let Question { cell, ids, why } = self.asked.remove(&task_id)?;
        let (changed, present, absent) = (Vec::new(), Vec::new(), Vec::new());
        let answered = has.is_some();
        let round = if let Why::Round(number) = why { Some(number) } else { None };
        let mut learned = Learned { cell, changed, present, absent, round, answered };
        let Some(has) = has else { return Some(learned) };
        let has: BTreeSet<&ChunkId> = has.iter().collect();
        for id in ids {
            let holds = has.contains(&id);
            if holds {
                learned.present.push(id);
            } else {
                learned.absent.push(id);
            }
            if holdings.believe(&id, cell, holds) {
                learned.changed.push(id);
            }
        }
        Some(learned)
    }
}
