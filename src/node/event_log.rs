//! The event log: writes each event of the core to the log, as one sentence for operators.

// Reads the clock, to limit the number of events per minute.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use log::Level;

use crate::cell::{Event, MAX_MEMBERS};
use crate::human;
use crate::wire::beacon::Role;

/// Maximum number of events of one class that are written in a window. A colony of fifty that starts at once stays
/// below it.
const MAX_EVENTS: u32 = 200;
const WINDOW: Duration = Duration::from_mins(1);

/// Writes events to the log, with a limit: forged beacons must not fill an SD card.
pub(super) struct EventLog {
    window_start: Instant,
    counts: Counts,
}

/// Events in this window, written or not. Each class has a limit of its own: events that any host on the network can
/// cause must not suppress those that this cell has observed itself.
#[derive(Default)]
struct Counts {
    observed: u32,
    other: u32,
}

impl EventLog {
    pub(super) fn new() -> Self {
        Self { window_start: Instant::now(), counts: Counts::default() }
    }

    /// Writes an event to the log, unless there were too many in the last minute.
    pub(super) fn write(&mut self, event: &Event) {
        if self.window_start.elapsed() >= WINDOW {
            let suppressed = [self.counts.observed, self.counts.other].map(|count| count.saturating_sub(MAX_EVENTS));
            let suppressed: u32 = suppressed.iter().sum();
            if suppressed > 0 {
                log::warn!("{suppressed} more events in the last minute were not logged");
            }
            (self.window_start, self.counts) = (Instant::now(), Counts::default());
        }
        let Class { is_observed, is_warning } = class(event);
        let count = if is_observed { &mut self.counts.observed } else { &mut self.counts.other };
        *count = count.saturating_add(1);
        if *count <= MAX_EVENTS {
            let level = if is_warning { Level::Warn } else { Level::Info };
            log::log!(level, "{}", sentence(event));
        }
    }
}

/// How an event is logged.
struct Class {
    /// Whether this cell has observed the event itself and an operator should know of it.
    is_observed: bool,
    /// Whether the event asks for an operator's attention.
    is_warning: bool,
}

fn class(event: &Event) -> Class {
    let (is_observed, is_warning) = match event {
        Event::BadCopy { .. } | Event::OwnCopyBad(_) | Event::OwnCopyUnreadable(_) | Event::Isolated(_) => (true, true),
        Event::OwnCopyReadable(_) => (true, false),
        Event::DiskFailing(failing) => (true, *failing),
        Event::ScrubDone { bad } => (true, *bad > 0),
        // With one copy left, the next failure loses data.
        Event::HealStarted { fewest_copies, .. } => (*fewest_copies <= 1, *fewest_copies <= 1),
        Event::Dead(_) | Event::DuplicateId(..) | Event::Renamed { .. } | Event::MemberTableFull => (false, true),
        Event::Active(..)
        | Event::Silent(_)
        | Event::Left(_)
        | Event::Role(_)
        | Event::HealDone { .. }
        | Event::Refetched(_)
        | Event::FalseAlert { .. }
        | Event::IsolationEnded(_)
        | Event::Draining(_)
        | Event::Drained
        | Event::ExtraCopyRemoved(_) => (false, false),
    };
    Class { is_observed, is_warning }
}

