//! The scrub: every own copy is re-hashed, slowly all the time, and all at once when somebody asks.
//!
//! The slow one goes round in the order of the ids and begins where it last was, or anywhere the first time. One copy is
//! looked at at a time.

use crate::cell::replicas::map::Holdings;
use crate::cell::{Event, Output, Settings, Task, VerifyOutcome};
use crate::id::ChunkId;
use crate::time::Time;
use crate::wire::status::ScrubProgress;

/// Its place is kept across restarts, so often at the most, in milliseconds: an hour's work is soon done again, and a
/// card is not worn by it.
const KEEP_EVERY_MS: u64 = 3_600_000;
/// A copy that is not answered for in this time is passed over, in milliseconds.
const PATIENCE_MS: u64 = 600_000;
/// Bad copies of our own after which the cell looks at all it has.
const ALARMING: u64 = 3;

#[derive(Debug)]
pub(in crate::cell) struct Scrub {
    /// The last copy that the slow scrub has looked at.
    at: Option<ChunkId>,
    next_slow: Option<Time>,
    looked_at: Time,
    kept_at: Time,
    under_way: Option<(ChunkId, Time)>,
    full: Option<Full>,
    /// When all copies were last found good.
    clean_at: Option<Time>,
    /// Own copies found bad, by whatever way.
    pub(in crate::cell) bad: u64,
    /// How many of them there were when the cell last looked at all it has.
    bad_at_full: u64,
}

#[derive(Debug, Default)]
struct Full {
    at: Option<ChunkId>,
    facts: ScrubProgress,
}

impl Scrub {
    pub(in crate::cell) fn new(at: Option<ChunkId>) -> Self {
        Self {
            at,
            next_slow: None,
            looked_at: Time::default(),
            kept_at: Time::default(),
            under_way: None,
            full: None,
            clean_at: None,
            bad: 0,
            bad_at_full: 0,
        }
    }

    pub(in crate::cell) fn place(&self) -> Option<ChunkId> {
        self.at
    }

    pub(in crate::cell) fn facts(&self) -> Option<ScrubProgress> {
        self.full.as_ref().map(|full| full.facts.clone())
    }

    /// Seconds since all copies were found good.
    pub(in crate::cell) fn clean_s(&self, now: Time) -> Option<u64> {
        self.clean_at.map(|then| now.since_ms(then).div_ceil(1000))
    }

    /// Looks at all copies from now on, unless it is doing so.
    pub(in crate::cell) fn start_full(&mut self, holdings: &Holdings) {
        if self.full.as_ref().is_none_or(|full| full.facts.finished) {
            let facts = ScrubProgress { total: holdings.len() as u64, ..ScrubProgress::default() };
            self.full = Some(Full { facts, ..Full::default() });
            self.bad_at_full = self.bad;
        }
    }

    /// Looks at the next copy if it is time. True if the place should be kept.
    pub(in crate::cell) fn advance(
        &mut self,
        now: Time,
        holdings: &Holdings,
        settings: &Settings,
        rng: &mut fastrand::Rng,
        out: &mut Vec<Output>,
    ) -> bool {
        if self.under_way.is_some_and(|(_, since)| now.since_ms(since) < PATIENCE_MS) {
            return false;
        }
        self.under_way = None;
        if self.bad >= self.bad_at_full + ALARMING {
            self.start_full(holdings);
        }
        if self.advance_full(now, holdings, out) || holdings.len() == 0 {
            return false;
        }
        let pause_ms = settings.scrub_period_ms / holdings.len() as u64;
        let Some(next) = self.next_slow else {
            self.next_slow = Some(now.plus_ms(rng.u64(0..=pause_ms)));
            self.looked_at = now;
            if self.at.is_none() {
                let mut anywhere = [0; 32];
                rng.fill(&mut anywhere);
                self.at = Some(ChunkId::from_bytes(anywhere));
            }
            return false;
        };
        // With more chunks than there were when it was set, it is sooner.
        if now < next.min(self.looked_at.plus_ms(pause_ms)) {
            return false;
        }
        self.looked_at = now;
        self.next_slow = Some(now.plus_ms(pause_ms));
        let after = holdings.after(self.at.as_ref(), 1).next().or_else(|| holdings.after(None, 1).next());
        let Some((id, _)) = after else { return false };
        self.at = Some(*id);
        self.look_at(now, *id, out);
        let keep = now.since_ms(self.kept_at) >= KEEP_EVERY_MS;
        if keep {
            self.kept_at = now;
        }
        keep
    }

    fn advance_full(&mut self, now: Time, holdings: &Holdings, out: &mut Vec<Output>) -> bool {
        let Some(full) = self.full.as_mut().filter(|full| !full.facts.finished) else { return false };
        let next = holdings.after(full.at.as_ref(), 1).next().map(|(id, _)| *id);
        if let Some(id) = next {
            full.at = next;
            self.look_at(now, id, out);
            return true;
        }
        full.facts.finished = true;
        self.bad_at_full = self.bad;
        if full.facts.bad == 0 && full.facts.unread == 0 {
            self.clean_at = Some(now);
        }
        out.push(Output::Event(Event::ScrubDone { bad: full.facts.bad }));
        false
    }

    fn look_at(&mut self, now: Time, id: ChunkId, out: &mut Vec<Output>) {
        self.under_way = Some((id, now));
        out.push(Output::Task(Task::Verify(id)));
    }

    /// Takes in how a look ended, whoever wanted it.
    pub(in crate::cell) fn verified(&mut self, id: &ChunkId, how: VerifyOutcome) {
        self.bad += u64::from(how == VerifyOutcome::Bad);
        if self.under_way.is_none_or(|(under_way, _)| under_way != *id) {
            return;
        }
        self.under_way = None;
        if let Some(full) = self.full.as_mut().filter(|full| full.at == Some(*id) && !full.facts.finished) {
            full.facts.done += 1;
            full.facts.total = full.facts.total.max(full.facts.done);
            full.facts.bad += u64::from(how == VerifyOutcome::Bad);
            full.facts.unread += u64::from(how == VerifyOutcome::Unreadable);
        }
    }
}
