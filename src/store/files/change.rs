//! Changes to records: what puts, scrubs and healing queue for the catalogue writer.
//!
//! Queued changes of one chunk merge into a single change that has the effect of both, one after the other:
//!
//! ```text
//!  first │ then Put     then Amend                then Remove
//! ───────┼──────────────────────────────────────────────────────
//!  Put   │ later Put    Put, amended              Remove
//!  Amend │ Put          Amend with both           Remove
//!  Remove│ Put          Put if it has a `fill`,   Remove
//!        │              else Remove
//! ```
//!
//! Pure: no clock, disk or thread.

use crate::id::CellId;
use crate::store::contract::Record;
use crate::store::files::record::CatalogueEntry;

/// A change to one chunk's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// The chunk is new and this is its record.
    Put(CatalogueEntry),
    /// The chunk was stored before.
    Amend(Amendment),
    /// The chunk is no longer stored.
    Remove,
}

/// What an amendment changes in a record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Amendment {
    /// Replaces a missing record, the metadata of an open one, and the copies of a bare one.
    fill: Option<CatalogueEntry>,
    holders: Option<Vec<CellId>>,
    /// Replaces a guess.
    copies: Option<u8>,
    scrubbed_at_s: Option<u64>,
}

impl Change {
    /// A put stored the chunk.
    pub(super) fn put(record: Record) -> Self {
        Self::Put(record.into())
    }

    /// A put, or a scan of the files, found the chunk already stored.
    pub(super) fn fill(mut record: Record) -> Self {
        if record.metadata.bare {
            // Otherwise they would stay when a put determines the metadata, as if this cell had found them out.
            record.metadata.holders.clear();
        }
        Self::Amend(Amendment { fill: Some(record.into()), ..Amendment::default() })
    }

    pub(super) fn holders(holders: Vec<CellId>) -> Self {
        Self::Amend(Amendment { holders: Some(holders), ..Amendment::default() })
    }

    pub(super) fn copies(copies: u8) -> Self {
        Self::Amend(Amendment { copies: Some(copies), ..Amendment::default() })
    }

    pub(super) fn scrubbed(at_s: u64) -> Self {
        Self::Amend(Amendment { scrubbed_at_s: Some(at_s), ..Amendment::default() })
    }

    /// Whether the change may be lost: a scan of the chunk's file would not restore it either.
    pub(super) fn is_hint(&self) -> bool {
        matches!(self, Self::Amend(Amendment { fill: None, .. }))
    }

    /// Whether the change only records the time of a verification.
    pub(super) fn is_scrub(&self) -> bool {
        matches!(self, Self::Amend(Amendment { fill: None, holders: None, copies: None, .. }))
    }

    /// Merges this change and the `next` one.
    pub(super) fn then(self, next: Self) -> Self {
        match (self, next) {
            (Self::Put(entry), Self::Amend(next)) => Self::Put(next.apply(entry)),
            (Self::Amend(first), Self::Amend(next)) => Self::Amend(first.then(next)),
            (Self::Remove, Self::Amend(next)) => match next.fill.clone() {
                Some(entry) => Self::Put(next.apply(entry)),
                // The amendment is about the removed copy.
                None => Self::Remove,
            },
            (_, next @ (Self::Put(_) | Self::Remove)) => next,
        }
    }

    /// Applies the change to the catalogue's `entry`. `from_file` makes a record of the chunk's file, if that exists.
    pub(super) fn apply(
        &self,
        entry: Option<CatalogueEntry>,
        from_file: impl FnOnce() -> Option<Record>,
    ) -> Option<CatalogueEntry> {
        match self {
            Self::Put(entry) => Some(entry.clone()),
            Self::Amend(amendment) => {
                let entry = entry.or_else(|| amendment.fill.clone()).or_else(|| from_file().map(CatalogueEntry::from));
                entry.map(|entry| amendment.apply(entry))
            }
            Self::Remove => None,
        }
    }
}

impl Amendment {
    fn then(self, next: Self) -> Self {
        let mut more = next.fill;
        if let (Some(copies), Some(more)) = (self.copies, &mut more)
            && more.open
        {
            // When the fill comes, the copies are no longer a guess.
            set_copies(more, copies);
        }
        let fill = match (self.fill, more) {
            (Some(first), Some(next)) => Some(fill(first, &next)),
            (first, next) => first.or(next),
        };
        let (holders, scrubbed_at_s) = (next.holders.or(self.holders), next.scrubbed_at_s.or(self.scrubbed_at_s));
        Self { fill, holders, copies: self.copies.or(next.copies), scrubbed_at_s }
    }

    fn apply(&self, entry: CatalogueEntry) -> CatalogueEntry {
        let mut entry = match &self.fill {
            Some(more) => fill(entry, more),
            None => entry,
        };
        if let Some(copies) = self.copies.filter(|_| entry.record.metadata.bare) {
            set_copies(&mut entry, copies);
        }
        if let Some(holders) = &self.holders {
            entry.record.metadata.holders.clone_from(holders);
        }
        if let Some(at_s) = self.scrubbed_at_s {
            entry.record.scrubbed_at_s = at_s;
        }
        entry
    }
}

fn set_copies(entry: &mut CatalogueEntry, copies: u8) {
    (entry.record.metadata.copies, entry.record.metadata.bare) = (copies, false);
}

