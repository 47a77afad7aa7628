//! Requests that read chunks, or ask which there are.

use crate::id::{ChunkId, MAX_CHUNK_BYTES};
use crate::net::Exchange;
use crate::node::api::Api;
use crate::node::api::response::{ErrorResponse, Response, etag, read_body};
use crate::node::search::SearchOutcome;
use crate::wire::id_lists::{MAX_HAVE_IDS, parse_ids, write_ids};
use crate::wire::routes::{DEFAULT_HOPS, HOPS_HEADER, REQUEST_ID_HEADER};
use crate::wire::shared_chunks::{SharedQuery, write_shared_chunks};

const NOT_HERE: &str = "the chunk is not on this cell";

impl Api {
    /// `GET /chunk/{id}`: sends the chunk, from this cell or from another one.
    pub(super) fn get(&self, id: &ChunkId, exchange: &Exchange) -> Result<Response, ErrorResponse> {
        let read_error = match self.copies.open(id) {
            Ok(Some(_)) if exchange.field("If-None-Match") == Some(etag(id).as_str()) => {
                return Ok(Response::NotModified(*id));
            }
            Ok(Some(chunk)) => return Ok(Response::Chunk { id: *id, len: chunk.len, bytes: chunk.reader }),
            Ok(None) => None,
            // Another cell may be able to read its copy.
            Err(error) if error.is_unreadable() => Some(error),
            Err(error) => return Err(error.into()),
        };
        let not_found = |detail| read_error.map_or_else(|| ErrorResponse::new(404, detail), ErrorResponse::from);
        let hops = match exchange.field(HOPS_HEADER) {
            None => DEFAULT_HOPS,
            Some(text) => text.parse().map_err(|_| {
                ErrorResponse::new(400, format!("{HOPS_HEADER} is {text:?}; it must be a number from 0 to 255"))
            })?,
        };
        if hops == 0 {
            return Err(not_found(NOT_HERE));
        }
        match self.searches.search(id, hops, exchange.field(REQUEST_ID_HEADER)) {
            SearchOutcome::Found(chunk) => Ok(Response::Chunk { id: *id, len: chunk.len(), bytes: Box::new(chunk) }),
            SearchOutcome::NotFound => {
                Err(not_found("the chunk is not on this cell or any of the cells that it asked"))
            }
            SearchOutcome::Busy => {
                Err(ErrorResponse::new(503, "too many searches are in progress; try again in a few seconds"))
            }
        }
    }

    /// `HEAD /chunk/{id}`: reports whether this cell has the chunk.
    pub(super) fn head(&self, id: ChunkId) -> Result<Response, ErrorResponse> {
        let not_here = || ErrorResponse::new(404, NOT_HERE);
        if !self.copies.has(&id)? {
            return Err(not_here());
        }
        let chunk = self.copies.open(&id)?.ok_or_else(not_here)?;
        Ok(Response::Chunk { id, len: chunk.len, bytes: Box::new(std::io::empty()) })
    }

    /// `POST /chunks/have`: reports which of the listed chunks this cell has.
    pub(super) fn have(&self, exchange: &mut Exchange) -> Result<Response, ErrorResponse> {
        // Before the body is read: a request that waits takes no memory.
        let permit = self.long_list_permit(exchange);
        let ids = Self::read_ids(exchange)?;
        if ids.len() > MAX_HAVE_IDS {
            return Err(ErrorResponse::new(413, format!("more than {MAX_HAVE_IDS} ids in one request; send fewer")));
        }
        let mut present = Vec::with_capacity(ids.len());
        for id in ids {
            if self.copies.has(&id)? {
                present.push(id);
            }
        }
        Ok(Response::Lines(write_ids(&present), permit))
    }

    /// `GET /chunks`: lists the chunks of this cell.
    pub(super) fn list(&self, after: Option<&ChunkId>, limit: usize) -> Result<Response, ErrorResponse> {
        Ok(Response::Lines(write_ids(&self.store.list(after, limit)?), None))
    }

    /// `GET /chunks/shared`: lists the chunks of this cell that another one holds too.
    pub(super) fn shared(&self, query: SharedQuery) -> Result<Response, ErrorResponse> {
        let shared = self.mailbox.shared(query).ok_or_else(|| {
            ErrorResponse::new(
                503,
                "this cell does not know all of its chunks yet, or its driver does not respond; try again in a minute",
            )
        })?;
        Ok(Response::JsonLines(write_shared_chunks(&shared)))
    }

    /// Reads a body that is a list of ids.
    pub(super) fn read_ids(exchange: &mut Exchange) -> Result<Vec<ChunkId>, ErrorResponse> {
        let body = read_body(exchange, MAX_CHUNK_BYTES as u64)?;
        parse_ids(&body)
            .map_err(|error| ErrorResponse::new(400, format!("the body must have one chunk id per line: {error}")))
    }
}
