//! The body of an error response: `application/problem+json` (RFC 9457), readable by people and programs.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The media type of a [`Problem`] (RFC 9457, section 3).
pub const MEDIA_TYPE: &str = "application/problem+json";

/// The body of an error response: `{"status":413,"title":"Content Too Large","detail":"…"}`.
///
/// It has no member `type`, which means `about:blank` (section 4.2.1): programs need only the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The HTTP status, repeated so that a saved body is complete.
    pub status: u16,
    /// The reason phrase of the status.
    #[serde(default)]
    pub title: Cow<'static, str>,
    /// What is wrong with this request and what to do about it, for people.
    #[serde(default)]
    pub detail: Cow<'static, str>,
}

impl Problem {
    /// A problem with this status and explanation.
    pub fn new(status: u16, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, title: Cow::Borrowed(phrase(status)), detail: detail.into() }
    }

    /// The body of the response.
    pub fn to_json(&self) -> Vec<u8> {
        // A number and two strings always have a JSON form. An empty body would lose only the explanation.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads the body of an error response; `None` if it is not a problem. Unknown members are ignored.
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
    fn a_problem_reads_back_as_written() {
        let problem = Problem::new(413, "a \"chunk\" is at most 2 MiB\n");
        assert_eq!(problem.title, "Content Too Large");
        assert_eq!(Problem::from_json(&problem.to_json()), Some(problem));
    }

    #[test]
    fn unknown_members_are_ignored_and_known_ones_may_miss() {
        let problem = Problem::from_json(br#"{"type":"about:blank","status":507,"instance":"/x"}"#).unwrap();
        assert_eq!((problem.status, &*problem.detail), (507, ""));
        assert_eq!(Problem::from_json(b"<html>"), None);
        assert_eq!(Problem::from_json(br#"{"status":-1}"#), None);
    }
}
