//! What the door makes of a head: of a request's before it lets it in, of an answer's before it passes it on.
//!
//! Pure: no clock, socket, disk or thread. Nothing of a head is copied through as it came. It is parsed, judged and
//! written anew, so that `tiny_http` cannot see another request than the one that was judged (request smuggling needs
//! two parsers that differ).

use std::net::IpAddr;

use crate::net::gateway::limits::GatewayLimits;
use crate::wire::problem::{Problem, phrase};

/// The header field that tells the handler who asks: an IP address, written by the door. A client's own is dropped.
pub(in crate::net) const CLIENT_FIELD: &str = "CellSync-Client";

/// The header field with the number of the private line that a request travels on. A client's own is dropped.
pub(in crate::net) const LINE_FIELD: &str = "CellSync-UpstreamConnection";

/// The methods of the colony's API, as an `Allow` field lists them.
pub(super) const METHODS: &str = "GET, HEAD, PUT, POST, DELETE";

/// Fields that concern one connection only (RFC 9110, section 7.6.1), and those that the door writes itself.
const NOT_RELAYED: [&str; 13] = [
    "Connection",
    "Content-Length",
    "Expect",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    CLIENT_FIELD,
    LINE_FIELD,
];

/// Finds where a head ends, byte by byte as it arrives, and refuses early what no parser should have to interpret.
#[derive(Debug, Default)]
pub(super) struct HeadScan {
    /// Bytes looked at so far.
    pub(super) seen: usize,
    last: u8,
    /// Bytes in the line so far, its ending not counted.
    line: usize,
    /// Has the first line begun? Empty lines before it are skipped (RFC 9112, section 2.2).
    begun: bool,
}

impl HeadScan {
    /// Looks at the bytes that came since the last call; returns the length of the head once it is complete.
    pub(super) fn more(&mut self, bytes: &[u8]) -> Result<Option<usize>, Problem> {
        for &byte in bytes {
            self.seen += 1;
            match (self.last, byte) {
                (b'\r', b'\n') if self.line == 0 && self.begun => return Ok(Some(self.seen)),
                (b'\r', b'\n') => self.line = 0,
                (b'\r', _) | (_, b'\n') => return Err(Problem::new(400, "a line of the head must end in CR LF")),
                (_, b'\r') => {}
                (_, b' ' | b'\t') if self.line == 0 => {
                    return Err(Problem::new(400, "a line of the head begins with a blank"));
                }
                (_, b'\t' | b' '..=b'~') => {
                    self.line += 1;
                    self.begun = true;
                }
                _ => return Err(Problem::new(400, "the head has a byte that is not printable ASCII")),
            }
            self.last = byte;
        }
        Ok(None)
    }
}

/// A request that may come in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// `HEAD` is answered without a body.
    pub(super) is_head: bool,
    /// May another request follow on this connection?
    pub(super) persistence: Persistence,
    /// Does the client wait to be told to send the body?
    pub(super) expects_continue: bool,
    /// Length of the body, in bytes.
    pub(super) body_bytes: u64,
    /// The head for `tiny_http`, but for the field that names the line and the empty line at the end.
    pub(super) relayed: Vec<u8>,
}

/// Judges a complete request head.
pub(super) fn judge(head: &[u8], client: IpAddr, limits: &GatewayLimits) -> Result<Request, Problem> {
    let mut fields = vec![httparse::EMPTY_HEADER; limits.max_head_fields];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Problem::new(400, "the head is not complete")),
        Err(error) => return Err(unparsable(error, head)),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Problem::new(400, "the request line is not complete"));
    };
    let fields: &[httparse::Header<'_>] = parsed.headers;
    judge_method(method)?;
    judge_target(target)?;
    judge_host(fields, minor)?;
    let body_bytes = judge_body(fields, method, limits)?;
    let expects_continue = judge_expect(fields)? && minor == 1 && body_bytes > 0;
    let persistence = match minor {
        _ if has_token(fields, "Connection", "close") => Persistence::Ends,
        0 if has_token(fields, "Connection", "keep-alive") => Persistence::StaysSpelledOut,
        0 => Persistence::Ends,
        _ => Persistence::Stays,
    };
    let relayed = write_request(method, target, fields, body_bytes, client);
    Ok(Request { is_head: method == "HEAD", persistence, expects_continue, body_bytes, relayed })
}

