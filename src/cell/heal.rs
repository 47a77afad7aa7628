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
//! wait a step longer each, and find it done when they look. What is believed is never enough to move a byte: a round
//! begins by asking the living cells what they have. Targets are chosen by rendezvous hashing, so that two healers who
//! do meet choose the same ones, and the second finds the copy there.
//!
//! A cell has one round at a time, with as much in it as its rate moves in a few seconds, so that what was asked is
//! fresh when it is acted on; the most endangered chunks come first.

mod avoided;
mod hold;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::bucket::Bucket;
use super::holdings::{Holding, Holdings};
use super::placement::{Candidate, prefer};
use super::rank;
use super::view::{Tickets, View};
use super::{Event, News, Output, Sent, Ticket, Time};
use crate::chunk::ChunkId;
use crate::wire::CellId;
use crate::wire::api::MAX_HOLDERS;
use avoided::Avoided;
use hold::Hold;

/// Chunks in one round, at the most.
const ROUND_CHUNKS: usize = 256;
/// What the rate moves in so many seconds makes one round.
const ROUND_S: u64 = 4;
/// Copies on their way at once.
const MAX_SENDS: usize = 4;
/// In a colony of up to so many others each is asked; in a larger one the believed holders and the likeliest targets.
const ASK_ALL: usize = 64;
/// Likeliest targets asked in a larger colony.
const ASK_TARGETS: usize = 12;
/// The first wait after a round that did not heal a chunk, in milliseconds; it doubles each time.
const BACK_OFF_MS: u64 = 5_000;
/// The longest such wait is the first times two to this power: ten minutes and some.
const MAX_DOUBLINGS: u8 = 7;
/// After so long a round goes on with the answers that are there, in milliseconds.
const ANSWER_PATIENCE_MS: u64 = 20_000;
/// A round that has not ended after so long is given up, in milliseconds.
const ROUND_PATIENCE_MS: u64 = 900_000;

/// A chunk of ours that lacks copies.
#[derive(Debug, Clone, Copy)]
struct Wound {
    /// Copies that count.
    left: u8,
    /// Since when there are so few.
    fell: Fallen,
    /// Since when there is somebody who can take a copy: from then on the holders wait for their turns.
    ready: Time,
    /// Not to be looked at before: it is new, or was tried in vain.
    not_before: Time,
    failures: u8,
    /// No cell could take a copy when it was last looked at.
    stuck: bool,
    /// To be asked for once, however many copies are believed: a draining cell must know.
    check: bool,
}

