//! The one loop that owns the cell's core: receive, handle, perform.
//!
//! What takes time is done elsewhere ([`TaskRunner`], [`Visit`]) and comes back through the inbox ([`Mailbox`]). The loop
//! itself waits for nothing but its inbox, so neither can ever wait for the other.

// A shell: its clock is the core's time.
#![allow(clippy::disallowed_methods)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future;
use smol::channel::{Receiver, Sender};
use smol::lock::Semaphore;
use smol::{LocalExecutor, Task, Timer};

use crate::cell::{Cell, Input, Memory, Output, StoreFacts};
use crate::id::MAX_CHUNK_BYTES;
use crate::net::client::{Http, Timeouts};
use crate::node::event_log::EventLog;
use crate::node::mailbox::{ColonySnapshot, Mailbox, Message};
use crate::node::tasks::TaskRunner;
use crate::node::tasks::probe::Visit;
use crate::node::udp::BeaconSockets;
use crate::store::{FileStore, Store};
use crate::time::Time;
use crate::wire::api::CellView;
use crate::wire::beacon::{Datagram, MAX_DATAGRAM_BYTES};

/// Visits under way at once; each takes a thread.
const MAX_VISITS: usize = 16;
/// After so long what was to be kept is given up: a disk that hangs must not stop the cell from all it does.
const KEEP_LIMIT: Duration = Duration::from_secs(30);

/// One thing to be done.
#[derive(Debug)]
enum Deed {
    Perform(Output),
    /// Tell somebody how the colony looks, now that everything before this is done.
    Answer(Sender<ColonySnapshot>),
}

impl Deed {
    /// May others see it only when what must not be forgotten is safe? Signs of life may not be late: whoever misses
    /// them takes the cell for dead.
    fn waits(&self) -> bool {
        !matches!(
            self,
            Self::Perform(
                Output::Broadcast(_)
                    | Output::SendTo(..)
                    | Output::Answer(..)
                    | Output::Visit { .. }
                    | Output::WakeAt(_)
                    | Output::Event(_)
            )
        )
    }
}

/// What is to be done, in order: nothing that waits overtakes an [`Output::Keep`].
#[derive(Debug, Default)]
struct InOrder {
    keeping: bool,
    waiting: VecDeque<Deed>,
}

impl InOrder {
    /// Takes in what is to be done, and gives it back if that can be at once.
    fn admit(&mut self, deed: Deed) -> Option<Deed> {
        if self.keeping && deed.waits() {
            self.waiting.push_back(deed);
            return None;
        }
        Some(self.passed(deed))
    }

    /// What was to be kept is safe: what can be done next. To be asked until there is nothing more.
    fn next(&mut self) -> Option<Deed> {
        if self.keeping {
            return None;
        }
        let deed = self.waiting.pop_front()?;
        Some(self.passed(deed))
    }

    fn passed(&mut self, deed: Deed) -> Deed {
        self.keeping |= matches!(deed, Deed::Perform(Output::Keep(_)));
        deed
    }
}

