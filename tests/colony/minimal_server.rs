//! Servers other than cells. The clients need no more of them than `GET /peers` with a list of URLs, and `PUT`, `GET`
//! and `HEAD /chunk/{id}`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::harness::{Colony, assert_facts, compressible_blocks, run};

/// What a server has, and the requests that it received.
#[derive(Default)]
struct State {
    chunks: BTreeMap<String, Vec<u8>>,
    peers: Vec<String>,
    requests: Vec<String>,
}

/// A server that runs until the process ends.
fn minimal_server() -> (String, Arc<Mutex<State>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let state = Arc::new(Mutex::new(State::default()));
    let shared = Arc::clone(&state);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let state = Arc::clone(&shared);
            // A client may close the connection at any time.
            std::thread::spawn(move || drop(serve(&stream.unwrap(), &state)));
        }
    });
    (url, state)
}

/// Serves one request on one connection (HTTP/1.0).
fn serve(mut stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut length = 0;
    loop {
        let mut field = String::new();
        reader.read_line(&mut field)?;
        let field = field.trim().to_ascii_lowercase();
        match field.strip_prefix("content-length:") {
            Some(text) => length = text.trim().parse().unwrap(),
            None if field.is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let words: Vec<&str> = first.split(' ').collect();
    let (method, path) = (words[0], words[1]);
    let (status, response) = {
        let mut state = state.lock().unwrap();
        state.requests.push(format!("{method} {path}"));
        match (method, path.strip_prefix("/chunk/")) {
            ("PUT", Some(id)) => {
                state.chunks.insert(id.to_owned(), body);
                ("200 OK", Vec::new())
            }
            ("GET" | "HEAD", Some(id)) => match state.chunks.get(id) {
                Some(bytes) => ("200 OK", bytes.clone()),
                None => ("404 Not Found", b"<html>no such file</html>".to_vec()),
            },
            ("GET", None) if path == "/peers" => {
                ("200 OK", serde_json::json!({ "peers": state.peers }).to_string().into_bytes())
            }
            _ => ("404 Not Found", b"<html>no such page</html>".to_vec()),
        }
    };
    write!(stream, "HTTP/1.0 {status}\r\nContent-Length: {}\r\n\r\n", response.len())?;
    if method != "HEAD" {
        stream.write_all(&response)?;
    }
    Ok(())
}

/// Goal: `--node` is enough, whatever the server is. Method: two minimal servers, of which the first lists the second
/// as its peer.
#[test]
fn put_and_get_work_with_minimal_servers() {
    let colony = Colony::start(0);
    let ((first, one), (second, two)) = (minimal_server(), minimal_server());
    one.lock().unwrap().peers = vec![second];
    let bytes = compressible_blocks(1, 5);
    let file = colony.write_file("file", &bytes);
    run(colony.put().arg(&file).args(["--copies", "2", "--node", &first])).expect_success();
    for server in [&one, &two] {
        assert_eq!(server.lock().unwrap().chunks.len(), 5);
    }
    let ids: Vec<String> = one.lock().unwrap().chunks.keys().map(ToString::to_string).collect();
    // Each server lacks a chunk that the other has.
    one.lock().unwrap().chunks.pop_first();
    two.lock().unwrap().chunks.pop_last();
    run(colony.get().args(["file.manifest", "-o", "restored", "--node", &first])).expect_success();
    assert!(std::fs::read(colony.path("restored")).unwrap() == bytes);
    for server in [&one, &two] {
        let requests = &server.lock().unwrap().requests;
        assert!(requests.contains(&"POST /chunks/have".to_owned()));
        let of_ours =
            |line: &&String| line.strip_prefix("HEAD /chunk/").is_some_and(|id| ids.iter().any(|ours| ours == id));
        assert_eq!(requests.iter().filter(of_ours).count(), 5, "{requests:?}");
    }
}

/// Goal: minimal servers and cells can be used together. Method: one of each; the server lists the cell as its peer.
/// The get uses the cell after the server has lost its chunks.
#[test]
fn a_minimal_server_and_a_cell_share_a_file() {
    let colony = Colony::start(1);
    let (url, state) = minimal_server();
    state.lock().unwrap().peers = vec![colony.cells[0].url.clone()];
    let bytes = compressible_blocks(2, 3);
    let file = colony.write_file("file", &bytes);
    run(colony.put().arg(&file).args(["--copies", "2", "--node", &url])).expect_success();
    assert_eq!((state.lock().unwrap().chunks.len(), colony.cells[0].chunks().len()), (3, 3));
    state.lock().unwrap().chunks.clear();
    run(colony.get().args(["file.manifest", "-o", "restored", "--node", &url])).expect_success();
    assert!(std::fs::read(colony.path("restored")).unwrap() == bytes);
    let status = run(colony.status().args(["--node", &colony.cells[0].url])).expect_success();
    assert_facts(status.text(), &["1 cell", "1 active"]);
}
