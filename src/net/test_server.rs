//! An HTTP server for unit tests. It listens on loopback, records each request, and answers with exactly the bytes that
//! the test gives.

// A server that sends slowly.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request, as received.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Request line and header fields.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// Method and target, such as `GET /status`.
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap().strip_suffix(" HTTP/1.1").unwrap()
    }

    /// The value of a header field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    fn read(connection: &TcpStream) -> io::Result<Self> {
        let mut reader = BufReader::new(connection);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut request = Self { head, body: Vec::new() };
        let length = request.field("content-length").map_or(0, |length| length.parse().unwrap());
        reader.take(length).read_to_end(&mut request.body)?;
        Ok(request)
    }
}

/// A running server. Its thread ends with the test process.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    /// Its base URL.
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl TestServer {
    /// A server that answers each request with the bytes that `respond` returns, and then closes the connection.
    pub(crate) fn answering(mut respond: impl FnMut(&Request) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, requests) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let recorded = Arc::clone(&requests);
        std::thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                // A client may disconnect at any time.
                let Ok(request) = Request::read(&connection) else { continue };
                recorded.lock().unwrap().push(request.clone());
                connection.write_all(&respond(&request)).ok();
            }
        });
        Self { address, url: format!("http://{address}"), requests }
    }

    /// A server that answers each request with this many bytes, one after each pause, on a thread of its own.
    pub(crate) fn trickling(len: usize, pause: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, requests) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let recorded = Arc::clone(&requests);
        std::thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                let recorded = Arc::clone(&recorded);
                std::thread::spawn(move || {
                    let Ok(request) = Request::read(&connection) else { return };
                    recorded.lock().unwrap().push(request);
                    let head = response_declaring(200, len, b"");
                    // The client may disconnect at any time.
                    let mut is_sent = connection.write_all(&head).is_ok();
                    for _ in 0..len {
                        if !is_sent {
                            return;
                        }
                        std::thread::sleep(pause);
                        is_sent = connection.write_all(b"x").is_ok();
                    }
                });
            }
        });
        Self { address, url: format!("http://{address}"), requests }
    }

    /// A server that answers every request with the same bytes.
    pub(crate) fn always(response: Vec<u8>) -> Self {
        Self::answering(move |_| response.clone())
    }

    /// A server that answers each call, such as `GET /status`, with its statuses and bodies in order, the last one
    /// repeatedly. It answers all other calls with 404.
    pub(crate) fn scripted(calls: &[(&str, &[(u16, String)])]) -> Self {
        let mut calls: BTreeMap<String, Vec<(u16, String)>> =
            calls.iter().map(|(call, answers)| ((*call).to_owned(), answers.to_vec())).collect();
        Self::answering(move |request| match calls.get_mut(request.line()) {
            None => response(404, b""),
            Some(answers) => {
                let (status, body) = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
                response(status, body.as_bytes())
            }
        })
    }

    /// The requests received so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Method and target of the requests received so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.requests().iter().map(|request| request.line().to_owned()).collect()
    }
}

/// A complete response.
pub(crate) fn response(status: u16, body: &[u8]) -> Vec<u8> {
    response_declaring(status, body.len(), body)
}

/// A response whose `Content-Length` is `missing` bytes more than its body.
pub(crate) fn truncated_response(body: &[u8], missing: usize) -> Vec<u8> {
    response_declaring(200, body.len() + missing, body)
}

/// A response without a `Content-Length`: its body ends with the connection.
pub(crate) fn response_without_length(body: &[u8]) -> Vec<u8> {
    [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", body].concat()
}

fn response_declaring(status: u16, length: usize, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// An address on which nothing listens.
pub(crate) fn unreachable_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
