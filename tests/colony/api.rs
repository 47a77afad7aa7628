//! Every request of the HTTP interface for chunks and state, written by hand and sent to a real cell.

use std::collections::BTreeSet;
use std::fs;

use cellsync::id::{ChunkId, MAX_CHUNK_BYTES};

use crate::harness::{Colony, random_bytes, request, request_exactly};

fn target_of(bytes: &[u8]) -> String {
    format!("/chunk/{}", ChunkId::of(bytes))
}

/// Goal: every way to store and to read a chunk works. Method: uses each of them, twice where repetition may matter.
#[test]
fn a_chunk_is_put_found_and_fetched_by_every_route() {
    let colony = Colony::start(1);
    let address = colony.cells[0].address();
    let bytes = random_bytes(1, 70_000);
    let (id, target) = (ChunkId::of(&bytes).to_string(), target_of(&bytes));

    request(address, "HEAD", &target, &[], b"");
    assert_eq!(request(address, "HEAD", &target, &[], b"").status, 404);
    request(address, "GET", &target, &["X-Hops: 0"], b"").assert_problem(404);
    request(address, "GET", &target, &[], b"").assert_problem(404);
    for _ in 0..2 {
        let put = request(address, "PUT", &target, &["CellSync-Copies: 3"], &bytes);
        assert_eq!((put.status, put.body.len()), (200, 0));
        assert_eq!(fs::read(colony.cells[0].chunk_file(&id)).unwrap(), bytes);
    }
    let got = request(address, "GET", &target, &[], b"");
    let tag = format!("\"{id}\"");
    assert!(got.status == 200 && got.body == bytes);
    assert_eq!(got.field("content-length"), Some("70000"));
    assert_eq!(got.field("etag"), Some(tag.as_str()));
    assert_eq!(got.field("content-type"), Some("application/octet-stream"));
    let same = request(address, "GET", &target, &[&format!("If-None-Match: {tag}")], b"");
    assert_eq!((same.status, same.field("etag")), (304, Some(tag.as_str())));
    assert_eq!(request(address, "GET", &target, &["If-None-Match: \"other\""], b"").status, 200);
    let head = request(address, "HEAD", &target, &[], b"");
    assert_eq!((head.status, head.field("content-length"), head.body.len()), (200, Some("70000"), 0));

    let other = random_bytes(2, 1000);
    let posted = request(address, "POST", "/chunk", &[], &other);
    assert_eq!((posted.status, &posted.json()["id"]), (200, &ChunkId::of(&other).to_string().into()));
    assert_eq!(request(address, "GET", &target_of(&other), &[], b"").body, other);
}

/// Goal: a cell stores nothing whose hash is not its id, and answers with a problem document that programs can read.
/// Method: sends every kind of invalid put and other invalid requests.
#[test]
fn invalid_requests_get_a_problem_and_store_nothing() {
    let colony = Colony::start(1);
    let cell = &colony.cells[0];
    let address = cell.address();
    let id = ChunkId::of(b"right").to_string();
    let target = format!("/chunk/{id}");

    request(address, "PUT", &target, &[], b"wrong").assert_problem(422);
    request(address, "PUT", &target, &["CellSync-Copies: 0"], b"right").assert_problem(400);
    request(address, "PUT", &target, &["CellSync-Holders: me"], b"right").assert_problem(400);
    request(address, "PUT", &target, &["CellSync-Owner: me"], b"right").assert_problem(400);
    for malformed in ["abc", "", "..", "../../etc/passwd", &id.to_uppercase(), &format!("{id}0")] {
        for method in ["PUT", "GET"] {
            request(address, method, &format!("/chunk/{malformed}"), &[], b"").assert_problem(400);
        }
    }
    request_exactly(address, "PUT", &target, &["Connection: close"], b"").assert_problem(411);
    request_exactly(address, "PUT", &target, &["Transfer-Encoding: chunked"], b"5\r\nright\r\n0\r\n\r\n")
        .assert_problem(411);
    let length = format!("Content-Length: {}", MAX_CHUNK_BYTES + 1);
    request_exactly(address, "PUT", &target, &[&length], b"").assert_problem(413);
    request(address, "POST", "/chunks/have", &[], b"not an id\n").assert_problem(400);
    request(address, "GET", "/chunks?limit=0", &[], b"").assert_problem(400);
    request(address, "GET", "/nowhere", &[], b"").assert_problem(404);
    let wrong_method = request(address, "POST", "/peers", &[], b"");
    wrong_method.assert_problem(405);
    assert_eq!(wrong_method.field("allow"), Some("GET, HEAD"));

    assert!(cell.chunks().is_empty() && !cell.has_staged_chunk());
    // A chunk of the maximum size is accepted.
    let largest = random_bytes(1, MAX_CHUNK_BYTES);
    assert_eq!(request(address, "PUT", &target_of(&largest), &[], &largest).status, 200);
    assert!(request(address, "GET", &target_of(&largest), &[], b"").body == largest);
}

