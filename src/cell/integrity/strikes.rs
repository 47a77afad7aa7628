//! Strikes and isolation: which cells are not trusted with copies, by what this cell has fetched itself.
//!
//! A strike is a chunk that was fetched completely from a cell and did not hash to its id. After strikes for three
//! different chunks within an hour (`strike_window_ms`) this cell isolates the other one: it is sent no copies, and its
//! copies do not count. Isolation ends after `isolation_ms`, or when the cell reports that a full scrub after the start
//! of its isolation found all its copies good. Such a report counts once per `isolation_ms`, because a lying cell could
//! repeat it. Reports about other cells change nothing here.

use std::collections::BTreeMap;

use crate::cell::saved_state::{Isolation, Strike};
use crate::cell::settings::Settings;
use crate::id::{CellId, ChunkId};
use crate::time::Time;

/// Strikes for this many different chunks isolate a cell.
const MAX_STRIKES: usize = 3;
/// Maximum number of doubted copies.
const MAX_DOUBTS: usize = 4096;
/// Maximum number of cells with strikes, and of isolated cells.
const MAX_CELLS: usize = 128;

#[derive(Debug, Clone, Copy)]
struct IsolatedSince {
    since: Time,
    until: Time,
}

/// What a strike has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cell) enum StrikeEffect {
    /// Nothing: it was recorded before, the cell is isolated already, or the table is full.
    None,
    /// It is recorded.
    Recorded,
    /// The cell is isolated because of it.
    Isolated,
}

#[derive(Debug, Default)]
pub(in crate::cell) struct Strikes {
    /// When each strike expires.
    recorded: BTreeMap<CellId, BTreeMap<ChunkId, Time>>,
    isolated: BTreeMap<CellId, IsolatedSince>,
    /// Copies that do not count on the cell's word alone, because they were bad or missing before, and until when.
    doubts: BTreeMap<(CellId, ChunkId), Time>,
    /// Cells whose isolation ended early, and until when that cannot happen again.
    released: BTreeMap<CellId, Time>,
}

impl Strikes {
    /// From the saved state.
    pub(in crate::cell) fn new(strikes: &[Strike], isolated: &[Isolation], settings: &Settings) -> Self {
        let mut new = Self::default();
        for strike in strikes.iter().take(MAX_CELLS * MAX_STRIKES) {
            let left_ms = settings.strike_window_ms.saturating_sub(strike.ago_ms);
            new.recorded.entry(strike.culprit).or_default().insert(strike.chunk, Time(left_ms));
        }
        for Isolation { cell, left_ms } in isolated.iter().take(MAX_CELLS) {
            let until = Time((*left_ms).min(settings.isolation_ms));
            new.isolated.insert(*cell, IsolatedSince { since: Time::default(), until });
        }
        new
    }

    /// For the saved state.
    pub(in crate::cell) fn saved_strikes(&self, now: Time, settings: &Settings) -> Vec<Strike> {
        let all = self.recorded.iter().flat_map(|(cell, chunks)| chunks.iter().map(move |entry| (*cell, entry)));
        all.map(|(culprit, (chunk, expires))| Strike {
            culprit,
            chunk: *chunk,
            ago_ms: settings.strike_window_ms.saturating_sub(expires.since_ms(now)),
        })
        .collect()
    }

    /// For the saved state.
    pub(in crate::cell) fn saved_isolations(&self, now: Time) -> Vec<Isolation> {
        let saved = |(cell, isolated): (&CellId, &IsolatedSince)| Isolation {
            cell: *cell,
            left_ms: isolated.until.since_ms(now),
        };
        self.isolated.iter().map(saved).collect()
    }

    pub(in crate::cell) fn is_isolated(&self, cell: &CellId) -> bool {
        self.isolated.contains_key(cell)
    }

    pub(in crate::cell) fn isolated(&self) -> impl Iterator<Item = CellId> {
        self.isolated.keys().copied()
    }

    /// The copy does not count on the cell's word alone from now on. True if that was so before.
    pub(in crate::cell) fn doubt(&mut self, now: Time, cell: CellId, chunk: ChunkId, settings: &Settings) -> bool {
        let was_doubted = self.doubts.contains_key(&(cell, chunk));
        if was_doubted || self.doubts.len() < MAX_DOUBTS {
            self.doubts.insert((cell, chunk), now.plus_ms(settings.strike_window_ms));
        }
        was_doubted
    }

    pub(in crate::cell) fn is_doubted(&self, cell: &CellId, chunk: &ChunkId) -> bool {
        self.doubts.contains_key(&(*cell, *chunk))
    }

    /// An audit found the copy good.
    pub(in crate::cell) fn clear_doubt(&mut self, cell: CellId, chunk: ChunkId) {
        self.doubts.remove(&(cell, chunk));
    }

