//! The calls by which cells keep each other's copies whole, and people look after a cell, by hand, through the door of
//! a real process.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use cellsync::id::ChunkId;
use cellsync::wire::holder_hints::MAX_HOLDER_HINTS;
use cellsync::wire::id_lists::MAX_VERIFY_IDS;
use cellsync::wire::status::CellStatus;

use crate::house::{Colony, DEADLINE, eventually, noise, run};
use crate::raw::{Answer, answer, ask};

const CELL: &str = "6f3c1b52-7a0e-4a53-9a39-2f1f7d0f4c11";

fn put(door: &str, bytes: &[u8]) -> (String, Answer) {
    let id = ChunkId::of(bytes).to_string();
    let answer = ask(door, "PUT", &format!("/chunk/{id}"), &[], bytes);
    (id, answer)
}

fn stored(door: &str, bytes: &[u8]) -> String {
    let (id, answer) = put(door, bytes);
    assert_eq!(answer.status, 200);
    id
}

fn status(door: &str) -> CellStatus {
    serde_json::from_slice(&ask(door, "GET", "/status", &[], b"").body).unwrap()
}

/// Goal: whoever asks whether copies are good gets an answer that comes from the disk. Method: one of three copies is
/// damaged, and a fourth was never here.
#[test]
fn a_cell_that_is_asked_to_verify_looks_at_every_byte_and_sets_bad_copies_aside() {
    let colony = Colony::start(1);
    let (cell, door) = (&colony.cells[0], colony.cells[0].door());
    let [first, bad, last] = [1, 2, 3].map(|seed| stored(door, &noise(seed, 50_000)));
    let missing = ChunkId::of(b"missing").to_string();
    cell.flip(&bad);
    let asked = format!("{first}\n{bad}\n{missing}\n{last}\n");
    let have = |query: &str| ask(door, "POST", &format!("/chunks/have{query}"), &[], asked.as_bytes());

    assert_eq!(have("").text(), format!("{first}\n{bad}\n{last}\n"), "unread, it is not known to be bad");
    assert_eq!(have("?verify=1").text(), format!("{first}\n{last}\n"));
    assert_eq!(have("").text(), format!("{first}\n{last}\n"));
    assert!(cell.data.join("quarantine").join(&bad).exists() && !cell.chunk_file(&bad).exists());
    eventually("the cell knows of it", || status(door).activity.bad_copies == 1);
    // A put brings it back.
    assert_eq!(stored(door, &noise(2, 50_000)), bad);
    assert_eq!(have("?verify=1").text(), format!("{first}\n{bad}\n{last}\n"));

    let lines = |count| vec![first.as_str(); count].join("\r\n") + "\r\n";
    let verify = |lines: &str| ask(door, "POST", "/chunks/have?verify=1", &[], lines.as_bytes());
    assert_eq!(verify(&lines(MAX_VERIFY_IDS)).status, 200);
    verify(&lines(MAX_VERIFY_IDS + 1)).is_problem(413);
    verify(&vec![first.as_str(); MAX_VERIFY_IDS + 1].join("\n")).is_problem(413);
    verify("not an id\n").is_problem(400);
    have("?verify=yes").is_problem(400);
    have("?verfiy=1").is_problem(400);
}

/// Goal: what others tell is taken in within its limits, and what makes no sense is refused with words. Method: right
/// and wrong bodies.
#[test]
fn news_and_alerts_are_taken_in_and_nonsense_is_refused() {
    let colony = Colony::start(1);
    let door = colony.cells[0].door();
    let id = stored(door, b"a chunk");
    let tell = |body: &[u8]| ask(door, "POST", "/chunks/holders", &[], body);
    let line = format!("{id} {CELL},{CELL}\n");
    let told = tell(line.as_bytes());
    assert_eq!((told.status, told.body.len()), (200, 0));
    assert_eq!(tell(b"").status, 200);
    assert_eq!(tell(line.repeat(MAX_HOLDER_HINTS).as_bytes()).status, 200);
    tell(line.repeat(MAX_HOLDER_HINTS + 1).as_bytes()).is_problem(413);
    tell(format!("{id}\n").as_bytes()).is_problem(400);
    tell(format!("{id} me\n").as_bytes()).is_problem(400);
    let second = tell(format!("{line}x {CELL}\n").as_bytes());
    second.is_problem(400);
    assert!(second.text().contains("line 2"), "{}", second.text());
    tell(format!("{id} {}\n", [CELL; 33].join(",")).as_bytes()).is_problem(400);
    tell(&[0xff; 100]).is_problem(400);
    ask(door, "GET", "/chunks/holders", &[], b"").is_problem(405);

    let warn = |body: &str| ask(door, "POST", "/alert", &[], body.as_bytes());
    let alert = format!(r#"{{"type":"alert","node_id":"{CELL}","culprit":"{CELL}","chunk":"{id}","found":"{id}"}}"#);
    let warned = warn(&alert);
    assert_eq!((warned.status, warned.body.len()), (200, 0));
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
        warn(wrong).is_problem(400);
    }
    warn(&format!("{alert}{}", " ".repeat(5000))).is_problem(413);
    ask(door, "GET", "/alert", &[], b"").is_problem(405);
    // None of it did the cell any harm.
    assert_eq!(ask(door, "GET", &format!("/chunk/{id}"), &[], b"").body, b"a chunk");
}

