//! How a file is recognized when its put continues, and how a change to it is noticed.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Identifies the content of a file. If any of it differs, the file has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::client) struct Fingerprint {
    /// Bytes of the file.
    pub(in crate::client) size: u64,
    /// Time of modification in nanoseconds since 1970; 0 before.
    modified_ns: u64,
}

impl Fingerprint {
    /// The fingerprint of a file.
    pub(in crate::client) fn of_file(metadata: &fs::Metadata) -> Self {
        let since = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH).duration_since(UNIX_EPOCH);
        let modified_ns = u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX);
        Self { size: metadata.len(), modified_ns }
    }
}