    /// Records a bad copy.
    pub(in crate::cell) fn record(
        &mut self,
        now: Time,
        culprit: CellId,
        chunk: ChunkId,
        settings: &Settings,
    ) -> StrikeEffect {
        if self.isolated.contains_key(&culprit) {
            return StrikeEffect::None;
        }
        if !self.recorded.contains_key(&culprit) && self.recorded.len() >= MAX_CELLS {
            return StrikeEffect::None;
        }
        let strikes = self.recorded.entry(culprit).or_default();
        strikes.retain(|_, expires| *expires > now);
        let was_recorded = strikes.insert(chunk, now.plus_ms(settings.strike_window_ms)).is_some();
        if strikes.len() < MAX_STRIKES || self.isolated.len() >= MAX_CELLS {
            return if was_recorded { StrikeEffect::None } else { StrikeEffect::Recorded };
        }
        self.recorded.remove(&culprit);
        let until = now.plus_ms(settings.isolation_ms);
        self.isolated.insert(culprit, IsolatedSince { since: now, until });
        StrikeEffect::Isolated
    }

    /// A cell reports that a full scrub found all its copies good `clean_s` seconds ago. True if that ends its
    /// isolation.
    pub(in crate::cell) fn clean_reported(
        &mut self,
        now: Time,
        cell: CellId,
        clean_s: u64,
        settings: &Settings,
    ) -> bool {
        let Some(isolated) = self.isolated.get(&cell) else { return false };
        // The report is in whole seconds, so the scrub must have ended a second after the isolation started.
        let is_after = clean_s.saturating_add(1).saturating_mul(1000) < now.since_ms(isolated.since);
        if !is_after || self.released.contains_key(&cell) {
            return false;
        }
        self.isolated.remove(&cell);
        self.released.insert(cell, now.plus_ms(settings.isolation_ms));
        true
    }

    /// Forgets what has expired. Returns the cells whose isolation ends.
    pub(in crate::cell) fn expire(&mut self, now: Time) -> Vec<CellId> {
        self.recorded.retain(|_, chunks| {
            chunks.retain(|_, expires| *expires > now);
            !chunks.is_empty()
        });
        self.released.retain(|_, until| *until > now);
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

    fn strike(strikes: &mut Strikes, at: u64, chunk: u8) -> bool {
        strikes.record(Time(at), cell(1), ChunkId::of(&[chunk]), &Settings::default()) == StrikeEffect::Isolated
    }

    #[test]
    fn three_bad_chunks_within_an_hour_isolate() {
        let mut strikes = Strikes::default();
        assert!(!strike(&mut strikes, 0, 1));
        for at in 1..50 {
            assert!(!strike(&mut strikes, at, 1), "the same chunk counts once");
        }
        assert!(!strike(&mut strikes, 60, 2));
        assert!(!strike(&mut strikes, HOUR + 60, 3), "the first two have expired");
        assert!(!strike(&mut strikes, HOUR + 61, 4));
        assert!(!strikes.is_isolated(&cell(1)));
        assert!(strike(&mut strikes, HOUR + 62, 5));
        assert!(strikes.is_isolated(&cell(1)) && !strikes.is_isolated(&cell(2)));
        assert_eq!(strikes.expire(Time(25 * HOUR)), []);
        assert_eq!(strikes.expire(Time(25 * HOUR + 62)), [cell(1)]);
    }

    #[test]
    fn a_clean_scrub_after_the_isolation_ends_it_once() {
        let settings = Settings::default();
        let mut strikes = Strikes::default();
        (0..3).for_each(|n| _ = strike(&mut strikes, 100_000, n));
        assert!(!strikes.clean_reported(Time(130_000), cell(1), 31, &settings), "that scrub was before");
        assert!(strikes.clean_reported(Time(130_000), cell(1), 20, &settings));
        (0..3).for_each(|n| _ = strike(&mut strikes, 200_000, n));
        assert!(strikes.is_isolated(&cell(1)));
        assert!(!strikes.clean_reported(Time(900_000), cell(1), 1, &settings), "the first report was wrong");
    }

    #[test]
    fn strikes_and_isolation_survive_a_restart() {
        let settings = Settings::default();
        let mut strikes = Strikes::default();
        strike(&mut strikes, 1_000, 1);
        strike(&mut strikes, 2_000, 2);
        for n in 0..3 {
            strikes.record(Time(3_000), cell(9), ChunkId::of(&[n]), &settings);
        }
        let saved = strikes.saved_strikes(Time(10_000), &settings);
        let isolated = strikes.saved_isolations(Time(10_000));
        let mut restarted = Strikes::new(&saved, &isolated, &settings);
        assert!(restarted.is_isolated(&cell(9)));
        assert_eq!(restarted.saved_isolations(Time(0)), isolated);
        assert_eq!(restarted.saved_strikes(Time(0), &settings), saved);
        assert_eq!(restarted.record(Time(5), cell(1), ChunkId::of(&[1]), &settings), StrikeEffect::None);
        assert_eq!(restarted.record(Time(5), cell(1), ChunkId::of(&[3]), &settings), StrikeEffect::Isolated);
    }

    #[test]
    fn the_number_of_strikes_is_bounded() {
        let mut strikes = Strikes::default();
        let settings = Settings::default();
        for n in 0..10_000_u32 {
            let mut name = [0; 16];
            name[..4].copy_from_slice(&n.to_le_bytes());
            strikes.record(Time(1), CellId::from_bytes(name), ChunkId::of(b"x"), &settings);
        }
        assert_eq!(strikes.saved_strikes(Time(1), &settings).len(), MAX_CELLS);
    }
}
