//! Request heads: found in a stream of bytes, checked, and written anew for the backend.

use std::net::IpAddr;

use crate::net::backend::CLIENT_FIELD;
use crate::net::gateway::head::fields::{has_token, values, write_relayed};
use crate::net::gateway::limits::GatewayLimits;
use crate::wire::problem::Problem;
use crate::wire::routes::METHODS;

/// Finds the end of a head as its bytes arrive, and refuses early what no parser should have to interpret.
#[derive(Debug, Default)]
pub(in crate::net::gateway) struct HeadScanner {
    /// Bytes scanned so far.
    pub(in crate::net::gateway) scanned: usize,
    last: u8,
    /// Bytes in the current line so far, without its ending.
    line_bytes: usize,
    /// Whether the first line has begun. Empty lines before it are skipped (RFC 9112, section 2.2).
    begun: bool,
}

impl HeadScanner {
    /// Scans the bytes that arrived since the last call. Returns the length of the head once it is complete.
    pub(in crate::net::gateway) fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, Problem> {
        for &byte in bytes {
            self.scanned += 1;
            match (self.last, byte) {
                (b'\r', b'\n') if self.line_bytes == 0 && self.begun => return Ok(Some(self.scanned)),
                (b'\r', b'\n') => self.line_bytes = 0,
                (b'\r', _) | (_, b'\n') => {
                    return Err(Problem::new(400, "a line of the request head does not end in CR LF"));
                }
                (_, b'\r') => {}
                (_, b' ' | b'\t') if self.line_bytes == 0 => {
                    return Err(Problem::new(400, "a line of the request head begins with white space"));
                }
                (_, b'\t' | b' '..=b'~') => {
                    self.line_bytes += 1;
                    self.begun = true;
                }
                _ => return Err(Problem::new(400, "the request head contains a byte that is not printable ASCII")),
            }
            self.last = byte;
        }
        Ok(None)
    }
}

/// Whether a connection stays open after a response, and how the response says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::net::gateway) enum Persistence {
    /// It stays open, the default of HTTP/1.1.
    KeepAlive,
    /// It stays open, and the response has `Connection: keep-alive`, as an HTTP/1.0 client expects.
    ExplicitKeepAlive,
    /// It ends with the response, which has `Connection: close`.
    Close,
}

/// A request that may be relayed.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::net::gateway) struct RequestHead {
    /// Whether the method is `HEAD`, whose response has no body.
    pub(in crate::net::gateway) is_head: bool,
    /// Whether another request may follow on this connection.
    pub(in crate::net::gateway) persistence: Persistence,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(in crate::net::gateway) expects_continue: bool,
    /// Length of the body, in bytes.
    pub(in crate::net::gateway) body_bytes: u64,
    /// The head for the backend, without the field for the upstream connection and the empty line at the end.
    pub(in crate::net::gateway) upstream_head: Vec<u8>,
}

/// Checks a complete request head.
pub(in crate::net::gateway) fn check(
    head: &[u8],
    client: IpAddr,
    limits: &GatewayLimits,
) -> Result<RequestHead, Problem> {
    let mut fields = vec![httparse::EMPTY_HEADER; limits.max_head_fields];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Problem::new(400, "the request head is incomplete")),
        Err(error) => return Err(parse_problem(error, head, limits)),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Problem::new(400, "the request line is incomplete"));
    };
    let fields: &[httparse::Header<'_>] = parsed.headers;
    check_method(method)?;
    check_target(target)?;
    check_host(fields, minor)?;
    let body_bytes = body_length(fields, method, limits)?;
    let expects_continue = has_expectation(fields)? && minor == 1 && body_bytes > 0;
    let persistence = match minor {
        _ if has_token(fields, "Connection", "close") => Persistence::Close,
        0 if has_token(fields, "Connection", "keep-alive") => Persistence::ExplicitKeepAlive,
        0 => Persistence::Close,
        _ => Persistence::KeepAlive,
    };
    let upstream_head = write(method, target, fields, body_bytes, client);
    Ok(RequestHead { is_head: method == "HEAD", persistence, expects_continue, body_bytes, upstream_head })
}

fn parse_problem(error: httparse::Error, head: &[u8], limits: &GatewayLimits) -> Problem {
    match error {
        httparse::Error::TooManyHeaders => {
            Problem::new(431, format!("the request has more than {} header fields", limits.max_head_fields))
        }
        httparse::Error::Version if has_version(head) => {
            Problem::new(505, "this HTTP version is not supported; use HTTP/1.1")
        }
        other => Problem::new(400, format!("not a valid HTTP request: {other}")),
    }
}

/// Whether the request line ends in the name of some version of HTTP.
fn has_version(head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\r').find(|line| !matches!(line, [] | [b'\n']));
    let word = line.and_then(|line| line.split(|&byte| byte == b' ').nth(2));
    matches!(word, Some([b'H', b'T', b'T', b'P', b'/', digit, ..]) if digit.is_ascii_digit())
}

fn check_method(method: &str) -> Result<(), Problem> {
    if METHODS.split(", ").any(|known| known == method) {
        return Ok(());
    }
    let status = if matches!(method, "CONNECT" | "OPTIONS" | "PATCH" | "TRACE") { 405 } else { 501 };
    Err(Problem::new(status, format!("this method is not supported; use one of {METHODS}")))
}

/// The target must be a path. Its meaning is up to the handler; it never names a file.
fn check_target(target: &str) -> Result<(), Problem> {
    if !target.starts_with('/') {
        return Err(Problem::new(400, "the request target is not a path that begins with /"));
    }
    if target.contains('#') {
        return Err(Problem::new(400, "the request target contains a fragment, which clients must not send"));
    }
    Ok(())
}