pub(super) struct Driver {
    cell: Cell,
    sockets: BeaconSockets,
    store: Arc<FileStore>,
    door: SocketAddr,
    http: Http,
    started: Instant,
    inbox: Receiver<Message>,
    mailbox: Mailbox,
    visits: Arc<Semaphore>,
    runner: Arc<TaskRunner>,
    in_order: InOrder,
    keeping: Option<Task<()>>,
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
            runner: Arc::new(TaskRunner::new(Arc::clone(&store) as _, mailbox.clone())),
            store,
            door,
            http: Http::new(Timeouts::PROBE, 1, 32),
            started: Instant::now(),
            inbox,
            mailbox,
            visits: Arc::new(Semaphore::new(MAX_VISITS)),
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
                    while let Some(deed) = self.in_order.next() {
                        self.perform(deed, tasks);
                    }
                    continue;
                }
            };
            if let Input::Drain(draining) = input {
                self.mailbox.set_draining(draining);
            }
            self.cell.handle(self.now(), &input, &mut outputs);
            for deed in outputs.drain(..).map(Deed::Perform).chain(answer.map(Deed::Answer)) {
                if let Some(deed) = self.in_order.admit(deed) {
                    self.perform(deed, tasks);
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

    fn perform(&mut self, deed: Deed, tasks: &LocalExecutor<'_>) {
        let output = match deed {
            Deed::Perform(output) => output,
            Deed::Answer(answer) => return drop(answer.try_send(self.snapshot())),
        };
        match output {
            Output::Broadcast(beacon) => self.sockets.broadcast(&Datagram::Beacon(beacon).encode()),
            Output::SendTo(to, beacon) => self.sockets.send_to_cell(to, &Datagram::Beacon(beacon).encode()),
            Output::Answer(to, beacon) => self.sockets.send_to(to, &Datagram::Beacon(beacon).encode()),
            Output::Visit { door, announce } => {
                let visit = Visit { door, announce, own_door: self.door, http: self.http.clone() };
                tasks.spawn(visit.perform(self.mailbox.clone(), Arc::clone(&self.visits))).detach();
            }
            Output::WakeAt(time) => self.wake_at = time,
            Output::Rename(id) => {
                if let Err(error) = self.store.set_cell_id(id) {
                    log::error!("the new name {id} is not kept and will be given up at the next start: {error}");
                }
            }
            Output::Note { chunk, holders } => self.store.set_holders(&chunk, &holders),
            Output::Keep(memory) => self.keeping = Some(tasks.spawn(keep(Arc::clone(&self.store), memory))),
            Output::Event(event) => self.log.tell(&event),
            errand => {
                if let Output::Alert { alert, .. } = &errand {
                    self.sockets.broadcast(&Datagram::Alert(*alert).encode());
                }
                tasks.spawn(Arc::clone(&self.runner).perform(errand)).detach();
            }
        }
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn store_facts(&self) -> StoreFacts {
        let usage = self.store.usage();
        StoreFacts {
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
            life: self.cell.life(),
            cells: self.cell.members().map(view).collect(),
        }
    }
}

/// What the cell last kept; nothing if it is damaged, which is no reason not to start.
pub(super) fn remembered(store: &dyn Store) -> Memory {
    let kept = match store.load_state() {
        Ok(Some(kept)) => kept,
        Ok(None) => return Memory::default(),
        Err(error) => {
            log::warn!("what this cell remembers cannot be read, and it starts without: {error}");
            return Memory::default();
        }
    };
    serde_json::from_slice(&kept).unwrap_or_else(|error| {
        log::warn!("what this cell remembers is damaged, and it starts without: {error}");
        Memory::default()
    })
}

async fn keep(store: Arc<FileStore>, memory: Memory) {
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
            Ok(Datagram::Beacon(beacon)) => Input::Heard { from: from.ip(), beacon },
            Ok(Datagram::Probe) => Input::Probed { by: from },
            Ok(Datagram::Alert(alert)) => Input::Alerted(alert),
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
    use crate::cell::Event;
    use crate::id::ChunkId;
    use crate::store::MemoryStore;

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

    fn keeps(draining: bool) -> Deed {
        Deed::Perform(Output::Keep(Memory { draining, ..Memory::default() }))
    }

    fn checks(n: u8) -> Deed {
        Deed::Perform(Output::Verify(ChunkId::from_bytes([n; 32])))
    }

    #[test]
    fn nothing_is_done_before_what_must_not_be_forgotten_is_safe_but_give_signs_of_life() {
        let mut order = InOrder::default();
        assert!(order.admit(checks(1)).is_some());
        assert!(order.admit(keeps(true)).is_some());
        for held_back in [checks(2), keeps(false), checks(3)] {
            assert!(order.admit(held_back).is_none());
        }
        for passed in [Output::WakeAt(Time(7)), Output::Event(Event::Crowded)] {
            assert!(order.admit(Deed::Perform(passed)).is_some());
        }
        assert!(order.next().is_none(), "it is not safe yet");

        order.keeping = false;
        assert!(matches!(order.next(), Some(Deed::Perform(Output::Verify(id))) if id.shard() == 2));
        assert!(matches!(order.next(), Some(Deed::Perform(Output::Keep(Memory { draining: false, .. })))));
        assert!(order.next().is_none(), "and now this is not");
        order.keeping = false;
        assert!(matches!(order.next(), Some(Deed::Perform(Output::Verify(id))) if id.shard() == 3));
        assert!(order.next().is_none());
        assert!(order.admit(checks(4)).is_some());
    }

    #[test]
    fn a_damaged_memory_is_an_empty_one() {
        let store = MemoryStore::new(0);
        assert_eq!(remembered(&store), Memory::default());
        let memory = Memory { draining: true, ..Memory::default() };
        store.save_state(&serde_json::to_vec(&memory).unwrap()).unwrap();
        assert_eq!(remembered(&store), memory);
        store.save_state(b"{\"draining\":tr").unwrap();
        assert_eq!(remembered(&store), Memory::default());
    }
}
