//! The scrub: it hashes all local copies, slowly and continuously, or at once on request.
//!
//! The periodic scrub goes through the chunks in order of their ids, over and over. It starts where it was before a
//! restart, and at a random position the first time. One copy is hashed at a time.

use crate::cell::input::VerifyOutcome;
use crate::cell::output::{Event, Output, Task};
use crate::cell::replicas::map::ReplicaMap;
use crate::cell::settings::Settings;
use crate::id::ChunkId;
use crate::time::Time;
use crate::wire::status::ScrubProgress;

/// Minimum interval between two saves of the position, in milliseconds. An hour's work is quickly repeated, and more
/// saves would wear an SD card.
const SAVE_INTERVAL_MS: u64 = 3_600_000;
/// A copy without a result after this time is skipped, in milliseconds.
const VERIFY_TIMEOUT_MS: u64 = 600_000;
/// This many bad local copies since the last full scrub start another one.
const MAX_BAD: u64 = 3;

#[derive(Debug)]
pub(in crate::cell) struct Scrub {
    /// The last chunk of the periodic scrub.
    position: Option<ChunkId>,
    /// When the next copy of the periodic scrub is due.
    next: Option<Time>,
    last: Time,
    saved_at: Time,
    under_way: Option<(ChunkId, Time)>,
    full: Option<FullScrub>,
    /// When a full scrub last found all copies good.
    clean_at: Option<Time>,
    /// Local copies found bad since the start, by the scrub or otherwise.
    pub(in crate::cell) bad: u64,
    /// Of those, the copies before the end of the last full scrub.
    bad_at_full: u64,
}

/// A full scrub, under way or finished.
#[derive(Debug, Default)]
struct FullScrub {
    position: Option<ChunkId>,
    progress: ScrubProgress,
}

impl Scrub {
    /// `position` is the saved position.
    pub(in crate::cell) fn new(position: Option<ChunkId>) -> Self {
        Self {
            position,
            next: None,
            last: Time::default(),
            saved_at: Time::default(),
            under_way: None,
            full: None,
            clean_at: None,
            bad: 0,
            bad_at_full: 0,
        }
    }

    /// The position to save.
    pub(in crate::cell) fn position(&self) -> Option<ChunkId> {
        self.position
    }

    /// The progress of the full scrub; `None` if there was none.
    pub(in crate::cell) fn progress(&self) -> Option<ScrubProgress> {
        self.full.as_ref().map(|full| full.progress.clone())
    }

    /// Seconds since a full scrub found all copies good.
    pub(in crate::cell) fn clean_s(&self, now: Time) -> Option<u64> {
        self.clean_at.map(|then| now.since_ms(then).div_ceil(1000))
    }

    /// Starts a full scrub, unless one is under way.
    pub(in crate::cell) fn start_full(&mut self, replicas: &ReplicaMap) {
        if self.full.as_ref().is_none_or(|full| full.progress.finished) {
            let progress = ScrubProgress { total: replicas.len() as u64, ..ScrubProgress::default() };
            self.full = Some(FullScrub { progress, ..FullScrub::default() });
            self.bad_at_full = self.bad;
        }
    }

    /// Ends the full scrub under way without a clean result: the disk is failing.
    pub(in crate::cell) fn abort_full(&mut self) {
        if let Some(full) = &mut self.full {
            full.progress.finished = true;
        }
    }

    /// Hashes the next copy if it is due. True if the position must be saved.
    pub(in crate::cell) fn advance(
        &mut self,
        now: Time,
        replicas: &ReplicaMap,
        settings: &Settings,
        rng: &mut fastrand::Rng,
        out: &mut Vec<Output>,
    ) -> bool {
        if self.under_way.is_some_and(|(_, since)| now.since_ms(since) < VERIFY_TIMEOUT_MS) {
            return false;
        }
        self.under_way = None;
        if self.bad >= self.bad_at_full + MAX_BAD {
            self.start_full(replicas);
        }
        if self.advance_full(now, replicas, out) || replicas.len() == 0 {
            return false;
        }
        let pause_ms = settings.scrub_period_ms / replicas.len() as u64;
        let Some(next) = self.next else {
            self.next = Some(now.plus_ms(rng.u64(0..=pause_ms)));
            self.last = now;
            if self.position.is_none() {
                let mut random = [0; 32];
                rng.fill(&mut random);
                self.position = Some(ChunkId::from_bytes(random));
            }
            return false;
        };
        // With more chunks than when `next` was computed, it is due earlier.
        if now < next.min(self.last.plus_ms(pause_ms)) {
            return false;
        }
        self.last = now;
        self.next = Some(now.plus_ms(pause_ms));
        let after = replicas.after(self.position.as_ref(), 1).next().or_else(|| replicas.after(None, 1).next());
        let Some((id, _)) = after else { return false };
        self.position = Some(*id);
        self.verify(now, *id, out);
        let save = now.since_ms(self.saved_at) >= SAVE_INTERVAL_MS;
        if save {
            self.saved_at = now;
        }
        save
    }

    /// True if the full scrub hashes a copy now.
    fn advance_full(&mut self, now: Time, replicas: &ReplicaMap, out: &mut Vec<Output>) -> bool {
        let Some(full) = self.full.as_mut().filter(|full| !full.progress.finished) else { return false };
        let next = replicas.after(full.position.as_ref(), 1).next().map(|(id, _)| *id);
        if let Some(id) = next {
            full.position = next;
            self.verify(now, id, out);
            return true;
        }
        full.progress.finished = true;
        self.bad_at_full = self.bad;
        if full.progress.bad == 0 && full.progress.unread == 0 {
            self.clean_at = Some(now);
        }
        out.push(Output::Event(Event::ScrubDone { bad: full.progress.bad }));
        false
    }

    fn verify(&mut self, now: Time, id: ChunkId, out: &mut Vec<Output>) {
        self.under_way = Some((id, now));
        out.push(Output::Task(Task::Verify(id)));
    }

    /// Records the result of hashing a local copy, for the scrub or otherwise. `suspect`: it is bad because the disk
    /// could not read it several times. Such copies start no full scrub, which would only meet the same errors.
    pub(in crate::cell) fn verify_done(&mut self, id: &ChunkId, outcome: VerifyOutcome, suspect: bool) {
        let bad = u64::from(outcome == VerifyOutcome::Bad);
        self.bad += bad;
        self.bad_at_full += if suspect { bad } else { 0 };
        if self.under_way.is_none_or(|(under_way, _)| under_way != *id) {
            return;
        }
        self.under_way = None;
        if let Some(full) = self.full.as_mut().filter(|full| full.position == Some(*id) && !full.progress.finished) {
            let progress = &mut full.progress;
            progress.done += 1;
            progress.total = progress.total.max(progress.done);
            progress.bad += bad;
            progress.unread += u64::from(matches!(outcome, VerifyOutcome::Unreadable | VerifyOutcome::Failed));
        }
    }
}
