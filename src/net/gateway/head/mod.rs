//! Heads: what the gateway makes of a request's head before it relays it, and of a response's.
//!
//! Pure: no clock, socket, disk or thread. No head is copied through. It is parsed, checked and written anew, so
//! `tiny_http` cannot see another request than the gateway did. Request smuggling needs two parsers that disagree.

mod fields;
pub(super) mod request;
pub(super) mod response;
