//! Exchanges by the rules of HTTP, and responses of the backend that fail.

use std::time::Duration;

use cellsync::id::ChunkId;

use crate::harness::{TestGateway, short_timeouts};
use crate::wait::wait_until;

#[test]
fn many_requests_share_a_connection() {
    let gateway = TestGateway::new(short_timeouts());
    let mut client = gateway.client();
    for round in 0..300_usize {
        let body = vec![b'x'; round * 37];
        client.send(format!("PUT /{round} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len()));
        let response = client.request(&body);
        assert_eq!(response.json()["id"], ChunkId::of(&body).to_string());
        assert_eq!(response.json()["target"], format!("/{round}"));
    }
    assert_eq!(gateway.stats.accepted(), 1);
    assert_eq!(gateway.stats.requests(), 300);
}

#[test]
fn pipelined_requests_get_responses_in_order() {
    let gateway = TestGateway::new(short_timeouts());
    let mut client = gateway.client();
    let pair = |round| {
        let put = format!("PUT /{round} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
        put + "HEAD /zeros/5 HTTP/1.1\r\nHost: x\r\n\r\n"
    };
    client.send((0..50).map(pair).collect::<String>());
    for round in 0..50 {
        assert_eq!(client.read_response().json()["target"], format!("/{round}"));
        assert_eq!(client.read_bodyless_response().field("content-length"), Some("5"));
    }
}

#[test]
fn garbage_after_a_request_ends_the_connection_after_it() {
    let gateway = TestGateway::new(short_timeouts());
    let mut client = gateway.client();
    client.send(b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc\0\x01garbage");
    assert_eq!(client.read_response().status, 200);
    assert_eq!(client.read_response().status, 400);
    client.assert_closed();
    gateway.assert_serves();
}

#[test]
fn large_bodies_and_responses_arrive_complete() {
    let gateway = TestGateway::new(short_timeouts());
    let body: Vec<u8> = (0..2 << 20).map(|at: u32| at.to_be_bytes()[2]).collect();
    let mut client = gateway.client();
    client.send(format!("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len()));
    assert_eq!(client.request(&body).json()["id"], ChunkId::of(&body).to_string());
    let response = client.request("GET /zeros/30000000 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(response.body.len(), 30_000_000);
    assert_eq!(response.field("transfer-encoding"), None);
    assert_eq!(response.field("etag"), Some("\"z\""));
}

#[test]
fn a_head_request_gets_the_length_and_no_body() {
    let gateway = TestGateway::new(short_timeouts());
    let mut client = gateway.client();
    client.send("HEAD /zeros/30000000 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.read_bodyless_response().field("content-length"), Some("30000000"));
    assert_eq!(client.request("GET /zeros/2 HTTP/1.1\r\nHost: x\r\n\r\n").body, [0, 0]);
}

#[test]
fn a_client_that_expects_100_continue_gets_it() {
    let gateway = TestGateway::new(short_timeouts());
    let mut client = gateway.client();
    client.send("PUT /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.read_head(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.request("hello").json()["bytes"], 5);
    // Refused before the body is sent.
    let response =
        client.request("PUT /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n");
    assert_eq!(response.status, 413);
    client.assert_closed();
}

#[test]
fn http_1_0_and_connection_close_end_after_the_response() {
    let gateway = TestGateway::new(short_timeouts());
    for head in ["GET /zeros/3 HTTP/1.0\r\n\r\n", "GET /zeros/3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"] {
        let mut client = gateway.client();
        let response = client.request(head);
        assert_eq!((response.status, response.field("connection")), (200, Some("close")));
        client.assert_closed();
    }
    let mut client = gateway.client();
    for _ in 0..3 {
        let response = client.request("GET /zeros/3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(response.field("connection"), Some("keep-alive"));
    }
}

#[test]
fn a_half_closed_client_still_gets_its_response() {
    let gateway = TestGateway::new(short_timeouts());
    let mut client = gateway.client();
    client.send("PUT /latch/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    client.finish_sending();
    wait_until("the request is being handled", || gateway.latch.waiting() == 1);
    gateway.latch.open();
    assert_eq!(client.read_response().body, b"through");
    client.assert_closed();
}

#[test]
fn a_response_before_the_body_is_read_keeps_the_connection() {
    let gateway = TestGateway::new(short_timeouts());
    let mut client = gateway.client();
    let body = vec![1; 2 << 20];
    for _ in 0..5 {
        client.send(format!("PUT /no-room/x HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len()));
        let response = client.request(&body);
        assert_eq!((response.status, response.json()["title"].as_str()), (507, Some("Insufficient Storage")));
    }
    assert_eq!(client.request("GET /zeros/1 HTTP/1.1\r\nHost: x\r\n\r\n").body, [0]);
    assert_eq!(gateway.stats.accepted(), 1);
}

#[test]
fn a_short_response_ends_the_connection_at_once() {
    let gateway = TestGateway::new(short_timeouts());
    for (target, most) in [("/short/x", 50_000), ("/failing/x", 0)] {
        let mut client = gateway.client();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let began = std::time::Instant::now();
        if most > 0 {
            assert!(client.read_head().contains("Content-Length: 100000\r\n"));
            assert!(client.read_to_end().len() <= most);
        } else {
            // tiny_http has sent nothing yet, so the gateway can still answer.
            assert_eq!(client.read_response().status, 502);
        }
        // Long before the response timeout.
        assert!(began.elapsed() < Duration::from_secs(2));
        gateway.assert_serves();
    }
}

#[test]
fn a_handler_without_a_response_is_a_500() {
    let gateway = TestGateway::new(short_timeouts());
    let mut client = gateway.client();
    assert_eq!(client.request("GET /drop/x HTTP/1.1\r\nHost: x\r\n\r\n").status, 500);
    assert_eq!(client.request("GET /zeros/1 HTTP/1.1\r\nHost: x\r\n\r\n").status, 200);
}

#[test]
fn a_failed_backend_is_a_502_and_a_hung_one_a_504() {
    let mut gateway = TestGateway::new(cellsync::net::GatewayLimits { response_timeout_ms: 200, ..short_timeouts() });
    let response = gateway.client().request("GET /latch/x HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(response.status, 504);
    gateway.latch.open();
    assert!(gateway.backend.take().unwrap().stop(Duration::from_secs(5)), "all workers have ended");
    wait_until("the backend is gone", || gateway.client().request("GET / HTTP/1.1\r\nHost: x\r\n\r\n").status == 502);
}

#[test]
fn a_stop_finishes_requests_and_closes_idle_connections() {
    let mut gateway = TestGateway::new(short_timeouts());
    let mut idle = gateway.client();
    assert_eq!(idle.request("GET / HTTP/1.1\r\nHost: x\r\n\r\n").status, 200);
    let mut half = gateway.client();
    half.send("GET / HT");
    let mut busy = gateway.client();
    busy.send("GET /latch/x HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_until("the request is being handled", || gateway.latch.waiting() == 1);
    gateway.begin_stop();
    idle.assert_closed();
    half.assert_closed();
    wait_until("no connection is accepted", || std::net::TcpStream::connect(gateway.address).is_err());
    gateway.latch.open();
    let response = busy.read_response();
    assert_eq!((response.body.as_slice(), response.field("connection")), (b"through".as_slice(), Some("close")));
    busy.assert_closed();
    gateway.join();
    assert!(gateway.backend.take().unwrap().stop(Duration::from_secs(5)), "all workers have ended");
    assert_eq!(gateway.stats.open(), 0);
}

#[test]
fn a_burst_of_slow_requests_is_handled_in_parallel() {
    // tiny_http alone may queue one request of a burst behind another until that one ends.
    for _ in 0..40 {
        let gateway = TestGateway::new(short_timeouts());
        let mut clients: Vec<_> = (0..9).map(|_| gateway.client()).collect();
        wait_until("all are connected", || gateway.stats.open() == 9);
        for client in &mut clients {
            client.send("GET /latch/x HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        wait_until("all are being handled", || gateway.latch.waiting() == 9);
        gateway.latch.open();
        for client in &mut clients {
            assert_eq!(client.read_response().body, b"through");
        }
    }
}
