//! Counters of a gateway.

use std::sync::atomic::{AtomicU64, Ordering};

/// The statuses that the gateway itself answers with.
const REFUSAL_STATUSES: [u16; 12] = [400, 405, 408, 411, 413, 417, 431, 501, 502, 503, 504, 505];

/// What a gateway has done since it opened. Can be read at any time from any thread.
#[derive(Debug, Default)]
pub struct GatewayStats {
    pub(super) accepted: Counter,
    pub(super) accept_failures: Counter,
    pub(super) open: Counter,
    pub(super) evicted: Counter,
    pub(super) too_slow: Counter,
    pub(super) requests: Counter,
    refused: [Counter; REFUSAL_STATUSES.len()],
}

/// One counter. Nothing is ordered by it.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn subtract(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl GatewayStats {
    /// Connections accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.get()
    }

    /// Failed calls of `accept`, mostly for lack of file descriptors.
    pub fn accept_failures(&self) -> u64 {
        self.accept_failures.get()
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        self.open.get()
    }

    /// Connections closed to free a slot or a descriptor for another one.
    pub fn evicted(&self) -> u64 {
        self.evicted.get()
    }

    /// Connections closed because a body or a response moved below the minimum rate.
    pub fn too_slow(&self) -> u64 {
        self.too_slow.get()
    }

    /// Requests passed to the backend.
    pub fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// Requests and connections that the gateway refused: each status with its count, without those that never
    /// occurred.
    pub fn refused(&self) -> Vec<(u16, u64)> {
        let counts = self.refused.iter().map(Counter::get);
        REFUSAL_STATUSES.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect()
    }

    pub(super) fn count_refusal(&self, status: u16) {
        if let Some((_, count)) = REFUSAL_STATUSES.iter().zip(&self.refused).find(|(known, _)| **known == status) {
            count.add();
        }
    }
}
