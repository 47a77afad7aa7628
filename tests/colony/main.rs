//! The programs as a user runs them: real cells, real puts and gets, on the loopback interface; and what happens when
//! processes are killed, disks lie, colonies vanish and people mistype.
//!
//! [`house`] starts the processes and ends them. Nothing here sleeps for an effect: conditions are polled until they
//! hold.
#![cfg(target_os = "linux")]
// Waiting for a process takes a clock.
#![allow(clippy::disallowed_methods)]

#[cfg(test)]
mod api;
#[cfg(test)]
mod care;
#[cfg(test)]
mod check;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod get_failures;
#[cfg(test)]
mod healing;
#[cfg(test)]
mod house;
#[cfg(test)]
mod immunity;
#[cfg(test)]
mod interrupted;
#[cfg(test)]
mod lan;
#[cfg(test)]
mod liar;
#[cfg(test)]
mod membership;
#[cfg(test)]
mod older_server;
#[cfg(test)]
mod put_failures;
#[cfg(test)]
mod raw;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod start_and_stop;
#[cfg(test)]
mod upkeep;
