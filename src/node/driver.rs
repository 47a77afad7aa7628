//! The one loop that owns the cell's core: receive, handle, perform.
//!
//! What takes time is done elsewhere ([`TaskRunner`]) and comes back through the inbox ([`Mailbox`]). The loop itself
//! waits for nothing but its inbox, so neither can ever wait for the other.

// A shell: its clock is the core's time.
#![allow(clippy::disallowed_methods)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future;
use smol::channel::{Receiver, Sender};
use smol::{LocalExecutor, Timer};

use crate::cell::{Cell, CopyInput, Input, MemberInput, Output, Persist, SavedState, StoreStats, Task, Udp};
use crate::id::MAX_CHUNK_BYTES;
use crate::node::event_log::EventLog;
use crate::node::mailbox::{ColonySnapshot, Mailbox, Message};
use crate::node::tasks::TaskRunner;
use crate::node::udp::BeaconSockets;
use crate::store::{FileStore, Store};
use crate::time::Time;
use crate::wire::datagram::{Datagram, MAX_DATAGRAM_BYTES};
use crate::wire::peers::CellView;

/// After so long what was to be kept is given up: a disk that hangs must not stop the cell from all it does.
const KEEP_LIMIT: Duration = Duration::from_secs(30);

/// One thing that the driver does.
#[derive(Debug)]
enum Step {
    Perform(Output),
    /// Answer a request with a snapshot of the colony, now that everything before this is done.
    Answer(Sender<ColonySnapshot>),
}

impl Step {
    /// Must this step wait while a [`Persist::State`] before it is pending?
    fn waits(&self) -> bool {
        match self {
            Self::Perform(output) => output.waits_for_state(),
            Self::Answer(_) => true,
        }
    }
}

/// What is to be done, in order: nothing that waits overtakes an [`Persist::State`].
#[derive(Debug, Default)]
struct InOrder {
    keeping: bool,
    waiting: VecDeque<Step>,
}

impl InOrder {
    /// Takes in what is to be done, and gives it back if that can be at once.
    fn admit(&mut self, step: Step) -> Option<Step> {
        if self.keeping && step.waits() {
            self.waiting.push_back(step);
            return None;
        }
        Some(self.passed(step))
    }

    /// What was to be kept is safe: what can be done next. To be asked until there is nothing more.
    fn next(&mut self) -> Option<Step> {
        if self.keeping {
            return None;
        }
        let step = self.waiting.pop_front()?;
        Some(self.passed(step))
    }

    fn passed(&mut self, step: Step) -> Step {
        self.keeping |= matches!(step, Step::Perform(Output::Persist(Persist::State(_))));
        step
    }
}

pub(super) struct Driver {
    cell: Cell,
    sockets: BeaconSockets,
    store: Arc<FileStore>,
    started: Instant,
    inbox: Receiver<Message>,
    mailbox: Mailbox,
    runner: Arc<TaskRunner>,
    in_order: InOrder,
    keeping: Option<smol::Task<()>>,
    wake_at: Time,
    log: EventLog,
}

/// What the loop goes on with.
enum Next {
    Message(Message),
    Wake,
    Kept,
}

impl Driver {
    pub(super) fn new(
        cell: Cell,
        sockets: BeaconSockets,
        store: Arc<FileStore>,
        door: SocketAddr,
        (mailbox, inbox): (Mailbox, Receiver<Message>),
    ) -> Self {
        Self {
            cell,
            sockets,
            runner: Arc::new(TaskRunner::new(Arc::clone(&store) as _, mailbox.clone(), door)),
            store,
            started: Instant::now(),
            inbox,
            mailbox,
            in_order: InOrder::default(),
            keeping: None,
            wake_at: Time::default(),
            log: EventLog::new(),
        }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        let tasks = LocalExecutor::new();
        match self.sockets.receiver() {
            Ok(ears) => tasks.spawn(listen(ears, self.mailbox.clone())).detach(),
            Err(error) => return log::error!("cannot hear the colony: {error}"),
        }
        tasks.spawn(self.runner.copies().clone().report_all()).detach();
        tasks.run(self.receive(&tasks)).await;
    }

