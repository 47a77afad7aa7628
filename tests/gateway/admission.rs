//! Admission: more connections than slots, and fewer descriptors than connections.

use std::process::{Command, Stdio};

use cellsync::net::GatewayLimits;
use cellsync::net::fd_limit;

use crate::harness::{Client, TIMEOUT, TestGateway, short_timeouts};
use crate::wait::wait_until;

const REQUEST: &str = "GET /zeros/1 HTTP/1.1\r\nHost: x\r\n\r\n";

/// Limits under which only eviction closes half-open connections during a test.
fn long_timeouts() -> GatewayLimits {
    GatewayLimits { head_timeout_ms: 60_000, idle_timeout_ms: 60_000, response_timeout_ms: 60_000, ..short_timeouts() }
}

#[test]
fn half_open_connections_do_not_lock_out_others() {
    let gateway = TestGateway::new(long_timeouts());
    let mut held: Vec<Client> = Vec::new();
    for number in 0..500_u16 {
        let mut client = gateway.client_from((number % 5) as u8 + 1);
        // Fails on connections that were evicted already.
        std::io::Write::write_all(&mut client.stream, b"GET / HTTP/1.1\r\nHo").ok();
        held.push(client);
    }
    wait_until("all were accepted", || gateway.stats.accepted() == 500);
    gateway.assert_serves();
    wait_until("the surplus is evicted", || gateway.stats.open() <= 256);
    assert!(gateway.stats.evicted() >= 500 - 256);
    // Half-open connections occupy no worker.
    assert!(gateway.backend.as_ref().unwrap().workers() < 10);
}

#[test]
fn one_address_takes_slots_only_from_itself() {
    let gateway = TestGateway::new(long_timeouts());
    let mut other = gateway.client_from(2);
    assert_eq!(other.request(REQUEST).status, 200);
    let mut held: Vec<Client> = (0..200).map(|_| gateway.client_from(1)).collect();
    wait_until("all were accepted", || gateway.stats.accepted() == 201);
    wait_until("the surplus is evicted", || gateway.stats.open() == 65);
    assert_eq!(other.request(REQUEST).status, 200);
    assert_eq!(held.last_mut().unwrap().request(REQUEST).status, 200);
    held.first_mut().unwrap().assert_closed();
}

#[test]
fn a_connection_being_served_keeps_its_slot() {
    let gateway = TestGateway::new(GatewayLimits { max_connections: 4, ..long_timeouts() });
    let mut busy: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
    for client in &mut busy {
        client.send("GET /latch/x HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    wait_until("all are being handled", || gateway.latch.waiting() == 4);
    let mut late = gateway.client();
    late.send(REQUEST);
    let response = late.read_response();
    assert_eq!((response.status, response.field("retry-after")), (503, Some("1")));
    late.assert_closed();
    gateway.latch.open();
    for client in &mut busy {
        assert_eq!(client.read_response().body, b"through");
    }
    gateway.assert_serves();
}

/// Set in the child process of the test below. It runs the test under a low limit, which a process cannot raise again.
const CHILD: &str = "CELLSYNC_TEST_FEW_DESCRIPTORS";

#[test]
fn a_process_short_of_descriptors_keeps_serving() {
    if std::env::var_os(CHILD).is_some() {
        return with_few_descriptors();
    }
    let me = std::env::current_exe().unwrap();
    let test = "admission::a_process_short_of_descriptors_keeps_serving";
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n 100 && exec \"$0\" --exact \"$1\" --nocapture"])
        .arg(me)
        .arg(test)
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + 2 * TIMEOUT;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if std::time::Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the child hangs");
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut stderr).unwrap();
    assert!(status.success(), "{stderr}");
}

fn with_few_descriptors() {
    let limit = fd_limit::raise(100).unwrap();
    assert_eq!(limit, 100);
    // The clients of this test use descriptors of the same process.
    let fit = fd_limit::connections_that_fit(limit, 60);
    let gateway =
        TestGateway::new(GatewayLimits { max_connections: fit, max_connections_per_address: fit, ..long_timeouts() });
    gateway.assert_serves();
    wait_until("the gateway has closed its descriptors", || gateway.stats.open() == 0);
    let mut files = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        files.push(file);
    }
    // One descriptor for the client's own socket, none to accept it. The gateway counts failures and does not spin.
    files.pop();
    let mut client = gateway.client();
    client.send(REQUEST);
    wait_until("the gateway reaches the limit", || gateway.stats.accept_failures() > 0);
    assert_eq!(gateway.stats.accepted(), 2);
    files.truncate(files.len() - 10);
    assert_eq!(client.read_response().status, 200);
    drop(files);
    gateway.assert_serves();
}
