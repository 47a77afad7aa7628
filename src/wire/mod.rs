//! Every byte that crosses the network: datagrams, HTTP names, problems.
//!
//! Pure: no clock, socket, disk or thread.

pub mod api;
pub mod beacon;
pub mod holder_hints;
pub mod id_lists;
pub mod peers;
pub mod problem;
pub mod routes;
pub mod status;
