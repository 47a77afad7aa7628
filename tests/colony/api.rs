//! Every call of a cell, by hand, through the door of a real process.

use std::collections::BTreeSet;
use std::fs;

use cellsync::id::{ChunkId, MAX_CHUNK_BYTES};

use crate::house::{Colony, noise};
use crate::raw::{ask, ask_exactly};

fn named(bytes: &[u8]) -> String {
    format!("/chunk/{}", ChunkId::of(bytes))
}

/// Goal: a chunk goes in and comes out by every way there is. Method: each of them, twice where that may matter.
#[test]
fn a_chunk_is_put_asked_for_and_fetched() {
    let colony = Colony::start(1);
    let door = colony.cells[0].door();
    let bytes = noise(1, 70_000);
    let (id, target) = (ChunkId::of(&bytes).to_string(), named(&bytes));

    ask(door, "HEAD", &target, &[], b"");
    assert_eq!(ask(door, "HEAD", &target, &[], b"").status, 404);
    ask(door, "GET", &target, &["X-Hops: 0"], b"").is_problem(404);
    ask(door, "GET", &target, &[], b"").is_problem(404);
    for _ in 0..2 {
        let put = ask(door, "PUT", &target, &["CellSync-Copies: 3"], &bytes);
        assert_eq!((put.status, put.body.len()), (200, 0));
        assert_eq!(fs::read(colony.cells[0].chunk_file(&id)).unwrap(), bytes);
    }
    let got = ask(door, "GET", &target, &[], b"");
    let tag = format!("\"{id}\"");
    assert!(got.status == 200 && got.body == bytes);
    assert_eq!(got.field("content-length"), Some("70000"));
    assert_eq!(got.field("etag"), Some(tag.as_str()));
    assert_eq!(got.field("content-type"), Some("application/octet-stream"));
    let same = ask(door, "GET", &target, &[&format!("If-None-Match: {tag}")], b"");
    assert_eq!((same.status, same.field("etag")), (304, Some(tag.as_str())));
    assert_eq!(ask(door, "GET", &target, &["If-None-Match: \"other\""], b"").status, 200);
    let head = ask(door, "HEAD", &target, &[], b"");
    assert_eq!((head.status, head.field("content-length"), head.body.len()), (200, Some("70000"), 0));

    let other = noise(2, 1000);
    let posted = ask(door, "POST", "/chunk", &[], &other);
    assert_eq!((posted.status, &posted.json()["id"]), (200, &ChunkId::of(&other).to_string().into()));
    assert_eq!(ask(door, "GET", &named(&other), &[], b"").body, other);
}

/// Goal: a cell keeps nothing that is not what its name says, and says what was wrong in a form that programs read.
/// Method: every kind of wrong put.
#[test]
fn what_is_wrong_is_refused_as_a_problem_and_not_kept() {
    let colony = Colony::start(1);
    let cell = &colony.cells[0];
    let door = cell.door();
    let id = ChunkId::of(b"right").to_string();
    let target = format!("/chunk/{id}");

    ask(door, "PUT", &target, &[], b"wrong").is_problem(422);
    ask(door, "PUT", &target, &["CellSync-Copies: 0"], b"right").is_problem(400);
    ask(door, "PUT", &target, &["CellSync-Holders: me"], b"right").is_problem(400);
    ask(door, "PUT", &target, &["CellSync-Owner: me"], b"right").is_problem(400);
    for malformed in ["abc", "", "..", "../../etc/passwd", &id.to_uppercase(), &format!("{id}0")] {
        for method in ["PUT", "GET"] {
            ask(door, method, &format!("/chunk/{malformed}"), &[], b"").is_problem(400);
        }
    }
    ask_exactly(door, "PUT", &target, &["Connection: close"], b"").is_problem(411);
    ask_exactly(door, "PUT", &target, &["Transfer-Encoding: chunked"], b"5\r\nright\r\n0\r\n\r\n").is_problem(411);
    let length = format!("Content-Length: {}", MAX_CHUNK_BYTES + 1);
    ask_exactly(door, "PUT", &target, &[&length], b"").is_problem(413);
    ask(door, "POST", "/chunks/have", &[], b"not an id\n").is_problem(400);
    ask(door, "GET", "/chunks?limit=0", &[], b"").is_problem(400);
    ask(door, "GET", "/nowhere", &[], b"").is_problem(404);
    let wrong_method = ask(door, "POST", "/peers", &[], b"");
    wrong_method.is_problem(405);
    assert_eq!(wrong_method.field("allow"), Some("GET, HEAD"));

    assert!(cell.chunks().is_empty() && !cell.is_taking_a_chunk());
    // The largest chunk that there may be is not too large.
    let largest = noise(1, MAX_CHUNK_BYTES);
    assert_eq!(ask(door, "PUT", &named(&largest), &[], &largest).status, 200);
    assert!(ask(door, "GET", &named(&largest), &[], b"").body == largest);
}

