//! Task ids.

use crate::cell::input::TaskId;

/// Gives out task ids, from 1.
#[derive(Debug, Default)]
pub(super) struct TaskIds(u64);

impl TaskIds {
    /// An id that was not given out before.
    pub(super) fn next(&mut self) -> TaskId {
        self.0 += 1;
        TaskId(self.0)
    }
}
