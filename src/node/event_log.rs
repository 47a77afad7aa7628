//! The colony's events in the log: one plain sentence for people each.

// A shell: so many events in a while are written.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use bytesize::ByteSize;
use log::Level;

use crate::cell::{Event, MAX_MEMBERS};
use crate::wire::beacon::Role;

/// Writes events to the log, so many in a while: forged beacons must not fill a card with it.
pub(super) struct EventLog {
    since: Instant,
    /// What strangers can bring about, and what only our own eyes can: the first must not use up the room of the second.
    told: [u32; 2],
}

/// Events written in one window, and its length. A colony of fifty that starts together is within it.
const MAX_EVENTS: u32 = 200;
const EVENTS_WINDOW: Duration = Duration::from_mins(1);

impl EventLog {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), told: [0; 2] }
    }

    pub(super) fn tell(&mut self, event: &Event) {
        if self.since.elapsed() >= EVENTS_WINDOW {
            let unsaid: u32 = self.told.iter().map(|told| told.saturating_sub(MAX_EVENTS)).sum();
            if unsaid > 0 {
                log::warn!("{unsaid} more events of the colony were not written to the log");
            }
            (self.since, self.told) = (Instant::now(), [0; 2]);
        }
        let [hearsay, seen] = &mut self.told;
        let told = if is_seen(event) { seen } else { hearsay };
        *told = told.saturating_add(1);
        if *told <= MAX_EVENTS {
            log::log!(level(event), "{}", sentence(event));
        }
    }
}

/// Is it something that we have seen ourselves, and that somebody should know whatever else happens?
fn is_seen(event: &Event) -> bool {
    match event {
        Event::BadCopy { .. } | Event::OwnCopyBad(_) | Event::Isolated(_) | Event::ScrubDone { .. } => true,
        Event::HealStarted { fewest_copies: fewest, .. } => *fewest <= 1,
        _ => false,
    }
}

/// A warning is what somebody should look at, now or one day.
fn level(event: &Event) -> Level {
    match event {
        Event::Dead(_)
        | Event::DuplicateId(..)
        | Event::Renamed { .. }
        | Event::MemberTableFull
        | Event::BadCopy { .. }
        | Event::OwnCopyBad(_)
        | Event::Isolated(_) => Level::Warn,
        // With one copy left, the next failure is a loss.
        Event::HealStarted { fewest_copies: fewest, .. } if *fewest <= 1 => Level::Warn,
        Event::ScrubDone { bad } if *bad > 0 => Level::Warn,
        _ => Level::Info,
    }
}

