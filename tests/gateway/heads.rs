//! Heads: which are refused, with what, and that both parsers see the same request.

use crate::house::{House, tight};

/// Sends a head, gets that status as a problem, and finds the connection closed.
fn refused(house: &House, status: u16, bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    let mut client = house.client();
    let answer = client.ask(bytes);
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    assert_eq!(answer.status, status, "{shown:?} -> {answer:?}");
    assert_eq!(answer.field("content-type"), Some("application/problem+json"), "{shown:?}");
    assert_eq!(answer.json()["status"], status);
    assert_eq!(answer.field("connection"), Some("close"));
    client.assert_closed();
}

#[test]
fn lengths_that_would_kill_the_server_are_refused_at_the_door() {
    let house = House::new(tight());
    for (status, length) in [
        (413, "1000000000000000"),
        (413, "18446744073709551615"),
        (413, "2097153"),
        (400, "18446744073709551616"),
        (400, "-1"),
        (400, "+5"),
        (400, "5, 5"),
        (400, "5\r\nContent-Length: 6"),
        (400, "abc"),
        (400, ""),
    ] {
        refused(&house, status, format!("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\nabc"));
        house.assert_serves();
    }
    let counts = house.stats.refused();
    assert_eq!(counts, [(400, 7), (413, 3)]);
}

#[test]
fn a_body_without_a_declared_length_is_refused() {
    let house = House::new(tight());
    for fields in ["", "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: gzip, chunked\r\n"] {
        for method in ["PUT", "POST"] {
            refused(&house, 411, format!("{method} /x HTTP/1.1\r\nHost: x\r\n{fields}\r\n3\r\nabc\r\n0\r\n\r\n"));
        }
    }
    house.assert_serves();
}

#[test]
fn smuggled_requests_never_come_through() {
    let house = House::new(tight());
    let inner = "GET /smuggled/1 HTTP/1.1\r\nHost: x\r\n\r\n";
    let length = inner.len();
    for (status, head) in [
        (411, "PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()),
        (411, "PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\nContent-Length: 4\r\n\r\n".to_owned()),
        (400, "PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\nContent-Length: 4\r\n\r\n".to_owned()),
        (400, format!("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: {length}\r\n\r\n")),
        (400, format!("PUT /x HTTP/1.1\nHost: x\nContent-Length: {length}\n\n")),
        (400, format!("PUT /x HTTP/1.1\r\nHost: x\r\nA: b\n\nContent-Length: {length}\r\n\r\n")),
        (400, "GET /x HTTP/1.1\r\nHost: x\r\nA: b\r\n folded: c\r\n\r\n".to_owned()),
        (400, "GET /x HTTP/1.1\r\nHost: x\r\nA: b\rContent-Length: 9\r\n\r\n".to_owned()),
    ] {
        refused(&house, status, format!("{head}{inner}"));
    }
    // A body that looks like a request is a body.
    let mut client = house.client();
    let answer = client.ask(format!("PUT /outer HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{inner}"));
    assert_eq!(answer.json()["bytes"], length);
    let answer = client.ask("GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(answer.json()["target"], "/next");
}

#[test]
fn odd_paths_get_a_status_and_reach_the_handler_as_they_are() {
    let house = House::new(tight());
    for target in ["/chunk/../../etc/passwd", "//", "/%2e%2e/%2e%2e/etc/passwd", "/%00", "/a?b=c&d=%ff", "/\\..\\x"] {
        let answer = house.client().ask(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(answer.json()["target"], target);
    }
    for target in ["http://x/", "x", "*", "../etc/passwd", "/a#b", "/\0", "/\x1b[2J", "/ü", "/a b"] {
        refused(&house, 400, format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
    }
    refused(&house, 431, format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(9000)));
    house.assert_serves();
}

#[test]
fn other_protocols_methods_and_versions_are_told_so() {
    let house = House::new(tight());
    refused(&house, 505, "GET / HTTP/2.0\r\nHost: x\r\n\r\n");
    refused(&house, 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    refused(&house, 405, "TRACE / HTTP/1.1\r\nHost: x\r\n\r\n");
    refused(&house, 501, "GREET / HTTP/1.1\r\nHost: x\r\n\r\n");
    refused(&house, 400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    refused(&house, 400, "GET / HTTP/1.1\r\n\r\n");
    refused(&house, 417, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: x\r\n\r\n");
    refused(&house, 431, format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(64)));
    let answer = house.client().ask("OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(answer.field("allow"), Some("GET, HEAD, PUT, POST, DELETE"));
    house.assert_serves();
}

#[test]
fn the_answer_to_a_refused_head_request_has_no_body() {
    let house = House::new(tight());
    let mut client = house.client();
    client.send("HEAD / HTTP/1.1\r\n\r\n");
    assert_eq!(client.answer_to(false).status, 400);
    client.assert_closed();
}

#[test]
fn a_client_cannot_say_who_it_is() {
    let house = House::new(tight());
    let answer = house.client_from(9).ask("GET / HTTP/1.1\r\nHost: x\r\nCellSync-Client: 10.1.1.1\r\n\r\n");
    assert_eq!(answer.json()["client"], "127.0.0.9");
}
