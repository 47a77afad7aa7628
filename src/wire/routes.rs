//! The routes of a cell's HTTP interface: each path, method, query key and header name stands here once.
//!
//! The server parses requests with [`Route::parse`]; the client builds URLs with [`Route::url`]. What each route does
//! is specified in [`crate::wire`].

use crate::id::{CellId, ChunkId, MalformedId};
use crate::wire::id_lists::MAX_LIST_IDS;
use crate::wire::shared_chunks::{MalformedPrefix, SharedQuery};

/// How many copies the colony keeps of a chunk, from 1 to 255; on `PUT /chunk/{id}` and `POST /chunk`. Absent means
/// [`crate::id::DEFAULT_COPIES`].
pub const COPIES_HEADER: &str = "CellSync-Copies";
/// `1` if the sender does not know how many copies the colony keeps, and [`COPIES_HEADER`] is a guess; on the same
/// requests.
pub const BARE_HEADER: &str = "CellSync-Bare";
/// The cells chosen to hold the chunk: at most [`crate::id::MAX_HOLDERS`] cell ids, separated by commas; on the same
/// requests.
pub const HOLDERS_HEADER: &str = "CellSync-Holders";
/// The SHA-256, as 64 lower-case hexadecimal digits, of the token that may delete the chunk; on the same requests.
pub const OWNER_HEADER: &str = "CellSync-Owner";
/// How many more cells a `GET /chunk/{id}` may be forwarded to in a row; absent means [`DEFAULT_HOPS`].
pub const HOPS_HEADER: &str = "X-Hops";
/// Identifies one search for a chunk across cells, so that each cell takes part in it once.
pub const REQUEST_ID_HEADER: &str = "X-Request-Id";

/// Hops of a `GET /chunk/{id}` without [`HOPS_HEADER`].
pub const DEFAULT_HOPS: u8 = 3;
/// The largest number of hops; a cell lowers larger numbers to it.
pub const MAX_HOPS: u8 = 8;

/// The largest request body of a route that takes JSON, in bytes.
pub const MAX_JSON_REQUEST_BYTES: u64 = 4096;
/// The largest JSON response that a client reads, in bytes: enough for some ten thousand cells.
pub const MAX_JSON_RESPONSE_BYTES: u64 = 4 << 20;

/// The methods of the interface, as the `Allow` header of a 405 lists them.
pub const METHODS: &str = "GET, HEAD, PUT, POST, DELETE";

const CHUNK_PREFIX: &str = "/chunk/";
const CHUNK: &str = "/chunk";
const HAVE: &str = "/chunks/have";
const HOLDERS: &str = "/chunks/holders";
const SHARED: &str = "/chunks/shared";
const CHUNKS: &str = "/chunks";
const PEERS: &str = "/peers";
const JOIN: &str = "/join";
const ALERT: &str = "/alert";
const DRAIN: &str = "/drain";
const SCRUB: &str = "/scrub";
const STATUS: &str = "/status";
const HEALTH: &str = "/health";

const VERIFY_KEY: &str = "verify";
const AFTER_KEY: &str = "after";
const LIMIT_KEY: &str = "limit";
const FOR_KEY: &str = "for";
const PREFIX_KEY: &str = "prefix";

/// A request of a cell's HTTP interface: its method, path and query. `HEAD` stands for `GET` without a body; only for
/// a chunk does it have a variant of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `PUT /chunk/{id}`: stores a chunk under its id.
    PutChunk(ChunkId),
    /// `POST /chunk`: stores a chunk and returns its id.
    PostChunk,
    /// `GET /chunk/{id}`: returns a chunk's bytes.
    GetChunk(ChunkId),
    /// `HEAD /chunk/{id}`: reports whether the cell has the chunk.
    HeadChunk(ChunkId),
    /// `POST /chunks/have`: reports which of the listed chunks the cell has.
    Have,
    /// `POST /chunks/have?verify=1`: re-hashes the listed chunks and reports which are good.
    Verify,
    /// `POST /chunks/holders`: reports where copies are.
    Holders,
    /// `GET /chunks?after={id}&limit={n}`: lists ids in ascending order, a page at a time.
    List {
        /// The page begins with the first id greater than this one; the first page has none.
        after: Option<ChunkId>,
        /// The most ids in the page, from 1 to [`MAX_LIST_IDS`].
        limit: usize,
    },
    /// `GET /chunks/shared?for={cell id}&prefix={digits}&after={id}`: lists the chunks that the cell holds and believes
    /// another one to hold, with the number of copies that the colony must keep.
    Shared(SharedQuery),
    /// `GET /peers`: lists the other cells that the cell knows.
    Peers,
    /// `POST /join`: adds a static peer.
    Join,
    /// `POST /alert`: reports a bad copy on some cell.
    Alert,
    /// `POST /drain`: starts draining the cell.
    Drain,
    /// `DELETE /drain`: stops draining the cell.
    Undrain,
    /// `POST /scrub`: starts a full scrub.
    Scrub,
    /// `GET /status`: returns the cell's status.
    Status,
    /// `GET /health`: reports whether the cell works.
    Health,
}

