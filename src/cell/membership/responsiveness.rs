//! Which cells answer queries.
//!
//! A cell may send beacons and answer nothing: its SD card hangs while the process runs, or another device has its
//! address by now. Such a cell is unresponsive, and its copies do not count until it answers again. A slow one is not: an
//! hour is long enough for a card that is busy, and all that the cell holds would be copied elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use crate::cell::membership::MAX_MEMBERS;
use crate::id::CellId;
use crate::time::Time;

/// A cell is unresponsive if it fails to answer this many queries in a row,
const MIN_UNANSWERED: u32 = 3;
/// over at least this time, in milliseconds, while other cells answered as many.
const MIN_SILENCE_MS: u64 = 3_600_000;

/// Queries in a row that a cell has not answered.
#[derive(Debug)]
struct Silence {
    queries: u32,
    since: Time,
    /// [`Responsiveness::answers`] at its start.
    answers: u64,
}

#[derive(Debug, Default)]
pub(in crate::cell) struct Responsiveness {
    /// Queries that all cells together have answered.
    answers: u64,
    silences: BTreeMap<CellId, Silence>,
    unresponsive: BTreeSet<CellId>,
    /// Cells that have answered a query.
    answered: BTreeSet<CellId>,
}

impl Responsiveness {
    pub(in crate::cell) fn is_unresponsive(&self, cell: &CellId) -> bool {
        self.unresponsive.contains(cell)
    }

    /// Did the cell answer the last query?
    pub(in crate::cell) fn answered_last(&self, cell: &CellId) -> bool {
        self.answered.contains(cell) && !self.silences.contains_key(cell)
    }

    /// Records whether a cell has answered a query. True if it is unresponsive from now on, or no longer.
    pub(in crate::cell) fn record(&mut self, now: Time, cell: CellId, answered: bool) -> bool {
        if answered {
            self.answers += 1;
            if self.answered.len() < MAX_MEMBERS {
                self.answered.insert(cell);
            }
            self.silences.remove(&cell);
            return self.unresponsive.remove(&cell);
        }
        let answers = self.answers;
        let silence = self.silences.entry(cell).or_insert(Silence { queries: 0, since: now, answers });
        silence.queries += 1;
        // If no cell answers, this cell's own network is at fault.
        let by_others = answers - silence.answers;
        let is_unresponsive = silence.queries >= MIN_UNANSWERED
            && now.since_ms(silence.since) >= MIN_SILENCE_MS
            && by_others >= u64::from(MIN_UNANSWERED);
        is_unresponsive && self.unresponsive.len() < MAX_MEMBERS && self.unresponsive.insert(cell)
    }

    /// Forgets cells that are no members. Does nothing while there are no more records than `members`.
    pub(in crate::cell) fn forget(&mut self, members: usize, is_member: impl Fn(&CellId) -> bool) {
        if self.silences.len().max(self.unresponsive.len()).max(self.answered.len()) <= members {
            return;
        }
        self.silences.retain(|cell, _| is_member(cell));
        self.unresponsive.retain(&is_member);
        self.answered.retain(&is_member);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(n: u8) -> CellId {
        CellId::from_bytes([n; 16])
    }

    #[test]
    fn a_cell_that_alone_fails_to_answer_becomes_unresponsive() {
        let mut cells = Responsiveness::default();
        for minute in 0..60 {
            assert!(!cells.record(Time(minute * 60_000), cell(1), false), "{minute}");
            cells.record(Time(minute * 60_000), cell(2), true);
        }
        assert!(cells.record(Time(3_600_000), cell(1), false));
        assert!(cells.is_unresponsive(&cell(1)) && !cells.is_unresponsive(&cell(2)));
        assert!(cells.record(Time(3_610_000), cell(1), true));
        assert!(!cells.is_unresponsive(&cell(1)));
    }

    #[test]
    fn if_no_cell_answers_none_becomes_unresponsive() {
        let mut cells = Responsiveness::default();
        for minute in 0..600 {
            assert!(!cells.record(Time(minute * 60_000), cell(1), false));
            assert!(!cells.record(Time(minute * 60_000), cell(2), false));
        }
    }
}