/// Goal: what a cell has can be asked for in bulk and listed in pages. Method: a dozen chunks.
#[test]
fn chunks_are_asked_for_in_bulk_and_listed_in_pages() {
    let colony = Colony::start(1);
    let door = colony.cells[0].door();
    let all: BTreeSet<String> = (0..12)
        .map(|n| {
            let answer = ask(door, "POST", "/chunk", &[], &noise(n, 100));
            answer.json()["id"].as_str().unwrap().to_owned()
        })
        .collect();
    let strangers: Vec<String> = (0..5).map(|n: u64| ChunkId::of(&n.to_le_bytes()).to_string()).collect();
    let asked: Vec<&str> = all.iter().chain(&strangers).map(String::as_str).collect();
    let have = ask(door, "POST", "/chunks/have", &[], asked.join("\n").as_bytes());
    assert_eq!(have.status, 200);
    assert_eq!(have.text().lines().map(ToOwned::to_owned).collect::<BTreeSet<_>>(), all);
    assert_eq!(ask(door, "POST", "/chunks/have", &[], b"").text(), "");

    let mut listed: Vec<String> = Vec::new();
    loop {
        let after = listed.last().map_or_else(String::new, |last| format!("&after={last}"));
        let page = ask(door, "GET", &format!("/chunks?limit=5{after}"), &[], b"");
        let ids: Vec<String> = page.text().lines().map(ToOwned::to_owned).collect();
        assert!(ids.len() <= 5);
        if ids.is_empty() {
            break;
        }
        listed.extend(ids);
    }
    assert_eq!(listed, all.into_iter().collect::<Vec<_>>(), "each once, in order");
}

/// Goal: a cell tells how it is. Method: `/status`, `/health` and `/peers` of a cell of two.
#[test]
fn a_cell_tells_its_facts() {
    let colony = Colony::start(2);
    let [cell, other] = &colony.cells[..] else { panic!() };
    let bytes = noise(1, 5000);
    assert_eq!(ask(cell.door(), "PUT", &named(&bytes), &[], &bytes).status, 200);
    let status = ask(cell.door(), "GET", "/status", &[], b"").json();
    assert_eq!((&status["node_id"], &status["bytes"]), (&cell.id.as_str().into(), &5000.into()));
    assert_eq!((&status["status"], &status["version"]), (&"active".into(), &env!("CARGO_PKG_VERSION").into()));
    let health = ask(cell.door(), "GET", "/health", &[], b"");
    assert_eq!((health.status, &health.json()["status"]), (200, &"active".into()));
    let peers = ask(cell.door(), "GET", "/peers", &[], b"").json();
    assert_eq!(peers["peers"], serde_json::json!([other.url]));
    assert_eq!(
        (&peers["cells"][0]["node_id"], &peers["cells"][0]["state"]),
        (&other.id.as_str().into(), &"active".into())
    );
}