/// Goal: many chunks are queried in one request, and listed in pages. Method: stores a dozen chunks.
#[test]
fn chunks_are_queried_in_bulk_and_listed_in_pages() {
    let colony = Colony::start(1);
    let address = colony.cells[0].address();
    let all: BTreeSet<String> = (0..12)
        .map(|n| {
            let response = request(address, "POST", "/chunk", &[], &random_bytes(n, 100));
            response.json()["id"].as_str().unwrap().to_owned()
        })
        .collect();
    let absent: Vec<String> = (0..5).map(|n: u64| ChunkId::of(&n.to_le_bytes()).to_string()).collect();
    let asked: Vec<&str> = all.iter().chain(&absent).map(String::as_str).collect();
    let have = request(address, "POST", "/chunks/have", &[], asked.join("\n").as_bytes());
    assert_eq!(have.status, 200);
    assert_eq!(have.text().lines().map(ToOwned::to_owned).collect::<BTreeSet<_>>(), all);
    assert_eq!(request(address, "POST", "/chunks/have", &[], b"").text(), "");

    let mut listed: Vec<String> = Vec::new();
    loop {
        let after = listed.last().map_or_else(String::new, |last| format!("&after={last}"));
        let page = request(address, "GET", &format!("/chunks?limit=5{after}"), &[], b"");
        let ids: Vec<String> = page.text().lines().map(ToOwned::to_owned).collect();
        assert!(ids.len() <= 5);
        if ids.is_empty() {
            break;
        }
        listed.extend(ids);
    }
    assert_eq!(listed, all.into_iter().collect::<Vec<_>>(), "each once, in order");
}

/// Goal: a cell reports its state. Method: reads `/status`, `/health` and `/peers` of one of two cells.
#[test]
fn status_health_and_peers_describe_the_cell() {
    let colony = Colony::start(2);
    let [cell, other] = &colony.cells[..] else { panic!() };
    let bytes = random_bytes(1, 5000);
    assert_eq!(request(cell.address(), "PUT", &target_of(&bytes), &[], &bytes).status, 200);
    let status = request(cell.address(), "GET", "/status", &[], b"").json();
    assert_eq!((&status["node_id"], &status["bytes"]), (&cell.id.as_str().into(), &5000.into()));
    assert_eq!((&status["status"], &status["version"]), (&"active".into(), &env!("CARGO_PKG_VERSION").into()));
    let health = request(cell.address(), "GET", "/health", &[], b"");
    assert_eq!((health.status, &health.json()["status"]), (200, &"active".into()));
    let peers = request(cell.address(), "GET", "/peers", &[], b"").json();
    assert_eq!(peers["peers"], serde_json::json!([other.url]));
    assert_eq!(
        (&peers["cells"][0]["node_id"], &peers["cells"][0]["state"]),
        (&other.id.as_str().into(), &"active".into())
    );
}