fn sentence(event: &Event) -> String {
    match event {
        Event::Active(id, address) => format!("cell {} is active at {address}", id.short()),
        Event::Silent(id) => format!("cell {} sends no beacons; probing it over HTTP", id.short()),
        Event::Dead(id) => format!("cell {} is dead: it sends no beacons and does not answer a probe", id.short()),
        Event::Left(id) => format!("cell {} has left the colony", id.short()),
        Event::DuplicateId(id, address) => format!(
            "two cells have the id {id}, one of them at {address}; the newer one will change its id (was an SD card cloned?)"
        ),
        Event::Renamed { from, to } => {
            format!("this cell has changed its id from {from} to {to}, because another cell has the old one")
        }
        Event::MemberTableFull => format!("the colony has more than {MAX_MEMBERS} cells; ignoring the newest"),
        Event::Role(Role::Stem) => "this cell is now a stem cell: it has no role in the colony yet".into(),
        Event::Role(Role::Storage) => "this cell is now a storage cell".into(),
        Event::Role(Role::Guard) => "this cell is now a guard: it also audits the copies of other cells".into(),
        Event::HealStarted { chunks, fewest_copies } => {
            let chunks = human::count(*chunks, "chunk");
            format!("healing {chunks} with too few copies; the fewest is {fewest_copies}")
        }
        Event::HealDone { copies, bytes } => {
            format!("healing is complete: sent {} ({}) to other cells", human::copies(*copies), human::bytes(*bytes))
        }
        Event::BadCopy { culprit, chunk } => {
            format!("cell {} sent a bad copy of chunk {}; the colony has been alerted", culprit.short(), chunk.short())
        }
        Event::OwnCopyBad(chunk) => format!(
            "this cell's copy of chunk {} is bad and was moved to quarantine; fetching a good copy",
            chunk.short()
        ),
        Event::OwnCopyUnreadable(chunk) => format!(
            "the disk cannot read the copy of chunk {}; reading it again later, check the disk and its cable",
            chunk.short()
        ),
        Event::OwnCopyReadable(chunk) => format!("the disk can read the copy of chunk {} again", chunk.short()),
        Event::DiskFailing(true) => "the disk is failing: this cell takes no new chunks, and copies what it can read \
             to other cells; check the disk and its cable"
            .into(),
        Event::DiskFailing(false) => "the disk can be read again: this cell takes chunks again".into(),
        Event::Refetched(chunk) => format!("a good copy of chunk {} has replaced the bad one", chunk.short()),
        Event::FalseAlert { culprit, chunk } => format!(
            "an alert was wrong: the copy of chunk {} on cell {} was checked and is good",
            chunk.short(),
            culprit.short()
        ),
        Event::Isolated(id) => format!(
            "cell {} had too many bad copies and is isolated: it gets no new copies, and the ones it has do not count",
            id.short()
        ),
        Event::IsolationEnded(id) => format!("cell {} is no longer isolated and may hold copies again", id.short()),
        Event::Draining(true) => "draining: this cell accepts no new chunks and hands its copies to other cells".into(),
        Event::Draining(false) => "draining was cancelled: this cell accepts chunks again".into(),
        Event::Drained => "drained: all chunks of this cell have enough copies elsewhere; it can be unplugged".into(),
        Event::ScrubDone { bad: 0 } => "scrub complete: all copies on this cell are good".into(),
        Event::ScrubDone { bad } => {
            let noun = if *bad == 1 { "copy" } else { "copies" };
            format!("scrub complete: moved {bad} bad {noun} to quarantine; check whether the disk is failing")
        }
        Event::ExtraCopyRemoved(chunk) => format!(
            "removed this cell's copy of chunk {} to free space; enough other cells have proved theirs",
            chunk.short()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{CellId, ChunkId};

    #[test]
    fn events_that_need_attention_are_warnings() {
        let (cell, chunk) = (CellId::from_bytes([1; 16]), ChunkId::of(b"x"));
        for event in [
            Event::Dead(cell),
            Event::HealStarted { chunks: 9, fewest_copies: 1 },
            Event::BadCopy { culprit: cell, chunk },
            Event::OwnCopyBad(chunk),
            Event::OwnCopyUnreadable(chunk),
            Event::DiskFailing(true),
            Event::Isolated(cell),
            Event::ScrubDone { bad: 2 },
        ] {
            assert!(class(&event).is_warning, "{event:?}");
        }
        for event in [
            Event::Role(Role::Guard),
            Event::HealStarted { chunks: 9, fewest_copies: 2 },
            Event::HealDone { copies: 3, bytes: 3 << 20 },
            Event::OwnCopyReadable(chunk),
            Event::DiskFailing(false),
            Event::Refetched(chunk),
            Event::FalseAlert { culprit: cell, chunk },
            Event::IsolationEnded(cell),
            Event::Draining(true),
            Event::Drained,
            Event::ScrubDone { bad: 0 },
            Event::ExtraCopyRemoved(chunk),
        ] {
            assert!(!class(&event).is_warning, "{event:?}");
        }
    }

    #[test]
    fn an_event_is_one_line_with_its_facts() {
        let (cell, chunk) = (CellId::from_bytes([1; 16]), ChunkId::of(b"x"));
        let (cell_name, chunk_name) = (cell.short(), chunk.short());
        for (event, facts) in [
            (Event::BadCopy { culprit: cell, chunk }, [cell_name.as_str(), chunk_name.as_str()]),
            (Event::FalseAlert { culprit: cell, chunk }, [&cell_name, &chunk_name]),
            (Event::HealStarted { chunks: 12, fewest_copies: 3 }, ["12 chunks", "3"]),
            (Event::HealDone { copies: 4, bytes: 2 << 20 }, ["4 copies", "2.0 MiB"]),
            (Event::HealDone { copies: 1, bytes: 2 << 20 }, ["1 copy", "2.0 MiB"]),
            (Event::ScrubDone { bad: 7 }, ["7 bad copies", "quarantine"]),
            (Event::Drained, ["drained", "unplugged"]),
        ] {
            let sentence = sentence(&event);
            assert!(facts.iter().all(|fact| sentence.contains(fact)), "{sentence}");
            assert!(!sentence.contains('\n') && !sentence.ends_with('.'), "{sentence}");
        }
    }
}