fn unparsable(error: httparse::Error, head: &[u8]) -> Problem {
    match error {
        httparse::Error::TooManyHeaders => Problem::new(431, "too many header fields"),
        httparse::Error::Version if names_a_version(head) => Problem::new(505, "this cell speaks HTTP/1.1"),
        other => Problem::new(400, format!("this is not an HTTP request: {other}")),
    }
}

/// Does the request line end in the name of some version of HTTP?
fn names_a_version(head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\r').find(|line| !matches!(line, [] | [b'\n']));
    let word = line.and_then(|line| line.split(|&byte| byte == b' ').nth(2));
    matches!(word, Some([b'H', b'T', b'T', b'P', b'/', digit, ..]) if digit.is_ascii_digit())
}

fn judge_method(method: &str) -> Result<(), Problem> {
    match method {
        "GET" | "HEAD" | "PUT" | "POST" | "DELETE" => Ok(()),
        "CONNECT" | "OPTIONS" | "PATCH" | "TRACE" => Err(Problem::new(405, format!("use one of {METHODS}"))),
        _ => Err(Problem::new(501, format!("use one of {METHODS}"))),
    }
}

/// Only a path on this cell can be asked for. What the path means is for the API to say; it never names a file.
fn judge_target(target: &str) -> Result<(), Problem> {
    if !target.starts_with('/') {
        return Err(Problem::new(400, "the target must be a path that begins with /"));
    }
    if target.contains('#') {
        return Err(Problem::new(400, "the target has a fragment, which is never sent"));
    }
    Ok(())
}