/// Why a method and a target are not a [`Route`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// The interface has no such path.
    #[error("unknown path")]
    UnknownPath,
    /// The path exists, but not for this method.
    #[error("this path takes {allowed}")]
    MethodNotAllowed {
        /// The methods that the path takes, as an `Allow` header lists them.
        allowed: &'static str,
    },
    /// The last segment of a chunk's path is not a chunk id.
    #[error("in the path: {0}")]
    ChunkId(MalformedId),
    /// The query of `POST /chunks/have` is neither empty, `verify=1` nor `verify=0`.
    #[error("invalid query: use {VERIFY_KEY}=1 or {VERIFY_KEY}=0")]
    HaveQuery,
    /// The query of `GET /chunks` has a key other than `after` and `limit`.
    #[error("invalid query: use {AFTER_KEY}=ID and {LIMIT_KEY}=N")]
    ListQuery,
    /// The value of `after` is not a chunk id.
    #[error("invalid {AFTER_KEY}: {0}")]
    After(MalformedId),
    /// The value of `prefix` is not how ids begin.
    #[error("invalid {PREFIX_KEY}: {0}")]
    Prefix(MalformedPrefix),
    /// The query of `GET /chunks/shared` lacks `for` or `prefix`, or `for` is not a cell id.
    #[error("invalid query: use {FOR_KEY}=CELL_ID, {PREFIX_KEY}=DIGITS and {AFTER_KEY}=ID")]
    SharedQuery,
    /// The value of `limit` is not a number from 1 to [`MAX_LIST_IDS`].
    #[error("invalid {LIMIT_KEY}: use a number from 1 to {MAX_LIST_IDS}")]
    Limit,
}

impl Route {
    /// The route of a request with this method and target. A target is taken literally, without percent-decoding or
    /// path normalization, so that each route can be written in one way only.
    pub fn parse(method: &str, target: &str) -> Result<Self, RouteError> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if let Some(id) = path.strip_prefix(CHUNK_PREFIX) {
            let id = id.parse().map_err(RouteError::ChunkId)?;
            return match method {
                "PUT" => Ok(Self::PutChunk(id)),
                "GET" => Ok(Self::GetChunk(id)),
                "HEAD" => Ok(Self::HeadChunk(id)),
                _ => Err(RouteError::MethodNotAllowed { allowed: "GET, HEAD, PUT" }),
            };
        }
        let (route, allowed) = match path {
            CHUNK => (Self::PostChunk, "POST"),
            HAVE => (have(query)?, "POST"),
            HOLDERS => (Self::Holders, "POST"),
            CHUNKS => (list(query)?, "GET, HEAD"),
            SHARED => (Self::Shared(shared(query)?), "GET, HEAD"),
            PEERS => (Self::Peers, "GET, HEAD"),
            JOIN => (Self::Join, "POST"),
            ALERT => (Self::Alert, "POST"),
            DRAIN => (if method == "DELETE" { Self::Undrain } else { Self::Drain }, "DELETE, POST"),
            SCRUB => (Self::Scrub, "POST"),
            STATUS => (Self::Status, "GET, HEAD"),
            HEALTH => (Self::Health, "GET, HEAD"),
            _ => return Err(RouteError::UnknownPath),
        };
        if allowed.split(", ").any(|allowed| allowed == method) {
            Ok(route)
        } else {
            Err(RouteError::MethodNotAllowed { allowed })
        }
    }

    /// The method of the request.
    pub const fn method(&self) -> &'static str {
        match self {
            Self::PutChunk(_) => "PUT",
            Self::HeadChunk(_) => "HEAD",
            Self::GetChunk(_) | Self::List { .. } | Self::Shared(_) | Self::Peers | Self::Status | Self::Health => {
                "GET"
            }
            Self::PostChunk
            | Self::Have
            | Self::Verify
            | Self::Holders
            | Self::Join
            | Self::Alert
            | Self::Drain
            | Self::Scrub => "POST",
            Self::Undrain => "DELETE",
        }
    }

    /// The target of the request: path and query.
    pub fn target(&self) -> String {
        match self {
            Self::PutChunk(id) | Self::GetChunk(id) | Self::HeadChunk(id) => format!("{CHUNK_PREFIX}{id}"),
            Self::PostChunk => CHUNK.to_owned(),
            Self::Have => HAVE.to_owned(),
            Self::Verify => format!("{HAVE}?{VERIFY_KEY}=1"),
            Self::Holders => HOLDERS.to_owned(),
            Self::List { after: None, limit } => format!("{CHUNKS}?{LIMIT_KEY}={limit}"),
            Self::List { after: Some(after), limit } => format!("{CHUNKS}?{LIMIT_KEY}={limit}&{AFTER_KEY}={after}"),
            Self::Shared(SharedQuery { node, prefix, after }) => {
                let after = after.map(|after| format!("&{AFTER_KEY}={after}")).unwrap_or_default();
                format!("{SHARED}?{FOR_KEY}={node}&{PREFIX_KEY}={prefix}{after}")
            }
            Self::Peers => PEERS.to_owned(),
            Self::Join => JOIN.to_owned(),
            Self::Alert => ALERT.to_owned(),
            Self::Drain | Self::Undrain => DRAIN.to_owned(),
            Self::Scrub => SCRUB.to_owned(),
            Self::Status => STATUS.to_owned(),
            Self::Health => HEALTH.to_owned(),
        }
    }

    /// The URL of the request at the cell whose base URL is `base`, as `http://ADDRESS:PORT`.
    pub fn url(&self, base: &str) -> String {
        base.to_owned() + &self.target()
    }
}

