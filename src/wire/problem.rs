//! What a refusal looks like on the wire: `application/problem+json` (RFC 9457), so that a person with `curl` reads
//! why, and a program reads which status.
//!
//! Pure: no clock, socket, disk or thread.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The media type of a [`Problem`] (RFC 9457, section 3).
pub const MEDIA_TYPE: &str = "application/problem+json";

/// An answer that is not what was asked for: `{"status":413,"title":"Content Too Large","detail":"…"}`.
///
/// The member `type` is left out, which means `about:blank`: the status says all that a program needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The HTTP status, repeated in the body so that a saved answer still tells it.
    pub status: u16,
    /// The status in words, the same for every problem of that status.
    #[serde(default)]
    pub title: Cow<'static, str>,
    /// What was wrong with this request, and what to do about it.
    #[serde(default)]
    pub detail: Cow<'static, str>,
}

impl Problem {
    /// A problem of this status, with what was wrong in a sentence.
    pub fn new(status: u16, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, title: Cow::Borrowed(phrase(status)), detail: detail.into() }
    }

    /// The body of the answer.
    pub fn to_json(&self) -> Vec<u8> {
        // Two strings and a number always have a JSON form; an empty body would only lose the explanation.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a body that a cell sent; `None` when it is something else. Unknown members are ignored.
    pub fn from_json(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }
}

/// The reason phrase of a status, as in the IANA registry of HTTP status codes.
pub const fn phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_read_back_as_it_was_written() {
        let problem = Problem::new(413, "a \"chunk\" is at most 2 MiB\n");
        assert_eq!(problem.title, "Content Too Large");
        assert_eq!(Problem::from_json(&problem.to_json()), Some(problem));
    }

    #[test]
    fn members_of_others_are_ignored_and_ours_may_be_missing() {
        let problem = Problem::from_json(br#"{"type":"about:blank","status":507,"instance":"/x"}"#).unwrap();
        assert_eq!((problem.status, &*problem.detail), (507, ""));
        assert_eq!(Problem::from_json(b"<html>"), None);
        assert_eq!(Problem::from_json(br#"{"status":-1}"#), None);
    }
}
