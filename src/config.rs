//! `node.toml` and the command line become one [`Config`]: the only place where a cell's defaults live.
//!
//! Every setting's doc is its contract: what it does, unit, bounds, how to choose. `packaging/node.toml` shows them
//! all to the user, and a test holds the two together.

use crate::chunk::MAX_CHUNK_BYTES;

/// What the door lets in. One set for all connections; the defaults fit a 512 MB board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoorLimits {
    /// Largest request head, request line and all fields, in bytes. Past it: 431.
    pub head_bytes: usize,
    /// Time to send a whole request head, from its first byte, in milliseconds. Past it: 408.
    pub head_ms: u64,
    /// Largest declared body, in bytes. Past it: 413. Chunk bytes and lists of ids are all under it.
    pub body_bytes: u64,
    /// Bytes that must move in every window of `floor_window_ms` while a body or an answer is under way; a slower
    /// connection is closed.
    pub floor_bytes: u64,
    /// Length of the window for `floor_bytes`, in milliseconds.
    pub floor_window_ms: u64,
    /// A connection that is between requests for this long is closed, in milliseconds. Longer than clients keep
    /// pooled connections (15 s for ours).
    pub idle_ms: u64,
    /// How long an answer may take to begin, in milliseconds; disks of small boards can stall for many seconds. Past
    /// it: 504.
    pub answer_ms: u64,
    /// Connections open at once. At the limit, the one that has been idle longest makes room; none idle: 503.
    pub connections: usize,
    /// Connections open at once from one address; the same rule within the address.
    pub connections_per_address: usize,
}

impl Default for DoorLimits {
    fn default() -> Self {
        Self {
            head_bytes: 8 * 1024,
            head_ms: 10_000,
            body_bytes: MAX_CHUNK_BYTES as u64,
            floor_bytes: 64 * 1024,
            floor_window_ms: 10_000,
            idle_ms: 60_000,
            answer_ms: 60_000,
            connections: 256,
            connections_per_address: 64,
        }
    }
}
