//! The clients: they put files into a colony, get them back, and check and repair their copies.
//!
//! ```text
//!  put     Source ─▶ blocks ─▶ seal ─▶ Journal ─▶ Placer chooses cells ─▶ send copies in parallel ─▶ manifest
//!  get     manifest ─▶ query all cells ─▶ HolderIndex chooses the quickest holder ─▶ fetch ─▶ verify ─▶ open ─▶ Output
//!  check   manifest ─▶ Survey: query all cells, re-hash copies if asked to ─▶ CopyCounts ─▶ verdict
//!  repair  manifest ─▶ Survey ─▶ short chunks ─▶ fetch ─▶ verify ─▶ Placer chooses cells ─▶ send the copies that lack
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | `discover` | finds the cells of a colony, and the holders of chunks |
//! | `put`, `get` | a file into the colony, and back |
//! | `maintain` | check, repair, drain, scrub |
//! | `workers` | the threads of all of these |
//! | `error`, `notice` | failures and notices, as facts; `Display` makes the sentence, [`cli`](crate::cli) adds options |
//!
//! Memory depends on the number of workers and not on the size of the file: every pipeline is bounded. The decisions
//! (`Placer`, `HolderIndex`, `Patience`, `CopyCounts`, `SendWindow`) are pure, with threads, sockets and files around
//! them. Nothing here prints: clients report to a [`Progress`].

mod accounts;
mod bad_copy;
mod byte_ranges;
mod discover;
mod error;
#[cfg(test)]
mod fixtures;
mod get;
mod maintain;
mod manifest_file;
mod notice;
mod paths;
mod progress;
mod put;
mod rename;
mod usage_error;
mod workers;

pub use crate::client::bad_copy::BadCopy;
pub use crate::client::byte_ranges::{ByteRange, ByteRanges};
pub use crate::client::discover::colony::{CellName, ColonyScope, KnownCell};
pub use crate::client::discover::find_cells::find_cells;
pub use crate::client::discover::query::query_cells;
pub use crate::client::discover::select_cell::{CellSelector, find_cell};
pub use crate::client::error::{ClientError, Damage, FileAction, Operation};
pub use crate::client::get::difference::{Difference, Unfinished};
pub use crate::client::get::index::IndexProblem;
pub use crate::client::get::list::list;
pub use crate::client::get::omission::{RestoreOmission, RestoreOmissionReason};
pub use crate::client::get::output::Target;
pub use crate::client::get::part::Part;
pub use crate::client::get::patience::{DEFAULT_PATIENCE, MAX_PATIENCE};
pub use crate::client::get::plan::lost::LostPart;
pub use crate::client::get::restore_options::{RestoreOptions, RestoreOwners};
pub use crate::client::get::{GetOptions, GetReport, default_output_path, get};
pub use crate::client::maintain::check::{CheckOptions, CheckReport, CheckedChunk, Verdict, WeakestChunk, check};
pub use crate::client::maintain::drain::{drain, undrain};
pub use crate::client::maintain::repair::{RepairReport, repair};
pub use crate::client::maintain::scrub::{ScrubOutcome, scrub};
pub use crate::client::notice::Notice;
pub use crate::client::progress::{Progress, StopSignal};
pub use crate::client::put::availability::{CellAvailability, Rejection};
pub use crate::client::put::manifest_path::default_manifest_path;
pub use crate::client::put::omission::{Omission, OmissionReason, SpecialFile, SpecialMetadata, SystemError};
pub use crate::client::put::options::{PutOptions, PutReport, stores_xattrs_by_default};
pub use crate::client::put::put;
pub use crate::client::put::source::Source;
pub use crate::client::put::tree::exclude::{is_pattern, read_patterns};
pub use crate::client::usage_error::UsageError;
pub use crate::client::workers::{MAX_JOBS, default_jobs};
