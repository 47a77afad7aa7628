//! What a client reports to the user while its work continues.

use std::fmt;
use std::path::PathBuf;

use crate::client::bad_copy::BadCopy;
use crate::client::byte_ranges::ByteRange;
use crate::client::discover::colony::{self, CellName};
use crate::client::get::difference::Difference;
use crate::client::get::index::IndexProblem;
use crate::client::get::omission::{RestoreOmission, RestoreOmissionReason};
use crate::client::get::plan::lost::LostPart;
use crate::client::put::availability::cells_accepting;
use crate::client::put::omission::Omission;
use crate::human;
use crate::net::client::CallError;

/// Something that a user may want to know while the work continues. `Display` makes the sentence.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice {
    /// A copy was bad. Another one is used in its place.
    BadCopy {
        /// The copy.
        copy: BadCopy,
        /// The bytes of the file that are in the chunk.
        bytes: ByteRange,
    },
    /// A cell failed, and gets no further chunks in this run unless it is found again.
    CellSkipped {
        /// How it failed.
        error: CallError,
    },
    /// The copies on a cell could not be verified, and do not count.
    CopiesUnverified {
        /// How the cell failed.
        error: CallError,
    },
    /// An interrupted put continues.
    PutResumed {
        /// Chunks that are in the colony already.
        chunks: usize,
    },
    /// An interrupted put left chunks in the colony, which are used where the source has the same content.
    PutReuses {
        /// Chunks that are in the colony already.
        chunks: usize,
        /// Is the source another file, or did it change?
        has_changed: bool,
    },
    /// Something cannot be stored, or not as it was.
    Omitted {
        /// What, and why.
        omission: Omission,
    },
    /// Something could not be restored, or not as it was.
    NotRestored {
        /// What, and why.
        omission: RestoreOmission,
    },
    /// More of the same that are not named one by one.
    MoreNotRestored {
        /// The last reason.
        reason: RestoreOmissionReason,
        /// How many.
        count: usize,
    },
    /// Extended attributes or access control lists were not restored, because they were not to be.
    WithoutAttributes {
        /// Entries that had some.
        entries: usize,
    },
    /// An interrupted get continues.
    GetResumed {
        /// Bytes that are there already.
        bytes: u64,
    },
    /// A directory that an interrupted get left cannot be continued.
    RestoreBegunAnew {
        /// Where it is.
        folder: PathBuf,
        /// Why.
        difference: Difference,
    },
    /// Other gets left files or directories beside the target.
    Leftovers {
        /// Some of them, at least one.
        paths: Vec<PathBuf>,
    },
    /// A salvage did not find something.
    Lost {
        /// What.
        part: LostPart,
    },
    /// A salvage did not find parts of further entries.
    MoreLost {
        /// How many.
        count: usize,
    },
    /// A directory has no index that can be used, and a salvage restores what is left of its stream.
    WithoutIndex,
    /// A directory has no index that can be used, and is read as a whole to find its entries.
    ReadsEverything {
        /// Why there is none.
        problem: IndexProblem,
    },
    /// There are fewer cells than copies wanted.
    FewerCopies {
        /// Cells that accept chunks, and so the most copies of each chunk.
        accepting: usize,
        /// Copies of each chunk for which they have room if the data does not compress, at most `accepting`.
        room: usize,
        /// Copies wanted.
        wanted: u8,
    },
    /// If the data does not compress, the cells lack the room for all copies wanted.
    ScarceRoom {
        /// Copies of each chunk for which there is room.
        copies: usize,
        /// Copies wanted.
        wanted: u8,
    },
    /// A put made fewer copies than wanted of some chunks.
    ChunksShort {
        /// Chunks with fewer copies than wanted.
        short: usize,
        /// Chunks of the source.
        chunks: usize,
        /// The smallest number of copies of any chunk.
        fewest: usize,
        /// Copies wanted.
        wanted: u8,
    },
    /// A get waits, because no cell that responds has a good copy of some chunk.
    WaitingForCells {
        /// Cells that have responded during this get and do not respond now.
        silent: usize,
        /// All cells that have responded during this get.
        seen: usize,
        /// The longest time that the get waits without any progress, in milliseconds.
        limit_ms: u64,
    },
    /// A get that waited for cells continues.
    CellsReturned {
        /// How many of them respond again, if it was counted.
        cells: Option<usize>,
    },
    /// Cells did not respond, or not to the end. Their copies do not count.
    UnresponsiveCells {
        /// The cells.
        cells: Vec<CellName>,
    },
    /// Copies on a draining cell have no destination for now.
    DrainStuck {
        /// The number of those copies.
        copies: u64,
        /// The other cells that are active.
        others: usize,
        /// Those of them that accept chunks.
        accepting: usize,
        /// Those of them that have no room.
        full: usize,
    },
}