impl Wound {
    fn new(now: Time) -> Self {
        Self { left: 0, fell: [None; 4], ready: now, not_before: now, failures: 0, stuck: false, check: false }
    }
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

#[derive(Debug, Default)]
struct Round {
    began: Time,
    chunks: BTreeMap<ChunkId, Healing>,
    /// Cells that have not answered yet.
    asking: usize,
    /// Is it settled what is to be sent? Answers that come later change beliefs, but not the round.
    planned: bool,
    /// One entry for each copy that is to be sent.
    queue: VecDeque<ChunkId>,
    sends: BTreeMap<Ticket, (ChunkId, CellId)>,
    copies: u64,
    bytes: u64,
}

/// Questions to be asked: each cell, and about which chunks.
pub(super) type Questions = BTreeMap<CellId, Vec<ChunkId>>;

#[derive(Debug)]
pub(super) struct Heal {
    wounds: BTreeMap<ChunkId, Wound>,
    /// When the next wound is due; none if none will be by time alone.
    next_look: Option<Time>,
    round: Option<Round>,
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
            hold: Hold::default(),
            avoided: Avoided::default(),
            bucket: Bucket::new(rate),
            copies: 0,
            bytes: 0,
        }
    }

    /// Chunks that lack copies, and of them those that nobody can take.
    pub(super) fn short(&self) -> (u64, u64) {
        let stuck = self.wounds.values().filter(|wound| wound.stuck).count();
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
                wound.fell = fallen(left, wound.fell, view.now);
                if left < wound.left {
                    // Whatever was tried before, and however often, it is more urgent now.
                    wound.not_before = view.now;
                    (wound.stuck, wound.failures) = (false, 0);
                } else if left > wound.left && wound.left < u8::MAX {
                    // Holders are coming back: the next may be on its way.
                    let [_, pause_ms, ..] = view.settings.heal_delay_ms;
                    wound.not_before = wound.not_before.max(view.now.plus_ms(pause_ms));
                }
                wound.left = left;
                self.look_soon(view.now);
            }
            None if whole => {}
            None => {
                let not_before = view.now.plus_ms(settle_ms);
                self.wound(
                    *id,
                    Wound { left, fell: fallen(left, [None; 4], view.now), not_before, ..Wound::new(view.now) },
                );
                self.look_soon(view.now);
            }
        }
    }

    fn wound(&mut self, id: ChunkId, wound: Wound) {
        self.wounds.insert(id, wound);
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
        let whole = Wound { left: u8::MAX, not_before: view.now, check: true, ..Wound::new(view.now) };
        self.wounds.entry(*id).or_insert(whole).check = true;
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
        for wound in self.wounds.values_mut().filter(|wound| wound.stuck) {
            wound.stuck = false;
            wound.ready = now;
        }
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

    /// Begins a round if one is due, and says what is to be asked for it.
    pub(super) fn begin(&mut self, view: &View, holdings: &Holdings, out: &mut Vec<Output>) -> Questions {
        let now = view.now;
        if self.round.as_ref().is_some_and(|round| now.since_ms(round.began) > ROUND_PATIENCE_MS) {
            self.round = None;
        }
        if self.round.is_some() || self.hold.is_on(now) || self.next_look.is_none_or(|next| now < next) {
            return Questions::new();
        }
        self.avoided.forget(now);
        let chosen = self.choose(view, holdings);
        let questions = questions(view, holdings, &chosen);
        if questions.is_empty() {
            return questions;
        }
        if let Some(fewest) = chosen.iter().filter_map(|id| self.wounds.get(id)).map(|wound| wound.left).min()
            && fewest < u8::MAX
        {
            out.push(Output::Event(Event::Short { chunks: self.wounds.len(), fewest: fewest.into() }));
        }
        let asked: BTreeSet<ChunkId> = questions.values().flatten().copied().collect();
        let chunks = asked.into_iter().map(|id| (id, Healing::default())).collect();
        self.round = Some(Round { began: now, chunks, asking: questions.len(), ..Round::default() });
        questions
    }

    /// The chunks of the next round, the most endangered first.
    fn choose(&mut self, view: &View, holdings: &Holdings) -> Vec<ChunkId> {
        let now = view.now;
        let mut next: Option<Time> = None;
        let mut due = Vec::new();
        for (id, wound) in self.wounds.iter().filter(|(_, wound)| !wound.stuck) {
            let at = wound_due(view, holdings, id, wound);
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
                    wound.stuck = true;
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

    /// Notes what a cell that was asked for the round answered: which of the chunks in question it has, and which not.
    pub(super) fn answered(&mut self, view: &View, cell: CellId, present: &[ChunkId], absent: &[ChunkId]) {
        let Some(round) = self.round.as_mut().filter(|round| !round.planned) else { return };
        round.asking = round.asking.saturating_sub(1);
        for id in present.iter().filter(|_| view.counts(&cell)) {
            if let Some(healing) = round.chunks.get_mut(id) {
                healing.present += 1;
            }
        }
        for id in absent {
            if let Some(healing) = round.chunks.get_mut(id) {
                healing.absent.push(cell);
            }
        }
    }

    /// Plans what is to be sent as soon as all have answered, sends what may be sent now, and ends the round when all
    /// is done.
    pub(super) fn advance(
        &mut self,
        view: &View,
        holdings: &mut Holdings,
        tickets: &mut Tickets,
        out: &mut Vec<Output>,
    ) {
        let Some(mut round) = self.round.take() else { return };
        if round.asking > 0 && view.now.since_ms(round.began) < ANSWER_PATIENCE_MS {
            self.round = Some(round);
            return;
        }
        if !round.planned {
            round.planned = true;
            for (id, healing) in &mut round.chunks {
                self.plan(view, holdings, id, healing, &mut round.queue);
            }
        }
        while round.sends.len() < MAX_SENDS && !round.queue.is_empty() && self.bucket.is_open(view.now) {
            let Some(id) = round.queue.pop_front() else { break };
            self.send(view, holdings, &id, &mut round, tickets, out);
        }
        if round.queue.is_empty() && round.sends.is_empty() {
            self.end(view, holdings, round, out);
        } else {
            self.round = Some(round);
        }
    }

    /// Puts the copies that are missing in the queue: all but those that are there already, or on their way.
    fn plan(
        &self,
        view: &View,
        holdings: &Holdings,
        id: &ChunkId,
        healing: &mut Healing,
        queue: &mut VecDeque<ChunkId>,
    ) {
        let Some(holding) = holdings.get(id) else { return };
        let there =
            usize::from(copies_left(view, holdings, holding)).max(healing.present + usize::from(!view.draining));
        let missing = usize::from(holding.copies).saturating_sub(there);
        let absent = std::mem::take(&mut healing.absent);
        let fit: Vec<(CellId, Candidate)> = absent
            .into_iter()
            .filter(|cell| !self.avoided.contains(view.now, cell))
            .filter_map(|cell| Some((cell, view.takes(&cell, holding.len)?)))
            .collect();
        healing.targets = prefer(id, &fit).into();
        queue.extend(std::iter::repeat_n(*id, missing.min(healing.targets.len())));
    }

    fn send(
        &mut self,
        view: &View,
        holdings: &Holdings,
        id: &ChunkId,
        round: &mut Round,
        tickets: &mut Tickets,
        out: &mut Vec<Output>,
    ) {
        let (Some(healing), Some(holding)) = (round.chunks.get_mut(id), holdings.get(id)) else { return };
        // Holders may have come back since it was planned.
        let there = usize::from(copies_left(view, holdings, holding)) + healing.under_way.len();
        if there >= usize::from(holding.copies) {
            return;
        }
        let target = loop {
            let Some(target) = healing.targets.pop_front() else { return };
            if !self.avoided.contains(view.now, &target) && view.takes(&target, holding.len).is_some() {
                break target;
            }
        };
        let Some(door) = view.door(&target) else { return };
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
        let ticket = tickets.next();
        round.sends.insert(ticket, (*id, target));
        self.bucket.spend(holding.len.into());
        out.push(Output::Send { ticket, chunk: *id, to: door, copies: holding.copies, holders });
    }

    /// Notes how sending a copy ended, and tells of which chunk it was; none if the round has been given up.
    pub(super) fn sent(&mut self, now: Time, holdings: &mut Holdings, ticket: Ticket, how: Sent) -> Option<ChunkId> {
        let round = self.round.as_mut()?;
        let (id, target) = round.sends.remove(&ticket)?;
        let healing = round.chunks.get_mut(&id)?;
        healing.under_way.retain(|cell| *cell != target);
        self.avoided.sent(now, id, target, how);
        match how {
            Sent::Stored => {
                let len = holdings.get(&id).map_or(0, |holding| holding.len.into());
                holdings.believe(&id, target, true);
                healing.gained.push(target);
                round.copies += 1;
                round.bytes += len;
                self.copies += 1;
                self.bytes += len;
            }
            Sent::Refused | Sent::Failed => round.queue.push_back(id),
            Sent::OwnCopyBad | Sent::OwnCopyGone | Sent::OwnCopyUnread => {
                round.queue.retain(|queued| *queued != id);
            }
        }
        Some(id)
    }

    fn end(&mut self, view: &View, holdings: &Holdings, round: Round, out: &mut Vec<Output>) {
        let mut told: BTreeMap<CellId, Vec<News>> = BTreeMap::new();
        for (id, healing) in round.chunks {
            self.close(view, holdings, &id, healing.present + healing.gained.len());
            if healing.gained.is_empty() {
                continue;
            }
            let mut holders: Vec<CellId> = holdings.holders(&id).collect();
            for cell in &holders {
                // Those that have it now know only of those that had it before them.
                let others: Vec<CellId> = healing.gained.iter().copied().filter(|gained| gained != cell).collect();
                if !others.is_empty() {
                    told.entry(*cell).or_default().push(News { id, holders: others });
                }
            }
            holders.push(view.id);
            holders.sort_unstable();
            out.push(Output::Note { chunk: id, holders });
        }
        for (cell, news) in told {
            if let Some(to) = view.door(&cell) {
                out.push(Output::Tell { to, news });
            }
        }
        if round.copies > 0 {
            out.push(Output::Event(Event::Healed { copies: round.copies, bytes: round.bytes }));
        }
        self.look_soon(view.now);
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
        wound.stuck = nobody && wound.left < holding.copies;
        wound.not_before = view.now.plus_ms(BACK_OFF_MS << wound.failures.min(MAX_DOUBLINGS));
        wound.failures = wound.failures.saturating_add(1);
    }
}

/// Copies of a chunk that count, our own among them; 255 or more are 255.
fn copies_left(view: &View, holdings: &Holdings, holding: &Holding) -> u8 {
    let others = holdings.names_of(holding).filter(|cell| view.counts(cell)).count();
    u8::try_from(others + usize::from(!view.draining)).unwrap_or(u8::MAX)
}

/// When a wound is to be looked at: the sooner the fewer copies are left, and the later the more holders come first.
fn wound_due(view: &View, holdings: &Holdings, id: &ChunkId, wound: &Wound) -> Time {
    if view.draining {
        return wound.not_before;
    }
    let due = wound.fell.iter().zip(view.settings.heal_delay_ms);
    let due = due.filter_map(|(since, delay_ms)| Some((*since)?.plus_ms(delay_ms))).min().unwrap_or(view.now);
    let mine = rank::draw(id, &view.id);
    let before = holdings.holders(id).filter(|cell| view.counts(cell) && rank::draw(id, cell) > mine).count() as u64;
    let ready = due.max(wound.ready);
    ready.plus_ms(before.saturating_mul(view.settings.heal_step_ms)).max(wound.not_before)
}

/// Since when there have been at most one, two, three copies, and too few.
type Fallen = [Option<Time>; 4];

/// What was so before stays so until there are more copies: a holder that comes and goes does not start the wait anew.
fn fallen(left: u8, before: Fallen, now: Time) -> Fallen {
    let mut fell = before;
    for (most, since) in [1, 2, 3, u8::MAX].into_iter().zip(&mut fell) {
        *since = (left <= most).then(|| since.unwrap_or(now));
    }
    fell
}

/// Who is to be asked what about these chunks.
fn questions(view: &View, holdings: &Holdings, chosen: &[ChunkId]) -> Questions {
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
