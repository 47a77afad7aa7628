//! How many of the cells accept chunks, and why the others do not.

use std::fmt;

use crate::human;
use crate::net::client::CallError;
use crate::wire::beacon::Status;
use crate::wire::problem;

/// Why a cell gets no chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// It refused a chunk with this HTTP status.
    Refused(u16),
    /// It did not respond, or too slowly.
    Unresponsive,
    /// Its response was not valid.
    InvalidResponse,
    /// Its beacon has this status.
    Reported(Status),
}

impl Rejection {
    /// The reason for which an upload failed.
    pub(in crate::client) fn of(error: &CallError) -> Self {
        match error {
            CallError::Unreachable { .. } | CallError::TooSlow { .. } | CallError::Cancelled { .. } => {
                Self::Unresponsive
            }
            CallError::Refused { status, .. } => Self::Refused(*status),
            CallError::InvalidResponse { .. } => Self::InvalidResponse,
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status) => {
                let meaning = match status {
                    507 => "no room",
                    503 => "temporarily unavailable",
                    422 => "bytes damaged on the way",
                    429 => "too many requests",
                    other => problem::phrase(*other),
                };
                write!(f, "answered {status} ({meaning})")
            }
            Self::Unresponsive => f.write_str("did not respond"),
            Self::InvalidResponse => f.write_str("gave an invalid response"),
            Self::Reported(Status::Full) => f.write_str("reported no room (full)"),
            Self::Reported(status) => write!(f, "reported {status}"),
        }
    }
}

/// The cells that were found, by whether they accept chunks. Shown as `1 of 5 answered 507 (no room), 2 of 5 did not
/// respond`; as `5 cells found` if all of them accept chunks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CellAvailability {
    /// The number of cells that were found.
    pub found: usize,
    /// The number of cells that accept no chunks, by reason.
    pub rejections: Vec<(Rejection, usize)>,
}

impl CellAvailability {
    /// Counts cells. Each item is one cell, with the reason why it accepts no chunks.
    pub(in crate::client) fn count(cells: impl Iterator<Item = Option<Rejection>>) -> Self {
        let mut counted = Self::default();
        for rejection in cells {
            counted.found += 1;
            let Some(rejection) = rejection else { continue };
            match counted.rejections.iter_mut().find(|(other, _)| *other == rejection) {
                Some((_, cells)) => *cells += 1,
                None => counted.rejections.push((rejection, 1)),
            }
        }
        counted
    }

    /// The number of cells that accept chunks.
    pub fn accepting(&self) -> usize {
        self.found - self.rejections.iter().map(|(_, cells)| cells).sum::<usize>()
    }
}

impl fmt::Display for CellAvailability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rejections.is_empty() {
            return write!(f, "{} found", human::count(self.found, "cell"));
        }
        for (number, (rejection, cells)) in self.rejections.iter().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            write!(f, "{separator}{cells} of {} {rejection}", self.found)?;
        }
        Ok(())
    }
}

/// `3 cells accept chunks`, `1 cell accepts chunks`.
pub(in crate::client) fn cells_accepting(cells: usize) -> String {
    let verb = if cells == 1 { "accepts" } else { "accept" };
    format!("{} {verb} chunks", human::count(cells, "cell"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_counted_by_the_reason_of_their_rejection() {
        let (full, down) = (Some(Rejection::Reported(Status::Full)), Some(Rejection::Unresponsive));
        let cells = CellAvailability::count([full, down, None, down, Some(Rejection::Refused(507))].into_iter());
        assert_eq!((cells.found, cells.accepting()), (5, 1));
        let text = cells.to_string();
        assert_eq!(text, "1 of 5 reported no room (full), 2 of 5 did not respond, 1 of 5 answered 507 (no room)");
    }

    #[test]
    fn cells_that_all_accept_chunks_are_only_counted() {
        assert_eq!(CellAvailability::count([None].into_iter()).to_string(), "1 cell found");
        assert_eq!(CellAvailability::count([None, None].into_iter()).to_string(), "2 cells found");
    }
}
