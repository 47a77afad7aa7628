//! HTTP to a cell: one method for each call that cells and clients make of each other.
//!
//! Connections are kept alive and pooled by `ureq`. Every wait has an end, every answer a largest size. Nothing that a
//! cell answers is trusted here: callers verify chunk bytes by their hash.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ureq::http::Response;
use ureq::{Agent, Body};

use crate::id::CellId;
use crate::id::{ChunkId, MAX_CHUNK_BYTES};
use crate::wire::api;
use crate::wire::api::{
    COPIES_HEADER, CellStatus, DrainProgress, HOLDERS_HEADER, HOPS_HEADER, Join, MAX_HAVE_IDS, MAX_JSON_RESPONSE_BYTES,
    MAX_VERIFY_IDS, OWNER_HEADER, Peers, REQUEST_ID_HEADER, Route, ScrubProgress,
};
use crate::wire::beacon::Alert;
use crate::wire::problem::Problem;

/// How long to wait for a cell. All in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection. A board that was unplugged never answers at all: this is what its loss costs.
    pub connect_ms: u64,
    /// For the next bytes to move, while a body is sent or received. A link may be slow; it may not stand still.
    pub stall_ms: u64,
    /// For an answer to begin after the request was sent. Much of a body can be on its way then: the system takes it
    /// long before it is there.
    pub response_ms: u64,
    /// For the whole of one call.
    pub call_ms: u64,
}

impl Timeouts {
    /// For storing chunks: links are slow, and an SD card can stall for many seconds before bytes are safe.
    pub const STORE: Self = Self { connect_ms: 3_000, stall_ms: 20_000, response_ms: 30_000, call_ms: 600_000 };
    /// For fetching chunks: another holder is as good, so a hung cell is not waited for long.
    pub const FETCH: Self = Self { connect_ms: 3_000, stall_ms: 15_000, response_ms: 15_000, call_ms: 600_000 };
    /// For asking whether somebody lives.
    pub const PROBE: Self = Self { connect_ms: 2_000, stall_ms: 3_000, response_ms: 3_000, call_ms: 5_000 };
}

/// Why a call to a cell did not bring what was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No connection, no answer in time, or the connection broke.
    #[error("{url} does not answer: {source}")]
    Unreachable {
        /// The cell's door.
        url: String,
        /// What happened.
        source: Box<ureq::Error>,
    },
    /// The cell answered, but not with success.
    #[error("{url} answered {status} ({detail})")]
    Refused {
        /// The cell's door.
        url: String,
        /// HTTP status.
        status: u16,
        /// What the cell said about it.
        detail: String,
    },
    /// The answer is none that this call can have.
    #[error("{url} gave an answer that makes no sense: {what}")]
    InvalidResponse {
        /// The cell's door.
        url: String,
        /// What is wrong with it.
        what: String,
    },
}

impl CallError {
    /// Did the cell not answer at all?
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// Did time run out after a connection was made? The cell may be there and slow, or the link.
    pub fn is_slow(&self) -> bool {
        let Self::Unreachable { source, .. } = self else { return false };
        matches!(**source, ureq::Error::Timeout(which) if which != ureq::Timeout::Connect)
    }
}

/// Told with a chunk that is put.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PutHints {
    /// Copies that the colony is to keep.
    pub copies: u8,
    /// The cells chosen to hold one, as far as their names are known.
    pub holders: Vec<CellId>,
    /// SHA-256 of the token that may delete the chunk, if there is one.
    pub owner: Option<[u8; 32]>,
}

/// A copy as a cell gave it, unverified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedCopy {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Are these all of the bytes that the cell has? An answer that declares no length ends like one that was cut off.
    pub length_declared: bool,
}

/// A client of cells. Cheap to clone; all clones share their connections.
#[derive(Debug, Clone)]
pub struct Http {
    agent: Agent,
    requests: Arc<AtomicU64>,
}

/// Buffers of one connection, in bytes each way.
const BUFFER_BYTES: usize = 64 * 1024;
/// A pooled connection older than this is not used again; shorter than the time after which a cell closes it.
const IDLE_AGE: Duration = Duration::from_secs(15);

