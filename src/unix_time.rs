//! Unix time: seconds since 1970-01-01 00:00 UTC.
//!
//! Boards without a battery have a wrong clock until NTP sets it, so Unix time serves for time stamps only. The protocol
//! uses [`Time`](crate::time::Time).

// Reads the system's clock.
#![allow(clippy::disallowed_methods)]

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time now, in seconds. Zero if the clock is set before 1970.
pub(crate) fn now_s() -> u64 {
    of_s(SystemTime::now())
}

/// Unix time of a moment, such as a file's time of modification, in seconds. Zero if it is before 1970.
pub(crate) fn of_s(moment: SystemTime) -> u64 {
    moment.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
