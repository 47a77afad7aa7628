//! The HTTP client: one method for each request that cells and clients send to a cell.
//!
//! `ureq` keeps connections alive and pools them. Every wait has a timeout and every response a size limit. A response
//! is not trusted: this module checks its form, and callers verify chunk bytes by their hash.
//!
//! In every method, `url` is the base URL of a cell, as `http://ADDRESS:PORT`.

// A shell: it measures the rate of responses.
#![allow(clippy::disallowed_methods)]

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ureq::http::Response;
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body};

use crate::id::{CellId, ChunkId, MAX_CHUNK_BYTES, MalformedId};
use crate::net::min_rate::MinRate;
use crate::net::resolver::AddressResolver;
use crate::wire::datagram::Alert;
use crate::wire::id_lists::{MAX_HAVE_IDS, MAX_VERIFY_IDS, parse_ids, write_ids};
use crate::wire::peers::{Join, Peers};
use crate::wire::problem::{Problem, phrase};
use crate::wire::routes::{
    BARE_HEADER, COPIES_HEADER, HOLDERS_HEADER, HOPS_HEADER, MAX_JSON_RESPONSE_BYTES, OWNER_HEADER, REQUEST_ID_HEADER,
    Route,
};
use crate::wire::shared_chunks::{SharedChunk, SharedChunksError, SharedQuery, parse_shared_chunks};
use crate::wire::status::{CellStatus, DrainProgress, ScrubProgress};

/// The largest list of ids that a response may hold, in bytes. The same as for a request.
const MAX_ID_LIST_BYTES: u64 = MAX_CHUNK_BYTES as u64;

/// Characters of a cell's explanation that an error carries; the rest is cut off.
const MAX_DETAIL_CHARS: usize = 200;

/// Size of the two buffers of one connection, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// The most of a response body that is taken from the connection's buffer at once, in bytes: all of that buffer.
const PIECE_BYTES: usize = BUFFER_BYTES;

/// Age at which a pooled connection is no longer used. It stays below the idle timeout of a cell's gateway, so that a
/// request rarely meets a connection that the cell has closed.
const MAX_IDLE_AGE: Duration = Duration::from_secs(15);

/// The minimum rate of a chunk that other cells hold too: 64 KiB in 10 seconds. A Pi on a weak Wi-Fi link still reaches
/// it, and a cell cuts off clients below the same rate. In 10 seconds, Wi-Fi joins its network again.
pub const CHUNK_MIN_RATE: MinRate = MinRate::new(64 * 1024, Duration::from_secs(10));

/// Timeouts of a request, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Time to connect. A board that was unplugged never responds at all, so this is the cost of its loss.
    pub connect_ms: u64,
    /// Longest pause in sending the request body or receiving the response body.
    pub stall_ms: u64,
    /// Time from the end of sending until the response begins. The system accepts bytes long before the cell has
    /// received them, so much of the request body can still be in transit when this time starts.
    pub response_ms: u64,
    /// Time for the whole request, including the response body.
    pub call_ms: u64,
}

impl Timeouts {
    /// For storing chunks: links are slow, and an SD card can stall for many seconds before the bytes are durable.
    pub const STORE: Self = Self { connect_ms: 3_000, stall_ms: 20_000, response_ms: 30_000, call_ms: 600_000 };
    /// For fetching chunks: shorter, since another holder can replace a cell that hangs.
    pub const FETCH: Self = Self { connect_ms: 3_000, stall_ms: 15_000, response_ms: 15_000, call_ms: 600_000 };
    /// For chunks between cells. Shorter than [`Self::STORE`]: a link that is slower than this is no help in healing.
    pub const TRANSFER: Self = Self { connect_ms: 2_000, stall_ms: 20_000, response_ms: 30_000, call_ms: 180_000 };
    /// For questions about chunks: a cell may have to check many files on a slow card before it answers.
    pub const QUERY: Self = Self { connect_ms: 2_000, stall_ms: 10_000, response_ms: 15_000, call_ms: 30_000 };
    /// For finding out whether a cell responds.
    pub const PROBE: Self = Self { connect_ms: 2_000, stall_ms: 3_000, response_ms: 3_000, call_ms: 5_000 };
}

