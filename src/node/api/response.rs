//! Responses: a successful one, or an error with a problem document (RFC 9457).

use std::borrow::Cow;
use std::io::Read;

use serde::Serialize;
use smol::lock::SemaphoreGuardArc;

use crate::human;
use crate::id::ChunkId;
use crate::net::Exchange;
use crate::store::StoreError;
use crate::wire::problem::{MEDIA_TYPE, Problem};
use crate::wire::routes::RouteError;

/// A successful response.
pub(super) enum Response {
    Empty,
    Json(Vec<u8>),
    /// A list, one entry a line. A long one keeps its permit until it was sent.
    Lines(String, Option<SemaphoreGuardArc>),
    /// JSON objects, one a line.
    JsonLines(String),
    Chunk {
        id: ChunkId,
        len: u64,
        bytes: Box<dyn Read>,
    },
    NotModified(ChunkId),
}

impl Response {
    pub(super) fn json(value: &impl Serialize) -> Result<Self, ErrorResponse> {
        serde_json::to_vec(value)
            .map(Self::Json)
            .map_err(|error| ErrorResponse::new(500, format!("internal error: the response has no JSON form: {error}")))
    }

    pub(super) fn send(self, exchange: Exchange) {
        match self {
            Self::Empty => exchange.respond(200, &[], &[]),
            Self::Json(json) => exchange.respond(200, &[("Content-Type", "application/json")], &json),
            Self::Lines(lines, permit) => {
                exchange.respond(200, &[("Content-Type", "text/plain; charset=utf-8")], lines.as_bytes());
                drop(permit);
            }
            Self::JsonLines(lines) => {
                exchange.respond(200, &[("Content-Type", "application/x-ndjson")], lines.as_bytes());
            }
            Self::Chunk { id, len, bytes } => {
                let etag = etag(&id);
                // The bytes of an id never change.
                let fields = [
                    ("Content-Type", "application/octet-stream"),
                    ("ETag", etag.as_str()),
                    ("Cache-Control", "public, max-age=31536000, immutable"),
                ];
                exchange.respond_from(200, &fields, len, bytes);
            }
            Self::NotModified(id) => exchange.respond(304, &[("ETag", &etag(&id))], &[]),
        }
    }
}

pub(super) fn etag(id: &ChunkId) -> String {
    format!("\"{id}\"")
}

/// An error response: a problem document, and a header field that belongs to its status.
pub(super) struct ErrorResponse {
    problem: Problem,
    field: Option<(&'static str, String)>,
}

impl ErrorResponse {
    /// A response with this status and explanation.
    pub(super) fn new(status: u16, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { problem: Problem::new(status, detail), field: None }
    }

    /// A response that lets the client retry after this many seconds.
    pub(super) fn retry_after(status: u16, detail: impl Into<Cow<'static, str>>, seconds: u64) -> Self {
        Self { problem: Problem::new(status, detail), field: Some(("Retry-After", seconds.to_string())) }
    }

    pub(super) fn driver_not_responding() -> Self {
        Self::new(503, "internal error: the driver of this cell is not responding; use another cell")
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> u16 {
        self.problem.status
    }

    pub(super) fn send(self, exchange: Exchange) {
        let media_type = ("Content-Type", MEDIA_TYPE);
        let json = self.problem.to_json();
        match &self.field {
            None => exchange.respond(self.problem.status, &[media_type], &json),
            Some((name, value)) => exchange.respond(self.problem.status, &[media_type, (name, value)], &json),
        }
    }
}

impl From<RouteError> for ErrorResponse {
    fn from(error: RouteError) -> Self {
        let field = match error {
            RouteError::MethodNotAllowed { allowed } => Some(("Allow", allowed.to_owned())),
            _ => None,
        };
        Self { problem: Problem::new(error.status(), error.to_string()), field }
    }
}

impl From<StoreError> for ErrorResponse {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::WrongHash { .. } => 422,
            StoreError::Truncated { .. } | StoreError::Body(_) => 400,
            StoreError::TooLarge { .. } => 413,
            StoreError::NoRoom { .. } | StoreError::ReadOnly { .. } => 507,
            StoreError::Counting => 503,
            StoreError::Disk { .. } => {
                // Paths and system errors are for the operator only.
                log::error!("{error}");
                return Self::new(500, "the disk of this cell failed; its log has the details");
            }
        };
        Self::new(status, error.to_string())
    }
}

/// Reads the request's body, which must not be longer than `max_bytes`.
pub(super) fn read_body(exchange: &mut Exchange, max_bytes: u64) -> Result<Vec<u8>, ErrorResponse> {
    let len = exchange.body_bytes();
    if len > max_bytes {
        let detail = format!("the body has {len} bytes; this request allows at most {max_bytes}");
        return Err(ErrorResponse::new(413, detail));
    }
    let mut body = Vec::with_capacity(usize::try_from(len).unwrap_or_default());
    exchange
        .body()
        .take(max_bytes)
        .read_to_end(&mut body)
        .map_err(|error| ErrorResponse::new(400, format!("cannot read the body: {error}")))?;
    if body.len() as u64 != len {
        return Err(ErrorResponse::new(
            400,
            format!("the body ended after {}", human::part(body.len() as u64, len, "byte")),
        ));
    }
    Ok(body)
}
