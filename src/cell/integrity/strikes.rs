//! Which cells are not to be trusted with copies, by what this cell has seen itself.
//!
//! A strike is a chunk that we fetched from a cell whole, and that did not hash to its name. Three different ones within
//! an hour, and the cell is isolated by us: it gets no new copies, and those it has do not count. That ends by itself,
//! or when the cell reports that it has re-hashed all it has and found it good; such a report helps once, since a liar
//! could repeat it for ever. What others say of a cell changes nothing here.

use std::collections::BTreeMap;

use crate::cell::Settings;
use crate::cell::saved_state::{Isolation, Strike};
use crate::id::CellId;
use crate::id::ChunkId;
use crate::time::Time;

/// Different bad chunks that make a cell bad.
const STRIKES: usize = 3;
/// The most copies in doubt.
const MAX_DOUBTS: usize = 4096;
/// The most cells about which something is remembered.
const MAX_CELLS: usize = 128;

#[derive(Debug, Clone, Copy)]
struct Isolated {
    since: Time,
    until: Time,
}

/// What a bad copy changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cell) enum Struck {
    /// Nothing: it was known, or the cell is isolated already.
    Known,
    /// It is remembered.
    Noted,
    /// The cell is isolated for it.
    Isolated,
}

#[derive(Debug, Default)]
pub(in crate::cell) struct Trust {
    /// When each strike is forgotten.
    strikes: BTreeMap<CellId, BTreeMap<ChunkId, Time>>,
    isolated: BTreeMap<CellId, Isolated>,
    /// Copies of which a cell's word is not enough, and until when: it was bad, or it was not there.
    doubts: BTreeMap<(CellId, ChunkId), Time>,
    /// Cells that were let off early, and until when that is not done again.
    pardoned: BTreeMap<CellId, Time>,
}

impl Trust {
    pub(in crate::cell) fn recall(strikes: &[Strike], isolated: &[Isolation], settings: &Settings) -> Self {
        let mut trust = Self::default();
        for strike in strikes.iter().take(MAX_CELLS * STRIKES) {
            let left_ms = settings.strike_window_ms.saturating_sub(strike.ago_ms);
            trust.strikes.entry(strike.culprit).or_default().insert(strike.chunk, Time(left_ms));
        }
        for Isolation { cell, left_ms } in isolated.iter().take(MAX_CELLS) {
            let until = Time((*left_ms).min(settings.isolation_ms));
            trust.isolated.insert(*cell, Isolated { since: Time::default(), until });
        }
        trust
    }

    pub(in crate::cell) fn strikes(&self, now: Time, settings: &Settings) -> Vec<Strike> {
        let all = self.strikes.iter().flat_map(|(cell, chunks)| chunks.iter().map(move |entry| (*cell, entry)));
        all.map(|(culprit, (chunk, expires))| Strike {
            culprit,
            chunk: *chunk,
            ago_ms: settings.strike_window_ms.saturating_sub(expires.since_ms(now)),
        })
        .collect()
    }

    pub(in crate::cell) fn isolations(&self, now: Time) -> Vec<Isolation> {
        self.isolated.iter().map(|(cell, is)| Isolation { cell: *cell, left_ms: is.until.since_ms(now) }).collect()
    }

    pub(in crate::cell) fn is_isolated(&self, cell: &CellId) -> bool {
        self.isolated.contains_key(cell)
    }

    pub(in crate::cell) fn isolated(&self) -> impl Iterator<Item = CellId> {
        self.isolated.keys().copied()
    }

    /// From now on the cell's word for this copy is not enough. True if that was so already.
    pub(in crate::cell) fn doubt(&mut self, now: Time, cell: CellId, chunk: ChunkId, settings: &Settings) -> bool {
        let is_known = self.doubts.contains_key(&(cell, chunk));
        if is_known || self.doubts.len() < MAX_DOUBTS {
            self.doubts.insert((cell, chunk), now.plus_ms(settings.strike_window_ms));
        }
        is_known
    }

    pub(in crate::cell) fn is_doubted(&self, cell: &CellId, chunk: &ChunkId) -> bool {
        self.doubts.contains_key(&(*cell, *chunk))
    }

    /// The copy has proved to be good.
    pub(in crate::cell) fn believe(&mut self, cell: CellId, chunk: ChunkId) {
        self.doubts.remove(&(cell, chunk));
    }

    /// Notes a bad copy.
    pub(in crate::cell) fn strike(
        &mut self,
        now: Time,
        culprit: CellId,
        chunk: ChunkId,
        settings: &Settings,
    ) -> Struck {
        if self.isolated.contains_key(&culprit) {
            return Struck::Known;
        }
        if !self.strikes.contains_key(&culprit) && self.strikes.len() >= MAX_CELLS {
            return Struck::Known;
        }
        let seen = self.strikes.entry(culprit).or_default();
        seen.retain(|_, expires| *expires > now);
        let is_known = seen.insert(chunk, now.plus_ms(settings.strike_window_ms)).is_some();
        if seen.len() < STRIKES || self.isolated.len() >= MAX_CELLS {
            return if is_known { Struck::Known } else { Struck::Noted };
        }
        self.strikes.remove(&culprit);
        let until = now.plus_ms(settings.isolation_ms);
        self.isolated.insert(culprit, Isolated { since: now, until });
        Struck::Isolated
    }

