//! For tests: a server that answers as it is told to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::client::{KnownCell, Notice, Progress};
use crate::id::CellId;
use crate::wire::beacon::{Role, Status};

/// Status and body.
type Answer = (u16, String);

#[derive(Default)]
struct Script {
    answers: BTreeMap<String, Vec<Answer>>,
    asked: Vec<(String, Vec<u8>)>,
}

/// Serves until the process ends; it is no more than a thread that waits.
pub(super) struct Fake {
    pub(super) url: String,
    script: Arc<Mutex<Script>>,
}

impl Fake {
    /// To each call, such as `GET /status`, its answers in order; the last one is given again and again. 404 to all
    /// else.
    pub(super) fn start(answers: &[(&str, &[Answer])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answers = answers.iter().map(|(call, answers)| ((*call).to_owned(), answers.to_vec())).collect();
        let script = Arc::new(Mutex::new(Script { answers, ..Script::default() }));
        let shared = Arc::clone(&script);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that goes away in the middle is no business of the test.
                drop(serve(&stream.unwrap(), &shared));
            }
        });
        Self { url, script }
    }

    /// The calls that came.
    pub(super) fn asked(&self) -> Vec<String> {
        self.script.lock().unwrap().asked.iter().map(|(call, _)| call.clone()).collect()
    }
}

/// Tells nobody anything.
pub(super) struct Quiet;

impl Progress for Quiet {
    fn total(&self, _: Option<u64>) {}
    fn advance(&self, _: u64, _: u64) {}
    fn notice(&self, _: &Notice) {}
}

/// One request on one connection, as HTTP/1.0 has it.
fn serve(mut stream: &TcpStream, script: &Mutex<Script>) -> std::io::Result<()> {
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
    let call = first.rsplit_once(' ').unwrap().0.to_owned();
    let (status, answer) = {
        let mut script = script.lock().unwrap();
        script.asked.push((call.clone(), body));
        match script.answers.get_mut(&call) {
            Some(answers) if answers.len() > 1 => answers.remove(0),
            Some(answers) => answers[0].clone(),
            None => (404, String::new()),
        }
    };
    write!(stream, "HTTP/1.0 {status} X\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())
}

/// A cell's `GET /status` with this life.
pub(super) fn status(life: &serde_json::Value) -> String {
    status_of(7, life)
}

/// The same of one of several cells.
pub(super) fn status_of(number: u8, life: &serde_json::Value) -> String {
    let id = CellId::from_bytes([number; 16]);
    serde_json::json!({ "node_id": id, "port": 1, "status": "active", "life": life }).to_string()
}

/// The cell behind this URL.
pub(super) fn cell_at(url: &str) -> KnownCell {
    let id = Some(CellId::from_bytes([7; 16]));
    KnownCell { url: url.to_owned(), id, role: Role::Stem, status: Status::Active, free_bytes: None }
}
