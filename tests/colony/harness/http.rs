//! HTTP requests written out byte by byte.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::wait::TIMEOUT;

/// A response, as received.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Asserts that this is an error response with this status and a complete problem document (RFC 9457).
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.field("content-type"), Some("application/problem+json"));
        let json = self.json();
        assert_eq!(json["status"], status);
        assert!(
            json["title"].is_string() && json["detail"].as_str().is_some_and(|detail| !detail.is_empty()),
            "{json}"
        );
    }
}

/// Opens a connection.
pub(crate) fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Reads the response on a connection that ends after it.
pub(crate) fn read_response(stream: &mut TcpStream) -> Response {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a complete head") + 4;
    let body = bytes.split_off(end);
    let head = String::from_utf8(bytes).unwrap();
    let response = Response { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body };
    let declared = response.field("content-length").map_or(0, |text| text.parse().unwrap());
    assert!(response.body.is_empty() || response.body.len() == declared, "{response:?}");
    response
}

/// Sends a request with a body of its declared length, and reads the response. `fields` are whole lines.
pub(crate) fn request(address: &str, method: &str, target: &str, fields: &[&str], body: &[u8]) -> Response {
    let length = format!("Content-Length: {}", body.len());
    let mut all = vec!["Connection: close"];
    if !body.is_empty() || matches!(method, "PUT" | "POST") {
        all.push(&length);
    }
    all.extend(fields);
    request_exactly(address, method, target, &all, body)
}

/// Sends a request with these header fields and no others, and reads the response.
pub(crate) fn request_exactly(address: &str, method: &str, target: &str, fields: &[&str], body: &[u8]) -> Response {
    let mut stream = connect(address);
    let fields: String = fields.iter().flat_map(|field| [*field, "\r\n"]).collect();
    stream.write_all(format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n").as_bytes()).unwrap();
    // A gateway that refuses the head may close the connection before it has the body.
    drop(stream.write_all(body));
    read_response(&mut stream)
}
