//! Why an unfinished directory cannot be continued.

use std::fmt;
use std::path::PathBuf;

use crate::human;

/// The first thing in an unfinished directory that is not as the interrupted get left it. Paths are relative to the
/// directory. `Display` makes a clause.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// An entry is gone.
    Missing {
        /// The entry.
        path: Vec<u8>,
    },
    /// An entry has another type, size, mode, owner or time, another file has its name, or its bytes are others.
    Changed {
        /// The entry.
        path: Vec<u8>,
    },
    /// An entry cannot be examined.
    Unreadable {
        /// The entry, or empty for all of them.
        path: Vec<u8>,
        /// What the operating system says.
        reason: String,
    },
    /// The files that describe the unfinished directory are damaged.
    DamagedState,
    /// The machine was started anew before the first synced checkpoint.
    OtherBoot,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { path } => write!(f, "{} is gone", human::shown(path)),
            Self::Changed { path } => write!(f, "{} has changed", human::shown(path)),
            Self::Unreadable { path, reason } if path.is_empty() => write!(f, "it cannot be examined: {reason}"),
            Self::Unreadable { path, reason } => write!(f, "{} cannot be examined: {reason}", human::shown(path)),
            Self::DamagedState => f.write_str("its record of what was restored is damaged"),
            Self::OtherBoot => f.write_str("the machine was restarted before any of it was known to be on the disk"),
        }
    }
}

/// An unfinished restore in the directory that is its target, some entries of which are there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// Where the other entries are.
    pub folder: PathBuf,
    /// Why it cannot be continued. Without one, none of its entries is in its place yet.
    pub difference: Option<Difference>,
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.difference {
            None => write!(
                f,
                "{} in it is an unfinished restore; move everything else out, and run the same command again",
                self.folder.display()
            ),
            Some(difference) => write!(
                f,
                "{} in it is an unfinished restore that cannot be continued: {difference}; what it has is in {}; move \
                 everything else out and run the same command again to start it anew",
                self.folder.display(),
                self.folder.join("tree").display()
            ),
        }
    }
}
