//! What is to become of a record: what puts, scrubs and healing leave for the keeper.
//!
//! Changes of the same chunk that wait together become one, which does what they would have done one after the other:
//!
//! ```text
//!                 then Put     then Amend            then Remove
//!  Put            the later    Put, amended          Remove
//!  Amend          Put          Amend, both           Remove
//!  Remove         Put          Put if it can fill,   Remove
//!                              or else Remove
//! ```
//!
//! Pure: no clock, disk or thread.

use crate::id::CellId;
use crate::store::Record;
use crate::store::files::record::Known;

/// What is to become of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// A new chunk: this is its record.
    Put(Known),
    /// A chunk that was here: more is known of it.
    Amend(Amendment),
    /// The chunk is gone.
    Remove,
}

/// What is added to a record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Amendment {
    /// The chunk's record, if what is known is no more than its file told.
    fill: Option<Known>,
    /// The cells believed to have a copy now.
    holders: Option<Vec<CellId>>,
    /// When the copy was re-hashed.
    scrubbed_at_s: Option<u64>,
}

impl Change {
    pub(super) fn put(record: Record) -> Self {
        Self::Put(record.into())
    }

    pub(super) fn fill(record: Record) -> Self {
        Self::Amend(Amendment { fill: Some(record.into()), ..Amendment::default() })
    }

    pub(super) fn holders(holders: Vec<CellId>) -> Self {
        Self::Amend(Amendment { holders: Some(holders), ..Amendment::default() })
    }

    pub(super) fn scrubbed(at_s: u64) -> Self {
        Self::Amend(Amendment { scrubbed_at_s: Some(at_s), ..Amendment::default() })
    }

    /// Can it be forgotten, since looking at the chunk's file would not bring it back either?
    pub(super) fn is_hint(&self) -> bool {
        matches!(self, Self::Amend(Amendment { fill: None, .. }))
    }

    /// Does it only tell when the copy was re-hashed?
    pub(super) fn is_scrub(&self) -> bool {
        matches!(self, Self::Amend(Amendment { fill: None, holders: None, .. }))
    }

    /// The one change that does what this one and then `next` do.
    pub(super) fn then(self, next: Self) -> Self {
        match (self, next) {
            (Self::Put(known), Self::Amend(next)) => Self::Put(next.to(known)),
            (Self::Amend(first), Self::Amend(next)) => Self::Amend(first.then(next)),
            (Self::Remove, Self::Amend(next)) => match next.fill.clone() {
                Some(known) => Self::Put(next.to(known)),
                // Of the copy that is gone.
                None => Self::Remove,
            },
            (_, next @ (Self::Put(_) | Self::Remove)) => next,
        }
    }

    /// What is known after it. `found` tells what the chunk's file tells, if there is such a file.
    pub(super) fn after(&self, known: Option<Known>, found: impl FnOnce() -> Option<Record>) -> Option<Known> {
        match self {
            Self::Put(known) => Some(known.clone()),
            Self::Amend(amendment) => {
                let known = known.or_else(|| amendment.fill.clone()).or_else(|| found().map(Known::from));
                known.map(|known| amendment.to(known))
            }
            Self::Remove => None,
        }
    }
}

impl Amendment {
    fn then(self, next: Self) -> Self {
        let fill = match (self.fill, next.fill) {
            (Some(first), Some(next)) => Some(fill(first, &next)),
            (first, next) => first.or(next),
        };
        let (holders, scrubbed_at_s) = (next.holders.or(self.holders), next.scrubbed_at_s.or(self.scrubbed_at_s));
        Self { fill, holders, scrubbed_at_s }
    }

    fn to(&self, known: Known) -> Known {
        let mut known = match &self.fill {
            Some(more) => fill(known, more),
            None => known,
        };
        if let Some(holders) = &self.holders {
            known.record.metadata.holders.clone_from(holders);
        }
        if let Some(at_s) = self.scrubbed_at_s {
            known.record.scrubbed_at_s = at_s;
        }
        known
    }
}

/// The first put that tells anything has its word taken; what this cell itself found out stays.
fn fill(known: Known, more: &Known) -> Known {
    if !known.bare || more.bare {
        return known;
    }
    let mut filled = more.clone();
    filled.record.scrubbed_at_s = known.record.scrubbed_at_s;
    if !known.record.metadata.holders.is_empty() {
        filled.record.metadata.holders = known.record.metadata.holders;
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{DEFAULT_COPIES, PutMetadata};

    fn cell(n: u8) -> CellId {
        CellId::from_bytes([n; 16])
    }

    fn record(holders: &[u8], owner: Option<u8>) -> Record {
        let holders = holders.iter().map(|n| cell(*n)).collect();
        let metadata = PutMetadata { copies: 3, holders, owner: owner.map(|n| [n; 32]), stored_at_s: 7 };
        Record { len: 100, metadata, scrubbed_at_s: 0 }
    }

    fn found() -> Record {
        let metadata = PutMetadata { copies: DEFAULT_COPIES, holders: Vec::new(), owner: None, stored_at_s: 1 };
        Record { len: 100, metadata, scrubbed_at_s: 0 }
    }

    fn some_of_each() -> Vec<Change> {
        vec![
            Change::put(record(&[1, 2], Some(1))),
            Change::put(record(&[], None)),
            Change::fill(record(&[3], Some(2))),
            Change::fill(record(&[4], None)),
            Change::fill(record(&[], None)),
            Change::holders(vec![cell(5)]),
            Change::scrubbed(1000),
            Change::Remove,
        ]
    }

    /// Whatever is known, with and without a file, two changes and the one they become lead to the same.
    #[test]
    fn waiting_changes_become_one_that_does_the_same() {
        let known = [None, Some(found().into()), Some(record(&[6], None).into()), Some(record(&[], Some(6)).into())];
        for first in some_of_each() {
            for second in some_of_each() {
                for third in some_of_each() {
                    for known in known.clone() {
                        // A chunk that was taken away has no file, until a put brings one.
                        let file = || Some(found()).filter(|_| first != Change::Remove && second != Change::Remove);
                        let before = known.clone().or_else(|| Some(found().into()));
                        let after_each = third.after(second.after(first.after(before.clone(), file), file), file);
                        let one = first.clone().then(second.clone()).then(third.clone());
                        assert_eq!(one.after(before, file), after_each, "{first:?} {second:?} {third:?} {known:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_the_cell_found_out_does_not_keep_a_put_from_telling_the_rest() {
        let hint = Change::holders(vec![cell(8)]).then(Change::scrubbed(9));
        let known = hint.after(None, || Some(found())).unwrap();
        let told = Change::fill(record(&[1, 2], Some(1))).after(Some(known), || None).unwrap();
        let mut expected = record(&[8], Some(1));
        expected.scrubbed_at_s = 9;
        assert_eq!(told, Known { record: expected, bare: false });
        // The first word holds from then on.
        let again = Change::fill(record(&[3], Some(2))).after(Some(told.clone()), || None);
        assert_eq!(again, Some(told));
    }

    #[test]
    fn a_hint_makes_no_record_of_a_chunk_that_is_gone() {
        for hint in [Change::holders(vec![cell(1)]), Change::scrubbed(1)] {
            assert_eq!(Change::Remove.then(hint.clone()), Change::Remove);
            assert_eq!(hint.after(None, || None), None);
        }
    }
}
