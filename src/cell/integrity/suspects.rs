//! Suspect copies: local copies that the disk could not read the last time.
//!
//! A read error is not a bad copy: behind a loose cable every good copy is unreadable for a while. The copy stays where
//! it is and is read again. Meanwhile it does not count as a copy, neither here nor for other cells, which find it
//! missing when they query this one.
//!
//! ```text
//!                                    reads well
//!         ┌───────────────────────────────┬──────────────────────┬─────────────────────┐
//!         ▼                 after 1 min   │       after 10 min   │        after 1 h    │
//!       good ─ read error ─▶ suspect ─▶ fails ─▶ suspect ─▶ fails ─▶ suspect ─▶ fails ─▶ bad: quarantine, refetch
//! ```
//!
//! The times are running time; after a restart all copies are good until a read fails. Suspect copies are read one at a
//! time: a failing disk takes seconds for each error.

use std::collections::{BTreeMap, BTreeSet};

use crate::cell::output::{Output, Task};
use crate::id::ChunkId;
use crate::time::Time;

/// Pauses before a suspect copy is read again, in milliseconds. The first one outlasts a plug that is pushed back in,
/// all three a disk that somebody has to notice and reconnect. The last one repeats if the copy can neither be read nor
/// be moved into quarantine.
const PAUSES_MS: [u64; 3] = [60_000, 600_000, 3_600_000];
/// After this time a read without a result is abandoned and done again, in milliseconds.
const READ_TIMEOUT_MS: u64 = 600_000;
/// Maximum number of suspect copies. Further ones keep counting until their next read.
pub(in crate::cell) const MAX_SUSPECTS: usize = 1 << 16;

#[derive(Debug, Clone, Copy)]
struct Suspect {
    /// Reads that failed since it became suspect.
    failures: usize,
    next: Time,
}

#[derive(Debug, Default)]
pub(in crate::cell) struct Suspects {
    copies: BTreeMap<ChunkId, Suspect>,
    /// In the order in which they are read again.
    queue: BTreeSet<(Time, ChunkId)>,
    under_way: Option<(ChunkId, Time)>,
}

impl Suspects {
    /// Number of suspect copies.
    pub(in crate::cell) fn len(&self) -> usize {
        self.copies.len()
    }

    pub(in crate::cell) fn contains(&self, id: &ChunkId) -> bool {
        self.copies.contains_key(id)
    }

    /// The disk could not read this local copy. True if that makes it suspect.
    pub(in crate::cell) fn read_failed(&mut self, now: Time, id: ChunkId) -> bool {
        if self.copies.contains_key(&id) {
            // Only the reads that were due count, not those of every client.
            if self.end_read(&id) {
                self.schedule(now, id, 1);
            }
            return false;
        }
        if self.copies.len() >= MAX_SUSPECTS {
            return false;
        }
        self.copies.insert(id, Suspect { failures: 0, next: now });
        self.schedule(now, id, 0);
        true
    }

    /// A read of this copy has not shown whether the disk can read it.
    pub(in crate::cell) fn read_undecided(&mut self, now: Time, id: ChunkId) {
        if self.end_read(&id) {
            self.schedule(now, id, 0);
        }
    }

    /// The copy was read, replaced, or lost. True if it was suspect.
    pub(in crate::cell) fn clear(&mut self, id: &ChunkId) -> bool {
        self.end_read(id);
        let suspect = self.copies.remove(id);
        if let Some(Suspect { next, .. }) = suspect {
            self.queue.remove(&(next, *id));
        }
        suspect.is_some()
    }

    /// Reads the next copy that is due.
    pub(in crate::cell) fn advance(&mut self, now: Time, out: &mut Vec<Output>) {
        if let Some((id, since)) = self.under_way {
            if now.since_ms(since) < READ_TIMEOUT_MS {
                return;
            }
            self.read_undecided(now, id);
        }
        let Some((_, id)) = self.queue.first().copied().filter(|(next, _)| *next <= now) else { return };
        self.queue.pop_first();
        self.under_way = Some((id, now));
        let failures = self.copies.get(&id).map_or(0, |suspect| suspect.failures);
        let is_last = failures + 1 >= PAUSES_MS.len();
        out.push(Output::Task(if is_last { Task::VerifyFinally(id) } else { Task::Verify(id) }));
    }

