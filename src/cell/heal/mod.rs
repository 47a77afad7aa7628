//! Healing: a chunk that lacks copies gets them back.
//!
//! ```text
//!              copies fall            delay by urgency, then by rank          really missing?
//!   whole ──────────────▶ wound ────────────────────────▶ round: ask ───────▶ send ──▶ tell the others ──▶ whole
//!     ▲                     │ a holder is back                  │ enough after all
//!     └─────────────────────┴──────────────────────────────────┘
//! ```
//!
//! Every holder knows of the wound, and none asks another's leave. Who ranks first for the chunk acts first; the others
//! wait a step longer each, and find it done when they look. What is believed is never enough to move a byte: it only
//! says where to look.
//!
//! Here is which chunks have a wound, and which of them are next. `wound` knows when one is due, `round` looks, sends and
//! tells, `avoided` knows who gets no copies for a while, and `hold` when not to begin at all.
//!
//! - A chunk has a wound as long as the last count found fewer copies than are wanted, or it must be asked for because
//!   this cell hands it on.
//! - There is one round at a time, with as much in it as the rate moves in a few seconds, so that what was asked is
//!   fresh when it is acted on; the most endangered chunks come first.
//! - A wound for which nobody can take a copy costs next to nothing until the colony changes, or its copies fall again.

mod backoff;
mod holdoff;
mod round;
mod shortage;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::cell::context::{TaskIds, View};
use crate::cell::heal::backoff::Avoided;
use crate::cell::heal::holdoff::Hold;
use crate::cell::heal::round::Round;
use crate::cell::heal::shortage::Wound;
use crate::cell::rank;
use crate::cell::replicas::map::{Holding, Holdings};
use crate::cell::token_bucket::Bucket;
use crate::cell::{Event, Output, SendOutcome, TaskId};
use crate::id::CellId;
use crate::id::ChunkId;
use crate::time::Time;

/// Chunks in one round, at the most.
const ROUND_CHUNKS: usize = 256;
/// What the rate moves in so many seconds makes one round.
const ROUND_S: u64 = 4;

/// Questions to be asked: each cell, and about which chunks.
pub(super) type Questions = BTreeMap<CellId, Vec<ChunkId>>;

#[derive(Debug)]
pub(super) struct Heal {
    wounds: BTreeMap<ChunkId, Wound>,
    /// When the next wound is due; none if none will be by time alone.
    next_look: Option<Time>,
    round: Option<Round>,
    /// Rounds begun since the start.
    rounds: u64,
    hold: Hold,
    avoided: Avoided,
    bucket: Bucket,
    /// Copies sent since the start, and their bytes.
    pub(super) copies: u64,
    pub(super) bytes: u64,
}

impl Heal {
    pub(super) fn new(rate: u64) -> Self {
        Self {
            wounds: BTreeMap::new(),
            next_look: None,
            round: None,
            rounds: 0,
            hold: Hold::default(),
            avoided: Avoided::default(),
            bucket: Bucket::new(rate),
            copies: 0,
            bytes: 0,
        }
    }

    /// Chunks that lack copies, and of them those that nobody can take.
    pub(super) fn short(&self) -> (u64, u64) {
        let stuck = self.wounds.values().filter(|wound| wound.is_stuck()).count();
        (self.wounds.len() as u64, stuck as u64)
    }

    /// Counts the copies of a chunk again. A wound that is new is not looked at for `settle_ms`.
    pub(super) fn recount(&mut self, view: &View, holdings: &Holdings, id: &ChunkId, settle_ms: u64) {
        let Some(holding) = holdings.get(id) else {
            self.wounds.remove(id);
            return;
        };
        let left = copies_left(view, holdings, holding);
        // After a start the holders of some chunks may be forgotten, and not all cells are up: those who have copies
        // could not answer yet.
        let unknown = holdings.names_of(holding).next().is_none() && view.now < view.unheard_until && !view.draining;
        let whole = left >= holding.copies || unknown;
        match self.wounds.get_mut(id) {
            Some(wound) if whole && !wound.check => drop(self.wounds.remove(id)),
            Some(wound) => {
                wound.recount(view, left);
                self.look_soon(view.now);
            }
            None if whole => {}
            None => {
                self.wounds.insert(*id, Wound::new(left, view.now, settle_ms));
                self.look_soon(view.now);
            }
        }
    }

