//! Servers that are not ours, of which the clients ask no more than the source documents tell of: `GET /peers` with a
//! list of URLs, and `PUT`, `GET`, `HEAD /chunk/{id}`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::house::{Colony, light_blocks, run};

/// What such a server has, and what it was asked.
#[derive(Default)]
struct Kept {
    chunks: BTreeMap<String, Vec<u8>>,
    peers: Vec<String>,
    asked: Vec<String>,
}

/// Serves until the process ends; it is no more than a thread that waits.
fn older_server() -> (String, Arc<Mutex<Kept>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let kept = Arc::new(Mutex::new(Kept::default()));
    let shared = Arc::clone(&kept);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let kept = Arc::clone(&shared);
            // A client that goes away in the middle is no business of the test.
            std::thread::spawn(move || drop(serve(&stream.unwrap(), &kept)));
        }
    });
    (url, kept)
}

/// One request on one connection, as HTTP/1.0 has it.
fn serve(mut stream: &TcpStream, kept: &Mutex<Kept>) -> std::io::Result<()> {
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
    let (status, answer) = {
        let mut kept = kept.lock().unwrap();
        kept.asked.push(format!("{method} {path}"));
        match (method, path.strip_prefix("/chunk/")) {
            ("PUT", Some(id)) => {
                kept.chunks.insert(id.to_owned(), body);
                ("200 OK", Vec::new())
            }
            ("GET" | "HEAD", Some(id)) => match kept.chunks.get(id) {
                Some(bytes) => ("200 OK", bytes.clone()),
                None => ("404 Not Found", b"<html>no such file</html>".to_vec()),
            },
            ("GET", None) if path == "/peers" => {
                ("200 OK", serde_json::json!({ "peers": kept.peers }).to_string().into_bytes())
            }
            _ => ("404 Not Found", b"<html>no such page</html>".to_vec()),
        }
    };
    write!(stream, "HTTP/1.0 {status}\r\nContent-Length: {}\r\n\r\n", answer.len())?;
    if method != "HEAD" {
        stream.write_all(&answer)?;
    }
    Ok(())
}

/// Goal: `--node` is enough, whatever the server. Method: two servers of the least kind, of which the first names the
/// second.
#[test]
fn put_and_get_work_with_servers_that_know_only_peers_and_chunks() {
    let colony = Colony::start(0);
    let ((first, one), (second, two)) = (older_server(), older_server());
    one.lock().unwrap().peers = vec![second];
    let bytes = light_blocks(1, 5);
    let file = colony.file("file", &bytes);
    run(colony.put().arg(&file).args(["--copies", "2", "--node", &first])).succeeded();
    for server in [&one, &two] {
        assert_eq!(server.lock().unwrap().chunks.len(), 5);
    }
    let ids: Vec<String> = one.lock().unwrap().chunks.keys().map(ToString::to_string).collect();
    // A chunk that only one of them has.
    one.lock().unwrap().chunks.pop_first();
    two.lock().unwrap().chunks.pop_last();
    run(colony.get().args(["file.manifest", "-o", "restored", "--node", &first])).succeeded();
    assert!(std::fs::read(colony.path("restored")).unwrap() == bytes);
    for server in [&one, &two] {
        let asked = &server.lock().unwrap().asked;
        assert!(asked.contains(&"POST /chunks/have".to_owned()));
        let of_ours =
            |line: &&String| line.strip_prefix("HEAD /chunk/").is_some_and(|id| ids.iter().any(|ours| ours == id));
        assert_eq!(asked.iter().filter(of_ours).count(), 5, "{asked:?}");
    }
}

/// Goal: older servers and cells live side by side. Method: one of each, the older one names the cell; a put cut off is
/// gone on with there too.
#[test]
fn an_older_server_and_a_cell_share_a_file() {
    let colony = Colony::start(1);
    let (url, kept) = older_server();
    kept.lock().unwrap().peers = vec![colony.cells[0].url.clone()];
    let bytes = light_blocks(2, 3);
    let file = colony.file("file", &bytes);
    run(colony.put().arg(&file).args(["--copies", "2", "--node", &url])).succeeded();
    assert_eq!((kept.lock().unwrap().chunks.len(), colony.cells[0].chunks().len()), (3, 3));
    kept.lock().unwrap().chunks.clear();
    run(colony.get().args(["file.manifest", "-o", "restored", "--node", &url])).succeeded();
    assert!(std::fs::read(colony.path("restored")).unwrap() == bytes);
    let status = run(colony.status().args(["--node", &colony.cells[0].url])).succeeded();
    assert!(status.text().contains("1 cell, 1 active"), "{}", status.text());
}
