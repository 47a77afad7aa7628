//! A peer for tests: it listens on loopback, records each request and answers with exactly the bytes that the test
//! gives.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

/// A request, as received.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Request line and header fields.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// Method and target.
    pub(super) fn line(&self) -> &str {
        self.head.lines().next().unwrap().strip_suffix(" HTTP/1.1").unwrap()
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let is_named = |line: &'_ str| line.split_once(": ").is_some_and(|(key, _)| key.eq_ignore_ascii_case(name));
        self.head.lines().find(|line| is_named(line))?.split_once(": ").map(|(_, value)| value)
    }
}

pub(super) struct TestPeer {
    pub(super) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl TestPeer {
    /// A peer that answers each request with the bytes that `respond` returns and then closes the connection. Its thread
    /// ends with the test process.
    pub(super) fn answering(respond: impl Fn(&Request) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, requests) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let recorded = Arc::clone(&requests);
        std::thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                let mut reader = BufReader::new(connection.try_clone().unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|read| read > 0) {}
                let mut request = Request { head, body: Vec::new() };
                let len = request.field("content-length").map_or(0, |len| len.parse().unwrap());
                reader.take(len).read_to_end(&mut request.body).unwrap();
                recorded.lock().unwrap().push(request.clone());
                let _ = connection.write_all(&respond(&request));
            }
        });
        Self { address, requests }
    }

    /// A peer that answers every request with the same bytes.
    pub(super) fn always(response: Vec<u8>) -> Self {
        Self::answering(move |_| response.clone())
    }

    /// The requests received so far.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// A complete response.
pub(super) fn response(status: u16, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A response whose `Content-Length` is `missing` bytes more than its body.
pub(super) fn truncated_response(body: &[u8], missing: usize) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len() + missing);
    [head.as_bytes(), body].concat()
}

/// A response without a `Content-Length`: its body ends with the connection.
pub(super) fn response_without_length(body: &[u8]) -> Vec<u8> {
    [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", body].concat()
}

/// An address on which nothing listens.
pub(super) fn unreachable_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