    /// True if the copy was being read because it is suspect.
    fn end_read(&mut self, id: &ChunkId) -> bool {
        self.under_way.take_if(|(under_way, _)| under_way == id).is_some()
    }

    fn schedule(&mut self, now: Time, id: ChunkId, more_failures: usize) {
        let [.., longest_ms] = PAUSES_MS;
        let Some(suspect) = self.copies.get_mut(&id) else { return };
        suspect.failures += more_failures;
        suspect.next = now.plus_ms(PAUSES_MS.get(suspect.failures).copied().unwrap_or(longest_ms));
        self.queue.insert((suspect.next, id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn chunk(n: u8) -> ChunkId {
        ChunkId::of(&[n])
    }

    fn advance(suspects: &mut Suspects, at: u64) -> Vec<Output> {
        let mut out = Vec::new();
        suspects.advance(Time(at), &mut out);
        out
    }

    #[test]
    fn a_suspect_is_read_after_1_min_10_min_and_1_h() {
        let mut suspects = Suspects::default();
        assert!(suspects.read_failed(Time(0), chunk(1)));
        let mut now = 0;
        for (pause, task) in [
            (MINUTE, Task::Verify(chunk(1))),
            (10 * MINUTE, Task::Verify(chunk(1))),
            (60 * MINUTE, Task::VerifyFinally(chunk(1))),
            (60 * MINUTE, Task::VerifyFinally(chunk(1))),
        ] {
            // Reads of others between do not count.
            assert!(!suspects.read_failed(Time(now + 1), chunk(1)));
            assert_eq!(advance(&mut suspects, now + pause - 1), []);
            now += pause;
            assert_eq!(advance(&mut suspects, now), [Output::Task(task)]);
            assert_eq!(advance(&mut suspects, now + 1), [], "it is under way");
            assert!(!suspects.read_failed(Time(now), chunk(1)));
        }
        assert!(suspects.contains(&chunk(1)) && suspects.clear(&chunk(1)) && !suspects.clear(&chunk(1)));
        assert_eq!(advance(&mut suspects, u64::MAX), []);
    }

    #[test]
    fn suspects_are_read_one_at_a_time_in_order() {
        let mut suspects = Suspects::default();
        for n in 0..3 {
            assert!(suspects.read_failed(Time(n.into()), chunk(n)));
        }
        for n in 0..3 {
            assert_eq!(advance(&mut suspects, 2 * MINUTE), [Output::Task(Task::Verify(chunk(n)))]);
            assert_eq!(advance(&mut suspects, 2 * MINUTE), []);
            assert!(suspects.clear(&chunk(n)));
        }
        assert_eq!(suspects.len(), 0);
    }

    #[test]
    fn a_read_without_a_result_is_done_again() {
        let mut suspects = Suspects::default();
        suspects.read_failed(Time(0), chunk(1));
        assert_eq!(advance(&mut suspects, MINUTE).len(), 1);
        suspects.read_undecided(Time(MINUTE), chunk(1));
        assert_eq!(advance(&mut suspects, 2 * MINUTE), [Output::Task(Task::Verify(chunk(1)))]);
        let late = 2 * MINUTE + READ_TIMEOUT_MS;
        assert_eq!(advance(&mut suspects, late), [], "it waits once more");
        assert_eq!(advance(&mut suspects, late + MINUTE), [Output::Task(Task::Verify(chunk(1)))]);
    }

    #[test]
    fn the_number_of_suspects_is_bounded() {
        let mut suspects = Suspects::default();
        for n in 0..MAX_SUSPECTS + 10 {
            suspects.read_failed(Time(0), ChunkId::of(&n.to_le_bytes()));
        }
        assert_eq!(suspects.len(), MAX_SUSPECTS);
    }
}
