//! The way to the driver, for all other threads and tasks: one bounded inbox.
//!
//! Datagrams that find it well filled are lost, as datagrams may be; all others wait for a place, of which some are
//! kept free of datagrams. The driver itself never waits for its own inbox, so whoever waits gets a place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_lite::future;
use smol::Timer;
use smol::channel::{Receiver, Sender, bounded};
use smol::lock::SemaphoreGuardArc;

use crate::cell::Input;
use crate::wire::api::{CellView, Life, Peers, Presence};
use crate::wire::beacon::Beacon;

/// Places in the inbox, and how many of them datagrams may take.
const INBOX: usize = 256;
const FOR_DATAGRAMS: usize = 192;
/// How long the API waits for a look at the colony before it says that the cell is not well.
const LOOK_PATIENCE: Duration = Duration::from_secs(5);
/// How long it waits for something to be done first, which may include a write to a slow card.
const DEED_PATIENCE: Duration = Duration::from_secs(40);

/// What the driver is told or asked.
pub(super) enum Message {
    /// Something happened. What is large comes with a place, which is given back when the core has taken it in.
    Input(Input, Option<SemaphoreGuardArc>),
    /// How does the colony look?
    Look(Sender<Look>),
    /// Something is to be done; how does the colony look once it is, and is safe?
    Do(Input, Sender<Look>),
}

/// The colony as the core sees it at one moment.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// What this cell says of itself.
    pub(super) own: Beacon,
    /// What it does besides being there.
    pub(super) life: Life,
    /// The other cells.
    pub(super) cells: Vec<CellView>,
}

impl Look {
    /// As `GET /peers` tells it.
    pub(super) fn peers(&self) -> Peers {
        Peers { peers: self.active().map(|cell| cell.url.clone()).collect(), cells: self.cells.clone() }
    }

    /// The cells that are there.
    pub(super) fn active(&self) -> impl Iterator<Item = &CellView> {
        self.cells.iter().filter(|cell| cell.state == Presence::Active)
    }
}

/// The way to the driver.
#[derive(Clone)]
pub(super) struct Colony {
    inbox: Sender<Message>,
    draining: Arc<AtomicBool>,
}

impl Colony {
    /// A way to a driver, which gets the other end. `draining` is whether the cell starts as one that drains.
    pub(super) fn new(draining: bool) -> (Self, Receiver<Message>) {
        let (inbox, messages) = bounded(INBOX);
        (Self { inbox, draining: Arc::new(AtomicBool::new(draining)) }, messages)
    }

    /// Is this cell to take no chunks, since it hands on those it has?
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// For the driver, before anything else hears of it.
    pub(super) fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Ordering::SeqCst);
    }

    /// Looks at the colony; `None` if the driver does not answer.
    pub(super) fn look(&self) -> Option<Look> {
        smol::block_on(self.look_async())
    }

    pub(super) async fn look_async(&self) -> Option<Look> {
        self.ask(Message::Look, LOOK_PATIENCE).await
    }

    /// Has something done, and looks at the colony when that is safe across restarts; `None` if it takes too long.
    pub(super) fn carry_out(&self, input: Input) -> Option<Look> {
        smol::block_on(self.ask(|answer| Message::Do(input, answer), DEED_PATIENCE))
    }

    async fn ask(&self, question: impl FnOnce(Sender<Look>) -> Message, patience: Duration) -> Option<Look> {
        let (answer, answered) = bounded(1);
        let ask = async {
            self.inbox.send(question(answer)).await.ok()?;
            answered.recv().await.ok()
        };
        future::or(ask, async {
            Timer::after(patience).await;
            None
        })
        .await
    }

    /// Tells the core what happened, and waits for a place if need be: this is never lost. For threads that may block.
    pub(super) fn tell(&self, input: Input) {
        // Fails only when the driver is gone, and then nothing matters any more.
        drop(self.inbox.send_blocking(Message::Input(input, None)));
    }

    /// The same for something large, with the place that it takes until the core has it.
    pub(super) fn tell_large(&self, input: Input, place: Option<SemaphoreGuardArc>) {
        drop(self.inbox.send_blocking(Message::Input(input, place)));
    }

    /// The same for tasks.
    pub(super) async fn bring(&self, input: Input) {
        drop(self.inbox.send(Message::Input(input, None)).await);
    }

    /// Tells the core what a datagram said, unless it has much to do.
    pub(super) fn hint(&self, input: Input) {
        if self.inbox.len() < FOR_DATAGRAMS {
            drop(self.inbox.try_send(Message::Input(input, None)));
        }
    }

    /// Tells the colony that this cell leaves. Returns when that was sent.
    pub(super) async fn leave(&self) {
        self.bring(Input::Leave).await;
        // The driver takes one after the other: once it answers this, it has done that.
        drop(self.look_async().await);
    }
}

#[cfg(test)]
impl Look {
    /// A cell that is alone and has nothing.
    pub(super) fn nobody() -> Self {
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
        Self { own, life: Life::default(), cells: Vec::new() }
    }
}

/// What the core hears next; `None` when nobody is left who could tell it anything.
#[cfg(test)]
pub(super) fn hear(heard: &Receiver<Input>) -> Option<Input> {
    smol::block_on(future::or(async { heard.recv().await.ok() }, async {
        Timer::after(Duration::from_secs(20)).await;
        panic!("the core hears nothing")
    }))
}

#[cfg(test)]
impl Colony {
    /// A colony that always looks the same, and does nothing. What it is told can be heard at the other end.
    pub(super) fn that_looks_like(look: Look) -> (Self, Receiver<Input>) {
        let (colony, messages) = Self::new(false);
        let (overheard, hears) = smol::channel::unbounded();
        let drains = Arc::clone(&colony.draining);
        std::thread::spawn(move || {
            while let Ok(message) = messages.recv_blocking() {
                let (input, answer) = match message {
                    Message::Input(input, _place) => (Some(input), None),
                    Message::Do(input, answer) => (Some(input), Some(answer)),
                    Message::Look(answer) => (None, Some(answer)),
                };
                if let Some(Input::Drain(draining)) = input {
                    drains.store(draining, Ordering::SeqCst);
                }
                // Nobody has to listen.
                if let Some(input) = input {
                    drop(overheard.try_send(input));
                }
                if let Some(answer) = answer {
                    drop(answer.try_send(look.clone()));
                }
            }
        });
        (colony, hears)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ChunkId;

    /// A flood of forged beacons kept out what the disk has to say.
    #[test]
    fn datagrams_leave_places_in_the_inbox_to_those_who_must_be_heard() {
        let (colony, messages) = Colony::new(false);
        for _ in 0..2 * INBOX {
            colony.hint(Input::Leave);
        }
        assert_eq!(messages.len(), FOR_DATAGRAMS);
        for _ in FOR_DATAGRAMS..INBOX {
            let told = smol::block_on(future::poll_once(colony.bring(Input::Gone(ChunkId::of(b"")))));
            assert!(told.is_some(), "it need not wait");
        }
    }
}