/// Why a request to a cell failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No connection, no response in time, or the connection broke.
    #[error("{url} does not answer: {source}")]
    Unreachable {
        /// Base URL of the cell.
        url: String,
        /// The cause.
        source: Box<ureq::Error>,
    },
    /// The response arrived below the minimum rate.
    #[error("{url} is too slow: it sent {bytes} bytes in {ms} ms")]
    TooSlow {
        /// Base URL of the cell.
        url: String,
        /// Bytes that arrived.
        bytes: usize,
        /// Time since the response began, in milliseconds.
        ms: u64,
    },
    /// The caller did not want the response any more.
    #[error("the request to {url} was cancelled")]
    Cancelled {
        /// Base URL of the cell.
        url: String,
    },
    /// The cell answered with a status other than success.
    #[error("{url} answered {status} ({detail})")]
    Refused {
        /// Base URL of the cell.
        url: String,
        /// HTTP status.
        status: u16,
        /// The cell's explanation, without control characters; the status phrase if it sent none.
        detail: String,
    },
    /// The cell answered with success, but the response is not one that this request can have.
    #[error("{url} sent an invalid response: {source}")]
    InvalidResponse {
        /// Base URL of the cell.
        url: String,
        /// The fault in the response.
        source: ResponseError,
    },
}

/// The fault in a response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// The body exceeds the size limit for this request.
    #[error("its body is longer than {limit_bytes} bytes")]
    TooLong {
        /// The limit.
        limit_bytes: u64,
    },
    /// The list of ids has a malformed line.
    #[error(transparent)]
    Ids(#[from] MalformedId),
    /// The page has more ids than the request asked for.
    #[error("it has {count} ids, and the request asked for at most {limit}")]
    TooManyIds {
        /// The ids in the page.
        count: usize,
        /// The limit in the request.
        limit: usize,
    },
    /// The list of shared chunks is not one that was asked for.
    #[error(transparent)]
    SharedChunks(#[from] SharedChunksError),
    /// The body is not the expected JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl CallError {
    /// Whether the cell sent no complete response.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// Whether a timeout expired after the connection was made, or the response was too slow. The cell may be alive, and
    /// it or its link slow.
    pub fn is_slow(&self) -> bool {
        if matches!(self, Self::TooSlow { .. }) {
            return true;
        }
        let Self::Unreachable { source, .. } = self else { return false };
        matches!(**source, ureq::Error::Timeout(which) if which != ureq::Timeout::Connect)
    }

    fn invalid(url: &str, source: impl Into<ResponseError>) -> Self {
        Self::InvalidResponse { url: url.to_owned(), source: source.into() }
    }
}

/// What a client sends about a chunk together with its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PutHints {
    /// Number of copies that the colony is to keep.
    pub copies: u8,
    /// Is `copies` a guess? Then the receiver asks other cells for the number.
    pub bare: bool,
    /// The cells chosen to hold a copy, as far as their ids are known.
    pub holders: Vec<CellId>,
    /// SHA-256 of the token that may delete the chunk, if there is one.
    pub owner: Option<[u8; 32]>,
}

/// When to end the transfer of a chunk early. The default is not to.
#[derive(Debug, Clone, Default)]
pub struct TransferLimits {
    /// End it if it is slower than this, once the response has begun.
    pub min_rate: Option<MinRate>,
    /// End it once this is set, as soon as the next bytes arrive or a timeout expires.
    pub cancelled: Arc<AtomicBool>,
}

/// The bytes that a cell sent as a chunk's, not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedCopy {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether the response declared its length. If it did, the bytes are complete; if not, they can be the beginning
    /// of a response that was cut off.
    pub length_declared: bool,
}

/// An HTTP client for cells. Cloning is cheap, and all clones share their connections.
#[derive(Debug, Clone)]
pub struct Http {
    agent: Agent,
    requests: Arc<AtomicU64>,
}

