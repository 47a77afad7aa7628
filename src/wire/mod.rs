//! Every byte that crosses the network: datagrams, HTTP names, problems.
//!
//! Pure: no clock, socket, disk or thread.

pub mod api;
pub mod beacon;
pub mod problem;