fn have(query: &str) -> Result<Route, RouteError> {
    let mut route = Route::Have;
    for pair in pairs(query) {
        route = match pair.split_once('=') {
            Some((VERIFY_KEY, "1")) => Route::Verify,
            Some((VERIFY_KEY, "0")) => Route::Have,
            _ => return Err(RouteError::HaveQuery),
        };
    }
    Ok(route)
}

fn list(query: &str) -> Result<Route, RouteError> {
    let mut after = None;
    let mut limit = MAX_LIST_IDS;
    for pair in pairs(query) {
        match pair.split_once('=') {
            Some((AFTER_KEY, id)) => after = Some(id.parse().map_err(RouteError::After)?),
            Some((LIMIT_KEY, number)) => match number.parse() {
                Ok(number) if (1..=MAX_LIST_IDS).contains(&number) => limit = number,
                _ => return Err(RouteError::Limit),
            },
            _ => return Err(RouteError::ListQuery),
        }
    }
    Ok(Route::List { after, limit })
}

/// Unknown keys are ignored, so that later versions can add some.
fn shared(query: &str) -> Result<SharedQuery, RouteError> {
    let (mut node, mut prefix, mut after) = (None, None, None);
    for pair in pairs(query) {
        match pair.split_once('=') {
            Some((FOR_KEY, id)) => node = Some(id.parse::<CellId>().map_err(|_| RouteError::SharedQuery)?),
            Some((PREFIX_KEY, digits)) => prefix = Some(digits.parse().map_err(RouteError::Prefix)?),
            Some((AFTER_KEY, id)) => after = Some(id.parse().map_err(RouteError::After)?),
            _ => {}
        }
    }
    match (node, prefix) {
        (Some(node), Some(prefix)) => Ok(SharedQuery { node, prefix, after }),
        _ => Err(RouteError::SharedQuery),
    }
}

fn pairs(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').filter(|pair| !pair.is_empty())
}

