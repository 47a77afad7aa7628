//! For tests: another cell, of which every byte it answers is the test's.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

/// One request as it came.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Request line and fields.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// Method and target.
    pub(super) fn line(&self) -> &str {
        self.head.lines().next().unwrap().strip_suffix(" HTTP/1.1").unwrap()
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let of = |line: &'_ str| line.split_once(": ").is_some_and(|(key, _)| key.eq_ignore_ascii_case(name));
        self.head.lines().find(|line| of(line))?.split_once(": ").map(|(_, value)| value)
    }
}

pub(super) struct Stranger {
    pub(super) door: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Stranger {
    /// One that answers each request with these bytes, and closes the connection. It ends with the test.
    pub(super) fn answers(answer: impl Fn(&Request) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (door, requests) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let noted = Arc::clone(&requests);
        std::thread::spawn(move || {
            for mut line in listener.incoming().flatten() {
                let mut reader = BufReader::new(line.try_clone().unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|read| read > 0) {}
                let mut request = Request { head, body: Vec::new() };
                let len = request.field("content-length").map_or(0, |len| len.parse().unwrap());
                reader.take(len).read_to_end(&mut request.body).unwrap();
                noted.lock().unwrap().push(request.clone());
                let _ = line.write_all(&answer(&request));
            }
        });
        Self { door, requests }
    }

    /// One that always answers the same.
    pub(super) fn says(answer: Vec<u8>) -> Self {
        Self::answers(move |_| answer.clone())
    }

    /// What it was asked so far.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// An answer of this status with these bytes.
pub(super) fn answer(status: u16, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// An answer that declares so many bytes more than it has.
pub(super) fn cut_off(body: &[u8], missing: usize) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len() + missing);
    [head.as_bytes(), body].concat()
}

/// An answer that declares no length: it ends where the connection does.
pub(super) fn of_no_length(body: &[u8]) -> Vec<u8> {
    [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", body].concat()
}

/// The door of a cell that is switched off.
pub(super) fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
