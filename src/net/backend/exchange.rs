//! One HTTP exchange as the handler sees it: the request, and the means to respond.
//!
//! All responses are made here, because `tiny_http` lacks one guarantee: the body has exactly the declared length, or
//! the connection ends before it.

use std::cell::Cell;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::human;
use crate::net::backend::upstream::Upstream;
use crate::net::backend::{CLIENT_FIELD, CONNECTION_FIELD};
use crate::wire::problem::{MEDIA_TYPE, Problem};

/// Responds to requests.
pub trait Handler: Send + Sync {
    /// Responds to one request. Called from several threads at once; may block. If the exchange is dropped without a
    /// response, the client gets an empty 500.
    fn handle(&self, exchange: Exchange);
}

/// One request, and the means to respond to it.
pub struct Exchange {
    request: tiny_http::Request,
    upstream: Arc<Upstream>,
}

impl Exchange {
    pub(super) fn new(request: tiny_http::Request, upstream: Arc<Upstream>) -> Self {
        Self { request, upstream }
    }

    /// The method in capitals; one of [`METHODS`](crate::wire::routes::METHODS).
    pub fn method(&self) -> &str {
        self.request.method().as_str()
    }

    /// The target with its query, as the client wrote it: not decoded and not normalized. It begins with `/`.
    pub fn target(&self) -> &str {
        self.request.url()
    }

    /// The value of a header field; of the first one, if there are several. Names are case-insensitive.
    pub fn field(&self, name: &'static str) -> Option<&str> {
        self.request.headers().iter().find(|header| header.field.equiv(name)).map(|header| header.value.as_str())
    }

    /// The client's IP address.
    pub fn client(&self) -> IpAddr {
        // Missing only in a test that bypasses the gateway.
        self.field(CLIENT_FIELD).and_then(|text| text.parse().ok()).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// Declared length of the request body, in bytes.
    pub fn body_bytes(&self) -> u64 {
        self.request.body_length().map_or(0, |length| length as u64)
    }

    /// The request body. It ends early, without an error, if the client disconnects, so compare its length with
    /// [`Self::body_bytes`]. It need not be read before responding; the rest is discarded.
    pub fn body(&mut self) -> &mut dyn Read {
        self.request.as_reader()
    }

    /// Responds with these bytes.
    pub fn respond(self, status: u16, fields: &[(&str, &str)], body: &[u8]) {
        self.respond_from(status, fields, body.len() as u64, body);
    }

    /// Responds with JSON.
    pub fn respond_json(self, status: u16, value: &serde_json::Value) {
        self.respond(status, &[("Content-Type", "application/json")], value.to_string().as_bytes());
    }

    /// Responds with a problem and its status.
    pub fn respond_problem(self, problem: &Problem) {
        self.respond(problem.status, &[("Content-Type", MEDIA_TYPE)], &problem.to_json());
    }

    /// Responds with the first `body_bytes` bytes of `body`. If there are fewer, or reading fails, the client's
    /// connection ends before the declared length, which is how HTTP marks an incomplete response. For `HEAD`, nothing
    /// is read.
    pub fn respond_from(self, status: u16, fields: &[(&str, &str)], body_bytes: u64, body: impl Read) {
        let connection = self.field(CONNECTION_FIELD).and_then(|text| text.parse().ok());
        let sends_body = self.request.method() != &tiny_http::Method::Head && !matches!(status, 204 | 304);
        let left = Cell::new(body_bytes);
        let headers = fields.iter().filter_map(|(name, value)| header(name, value)).collect();
        // A length above `usize` cannot be sent; such a response ends like one whose body is too short.
        let length = usize::try_from(body_bytes).unwrap_or(usize::MAX);
        let body = ExactBody { body, left: &left };
        let response = tiny_http::Response::new(tiny_http::StatusCode(status), headers, body, Some(length), None)
            .with_chunked_threshold(usize::MAX);
        let upstream = Arc::clone(&self.upstream);
        let result = self.request.respond(response);
        // tiny_http hides that a client has disconnected, so the count of bytes decides.
        if let (true, Some(connection)) = (sends_body && left.get() > 0, connection) {
            if let Err(error) = result {
                let missing = human::part(left.get(), body_bytes, "byte");
                log::warn!("response cut off with {missing} missing: {error}");
            }
            upstream.abort(connection);
        }
    }
}

/// A header field, unless its value contains a control character, which could end the field or the head.
fn header(name: &str, value: &str) -> Option<tiny_http::Header> {
    if value.bytes().any(|byte| byte.is_ascii_control()) {
        log::error!("header field {name} omitted from a response: its value contains a control character");
        return None;
    }
    tiny_http::Header::from_bytes(name, value).ok()
}

/// A reader of exactly `left` bytes, or an error.
struct ExactBody<'a, R> {
    body: R,
    left: &'a Cell<u64>,
}

impl<R: Read> Read for ExactBody<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = usize::try_from(self.left.get()).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..limit).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        let read = self.body.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            // The body may come from another cell. tiny_http would take a reset of that connection for one of the
            // client's own, and hide it.
            _ => io::Error::other(error),
        })?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the body is shorter than declared"));
        }
        self.left.set(self.left.get().saturating_sub(read as u64));
        Ok(read)
    }
}