impl Http {
    /// Creates a client that keeps at most `max_idle_per_cell` idle connections to each cell, and `max_idle` in total.
    pub fn new(timeouts: Timeouts, max_idle_per_cell: usize, max_idle: usize) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .user_agent(concat!("cellsync/", env!("CARGO_PKG_VERSION")))
            .input_buffer_size(BUFFER_BYTES)
            .output_buffer_size(BUFFER_BYTES)
            .max_idle_connections_per_host(max_idle_per_cell)
            .max_idle_connections(max_idle)
            .max_idle_age(MAX_IDLE_AGE)
            .timeout_connect(Some(Duration::from_millis(timeouts.connect_ms)))
            .timeout_per_write(Some(Duration::from_millis(timeouts.stall_ms)))
            .timeout_per_read(Some(Duration::from_millis(timeouts.stall_ms.max(timeouts.response_ms))))
            .timeout_recv_response(Some(Duration::from_millis(timeouts.response_ms)))
            .timeout_global(Some(Duration::from_millis(timeouts.call_ms)))
            .build();
        let agent = Agent::with_parts(config, DefaultConnector::default(), AddressResolver::default());
        Self { agent, requests: Arc::default() }
    }

    /// Creates a client with other timeouts and connections of its own. Both count their requests together.
    #[must_use]
    pub fn with_timeouts(&self, timeouts: Timeouts) -> Self {
        Self { requests: Arc::clone(&self.requests), ..Self::new(timeouts, 1, 4) }
    }

    /// Number of requests sent so far by all clones together, repeated ones included.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Sends a request, and once more if its connection broke: the cell may have closed a pooled connection at that
    /// moment. Every request of this interface can be repeated safely.
    fn send(&self, request: impl Fn() -> CallResult) -> CallResult {
        self.requests.fetch_add(1, Ordering::Relaxed);
        match request() {
            Err(ureq::Error::Io(error)) if error.kind() != std::io::ErrorKind::ConnectionRefused => {
                self.requests.fetch_add(1, Ordering::Relaxed);
                request()
            }
            result => result,
        }
    }

    fn get(&self, url: &str, route: Route) -> CallResult {
        let url = route.url(url);
        self.send(|| self.agent.get(&url).call())
    }

    fn post(&self, url: &str, route: Route, content_type: &str, body: &[u8]) -> CallResult {
        let url = route.url(url);
        self.send(|| self.agent.post(&url).content_type(content_type).send(body))
    }

    fn post_text(&self, url: &str, route: Route, body: &str) -> CallResult {
        self.post(url, route, "text/plain", body.as_bytes())
    }

    fn post_json(&self, url: &str, route: Route, body: &impl serde::Serialize) -> CallResult {
        // Numbers and strings always have a JSON form.
        self.post(url, route, "application/json", &serde_json::to_vec(body).unwrap_or_default())
    }

    fn post_empty(&self, url: &str, route: Route) -> CallResult {
        let url = route.url(url);
        self.send(|| self.agent.post(&url).send_empty())
    }

    /// Stores a chunk. On success the cell's copy is durable.
    pub fn put_chunk(&self, url: &str, id: &ChunkId, bytes: &[u8], hints: &PutHints) -> Result<(), CallError> {
        let target = Route::PutChunk(*id).url(url);
        let holders: Vec<String> = hints.holders.iter().map(ToString::to_string).collect();
        let owner = hints.owner.map(|hash| ChunkId::from_bytes(hash).to_string());
        let result = self.send(|| {
            let mut request = self
                .agent
                .put(&target)
                .header(COPIES_HEADER, hints.copies.to_string())
                .header(HOLDERS_HEADER, holders.join(","))
                .content_type("application/octet-stream");
            if hints.bare {
                request = request.header(BARE_HEADER, "1");
            }
            if let Some(owner) = &owner {
                request = request.header(OWNER_HEADER, owner);
            }
            request.send(bytes)
        });
        discard_body(url, &mut expect_success(url, result)?)
    }

    /// Fetches a chunk's bytes, unverified; `None` if the cell does not have it. With `hops` above 0, a cell without
    /// the chunk searches for it on other cells; `search` names that search, so that each cell takes part in it once.
    pub fn get_chunk(
        &self,
        url: &str,
        id: &ChunkId,
        hops: u8,
        search: Option<&str>,
    ) -> Result<Option<Vec<u8>>, CallError> {
        let limits = TransferLimits::default();
        Ok(self.get_copy(Vec::new(), url, id, hops, search, &limits)?.map(|copy| copy.bytes))
    }

    /// The same within these limits, as a search of its own.
    pub fn get_chunk_within(
        &self,
        url: &str,
        id: &ChunkId,
        hops: u8,
        limits: &TransferLimits,
    ) -> Result<Option<Vec<u8>>, CallError> {
        Ok(self.get_copy(Vec::new(), url, id, hops, None, limits)?.map(|copy| copy.bytes))
    }

    /// The same with the cell's own copy, in the memory of a buffer whose content is replaced.
    pub fn get_chunk_into(
        &self,
        buffer: Vec<u8>,
        url: &str,
        id: &ChunkId,
        limits: &TransferLimits,
    ) -> Result<Option<Vec<u8>>, CallError> {
        Ok(self.get_copy(buffer, url, id, 0, None, limits)?.map(|copy| copy.bytes))
    }

    /// Fetches the cell's own copy of a chunk, unverified; `None` if it has none.
    pub fn get_local_copy(&self, url: &str, id: &ChunkId) -> Result<Option<UnverifiedCopy>, CallError> {
        self.get_copy(Vec::new(), url, id, 0, None, &TransferLimits::default())
    }

    fn get_copy(
        &self,
        buffer: Vec<u8>,
        url: &str,
        id: &ChunkId,
        hops: u8,
        search: Option<&str>,
        limits: &TransferLimits,
    ) -> Result<Option<UnverifiedCopy>, CallError> {
        let target = Route::GetChunk(*id).url(url);
        let result = self.send(|| {
            let request = self.agent.get(&target).header(HOPS_HEADER, hops.to_string());
            match search {
                Some(search) => request.header(REQUEST_ID_HEADER, search).call(),
                None => request.call(),
            }
        });
        let mut response = expect_response(url, result)?;
        match response.status().as_u16() {
            200 => {
                let fields = response.headers();
                let length_declared = fields.contains_key("content-length") || fields.contains_key("transfer-encoding");
                let bytes = read_body_within(buffer, url, &mut response, MAX_CHUNK_BYTES as u64, limits)?;
                Ok(Some(UnverifiedCopy { bytes, length_declared }))
            }
            404 => discard_body(url, &mut response).map(|()| None),
            _ => Err(refusal(url, &mut response)),
        }
    }

    /// Reports whether the cell has a chunk.
    pub fn has_chunk(&self, url: &str, id: &ChunkId) -> Result<bool, CallError> {
        let target = Route::HeadChunk(*id).url(url);
        let mut response = expect_response(url, self.send(|| self.agent.head(&target).call()))?;
        match response.status().as_u16() {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(refusal(url, &mut response)),
        }
    }

    /// Lists the cell's chunks: at most `limit` ids in ascending order, beginning after `after`.
    pub fn list_chunks(&self, url: &str, after: Option<&ChunkId>, limit: usize) -> Result<Vec<ChunkId>, CallError> {
        let result = self.get(url, Route::List { after: after.copied(), limit });
        let ids = read_ids(url, &mut expect_success(url, result)?)?;
        if ids.len() > limit {
            return Err(CallError::invalid(url, ResponseError::TooManyIds { count: ids.len(), limit }));
        }
        Ok(ids)
    }

    /// One page of the chunks that the cell holds and believes another one to hold; `None` if its version does not know
    /// this request.
    pub fn shared_chunks(&self, url: &str, query: &SharedQuery) -> Result<Option<Vec<SharedChunk>>, CallError> {
        let mut response = expect_response(url, self.get(url, Route::Shared(*query)))?;
        match response.status().as_u16() {
            200 => {
                let body = read_body(url, &mut response, MAX_JSON_RESPONSE_BYTES)?;
                parse_shared_chunks(&body, query).map(Some).map_err(|error| CallError::invalid(url, error))
            }
            404 | 405 | 501 => discard_body(url, &mut response).map(|()| None),
            _ => Err(refusal(url, &mut response)),
        }
    }

    /// Reports each of these chunks that the cell has to `found`. Long lists take several requests. A server without
    /// `/chunks/have` gets one `HEAD` for each id. What was reported before an error is valid.
    pub fn have(&self, url: &str, ids: &[ChunkId], found: &mut dyn FnMut(ChunkId)) -> Result<(), CallError> {
        for batch in ids.chunks(MAX_HAVE_IDS) {
            let mut response = expect_response(url, self.post_text(url, Route::Have, &write_ids(batch)))?;
            match response.status().as_u16() {
                200 => read_ids(url, &mut response)?.into_iter().for_each(&mut *found),
                // An older server: the path is unknown, or not known for POST.
                404 | 405 | 501 => {
                    discard_body(url, &mut response)?;
                    for id in batch {
                        if self.has_chunk(url, id)? {
                            found(*id);
                        }
                    }
                }
                _ => return Err(refusal(url, &mut response)),
            }
        }
        Ok(())
    }

    /// Reports whether the cell re-hashes copies on [`Self::verify`]. A cell of the first version ignores a query that
    /// it does not know and lists what it has without reading the bytes. It also accepts a list that is too long to be
    /// verified, which tells it from later ones.
    pub fn supports_verify(&self, url: &str) -> Result<bool, CallError> {
        let too_long = write_ids(&[ChunkId::of(url.as_bytes()); MAX_VERIFY_IDS + 1]);
        let mut response = expect_response(url, self.post_text(url, Route::Verify, &too_long))?;
        match response.status().as_u16() {
            200 | 404 | 405 | 501 => read_body(url, &mut response, MAX_ID_LIST_BYTES).map(|_| false),
            400 | 413 | 422 => discard_body(url, &mut response).map(|()| true),
            _ => Err(refusal(url, &mut response)),
        }
    }

    /// Makes the cell re-hash its copies of these chunks and reports the good ones to `found`; the cell quarantines the
    /// bad ones. Long lists take several requests. Returns `false` if the cell does not support this.
    pub fn verify(&self, url: &str, ids: &[ChunkId], found: &mut dyn FnMut(ChunkId)) -> Result<bool, CallError> {
        for batch in ids.chunks(MAX_VERIFY_IDS) {
            let mut response = expect_response(url, self.post_text(url, Route::Verify, &write_ids(batch)))?;
            match response.status().as_u16() {
                200 => read_ids(url, &mut response)?.into_iter().for_each(&mut *found),
                400 | 404 | 405 | 501 => return discard_body(url, &mut response).map(|()| false),
                _ => return Err(refusal(url, &mut response)),
            }
        }
        Ok(true)
    }

    /// Reports to the cell where copies are. `hints` is one body of
    /// [`write_holder_hints`](crate::wire::holder_hints::write_holder_hints).
    pub fn send_holder_hints(&self, url: &str, hints: &str) -> Result<(), CallError> {
        discard_body(url, &mut expect_success(url, self.post_text(url, Route::Holders, hints))?)
    }

    /// Reports a bad copy to the cell.
    pub fn send_alert(&self, url: &str, alert: &Alert) -> Result<(), CallError> {
        discard_body(url, &mut expect_success(url, self.post_json(url, Route::Alert, alert))?)
    }

    /// Lists the other cells that the cell knows.
    pub fn peers(&self, url: &str) -> Result<Peers, CallError> {
        read_json(url, &mut expect_success(url, self.get(url, Route::Peers))?)
    }

    /// Fetches the cell's status.
    pub fn status(&self, url: &str) -> Result<CellStatus, CallError> {
        read_json(url, &mut expect_success(url, self.get(url, Route::Status))?)
    }

    /// Adds the cell at `own_url` to the static peers of the cell at `url`. Returns the cells that the latter knows.
    pub fn join(&self, url: &str, own_url: &str) -> Result<Peers, CallError> {
        let join = Join { url: own_url.to_owned() };
        read_json(url, &mut expect_success(url, self.post_json(url, Route::Join, &join))?)
    }

    /// Starts draining the cell: it hands its copies to other cells, so that it can be switched off. On a cell that
    /// drains already this changes nothing.
    pub fn drain(&self, url: &str) -> Result<DrainProgress, CallError> {
        read_json(url, &mut expect_success(url, self.post_empty(url, Route::Drain))?)
    }

    /// Stops draining the cell.
    pub fn undrain(&self, url: &str) -> Result<(), CallError> {
        let target = Route::Undrain.url(url);
        let result = self.send(|| self.agent.delete(&target).call());
        discard_body(url, &mut expect_success(url, result)?)
    }

    /// Starts a full scrub: the cell re-hashes all of its copies. During a scrub this changes nothing.
    pub fn scrub(&self, url: &str) -> Result<ScrubProgress, CallError> {
        read_json(url, &mut expect_success(url, self.post_empty(url, Route::Scrub))?)
    }
}

