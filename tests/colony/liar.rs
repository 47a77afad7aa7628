//! A cell that lies: it beacons and answers like any other, takes every chunk, and has kept none of them.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use cellsync::id::CellId;
use cellsync::id::ChunkId;
use cellsync::net::udp::LOOPBACK_BROADCAST;
use cellsync::wire::beacon::{Beacon, Boot, Role, Status};
use cellsync::wire::datagram::Datagram;

pub(crate) struct Liar {
    pub(crate) id: CellId,
    pub(crate) door: SocketAddr,
    taken: Arc<Mutex<BTreeSet<ChunkId>>>,
    ended: Arc<AtomicBool>,
}

impl Liar {
    /// It lives until it is dropped.
    pub(crate) fn start(udp_port: u16) -> Self {
        Self::start_as(CellId::from_random(fastrand::u128(..).to_le_bytes()), udp_port)
    }

    /// The same, with this id.
    pub(crate) fn start_as(id: CellId, udp_port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let door = listener.local_addr().unwrap();
        let beacon = Beacon {
            node_id: id,
            port: door.port(),
            status: Status::Active,
            v: Some(1),
            boot: Some(Boot(1)),
            role: Role::Storage,
            chunks: Some(1),
            free: Some(1 << 40),
            cells: None,
            clean_s: None,
        };
        let (taken, ended) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let liar = Self { id, door, taken: Arc::clone(&taken), ended: Arc::clone(&ended) };
        thread::spawn({
            let (words, ended) = (Datagram::Beacon(beacon.clone()).encode(), Arc::clone(&ended));
            move || {
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                socket.set_broadcast(true).unwrap();
                while !ended.load(Ordering::SeqCst) {
                    // A beacon that is not sent is lost, like any other.
                    drop(socket.send_to(&words, (LOOPBACK_BROADCAST, udp_port)));
                    thread::sleep(Duration::from_millis(300));
                }
            }
        });
        thread::spawn(move || {
            for line in listener.incoming().flatten() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (taken, beacon) = (Arc::clone(&taken), beacon.clone());
                // Whoever hangs up is no concern of ours.
                thread::spawn(move || drop(answer(&line, &taken, &beacon)));
            }
        });
        liar
    }

    /// The chunks that it was given.
    pub(crate) fn taken(&self) -> BTreeSet<ChunkId> {
        self.taken.lock().unwrap().clone()
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.door));
    }
}

fn answer(line: &TcpStream, taken: &Mutex<BTreeSet<ChunkId>>, beacon: &Beacon) -> std::io::Result<()> {
    let mut reader = BufReader::new(line.try_clone()?);
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
        let said = match (method, path, id) {
            ("PUT", _, Some(id)) => {
                taken.lock().unwrap().insert(id);
                Vec::new()
            }
            ("GET", _, Some(_)) => b"these are not the bytes that you have given me".to_vec(),
            ("POST", "/chunks/have", _) => body,
            ("GET", "/chunks", _) => {
                let after = query.split('&').find_map(|pair| pair.strip_prefix("after=")?.parse().ok());
                let taken = taken.lock().unwrap();
                let next = taken.iter().find(|id| after.is_none_or(|after| **id > after)).map(ChunkId::to_string);
                next.unwrap_or_default().into_bytes()
            }
            ("GET", "/status", _) => serde_json::to_vec(beacon)?,
            _ => b"{}".to_vec(),
        };
        let mut line = line;
        write!(line, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", said.len())?;
        line.write_all(if method == "HEAD" { &[] } else { &said })?;
    }
}