    /// A cell reports that all of its copies were good so many seconds ago. True if it is isolated no more.
    pub(in crate::cell) fn reports_clean(
        &mut self,
        now: Time,
        cell: CellId,
        clean_s: u64,
        settings: &Settings,
    ) -> bool {
        let Some(isolated) = self.isolated.get(&cell) else { return false };
        // Whole seconds: the scrub must have ended a second after it was isolated.
        let after = clean_s.saturating_add(1).saturating_mul(1000) < now.since_ms(isolated.since);
        if !after || self.pardoned.contains_key(&cell) {
            return false;
        }
        self.isolated.remove(&cell);
        self.pardoned.insert(cell, now.plus_ms(settings.isolation_ms));
        true
    }

    /// Forgets what is over. Gives the cells that are isolated no more.
    pub(in crate::cell) fn age(&mut self, now: Time) -> Vec<CellId> {
        self.strikes.retain(|_, chunks| {
            chunks.retain(|_, expires| *expires > now);
            !chunks.is_empty()
        });
        self.pardoned.retain(|_, until| *until > now);
        self.doubts.retain(|_, until| *until > now);
        let over: Vec<CellId> =
            self.isolated.iter().filter(|(_, isolated)| isolated.until <= now).map(|(cell, _)| *cell).collect();
        for cell in &over {
            self.isolated.remove(cell);
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn cell(n: u8) -> CellId {
        CellId::from_bytes([n; 16])
    }

    fn strike(trust: &mut Trust, at: u64, chunk: u8) -> bool {
        trust.strike(Time(at), cell(1), ChunkId::of(&[chunk]), &Settings::default()) == Struck::Isolated
    }

    #[test]
    fn three_different_chunks_within_an_hour_isolate_and_fewer_do_not() {
        let mut trust = Trust::default();
        assert!(!strike(&mut trust, 0, 1));
        for at in 1..50 {
            assert!(!strike(&mut trust, at, 1), "the same chunk counts once");
        }
        assert!(!strike(&mut trust, 60, 2));
        assert!(!strike(&mut trust, HOUR + 60, 3), "the first two are forgotten by now");
        assert!(!strike(&mut trust, HOUR + 61, 4));
        assert!(!trust.is_isolated(&cell(1)));
        assert!(strike(&mut trust, HOUR + 62, 5));
        assert!(trust.is_isolated(&cell(1)) && !trust.is_isolated(&cell(2)));
        assert_eq!(trust.age(Time(25 * HOUR)), []);
        assert_eq!(trust.age(Time(25 * HOUR + 62)), [cell(1)]);
    }

    #[test]
    fn a_clean_scrub_after_the_isolation_ends_it_once() {
        let settings = Settings::default();
        let mut trust = Trust::default();
        (0..3).for_each(|n| _ = strike(&mut trust, 100_000, n));
        assert!(!trust.reports_clean(Time(130_000), cell(1), 31, &settings), "that scrub was before");
        assert!(trust.reports_clean(Time(130_000), cell(1), 20, &settings));
        (0..3).for_each(|n| _ = strike(&mut trust, 200_000, n));
        assert!(trust.is_isolated(&cell(1)));
        assert!(!trust.reports_clean(Time(900_000), cell(1), 1, &settings), "it said so before, and was bad again");
    }

    #[test]
    fn a_restart_forgets_neither_strikes_nor_isolation() {
        let settings = Settings::default();
        let mut trust = Trust::default();
        strike(&mut trust, 1_000, 1);
        strike(&mut trust, 2_000, 2);
        for n in 0..3 {
            trust.strike(Time(3_000), cell(9), ChunkId::of(&[n]), &settings);
        }
        let (strikes, isolated) = (trust.strikes(Time(10_000), &settings), trust.isolations(Time(10_000)));
        let mut again = Trust::recall(&strikes, &isolated, &settings);
        assert!(again.is_isolated(&cell(9)));
        assert_eq!(again.isolations(Time(0)), isolated);
        assert_eq!(again.strikes(Time(0), &settings), strikes);
        assert_eq!(again.strike(Time(5), cell(1), ChunkId::of(&[1]), &settings), Struck::Known);
        assert_eq!(again.strike(Time(5), cell(1), ChunkId::of(&[3]), &settings), Struck::Isolated);
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let mut trust = Trust::default();
        let settings = Settings::default();
        for n in 0..10_000_u32 {
            let mut name = [0; 16];
            name[..4].copy_from_slice(&n.to_le_bytes());
            trust.strike(Time(1), CellId::from_bytes(name), ChunkId::of(b"x"), &settings);
        }
        assert_eq!(trust.strikes(Time(1), &settings).len(), MAX_CELLS);
    }
}