    /// Every chunk must be asked for: this cell hands its copies on.
    pub(super) fn check_all(&mut self, view: &View, holdings: &Holdings) {
        for id in holdings.ids() {
            self.check(view, holdings, id);
        }
    }

    /// The chunk must be asked for, whatever is believed of it.
    pub(super) fn check(&mut self, view: &View, holdings: &Holdings, id: &ChunkId) {
        self.recount(view, holdings, id, 0);
        self.wounds.entry(*id).or_insert(Wound::to_check(view.now)).check = true;
        self.look_soon(view.now);
    }

    /// The cell stays after all.
    pub(super) fn check_none(&mut self, view: &View, holdings: &Holdings) {
        self.wounds.values_mut().for_each(|wound| wound.check = false);
        for id in holdings.ids() {
            self.recount(view, holdings, id, 0);
        }
    }

    /// Something has changed among the cells: who could take no copy then may be able to now.
    pub(super) fn colony_changed(&mut self, now: Time, cell: &CellId) {
        self.avoided.changed(now, cell);
        self.wounds.values_mut().for_each(|wound| wound.colony_changed(now));
        if !self.wounds.is_empty() {
            self.look_soon(now);
        }
    }

    /// So many other cells are active now, and some may have `returned` from the dead.
    pub(super) fn company(&mut self, view: &View, others: usize, returned: bool) {
        self.hold.look(view.now, view.settings.silent_after_ms, others, returned);
    }

    fn look_soon(&mut self, now: Time) {
        self.next_look = Some(self.next_look.map_or(now, |next| next.min(now)));
    }

    /// Is a round under way?
    pub(super) fn is_busy(&self) -> bool {
        self.round.is_some()
    }

    /// Begins a round if one is due: its number, and what is to be asked for it.
    pub(super) fn begin(
        &mut self,
        view: &View,
        holdings: &Holdings,
        out: &mut Vec<Output>,
    ) -> Option<(u64, Questions)> {
        let now = view.now;
        if self.round.take_if(|round| round.is_overdue(now)).is_some() {
            // Its wounds are where they were.
            self.look_soon(now);
        }
        if self.round.is_some() || self.hold.is_on(now) || self.next_look.is_none_or(|next| now < next) {
            return None;
        }
        self.avoided.forget(now);
        let chosen = self.choose(view, holdings);
        let questions = round::questions(view, holdings, &chosen);
        if questions.is_empty() {
            return None;
        }
        if let Some(fewest) = chosen.iter().filter_map(|id| self.wounds.get(id)).map(|wound| wound.left).min()
            && fewest < u8::MAX
        {
            out.push(Output::Event(Event::HealStarted { chunks: self.wounds.len(), fewest_copies: fewest.into() }));
        }
        self.rounds += 1;
        self.round = Some(Round::new(self.rounds, now, &questions));
        Some((self.rounds, questions))
    }

