//! A bad cell: it sends beacons and answers requests as any other cell, accepts every chunk, and stores none. Of a chunk
//! it returns other bytes, or sends them one at a time.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use cellsync::id::{CellId, ChunkId};
use cellsync::net::udp::LOOPBACK_BROADCAST;
use cellsync::wire::beacon::{Beacon, Boot, Role, Status};
use cellsync::wire::datagram::Datagram;

/// It runs until it is dropped.
pub(crate) struct BadCell {
    pub(crate) id: CellId,
    address: SocketAddr,
    accepted: Arc<Mutex<BTreeSet<ChunkId>>>,
    trickle: Option<Arc<Trickle>>,
    is_stopped: Arc<AtomicBool>,
}

/// How many chunks were requested from a cell that sends a byte at a time.
#[derive(Default)]
struct Trickle {
    requested: AtomicUsize,
    /// Requests whose client closed the connection.
    abandoned: AtomicUsize,
}

impl BadCell {
    /// Starts one with a random id.
    pub(crate) fn start(udp_port: u16) -> Self {
        Self::start_as(CellId::from_random(fastrand::u128(..).to_le_bytes()), udp_port)
    }

    /// Starts one with this id.
    pub(crate) fn start_as(id: CellId, udp_port: u16) -> Self {
        Self::start_with(id, udp_port, None)
    }

    /// Starts one that claims to have every chunk and sends a byte of it now and then.
    pub(crate) fn start_trickling(udp_port: u16) -> Self {
        Self::start_with(CellId::from_random(fastrand::u128(..).to_le_bytes()), udp_port, Some(Arc::default()))
    }

    fn start_with(id: CellId, udp_port: u16, trickle: Option<Arc<Trickle>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let beacon = Beacon {
            node_id: id,
            port: address.port(),
            status: Status::Active,
            v: Some(1),
            boot: Some(Boot(1)),
            role: Role::Storage,
            chunks: Some(1),
            free: Some(1 << 40),
            cells: None,
            clean_s: None,
        };
        let (accepted, is_stopped) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let cell = Self {
            id,
            address,
            accepted: Arc::clone(&accepted),
            trickle: trickle.clone(),
            is_stopped: Arc::clone(&is_stopped),
        };
        thread::spawn({
            let (datagram, is_stopped) = (Datagram::Beacon(beacon.clone()).encode(), Arc::clone(&is_stopped));
            move || {
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                socket.set_broadcast(true).unwrap();
                while !is_stopped.load(Ordering::SeqCst) {
                    // A beacon that cannot be sent is lost, like any other.
                    drop(socket.send_to(&datagram, (LOOPBACK_BROADCAST, udp_port)));
                    thread::sleep(Duration::from_millis(300));
                }
            }
        });
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                if is_stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (accepted, beacon, trickle) = (Arc::clone(&accepted), beacon.clone(), trickle.clone());
                // The peer may close the connection at any time.
                thread::spawn(move || drop(serve(&connection, &accepted, &beacon, trickle.as_deref())));
            }
        });
        cell
    }

    /// How often a chunk was requested, and how many of these requests the client has abandoned.
    pub(crate) fn trickled(&self) -> (usize, usize) {
        let trickle = self.trickle.as_ref().unwrap();
        (trickle.requested.load(Ordering::SeqCst), trickle.abandoned.load(Ordering::SeqCst))
    }

    /// The chunks that it has accepted.
    pub(crate) fn accepted(&self) -> BTreeSet<ChunkId> {
        self.accepted.lock().unwrap().clone()
    }
}

impl Drop for BadCell {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts connections.
        drop(TcpStream::connect(self.address));
    }
}

/// Serves the requests on one connection.
fn serve(
    mut connection: &TcpStream,
    accepted: &Mutex<BTreeSet<ChunkId>>,
    beacon: &Beacon,
    trickle: Option<&Trickle>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    loop {
        let (mut first, mut len) = (String::new(), 0);
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        loop {
            let mut field = String::new();
            reader.read_line(&mut field)?;
            if field.trim().is_empty() {
                break;
            }
            if let Some(value) = field.to_ascii_lowercase().strip_prefix("content-length:") {
                len = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; len];
        reader.read_exact(&mut body)?;
        let mut words = first.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let id = path.strip_prefix("/chunk/").and_then(|id| id.parse::<ChunkId>().ok());
        if let ("GET", Some(_), Some(trickle)) = (method, id, trickle) {
            trickle.requested.fetch_add(1, Ordering::SeqCst);
            let mut sent = write!(connection, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1 << 20);
            while sent.is_ok() {
                thread::sleep(Duration::from_millis(100));
                sent = connection.write_all(b"x");
            }
            trickle.abandoned.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        let response = match (method, path, id) {
            ("PUT", _, Some(id)) => {
                accepted.lock().unwrap().insert(id);
                Vec::new()
            }
            ("GET", _, Some(_)) => b"not the bytes that were put".to_vec(),
            ("POST", "/chunks/have", _) => body,
            ("GET", "/chunks", _) => {
                let after = query.split('&').find_map(|pair| pair.strip_prefix("after=")?.parse().ok());
                let accepted = accepted.lock().unwrap();
                let next = accepted.iter().find(|id| after.is_none_or(|after| **id > after)).map(ChunkId::to_string);
                next.unwrap_or_default().into_bytes()
            }
            ("GET", "/status", _) => serde_json::to_vec(beacon)?,
            _ => b"{}".to_vec(),
        };
        write!(connection, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", response.len())?;
        connection.write_all(if method == "HEAD" { &[] } else { &response })?;
    }
}
