//! The clients: a user's file into the colony and back.
//!
//! ```text
//!  put:  Source ─▶ split ─▶ N sealers ─▶ journal ─▶ Placer says where ─▶ uploads, copies in parallel ─▶ manifest
//!  get:  manifest ─▶ have? to every cell ─▶ Holders says from whom ─▶ fetch, verify, open ─▶ in order ─▶ Output
//!
//!  check:   manifest ─▶ Survey: have? to every cell, and on demand: re-hash! ─▶ Tally of copies
//!  repair:  Survey ─▶ chunks with too few copies ─▶ fetch, verify ─▶ Placer says where ─▶ the copies that lack
//! ```
//!
//! All are bounded pipelines: what is in memory depends on the number of workers, not on the size of the file. The
//! decisions (`placer`, `holders`) are pure; threads, sockets and files are around them. Nothing here prints: what a
//! user may want to see goes to a [`Progress`].

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
mod progress;
mod put;
mod workers;

pub use crate::client::bad_copy::BadCopy;
pub use crate::client::byte_ranges::{ByteRange, ByteRanges};
pub use crate::client::discover::colony::{CellName, ColonyScope, KnownCell};
pub use crate::client::discover::find_cells::find_cells;
pub use crate::client::discover::select_cell::{CellSelector, find_cell};
pub use crate::client::error::{ClientError, Damage, FileAction, Operation, UsageError};
pub use crate::client::get::output::Target;
pub use crate::client::get::{GetOptions, GetReport, default_output_path, get};
pub use crate::client::maintain::check::{CheckOptions, CheckReport, Verdict, check};
pub use crate::client::maintain::drain::{drain, undrain};
pub use crate::client::maintain::repair::{RepairReport, repair};
pub use crate::client::maintain::scrub::{ScrubOutcome, scrub};
pub use crate::client::manifest_file::default_manifest_path;
pub use crate::client::notice::Notice;
pub use crate::client::progress::{Progress, StopSignal};
pub use crate::client::put::availability::{CellAvailability, Rejection};
pub use crate::client::put::journal::journal_path;
pub use crate::client::put::source::Source;
pub use crate::client::put::{PutOptions, PutReport, put};
pub use crate::client::workers::{MAX_JOBS, default_jobs, query_cells};
