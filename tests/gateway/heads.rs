//! Heads: which are refused with which status, and that the backend sees the request that the gateway checked.

use crate::harness::{TestGateway, short_timeouts};

/// Sends a head, and expects a problem of this status and the end of the connection.
fn assert_refused(gateway: &TestGateway, status: u16, bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    let mut client = gateway.client();
    let response = client.request(bytes);
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    assert_eq!(response.status, status, "{shown:?} -> {response:?}");
    assert_eq!(response.field("content-type"), Some("application/problem+json"), "{shown:?}");
    assert_eq!(response.json()["status"], status);
    assert_eq!(response.field("connection"), Some("close"));
    client.assert_closed();
}

#[test]
fn invalid_and_excessive_lengths_are_refused() {
    let gateway = TestGateway::new(short_timeouts());
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
        assert_refused(&gateway, status, format!("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\nabc"));
        gateway.assert_serves();
    }
    let counts = gateway.stats.refused();
    assert_eq!(counts, [(400, 7), (413, 3)]);
}

#[test]
fn a_body_without_a_declared_length_is_refused() {
    let gateway = TestGateway::new(short_timeouts());
    for fields in ["", "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: gzip, chunked\r\n"] {
        for method in ["PUT", "POST"] {
            assert_refused(
                &gateway,
                411,
                format!("{method} /x HTTP/1.1\r\nHost: x\r\n{fields}\r\n3\r\nabc\r\n0\r\n\r\n"),
            );
        }
    }
    gateway.assert_serves();
}

#[test]
fn smuggled_requests_are_never_relayed() {
    let gateway = TestGateway::new(short_timeouts());
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
        assert_refused(&gateway, status, format!("{head}{inner}"));
    }
    // A body that looks like a request stays a body.
    let mut client = gateway.client();
    let response = client.request(format!("PUT /outer HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{inner}"));
    assert_eq!(response.json()["bytes"], length);
    let response = client.request("GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(response.json()["target"], "/next");
}

#[test]
fn odd_paths_are_refused_or_relayed_unchanged() {
    let gateway = TestGateway::new(short_timeouts());
    for target in ["/chunk/../../etc/passwd", "//", "/%2e%2e/%2e%2e/etc/passwd", "/%00", "/a?b=c&d=%ff", "/\\..\\x"] {
        let response = gateway.client().request(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(response.json()["target"], target);
    }
    for target in ["http://x/", "x", "*", "../etc/passwd", "/a#b", "/\0", "/\x1b[2J", "/ü", "/a b"] {
        assert_refused(&gateway, 400, format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
    }
    assert_refused(&gateway, 431, format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(9000)));
    gateway.assert_serves();
}

#[test]
fn other_protocols_methods_and_versions_are_refused() {
    let gateway = TestGateway::new(short_timeouts());
    assert_refused(&gateway, 505, "GET / HTTP/2.0\r\nHost: x\r\n\r\n");
    assert_refused(&gateway, 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_refused(&gateway, 405, "TRACE / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_refused(&gateway, 501, "HANDSHAKE / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_refused(&gateway, 400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    assert_refused(&gateway, 400, "GET / HTTP/1.1\r\n\r\n");
    assert_refused(&gateway, 417, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: x\r\n\r\n");
    assert_refused(&gateway, 431, format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(64)));
    let response = gateway.client().request("OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(response.field("allow"), Some("GET, HEAD, PUT, POST, DELETE"));
    gateway.assert_serves();
}

#[test]
fn a_refused_head_request_gets_no_body() {
    let gateway = TestGateway::new(short_timeouts());
    let mut client = gateway.client();
    client.send("HEAD / HTTP/1.1\r\n\r\n");
    assert_eq!(client.read_bodyless_response().status, 400);
    client.assert_closed();
}

#[test]
fn a_client_cannot_forge_its_address() {
    let gateway = TestGateway::new(short_timeouts());
    let response = gateway.client_from(9).request("GET / HTTP/1.1\r\nHost: x\r\nCellSync-Client: 10.1.1.1\r\n\r\n");
    assert_eq!(response.json()["client"], "127.0.0.9");
}