/// Goal: a draining cell takes nothing and gives everything, also after it was killed, until it is told to stay.
/// Method: both kinds of put, a read, SIGKILL.
#[test]
fn a_draining_cell_takes_no_chunks_until_it_is_told_to_stay() {
    let mut colony = Colony::start(1);
    let door = colony.cells[0].door().to_owned();
    let id = stored(&door, b"here before");
    for _ in 0..2 {
        let drain = ask(&door, "POST", "/drain", &[], b"");
        assert_eq!((drain.status, drain.field("content-type")), (200, Some("application/json")));
        assert_eq!((&drain.json()["total"], &drain.json()["safe"]), (&1.into(), &false.into()), "{}", drain.text());
    }
    colony.cells[0].kill();
    colony.cells[0].restart();
    let door = colony.cells[0].door();

    put(door, b"new").1.is_problem(503);
    ask(door, "POST", "/chunk", &[], b"new").is_problem(503);
    assert_eq!(ask(door, "GET", &format!("/chunk/{id}"), &[], b"").body, b"here before");
    assert_eq!(ask(door, "GET", "/health", &[], b"").json()["status"], "draining");
    assert!(status(door).activity.drain.is_some());
    for _ in 0..2 {
        let undrain = ask(door, "DELETE", "/drain", &[], b"");
        assert_eq!((undrain.status, undrain.body.len()), (200, 0));
    }
    assert_eq!(put(door, b"new").1.status, 200);
    assert!(status(door).activity.drain.is_none());
    let wrong_method = ask(door, "GET", "/drain", &[], b"");
    wrong_method.is_problem(405);
    assert_eq!(wrong_method.field("allow"), Some("DELETE, POST"));

    // It stays told when it is killed, too.
    colony.cells[0].kill();
    colony.cells[0].restart();
    assert_eq!(put(colony.cells[0].door(), b"newer").1.status, 200);
}

/// Goal: a scrub on demand looks at all copies now, and says what it found. Method: one of thirty is damaged.
#[test]
fn a_scrub_on_demand_finds_the_bad_copy_among_the_good() {
    let colony = Colony::start(1);
    let (cell, door) = (&colony.cells[0], colony.cells[0].door());
    let ids: Vec<String> = (0..30).map(|seed| stored(door, &noise(seed, 10_000))).collect();
    cell.flip(&ids[11]);
    let scrub = ask(door, "POST", "/scrub", &[], b"");
    assert_eq!((scrub.status, scrub.field("content-type")), (200, Some("application/json")));
    assert!(scrub.json()["done"].is_u64() && scrub.json()["finished"].is_boolean(), "{}", scrub.text());
    eventually("it is finished", || status(door).activity.scrub.is_some_and(|scrub| scrub.finished));
    let scrub = status(door).activity.scrub.unwrap();
    assert_eq!((scrub.done, scrub.total, scrub.bad), (30, 30, 1));
    assert!(cell.data.join("quarantine").join(&ids[11]).exists());
    ask(door, "GET", "/scrub", &[], b"").is_problem(405);
}

