//! The brake: when a large part of the colony falls silent at once, a broken switch is likelier than so many deaths, and
//! healing would fill the rest of the colony with copies that are not needed.
//!
//! ```text
//!   ≥ 3 hosts and ≥ a third of all, within a minute ──▶ brake on ── all are back, or `split_wait_ms` is over ──▶ off
//! ```
//!
//! - Only hosts count that have been heard for `settled_ms`. Forged beacons of cells that do not exist, and cells that
//!   were added an hour ago, brake nothing.
//! - Cells on one host count as one: they fall silent together when one board loses its power.
//! - While the brake is on, chunks with two or more live copies wait. Each shortage is delayed at most once, so that a
//!   switch that fails again and again does not stop healing.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::cell::membership::Membership;
use crate::cell::settings::Settings;
use crate::time::Time;

/// Fewer hosts that fall silent are no sign of a broken switch.
const MIN_HOSTS: usize = 3;
/// The share of all hosts that must fall silent: one in this many.
const HOSTS_PER_SILENT: usize = 3;
/// The hosts fall silent within this time, in milliseconds.
const WINDOW_MS: u64 = 60_000;
/// Chunks with fewer live copies than this do not wait.
pub(super) const MIN_COPIES: u8 = 2;

#[derive(Debug, Default)]
pub(in crate::cell) struct Brake {
    until: Time,
}

impl Brake {
    /// The time until which healing waits, if it waits.
    pub(in crate::cell) fn until(&self, now: Time) -> Option<Time> {
        (now < self.until).then_some(self.until)
    }

    /// Members have changed.
    pub(in crate::cell) fn update(&mut self, settings: &Settings, members: &Membership) {
        let hosts = hosts(settings.settled_ms, members);
        let mut silent: Vec<Time> = hosts.values().copied().flatten().collect();
        if silent.is_empty() {
            self.until = Time::default();
            return;
        }
        silent.sort_unstable();
        let enough = MIN_HOSTS.max(hosts.len().div_ceil(HOSTS_PER_SILENT));
        let ends = silent.windows(enough).filter_map(|window| {
            let (first, last) = (window.first()?, window.last()?);
            (last.since_ms(*first) <= WINDOW_MS).then_some(*last)
        });
        if let Some(last) = ends.max() {
            self.until = self.until.max(last.plus_ms(settings.split_wait_ms));
        }
    }
}

/// The hosts of settled members, each with the time of its last sign of life if all of them are silent.
fn hosts(settled_ms: u64, members: &Membership) -> BTreeMap<IpAddr, Option<Time>> {
    let mut hosts = BTreeMap::new();
    for (_, member) in members.iter().filter(|(_, member)| member.was_heard_for(settled_ms)) {
        let silent_since = (!member.is_active()).then_some(member.last_heard);
        let host = hosts.entry(member.address.ip()).or_insert(silent_since);
        *host = host.zip(silent_since).map(|(first, second)| first.max(second));
    }
    hosts
}
