//! What strangers can do to a cell's door, and what it does about it: a real door, a real server behind it, and
//! clients on loopback that break every rule. During and after each abuse another client is served.

// Waiting for a door to lose patience takes a clock.
#![allow(clippy::disallowed_methods)]

#[cfg(test)]
mod abuse;
#[cfg(test)]
mod answers;
#[cfg(test)]
mod heads;
#[cfg(test)]
mod house;
#[cfg(test)]
mod places;
