//! HTTP by hand: what a client sends is written out, to the byte.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::house::DEADLINE;

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
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

    /// It is a refusal in the form of RFC 9457 that repeats its status.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16) {
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

/// A connection to a door.
pub(crate) fn connect(door: &str) -> TcpStream {
    let stream = TcpStream::connect(door).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// The answer on a connection that ends after it.
pub(crate) fn answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head") + 4;
    let body = bytes.split_off(end);
    let head = String::from_utf8(bytes).unwrap();
    let answer = Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body };
    let declared = answer.field("content-length").map_or(0, |text| text.parse().unwrap());
    assert!(answer.body.is_empty() || answer.body.len() == declared, "{answer:?}");
    answer
}

/// Sends a request with a body of its declared length and reads the answer. `fields` are whole lines.
pub(crate) fn ask(door: &str, method: &str, target: &str, fields: &[&str], body: &[u8]) -> Answer {
    let length = format!("Content-Length: {}", body.len());
    let mut all = vec!["Connection: close"];
    if !body.is_empty() || matches!(method, "PUT" | "POST") {
        all.push(&length);
    }
    all.extend(fields);
    ask_exactly(door, method, target, &all, body)
}

/// Sends a request with these fields and no others.
pub(crate) fn ask_exactly(door: &str, method: &str, target: &str, fields: &[&str], body: &[u8]) -> Answer {
    let mut stream = connect(door);
    let fields: String = fields.iter().flat_map(|field| [*field, "\r\n"]).collect();
    stream.write_all(format!("{method} {target} HTTP/1.1\r\nHost: {door}\r\n{fields}\r\n").as_bytes()).unwrap();
    // A door that refuses the head may close before it has the body.
    drop(stream.write_all(body));
    answer(&mut stream)
}
