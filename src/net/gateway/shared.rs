//! What all connections of a gateway share, and the guard by which a connection occupies its slot.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use smol::Task;
use smol::channel::Sender;

use crate::net::backend::upstream::Upstream;
use crate::net::gateway::admission::{Slots, Stage};
use crate::net::gateway::buffer::BufferPool;
use crate::net::gateway::limits::GatewayLimits;
use crate::net::gateway::stats::GatewayStats;

/// What all connections share. The gateway runs on one thread, so it needs no locks.
pub(super) struct Shared {
    pub(super) limits: GatewayLimits,
    pub(super) upstream: Arc<Upstream>,
    pub(super) stats: Arc<GatewayStats>,
    /// The open connections. Dropping a connection's task closes it.
    pub(super) slots: RefCell<Slots<Task<()>>>,
    pub(super) buffers: Rc<BufferPool>,
    pub(super) started: Instant,
    /// Connections beyond the limit that are being answered with 503.
    pub(super) rejecting: Cell<usize>,
    /// Set when the gateway stops: connections end after their current exchange.
    pub(super) stopping: Cell<bool>,
    /// Gets a message when the last connection ends while the gateway stops.
    pub(super) all_closed: Sender<()>,
}

impl Shared {
    /// Milliseconds since the gateway started, the clock of [`Slots`].
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A connection's claim on its slot. The connection's task owns it, so the slot is freed however the task ends.
pub(super) struct SlotGuard {
    pub(super) shared: Rc<Shared>,
    pub(super) slot: u64,
}

impl SlotGuard {
    /// Records that the connection is active, and in which stage.
    pub(super) fn touch(&self, stage: Stage) {
        let now_ms = self.shared.now_ms();
        self.shared.slots.borrow_mut().touch(self.slot, stage, now_ms);
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.stats.open.subtract();
        let task = shared.slots.borrow_mut().remove(self.slot);
        if let Some(task) = task {
            // The guard is dropped inside this task, which cannot cancel itself.
            task.detach();
        }
        if shared.stopping.get() && shared.slots.borrow().is_empty() {
            shared.all_closed.try_send(()).ok();
        }
    }
}
