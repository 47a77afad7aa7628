//! The network: what comes in and goes out, with limits on everything. Shells without decisions.
//!
//! ```text
//!  others ──TCP──▶ door (one thread, smol: limits, time-outs) ──lines (Unix)──▶ tiny_http ─▶ workers ─▶ Handler
//!  others ◀──TCP── client (ureq)          others ◀──UDP──▶ discovery (sockets for beacons and probes)
//! ```
//!
//! `tiny_http` never faces the network: it has no limits and no time-outs, and some requests end its process. The door
//! judges each request's head, writes it anew and passes it on; whatever breaks a limit is answered at the door.

#[cfg(target_os = "linux")]
mod backend;
pub mod client;
#[cfg(target_os = "linux")]
pub mod fd_limit;
#[cfg(target_os = "linux")]
mod gateway;
pub mod udp;

#[cfg(target_os = "linux")]
pub use crate::net::backend::server::{Backend, Exchange, Handler};
#[cfg(target_os = "linux")]
pub use crate::net::backend::upstream::Upstream;
#[cfg(target_os = "linux")]
pub use crate::net::gateway::limits::GatewayLimits;
#[cfg(target_os = "linux")]
pub use crate::net::gateway::{Gateway, GatewayStats};
