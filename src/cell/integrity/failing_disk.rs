//! The failing disk: so many reads fail that nobody can rely on this cell's copies.
//!
//! ```text
//!           8 copies become suspect within 10 min, and these are more than 1 % of the reads
//!   healthy ───────────────────────────────────────────────────────────────────────────────▶ failing
//!      ▲                                                                                        │
//!      └── 64 copies from a random one on (or all) are read without an error ◀── 10 min without ┘
//!                                                                                an error
//! ```
//!
//! A failing cell does not scrub, takes no new chunks, and does not count its own copies, so that it heals what it can
//! read: chunks without another holder at once, the others after the delays for their number of copies. It serves what
//! it can read.

use std::collections::VecDeque;

use crate::cell::input::VerifyOutcome;
use crate::cell::output::{Output, Task};
use crate::cell::replicas::map::ReplicaMap;
use crate::id::ChunkId;
use crate::time::Time;

/// The time in which read errors are counted, and the time without one after which copies are read to end the state, in
/// milliseconds.
const WINDOW_MS: u64 = 600_000;
/// Interval of the counts, in milliseconds.
const SAMPLE_MS: u64 = 10_000;
/// This many new suspect copies in the window make the disk failing. A few bad sectors do not.
const MIN_SUSPECTS: u64 = 8;
/// So do they only if they are more than one in this many reads.
const READS_PER_SUSPECT: u64 = 100;
/// Copies that must be read without an error to end the state.
const PROBES: usize = 64;
/// A copy without a result after this time counts as an error, in milliseconds.
const PROBE_TIMEOUT_MS: u64 = 600_000;

/// What has been counted since the start, at one time.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    at: Time,
    reads: u64,
    suspects: u64,
}

/// The copies that are read to end the state.
#[derive(Debug, Default)]
struct Probes {
    after: Option<ChunkId>,
    done: usize,
    under_way: Option<(ChunkId, Time)>,
}

#[derive(Debug)]
pub(in crate::cell) struct FailingDisk {
    /// At most the window's, the oldest first. Never empty: the first one is of the start, when nothing had been counted.
    samples: VecDeque<Sample>,
    /// Suspect copies since the start.
    suspects: u64,
    last_error: Time,
    is_failing: bool,
    probes: Option<Probes>,
}

impl FailingDisk {
    /// `is_failing`: whether the disk was failing when the cell last stopped.
    pub(in crate::cell) fn new(is_failing: bool) -> Self {
        Self {
            samples: VecDeque::from([Sample::default()]),
            suspects: 0,
            last_error: Time::default(),
            is_failing,
            probes: None,
        }
    }

    pub(in crate::cell) fn is_failing(&self) -> bool {
        self.is_failing
    }

    /// A read has failed. `is_new`: the copy was not suspect before.
    pub(in crate::cell) fn read_failed(&mut self, now: Time, is_new: bool) {
        self.suspects += u64::from(is_new);
        self.last_error = now;
        self.probes = None;
    }

    /// A local copy was hashed.
    pub(in crate::cell) fn verify_done(&mut self, now: Time, id: &ChunkId, outcome: VerifyOutcome) {
        let Some(probes) = &mut self.probes else { return };
        if probes.under_way.take_if(|(under_way, _)| under_way == id).is_none() {
            return;
        }
        match outcome {
            // A bad copy was read: that is another fault.
            VerifyOutcome::Good | VerifyOutcome::Bad | VerifyOutcome::Missing => probes.done += 1,
            VerifyOutcome::Unreadable => self.read_failed(now, false),
            VerifyOutcome::Failed => {}
        }
    }

    /// Counts, and reads the next copy if the state may end. `reads` are all reads of copies since the start. True if
    /// the state has changed.
    pub(in crate::cell) fn advance(
        &mut self,
        now: Time,
        reads: u64,
        replicas: &ReplicaMap,
        rng: &mut fastrand::Rng,
        out: &mut Vec<Output>,
    ) -> bool {
        let was_failing = self.is_failing;
        let sample = Sample { at: now, reads, suspects: self.suspects };
        if self.samples.back().is_none_or(|last| now.since_ms(last.at) >= SAMPLE_MS) {
            self.samples.push_back(sample);
            // One sample at or before the start of the window stays.
            while self.samples.get(1).is_some_and(|second| now.since_ms(second.at) >= WINDOW_MS) {
                self.samples.pop_front();
            }
        }
        if self.is_failing {
            self.is_failing = !self.has_recovered(now, replicas, rng, out);
        } else {
            let first = self.samples.front().copied().unwrap_or(sample);
            let suspects = sample.suspects.saturating_sub(first.suspects);
            let reads = sample.reads.saturating_sub(first.reads);
            self.is_failing = suspects >= MIN_SUSPECTS && suspects.saturating_mul(READS_PER_SUSPECT) > reads;
        }
        if was_failing && !self.is_failing {
            // The errors before do not count again.
            self.samples.clear();
            self.samples.push_back(sample);
            self.probes = None;
        }
        was_failing != self.is_failing
    }

