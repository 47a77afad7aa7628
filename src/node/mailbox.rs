//! The driver's mailbox: the bounded queue by which all other threads and tasks reach the driver.
//!
//! Datagrams are dropped when the queue is three quarters full. Every other message waits for a free slot, and the last
//! quarter is reserved for them. The driver never waits for its own queue, so a waiting sender always gets a slot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_lite::future;
use smol::Timer;
use smol::channel::{Receiver, Sender, bounded};
use smol::lock::SemaphoreGuardArc;

#[cfg(test)]
use crate::cell::CopyInput;
use crate::cell::Input;
use crate::wire::beacon::Beacon;
use crate::wire::peers::{CellView, Peers, Presence};
use crate::wire::shared_chunks::{SharedChunk, SharedQuery};
use crate::wire::status::Activity;

/// Slots of the queue.
const SLOTS: usize = 256;
/// Slots that datagrams may take. The others are reserved.
const DATAGRAM_SLOTS: usize = 192;
/// How long to wait for a snapshot before the driver counts as not responding.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(5);
/// The same when the driver has to apply an input first, which can include a write to a slow SD card.
const APPLY_TIMEOUT: Duration = Duration::from_secs(40);

/// A message to the driver.
pub(super) enum Message {
    /// An input for the core. A large one carries the permit for its memory, which is released once the core has taken
    /// it in.
    Input(Input, Option<SemaphoreGuardArc>),
    /// Return a snapshot.
    Snapshot(Sender<ColonySnapshot>),
    /// Return the chunks that this cell and another one hold; `None` if this cell does not know all of its chunks yet.
    Shared(SharedQuery, Sender<Option<Vec<SharedChunk>>>),
    /// Apply an input and return a snapshot once its effects are durable.
    Apply(Input, Sender<ColonySnapshot>),
}

/// The colony at one moment, as the core sees it.
#[derive(Debug, Clone)]
pub(super) struct ColonySnapshot {
    /// This cell's beacon.
    pub(super) own: Beacon,
    /// What this cell is doing: draining, scrubbing, healing.
    pub(super) activity: Activity,
    /// The other cells.
    pub(super) cells: Vec<CellView>,
}

impl ColonySnapshot {
    /// The response to `GET /peers`.
    pub(super) fn peers(&self) -> Peers {
        Peers { peers: self.active().map(|cell| cell.url.clone()).collect(), cells: self.cells.clone() }
    }

    /// The other cells that are active.
    pub(super) fn active(&self) -> impl Iterator<Item = &CellView> {
        self.cells.iter().filter(|cell| cell.state == Presence::Active)
    }
}

/// A handle to the driver. Clones share one queue.
#[derive(Clone)]
pub(super) struct Mailbox {
    queue: Sender<Message>,
    draining: Arc<AtomicBool>,
}

impl Mailbox {
    /// A mailbox and the end from which the driver receives. `draining` is whether the cell was draining when it last
    /// stopped.
    pub(super) fn new(draining: bool) -> (Self, Receiver<Message>) {
        let (queue, messages) = bounded(SLOTS);
        (Self { queue, draining: Arc::new(AtomicBool::new(draining)) }, messages)
    }

