//! More connections than there are places, and fewer descriptors than connections.

use std::process::{Command, Stdio};

use cellsync::net::GatewayLimits;
use cellsync::net::fd_limit;

use crate::house::{Client, DEADLINE, House, eventually, tight};

const REQUEST: &str = "GET /zeros/1 HTTP/1.1\r\nHost: x\r\n\r\n";

/// Limits under which half-open connections would stay for long.
fn patient() -> GatewayLimits {
    GatewayLimits { head_timeout_ms: 60_000, idle_timeout_ms: 60_000, response_timeout_ms: 60_000, ..tight() }
}

#[test]
fn five_hundred_half_open_connections_do_not_keep_anyone_out() {
    let house = House::new(patient());
    let mut held: Vec<Client> = Vec::new();
    for number in 0..500_u16 {
        let mut client = house.client_from((number % 5) as u8 + 1);
        // Already evicted ones are closed; that is the point.
        std::io::Write::write_all(&mut client.stream, b"GET / HTTP/1.1\r\nHo").ok();
        held.push(client);
    }
    eventually("all were accepted", || house.stats.accepted() == 500);
    house.assert_serves();
    eventually("the rest have made room", || house.stats.open() <= 256);
    assert!(house.stats.evicted() >= 500 - 256);
    // Half-open connections cost no thread behind the door.
    assert!(house.server.as_ref().unwrap().workers() < 10);
}

#[test]
fn one_address_takes_places_only_from_itself() {
    let house = House::new(patient());
    let mut other = house.client_from(2);
    assert_eq!(other.ask(REQUEST).status, 200);
    let mut held: Vec<Client> = (0..200).map(|_| house.client_from(1)).collect();
    eventually("all were accepted", || house.stats.accepted() == 201);
    eventually("the others have made room", || house.stats.open() == 65);
    assert_eq!(other.ask(REQUEST).status, 200);
    assert_eq!(held.last_mut().unwrap().ask(REQUEST).status, 200);
    held.first_mut().unwrap().assert_closed();
}

#[test]
fn a_connection_that_is_being_served_keeps_its_place() {
    let house = House::new(GatewayLimits { max_connections: 4, ..patient() });
    let mut busy: Vec<Client> = (0..4).map(|_| house.client()).collect();
    for client in &mut busy {
        client.send("GET /gate/x HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    eventually("all are being handled", || house.gate.waiting() == 4);
    let mut late = house.client();
    late.send(REQUEST);
    let answer = late.answer();
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
    late.assert_closed();
    house.gate.open();
    for client in &mut busy {
        assert_eq!(client.answer().body, b"through");
    }
    house.assert_serves();
}

/// The test below, run again as a child under a low limit, which a process cannot undo for itself.
const CHILD: &str = "CELLSYNC_TEST_FEW_DESCRIPTORS";

#[test]
fn a_process_short_of_descriptors_goes_on_serving() {
    if std::env::var_os(CHILD).is_some() {
        return with_few_descriptors();
    }
    let me = std::env::current_exe().unwrap();
    let test = "places::a_process_short_of_descriptors_goes_on_serving";
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n 100 && exec \"$0\" --exact \"$1\" --nocapture"])
        .arg(me)
        .arg(test)
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + 2 * DEADLINE;
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
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    assert!(status.success(), "{said}");
}

fn with_few_descriptors() {
    let limit = fd_limit::raise(100).unwrap();
    assert_eq!(limit, 100);
    // The clients of this test live in the same process, and use up what there is.
    let fit = fd_limit::connections_that_fit(limit, 60);
    let house = House::new(GatewayLimits { max_connections: fit, max_connections_per_address: fit, ..patient() });
    house.assert_serves();
    eventually("the door has given back its descriptors", || house.stats.open() == 0);
    let mut files = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        files.push(file);
    }
    // Room for the client's own socket only: the door cannot accept it, and says so without spinning.
    files.pop();
    let mut client = house.client();
    client.send(REQUEST);
    eventually("the door has met the limit", || house.stats.accept_failures() > 0);
    assert_eq!(house.stats.accepted(), 2);
    files.truncate(files.len() - 10);
    assert_eq!(client.answer().status, 200);
    drop(files);
    house.assert_serves();
}
