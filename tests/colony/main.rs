//! Tests of the programs as users run them: real cells, puts and gets on loopback, and what happens when processes are
//! killed, disks return bad bytes, colonies disappear and users make mistakes.
//!
//! Method: [`harness`] starts processes and ends them with their guards. Tests wait for conditions, not for times. They
//! compare the facts in a message (numbers, names, paths), not its wording.
#![cfg(target_os = "linux")]
// Waits for processes with timeouts.
#![allow(clippy::disallowed_methods)]

#[cfg(test)]
mod api;
#[cfg(test)]
mod changing_trees;
#[cfg(test)]
mod check_and_repair;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod drain_and_scrub;
#[cfg(test)]
mod get_failures;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod healing;
#[cfg(test)]
mod integrity;
#[cfg(test)]
mod interrupted;
#[cfg(test)]
mod losses;
#[cfg(test)]
mod lost_index;
#[cfg(test)]
mod maintenance;
#[cfg(test)]
mod membership;
#[cfg(test)]
mod minimal_server;
#[cfg(test)]
mod parts;
#[cfg(test)]
mod patience;
#[cfg(test)]
mod poor_disks;
#[cfg(test)]
mod poor_targets;
#[cfg(test)]
mod put_failures;
#[cfg(test)]
mod read_errors;
#[cfg(test)]
mod resumed_gets;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod start_and_stop;
#[cfg(test)]
mod terminal;
#[cfg(test)]
mod trees;
#[cfg(target_os = "linux")]
mod under_load;
#[cfg(test)]
#[path = "../wait/mod.rs"]
mod wait;