    /// Whether this cell is draining and therefore accepts no chunks.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Called by the driver, before an input that changes it takes effect.
    pub(super) fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Ordering::SeqCst);
    }

    /// A snapshot of the colony; `None` if the driver does not respond. Blocks.
    pub(super) fn snapshot(&self) -> Option<ColonySnapshot> {
        smol::block_on(self.snapshot_async())
    }

    /// [`Mailbox::snapshot`], for tasks.
    pub(super) async fn snapshot_async(&self) -> Option<ColonySnapshot> {
        self.request(Message::Snapshot, SNAPSHOT_TIMEOUT).await
    }

    /// Has the core handle an input, and returns a snapshot once the effects survive a restart; `None` if the driver does
    /// not respond in time. Blocks.
    pub(super) fn apply(&self, input: Input) -> Option<ColonySnapshot> {
        smol::block_on(self.request(|reply| Message::Apply(input, reply), APPLY_TIMEOUT))
    }

    /// The chunks that this cell and another one hold; `None` if this cell does not know all of its chunks yet, or the
    /// driver does not respond. Blocks.
    pub(super) fn shared(&self, query: SharedQuery) -> Option<Vec<SharedChunk>> {
        smol::block_on(self.request(|reply| Message::Shared(query, reply), SNAPSHOT_TIMEOUT)).flatten()
    }

    async fn request<T>(&self, message: impl FnOnce(Sender<T>) -> Message, timeout: Duration) -> Option<T> {
        let (reply, replies) = bounded(1);
        let request = async {
            self.queue.send(message(reply)).await.ok()?;
            replies.recv().await.ok()
        };
        future::or(request, async {
            Timer::after(timeout).await;
            None
        })
        .await
    }

    /// Sends an input to the core. It is never lost. Blocks while the queue is full.
    pub(super) fn send(&self, input: Input) {
        // Fails only if the driver is gone, and then the process is about to end.
        drop(self.queue.send_blocking(Message::Input(input, None)));
    }

    /// [`Mailbox::send`] for a large input, with the permit for the memory that it takes until the core has it.
    pub(super) fn send_large(&self, input: Input, permit: Option<SemaphoreGuardArc>) {
        drop(self.queue.send_blocking(Message::Input(input, permit)));
    }

    /// [`Mailbox::send`], for tasks.
    pub(super) async fn send_async(&self, input: Input) {
        drop(self.queue.send(Message::Input(input, None)).await);
    }

    /// Sends what a datagram contained, or drops it if the queue is three quarters full.
    pub(super) fn send_datagram(&self, input: Input) {
        if self.queue.len() < DATAGRAM_SLOTS {
            drop(self.queue.try_send(Message::Input(input, None)));
        }
    }

    /// Announces to the colony that this cell leaves. Returns once the announcement was sent.
    pub(super) async fn leave(&self) {
        self.send_async(Input::Shutdown).await;
        // The driver handles its messages in order: when it answers this one, it has sent the announcement.
        drop(self.snapshot_async().await);
    }
}

#[cfg(test)]
impl ColonySnapshot {
    /// The snapshot of a cell that holds no chunks and has no peers.
    pub(super) fn of_lone_cell() -> Self {
        let own = Beacon {
            node_id: crate::id::CellId::from_bytes([0; 16]),
            port: 1,
            status: crate::wire::beacon::Status::Active,
            v: None,
            boot: None,
            role: crate::wire::beacon::Role::Storage,
            chunks: None,
            free: None,
            cells: None,
            clean_s: None,
        };
        Self { own, activity: Activity::default(), cells: Vec::new() }
    }
}

/// The next input that the stub recorded; `None` when no mailbox is left that could send one.
#[cfg(test)]
pub(super) fn next_input(inputs: &Receiver<Input>) -> Option<Input> {
    smol::block_on(future::or(async { inputs.recv().await.ok() }, async {
        Timer::after(Duration::from_secs(20)).await;
        panic!("no input within 20 s")
    }))
}

#[cfg(test)]
impl Mailbox {
    /// A mailbox with a stub for the driver: it answers every request with `snapshot` and does nothing with the inputs but
    /// record them at the other end.
    pub(super) fn stub(snapshot: ColonySnapshot) -> (Self, Receiver<Input>) {
        let (mailbox, messages) = Self::new(false);
        let (record, inputs) = smol::channel::unbounded();
        let draining = Arc::clone(&mailbox.draining);
        std::thread::spawn(move || {
            while let Ok(message) = messages.recv_blocking() {
                let (input, reply) = match message {
                    Message::Input(input, _permit) => (Some(input), None),
                    Message::Apply(input, reply) => (Some(input), Some(reply)),
                    Message::Snapshot(reply) => (None, Some(reply)),
                    Message::Shared(_, reply) => {
                        drop(reply.try_send(None));
                        continue;
                    }
                };
                if let Some(Input::Copy(CopyInput::Drain(drain))) = input {
                    draining.store(drain, Ordering::SeqCst);
                }
                // A test need not read the inputs.
                if let Some(input) = input {
                    drop(record.try_send(input));
                }
                if let Some(reply) = reply {
                    drop(reply.try_send(snapshot.clone()));
                }
            }
        });
        (mailbox, inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ChunkId;

    /// A flood of forged beacons once kept out what the store had to report.
    #[test]
    fn datagrams_leave_slots_for_other_messages() {
        let (mailbox, messages) = Mailbox::new(false);
        for _ in 0..2 * SLOTS {
            mailbox.send_datagram(Input::Shutdown);
        }
        assert_eq!(messages.len(), DATAGRAM_SLOTS);
        for _ in DATAGRAM_SLOTS..SLOTS {
            let sent =
                smol::block_on(future::poll_once(mailbox.send_async(Input::Copy(CopyInput::Gone(ChunkId::of(b""))))));
            assert!(sent.is_some(), "it has to wait");
        }
    }
}
