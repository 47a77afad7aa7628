//! The simulation: a colony in virtual time. It runs up to thousands of the same [`cellsync::cell::Cell`] that the
//! daemon runs. A seed decides how network, disks and other cells misbehave, and a [`checker`] that sees the whole
//! world panics when the colony breaks a promise.
//!
//! [`world`] advances the time, [`board`] does for one cell what `node::driver` does in the daemon, [`requests`] are
//! the HTTP requests between cells, [`network`] and [`disk`] can fail, and [`scenario`] is what tests use. The other
//! modules are tests, by subject.
//!
//! A test that fails prints the command that replays it with the same trace. To see what happens to one chunk or cell,
//! put `WATCH=` and the beginning of its id before that command, and `-- --nocapture` after it: each input and output
//! with that text is printed.
//!
//! `just traces` checks that a refactoring does not change what cells decide. It sets `TRACES=target/traces.txt`; each
//! world then appends the line `name cells seed trace` and the bytes that it moved by cause to that file when it ends.
//! The sorted file is the same for each run of the same code. Run it before the change, keep a copy, run it after the
//! change and compare with `diff`. If tests were renamed, compare without the first column: `cut -d ' ' -f 2-
//! traces.txt | sort`. [`trace`] describes what is hashed.
//!
//! If a rule of `cell` is broken, these tests fail, among others:
//!
//! | broken rule | test |
//! |---|---|
//! | a silent cell is dead without a probe | `a_cell_that_answers_probes_is_not_dead` |
//! | all holders heal at once, without rank | bytes moved: `after_two_deaths_…`, `the_first_in_rank_…`, all churn |
//! | an alert is believed | `forged_alerts_change_only_counters` |
//! | an unreadable copy is a bad one | `a_loose_cable_during_…`, `what_is_on_a_disk_…` |
//! | a cell that answers late holds nothing | `slow_cells_are_not_…` |
//! | a board that reboots is not awaited | `a_cell_that_leaves_and_returns_…`, `a_clock_that_jumps_…` |
//! | a split network heals at once | `an_hour_long_split_…` |
//! | a guess at the number of copies is acted on | `a_lost_catalogue_…`, `without_any_catalogue_…` |
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, clippy::print_stderr)]
// No number here is so large that a cast truncates it.
#![allow(clippy::cast_possible_truncation)]

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod board;
#[cfg(test)]
mod checker;
#[cfg(test)]
mod churn;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod disks;
#[cfg(test)]
mod draining;
#[cfg(test)]
mod healing;
#[cfg(test)]
mod lost_catalogues;
#[cfg(test)]
mod network;
#[cfg(test)]
mod partitions;
#[cfg(test)]
mod read_errors;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod restless;
#[cfg(test)]
mod roles;
#[cfg(test)]
mod scenario;
#[cfg(test)]
mod slow_cells;
#[cfg(test)]
mod trace;
#[cfg(test)]
mod world;
