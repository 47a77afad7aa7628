//! The probes under way, of members and of static peers.

use std::collections::BTreeMap;

use crate::cell::input::TaskId;
use crate::cell::output::{Output, Task};
use crate::cell::task_ids::TaskIds;

#[derive(Debug, Default)]
pub(in crate::cell) struct Probes {
    /// The addresses, as `HOST:PORT`.
    under_way: BTreeMap<TaskId, String>,
    task_ids: TaskIds,
}

impl Probes {
    /// Probes this address (`HOST:PORT`), and with `announce` asks the cell there to add this one to its static peers.
    pub(super) fn start(&mut self, address: String, announce: bool) -> Output {
        let task_id = self.task_ids.next();
        self.under_way.insert(task_id, address.clone());
        Output::Task(Task::Probe { task_id, address, announce })
    }

    /// Takes the address of a probe that has ended; `None` if there is no such probe.
    pub(in crate::cell) fn end(&mut self, task_id: TaskId) -> Option<String> {
        self.under_way.remove(&task_id)
    }
}
