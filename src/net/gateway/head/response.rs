//! Response heads: the backend's, parsed and written anew for the client, and the gateway's own refusals.

use crate::net::gateway::head::fields::{values, write_relayed};
use crate::net::gateway::head::request::Persistence;
use crate::wire::problem::{MEDIA_TYPE, Problem, phrase};
use crate::wire::routes::METHODS;

/// Largest number of header fields in a response of the backend, which is the cell's own.
const MAX_FIELDS: usize = 32;

/// A response head of the backend.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::net::gateway) struct ResponseHead {
    /// Length of the head as it was received, in bytes.
    pub(in crate::net::gateway) head_bytes: usize,
    /// Length of the body that follows, in bytes.
    pub(in crate::net::gateway) body_bytes: u64,
    /// Whether another request may follow on the client's connection.
    pub(in crate::net::gateway) persistence: Persistence,
    /// The head for the client.
    pub(in crate::net::gateway) client_head: Vec<u8>,
}

/// Why the backend's response cannot be relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::net::gateway) enum InvalidResponse {
    #[error("the response is not HTTP")]
    NotHttp,
    #[error("the response has no final status")]
    NoFinalStatus,
    #[error("the response declares no length")]
    NoLength,
}

/// Parses the head of a response; `None` while it is incomplete. `is_head` belongs to the request.
pub(in crate::net::gateway) fn parse(
    bytes: &[u8],
    is_head: bool,
    persistence: Persistence,
) -> Result<Option<ResponseHead>, InvalidResponse> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut fields);
    let head_bytes = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(InvalidResponse::NotHttp),
    };
    let Some(status @ 200..=599) = parsed.code else { return Err(InvalidResponse::NoFinalStatus) };
    let fields: &[httparse::Header<'_>] = parsed.headers;
    if values(fields, "Transfer-Encoding").next().is_some() {
        return Err(InvalidResponse::NoLength);
    }
    let bodyless = matches!(status, 204 | 304);
    let declared = match values(fields, "Content-Length").next() {
        Some(value) => str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok()),
        None if bodyless => Some(0),
        None => None,
    };
    let Some(declared) = declared else { return Err(InvalidResponse::NoLength) };

    let mut client_head = format!("HTTP/1.1 {status} {}\r\n", phrase(status)).into_bytes();
    // The library behind the gateway concerns no client.
    let kept: Vec<_> = fields.iter().filter(|field| !field.name.eq_ignore_ascii_case("Server")).copied().collect();
    write_relayed(&mut client_head, &kept);
    if !bodyless {
        client_head.extend_from_slice(format!("Content-Length: {declared}\r\n").as_bytes());
    }
    client_head.extend_from_slice(match persistence {
        Persistence::KeepAlive => b"\r\n".as_slice(),
        Persistence::ExplicitKeepAlive => b"Connection: keep-alive\r\n\r\n",
        Persistence::Close => b"Connection: close\r\n\r\n",
    });
    let body_bytes = if is_head || bodyless { 0 } else { declared };
    Ok(Some(ResponseHead { head_bytes, body_bytes, persistence, client_head }))
}

/// The gateway's own response, head and body, to a request that it refuses. The connection ends with it.
pub(in crate::net::gateway) fn refusal(problem: &Problem, is_head: bool) -> Vec<u8> {
    let body = problem.to_json();
    let extra = match problem.status {
        405 => format!("Allow: {METHODS}\r\n"),
        503 => "Retry-After: 1\r\n".to_owned(),
        _ => String::new(),
    };
    let (status, title, length) = (problem.status, &problem.title, body.len());
    let mut out = format!(
        "HTTP/1.1 {status} {title}\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {length}\r\n{extra}\
         Connection: close\r\n\r\n",
    )
    .into_bytes();
    if !is_head {
        out.extend_from_slice(&body);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_relayed_with_its_exact_length() {
        let bytes = b"HTTP/1.1 200 OK\r\nServer: y\r\nETag: \"1\"\r\nContent-Length: 3\r\n\r\nabc";
        let response = parse(bytes, false, Persistence::Close).unwrap().unwrap();
        assert_eq!((response.head_bytes, response.body_bytes), (bytes.len() - 3, 3));
        assert_eq!(
            String::from_utf8(response.client_head).unwrap(),
            "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(parse(bytes, true, Persistence::KeepAlive).unwrap().unwrap().body_bytes, 0);
        assert_eq!(parse(&bytes[..30], false, Persistence::KeepAlive), Ok(None));
    }

    #[test]
    fn a_response_without_content_declares_no_length() {
        let bytes = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n";
        let response = parse(bytes, false, Persistence::ExplicitKeepAlive).unwrap().unwrap();
        assert_eq!(response.client_head, b"HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n");
    }

    #[test]
    fn a_response_of_unknown_length_is_not_relayed() {
        for bytes in [
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "nonsense\r\n\r\n",
        ] {
            assert!(parse(bytes.as_bytes(), false, Persistence::KeepAlive).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_refusal_has_a_reason_and_ends_the_connection() {
        let text = String::from_utf8(refusal(&Problem::new(503, "full"), false)).unwrap();
        assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{text}");
        assert!(text.contains("Retry-After: 1\r\n") && text.contains("Connection: close\r\n"));
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        assert!(refusal(&Problem::new(405, ""), true).ends_with(b"\r\n\r\n"));
    }
}