impl RouteError {
    /// The HTTP status that a server answers with.
    pub const fn status(&self) -> u16 {
        match self {
            Self::UnknownPath => 404,
            Self::MethodNotAllowed { .. } => 405,
            Self::ChunkId(_)
            | Self::HaveQuery
            | Self::ListQuery
            | Self::SharedQuery
            | Self::After(_)
            | Self::Prefix(_)
            | Self::Limit => 400,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    const CELL: &str = "6f3c1b52-7a0e-4a53-9a39-2f1f7d0f4c11";

    fn status(method: &str, target: &str) -> u16 {
        Route::parse(method, target).map_or_else(|error| error.status(), |_| 200)
    }

    /// The method and the target of each route, written out: other programs use them.
    fn all() -> Vec<(&'static str, String, Route)> {
        let id: ChunkId = ID.parse().unwrap();
        let chunk = format!("/chunk/{ID}");
        let shared = format!("/chunks/shared?for={CELL}&prefix=ba");
        let query = SharedQuery { node: CELL.parse().unwrap(), prefix: "ba".parse().unwrap(), after: None };
        vec![
            ("PUT", chunk.clone(), Route::PutChunk(id)),
            ("GET", chunk.clone(), Route::GetChunk(id)),
            ("HEAD", chunk, Route::HeadChunk(id)),
            ("POST", "/chunk".into(), Route::PostChunk),
            ("POST", "/chunks/have".into(), Route::Have),
            ("POST", "/chunks/have?verify=1".into(), Route::Verify),
            ("POST", "/chunks/holders".into(), Route::Holders),
            ("GET", "/chunks?limit=7".into(), Route::List { after: None, limit: 7 }),
            ("GET", format!("/chunks?limit=2&after={ID}"), Route::List { after: Some(id), limit: 2 }),
            ("GET", shared.clone(), Route::Shared(query)),
            ("GET", shared + "&after=" + ID, Route::Shared(SharedQuery { after: Some(id), ..query })),
            ("GET", "/peers".into(), Route::Peers),
            ("POST", "/join".into(), Route::Join),
            ("POST", "/alert".into(), Route::Alert),
            ("POST", "/drain".into(), Route::Drain),
            ("DELETE", "/drain".into(), Route::Undrain),
            ("POST", "/scrub".into(), Route::Scrub),
            ("GET", "/status".into(), Route::Status),
            ("GET", "/health".into(), Route::Health),
        ]
    }

    #[test]
    fn every_route_is_written_and_parsed_alike() {
        for (method, target, route) in all() {
            assert_eq!((route.method(), route.target()), (method, target.clone()));
            assert_eq!(Route::parse(method, &target), Ok(route));
            assert_eq!(route.url("http://10.0.0.4:8080"), format!("http://10.0.0.4:8080{target}"));
        }
    }

    #[test]
    fn queries_have_defaults_and_other_paths_ignore_theirs() {
        assert_eq!(Route::parse("GET", "/chunks"), Ok(Route::List { after: None, limit: MAX_LIST_IDS }));
        assert_eq!(Route::parse("POST", "/chunks/have?verify=0"), Ok(Route::Have));
        assert_eq!(Route::parse("GET", "/peers?x=1"), Ok(Route::Peers));
        assert!(Route::parse("GET", &format!("/chunks/shared?prefix=ba7&for={CELL}&x=1")).is_ok());
        assert_eq!(Route::parse("HEAD", "/status"), Ok(Route::Status));
    }

    #[test]
    fn malformed_paths_and_queries_are_refused() {
        for target in
            ["/chunk/", "/chunk/..", "/chunk/../../etc/passwd", "/chunk/%2e%2e", "/chunk//", &format!("/chunk/{ID}/")]
        {
            assert_eq!(status("GET", target), 400, "{target}");
        }
        assert_eq!(status("GET", &format!("/chunk/{}", ID.to_uppercase())), 400);
        for target in ["", "/", "//", "/peers/", "//peers", "/chunks/../peers", "/Peers", "peers", "/\0"] {
            assert_eq!(status("GET", target), 404, "{target}");
        }
        for query in ["limit=0", "limit=-1", "limit=10001", "limit=x", "after=x", "limit", "order=up"] {
            assert_eq!(status("GET", &format!("/chunks?{query}")), 400, "{query}");
        }
        for query in ["", "prefix=ba", &format!("for={CELL}"), &format!("for={CELL}&prefix=b"), "for=x&prefix=ba"] {
            assert_eq!(status("GET", &format!("/chunks/shared?{query}")), 400, "{query}");
        }
        assert_eq!(status("GET", &format!("/chunks/shared?for={CELL}&prefix=ba&after=x")), 400);
        for query in ["verify", "verify=", "verify=true", "verfy=1", "verify=1&x=1"] {
            assert_eq!(status("POST", &format!("/chunks/have?{query}")), 400, "{query}");
        }
    }

    #[test]
    fn wrong_methods_are_refused_with_the_allowed_ones() {
        let allowed = |method: &str, target: &str| match Route::parse(method, target) {
            Err(RouteError::MethodNotAllowed { allowed }) => allowed,
            other => panic!("{other:?}"),
        };
        assert_eq!(allowed("DELETE", &format!("/chunk/{ID}")), "GET, HEAD, PUT");
        assert_eq!(allowed("GET", "/join"), "POST");
        assert_eq!(allowed("POST", "/peers"), "GET, HEAD");
        assert_eq!(allowed("GET", "/drain"), "DELETE, POST");
        assert_eq!(allowed("GET", "/scrub"), "POST");
        assert_eq!(allowed("DELETE", "/alert"), "POST");
        assert_eq!(status("GET", "/join"), 405);
    }

    #[test]
    fn errors_name_the_keys_limits_and_methods_to_use() {
        for (method, target, fact) in [
            ("GET", "/chunk/xyz", "64"),
            ("GET", "/chunks?after=x", "after"),
            ("GET", "/chunks?limit=0", "10000"),
            ("GET", "/chunks?order=up", "limit=N"),
            ("POST", "/chunks/have?x", "verify=1"),
            ("GET", "/drain", "DELETE, POST"),
        ] {
            let text = Route::parse(method, target).unwrap_err().to_string();
            assert!(text.contains(fact), "{method} {target}: {text}");
        }
    }
}
