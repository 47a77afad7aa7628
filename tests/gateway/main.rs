//! Tests of the gateway: it withstands clients that break the rules of HTTP, or its limits, and serves all others.
//!
//! Method: a real gateway and backend with a small handler, and clients on loopback that write raw bytes. During and
//! after each abuse, another client must be served.

// Waiting for timeouts needs the clock.
#![allow(clippy::disallowed_methods)]

#[cfg(test)]
mod abuse;
#[cfg(test)]
mod admission;
#[cfg(test)]
mod exchanges;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod heads;
#[cfg(test)]
#[path = "../wait/mod.rs"]
mod wait;