impl Notice {
    /// Must the user see this even if only warnings are shown? The result is less than was asked for, or needs action.
    pub fn is_warning(&self) -> bool {
        match self {
            Self::Omitted { .. }
            | Self::NotRestored { .. }
            | Self::MoreNotRestored { .. }
            | Self::Lost { .. }
            | Self::MoreLost { .. }
            | Self::WithoutIndex
            | Self::ReadsEverything {
                problem: IndexProblem::Missing | IndexProblem::Corrupt | IndexProblem::Invalid { .. },
            }
            | Self::FewerCopies { .. }
            | Self::ChunksShort { .. }
            | Self::UnresponsiveCells { .. }
            | Self::DrainStuck { .. } => true,
            Self::BadCopy { .. }
            | Self::CellSkipped { .. }
            | Self::CopiesUnverified { .. }
            | Self::PutResumed { .. }
            | Self::PutReuses { .. }
            | Self::WaitingForCells { .. }
            | Self::CellsReturned { .. }
            | Self::WithoutAttributes { .. }
            | Self::ReadsEverything { problem: IndexProblem::EarlierVersion }
            | Self::GetResumed { .. }
            | Self::RestoreBegunAnew { .. }
            | Self::Leftovers { .. }
            | Self::ScarceRoom { .. } => false,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadCopy { copy: BadCopy { chunk, cell, .. }, bytes } => {
                write!(
                    f,
                    "one copy was bad: chunk {} (bytes {bytes}) on cell {cell}; using another copy",
                    chunk.short()
                )
            }
            Self::CellSkipped { error } => write!(f, "{error}; the cell is skipped for now"),
            Self::CopiesUnverified { error } => write!(f, "{error}; its copies are unverified and do not count"),
            Self::PutResumed { chunks } => {
                write!(f, "resuming: {} already in the colony", human::count(*chunks, "chunk"))
            }
            Self::PutReuses { chunks, has_changed } => f.write_str(&reuses(*chunks, *has_changed)),
            Self::Omitted { omission } => write!(f, "{omission}"),
            Self::NotRestored { omission } => write!(f, "{omission}"),
            Self::MoreNotRestored { reason, count } => write!(f, "and {count} more {reason}"),
            Self::WithoutAttributes { entries } => write!(
                f,
                "{} restored without extended attributes and access control lists",
                human::if_one(entries, "one entry is", &format!("{entries} entries are")),
            ),
            Self::GetResumed { bytes } => {
                write!(f, "resuming: {} are there from an interrupted get", human::bytes(*bytes))
            }
            Self::RestoreBegunAnew { folder, difference } => {
                write!(f, "the unfinished restore in {} starts anew: {difference}", folder.display())
            }
            Self::Leftovers { paths } => write!(
                f,
                "unfinished restores were left here; if you do not need them, remove them with: {}",
                human::removal_command(paths.iter())
            ),
            Self::Lost { part } => write!(f, "{part}"),
            Self::MoreLost { count } => write!(f, "and {count} more with lost parts"),
            Self::WithoutIndex => {
                f.write_str("there is no index that can be used; restoring what is left of the archive")
            }
            Self::ReadsEverything { problem } => write!(f, "{problem}; reading everything"),
            Self::FewerCopies { accepting, room, wanted } if room < accepting => write!(
                f,
                "only {}: each chunk gets at most {} instead of {wanted}, and if the data does not compress, they have room \
                 for {} of each; the colony makes the others when cells join or have room",
                cells_accepting(*accepting),
                human::copies(*accepting),
                human::copies(*room)
            ),
            Self::FewerCopies { accepting, wanted, .. } => write!(
                f,
                "only {}: each chunk gets {} instead of {wanted}, and the colony makes the others when cells join or have \
                 room",
                cells_accepting(*accepting),
                human::copies(*accepting)
            ),
            Self::ScarceRoom { copies, wanted } => write!(
                f,
                "if the data does not compress, the cells have room for {} of each chunk instead of {wanted}",
                human::copies(*copies)
            ),
            Self::ChunksShort { short, chunks, fewest, wanted } => write!(
                f,
                "{} with fewer than {}, none with fewer than {fewest}; the colony makes the others when cells join or \
                 have room",
                human::part(*short, *chunks, "chunk"),
                human::copies(*wanted)
            ),
            Self::WaitingForCells { silent, seen, limit_ms } if silent >= seen => {
                write!(f, "no cell responds; waiting up to {}", human::duration(*limit_ms))
            }
            Self::WaitingForCells { silent, seen, limit_ms } => write!(
                f,
                "{} {} not respond, and no other has a good copy of a chunk; waiting up to {}",
                human::part(*silent, *seen, "cell"),
                human::if_one(silent, "does", "do"),
                human::duration(*limit_ms)
            ),
            Self::CellsReturned { cells: None } => f.write_str("cells respond again; continuing"),
            Self::CellsReturned { cells: Some(cells) } => {
                write!(f, "{} {} again", human::count(*cells, "cell"), human::if_one(cells, "responds", "respond"))?;
                f.write_str("; continuing")
            }
            Self::UnresponsiveCells { cells } => {
                write!(f, "some cells did not respond, and their copies do not count: {}", colony::list(cells))
            }
            Self::DrainStuck { copies, others, accepting, full } => {
                let have = human::if_one(copies, "has", "have");
                write!(f, "{} {have} no destination: ", human::copies(*copies))?;
                let part = human::part(*accepting, *others, "other cell");
                let accept = human::if_one(accepting, "accepts chunks", "accept chunks");
                match (others, full) {
                    (0, _) => f.write_str("there is no other cell")?,
                    (_, 0) => write!(f, "{part} {accept}, and all that do hold these already")?,
                    (_, full) => write!(f, "{part} {accept}, {full} {} no room", human::if_one(full, "has", "have"))?,
                }
                f.write_str("; add a cell or free space; still waiting")
            }
        }
    }
}

fn reuses(chunks: usize, has_changed: bool) -> String {
    let whose = if has_changed { "another file, or of this one before it changed," } else { "this manifest" };
    let chunks = human::count(chunks, "chunk");
    format!("an interrupted put of {whose} left {chunks} in the colony; what has the same content is not sent again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stuck_drain_names_what_the_other_cells_can_do() {
        let stuck =
            |copies, others, accepting, full| Notice::DrainStuck { copies, others, accepting, full }.to_string();
        assert!(
            stuck(12, 3, 1, 2).contains("12 copies have no destination: 1 of 3 other cells accepts chunks, 2 have")
        );
        assert!(stuck(1, 4, 4, 0).contains("1 copy has no destination: 4 of 4 other cells accept chunks, and"));
        assert!(stuck(1, 1, 0, 1).contains("0 of 1 other cell accept chunks, 1 has no room"));
        assert!(stuck(7, 0, 0, 0).contains("there is no other cell; add a cell"));
    }
}
