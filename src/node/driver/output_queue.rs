//! The output queue: outputs that wait until the state of the core is saved.
//!
//! While a [`Persist::State`] is pending, all later outputs that wait for it ([`Output::waits_for_state`]) are queued
//! in order. The others pass.

use std::collections::VecDeque;

use smol::channel::Sender;

use crate::cell::{Output, Persist};
use crate::node::mailbox::ColonySnapshot;

/// One thing that the driver does.
#[derive(Debug)]
pub(super) enum Step {
    Perform(Output),
    /// Send a snapshot of the colony, after everything before it is done.
    Reply(Sender<ColonySnapshot>),
}

impl Step {
    fn waits_for_state(&self) -> bool {
        match self {
            Self::Perform(output) => output.waits_for_state(),
            Self::Reply(_) => true,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct OutputQueue {
    /// Is a save pending?
    saving: bool,
    waiting: VecDeque<Step>,
}

impl OutputQueue {
    /// Returns the step if it can be performed now, and queues it otherwise.
    pub(super) fn push(&mut self, step: Step) -> Option<Step> {
        if self.saving && step.waits_for_state() {
            self.waiting.push_back(step);
            return None;
        }
        Some(self.passed(step))
    }

    /// The pending save has ended. Call [`Self::pop`] afterwards until it returns `None`.
    pub(super) fn saved(&mut self) {
        self.saving = false;
    }

    /// The next step that can be performed now.
    pub(super) fn pop(&mut self) -> Option<Step> {
        if self.saving {
            return None;
        }
        let step = self.waiting.pop_front()?;
        Some(self.passed(step))
    }

    fn passed(&mut self, step: Step) -> Step {
        self.saving |= matches!(step, Step::Perform(Output::Persist(Persist::State(_))));
        step
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::cell::{AuditTarget, Event, SavedState, Task, TaskId, Udp};
    use crate::id::{CellId, ChunkId};
    use crate::time::Time;
    use crate::wire::datagram::Alert;

    fn state(draining: bool) -> Output {
        Output::Persist(Persist::State(SavedState { draining, ..SavedState::default() }))
    }

    fn verify(n: u8) -> Output {
        Output::Task(Task::Verify(ChunkId::from_bytes([n; 32])))
    }

    #[test]
    fn persist_blocks_all_outputs_but_liveness() {
        let (id, chunk) = (CellId::from_bytes([1; 16]), ChunkId::of(b"x"));
        let (task_id, to, copies) = (TaskId(1), SocketAddr::from(([10, 0, 0, 1], 80)), 5);
        let beacon = ColonySnapshot::of_lone_cell().own;
        let alert = Alert { node_id: id, culprit: id, chunk, found: chunk };
        let mut queue = OutputQueue::default();
        assert!(queue.push(Step::Perform(state(true))).is_some());
        for output in [
            Output::Udp(Udp::Broadcast(beacon.clone())),
            Output::Udp(Udp::Unicast { to: to.ip(), beacon: beacon.clone() }),
            Output::Udp(Udp::ProbeReply { to, beacon }),
            Output::Task(Task::Probe { task_id, address: to.to_string(), announce: true }),
            Output::WakeAt(Time(7)),
            Output::Event(Event::MemberTableFull),
        ] {
            assert!(queue.push(Step::Perform(output.clone())).is_some(), "{output:?}");
        }
        for output in [
            Output::Task(Task::QueryHave { task_id, to, chunks: Vec::new() }),
            Output::Task(Task::Send { task_id, chunk, to, copies, bare: false, holders: Vec::new() }),
            Output::Task(Task::Fetch { task_id, chunk, from: to, copies, bare: false, holders: Vec::new() }),
            Output::Task(Task::Audit { task_id, from: to, target: AuditTarget::Chunk(chunk) }),
            Output::Task(Task::Verify(chunk)),
            Output::Task(Task::Remove(chunk)),
            Output::Task(Task::SendHints { to, hints: Vec::new() }),
            Output::Task(Task::SendAlert { alert, to: Vec::new() }),
            Output::Persist(Persist::Holders { chunk, holders: Vec::new() }),
            Output::Persist(Persist::CellId(id)),
            state(false),
        ] {
            assert!(queue.push(Step::Perform(output.clone())).is_none(), "{output:?}");
        }
        assert!(queue.push(Step::Reply(smol::channel::bounded(1).0)).is_none());
    }

    #[test]
    fn blocked_outputs_keep_their_order_across_saves() {
        let mut queue = OutputQueue::default();
        let pop = |queue: &mut OutputQueue| match queue.pop()? {
            Step::Perform(output) => Some(output),
            Step::Reply(_) => panic!("no reply was queued"),
        };
        assert!(queue.push(Step::Perform(verify(1))).is_some());
        assert!(queue.push(Step::Perform(state(true))).is_some());
        for output in [verify(2), state(false), verify(3)] {
            assert!(queue.push(Step::Perform(output)).is_none());
        }
        assert_eq!(pop(&mut queue), None, "the first save is pending");

        queue.saved();
        assert_eq!(pop(&mut queue), Some(verify(2)));
        assert_eq!(pop(&mut queue), Some(state(false)));
        assert_eq!(pop(&mut queue), None, "the second save is pending");
        queue.saved();
        assert_eq!(pop(&mut queue), Some(verify(3)));
        assert_eq!(pop(&mut queue), None);
        assert!(queue.push(Step::Perform(verify(4))).is_some());
    }
}
