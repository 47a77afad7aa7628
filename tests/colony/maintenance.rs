//! Requests by which cells keep each other's copies healthy and users maintain a cell, written by hand and sent to a
//! real cell.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use cellsync::id::ChunkId;
use cellsync::wire::holder_hints::MAX_HOLDER_HINTS;
use cellsync::wire::id_lists::MAX_VERIFY_IDS;
use cellsync::wire::status::CellStatus;

use crate::harness::{Colony, Response, node_command, random_bytes, read_response, request, run};
use crate::wait::{TIMEOUT, wait_until};

const CELL: &str = "6f3c1b52-7a0e-4a53-9a39-2f1f7d0f4c11";

fn put(address: &str, bytes: &[u8]) -> (String, Response) {
    let id = ChunkId::of(bytes).to_string();
    let response = request(address, "PUT", &format!("/chunk/{id}"), &[], bytes);
    (id, response)
}

fn stored(address: &str, bytes: &[u8]) -> String {
    let (id, response) = put(address, bytes);
    assert_eq!(response.status, 200);
    id
}

fn status(address: &str) -> CellStatus {
    serde_json::from_slice(&request(address, "GET", "/status", &[], b"").body).unwrap()
}

/// Goal: a verification reports what is on the disk. Method: damages one of three copies, and asks for a fourth chunk
/// that the cell never had.
#[test]
fn a_verification_reads_every_byte_and_quarantines_bad_copies() {
    let colony = Colony::start(1);
    let (cell, address) = (&colony.cells[0], colony.cells[0].address());
    let [first, bad, last] = [1, 2, 3].map(|seed| stored(address, &random_bytes(seed, 50_000)));
    let missing = ChunkId::of(b"missing").to_string();
    cell.flip_bit(&bad);
    let asked = format!("{first}\n{bad}\n{missing}\n{last}\n");
    let have = |query: &str| request(address, "POST", &format!("/chunks/have{query}"), &[], asked.as_bytes());

    assert_eq!(have("").text(), format!("{first}\n{bad}\n{last}\n"), "a copy that was not read counts as good");
    assert_eq!(have("?verify=1").text(), format!("{first}\n{last}\n"));
    assert_eq!(have("").text(), format!("{first}\n{last}\n"));
    assert!(cell.data.join("quarantine").join(&bad).exists() && !cell.chunk_file(&bad).exists());
    wait_until("the bad copy is counted", || status(address).activity.bad_copies == 1);
    // A put replaces it.
    assert_eq!(stored(address, &random_bytes(2, 50_000)), bad);
    assert_eq!(have("?verify=1").text(), format!("{first}\n{bad}\n{last}\n"));

    let lines = |count| vec![first.as_str(); count].join("\r\n") + "\r\n";
    let verify = |lines: &str| request(address, "POST", "/chunks/have?verify=1", &[], lines.as_bytes());
    assert_eq!(verify(&lines(MAX_VERIFY_IDS)).status, 200);
    verify(&lines(MAX_VERIFY_IDS + 1)).assert_problem(413);
    verify(&vec![first.as_str(); MAX_VERIFY_IDS + 1].join("\n")).assert_problem(413);
    verify("not an id\n").assert_problem(400);
    have("?verify=yes").assert_problem(400);
    have("?verfiy=1").assert_problem(400);
}

/// Goal: a disk that does not keep what it was given is found soon, also after a restart. Method: new chunks are read back;
/// the file of another one is damaged while the cell is down.
#[test]
fn new_copies_are_read_back_from_the_disk() {
    let mut colony = Colony::start_with(1, &["--set", "read_back_rate=\"1 TiB\""]);
    let address = colony.cells[0].address().to_owned();
    (1..4).for_each(|seed| drop(stored(&address, &random_bytes(seed, 50_000))));
    assert!(status(&address).read_back_left > 0);
    wait_until("all new copies were read", || status(&address).read_back_left == 0);
    assert_eq!(status(&address).activity.bad_copies, 0);

    let bad = stored(&address, &random_bytes(9, 50_000));
    colony.cells[0].kill();
    colony.cells[0].flip_bit(&bad);
    colony.cells[0].restart();
    let address = colony.cells[0].address();
    wait_until("the bad copy is found", || status(address).activity.bad_copies == 1);
    assert!(!colony.cells[0].chunk_file(&bad).exists());
    wait_until("all new copies were read", || status(address).read_back_left == 0);
}

