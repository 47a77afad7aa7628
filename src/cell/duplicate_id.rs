//! Detects another cell that uses this cell's id: its SD card is a clone of this one's.
//!
//! A cell receives its own broadcasts; the same id with another boot number is another cell. One stray datagram of this
//! cell's previous run is no clone, so several beacons must arrive before it counts. Of the two cells the one that
//! started later (with the higher boot number) takes a new id.
//!
//! A cell takes a new id at most once after each start, which is enough for a cloned card. Otherwise forged beacons
//! could make it change its id, and write to its disk, without end.

use crate::time::Time;
use crate::wire::beacon::Boot;

/// Beacons that must arrive from the other cell.
const MIN_BEACONS: u32 = 3;
/// They must arrive within this time, in milliseconds.
const WINDOW_MS: u64 = 10_000;
/// Minimum interval between two reports of a duplicate id, in milliseconds.
pub(super) const REPORT_INTERVAL_MS: u64 = 60_000;

/// Beacons with this cell's id from another start.
#[derive(Debug)]
struct Sightings {
    boot: Boot,
    first: Time,
    count: u32,
}

#[derive(Debug, Default)]
pub(super) struct DuplicateIdDetector {
    sightings: Option<Sightings>,
    reported_at: Option<Time>,
    /// Has the cell changed its id since it started?
    renamed: bool,
}

/// What to do about a duplicate id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Response {
    /// Report it to the log.
    pub(super) report: bool,
    /// Take a new id.
    pub(super) rename: bool,
}

impl DuplicateIdDetector {
    /// Handles a beacon with this cell's id and the boot number `other`; `own` is this cell's boot number. `None` while
    /// there is not enough evidence.
    pub(super) fn beacon(&mut self, now: Time, own: Boot, other: Boot, beacon_ms: u64) -> Option<Response> {
        if other == own {
            return None;
        }
        let sightings = match &mut self.sightings {
            Some(sightings) if sightings.boot == other && now.since_ms(sightings.first) <= WINDOW_MS => sightings,
            stale => stale.insert(Sightings { boot: other, first: now, count: 0 }),
        };
        sightings.count += 1;
        if sightings.count < MIN_BEACONS || now.since_ms(sightings.first) < 2 * beacon_ms * 9 / 10 {
            return None;
        }
        self.sightings = None;
        let report = self.reported_at.is_none_or(|then| now.since_ms(then) >= REPORT_INTERVAL_MS);
        if report {
            self.reported_at = Some(now);
        }
        let rename = own > other && !self.renamed;
        self.renamed |= rename;
        Some(Response { report, rename })
    }
}