    /// The chunks of the next round, the most endangered first.
    fn choose(&mut self, view: &View, holdings: &Holdings) -> Vec<ChunkId> {
        let now = view.now;
        let mut next: Option<Time> = None;
        let mut due = Vec::new();
        for (id, wound) in &self.wounds {
            let at = wound.due(view, holdings, id);
            if at <= now {
                // Of those that are as endangered, first the ones for which we rank high: the others' are elsewhere.
                due.push((wound.left, Reverse(rank::draw(id, &view.id)), *id));
            } else {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        // When the round has ended those that are left are looked at again.
        self.next_look = next;
        due.sort_unstable();
        let budget = self.bucket.rate().saturating_mul(ROUND_S);
        let (mut chosen, mut bytes) = (Vec::new(), 0);
        let reachable: Vec<CellId> = view.reachable().map(|(cell, _)| cell).collect();
        for (left, _, id) in due {
            let Some(holding) = holdings.get(&id) else { continue };
            let known: BTreeSet<CellId> = holdings.names_of(holding).collect();
            if left < holding.copies && reachable.iter().all(|cell| known.contains(cell)) {
                // All who are there have it: nobody is left to ask, or to send it to.
                if let Some(wound) = self.wounds.get_mut(&id) {
                    wound.stick(now);
                }
                continue;
            }
            if !chosen.is_empty() && (chosen.len() >= ROUND_CHUNKS || bytes >= budget) {
                break;
            }
            bytes += u64::from(holding.len) * u64::from(holding.copies.saturating_sub(left).max(1));
            chosen.push(id);
        }
        chosen
    }

    /// A cell does not have these chunks. If we sent it one of them, it does not keep what it takes.
    pub(super) fn absent(&mut self, now: Time, cell: CellId, absent: &[ChunkId]) {
        self.avoided.absent(now, cell, absent);
    }

    /// Notes what a cell that was asked for the round with this number answered: which of the chunks in question it has,
    /// and which not. An answer that comes when that round is over says nothing for the next one, which asks itself.
    pub(super) fn answered(&mut self, view: &View, round: u64, cell: CellId, present: &[ChunkId], absent: &[ChunkId]) {
        if let Some(round) = self.round.as_mut().filter(|now| now.number() == round) {
            round.answered(view, cell, present, absent);
        }
    }

    /// Goes on with the round. When all of it is done the chunks' wounds are closed, or wait for the next one.
    pub(super) fn advance(&mut self, view: &View, holdings: &Holdings, task_ids: &mut TaskIds, out: &mut Vec<Output>) {
        let (avoided, bucket) = (&self.avoided, &mut self.bucket);
        let done = self.round.take_if(|round| round.advance(view, holdings, avoided, bucket, task_ids, out));
        let Some(round) = done else { return };
        for (id, present) in round.tell(view, holdings, out) {
            self.close(view, holdings, &id, present);
        }
        self.look_soon(view.now);
    }

    /// Notes how sending a copy ended, and tells of which chunk it was; none if the round has been given up.
    pub(super) fn sent(
        &mut self,
        now: Time,
        holdings: &mut Holdings,
        task_id: TaskId,
        how: SendOutcome,
    ) -> Option<ChunkId> {
        let (id, target) = self.round.as_mut()?.sent(holdings, task_id, how)?;
        self.avoided.sent(now, id, target, how);
        if how == SendOutcome::Stored {
            self.copies += 1;
            self.bytes += bytes_of(holdings, &id);
        }
        Some(id)
    }

    /// A round has looked at the chunk, and so many cells said that they have it: its wound is closed, or waits. What is
    /// believed does not do for a draining cell.
    fn close(&mut self, view: &View, holdings: &Holdings, id: &ChunkId, present: usize) {
        let wanted = holdings.get(id).map_or(0, |holding| usize::from(holding.copies));
        if let Some(wound) = self.wounds.get_mut(id) {
            wound.check &= present < wanted;
        }
        self.recount(view, holdings, id, 0);
        let Some(wound) = self.wounds.get_mut(id) else { return };
        let Some(holding) = holdings.get(id) else { return };
        let nobody = !view.reachable().any(|(cell, _)| {
            view.takes(&cell, holding.len).is_some()
                && !holdings.believes(id, &cell)
                && !self.avoided.is_unreliable(view.now, &cell)
        });
        // Where enough are believed somebody has not answered yet, and is asked again.
        if nobody && wound.left < holding.copies {
            wound.stick(view.now);
        } else {
            wound.tried(view.now);
        }
    }
}

/// Copies of a chunk that count, our own among them; 255 or more are 255.
fn copies_left(view: &View, holdings: &Holdings, holding: &Holding) -> u8 {
    let others = holdings.names_of(holding).filter(|cell| view.counts(cell)).count();
    u8::try_from(others + usize::from(!view.draining)).unwrap_or(u8::MAX)
}

/// The length of our copy of a chunk; none if that is gone by now.
fn bytes_of(holdings: &Holdings, id: &ChunkId) -> u64 {
    holdings.get(id).map_or(0, |holding| holding.len.into())
}