fn sentence(event: &Event) -> String {
    match event {
        Event::Active(id, door) => format!("cell {} is active at {door}", id.short()),
        Event::Silent(id) => format!("cell {} has fallen silent; asking it over HTTP", id.short()),
        Event::Dead(id) => format!("cell {} is dead: silent, and it does not answer", id.short()),
        Event::Left(id) => format!("cell {} has left", id.short()),
        Event::DuplicateId(id, address) => format!(
            "two cells are named {id}, one of them at {address}: was an SD card copied? The newer one takes another name"
        ),
        Event::Renamed { from, to } => format!("this cell was named {from} and is now named {to}"),
        Event::MemberTableFull => format!("more than {MAX_MEMBERS} cells are heard: the newest are passed over"),
        Event::Role(Role::Stem) => "this cell is a stem cell: it has no part in the colony yet".into(),
        Event::Role(Role::Storage) => "this cell is a storage cell now".into(),
        Event::Role(Role::Guard) => "this cell is a guard now: it checks the copies of others".into(),
        Event::HealStarted { chunks: 1, fewest_copies: fewest } => {
            format!("1 chunk has only {fewest} of its copies left; healing it")
        }
        Event::HealStarted { chunks, fewest_copies: fewest } => {
            format!("{chunks} chunks have too few copies left, one of them only {fewest}; healing them")
        }
        Event::HealDone { copies: 1, bytes } => format!("healed: sent 1 copy of {} to another cell", ByteSize(*bytes)),
        Event::HealDone { copies, bytes } => {
            format!("healed: sent {copies} copies, {} in all, to other cells", ByteSize(*bytes))
        }
        Event::BadCopy { culprit, chunk } => {
            format!("cell {} gave bad bytes for chunk {}; the others are warned", culprit.short(), chunk.short())
        }
        Event::OwnCopyBad(chunk) => {
            format!("this cell's copy of chunk {} is bad and in quarantine; fetching a good one", chunk.short())
        }
        Event::Refetched(chunk) => format!("a good copy of chunk {} is in the place of the bad one", chunk.short()),
        Event::FalseAlert { culprit, chunk } => format!(
            "cell {} was said to have a bad copy of chunk {}; it was checked and is good",
            culprit.short(),
            chunk.short()
        ),
        Event::Isolated(id) => {
            format!("cell {} had too many bad copies: it gets no new ones, and its own do not count", id.short())
        }
        Event::IsolationEnded(id) => format!("cell {} is trusted with copies again", id.short()),
        Event::Draining(true) => "draining: this cell takes no new chunks and hands on those it has".into(),
        Event::Draining(false) => "this cell drains no longer and takes chunks again".into(),
        Event::Drained => "drained: all chunks of this cell are elsewhere, and it can be unplugged".into(),
        Event::ScrubDone { bad: 0 } => "all copies of this cell were checked and are good".into(),
        Event::ScrubDone { bad } => {
            format!("all copies of this cell were checked, and {bad} bad ones are in quarantine; is its disk failing?")
        }
        Event::ExtraCopyRemoved(chunk) => {
            format!("removed a copy of chunk {} for room: enough other cells have proved theirs", chunk.short())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::CellId;
    use crate::id::ChunkId;

    #[test]
    fn what_somebody_should_look_at_is_a_warning_and_news_are_none() {
        let (cell, chunk) = (CellId::from_bytes([1; 16]), ChunkId::of(b"x"));
        for alarming in [
            Event::Dead(cell),
            Event::HealStarted { chunks: 9, fewest_copies: 1 },
            Event::BadCopy { culprit: cell, chunk },
            Event::OwnCopyBad(chunk),
            Event::Isolated(cell),
            Event::ScrubDone { bad: 2 },
        ] {
            assert_eq!(level(&alarming), Level::Warn, "{alarming:?}");
        }
        for calm in [
            Event::Role(Role::Guard),
            Event::HealStarted { chunks: 9, fewest_copies: 2 },
            Event::HealDone { copies: 3, bytes: 3 << 20 },
            Event::Refetched(chunk),
            Event::FalseAlert { culprit: cell, chunk },
            Event::IsolationEnded(cell),
            Event::Draining(true),
            Event::Drained,
            Event::ScrubDone { bad: 0 },
            Event::ExtraCopyRemoved(chunk),
        ] {
            assert_eq!(level(&calm), Level::Info, "{calm:?}");
        }
    }

    #[test]
    fn an_event_is_one_line_that_names_whom_it_is_about() {
        let (cell, chunk) = (CellId::from_bytes([1; 16]), ChunkId::of(b"x"));
        let (about_cell, about_chunk) = (cell.short(), chunk.short());
        for (event, words) in [
            (Event::BadCopy { culprit: cell, chunk }, [about_cell.as_str(), about_chunk.as_str()]),
            (Event::FalseAlert { culprit: cell, chunk }, [&about_cell, &about_chunk]),
            (Event::HealStarted { chunks: 12, fewest_copies: 3 }, ["12 chunks", "only 3"]),
            (Event::HealDone { copies: 4, bytes: 2 << 20 }, ["4 copies", "2.0 MiB"]),
            (Event::ScrubDone { bad: 7 }, ["7 bad", "quarantine"]),
            (Event::Drained, ["drained", "unplugged"]),
        ] {
            let sentence = sentence(&event);
            assert!(words.iter().all(|word| sentence.contains(word)), "{sentence}");
            assert!(!sentence.contains('\n') && !sentence.ends_with('.'), "{sentence}");
        }
    }
}
