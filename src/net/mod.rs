//! The network: the HTTP gateway and its backend, the HTTP client, and the UDP sockets. It moves bytes within limits
//! and decides nothing.
//!
//! ```text
//!  other cells, clients ──TCP──▶ gateway ──Unix socket──▶ backend ──▶ Handler       (serves)
//!  other cells          ◀──TCP── client                                             (sends requests)
//!  other cells, clients ◀──UDP─▶ udp                                                (beacons and probes)
//! ```

#[cfg(target_os = "linux")]
mod backend;
pub mod client;
#[cfg(target_os = "linux")]
pub mod fd_limit;
#[cfg(target_os = "linux")]
mod gateway;
pub mod min_rate;
mod resolver;
#[cfg(test)]
pub(crate) mod test_server;
pub mod udp;

#[cfg(target_os = "linux")]
pub use crate::net::{
    backend::exchange::{Exchange, Handler},
    backend::server::Backend,
    backend::upstream::Upstream,
    gateway::Gateway,
    gateway::limits::GatewayLimits,
    gateway::stats::GatewayStats,
};
