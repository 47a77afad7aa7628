//! Requests to a real gateway and backend on loopback, with an [`Api`] over an empty store in memory and a stub for the
//! driver.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use smol::channel::Receiver;

use super::*;
use crate::cell::{CopyInput, Input};
use crate::id::{CellId, ChunkId};
use crate::net::{Backend, GatewayLimits};
use crate::node::gateway::GatewayThread;
use crate::node::mailbox::next_input;
use crate::store::MemoryStore;
use crate::wire::datagram::Alert;
use crate::wire::holder_hints::HolderHint;
use crate::wire::id_lists::write_ids;

const TIMEOUT: Duration = Duration::from_secs(10);

struct TestCell {
    api: Arc<Api>,
    address: SocketAddr,
    /// What reaches the core.
    inputs: Receiver<Input>,
}

/// Runs `test` with a cell, and stops the cell afterwards.
fn with_cell(test: impl FnOnce(&TestCell)) {
    let (mailbox, inputs) = Mailbox::stub(ColonySnapshot::of_lone_cell());
    let copies = LocalCopies::new(Arc::new(MemoryStore::new(1 << 20)), mailbox.clone());
    let api = Arc::new(Api::new(copies, mailbox));
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start(&[folder.path().to_owned()], Arc::clone(&api) as _, 16).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let gateway = GatewayThread::start(listener, backend.upstream(), GatewayLimits::default(), Duration::ZERO).unwrap();
    test(&TestCell { api, address, inputs });
    smol::block_on(gateway.stop()).unwrap();
    backend.stop(TIMEOUT);
}

/// Sends a request and returns the connection on which the response comes.
fn send_request(address: SocketAddr, method: &str, target: &str, body: &[u8]) -> TcpStream {
    let mut connection = TcpStream::connect(address).unwrap();
    let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    connection.write_all(&[head.as_bytes(), body].concat()).unwrap();
    connection
}

/// Sends a request and returns the status of the response.
fn status_of(address: SocketAddr, method: &str, target: &str, body: &[u8]) -> u16 {
    let mut connection = send_request(address, method, target, body);
    connection.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut start = [0; 12];
    connection.read_exact(&mut start).unwrap();
    str::from_utf8(&start[9..]).unwrap().parse().unwrap()
}

/// Sends all but the last byte of a `POST /chunks/have` with this many ids.
fn begin_have(address: SocketAddr, ids: usize) -> TcpStream {
    let lines = write_ids(&vec![ChunkId::of(b"x"); ids]);
    let mut connection = TcpStream::connect(address).unwrap();
    write!(connection, "POST /chunks/have HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", lines.len()).unwrap();
    connection.write_all(&lines.as_bytes()[..lines.len() - 1]).unwrap();
    connection
}

/// Sends the last byte. Returns whether a response with status 200 comes within `timeout`.
fn finish_have(mut connection: &TcpStream, timeout: Duration) -> bool {
    let _ = connection.write_all(b"\n");
    connection.set_read_timeout(Some(timeout)).unwrap();
    let mut start = [0; 12];
    connection.read_exact(&mut start).is_ok_and(|()| start == *b"HTTP/1.1 200")
}

fn has_response(mut connection: &TcpStream) -> bool {
    connection.set_read_timeout(Some(TIMEOUT)).unwrap();
    connection.read(&mut [0; 12]).unwrap() > 0
}

/// Before there was a limit, sixty lists of 2 MiB took 159 MB of memory.
#[test]
fn long_lists_wait_for_a_permit_and_short_ones_do_not() {
    const LONG: usize = 2_000;
    with_cell(|&TestCell { address, .. }| {
        let slow: Vec<_> = (0..MAX_LONG_LISTS).map(|_| begin_have(address, LONG)).collect();
        let next = begin_have(address, LONG);
        assert!(!finish_have(&next, Duration::from_millis(500)), "one long list too many is read");
        assert!(finish_have(&begin_have(address, 100), TIMEOUT));
        for connection in &slow {
            assert!(finish_have(connection, TIMEOUT));
        }
        assert!(has_response(&next));
    });
}

#[test]
fn requests_reach_the_core_as_inputs() {
    with_cell(|TestCell { address, inputs, .. }| {
        let request = |method: &str, target: &str, body: &[u8]| {
            assert_eq!(status_of(*address, method, target, body), 200, "{method} {target}");
            match next_input(inputs).unwrap() {
                Input::Copy(input) => input,
                other => panic!("{other:?}"),
            }
        };
        let (chunk, culprit) = (ChunkId::of(b"x"), CellId::from_bytes([2; 16]));
        let alert = Alert { node_id: CellId::from_bytes([1; 16]), culprit, chunk, found: ChunkId::of(b"y") };
        let input = request("POST", "/alert", &serde_json::to_vec(&alert).unwrap());
        assert!(matches!(input, CopyInput::Alert(received) if received == alert));
        let input = request("POST", "/chunks/holders", format!("{chunk} {culprit}\n").as_bytes());
        let hint = HolderHint { id: chunk, holders: vec![culprit] };
        assert!(matches!(input, CopyInput::Hints(hints) if hints == [hint]));
        assert!(matches!(request("POST", "/scrub", b""), CopyInput::Scrub));
        assert!(matches!(request("POST", "/drain", b""), CopyInput::Drain(true)));
        assert!(matches!(request("DELETE", "/drain", b""), CopyInput::Drain(false)));
        let input = request("PUT", &format!("/chunk/{chunk}"), b"x");
        assert!(matches!(input, CopyInput::Present(copies) if copies[0].id == chunk && copies[0].copies == 5));
    });
}

/// Each of these requests reads up to sixteen copies completely.
#[test]
fn a_third_verification_waits_and_other_requests_do_not() {
    with_cell(|TestCell { api, address, .. }| {
        let mut permits: Vec<_> = (0..MAX_VERIFICATIONS).map(|_| api.verifications.try_acquire().unwrap()).collect();
        let third = send_request(*address, "POST", "/chunks/have?verify=1", b"");
        assert!(!finish_have(&third, Duration::from_millis(500)));
        assert_eq!(status_of(*address, "POST", "/chunks/have", b""), 200);
        permits.pop();
        assert!(has_response(&third));
    });
}