impl Http {
    /// A client that keeps up to `idle_per_cell` unused connections to each cell and `idle_in_all`.
    pub fn new(timeouts: Timeouts, idle_per_cell: usize, idle_in_all: usize) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .user_agent(concat!("cellsync/", env!("CARGO_PKG_VERSION")))
            .input_buffer_size(BUFFER_BYTES)
            .output_buffer_size(BUFFER_BYTES)
            .max_idle_connections_per_host(idle_per_cell)
            .max_idle_connections(idle_in_all)
            .max_idle_age(IDLE_AGE)
            .timeout_connect(Some(Duration::from_millis(timeouts.connect_ms)))
            .timeout_per_write(Some(Duration::from_millis(timeouts.stall_ms)))
            .timeout_per_read(Some(Duration::from_millis(timeouts.stall_ms.max(timeouts.response_ms))))
            .timeout_recv_response(Some(Duration::from_millis(timeouts.response_ms)))
            .timeout_global(Some(Duration::from_millis(timeouts.call_ms)))
            .build();
        Self { agent: config.new_agent(), requests: Arc::default() }
    }

    /// The same client, less or more patient. Their requests are counted together.
    #[must_use]
    pub fn with_timeouts(&self, timeouts: Timeouts) -> Self {
        Self { requests: Arc::clone(&self.requests), ..Self::new(timeouts, 1, 4) }
    }

    /// Requests made so far, by all clones together.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// A pooled connection may have been closed by the cell just now; all our calls can be repeated without harm. As
    /// many tries as there may be stale connections to one cell would be too many: one more is made, and then it
    /// counts.
    fn call(&self, call: impl Fn() -> Answer) -> Answer {
        self.requests.fetch_add(1, Ordering::Relaxed);
        match call() {
            Err(ureq::Error::Io(error)) if error.kind() != std::io::ErrorKind::ConnectionRefused => {
                self.requests.fetch_add(1, Ordering::Relaxed);
                call()
            }
            answer => answer,
        }
    }

    /// Stores a chunk. When this returns, the cell has it safe.
    pub fn put_chunk(&self, url: &str, id: &ChunkId, bytes: &[u8], hints: &PutHints) -> Result<(), CallError> {
        let holders: Vec<String> = hints.holders.iter().map(ToString::to_string).collect();
        let owner = hints.owner.map(|hash| ChunkId::from_bytes(hash).to_string());
        let answer = self.call(|| {
            let mut request = self
                .agent
                .put(Route::PutChunk(*id).url(url))
                .header(COPIES_HEADER, hints.copies.to_string())
                .header(HOLDERS_HEADER, holders.join(","))
                .content_type("application/octet-stream");
            if let Some(owner) = &owner {
                request = request.header(OWNER_HEADER, owner);
            }
            request.send(bytes)
        });
        let mut response = succeeded(url, answer)?;
        // Read to its end, so that the connection can be used again.
        body(url, &mut response, MAX_JSON_RESPONSE_BYTES).map(drop)
    }

    /// Fetches a chunk's bytes, unverified; `None` if the cell does not have it. With `hops` 0 only the cell itself is
    /// asked; with more it may ask others.
    pub fn get_chunk(
        &self,
        url: &str,
        id: &ChunkId,
        hops: u8,
        search: Option<&str>,
    ) -> Result<Option<Vec<u8>>, CallError> {
        let answer = self.call(|| {
            let request = self.agent.get(Route::GetChunk(*id).url(url)).header(HOPS_HEADER, hops.to_string());
            match search {
                Some(search) => request.header(REQUEST_ID_HEADER, search).call(),
                None => request.call(),
            }
        });
        match answered(url, answer)? {
            mut response if response.status() == 200 => body(url, &mut response, MAX_CHUNK_BYTES as u64).map(Some),
            mut response if response.status() == 404 => {
                body(url, &mut response, MAX_JSON_RESPONSE_BYTES)?;
                Ok(None)
            }
            mut response => Err(refused(url, &mut response)),
        }
    }

    /// Fetches the cell's own copy of a chunk, unverified; `None` if it has none.
    pub fn get_local_copy(&self, url: &str, id: &ChunkId) -> Result<Option<UnverifiedCopy>, CallError> {
        let answer = self.call(|| self.agent.get(Route::GetChunk(*id).url(url)).header(HOPS_HEADER, "0").call());
        match answered(url, answer)? {
            mut response if response.status() == 200 => {
                let fields = response.headers();
                let length_declared = fields.contains_key("content-length") || fields.contains_key("transfer-encoding");
                let bytes = body(url, &mut response, MAX_CHUNK_BYTES as u64)?;
                Ok(Some(UnverifiedCopy { bytes, length_declared }))
            }
            mut response if response.status() == 404 => {
                body(url, &mut response, MAX_JSON_RESPONSE_BYTES)?;
                Ok(None)
            }
            mut response => Err(refused(url, &mut response)),
        }
    }

    /// A page of the ids that the cell has, in order: at most `limit` of those after `after`.
    pub fn list_chunks(&self, url: &str, after: Option<&ChunkId>, limit: usize) -> Result<Vec<ChunkId>, CallError> {
        let page = Route::List { after: after.copied(), limit }.url(url);
        let answer = self.call(|| self.agent.get(&page).call());
        let lines = body(url, &mut succeeded(url, answer)?, MAX_CHUNK_BYTES as u64)?;
        let nonsense = |what: String| CallError::InvalidResponse { url: url.to_owned(), what };
        let ids = api::parse_ids(&lines).map_err(|error| nonsense(error.to_string()))?;
        if ids.len() > limit {
            return Err(nonsense(format!("{} ids where {limit} were asked for", ids.len())));
        }
        Ok(ids)
    }

    /// Tells the cell where copies are. `news` is one of the bodies that [`api::write_holder_hints`] makes.
    pub fn send_holder_hints(&self, url: &str, news: &str) -> Result<(), CallError> {
        let send = || self.agent.post(Route::Holders.url(url)).content_type("text/plain").send(news.as_bytes());
        let mut response = succeeded(url, self.call(send))?;
        body(url, &mut response, MAX_JSON_RESPONSE_BYTES).map(drop)
    }

    /// Warns the cell of a bad copy.
    pub fn send_alert(&self, url: &str, alert: &Alert) -> Result<(), CallError> {
        let alert = serde_json::to_vec(alert).unwrap_or_default();
        let send = || self.agent.post(Route::Alert.url(url)).content_type("application/json").send(&alert[..]);
        let mut response = succeeded(url, self.call(send))?;
        body(url, &mut response, MAX_JSON_RESPONSE_BYTES).map(drop)
    }

    /// Tells `found` which of these ids the cell has. Larger lists go in several requests. A server that knows no
    /// `/chunks/have` is asked for each id by itself. What was told before an error is as good as without one.
    pub fn have(&self, url: &str, ids: &[ChunkId], found: &mut dyn FnMut(ChunkId)) -> Result<(), CallError> {
        for batch in ids.chunks(MAX_HAVE_IDS) {
            let lines = api::write_ids(batch);
            let answer =
                self.call(|| self.agent.post(Route::Have.url(url)).content_type("text/plain").send(lines.as_bytes()));
            let mut response = answered(url, answer)?;
            match response.status().as_u16() {
                200 => {
                    let lines = body(url, &mut response, MAX_CHUNK_BYTES as u64)?;
                    let ids = api::parse_ids(&lines)
                        .map_err(|error| CallError::InvalidResponse { url: url.to_owned(), what: error.to_string() })?;
                    ids.into_iter().for_each(&mut *found);
                }
                // Not there, or not for POST: an older server.
                404 | 405 | 501 => {
                    body(url, &mut response, MAX_JSON_RESPONSE_BYTES)?;
                    for id in batch {
                        if self.has_chunk(url, id)? {
                            found(*id);
                        }
                    }
                }
                _ => return Err(refused(url, &mut response)),
            }
        }
        Ok(())
    }

    /// Does the cell re-hash its copies when it is asked to, by [`Self::verify`]? A cell of the first version passes
    /// over a query that it does not know, and answers what it has without looking at the bytes. It is known by this,
    /// that it takes a list which is too long to be verified.
    pub fn supports_verify(&self, url: &str) -> Result<bool, CallError> {
        let lines = api::write_ids(&[ChunkId::of(url.as_bytes()); MAX_VERIFY_IDS + 1]);
        let mut response = answered(url, self.ask_to_verify(url, &lines))?;
        match response.status().as_u16() {
            200 | 404 | 405 | 501 => body(url, &mut response, MAX_CHUNK_BYTES as u64).map(|_| false),
            400 | 413 | 422 => body(url, &mut response, MAX_JSON_RESPONSE_BYTES).map(|_| true),
            _ => Err(refused(url, &mut response)),
        }
    }

    /// Has the cell read its copies of these ids and hash them; tells `found` which are there and good. Bad ones the
    /// cell sets aside. False if the cell does not know the call. Larger lists go in several requests.
    pub fn verify(&self, url: &str, ids: &[ChunkId], found: &mut dyn FnMut(ChunkId)) -> Result<bool, CallError> {
        for batch in ids.chunks(MAX_VERIFY_IDS) {
            let mut response = answered(url, self.ask_to_verify(url, &api::write_ids(batch)))?;
            match response.status().as_u16() {
                200 => {
                    let lines = body(url, &mut response, MAX_JSON_RESPONSE_BYTES)?;
                    let ids = api::parse_ids(&lines)
                        .map_err(|error| CallError::InvalidResponse { url: url.to_owned(), what: error.to_string() })?;
                    ids.into_iter().for_each(&mut *found);
                }
                400 | 404 | 405 | 501 => return body(url, &mut response, MAX_JSON_RESPONSE_BYTES).map(|_| false),
                _ => return Err(refused(url, &mut response)),
            }
        }
        Ok(true)
    }

    fn ask_to_verify(&self, url: &str, lines: &str) -> Answer {
        let url = Route::Verify.url(url);
        self.call(|| self.agent.post(&url).content_type("text/plain").send(lines.as_bytes()))
    }

    /// Does the cell have this chunk?
    pub fn has_chunk(&self, url: &str, id: &ChunkId) -> Result<bool, CallError> {
        let mut response = answered(url, self.call(|| self.agent.head(Route::HeadChunk(*id).url(url)).call()))?;
        match response.status().as_u16() {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(refused(url, &mut response)),
        }
    }

    /// The other cells that this one knows.
    pub fn peers(&self, url: &str) -> Result<Peers, CallError> {
        json(url, &mut succeeded(url, self.call(|| self.agent.get(Route::Peers.url(url)).call()))?)
    }

    /// What the cell says of itself.
    pub fn status(&self, url: &str) -> Result<CellStatus, CallError> {
        json(url, &mut succeeded(url, self.call(|| self.agent.get(Route::Status.url(url)).call()))?)
    }

    /// Makes the cell behind `url` know the one behind `own_url` as a static peer.
    pub fn join(&self, url: &str, own_url: &str) -> Result<Peers, CallError> {
        let join = serde_json::to_vec(&Join { url: own_url.to_owned() }).unwrap_or_default();
        let send = || self.agent.post(Route::Join.url(url)).content_type("application/json").send(&join[..]);
        json(url, &mut succeeded(url, self.call(send))?)
    }

    /// Tells the cell to hand its copies on, so that it can be unplugged. Told again, it goes on with it.
    pub fn drain(&self, url: &str) -> Result<DrainProgress, CallError> {
        json(url, &mut succeeded(url, self.call(|| self.agent.post(Route::Drain.url(url)).send_empty()))?)
    }

    /// Tells the cell to stay.
    pub fn undrain(&self, url: &str) -> Result<(), CallError> {
        let mut response = succeeded(url, self.call(|| self.agent.delete(Route::Undrain.url(url)).call()))?;
        body(url, &mut response, MAX_JSON_RESPONSE_BYTES).map(drop)
    }

    /// Has the cell re-hash all of its copies now. Told again, it goes on with it.
    pub fn scrub(&self, url: &str) -> Result<ScrubProgress, CallError> {
        json(url, &mut succeeded(url, self.call(|| self.agent.post(Route::Scrub.url(url)).send_empty()))?)
    }
}