/// RFC 9112, section 3.2: exactly one `Host`, but in HTTP/1.0.
fn judge_host(fields: &[httparse::Header<'_>], minor: u8) -> Result<(), Problem> {
    match values(fields, "Host").count() {
        1 => Ok(()),
        0 if minor == 0 => Ok(()),
        _ => Err(Problem::new(400, "a request has exactly one Host field")),
    }
}

fn judge_body(fields: &[httparse::Header<'_>], method: &str, limits: &GatewayLimits) -> Result<u64, Problem> {
    if values(fields, "Transfer-Encoding").next().is_some() {
        return Err(Problem::new(411, "send the body as it is, with a Content-Length"));
    }
    let mut length = None;
    for value in values(fields, "Content-Length") {
        let unreadable = || Problem::new(400, "Content-Length is not a number");
        // `parse` alone would take a sign.
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(unreadable());
        }
        let this: u64 = str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or_else(unreadable)?;
        if length.is_some_and(|other| other != this) {
            return Err(Problem::new(400, "two Content-Length fields differ"));
        }
        length = Some(this);
    }
    match length {
        Some(length) if length > limits.max_body_bytes => {
            Err(Problem::new(413, format!("a body is at most {} bytes", limits.max_body_bytes)))
        }
        Some(length) => Ok(length),
        None if matches!(method, "PUT" | "POST") => Err(Problem::new(411, "a body needs a Content-Length")),
        None => Ok(0),
    }
}

fn judge_expect(fields: &[httparse::Header<'_>]) -> Result<bool, Problem> {
    let mut expects = false;
    for value in values(fields, "Expect") {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(Problem::new(417, "the only expectation that can be met is 100-continue"));
        }
        expects = true;
    }
    Ok(expects)
}

fn values<'a>(fields: &'a [httparse::Header<'a>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value.trim_ascii())
}

fn has_token(fields: &[httparse::Header<'_>], name: &str, token: &str) -> bool {
    values(fields, name).any(|value| {
        value.split(|&byte| byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    })
}

fn write_request(
    method: &str,
    target: &str,
    fields: &[httparse::Header<'_>],
    body_bytes: u64,
    client: IpAddr,
) -> Vec<u8> {
    let mut out = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    write_fields(&mut out, fields);
    if body_bytes > 0 || matches!(method, "PUT" | "POST") {
        out.extend_from_slice(format!("Content-Length: {body_bytes}\r\n").as_bytes());
    }
    out.extend_from_slice(format!("{CLIENT_FIELD}: {}\r\n", client.to_canonical()).as_bytes());
    out
}

/// Writes the fields that go further than one connection.
fn write_fields(out: &mut Vec<u8>, fields: &[httparse::Header<'_>]) {
    for field in fields {
        let stays = NOT_RELAYED.iter().any(|name| field.name.eq_ignore_ascii_case(name))
            || has_token(fields, "Connection", field.name);
        if !stays {
            out.extend_from_slice(field.name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(field.value.trim_ascii());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// How an answer that is passed on says whether the connection stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Persistence {
    /// It stays open, as HTTP/1.1 has it.
    Stays,
    /// It stays open, and a client of HTTP/1.0 has to be told.
    StaysSpelledOut,
    /// It ends with this answer.
    Ends,
}

/// An answer of `tiny_http`'s.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Bytes of the head as it came.
    pub(super) head_bytes: usize,
    /// Bytes of the body that follow it.
    pub(super) body_bytes: u64,
    /// What the client is told about the connection.
    pub(super) persistence: Persistence,
    /// The head for the client.
    pub(super) relayed: Vec<u8>,
}

/// Reads the head of an answer; `Ok(None)` while it is not complete. The error is what the log is to say.
pub(super) fn read_answer(
    bytes: &[u8],
    is_head: bool,
    persistence: Persistence,
) -> Result<Option<Answer>, &'static str> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut parsed = httparse::Response::new(&mut fields);
    let head_bytes = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err("the answer is not HTTP"),
    };
    let Some(status @ 200..=599) = parsed.code else { return Err("the answer has no final status") };
    let fields: &[httparse::Header<'_>] = parsed.headers;
    if values(fields, "Transfer-Encoding").next().is_some() {
        return Err("the answer has no declared length");
    }
    let bodyless = matches!(status, 204 | 304);
    let declared = match values(fields, "Content-Length").next() {
        Some(value) => str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok()),
        None if bodyless => Some(0),
        None => None,
    };
    let Some(declared) = declared else { return Err("the answer has no declared length") };

    let mut relayed = format!("HTTP/1.1 {status} {}\r\n", phrase(status)).into_bytes();
    // Which library answers is nobody's business.
    let kept: Vec<_> = fields.iter().filter(|field| !field.name.eq_ignore_ascii_case("Server")).copied().collect();
    write_fields(&mut relayed, &kept);
    if !bodyless {
        relayed.extend_from_slice(format!("Content-Length: {declared}\r\n").as_bytes());
    }
    relayed.extend_from_slice(match persistence {
        Persistence::Stays => b"\r\n".as_slice(),
        Persistence::StaysSpelledOut => b"Connection: keep-alive\r\n\r\n",
        Persistence::Ends => b"Connection: close\r\n\r\n",
    });
    let body_bytes = if is_head || bodyless { 0 } else { declared };
    Ok(Some(Answer { head_bytes, body_bytes, persistence, relayed }))
}

/// The whole answer, head and body, of a door that lets nobody in. The connection ends with it.
pub(super) fn write_refusal(problem: &Problem, is_head: bool) -> Vec<u8> {
    let body = problem.to_json();
    let mut out = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n",
        problem.status,
        problem.title,
        crate::wire::problem::MEDIA_TYPE,
        body.len()
    )
    .into_bytes();
    out.extend_from_slice(match problem.status {
        405 => b"Allow: GET, HEAD, PUT, POST, DELETE\r\n".as_slice(),
        503 => b"Retry-After: 1\r\n",
        _ => b"",
    });
    out.extend_from_slice(b"Connection: close\r\n\r\n");
    if !is_head {
        out.extend_from_slice(&body);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(head: &str) -> Result<Request, u16> {
        let mut scan = HeadScan::default();
        let length = scan.more(head.as_bytes()).map_err(|problem| problem.status)?;
        assert_eq!(length, Some(head.len()), "a test must send a whole head: {head:?}");
        let client = "::ffff:10.0.0.7".parse().unwrap();
        judge(head.as_bytes(), client, &GatewayLimits::default()).map_err(|problem| problem.status)
    }

    fn status_of(head: &str) -> u16 {
        judged(head).map_or_else(|status| status, |_| 200)
    }

    #[test]
    fn the_end_of_a_head_is_found_wherever_it_is_cut() {
        let head = b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\nbody";
        for cut in 0..head.len() {
            let mut scan = HeadScan::default();
            let mut found = scan.more(&head[..cut]).unwrap();
            if found.is_none() {
                found = scan.more(&head[cut..]).unwrap();
            }
            assert_eq!(found, Some(head.len() - 4));
        }
    }

    #[test]
    fn lines_that_parsers_could_see_differently_are_refused() {
        for head in [
            "GET / HTTP/1.1\nHost: x\n\n",
            "GET / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n\tfolded\r\n\r\n",
            "GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /\u{e9} HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nA: \u{7f}\r\n\r\n",
            "\u{16}\u{3}\u{1}",
        ] {
            assert_eq!(status_of(head), 400, "{head:?}");
        }
    }

    #[test]
    fn requests_that_break_a_rule_get_the_status_of_that_rule() {
        for (status, head) in [
            (200, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
            (200, "GET / HTTP/1.0\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost : x\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\n: x\r\n\r\n"),
            (400, "GET  / HTTP/1.1\r\nHost: x\r\n\r\n"),
            (400, "GET / b HTTP/1.1\r\nHost: x\r\n\r\n"),
            (400, "GET /\r\n\r\n"),
            (400, "garbage\r\n\r\n"),
            (400, "GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n"),
            (400, "GET x HTTP/1.1\r\nHost: x\r\n\r\n"),
            (400, "GET * HTTP/1.1\r\nHost: x\r\n\r\n"),
            (400, "GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n"),
            (400, "GET / FTP/1.1\r\nHost: x\r\n\r\n"),
            (505, "GET / HTTP/2.0\r\nHost: x\r\n\r\n"),
            (505, "GET / HTTP/1.2\r\nHost: x\r\n\r\n"),
            (505, "PRI * HTTP/2.0\r\n\r\n"),
            (405, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"),
            (405, "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n"),
            (501, "BREW / HTTP/1.1\r\nHost: x\r\n\r\n"),
            (501, "get / HTTP/1.1\r\nHost: x\r\n\r\n"),
            (417, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 200-maybe\r\n\r\n"),
        ] {
            assert_eq!(status_of(head), status, "{head:?}");
        }
        let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(64));
        assert_eq!(status_of(&many), 431);
    }

    #[test]
    fn a_body_has_one_readable_length_within_the_limit() {
        let put = |fields: &str| judged(&format!("PUT / HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
        assert_eq!(put("").unwrap_err(), 411);
        assert_eq!(put("Transfer-Encoding: chunked\r\n").unwrap_err(), 411);
        assert_eq!(put("Content-Length: 5\r\ntransfer-encoding: x\r\n").unwrap_err(), 411);
        for fields in ["-1", "+5", "5, 5", "5 5", "0x5", "", "5a", "18446744073709551616", "5\r\nContent-Length: 6"] {
            assert_eq!(put(&format!("Content-Length: {fields}\r\n")).unwrap_err(), 400, "{fields:?}");
        }
        for length in ["2097153", "1000000000000000", "18446744073709551615"] {
            assert_eq!(put(&format!("Content-Length: {length}\r\n")).unwrap_err(), 413, "{length}");
        }
        let twice = put("Content-Length: 2097152\r\nContent-Length: 002097152\r\n").unwrap();
        assert_eq!(twice.body_bytes, 2_097_152);
        let relayed = String::from_utf8(twice.relayed).unwrap();
        assert_eq!(relayed.matches("Content-Length: 2097152\r\n").count(), 1);
        assert_eq!(relayed.matches("Content-Length").count(), 1);
    }

    #[test]
    fn what_concerns_one_connection_stays_at_the_door() {
        let request = judged(
            "GET /a HTTP/1.1\r\nHost: x\r\nConnection: X-Own, close\r\nX-Own: 1\r\nTE: chunked\r\nUpgrade: h2c\r\n\
             cellsync-client: 6.6.6.6\r\nCELLSYNC-LINE: 9\r\nKeep-Alive: 5\r\nX-Hops:  2 \r\n\r\n",
        )
        .unwrap();
        assert_eq!(request.persistence, Persistence::Ends);
        assert_eq!(
            String::from_utf8(request.relayed).unwrap(),
            "GET /a HTTP/1.1\r\nHost: x\r\nX-Hops: 2\r\nCellSync-Client: 10.0.0.7\r\n"
        );
    }

    #[test]
    fn a_connection_stays_open_as_its_version_has_it() {
        let of = |head: &str| judged(head).unwrap().persistence;
        assert_eq!(of("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), Persistence::Stays);
        assert_eq!(of("GET / HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n"), Persistence::Ends);
        assert_eq!(of("GET / HTTP/1.0\r\n\r\n"), Persistence::Ends);
        assert_eq!(of("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), Persistence::StaysSpelledOut);
        assert_eq!(of("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"), Persistence::Ends);
    }

    #[test]
    fn only_a_body_that_is_still_to_come_is_continued() {
        let put = |line: &str, length: u8| {
            let fields = format!("Host: x\r\nContent-Length: {length}\r\nExpect: 100-Continue\r\n");
            judged(&format!("{line}\r\n{fields}\r\n")).unwrap()
        };
        let request = put("PUT / HTTP/1.1", 1);
        assert!(request.expects_continue);
        assert!(!String::from_utf8(request.relayed).unwrap().contains("Expect"));
        assert!(!put("PUT / HTTP/1.1", 0).expects_continue);
        assert!(!put("PUT / HTTP/1.0", 1).expects_continue);
    }

    #[test]
    fn an_answer_is_passed_on_with_its_exact_length() {
        let bytes = b"HTTP/1.1 200 OK\r\nServer: y\r\nETag: \"1\"\r\nContent-Length: 3\r\n\r\nabc";
        let answer = read_answer(bytes, false, Persistence::Ends).unwrap().unwrap();
        assert_eq!((answer.head_bytes, answer.body_bytes), (bytes.len() - 3, 3));
        assert_eq!(
            String::from_utf8(answer.relayed).unwrap(),
            "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(read_answer(bytes, true, Persistence::Stays).unwrap().unwrap().body_bytes, 0);
        assert_eq!(read_answer(&bytes[..30], false, Persistence::Stays), Ok(None));
    }

    #[test]
    fn an_answer_without_content_declares_no_length() {
        let bytes = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n";
        let answer = read_answer(bytes, false, Persistence::StaysSpelledOut).unwrap().unwrap();
        assert_eq!(answer.relayed, b"HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n");
    }

    #[test]
    fn an_answer_of_unknown_length_is_not_passed_on() {
        for bytes in [
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "nonsense\r\n\r\n",
        ] {
            assert!(read_answer(bytes.as_bytes(), false, Persistence::Stays).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_refusal_says_why_and_ends_the_connection() {
        let text = String::from_utf8(write_refusal(&Problem::new(503, "full"), false)).unwrap();
        assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{text}");
        assert!(text.contains("Retry-After: 1\r\n") && text.contains("Connection: close\r\n"));
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        assert!(write_refusal(&Problem::new(405, ""), true).ends_with(b"\r\n\r\n"));
    }
}
