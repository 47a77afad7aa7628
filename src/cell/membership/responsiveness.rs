//! Who answers questions. A cell may beacon and answer nothing: its card hangs while the process lives, or its address
//! belongs to a printer by now. Such a cell is mute, and its copies do not count until it answers again.

use std::collections::{BTreeMap, BTreeSet};

use crate::cell::MAX_MEMBERS;
use crate::id::CellId;
use crate::time::Time;

/// A cell that answers none of so many questions in a row, over so long a time in milliseconds, while others answered as
/// many, is mute.
const MUTE_AFTER: u32 = 3;
const MUTE_AFTER_MS: u64 = 300_000;
/// Questions in a row that a cell has not answered.
#[derive(Debug)]
struct Silence {
    questions: u32,
    since: Time,
    /// What all cells together had answered then.
    answers: u64,
}

#[derive(Debug, Default)]
pub(in crate::cell) struct Voices {
    /// Questions answered, by all cells together.
    answers: u64,
    silences: BTreeMap<CellId, Silence>,
    mute: BTreeSet<CellId>,
    /// Cells that have answered.
    known: BTreeSet<CellId>,
}

impl Voices {
    pub(in crate::cell) fn is_mute(&self, cell: &CellId) -> bool {
        self.mute.contains(cell)
    }

    /// Did the cell answer the last question?
    pub(in crate::cell) fn is_known(&self, cell: &CellId) -> bool {
        self.known.contains(cell) && !self.silences.contains_key(cell)
    }

    /// Notes whether a cell answered. True if it has fallen mute by it, or is mute no more.
    pub(in crate::cell) fn heard_from(&mut self, now: Time, cell: CellId, answered: bool) -> bool {
        if answered {
            self.answers += 1;
            if self.known.len() < MAX_MEMBERS {
                self.known.insert(cell);
            }
            self.silences.remove(&cell);
            return self.mute.remove(&cell);
        }
        let answers = self.answers;
        let silence = self.silences.entry(cell).or_insert(Silence { questions: 0, since: now, answers });
        silence.questions += 1;
        // Where nobody answers it is our own network that is to blame.
        let others = answers - silence.answers;
        let mute = silence.questions >= MUTE_AFTER
            && now.since_ms(silence.since) >= MUTE_AFTER_MS
            && others >= u64::from(MUTE_AFTER);
        mute && self.mute.len() < MAX_MEMBERS && self.mute.insert(cell)
    }

    /// Cells that are no members any more are forgotten, at the latest when there are more names than `members`.
    pub(in crate::cell) fn forget(&mut self, members: usize, is_member: impl Fn(&CellId) -> bool) {
        if self.silences.len().max(self.mute.len()).max(self.known.len()) <= members {
            return;
        }
        self.silences.retain(|cell, _| is_member(cell));
        self.mute.retain(&is_member);
        self.known.retain(&is_member);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(n: u8) -> CellId {
        CellId::from_bytes([n; 16])
    }

    #[test]
    fn a_cell_that_answers_nothing_while_others_do_falls_mute_until_it_answers() {
        let mut voices = Voices::default();
        for minute in 0..5 {
            assert!(!voices.heard_from(Time(minute * 60_000), cell(1), false), "{minute}");
            voices.heard_from(Time(minute * 60_000), cell(2), true);
        }
        assert!(voices.heard_from(Time(300_000), cell(1), false));
        assert!(voices.is_mute(&cell(1)) && !voices.is_mute(&cell(2)));
        assert!(voices.heard_from(Time(310_000), cell(1), true));
        assert!(!voices.is_mute(&cell(1)));
    }

    #[test]
    fn where_nobody_answers_nobody_is_mute() {
        let mut voices = Voices::default();
        for minute in 0..600 {
            assert!(!voices.heard_from(Time(minute * 60_000), cell(1), false));
            assert!(!voices.heard_from(Time(minute * 60_000), cell(2), false));
        }
    }
}
