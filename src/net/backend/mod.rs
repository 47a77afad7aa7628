//! The HTTP server behind the gateway: `tiny_http` on a private Unix socket, workers, and the connections to it.
//!
//! ```text
//!  gateway ── upstream: pooled connections over a Unix socket ──▶ tiny_http ──▶ workers ──▶ Handler::handle(Exchange)
//! ```
//!
//! `tiny_http` has no limits and no timeouts, and some requests end its process. It must never face the network: only
//! the gateway, in the same process, connects to it.

pub(super) mod exchange;
mod private_socket;
pub(super) mod server;
pub(super) mod upstream;

/// The header field with the client's IP address. The gateway writes it and drops a client's own.
pub(super) const CLIENT_FIELD: &str = "CellSync-Client";

/// The header field with the id of the upstream connection that a request travels on. The gateway writes it and drops a
/// client's own.
pub(super) const CONNECTION_FIELD: &str = "CellSync-Connection";