type CallResult = Result<Response<Body>, ureq::Error>;

/// The response, whatever its status.
fn expect_response(url: &str, result: CallResult) -> Result<Response<Body>, CallError> {
    result.map_err(|source| CallError::Unreachable { url: url.to_owned(), source: Box::new(source) })
}

/// The response, if its status is a success.
fn expect_success(url: &str, result: CallResult) -> Result<Response<Body>, CallError> {
    let mut response = expect_response(url, result)?;
    if response.status().is_success() { Ok(response) } else { Err(refusal(url, &mut response)) }
}

fn refusal(url: &str, response: &mut Response<Body>) -> CallError {
    let status = response.status().as_u16();
    let body = read_body(url, response, MAX_JSON_RESPONSE_BYTES).unwrap_or_default();
    let detail = Problem::from_json(&body).map_or_else(String::new, |problem| problem.detail.into_owned());
    let detail = if detail.is_empty() { phrase(status).to_owned() } else { detail };
    // A terminal may show this text: a cell must not send control sequences to it.
    let detail = detail.chars().filter(|c| !c.is_control()).take(MAX_DETAIL_CHARS).collect();
    CallError::Refused { url: url.to_owned(), status, detail }
}

fn read_body(url: &str, response: &mut Response<Body>, limit_bytes: u64) -> Result<Vec<u8>, CallError> {
    read_body_within(Vec::new(), url, response, limit_bytes, &TransferLimits::default())
}

