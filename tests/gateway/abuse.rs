//! Clients that send too much, too slowly, or never read.

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use crate::harness::{TestGateway, resident_kib, short_timeouts};
use crate::wait::wait_until;

#[test]
fn an_endless_head_is_refused_early_and_takes_no_memory() {
    let gateway = TestGateway::new(short_timeouts());
    gateway.assert_serves();
    let before = resident_kib();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: x\r\nA: ");
    let piece = vec![b'a'; 1 << 20];
    let mut sent = 0;
    // The refusal arrives while the client is still sending, which fails once the gateway has closed the connection.
    for _ in 0..200 {
        match client.stream.write(&piece) {
            Ok(count) => sent += count,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
                break;
            }
        }
    }
    assert!(sent < 100 << 20, "the gateway read {sent} bytes");
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 32 * 1024, "memory grew by {grown} KiB");
    assert_eq!(gateway.stats.refused(), [(431, 1)]);
    gateway.assert_serves();
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let gateway = TestGateway::new(short_timeouts());
    for _ in 0..20 {
        let mut client = gateway.client();
        client.send("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n");
        client.send(vec![0; 100_000]);
        assert_eq!(client.read_response().status, 413);
        client.finish_sending();
        client.assert_closed();
    }
}

#[test]
fn a_dripping_head_meets_the_deadline() {
    let gateway = TestGateway::new(short_timeouts());
    let mut client = gateway.client();
    let mut reader = gateway.client();
    let began = Instant::now();
    let head =
        "GET / HTTP/1.1\r\nHost: x\r\nA: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    for byte in head.bytes() {
        // Each byte arrives well within the timeout, but not all of them together.
        if client.stream.write_all(&[byte]).is_err() || !gateway.stats.refused().is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(client.read_response().status, 408);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(reader.request("GET /zeros/1 HTTP/1.1\r\nHost: x\r\n\r\n").status, 200);
    gateway.assert_serves();
}

#[test]
fn a_dripping_body_closes_the_connection() {
    let gateway = TestGateway::new(short_timeouts());
    let mut client = gateway.client();
    client.send("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
    let began = Instant::now();
    while client.stream.write_all(b"x").is_ok() && gateway.stats.too_slow() == 0 {
        assert!(began.elapsed() < Duration::from_secs(5), "still open");
        std::thread::sleep(Duration::from_millis(20));
        if began.elapsed() < Duration::from_millis(100) {
            gateway.assert_serves();
        }
    }
    wait_until("the slow client is counted", || gateway.stats.too_slow() == 1);
    client.assert_closed();
    gateway.assert_serves();
    wait_until("its worker is free again", || gateway.backend.as_ref().unwrap().workers() < 10);
}

#[test]
fn an_idle_connection_is_closed_after_its_timeout() {
    let gateway = TestGateway::new(cellsync::net::GatewayLimits { idle_timeout_ms: 100, ..short_timeouts() });
    let mut fresh = gateway.client();
    let mut used = gateway.client();
    assert_eq!(used.request("GET /zeros/1 HTTP/1.1\r\nHost: x\r\n\r\n").status, 200);
    fresh.assert_closed();
    used.assert_closed();
    gateway.assert_serves();
}

#[test]
fn a_client_that_never_reads_is_disconnected() {
    let gateway = TestGateway::new(short_timeouts());
    let mut client = gateway.client();
    client.send("GET /zeros/200000000 HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_until("the client is counted as too slow", || gateway.stats.too_slow() == 1);
    assert!(client.read_to_end().len() < 100_000_000);
    gateway.assert_serves();
    wait_until("its slot is free", || gateway.stats.open() <= 4);
}

#[test]
fn disconnecting_clients_leave_nothing_behind() {
    let gateway = TestGateway::new(short_timeouts());
    for round in 0..100_usize {
        let mut client = gateway.client();
        let whole = "PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\nsome bytes";
        client.send(&whole[..whole.len() * round / 100]);
        if round % 2 == 0 {
            client.finish_sending();
        }
    }
    wait_until("all connections are closed", || gateway.stats.open() == 0);
    gateway.assert_serves();
}
