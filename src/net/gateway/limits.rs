//! What one gateway admits: sizes, times, rates and counts.

use crate::id::MAX_CHUNK_BYTES;

/// The limits of a [`Gateway`](crate::net::Gateway). One set for all connections; the defaults fit a board with 512 MB
/// of memory.
///
/// Each limit names the answer to a client that breaks it. After such an answer the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayLimits {
    /// Largest request head in bytes: the request line, all fields and the empty line. Larger: `431`.
    ///
    /// It bounds the memory that a client can occupy before its request is checked. The colony's own
    /// clients stay below 2 KiB.
    pub max_head_bytes: usize,
    /// Largest number of header fields in a request. More: `431`. Browsers send about twenty.
    pub max_head_fields: usize,
    /// Time to receive a whole request head, from its first byte, in milliseconds. Longer: `408`.
    ///
    /// It is a deadline for the whole head, so a client that sends one byte at a time gains nothing ("Slowloris").
    pub head_timeout_ms: u64,
    /// Largest declared body in bytes. Larger: `413`. Chunks and lists of ids stay below it.
    pub max_body_bytes: u64,
    /// Bytes that must move in each window of [`min_rate_window_ms`](Self::min_rate_window_ms) while a request body or
    /// a response is in transfer. Slower: the connection is closed without an answer, since the transfer has begun.
    ///
    /// Only time spent waiting for the client counts. The default is 6.4 KiB/s, which a weak Wi-Fi link still reaches.
    pub min_rate_bytes: u64,
    /// Length of the window for [`min_rate_bytes`](Self::min_rate_bytes), in milliseconds.
    pub min_rate_window_ms: u64,
    /// Time that a connection may stay between two requests, or before its first, in milliseconds. Longer: the
    /// connection is closed without an answer, as HTTP/1.1 permits.
    ///
    /// It must exceed the time for which clients keep pooled connections (15 s for ours), or they meet closed ones.
    pub idle_timeout_ms: u64,
    /// Time for the backend to begin its response, and for each later pause in it, in milliseconds. Longer: `504`, or
    /// the end of the connection if the response has begun.
    ///
    /// Disks of small boards can stall for many seconds, so it is long.
    pub response_timeout_ms: u64,
    /// Largest number of open connections. At the limit, a new connection replaces the one that has been silent the
    /// longest among those without a complete request; if there is none, the new one is answered with `503`.
    ///
    /// Each connection can take [`fd_limit::PER_CONNECTION`](crate::net::fd_limit::PER_CONNECTION) descriptors.
    pub max_connections: usize,
    /// Largest number of open connections from one IPv4 address or one IPv6 /64 network. At the limit, a new connection
    /// replaces another one of the same client, by the rule of [`max_connections`](Self::max_connections).
    pub max_connections_per_address: usize,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            max_head_bytes: 8 * 1024,
            max_head_fields: 64,
            head_timeout_ms: 10_000,
            max_body_bytes: MAX_CHUNK_BYTES as u64,
            min_rate_bytes: 64 * 1024,
            min_rate_window_ms: 10_000,
            idle_timeout_ms: 60_000,
            response_timeout_ms: 60_000,
            max_connections: 256,
            max_connections_per_address: 64,
        }
    }
}
