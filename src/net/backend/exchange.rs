//! One HTTP exchange as the handler sees it: the request, and the means to respond.
//!
//! All responses are made here, because `tiny_http` lacks one guarantee: the body has exactly the declared length, or
//! the connection ends before it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::human;
use crate::net::backend::upstream::Upstream;
use crate::net::backend::{CLIENT_FIELD, CONNECTION_FIELD};
use crate::wire::problem::{MEDIA_TYPE, Problem};

/// Size of the pieces in which a body is sent, in bytes: the size of the gateway's buffers.
const BUFFER_BYTES: usize = 64 * 1024;

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
        let response = response(status, fields, body, body.len());
        if let Err(error) = self.request.respond(response) {
            log::warn!("response cut off: {error}");
        }
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
    /// is read. A request body that was not read is discarded first.
    ///
    /// `tiny_http` writes only the head here. It would copy the body in pieces of 8 KiB, and wake the gateway for each.
    pub fn respond_from(self, status: u16, fields: &[(&str, &str)], body_bytes: u64, body: impl Read) {
        let connection = self.field(CONNECTION_FIELD).and_then(|text| text.parse().ok());
        let sends_body = self.request.method() != &tiny_http::Method::Head && !matches!(status, 204 | 304);
        // A length above `usize` cannot be sent; such a response ends like one whose body is too short.
        let length = usize::try_from(body_bytes).unwrap_or(usize::MAX);
        let head = response(status, fields, io::empty(), length);
        let (version, request_fields) = (self.request.http_version().clone(), self.request.headers().to_vec());
        let upstream = Arc::clone(&self.upstream);
        let mut writer = self.request.into_writer();
        let sent = head
            .raw_print(&mut writer, version, &request_fields, true, None)
            .and_then(|()| if sends_body { copy_exactly(body, &mut writer, body_bytes) } else { Ok(()) })
            .and_then(|()| writer.flush());
        let Err(error) = sent else { return };
        // Nothing is lost if the client has disconnected, and with it the gateway's end.
        if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) {
            log::warn!("response cut off: {error}");
        }
        if let Some(connection) = connection {
            upstream.abort(connection);
        }
    }
}

fn response<R: Read>(status: u16, fields: &[(&str, &str)], body: R, length: usize) -> tiny_http::Response<R> {
    let headers = fields.iter().filter_map(|(name, value)| header(name, value)).collect();
    tiny_http::Response::new(tiny_http::StatusCode(status), headers, body, Some(length), None)
        .with_chunked_threshold(usize::MAX)
}

/// Copies exactly `left` bytes, or fails.
fn copy_exactly(mut body: impl Read, writer: &mut impl Write, mut left: u64) -> io::Result<()> {
    let mut buffer = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER_BYTES)];
    while left > 0 {
        let limit = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = match body.read(buffer.get_mut(..limit).unwrap_or_default()) {
            Ok(0) => {
                let missing = human::count(left, "byte");
                return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("the body lacks its last {missing}")));
            }
            Ok(count) => count.min(limit),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // The body may come from another cell. A reset of that connection is not one of the client's own.
            Err(error) => return Err(io::Error::other(error)),
        };
        writer.write_all(buffer.get(..count).unwrap_or_default())?;
        left -= count as u64;
    }
    Ok(())
}

/// A header field, unless its value contains a control character, which could end the field or the head.
fn header(name: &str, value: &str) -> Option<tiny_http::Header> {
    if value.bytes().any(|byte| byte.is_ascii_control()) {
        log::error!("header field {name} omitted from a response: its value contains a control character");
        return None;
    }
    tiny_http::Header::from_bytes(name, value).ok()
}