/// Reads the body into a buffer, whose content is replaced.
fn read_body_within(
    mut buffer: Vec<u8>,
    url: &str,
    response: &mut Response<Body>,
    limit_bytes: u64,
    limits: &TransferLimits,
) -> Result<Vec<u8>, CallError> {
    let too_long = || CallError::invalid(url, ResponseError::TooLong { limit_bytes });
    let declared = response.body().content_length();
    if declared.is_some_and(|len| len > limit_bytes) {
        return Err(too_long());
    }
    // Allocated at once: a buffer that grows is copied each time. Only the declared length, which `limit_bytes` bounds,
    // and a byte for the read that finds the end.
    let declared = declared.and_then(|len| usize::try_from(len).ok());
    let whole = declared.map_or(PIECE_BYTES, |len| len.saturating_add(1));
    buffer.reserve_exact(whole.saturating_sub(buffer.len()));
    buffer.resize(whole, 0);
    // ureq counts the read that finds the end as well, so a body of exactly the limit needs one byte more.
    let mut reader = response.body_mut().with_config().limit(limit_bytes + 1).reader();
    let mut filled = 0;
    let (began, mut min_rate) = (Instant::now(), limits.min_rate.clone());
    loop {
        let waits_since = Instant::now();
        if filled == buffer.len() {
            buffer.resize(filled.saturating_add(PIECE_BYTES), 0);
        }
        let end = filled.saturating_add(PIECE_BYTES).min(buffer.len());
        let read = match reader.read(buffer.get_mut(filled..end).unwrap_or_default()).map_err(ureq::Error::from) {
            Ok(0) => {
                buffer.truncate(filled);
                return Ok(buffer);
            }
            Ok(read) => read,
            Err(ureq::Error::BodyExceedsLimit(_)) => return Err(too_long()),
            Err(source) => return Err(CallError::Unreachable { url: url.to_owned(), source: Box::new(source) }),
        };
        filled = filled.saturating_add(read);
        if filled as u64 > limit_bytes {
            return Err(too_long());
        }
        if limits.cancelled.load(Ordering::Relaxed) {
            return Err(CallError::Cancelled { url: url.to_owned() });
        }
        let Some(rate) = &mut min_rate else { continue };
        rate.record(read as u64, waits_since.elapsed());
        if rate.time_left().is_zero() {
            let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            return Err(CallError::TooSlow { url: url.to_owned(), bytes: filled, ms });
        }
    }
}

