//! The header fields of a parsed head.

use crate::net::backend::{CLIENT_FIELD, CONNECTION_FIELD};

/// Fields that are not relayed: those that concern one connection only (RFC 9110, section 7.6.1), and those that the
/// gateway writes itself.
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
    CONNECTION_FIELD,
];

/// The values of all fields with this name, trimmed.
pub(super) fn values<'a>(fields: &'a [httparse::Header<'a>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value.trim_ascii())
}

/// Whether a field with this name lists the token.
pub(super) fn has_token(fields: &[httparse::Header<'_>], name: &str, token: &str) -> bool {
    values(fields, name).any(|value| {
        value.split(|&byte| byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    })
}

/// Writes the fields that are relayed.
pub(super) fn write_relayed(out: &mut Vec<u8>, fields: &[httparse::Header<'_>]) {
    for field in fields {
        let dropped = NOT_RELAYED.iter().any(|name| field.name.eq_ignore_ascii_case(name))
            || has_token(fields, "Connection", field.name);
        if !dropped {
            out.extend_from_slice(field.name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(field.value.trim_ascii());
            out.extend_from_slice(b"\r\n");
        }
    }
}
