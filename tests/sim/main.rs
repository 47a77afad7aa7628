//! The colony in virtual time: the same [`cellsync::cell::Cell`] that the daemon runs, up to thousands of it, with a
//! network, disks and neighbours that misbehave as a seed says, and a [`judge`] who knows everything and says when a
//! promise is broken.
//!
//! [`world`] moves time on, [`host`] does for one cell what `node::driver` does on a real board, [`calls`] is what cells
//! say to each other, [`network`] and [`disk`] are how that goes wrong. The other modules are tests, by what they are
//! about. A test that fails prints the line that runs it again, to the same trace. With `WATCH=` and the start of a
//! chunk's or cell's name before that line, and `-- --nocapture` behind it, each input and output that has it in it is
//! printed too.
//!
//! `just traces` checks that a refactoring does not change what cells decide. It sets `TRACES=target/traces.txt`; each
//! world then appends the line `name cells seed trace` to that file when it ends. The sorted file is the same for each
//! run of the same code. Run it before the change, keep a copy, run it after the change and compare with `diff`. If
//! tests were renamed, compare without the first column: `cut -d ' ' -f 2- traces.txt | sort`. [`trace`] describes what
//! is hashed.
//!
//! Who breaks a rule of `cell` sees these fail, among others:
//!
//! | rule broken | what notices |
//! |---|---|
//! | silence alone is death, with no probe | `a_cell_whose_beacons_are_swallowed_but_that_answers_is_not_dead` |
//! | all holders heal at once, with no rank | bytes moved: `after_two_deaths_…`, `the_first_in_rank_…`, all churn |
//! | an alert is believed | `forged_alerts_change_nothing_but_counters` |
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, clippy::print_stderr)]
// Nothing here is so large that a cast loses something.
#![allow(clippy::cast_possible_truncation)]

#[cfg(test)]
mod calls;
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
mod host;
#[cfg(test)]
mod judge;
#[cfg(test)]
mod liars;
#[cfg(test)]
mod network;
#[cfg(test)]
mod partitions;
#[cfg(test)]
mod roles;
#[cfg(test)]
mod scene;
#[cfg(test)]
mod trace;
#[cfg(test)]
mod world;