/// Reads the body to its end, so that the connection can be used again.
fn discard_body(url: &str, response: &mut Response<Body>) -> Result<(), CallError> {
    read_body(url, response, MAX_JSON_RESPONSE_BYTES).map(drop)
}

fn read_ids(url: &str, response: &mut Response<Body>) -> Result<Vec<ChunkId>, CallError> {
    let body = read_body(url, response, MAX_ID_LIST_BYTES)?;
    parse_ids(&body).map_err(|error| CallError::invalid(url, error))
}

fn read_json<T: serde::de::DeserializeOwned>(url: &str, response: &mut Response<Body>) -> Result<T, CallError> {
    let body = read_body(url, response, MAX_JSON_RESPONSE_BYTES)?;
    serde_json::from_slice(&body).map_err(|error| CallError::invalid(url, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::test_server::{
        TestServer, response, response_without_length, truncated_response, unreachable_address,
    };

    fn http() -> Http {
        Http::new(Timeouts::PROBE, 1, 1)
    }

    #[test]
    fn the_error_says_whether_the_cell_answered() {
        let id = ChunkId::of(b"x");
        let gone = http().has_chunk(&format!("http://{}", unreachable_address()), &id).unwrap_err();
        assert!(gone.is_unreachable() && !gone.is_slow(), "{gone}");

        let server = TestServer::always(truncated_response(b"half", 4));
        let cut_off = http().get_local_copy(&server.url, &id).unwrap_err();
        assert!(cut_off.is_unreachable(), "{cut_off}");

        let server = TestServer::always(response(200, b"not json"));
        let invalid = http().status(&server.url).unwrap_err();
        assert!(matches!(&invalid, CallError::InvalidResponse { source: ResponseError::Json(_), .. }), "{invalid}");
        assert!(!invalid.is_unreachable());
    }

    #[test]
    fn a_timeout_after_connecting_is_slow() {
        let server = TestServer::answering(|_| {
            std::thread::park();
            Vec::new()
        });
        let http = Http::new(Timeouts { connect_ms: 10_000, stall_ms: 50, response_ms: 50, call_ms: 10_000 }, 1, 1);
        let slow = http.status(&server.url).unwrap_err();
        assert!(slow.is_unreachable() && slow.is_slow(), "{slow}");
    }

    #[test]
    fn a_chunk_below_the_minimum_rate_is_too_slow() {
        let (id, pause) = (ChunkId::of(b"x"), Duration::from_millis(10));
        let server = TestServer::trickling(200, pause);
        let min_rate = Some(MinRate::new(100, 5 * pause));
        let limits = TransferLimits { min_rate, ..TransferLimits::default() };
        let slow = http().get_chunk_within(&server.url, &id, 0, &limits).unwrap_err();
        assert!(matches!(slow, CallError::TooSlow { bytes: 1..100, .. }) && slow.is_slow(), "{slow}");
        let whole = http().get_chunk(&server.url, &id, 0, None).unwrap().unwrap();
        assert_eq!(whole.len(), 200, "without a minimum rate it arrives");
    }

    #[test]
    fn a_cancelled_transfer_ends_at_the_next_byte() {
        // It would take hours.
        let server = TestServer::trickling(1 << 20, Duration::from_millis(10));
        let limits = TransferLimits::default();
        limits.cancelled.store(true, Ordering::Relaxed);
        let error = http().get_chunk_within(&server.url, &ChunkId::of(b"x"), 0, &limits).unwrap_err();
        assert!(matches!(error, CallError::Cancelled { .. }), "{error}");
    }

    #[test]
    fn a_refusal_carries_status_and_printable_detail() {
        for (body, expected) in [
            (Problem::new(507, "\u{1b}[2Jno room\n").to_json(), "[2Jno room".to_owned()),
            (Problem::new(507, "x".repeat(1000)).to_json(), "x".repeat(MAX_DETAIL_CHARS)),
            (b"<html>".to_vec(), "Insufficient Storage".to_owned()),
        ] {
            let server = TestServer::always(response(507, &body));
            let error = http().put_chunk(&server.url, &ChunkId::of(b"x"), b"x", &PutHints::default()).unwrap_err();
            let CallError::Refused { url, status, detail } = error else { panic!("{error}") };
            assert_eq!((url, status, detail), (server.url, 507, expected));
        }
    }

    #[test]
    fn bodies_and_lists_beyond_their_limits_are_invalid() {
        let id = ChunkId::of(b"x");
        let whole = TestServer::always(response(200, &vec![7; MAX_CHUNK_BYTES]));
        assert_eq!(http().get_chunk(&whole.url, &id, 0, None).unwrap().unwrap().len(), MAX_CHUNK_BYTES);
        let too_long = TestServer::always(response(200, &vec![7; MAX_CHUNK_BYTES + 1]));
        let error = http().get_chunk(&too_long.url, &id, 0, None).unwrap_err();
        assert!(matches!(error, CallError::InvalidResponse { source: ResponseError::TooLong { .. }, .. }), "{error}");
        let undeclared = TestServer::always(response_without_length(&vec![7; MAX_CHUNK_BYTES + 1]));
        let error = http().get_chunk(&undeclared.url, &id, 0, None).unwrap_err();
        assert!(matches!(error, CallError::InvalidResponse { source: ResponseError::TooLong { .. }, .. }), "{error}");

        let page = TestServer::always(response(200, write_ids(&[id, id]).as_bytes()));
        assert_eq!(http().list_chunks(&page.url, None, 2).unwrap().len(), 2);
        let error = http().list_chunks(&page.url, None, 1).unwrap_err().to_string();
        assert!(error.contains("2 ids") && error.contains("at most 1"), "{error}");
    }

    #[test]
    fn a_body_replaces_the_content_of_a_buffer_in_its_memory() {
        let body = vec![7; 3 * PIECE_BYTES + 5];
        for response in [response(200, &body), response_without_length(&body)] {
            let server = TestServer::always(response);
            for content in [Vec::new(), vec![1; 10], vec![1; 4 * PIECE_BYTES]] {
                let mut buffer = Vec::with_capacity(5 * PIECE_BYTES);
                buffer.extend_from_slice(&content);
                let memory = buffer.as_ptr();
                let limits = TransferLimits::default();
                let chunk = http().get_chunk_into(buffer, &server.url, &ChunkId::of(b"x"), &limits).unwrap().unwrap();
                assert!(chunk == body, "{} bytes", chunk.len());
                assert_eq!(chunk.as_ptr(), memory);
            }
        }
    }

    #[test]
    fn an_old_server_gets_one_head_for_each_id() {
        let ids = [ChunkId::of(b"here"), ChunkId::of(b"missing")];
        let here = format!("HEAD /chunk/{}", ids[0]);
        let server = TestServer::scripted(&[(&here, &[(200, String::new())])]);
        let mut found = Vec::new();
        http().have(&server.url, &ids, &mut |id| found.push(id)).unwrap();
        assert_eq!(found, ids[..1]);
        assert_eq!(server.calls(), ["POST /chunks/have".to_owned(), here, format!("HEAD /chunk/{}", ids[1])]);
    }
}
