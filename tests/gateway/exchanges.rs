//! Exchanges that keep the rules, in all the ways that HTTP has for it; and answers that go wrong behind the door.

use std::time::Duration;

use cellsync::id::ChunkId;

use crate::house::{House, eventually, tight};

#[test]
fn many_requests_share_a_connection() {
    let house = House::new(tight());
    let mut client = house.client();
    for round in 0..300_usize {
        let body = vec![b'x'; round * 37];
        client.send(format!("PUT /{round} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len()));
        let answer = client.ask(&body);
        assert_eq!(answer.json()["id"], ChunkId::of(&body).to_string());
        assert_eq!(answer.json()["target"], format!("/{round}"));
    }
    assert_eq!(house.stats.accepted(), 1);
    assert_eq!(house.stats.requests(), 300);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let house = House::new(tight());
    let mut client = house.client();
    let pair = |round| {
        let put = format!("PUT /{round} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
        put + "HEAD /zeros/5 HTTP/1.1\r\nHost: x\r\n\r\n"
    };
    client.send((0..50).map(pair).collect::<String>());
    for round in 0..50 {
        assert_eq!(client.answer().json()["target"], format!("/{round}"));
        assert_eq!(client.answer_to(false).field("content-length"), Some("5"));
    }
}

#[test]
fn garbage_after_a_request_ends_the_connection_after_its_answer() {
    let house = House::new(tight());
    let mut client = house.client();
    client.send(b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc\0\x01garbage");
    assert_eq!(client.answer().status, 200);
    assert_eq!(client.answer().status, 400);
    client.assert_closed();
    house.assert_serves();
}

#[test]
fn large_bodies_and_answers_arrive_whole() {
    let house = House::new(tight());
    let body: Vec<u8> = (0..2 << 20).map(|at: u32| at.to_be_bytes()[2]).collect();
    let mut client = house.client();
    client.send(format!("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len()));
    assert_eq!(client.ask(&body).json()["id"], ChunkId::of(&body).to_string());
    let answer = client.ask("GET /zeros/30000000 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(answer.body.len(), 30_000_000);
    assert_eq!(answer.field("transfer-encoding"), None);
    assert_eq!(answer.field("etag"), Some("\"z\""));
}

#[test]
fn a_head_request_declares_the_length_and_sends_nothing() {
    let house = House::new(tight());
    let mut client = house.client();
    client.send("HEAD /zeros/30000000 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.answer_to(false).field("content-length"), Some("30000000"));
    assert_eq!(client.ask("GET /zeros/2 HTTP/1.1\r\nHost: x\r\n\r\n").body, [0, 0]);
}

#[test]
fn a_client_that_waits_for_100_is_told_to_go_on() {
    let house = House::new(tight());
    let mut client = house.client();
    client.send("PUT /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.ask("hello").json()["bytes"], 5);
    // Refused before the body is sent.
    let answer = client.ask("PUT /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n");
    assert_eq!(answer.status, 413);
    client.assert_closed();
}

#[test]
fn http_1_0_and_connection_close_end_after_the_answer() {
    let house = House::new(tight());
    for head in ["GET /zeros/3 HTTP/1.0\r\n\r\n", "GET /zeros/3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"] {
        let mut client = house.client();
        let answer = client.ask(head);
        assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
        client.assert_closed();
    }
    let mut client = house.client();
    for _ in 0..3 {
        let answer = client.ask("GET /zeros/3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(answer.field("connection"), Some("keep-alive"));
    }
}

#[test]
fn a_client_that_has_finished_sending_still_gets_its_answer() {
    let house = House::new(tight());
    let mut client = house.client();
    client.send("PUT /gate/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    client.finish_sending();
    eventually("the request is being handled", || house.gate.waiting() == 1);
    house.gate.open();
    assert_eq!(client.answer().body, b"through");
    client.assert_closed();
}

#[test]
fn a_handler_that_refuses_without_reading_is_heard_and_the_connection_goes_on() {
    let house = House::new(tight());
    let mut client = house.client();
    let body = vec![1; 2 << 20];
    for _ in 0..5 {
        client.send(format!("PUT /no-room/x HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len()));
        let answer = client.ask(&body);
        assert_eq!((answer.status, answer.json()["title"].as_str()), (507, Some("Insufficient Storage")));
    }
    assert_eq!(client.ask("GET /zeros/1 HTTP/1.1\r\nHost: x\r\n\r\n").body, [0]);
    assert_eq!(house.stats.accepted(), 1);
}

#[test]
fn an_answer_shorter_than_declared_ends_the_connection_at_once() {
    let house = House::new(tight());
    for (target, most) in [("/short/x", 50_000), ("/dead-peer/x", 0)] {
        let mut client = house.client();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let began = std::time::Instant::now();
        if most > 0 {
            assert!(client.head().contains("Content-Length: 100000\r\n"));
            assert!(client.rest().len() <= most);
        } else {
            // Nothing of the answer had left tiny_http yet, so the client can be told.
            assert_eq!(client.answer().status, 502);
        }
        // Long before the time for an answer is over.
        assert!(began.elapsed() < Duration::from_secs(2));
        house.assert_serves();
    }
}

#[test]
fn a_handler_that_gives_no_answer_is_a_500() {
    let house = House::new(tight());
    let mut client = house.client();
    assert_eq!(client.ask("GET /drop/x HTTP/1.1\r\nHost: x\r\n\r\n").status, 500);
    assert_eq!(client.ask("GET /zeros/1 HTTP/1.1\r\nHost: x\r\n\r\n").status, 200);
}

#[test]
fn a_server_that_is_gone_is_a_502_and_one_that_hangs_a_504() {
    let mut house = House::new(cellsync::net::GatewayLimits { response_timeout_ms: 200, ..tight() });
    let answer = house.client().ask("GET /gate/x HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(answer.status, 504);
    house.gate.open();
    assert!(house.server.take().unwrap().stop(Duration::from_secs(5)), "all workers have left");
    eventually("the server is gone", || house.client().ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").status == 502);
}

#[test]
fn a_stop_lets_a_request_finish_and_closes_the_idle() {
    let mut house = House::new(tight());
    let mut idle = house.client();
    assert_eq!(idle.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").status, 200);
    let mut half = house.client();
    half.send("GET / HT");
    let mut busy = house.client();
    busy.send("GET /gate/x HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("the request is being handled", || house.gate.waiting() == 1);
    house.begin_stop();
    idle.assert_closed();
    half.assert_closed();
    eventually("nobody is let in any more", || std::net::TcpStream::connect(house.address).is_err());
    house.gate.open();
    let answer = busy.answer();
    assert_eq!((answer.body.as_slice(), answer.field("connection")), (b"through".as_slice(), Some("close")));
    busy.assert_closed();
    house.stopped();
    assert!(house.server.take().unwrap().stop(Duration::from_secs(5)), "all workers have left");
    assert_eq!(house.stats.open(), 0);
}

#[test]
fn a_burst_of_slow_requests_is_handled_all_at_once() {
    // tiny_http alone may queue one of such a burst behind another, to be served when that one ends.
    for _ in 0..40 {
        let house = House::new(tight());
        let mut clients: Vec<_> = (0..9).map(|_| house.client()).collect();
        eventually("all are in", || house.stats.open() == 9);
        for client in &mut clients {
            client.send("GET /gate/x HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        eventually("all are being handled", || house.gate.waiting() == 9);
        house.gate.open();
        for client in &mut clients {
            assert_eq!(client.answer().body, b"through");
        }
    }
}