/// RFC 9112, section 3.2: exactly one `Host`, except in HTTP/1.0.
fn check_host(fields: &[httparse::Header<'_>], minor: u8) -> Result<(), Problem> {
    match values(fields, "Host").count() {
        1 => Ok(()),
        0 if minor == 0 => Ok(()),
        count => Err(Problem::new(400, format!("the request has {count} Host fields; exactly one is required"))),
    }
}

fn body_length(fields: &[httparse::Header<'_>], method: &str, limits: &GatewayLimits) -> Result<u64, Problem> {
    if values(fields, "Transfer-Encoding").next().is_some() {
        return Err(Problem::new(411, "Transfer-Encoding is not supported; send the plain body with a Content-Length"));
    }
    let mut declared = None;
    for value in values(fields, "Content-Length") {
        let not_a_number = || Problem::new(400, "Content-Length is not a number");
        // `parse` alone accepts a sign.
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(not_a_number());
        }
        let length: u64 = str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or_else(not_a_number)?;
        if declared.is_some_and(|other| other != length) {
            return Err(Problem::new(400, "the request has two different Content-Length fields"));
        }
        declared = Some(length);
    }
    match declared {
        Some(length) if length > limits.max_body_bytes => {
            Err(Problem::new(413, format!("the body has {length} bytes; the limit is {}", limits.max_body_bytes)))
        }
        Some(length) => Ok(length),
        None if matches!(method, "PUT" | "POST") => Err(Problem::new(411, "Content-Length is missing")),
        None => Ok(0),
    }
}

fn has_expectation(fields: &[httparse::Header<'_>]) -> Result<bool, Problem> {
    let mut expects = false;
    for value in values(fields, "Expect") {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(Problem::new(417, "this Expect field is not supported; only 100-continue is"));
        }
        expects = true;
    }
    Ok(expects)
}

fn write(method: &str, target: &str, fields: &[httparse::Header<'_>], body_bytes: u64, client: IpAddr) -> Vec<u8> {
    let mut out = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    write_relayed(&mut out, fields);
    if body_bytes > 0 || matches!(method, "PUT" | "POST") {
        out.extend_from_slice(format!("Content-Length: {body_bytes}\r\n").as_bytes());
    }
    out.extend_from_slice(format!("{CLIENT_FIELD}: {}\r\n", client.to_canonical()).as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(head: &str) -> Result<RequestHead, u16> {
        let mut scanner = HeadScanner::default();
        let length = scanner.scan(head.as_bytes()).map_err(|problem| problem.status)?;
        assert_eq!(length, Some(head.len()), "this test needs a complete head: {head:?}");
        let client = "::ffff:10.0.0.7".parse().unwrap();
        check(head.as_bytes(), client, &GatewayLimits::default()).map_err(|problem| problem.status)
    }

    fn status_of(head: &str) -> u16 {
        checked(head).map_or_else(|status| status, |_| 200)
    }

    #[test]
    fn the_end_of_a_head_is_found_in_any_segmentation() {
        let head = b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\nbody";
        for cut in 0..head.len() {
            let mut scanner = HeadScanner::default();
            let mut found = scanner.scan(&head[..cut]).unwrap();
            if found.is_none() {
                found = scanner.scan(&head[cut..]).unwrap();
            }
            assert_eq!(found, Some(head.len() - 4));
        }
    }

    #[test]
    fn ambiguous_lines_are_refused() {
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
    fn each_broken_rule_has_its_status() {
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
    fn a_body_has_one_valid_length_within_the_limit() {
        let put = |fields: &str| checked(&format!("PUT / HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
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
        let written = String::from_utf8(twice.upstream_head).unwrap();
        assert_eq!(written.matches("Content-Length: 2097152\r\n").count(), 1);
        assert_eq!(written.matches("Content-Length").count(), 1);
    }

    #[test]
    fn connection_fields_and_private_fields_are_dropped() {
        let request = checked(
            "GET /a HTTP/1.1\r\nHost: x\r\nConnection: X-Own, close\r\nX-Own: 1\r\nTE: chunked\r\nUpgrade: h2c\r\n\
             cellsync-client: 6.6.6.6\r\nCELLSYNC-CONNECTION: 9\r\nKeep-Alive: 5\r\nX-Hops:  2 \r\n\r\n",
        )
        .unwrap();
        assert_eq!(request.persistence, Persistence::Close);
        assert_eq!(
            String::from_utf8(request.upstream_head).unwrap(),
            "GET /a HTTP/1.1\r\nHost: x\r\nX-Hops: 2\r\nCellSync-Client: 10.0.0.7\r\n"
        );
    }

    #[test]
    fn persistence_follows_the_version_and_connection_field() {
        let of = |head: &str| checked(head).unwrap().persistence;
        assert_eq!(of("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), Persistence::KeepAlive);
        assert_eq!(of("GET / HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n"), Persistence::Close);
        assert_eq!(of("GET / HTTP/1.0\r\n\r\n"), Persistence::Close);
        assert_eq!(of("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), Persistence::ExplicitKeepAlive);
        assert_eq!(of("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"), Persistence::Close);
    }

    #[test]
    fn continue_is_expected_only_before_an_http_1_1_body() {
        let put = |line: &str, length: u8| {
            let fields = format!("Host: x\r\nContent-Length: {length}\r\nExpect: 100-Continue\r\n");
            checked(&format!("{line}\r\n{fields}\r\n")).unwrap()
        };
        let request = put("PUT / HTTP/1.1", 1);
        assert!(request.expects_continue);
        assert!(!String::from_utf8(request.upstream_head).unwrap().contains("Expect"));
        assert!(!put("PUT / HTTP/1.1", 0).expects_continue);
        assert!(!put("PUT / HTTP/1.0", 1).expects_continue);
    }
}
