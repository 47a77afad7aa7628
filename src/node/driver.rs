//! The one loop that owns the cell's core: receive, handle, perform.
//!
//! Everything reaches the core through one bounded inbox. Datagrams that find it full are lost, as datagrams may be;
//! all others wait for a place.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future;
use smol::channel::{Receiver, Sender, bounded};
use smol::lock::Semaphore;
use smol::{LocalExecutor, Timer};

use super::radio::Radio;
use crate::cell::{Answer, Cell, Event, Input, Output, StoreFacts, Time};
use crate::chunk::MAX_CHUNK_BYTES;
use crate::net::client::{CallError, Http, Patience};
use crate::net::discovery::own_address_towards;
use crate::store::FileStore;
use crate::store::Store;
use crate::wire::api::{CellView, Peers, Presence};
use crate::wire::beacon::{Beacon, Datagram, MAX_DATAGRAM_BYTES};

/// Places in the inbox.
const INBOX: usize = 256;
/// Visits under way at once; each takes a thread.
const MAX_VISITS: usize = 8;
/// How long the API waits for a look at the colony before it says that the cell is not well.
const LOOK_PATIENCE: Duration = Duration::from_secs(5);

enum Message {
    Input(Input),
    Look(Sender<Look>),
}

/// The colony as the core sees it at one moment.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// What this cell says of itself.
    pub(super) own: Beacon,
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

/// The way to the driver, for all other threads.
#[derive(Clone)]
pub(super) struct Colony {
    inbox: Sender<Message>,
}

impl Colony {
    /// A colony that always looks the same, and does nothing.
    #[cfg(test)]
    pub(super) fn that_looks_like(look: Look) -> Self {
        let (inbox, messages) = bounded(INBOX);
        std::thread::spawn(move || {
            while let Ok(message) = messages.recv_blocking() {
                if let Message::Look(answer) = message {
                    drop(answer.try_send(look.clone()));
                }
            }
        });
        Self { inbox }
    }

    /// Looks at the colony; `None` if the driver does not answer.
    pub(super) fn look(&self) -> Option<Look> {
        smol::block_on(self.look_async())
    }

    async fn look_async(&self) -> Option<Look> {
        let (answer, answered) = bounded(1);
        let ask = async {
            self.inbox.send(Message::Look(answer)).await.ok()?;
            answered.recv().await.ok()
        };
        future::or(ask, async {
            Timer::after(LOOK_PATIENCE).await;
            None
        })
        .await
    }

    /// Makes the cell behind this door a static peer.
    pub(super) fn join(&self, door: String) {
        // Fails only when the driver is gone, and then nothing matters any more.
        drop(self.inbox.send_blocking(Message::Input(Input::Join { door })));
    }

    /// Tells the colony that this cell leaves. Returns when that was sent.
    pub(super) async fn leave(&self) {
        drop(self.inbox.send(Message::Input(Input::Leave)).await);
        // The driver takes one after the other: once it answers this, it has done that.
        drop(self.look_async().await);
    }
}

pub(super) struct Driver {
    cell: Cell,
    radio: Radio,
    store: Arc<FileStore>,
    door: SocketAddr,
    http: Http,
    started: Instant,
    inbox: Receiver<Message>,
    own_inbox: Sender<Message>,
    visits: Arc<Semaphore>,
}