type Answer = Result<Response<Body>, ureq::Error>;

fn answered(url: &str, answer: Answer) -> Result<Response<Body>, CallError> {
    answer.map_err(|source| CallError::Unreachable { url: url.to_owned(), source: Box::new(source) })
}

fn succeeded(url: &str, answer: Answer) -> Result<Response<Body>, CallError> {
    let mut response = answered(url, answer)?;
    if response.status().is_success() { Ok(response) } else { Err(refused(url, &mut response)) }
}

fn refused(url: &str, response: &mut Response<Body>) -> CallError {
    let status = response.status().as_u16();
    let text = body(url, response, MAX_JSON_RESPONSE_BYTES).unwrap_or_default();
    let detail = Problem::from_json(&text).map_or_else(String::new, |problem| problem.detail.into_owned());
    let detail = if detail.is_empty() { crate::wire::problem::phrase(status).to_owned() } else { detail };
    // Foreign words on a terminal: no control characters, and not too many of them.
    let detail = detail.chars().filter(|c| !c.is_control()).take(200).collect();
    CallError::Refused { url: url.to_owned(), status, detail }
}

fn body(url: &str, response: &mut Response<Body>, limit: u64) -> Result<Vec<u8>, CallError> {
    // The limit is exclusive of the read that would notice the end: one byte more makes "exactly the limit" readable.
    let read = response.body_mut().with_config().limit(limit + 1).read_to_vec();
    match read {
        Ok(bytes) if bytes.len() as u64 <= limit => Ok(bytes),
        Ok(_) | Err(ureq::Error::BodyExceedsLimit(_)) => {
            Err(CallError::InvalidResponse { url: url.to_owned(), what: format!("it is longer than {limit} bytes") })
        }
        Err(source) => Err(CallError::Unreachable { url: url.to_owned(), source: Box::new(source) }),
    }
}

fn json<T: serde::de::DeserializeOwned>(url: &str, response: &mut Response<Body>) -> Result<T, CallError> {
    let text = body(url, response, MAX_JSON_RESPONSE_BYTES)?;
    serde_json::from_slice(&text)
        .map_err(|error| CallError::InvalidResponse { url: url.to_owned(), what: error.to_string() })
}
