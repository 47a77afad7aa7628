//! Clients that send too much, too slowly, or never read.

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use crate::house::{House, eventually, resident_kib, tight};

#[test]
fn an_endless_head_is_refused_early_and_costs_no_memory() {
    let house = House::new(tight());
    house.assert_serves();
    let before = resident_kib();
    let mut client = house.client();
    client.send("GET / HTTP/1.1\r\nHost: x\r\nA: ");
    let piece = vec![b'a'; 1 << 20];
    let mut sent = 0;
    // The refusal comes while the client goes on sending, which fails once the door has closed.
    for _ in 0..200 {
        match client.stream.write(&piece) {
            Ok(count) => sent += count,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
                break;
            }
        }
    }
    assert!(sent < 100 << 20, "the door read on: {sent} bytes");
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 32 * 1024, "memory grew by {grown} KiB");
    assert_eq!(house.stats.refused(), [(431, 1)]);
    house.assert_serves();
}

#[test]
fn the_status_of_a_refusal_arrives_although_the_client_was_still_sending() {
    let house = House::new(tight());
    for _ in 0..20 {
        let mut client = house.client();
        client.send("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n");
        client.send(vec![0; 100_000]);
        assert_eq!(client.answer().status, 413);
        client.finish_sending();
        client.assert_closed();
    }
}

#[test]
fn a_head_that_drips_runs_out_of_time() {
    let house = House::new(tight());
    let mut client = house.client();
    let mut reader = house.client();
    let began = Instant::now();
    let head =
        "GET / HTTP/1.1\r\nHost: x\r\nA: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    for byte in head.bytes() {
        // Each byte comes well within the limit; all of them do not.
        if client.stream.write_all(&[byte]).is_err() || !house.stats.refused().is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(client.answer().status, 408);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(reader.ask("GET /zeros/1 HTTP/1.1\r\nHost: x\r\n\r\n").status, 200);
    house.assert_serves();
}

#[test]
fn a_body_that_drips_is_cut_off() {
    let house = House::new(tight());
    let mut client = house.client();
    client.send("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
    let began = Instant::now();
    while client.stream.write_all(b"x").is_ok() && house.stats.too_slow() == 0 {
        assert!(began.elapsed() < Duration::from_secs(5), "still open");
        std::thread::sleep(Duration::from_millis(20));
        if began.elapsed() < Duration::from_millis(100) {
            house.assert_serves();
        }
    }
    eventually("the slow one is counted", || house.stats.too_slow() == 1);
    client.assert_closed();
    house.assert_serves();
    eventually("its worker is free again", || house.server.as_ref().unwrap().workers() < 10);
}

#[test]
fn a_silent_connection_is_closed_when_its_time_is_over() {
    let house = House::new(cellsync::net::GatewayLimits { idle_timeout_ms: 100, ..tight() });
    let mut fresh = house.client();
    let mut used = house.client();
    assert_eq!(used.ask("GET /zeros/1 HTTP/1.1\r\nHost: x\r\n\r\n").status, 200);
    fresh.assert_closed();
    used.assert_closed();
    house.assert_serves();
}

#[test]
fn a_client_that_never_reads_its_answer_is_cut_off() {
    let house = House::new(tight());
    let mut client = house.client();
    client.send("GET /zeros/200000000 HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("the client is found too slow", || house.stats.too_slow() == 1);
    assert!(client.rest().len() < 100_000_000);
    house.assert_serves();
    eventually("its place is free", || house.stats.open() <= 4);
}

#[test]
fn clients_that_leave_in_the_middle_leave_nothing_behind() {
    let house = House::new(tight());
    for round in 0..100_usize {
        let mut client = house.client();
        let whole = "PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\nsome bytes";
        client.send(&whole[..whole.len() * round / 100]);
        if round % 2 == 0 {
            client.finish_sending();
        }
    }
    eventually("all are gone", || house.stats.open() == 0);
    house.assert_serves();
}