    async fn receive(&mut self, tasks: &LocalExecutor<'_>) {
        let mut outputs = Vec::new();
        loop {
            // However much comes in, errands and ears get their turn.
            future::yield_now().await;
            let (input, answer) = match self.next().await {
                Next::Message(Message::Input(input, place)) => {
                    // What was large is the core's now, which has its own limits.
                    drop(place);
                    (input, None)
                }
                Next::Message(Message::Apply(input, answer)) => (input, Some(answer)),
                Next::Message(Message::Snapshot(answer)) => {
                    // Whoever asked may have stopped waiting.
                    drop(answer.try_send(self.snapshot()));
                    continue;
                }
                Next::Wake => (Input::Wake(self.store_facts()), None),
                Next::Kept => {
                    (self.keeping, self.in_order.keeping) = (None, false);
                    while let Some(step) = self.in_order.next() {
                        self.perform(step, tasks);
                    }
                    continue;
                }
            };
            if let Input::Copy(CopyInput::Drain(draining)) = input {
                self.mailbox.set_draining(draining);
            }
            self.cell.handle(self.now(), &input, &mut outputs);
            for step in outputs.drain(..).map(Step::Perform).chain(answer.map(Step::Answer)) {
                if let Some(step) = self.in_order.admit(step) {
                    self.perform(step, tasks);
                }
            }
        }
    }

    async fn next(&mut self) -> Next {
        // Nor may it keep the cell from giving signs of life.
        if self.now() >= self.wake_at {
            return Next::Wake;
        }
        let due = self.started + Duration::from_millis(self.wake_at.0);
        let kept = async {
            match &mut self.keeping {
                Some(keeping) => keeping.await,
                None => future::pending().await,
            }
            Next::Kept
        };
        let message = async {
            match self.inbox.recv().await {
                Ok(message) => Next::Message(message),
                // Never: the driver has a way to its own inbox.
                Err(_) => future::pending().await,
            }
        };
        let wake = async {
            Timer::at(due).await;
            Next::Wake
        };
        future::or(kept, future::or(message, wake)).await
    }

    fn perform(&mut self, step: Step, tasks: &LocalExecutor<'_>) {
        let output = match step {
            Step::Perform(output) => output,
            Step::Answer(answer) => return drop(answer.try_send(self.snapshot())),
        };
        match output {
            Output::Udp(udp) => self.send(udp),
            Output::Task(task) => {
                if let Task::SendAlert { alert, .. } = &task {
                    self.sockets.broadcast(&Datagram::Alert(*alert).encode());
                }
                tasks.spawn(Arc::clone(&self.runner).run(task)).detach();
            }
            Output::Persist(Persist::Holders { chunk, holders }) => self.store.set_holders(&chunk, &holders),
            Output::Persist(Persist::State(state)) => {
                self.keeping = Some(tasks.spawn(keep(Arc::clone(&self.store), state)));
            }
            Output::Persist(Persist::CellId(id)) => {
                if let Err(error) = self.store.set_cell_id(id) {
                    log::error!("the new name {id} is not kept and will be given up at the next start: {error}");
                }
            }
            Output::WakeAt(time) => self.wake_at = time,
            Output::Event(event) => self.log.write(&event),
        }
    }

