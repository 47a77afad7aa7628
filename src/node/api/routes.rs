//! Which call a request is. Pure: a method and a target in, a [`Route`] or a problem out.

use crate::id::ChunkId;
use crate::wire::api::MAX_LIST_IDS;
use crate::wire::problem::Problem;

/// One of the calls of a cell's HTTP interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::node) enum Route {
    PutChunk(ChunkId),
    PostChunk,
    GetChunk(ChunkId),
    HeadChunk(ChunkId),
    Have,
    Verify,
    Holders,
    List { after: Option<ChunkId>, limit: usize },
    Peers,
    Join,
    Alert,
    Drain,
    Undrain,
    Scrub,
    Status,
    Health,
}

/// A request that is no call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::node) struct NoRoute {
    pub(in crate::node) problem: Problem,
    /// The methods that the path has, for the `Allow` field of a 405.
    pub(in crate::node) allow: Option<&'static str>,
}

/// Finds the call. Targets are taken to the letter: nothing is decoded or tidied, so there is one way to write each.
pub(in crate::node) fn route(method: &str, target: &str) -> Result<Route, NoRoute> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if let Some(id) = path.strip_prefix("/chunk/") {
        let id = id.parse().map_err(|error| problem(400, format!("{error}")))?;
        return match method {
            "PUT" => Ok(Route::PutChunk(id)),
            "GET" => Ok(Route::GetChunk(id)),
            "HEAD" => Ok(Route::HeadChunk(id)),
            _ => Err(not_allowed("GET, HEAD, PUT")),
        };
    }
    let (route, allow) = match path {
        "/chunk" => (Route::PostChunk, "POST"),
        "/chunks/have" => (have(query)?, "POST"),
        "/chunks/holders" => (Route::Holders, "POST"),
        "/chunks" => (list(query)?, "GET, HEAD"),
        "/peers" => (Route::Peers, "GET, HEAD"),
        "/join" => (Route::Join, "POST"),
        "/alert" => (Route::Alert, "POST"),
        "/drain" => (if method == "DELETE" { Route::Undrain } else { Route::Drain }, "DELETE, POST"),
        "/scrub" => (Route::Scrub, "POST"),
        "/status" => (Route::Status, "GET, HEAD"),
        "/health" => (Route::Health, "GET, HEAD"),
        _ => return Err(problem(404, "there is no such path here".into())),
    };
    if allow.split(", ").any(|allowed| allowed == method) { Ok(route) } else { Err(not_allowed(allow)) }
}

fn have(query: &str) -> Result<Route, NoRoute> {
    let mut route = Route::Have;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        route = match pair {
            "verify=1" => Route::Verify,
            "verify=0" => Route::Have,
            _ => return Err(problem(400, "verify=1 is what can be asked for".into())),
        };
    }
    Ok(route)
}

fn list(query: &str) -> Result<Route, NoRoute> {
    let mut after = None;
    let mut limit = MAX_LIST_IDS;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("after", id)) => after = Some(id.parse().map_err(|error| problem(400, format!("after: {error}")))?),
            Some(("limit", number)) => match number.parse() {
                Ok(number) if (1..=MAX_LIST_IDS).contains(&number) => limit = number,
                _ => return Err(problem(400, format!("limit is a number from 1 to {MAX_LIST_IDS}"))),
            },
            _ => return Err(problem(400, "after=ID and limit=N are what can be asked for".into())),
        }
    }
    Ok(Route::List { after, limit })
}

fn problem(status: u16, detail: String) -> NoRoute {
    NoRoute { problem: Problem::new(status, detail), allow: None }
}

fn not_allowed(allow: &'static str) -> NoRoute {
    NoRoute { problem: Problem::new(405, format!("this path has {allow}")), allow: Some(allow) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn status(method: &str, target: &str) -> u16 {
        route(method, target).map_or_else(|no| no.problem.status, |_| 200)
    }

    #[test]
    fn every_call_has_its_route() {
        let id: ChunkId = ID.parse().unwrap();
        let chunk = format!("/chunk/{ID}");
        assert_eq!(route("PUT", &chunk), Ok(Route::PutChunk(id)));
        assert_eq!(route("GET", &chunk), Ok(Route::GetChunk(id)));
        assert_eq!(route("HEAD", &chunk), Ok(Route::HeadChunk(id)));
        assert_eq!(route("POST", "/chunk"), Ok(Route::PostChunk));
        assert_eq!(route("POST", "/chunks/have"), Ok(Route::Have));
        assert_eq!(route("GET", "/chunks"), Ok(Route::List { after: None, limit: MAX_LIST_IDS }));
        assert_eq!(route("GET", &format!("/chunks?limit=2&after={ID}")), Ok(Route::List { after: Some(id), limit: 2 }));
        assert_eq!(route("GET", "/peers?x=1"), Ok(Route::Peers));
        assert_eq!(route("POST", "/join"), Ok(Route::Join));
        assert_eq!(route("POST", "/chunks/have?verify=1"), Ok(Route::Verify));
        assert_eq!(route("POST", "/chunks/have?verify=0"), Ok(Route::Have));
        assert_eq!(route("POST", "/chunks/holders"), Ok(Route::Holders));
        assert_eq!(route("POST", "/alert"), Ok(Route::Alert));
        assert_eq!(route("POST", "/drain"), Ok(Route::Drain));
        assert_eq!(route("DELETE", "/drain"), Ok(Route::Undrain));
        assert_eq!(route("POST", "/scrub"), Ok(Route::Scrub));
    }

    #[test]
    fn tricks_with_paths_and_queries_are_refused() {
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
        assert_eq!(status("DELETE", &format!("/chunk/{ID}")), 405);
        assert_eq!(route("GET", "/join").unwrap_err().allow, Some("POST"));
        assert_eq!(status("POST", "/peers"), 405);
        assert_eq!(route("GET", "/drain").unwrap_err().allow, Some("DELETE, POST"));
        assert_eq!(status("GET", "/scrub"), 405);
        assert_eq!(status("DELETE", "/alert"), 405);
        for query in ["verify", "verify=", "verify=true", "verfy=1", "verify=1&x=1"] {
            assert_eq!(status("POST", &format!("/chunks/have?{query}")), 400, "{query}");
        }
    }
}
