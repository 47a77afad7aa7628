//! The driver: the loop that owns the core. It receives inputs, lets the core handle them, and performs the outputs.
//!
//! Whatever takes time runs elsewhere, and its outcome returns through the mailbox: tasks in the [`TaskRunner`], saving
//! the state on a thread. The loop waits only for its queue and its timers, so no other part of the node can block it.

// Reads the clock: it is the time of the core.
#![allow(clippy::disallowed_methods)]

mod datagrams;
mod output_queue;
pub(super) mod saved_state;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future;
use smol::channel::Receiver;
use smol::{LocalExecutor, Timer};

use crate::cell::{Cell, CopyInput, Input, Member, Output, Persist, StoreStats, Task, Udp};
use crate::id::{CellId, MAX_CHUNK_BYTES};
use crate::node::driver::output_queue::{OutputQueue, Step};
use crate::node::event_log::EventLog;
use crate::node::local_copies::LocalCopies;
use crate::node::mailbox::{ColonySnapshot, Mailbox, Message};
use crate::node::read_back;
use crate::node::tasks::TaskRunner;
use crate::node::udp::BeaconSockets;
use crate::store::{FileStore, Store};
use crate::time::Time;
use crate::wire::datagram::Datagram;
use crate::wire::peers::CellView;

pub(super) struct Driver {
    cell: Cell,
    sockets: BeaconSockets,
    store: Arc<FileStore>,
    started: Instant,
    messages: Receiver<Message>,
    mailbox: Mailbox,
    runner: Arc<TaskRunner>,
    output_queue: OutputQueue,
    /// The save under way.
    save: Option<smol::Task<()>>,
    wake_at: Time,
    log: EventLog,
}

/// What the loop handles next.
enum Next {
    Message(Message),
    Wake,
    /// The save under way has ended.
    Saved,
}

impl Driver {
    /// `own_address` is where other cells reach this one.
    pub(super) fn new(
        cell: Cell,
        sockets: BeaconSockets,
        store: Arc<FileStore>,
        own_address: SocketAddr,
        (mailbox, messages): (Mailbox, Receiver<Message>),
    ) -> Self {
        Self {
            cell,
            sockets,
            runner: Arc::new(TaskRunner::new(Arc::clone(&store) as _, mailbox.clone(), own_address)),
            store,
            started: Instant::now(),
            messages,
            mailbox,
            output_queue: OutputQueue::default(),
            save: None,
            wake_at: Time::default(),
            log: EventLog::new(),
        }
    }

    /// The local copies. All of the node must use these: they share what is known about the disk.
    pub(super) fn copies(&self) -> &LocalCopies {
        self.runner.copies()
    }

    /// Runs until it is dropped. New copies are read back at this rate, in bytes a second.
    pub(super) async fn run(mut self, read_back_rate: u64) {
        let tasks = LocalExecutor::new();
        match self.sockets.receiver() {
            Ok(receiver) => tasks.spawn(datagrams::receive(receiver, self.mailbox.clone())).detach(),
            Err(error) => return log::error!("cannot receive datagrams: {error}"),
        }
        tasks.spawn(self.runner.copies().clone().report_all()).detach();
        tasks.spawn(self.runner.copies().clone().examine_quarantine()).detach();
        tasks.spawn(read_back::run(self.runner.copies().clone(), read_back_rate)).detach();
        tasks.run(self.run_loop(&tasks)).await;
    }

    async fn run_loop(&mut self, tasks: &LocalExecutor<'_>) {
        let mut outputs = Vec::new();
        loop {
            // The tasks must run however many messages there are.
            future::yield_now().await;
            let (input, reply) = match self.next().await {
                Next::Message(Message::Input(input, permit)) => {
                    // Its memory belongs to the core now, which has its own limits.
                    drop(permit);
                    (input, None)
                }
                Next::Message(Message::Apply(input, reply)) => (input, Some(reply)),
                Next::Message(Message::Snapshot(reply)) => {
                    // Fails if the sender has stopped waiting.
                    drop(reply.try_send(self.snapshot()));
                    continue;
                }
                Next::Message(Message::Shared(query, reply)) => {
                    drop(reply.try_send(self.cell.shared(&query)));
                    continue;
                }
                Next::Wake => (Input::Wake(self.store_stats()), None),
                Next::Saved => {
                    self.save = None;
                    self.output_queue.saved();
                    while let Some(step) = self.output_queue.pop() {
                        self.perform(step, tasks);
                    }
                    continue;
                }
            };
            if let Input::Copy(CopyInput::Drain(draining)) = input {
                self.mailbox.set_draining(draining);
            }
            self.cell.handle(self.now(), &input, &mut outputs);
            self.copies().set_failing(self.cell.is_failing());
            for step in outputs.drain(..).map(Step::Perform).chain(reply.map(Step::Reply)) {
                if let Some(step) = self.output_queue.push(step) {
                    self.perform(step, tasks);
                }
            }
        }
    }

    async fn next(&mut self) -> Next {
        // First, so that no flood of messages stops the beacons.
        if self.now() >= self.wake_at {
            return Next::Wake;
        }
        let due = self.started + Duration::from_millis(self.wake_at.0);
        let saved = async {
            match &mut self.save {
                Some(save) => save.await,
                None => future::pending().await,
            }
            Next::Saved
        };
        let message = async {
            match self.messages.recv().await {
                Ok(message) => Next::Message(message),
                // Impossible: the driver has a mailbox itself.
                Err(_) => future::pending().await,
            }
        };
        let wake = async {
            Timer::at(due).await;
            Next::Wake
        };
        future::or(saved, future::or(message, wake)).await
    }

    fn perform(&mut self, step: Step, tasks: &LocalExecutor<'_>) {
        let output = match step {
            Step::Perform(output) => output,
            Step::Reply(reply) => return drop(reply.try_send(self.snapshot())),
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
            Output::Persist(Persist::Copies { chunk, copies }) => self.store.set_copies(&chunk, copies),
            Output::Persist(Persist::State(state)) => {
                self.save = Some(tasks.spawn(saved_state::save(Arc::clone(&self.store), state)));
            }
            Output::Persist(Persist::CellId(id)) => {
                if let Err(error) = self.store.set_cell_id(id) {
                    log::error!("cannot save the new cell id {id}, the old one returns at the next start: {error}");
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

    /// The time of the core.
    fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn store_stats(&self) -> StoreStats {
        let usage = self.store.usage();
        let full = usage.free_bytes < MAX_CHUNK_BYTES as u64;
        let (chunks, free_bytes, read_only) = (usage.chunks, usage.free_bytes, usage.read_only);
        StoreStats { chunks, free_bytes, full, read_only, reads: self.copies().reads() }
    }

    fn snapshot(&self) -> ColonySnapshot {
        let now = self.now();
        let view = |(node_id, member): (CellId, &Member)| CellView {
            node_id,
            url: format!("http://{}", member.address),
            role: member.role,
            status: member.status,
            state: self.cell.presence(now, member),
            free: member.free_bytes(),
            chunks: member.chunks(),
            seen_ms: now.since_ms(member.last_heard),
        };
        ColonySnapshot {
            own: self.cell.beacon(now),
            activity: self.cell.activity(),
            cells: self.cell.members().map(view).collect(),
        }
    }
}