/// Goal: who sends bad bytes again and again is not listened to for a while, and others are; nobody is kept from
/// reading. Method: five wrong bodies from one address of the loopback network; another address puts.
#[test]
fn an_address_that_sends_bad_bytes_again_and_again_is_not_listened_to() {
    let colony = Colony::start(1);
    let door = colony.cells[0].door();
    let id = stored(door, b"good");
    for _ in 0..5 {
        ask(door, "PUT", &format!("/chunk/{id}"), &[], b"evil").is_problem(422);
    }
    for banned in [put(door, b"good, but not heard").1, ask(door, "POST", "/chunk", &[], b"nor this")] {
        banned.is_problem(429);
        let seconds: u64 = banned.field("retry-after").unwrap().parse().unwrap();
        assert!((590..=600).contains(&seconds), "{seconds}");
        assert!(banned.text().contains("127.0.0.1"), "{}", banned.text());
    }
    assert_eq!(ask(door, "GET", &format!("/chunk/{id}"), &[], b"").body, b"good");
    assert_eq!(ask(door, "POST", "/chunks/have", &[], id.as_bytes()).text(), format!("{id}\n"));
    assert_eq!(put_from([127, 0, 0, 2], door, b"from another").status, 200);
    assert_eq!(put_from([127, 0, 0, 1], door, b"from the same").status, 429);
}

fn put_from(address: [u8; 4], door: &str, bytes: &[u8]) -> Answer {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
    socket.connect(&door.parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut stream = TcpStream::from(socket);
    let (id, length) = (ChunkId::of(bytes), bytes.len());
    let head =
        format!("PUT /chunk/{id} HTTP/1.1\r\nHost: {door}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), bytes].concat()).unwrap();
    answer(&mut stream)
}

/// Goal: a cell that is told of its copies after a restart tells what it has, however much that is. Method: more chunks
/// than one page, SIGKILL, and a drain, which counts them.
#[test]
fn a_cell_knows_all_its_chunks_again_after_it_was_killed() {
    const CHUNKS: u64 = 1200;
    let mut colony = Colony::start(1);
    let door = colony.cells[0].door().to_owned();
    for n in 0..CHUNKS {
        stored(&door, &n.to_le_bytes());
    }
    colony.cells[0].kill();
    colony.cells[0].restart();
    let door = colony.cells[0].door();
    assert_eq!(ask(door, "POST", "/drain", &[], b"").status, 200);
    eventually("it has counted them", || status(door).activity.drain.is_some_and(|drain| drain.total == CHUNKS));
    assert_eq!(fs::read_dir(colony.cells[0].data.join("quarantine")).unwrap().count(), 0);
}

/// Goal: every setting can be given for one run, and wins over the file. Method: a cell that would not hear itself
/// silent, and mistakes.
#[test]
fn a_setting_is_given_by_its_name_and_a_mistake_is_one_line() {
    let colony = Colony::start_with(1, &["--set", "beacon_ms=200", "--set", "heal_rate=\"1 MiB\""]);
    assert_eq!(status(colony.cells[0].door()).beacon.node_id.to_string(), colony.cells[0].id);
    let config = colony.file("node.toml", b"beacon_ms = 1");
    let data = colony.path("cell");
    let start = |settings: &[&str]| {
        let mut command = crate::house::node();
        command.arg("--data").arg(&data).args(["--loopback"]).args(settings);
        run(&mut command)
    };
    for (setting, words) in [
        ("colour=1", &["--set colour=1", "`colour`"][..]),
        ("beacon_ms", &["--set beacon_ms", "KEY=VALUE"]),
        ("=1", &["--set =1", "KEY=VALUE"]),
        ("heal_rate=8 MiB", &["--set heal_rate=8 MiB", "quotes"]),
        ("beacon_ms=1", &["beacon_ms = \"1\"", "50"]),
        ("heal_delay_ms=[3,2,1,0]", &["heal_delay_ms"]),
        ("silent_after_ms=1000", &["silent_after_ms", "3", "beacon_ms"]),
    ] {
        start(&["--set", setting]).fails_in_one_line(2, words);
    }
    let file = config.to_str().unwrap();
    start(&["--config", file, "--set", "udp_port=0"]).fails_in_one_line(2, &["beacon_ms"]);
    // What --set gives is in the place of what the file gives, and the next mistake is found.
    fs::write(&config, "udp_port = 0").unwrap();
    start(&["--config", file, "--set", "udp_port=5999", "--set", "beacon_ms=2000"])
        .fails_in_one_line(2, &["silent_after_ms", "6000"]);
    assert!(!data.exists());
}