    fn send(&mut self, udp: Udp) {
        match udp {
            Udp::Broadcast(beacon) => self.sockets.broadcast(&Datagram::Beacon(beacon).encode()),
            Udp::Unicast { to, beacon } => self.sockets.send_to_cell(to, &Datagram::Beacon(beacon).encode()),
            Udp::ProbeReply { to, beacon } => self.sockets.send_to(to, &Datagram::Beacon(beacon).encode()),
        }
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn store_facts(&self) -> StoreStats {
        let usage = self.store.usage();
        StoreStats {
            chunks: usage.chunks,
            free_bytes: usage.free_bytes,
            full: usage.free_bytes < MAX_CHUNK_BYTES as u64,
        }
    }

    fn snapshot(&self) -> ColonySnapshot {
        let now = self.now();
        let view = |(node_id, member): (_, &crate::cell::Member)| CellView {
            node_id,
            url: format!("http://{}", member.door),
            role: member.role,
            status: member.status,
            state: self.cell.presence(now, member),
            free: member.free_bytes(),
            chunks: member.chunks(),
            seen_ms: now.since_ms(member.last_heard),
        };
        ColonySnapshot {
            own: self.cell.beacon(now),
            activity: self.cell.life(),
            cells: self.cell.members().map(view).collect(),
        }
    }
}

/// What the cell last kept; nothing if it is damaged, which is no reason not to start.
pub(super) fn remembered(store: &dyn Store) -> SavedState {
    let kept = match store.load_state() {
        Ok(Some(kept)) => kept,
        Ok(None) => return SavedState::default(),
        Err(error) => {
            log::warn!("what this cell remembers cannot be read, and it starts without: {error}");
            return SavedState::default();
        }
    };
    serde_json::from_slice(&kept).unwrap_or_else(|error| {
        log::warn!("what this cell remembers is damaged, and it starts without: {error}");
        SavedState::default()
    })
}

async fn keep(store: Arc<FileStore>, memory: SavedState) {
    let keep = smol::unblock(move || {
        let kept = serde_json::to_vec(&memory).map_err(|error| error.to_string());
        kept.and_then(|facts| Store::save_state(&*store, &facts).map_err(|error| error.to_string()))
    });
    let kept = future::or(keep, async {
        Timer::after(KEEP_LIMIT).await;
        Err("the disk does not answer".to_owned())
    });
    if let Err(error) = kept.await {
        log::error!("what this cell must remember is not kept and will be forgotten at the next start: {error}");
    }
}

/// Hears datagrams for ever. What is no datagram of ours is passed over.
async fn listen(ears: async_net::UdpSocket, mailbox: Mailbox) {
    // One byte more than any of ours, so that longer ones are seen to be longer.
    let mut buffer = [0; MAX_DATAGRAM_BYTES + 1];
    loop {
        let (len, from) = match ears.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // Such as an ICMP error for something sent before. It must not become a busy loop.
                log::debug!("hearing: {error}");
                Timer::after(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Receiving does not wait while there is something to receive. In a flood the cell would do nothing else.
        future::yield_now().await;
        let input = match Datagram::parse(buffer.get(..len).unwrap_or_default()) {
            Ok(Datagram::Beacon(beacon)) => Input::Member(MemberInput::Beacon { from: from.ip(), beacon }),
            Ok(Datagram::Probe) => Input::Member(MemberInput::ProbeRequest { from }),
            Ok(Datagram::Alert(alert)) => Input::Copy(CopyInput::Alert(alert)),
            Err(error) => {
                log::trace!("from {from}: {error}");
                continue;
            }
        };
        mailbox.send_datagram(input);
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::cell::{AuditTarget, Event, TaskId};
    use crate::id::{CellId, ChunkId};
    use crate::store::MemoryStore;
    use crate::wire::datagram::Alert;

    /// Under a flood of datagrams the loop that listens was the only one that ran: no beacon was sent any more.
    #[test]
    fn after_each_datagram_that_is_heard_the_others_get_their_turn() {
        let ears = smol::Async::<UdpSocket>::bind(([127, 0, 0, 1], 0)).unwrap();
        let (to, flood) = (ears.get_ref().local_addr().unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        for _ in 0..50 {
            flood.send_to(&Datagram::Probe.encode(), to).unwrap();
        }
        let (mailbox, heard) = Mailbox::new(false);
        let mut listening = std::pin::pin!(listen(ears.into(), mailbox));
        smol::block_on(async {
            for taken_in in 0..3 {
                assert!(future::poll_once(&mut listening).await.is_none());
                assert_eq!(heard.len(), taken_in);
            }
        });
    }

    fn state(draining: bool) -> Output {
        Output::Persist(Persist::State(SavedState { draining, ..SavedState::default() }))
    }

    fn verify(n: u8) -> Step {
        Step::Perform(Output::Task(Task::Verify(ChunkId::from_bytes([n; 32]))))
    }

    #[test]
    fn persist_blocks_all_outputs_but_liveness() {
        let (id, chunk) = (CellId::from_bytes([1; 16]), ChunkId::of(b"x"));
        let (task_id, to, copies) = (TaskId(1), SocketAddr::from(([10, 0, 0, 1], 80)), 5);
        let beacon = ColonySnapshot::of_lone_cell().own;
        let alert = Alert { node_id: id, culprit: id, chunk, found: chunk };
        let mut order = InOrder::default();
        assert!(order.admit(Step::Perform(state(true))).is_some());
        for output in [
            Output::Udp(Udp::Broadcast(beacon.clone())),
            Output::Udp(Udp::Unicast { to: to.ip(), beacon: beacon.clone() }),
            Output::Udp(Udp::ProbeReply { to, beacon }),
            Output::Task(Task::Probe { address: to.to_string(), announce: true }),
            Output::WakeAt(Time(7)),
            Output::Event(Event::MemberTableFull),
        ] {
            assert!(order.admit(Step::Perform(output.clone())).is_some(), "{output:?}");
        }
        for output in [
            Output::Task(Task::QueryHave { task_id, to, chunks: Vec::new() }),
            Output::Task(Task::Send { task_id, chunk, to, copies, holders: Vec::new() }),
            Output::Task(Task::Fetch { task_id, chunk, from: to, copies, holders: Vec::new() }),
            Output::Task(Task::Audit { task_id, from: to, target: AuditTarget::Chunk(chunk) }),
            Output::Task(Task::Verify(chunk)),
            Output::Task(Task::Remove(chunk)),
            Output::Task(Task::SendHints { to, hints: Vec::new() }),
            Output::Task(Task::SendAlert { alert, to: Vec::new() }),
            Output::Persist(Persist::Holders { chunk, holders: Vec::new() }),
            Output::Persist(Persist::CellId(id)),
            state(false),
        ] {
            assert!(order.admit(Step::Perform(output.clone())).is_none(), "{output:?}");
        }
        assert!(order.admit(Step::Answer(smol::channel::bounded(1).0)).is_none());
    }

    #[test]
    fn blocked_steps_keep_their_order_across_saves() {
        let mut order = InOrder::default();
        assert!(order.admit(verify(1)).is_some());
        assert!(order.admit(Step::Perform(state(true))).is_some());
        for blocked in [verify(2), Step::Perform(state(false)), verify(3)] {
            assert!(order.admit(blocked).is_none());
        }
        assert!(order.next().is_none(), "the first save is pending");

        order.keeping = false;
        assert!(matches!(order.next(), Some(Step::Perform(Output::Task(Task::Verify(id)))) if id.shard() == 2));
        let Some(Step::Perform(second)) = order.next() else { panic!("the second save is due") };
        assert_eq!(second, state(false));
        assert!(order.next().is_none(), "the second save is pending");
        order.keeping = false;
        assert!(matches!(order.next(), Some(Step::Perform(Output::Task(Task::Verify(id)))) if id.shard() == 3));
        assert!(order.next().is_none());
        assert!(order.admit(verify(4)).is_some());
    }

    #[test]
    fn a_damaged_memory_is_an_empty_one() {
        let store = MemoryStore::new(0);
        assert_eq!(remembered(&store), SavedState::default());
        let memory = SavedState { draining: true, ..SavedState::default() };
        store.save_state(&serde_json::to_vec(&memory).unwrap()).unwrap();
        assert_eq!(remembered(&store), memory);
        store.save_state(b"{\"draining\":tr").unwrap();
        assert_eq!(remembered(&store), SavedState::default());
    }
}
