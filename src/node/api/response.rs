//! What a call ends with: an answer, or a refusal in the form of RFC 9457.

use std::io::Read;

use serde::Serialize;
use smol::lock::SemaphoreGuardArc;

use crate::id::ChunkId;
use crate::net::Exchange;
use crate::store::StoreError;
use crate::wire::problem::{MEDIA_TYPE, Problem};
use crate::wire::routes::RouteError;

/// Header fields of an answer in lines.
const LINES: [(&str, &str); 1] = [("Content-Type", "text/plain; charset=utf-8")];

/// What a call answers with when it succeeds.
pub(super) enum Answer {
    Empty,
    Json(Vec<u8>),
    Lines(String),
    /// Which of the ids are here, and the place of a long list.
    Have(String, Option<SemaphoreGuardArc>),
    Chunk {
        id: ChunkId,
        len: u64,
        bytes: Box<dyn Read>,
    },
    NotModified(ChunkId),
}

impl Answer {
    pub(super) fn json(value: &impl Serialize) -> Result<Self, Problem> {
        serde_json::to_vec(value).map(Self::Json).map_err(|error| Problem::new(500, error.to_string()))
    }

    pub(super) fn send(self, exchange: Exchange) {
        match self {
            Self::Empty => exchange.respond(200, &[], &[]),
            Self::Json(json) => exchange.respond(200, &[("Content-Type", "application/json")], &json),
            Self::Lines(lines) => exchange.respond(200, &LINES, lines.as_bytes()),
            Self::Have(lines, place) => {
                exchange.respond(200, &LINES, lines.as_bytes());
                drop(place);
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

/// Why a call is not answered.
pub(super) struct Refusal {
    problem: Problem,
    /// A header field that belongs to it.
    field: Option<(&'static str, String)>,
}

impl Refusal {
    /// A refusal for so long.
    pub(super) fn for_now(problem: Problem, seconds: u64) -> Self {
        Self { problem, field: Some(("Retry-After", seconds.to_string())) }
    }

    pub(super) fn send(self, exchange: Exchange) {
        let kind = ("Content-Type", MEDIA_TYPE);
        let json = self.problem.to_json();
        match &self.field {
            None => exchange.respond(self.problem.status, &[kind], &json),
            Some((name, value)) => exchange.respond(self.problem.status, &[kind, (name, value)], &json),
        }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problem, field: None }
    }
}

impl From<RouteError> for Refusal {
    fn from(error: RouteError) -> Self {
        let field = match error {
            RouteError::MethodNotAllowed { allowed } => Some(("Allow", allowed.to_owned())),
            _ => None,
        };
        Self { problem: Problem::new(error.status(), error.to_string()), field }
    }
}

pub(super) fn read_body(exchange: &mut Exchange, limit: u64) -> Result<Vec<u8>, Problem> {
    let len = exchange.body_bytes();
    if len > limit {
        return Err(Problem::new(413, format!("the body of this call has at most {limit} bytes")));
    }
    let mut body = Vec::with_capacity(usize::try_from(len).unwrap_or_default());
    exchange.body().take(limit).read_to_end(&mut body).map_err(|error| Problem::new(400, error.to_string()))?;
    if body.len() as u64 != len {
        return Err(Problem::new(400, format!("the body ended after {} of {len} bytes", body.len())));
    }
    Ok(body)
}

pub(super) fn nowhere() -> Problem {
    Problem::new(404, "the chunk is not here")
}

pub(super) fn refusal(error: &StoreError) -> Problem {
    let status = match error {
        StoreError::WrongHash { .. } => 422,
        StoreError::Truncated { .. } | StoreError::Body(_) => 400,
        StoreError::TooLarge { .. } => 413,
        StoreError::NoRoom { .. } => 507,
        StoreError::Counting => 503,
        StoreError::Disk { .. } => {
            log::error!("{error}");
            return Problem::new(500, "this cell's disk failed; its log tells more");
        }
    };
    Problem::new(status, error.to_string())
}