/// Goal: holder hints and alerts are accepted within their limits, and invalid ones are refused with an explanation.
/// Method: valid and invalid bodies.
#[test]
fn holder_hints_and_alerts_are_accepted_invalid_ones_not() {
    let colony = Colony::start(1);
    let address = colony.cells[0].address();
    let id = stored(address, b"a chunk");
    let report = |body: &[u8]| request(address, "POST", "/chunks/holders", &[], body);
    let line = format!("{id} {CELL},{CELL}\n");
    let reported = report(line.as_bytes());
    assert_eq!((reported.status, reported.body.len()), (200, 0));
    assert_eq!(report(b"").status, 200);
    assert_eq!(report(line.repeat(MAX_HOLDER_HINTS).as_bytes()).status, 200);
    report(line.repeat(MAX_HOLDER_HINTS + 1).as_bytes()).assert_problem(413);
    report(format!("{id}\n").as_bytes()).assert_problem(400);
    report(format!("{id} me\n").as_bytes()).assert_problem(400);
    let second = report(format!("{line}x {CELL}\n").as_bytes());
    second.assert_problem(400);
    assert!(second.text().contains("line 2"), "{}", second.text());
    report(format!("{id} {}\n", [CELL; 33].join(",")).as_bytes()).assert_problem(400);
    report(&[0xff; 100]).assert_problem(400);
    request(address, "GET", "/chunks/holders", &[], b"").assert_problem(405);

    let alert_with = |body: &str| request(address, "POST", "/alert", &[], body.as_bytes());
    let alert = format!(r#"{{"type":"alert","node_id":"{CELL}","culprit":"{CELL}","chunk":"{id}","found":"{id}"}}"#);
    let alerted = alert_with(&alert);
    assert_eq!((alerted.status, alerted.body.len()), (200, 0));
    for wrong in [
        "",
        "{}",
        "[]",
        &alert.replace("\"type\":\"alert\",", ""),
        &alert.replace("\"alert\"", "\"order\""),
        &alert.replace("\"culprit\"", "\"who\""),
        &alert.replacen(CELL, "me", 1),
        &alert.replace(&id, "abc"),
        &alert[..alert.len() - 1],
    ] {
        alert_with(wrong).assert_problem(400);
    }
    alert_with(&format!("{alert}{}", " ".repeat(5000))).assert_problem(413);
    request(address, "GET", "/alert", &[], b"").assert_problem(405);
    // The cell and its chunk are unharmed.
    assert_eq!(request(address, "GET", &format!("/chunk/{id}"), &[], b"").body, b"a chunk");
}

/// Goal: a draining cell stores nothing and sends everything, even after a kill, until the drain is cancelled. Method:
/// both kinds of put, a read, and SIGKILL.
#[test]
fn a_draining_cell_accepts_no_chunks_until_undrained() {
    let mut colony = Colony::start(1);
    let address = colony.cells[0].address().to_owned();
    let id = stored(&address, b"here before");
    for _ in 0..2 {
        let drain = request(&address, "POST", "/drain", &[], b"");
        assert_eq!((drain.status, drain.field("content-type")), (200, Some("application/json")));
        assert_eq!((&drain.json()["total"], &drain.json()["safe"]), (&1.into(), &false.into()), "{}", drain.text());
    }
    colony.cells[0].kill();
    colony.cells[0].restart();
    let address = colony.cells[0].address();

    put(address, b"new").1.assert_problem(503);
    request(address, "POST", "/chunk", &[], b"new").assert_problem(503);
    assert_eq!(request(address, "GET", &format!("/chunk/{id}"), &[], b"").body, b"here before");
    assert_eq!(request(address, "GET", "/health", &[], b"").json()["status"], "draining");
    assert!(status(address).activity.drain.is_some());
    for _ in 0..2 {
        let undrain = request(address, "DELETE", "/drain", &[], b"");
        assert_eq!((undrain.status, undrain.body.len()), (200, 0));
    }
    assert_eq!(put(address, b"new").1.status, 200);
    assert!(status(address).activity.drain.is_none());
    let wrong_method = request(address, "GET", "/drain", &[], b"");
    wrong_method.assert_problem(405);
    assert_eq!(wrong_method.field("allow"), Some("DELETE, POST"));

    // The end of the drain survives a kill too.
    colony.cells[0].kill();
    colony.cells[0].restart();
    assert_eq!(put(colony.cells[0].address(), b"newer").1.status, 200);
}

/// Goal: a scrub on demand checks all copies now and reports the result. Method: damages one of thirty copies.
#[test]
fn a_scrub_on_demand_finds_the_bad_copy() {
    let colony = Colony::start(1);
    let (cell, address) = (&colony.cells[0], colony.cells[0].address());
    let ids: Vec<String> = (0..30).map(|seed| stored(address, &random_bytes(seed, 10_000))).collect();
    cell.flip_bit(&ids[11]);
    let scrub = request(address, "POST", "/scrub", &[], b"");
    assert_eq!((scrub.status, scrub.field("content-type")), (200, Some("application/json")));
    assert!(scrub.json()["done"].is_u64() && scrub.json()["finished"].is_boolean(), "{}", scrub.text());
    wait_until("the scrub is finished", || status(address).activity.scrub.is_some_and(|scrub| scrub.finished));
    let scrub = status(address).activity.scrub.unwrap();
    assert_eq!((scrub.done, scrub.total, scrub.bad), (30, 30, 1));
    assert!(cell.data.join("quarantine").join(&ids[11]).exists());
    request(address, "GET", "/scrub", &[], b"").assert_problem(405);
}

/// Goal: an address that sends bad puts repeatedly may not put for a while; other addresses may, and all may read.
/// Method: five bad puts from one address of the loopback network, and puts from another.
#[test]
fn an_address_with_repeated_bad_puts_is_banned() {
    let colony = Colony::start(1);
    let address = colony.cells[0].address();
    let id = stored(address, b"good");
    for _ in 0..5 {
        request(address, "PUT", &format!("/chunk/{id}"), &[], b"evil").assert_problem(422);
    }
    for banned in [put(address, b"good, but refused").1, request(address, "POST", "/chunk", &[], b"refused too")] {
        banned.assert_problem(429);
        let seconds: u64 = banned.field("retry-after").unwrap().parse().unwrap();
        assert!((590..=600).contains(&seconds), "{seconds}");
        assert!(banned.text().contains("127.0.0.1"), "{}", banned.text());
    }
    assert_eq!(request(address, "GET", &format!("/chunk/{id}"), &[], b"").body, b"good");
    assert_eq!(request(address, "POST", "/chunks/have", &[], id.as_bytes()).text(), format!("{id}\n"));
    assert_eq!(put_from([127, 0, 0, 2], address, b"from another").status, 200);
    assert_eq!(put_from([127, 0, 0, 1], address, b"from the same").status, 429);
}

/// Puts a chunk from this source address.
fn put_from(source: [u8; 4], address: &str, bytes: &[u8]) -> Response {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&address.parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut stream = TcpStream::from(socket);
    let (id, length) = (ChunkId::of(bytes), bytes.len());
    let head =
        format!("PUT /chunk/{id} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), bytes].concat()).unwrap();
    read_response(&mut stream)
}

/// Goal: after a restart the core learns of all copies, however many. Method: more chunks than one page of the listing,
/// SIGKILL, and a drain, which counts the copies.
#[test]
fn a_killed_cell_lists_all_its_chunks_after_a_restart() {
    const CHUNKS: u64 = 1200;
    let mut colony = Colony::start(1);
    let address = colony.cells[0].address().to_owned();
    for n in 0..CHUNKS {
        stored(&address, &n.to_le_bytes());
    }
    colony.cells[0].kill();
    colony.cells[0].restart();
    let address = colony.cells[0].address();
    assert_eq!(request(address, "POST", "/drain", &[], b"").status, 200);
    wait_until("all chunks are counted", || status(address).activity.drain.is_some_and(|drain| drain.total == CHUNKS));
    assert_eq!(fs::read_dir(colony.cells[0].data.join("quarantine")).unwrap().count(), 0);
}

/// Goal: every setting can be given on the command line, where it replaces the one in the file. Method: a cell with
/// other intervals, and mistakes.
#[test]
fn settings_can_be_given_by_name_and_errors_are_one_line() {
    let colony = Colony::start_with(1, &["--set", "beacon_ms=200", "--set", "heal_rate=\"1 MiB\""]);
    assert_eq!(status(colony.cells[0].address()).beacon.node_id.to_string(), colony.cells[0].id);
    let config = colony.write_file("node.toml", b"beacon_ms = 1");
    let data = colony.path("cell");
    let start = |settings: &[&str]| {
        let mut command = node_command();
        command.arg("--data").arg(&data).args(["--loopback"]).args(settings);
        run(&mut command)
    };
    for (setting, words) in [
        ("colour=1", &["--set colour=1", "`colour`"][..]),
        ("beacon_ms", &["--set beacon_ms", "KEY=VALUE"]),
        ("=1", &["--set =1", "KEY=VALUE"]),
        ("heal_rate=8 MiB", &["--set heal_rate=8 MiB", "quotes"]),
        ("beacon_ms=1", &["--set beacon_ms=1", "50"]),
        ("heal_delay_ms=[3,2,1,0]", &["heal_delay_ms"]),
        ("silent_after_ms=1000", &["silent_after_ms", "3", "beacon_ms"]),
    ] {
        start(&["--set", setting]).expect_error(2, words);
    }
    let file = config.to_str().unwrap();
    start(&["--config", file, "--set", "udp_port=0"]).expect_error(2, &["beacon_ms"]);
    // The value of --set replaces the one in the file, so the next mistake is reported.
    fs::write(&config, "udp_port = 0").unwrap();
    start(&["--config", file, "--set", "udp_port=5999", "--set", "beacon_ms=2000"])
        .expect_error(2, &["silent_after_ms", "6000"]);
    assert!(!data.exists());
}
