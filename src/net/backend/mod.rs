//! The HTTP server behind the gateway: `tiny_http` on a private Unix socket, and the connections to it.

pub(super) mod server;
pub(super) mod upstream;