impl Driver {
    pub(super) fn new(cell: Cell, radio: Radio, store: Arc<FileStore>, door: SocketAddr) -> (Self, Colony) {
        let (own_inbox, inbox) = bounded(INBOX);
        let driver = Self {
            cell,
            radio,
            store,
            door,
            http: Http::new(Patience::PROBE, 1, 32),
            started: Instant::now(),
            inbox,
            own_inbox: own_inbox.clone(),
            visits: Arc::new(Semaphore::new(MAX_VISITS)),
        };
        (driver, Colony { inbox: own_inbox })
    }

    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        let tasks = LocalExecutor::new();
        match self.radio.ears() {
            Ok(ears) => tasks.spawn(listen(ears, self.own_inbox.clone())).detach(),
            Err(error) => return log::error!("cannot hear the colony: {error}"),
        }
        tasks.run(self.receive(&tasks)).await;
    }

    async fn receive(&mut self, tasks: &LocalExecutor<'_>) {
        let mut outputs = Vec::new();
        let mut log = EventLog { since: Instant::now(), told: 0 };
        let mut wake_at = self.now();
        loop {
            let due = self.started + Duration::from_millis(wake_at.0);
            let message = future::or(async { self.inbox.recv().await.ok() }, async {
                Timer::at(due).await;
                None
            });
            let input = match message.await {
                Some(Message::Input(input)) => input,
                Some(Message::Look(answer)) => {
                    // Whoever asked may have stopped waiting.
                    drop(answer.try_send(self.look()));
                    continue;
                }
                None => Input::Wake(self.store_facts()),
            };
            self.cell.handle(self.now(), input, &mut outputs);
            for output in outputs.drain(..) {
                match output {
                    Output::Broadcast(beacon) => self.radio.broadcast(&Datagram::Beacon(beacon).encode()),
                    Output::SendTo(to, beacon) => self.radio.send(to, &Datagram::Beacon(beacon).encode()),
                    Output::Answer(to, beacon) => self.radio.answer(to, &Datagram::Beacon(beacon).encode()),
                    Output::Visit { door, announce } => {
                        let visit = Visit { door, announce, own_door: self.door, http: self.http.clone() };
                        tasks.spawn(visit.perform(self.own_inbox.clone(), Arc::clone(&self.visits))).detach();
                    }
                    Output::WakeAt(time) => wake_at = time,
                    Output::Rename(id) => {
                        if let Err(error) = self.store.set_cell_id(id) {
                            log::error!(
                                "the new name {id} is not kept and will be given up at the next start: {error}"
                            );
                        }
                    }
                    Output::Event(event) => log.tell(&event),
                    _ => {}
                }
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

    fn look(&self) -> Look {
        let now = self.now();
        let view = |(node_id, member): (_, &crate::cell::Member)| CellView {
            node_id,
            url: format!("http://{}", member.door),
            role: member.role,
            status: member.status,
            state: self.cell.presence(now, member),
            free: member.free_bytes,
            chunks: member.chunks,
            seen_ms: now.since_ms(member.last_heard),
        };
        Look { own: self.cell.beacon(now), cells: self.cell.members().map(view).collect() }
    }
}

/// Hears datagrams for ever. What is no datagram of ours is passed over.
async fn listen(ears: async_net::UdpSocket, inbox: Sender<Message>) {
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
        drop(inbox.try_send(Message::Input(input)));
    }
}

/// One look at another cell, over HTTP.
struct Visit {
    door: String,
    announce: bool,
    own_door: SocketAddr,
    http: Http,
}

impl Visit {
    async fn perform(self, inbox: Sender<Message>, places: Arc<Semaphore>) {
        let place = places.acquire().await;
        let (door, answer) = smol::unblock(move || {
            let answer = self.ask();
            (self.door, answer)
        })
        .await;
        drop(place);
        drop(inbox.send(Message::Input(Input::Visited { door, answer })).await);
    }

    fn ask(&self) -> Answer {
        let Some(address) = self.door.to_socket_addrs().ok().and_then(|mut all| all.next()) else {
            return Answer::Nobody;
        };
        let url = format!("http://{address}");
        let status = match self.http.status(&url) {
            Ok(status) => status,
            Err(error) => {
                log::debug!("visit: {error}");
                return if error.is_unreachable() { Answer::Nobody } else { Answer::Somebody };
            }
        };
        if self.announce {
            match self.announce_to(&url, address) {
                Ok(_) => {}
                Err(error) => log::debug!("joining: {error}"),
            }
        }
        Answer::Cell(address, status.beacon)
    }

    fn announce_to(&self, url: &str, address: SocketAddr) -> Result<Peers, CallError> {
        let own = self.own_door.ip();
        let own: IpAddr = if own.is_unspecified() { own_address_towards(address).unwrap_or(own) } else { own };
        self.http.join(url, &format!("http://{}", SocketAddr::new(own, self.own_door.port())))
    }
}

/// Writes events to the log, so many in a while: forged beacons must not fill a card with it.
struct EventLog {
    since: Instant,
    told: u32,
}

/// Events written in one window, and its length. A colony of fifty that starts together is within it.
const MAX_EVENTS: u32 = 200;
const EVENTS_WINDOW: Duration = Duration::from_secs(60);

impl EventLog {
    fn tell(&mut self, event: &Event) {
        if self.since.elapsed() >= EVENTS_WINDOW {
            if let Some(unsaid) = self.told.checked_sub(MAX_EVENTS).filter(|&unsaid| unsaid > 0) {
                log::warn!("{unsaid} more events of the colony were not written to the log");
            }
            (self.since, self.told) = (Instant::now(), 0);
        }
        self.told = self.told.saturating_add(1);
        if self.told <= MAX_EVENTS {
            tell(event);
        }
    }
}

fn tell(event: &Event) {
    match event {
        Event::Active(id, door) => log::info!("cell {} is active at {door}", id.short()),
        Event::Silent(id) => log::info!("cell {} has fallen silent; asking it over HTTP", id.short()),
        Event::Dead(id) => log::warn!("cell {} is dead: silent, and it does not answer", id.short()),
        Event::Left(id) => log::info!("cell {} has left", id.short()),
        Event::Cloned(id, address) => {
            log::warn!(
                "two cells are named {id}, one of them at {address}: was an SD card copied? The newer one takes another name"
            );
        }
        Event::Renamed { from, to } => log::warn!("this cell was named {from} and is now named {to}"),
        Event::Crowded => {
            log::warn!("more than {} cells are heard: the newest are passed over", crate::cell::MAX_MEMBERS);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn visit(door: SocketAddr) -> Answer {
        let http = Http::new(Patience::PROBE, 0, 0);
        Visit { door: door.to_string(), announce: false, own_door: door, http }.ask()
    }

    /// Under a flood of datagrams the loop that listens was the only one that ran: no beacon was sent any more.
    #[test]
    fn after_each_datagram_that_is_heard_the_others_get_their_turn() {
        let ears = smol::Async::<UdpSocket>::bind(([127, 0, 0, 1], 0)).unwrap();
        let (to, flood) = (ears.get_ref().local_addr().unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        for _ in 0..50 {
            flood.send_to(&Datagram::Probe.encode(), to).unwrap();
        }
        let (inbox, heard) = bounded(INBOX);
        let mut listening = std::pin::pin!(listen(ears.into(), inbox));
        smol::block_on(async {
            for taken_in in 0..3 {
                assert!(future::poll_once(&mut listening).await.is_none());
                assert_eq!(heard.len(), taken_in);
            }
        });
    }

    #[test]
    fn a_visit_tells_an_answer_that_is_no_status_from_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let door = listener.local_addr().unwrap();
        for answer in ["503 Service Unavailable", "404 Not Found", "200 OK"] {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let (mut line, _) = listener.accept().unwrap();
                    assert!(line.read(&mut [0; 4096]).unwrap() > 0);
                    write!(line, "HTTP/1.1 {answer}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}").unwrap();
                });
                assert_eq!(visit(door), Answer::Somebody, "{answer}");
            });
        }
        drop(listener);
        assert_eq!(visit(door), Answer::Nobody);
    }
}