    fn has_recovered(
        &mut self,
        now: Time,
        replicas: &ReplicaMap,
        rng: &mut fastrand::Rng,
        out: &mut Vec<Output>,
    ) -> bool {
        if now.since_ms(self.last_error) < WINDOW_MS {
            return false;
        }
        let probes = self.probes.get_or_insert_with(|| {
            let mut random = [0; 32];
            rng.fill(&mut random);
            Probes { after: Some(ChunkId::from_bytes(random)), ..Probes::default() }
        });
        if probes.done >= PROBES.min(replicas.len()) {
            return true;
        }
        match probes.under_way {
            None => {
                let next = replicas.after(probes.after.as_ref(), 1).next().or_else(|| replicas.after(None, 1).next());
                if let Some((id, _)) = next {
                    probes.after = Some(*id);
                    probes.under_way = Some((*id, now));
                    out.push(Output::Task(Task::Verify(*id)));
                }
            }
            Some((_, since)) if now.since_ms(since) >= PROBE_TIMEOUT_MS => self.read_failed(now, false),
            Some(_) => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::input::LocalCopy;
    use crate::id::CellId;

    const SECOND: u64 = 1000;

    struct Disk {
        failing: FailingDisk,
        replicas: ReplicaMap,
        rng: fastrand::Rng,
        now: u64,
        reads: u64,
    }

    impl Disk {
        fn with_copies(copies: u32) -> Self {
            let mut replicas = ReplicaMap::default();
            for n in 0..copies {
                let id = ChunkId::of(&n.to_le_bytes());
                replicas.add(
                    CellId::from_bytes([0; 16]),
                    &LocalCopy { id, len: 1, copies: 2, bare: false, holders: Vec::new() },
                );
            }
            let (failing, rng) = (FailingDisk::new(false), fastrand::Rng::with_seed(1));
            Self { failing, replicas, rng, now: 0, reads: 0 }
        }

        /// Each second this many reads, of which these fail for the first time.
        fn pass(&mut self, seconds: u64, reads: u64, errors: u64) -> Vec<ChunkId> {
            let mut out = Vec::new();
            for _ in 0..seconds {
                self.now += SECOND;
                self.reads += reads;
                (0..errors).for_each(|_| self.failing.read_failed(Time(self.now), true));
                self.failing.advance(Time(self.now), self.reads, &self.replicas, &mut self.rng, &mut out);
            }
            let verified = |output| if let Output::Task(Task::Verify(id)) = output { Some(id) } else { None };
            out.into_iter().filter_map(verified).collect()
        }

        fn verify_done(&mut self, id: ChunkId, outcome: VerifyOutcome) {
            self.failing.verify_done(Time(self.now), &id, outcome);
        }

        fn is_failing(&self) -> bool {
            self.failing.is_failing()
        }
    }

    #[test]
    fn eight_new_suspects_in_ten_minutes_are_a_failing_disk() {
        let mut disk = Disk::with_copies(100);
        disk.pass(1, 0, 0);
        disk.pass(7, 1, 1);
        assert!(!disk.is_failing(), "seven");
        disk.pass(620, 1, 0);
        disk.pass(1, 1, 1);
        assert!(!disk.is_failing(), "the first ones are too long ago");
        disk.pass(7, 1, 1);
        assert!(disk.is_failing());
    }

    /// They were not, and a cell on a disk that failed in its first second never noticed.
    #[test]
    fn errors_before_the_first_count_are_counted() {
        let mut disk = Disk::with_copies(100);
        (0..8).for_each(|_| disk.failing.read_failed(Time(0), true));
        disk.pass(1, 8, 0);
        assert!(disk.is_failing());
    }

    #[test]
    fn few_errors_among_many_reads_are_not_a_failing_disk() {
        let mut disk = Disk::with_copies(100);
        disk.pass(1, 0, 0);
        disk.pass(300, 200, 1);
        assert!(!disk.is_failing());
        disk.pass(300, 50, 1);
        assert!(!disk.is_failing(), "one in 125");
        disk.pass(600, 50, 1);
        assert!(disk.is_failing(), "one in 50");
    }

    #[test]
    fn the_state_ends_when_64_copies_read_well() {
        for (copies, needed) in [(100, 64), (5, 5), (0, 0)] {
            let mut disk = Disk::with_copies(copies);
            disk.pass(4, 0, 0);
            disk.pass(1, 8, 8);
            assert_eq!(disk.pass(599, 1, 0), [], "the last error was less than ten minutes ago");
            let mut read = Vec::new();
            while disk.is_failing() {
                let verified = disk.pass(1, 1, 0);
                assert!(verified.len() <= 1 && read.len() <= needed);
                for id in &verified {
                    disk.verify_done(*id, VerifyOutcome::Good);
                }
                read.extend(verified);
            }
            assert_eq!(read.len(), needed);
            read.sort_unstable();
            read.dedup();
            assert_eq!(read.len(), needed, "each once");
            for _ in 0..60 {
                disk.pass(1, 1, 0);
                assert!(!disk.is_failing(), "the errors before do not count again");
            }
        }
    }

    #[test]
    fn a_disk_is_still_failing_after_a_restart() {
        let mut disk = Disk { failing: FailingDisk::new(true), ..Disk::with_copies(100) };
        assert_eq!(disk.pass(599, 1, 0), []);
        assert!(disk.is_failing());
        for _ in 0..PROBES {
            let verified = disk.pass(1, 1, 0);
            disk.verify_done(verified[0], VerifyOutcome::Good);
        }
        disk.pass(1, 1, 0);
        assert!(!disk.is_failing());
    }

    #[test]
    fn an_error_starts_the_ten_minutes_anew() {
        let mut disk = Disk::with_copies(100);
        disk.pass(1, 0, 0);
        disk.pass(8, 1, 1);
        disk.pass(599, 1, 0);
        let verified = disk.pass(1, 1, 0);
        disk.verify_done(verified[0], VerifyOutcome::Unreadable);
        assert_eq!(disk.pass(599, 1, 0), []);
        assert_eq!(disk.pass(1, 1, 0).len(), 1);
        // Without a result, as on a disk that hangs.
        assert_eq!(disk.pass(PROBE_TIMEOUT_MS / SECOND + WINDOW_MS / SECOND - 2, 1, 0), []);
        assert!(disk.is_failing());
    }
}