/// The first put with metadata determines it. Holders and verification times that the cell found out itself stay.
fn fill(mut entry: CatalogueEntry, more: &CatalogueEntry) -> CatalogueEntry {
    if !entry.open || more.open {
        if entry.record.metadata.bare && !more.record.metadata.bare {
            set_copies(&mut entry, more.record.metadata.copies);
        }
        return entry;
    }
    let mut filled = more.clone();
    filled.record.scrubbed_at_s = entry.record.scrubbed_at_s;
    if !entry.record.metadata.holders.is_empty() {
        filled.record.metadata.holders = entry.record.metadata.holders;
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::DEFAULT_COPIES;
    use crate::store::contract::PutMetadata;

    fn cell(n: u8) -> CellId {
        CellId::from_bytes([n; 16])
    }

    fn record(holders: &[u8], owner: Option<u8>) -> Record {
        let holders = holders.iter().map(|n| cell(*n)).collect();
        let metadata = PutMetadata { copies: 3, bare: false, holders, owner: owner.map(|n| [n; 32]), stored_at_s: 7 };
        Record { len: 100, metadata, scrubbed_at_s: 0 }
    }

    fn from_file() -> Record {
        let (copies, bare) = (DEFAULT_COPIES, true);
        let metadata = PutMetadata { copies, bare, holders: Vec::new(), owner: None, stored_at_s: 1 };
        Record { len: 100, metadata, scrubbed_at_s: 0 }
    }

    /// A put by a cell that does not know the copies itself, with these holders.
    fn bare_put(holders: &[u8]) -> Record {
        let metadata = PutMetadata { copies: DEFAULT_COPIES, bare: true, ..record(holders, None).metadata };
        Record { metadata, ..record(holders, None) }
    }

    fn changes_of_every_kind() -> Vec<Change> {
        vec![
            Change::put(record(&[1, 2], Some(1))),
            Change::put(record(&[], None)),
            Change::fill(record(&[3], Some(2))),
            Change::fill(record(&[4], None)),
            Change::fill(record(&[], None)),
            Change::put(bare_put(&[1])),
            Change::fill(bare_put(&[7])),
            Change::copies(9),
            Change::copies(10),
            Change::holders(vec![cell(5)]),
            Change::scrubbed(1000),
            Change::Remove,
        ]
    }

    /// Goal: merging loses nothing. Method: all sequences of three changes, on every kind of entry, with and without a
    /// file; the merged change must have the same result as the three.
    #[test]
    fn merged_changes_have_the_same_effect_as_separate_ones() {
        let entries = [
            None,
            Some(from_file().into()),
            Some(record(&[6], None).into()),
            Some(record(&[], Some(6)).into()),
            Some(record(&[], None).into()),
        ];
        for first in changes_of_every_kind() {
            for second in changes_of_every_kind() {
                for third in changes_of_every_kind() {
                    for entry in entries.clone() {
                        // A removed chunk has no file until a put brings one.
                        let file = || Some(from_file()).filter(|_| first != Change::Remove && second != Change::Remove);
                        let before = entry.clone().or_else(|| Some(from_file().into()));
                        let separate = third.apply(second.apply(first.apply(before.clone(), file), file), file);
                        let merged = first.clone().then(second.clone()).then(third.clone());
                        assert_eq!(merged.apply(before, file), separate, "{first:?} {second:?} {third:?} {entry:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn hints_before_the_first_put_do_not_block_its_metadata() {
        let hint = Change::holders(vec![cell(8)]).then(Change::scrubbed(9));
        let entry = hint.apply(None, || Some(from_file())).unwrap();
        let filled = Change::fill(record(&[1, 2], Some(1))).apply(Some(entry), || None).unwrap();
        let mut expected = record(&[8], Some(1));
        expected.scrubbed_at_s = 9;
        assert_eq!(filled, CatalogueEntry { record: expected, open: false });
        // From then on the metadata is fixed.
        let again = Change::fill(record(&[3], Some(2))).apply(Some(filled.clone()), || None);
        assert_eq!(again, Some(filled));
    }

    #[test]
    fn copies_are_set_once_and_only_instead_of_a_guess() {
        let copies = |change: Change, entry: Record| {
            let entry = change.apply(Some(entry.into()), || None).unwrap();
            (entry.record.metadata.copies, entry.record.metadata.bare)
        };
        assert_eq!(copies(Change::copies(2), from_file()), (2, false));
        assert_eq!(copies(Change::copies(2).then(Change::copies(9)), from_file()), (2, false));
        assert_eq!(copies(Change::copies(2), record(&[1], None)), (3, false));
        assert_eq!(copies(Change::copies(2), record(&[], None)), (3, false), "a put without holders has stated it");
        assert_eq!(copies(Change::fill(record(&[], None)), from_file()), (3, false));
        assert_eq!(copies(Change::fill(bare_put(&[1])), from_file()), (DEFAULT_COPIES, true));
    }

    #[test]
    fn hints_make_no_record_for_a_removed_chunk() {
        for hint in [Change::holders(vec![cell(1)]), Change::copies(2), Change::scrubbed(1)] {
            assert_eq!(Change::Remove.then(hint.clone()), Change::Remove);
            assert_eq!(hint.apply(None, || None), None);
        }
    }
}
