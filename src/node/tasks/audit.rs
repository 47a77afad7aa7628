//! An audit: a copy of another cell is fetched, hashed and discarded.

use std::net::SocketAddr;

use crate::cell::{AuditOutcome, AuditTarget};
use crate::id::ChunkId;
use crate::net::client::{CallError, Http};

/// Audits a copy of the cell at this address, which must not forward the request. Blocks.
pub(super) fn audit(http: &Http, from: SocketAddr, target: AuditTarget) -> AuditOutcome {
    let url = format!("http://{from}");
    let outcome = match target {
        AuditTarget::Chunk(chunk) => audit_chunk(http, &url, chunk),
        AuditTarget::After(after) => match first_after(http, &url, after) {
            Ok(Some(chunk)) => audit_chunk(http, &url, chunk),
            Ok(None) => Ok(AuditOutcome::Missing),
            Err(error) => Err(error),
        },
    };
    outcome.unwrap_or_else(|error| {
        log::debug!("cannot audit {from}: {error}");
        AuditOutcome::Failed
    })
}

/// The cell's first chunk after this id; after its last one, its first.
fn first_after(http: &Http, url: &str, after: ChunkId) -> Result<Option<ChunkId>, CallError> {
    let page = http.list_chunks(url, Some(&after), 1)?;
    let page = if page.is_empty() { http.list_chunks(url, None, 1)? } else { page };
    Ok(page.first().copied())
}

fn audit_chunk(http: &Http, url: &str, chunk: ChunkId) -> Result<AuditOutcome, CallError> {
    let Some(copy) = http.get_local_copy(url, &chunk)? else { return Ok(AuditOutcome::Missing) };
    let found = ChunkId::of(&copy.bytes);
    // The client reads no more than the maximum size of a chunk.
    let len = u32::try_from(copy.bytes.len()).unwrap_or(u32::MAX);
    Ok(if found == chunk {
        AuditOutcome::Good { chunk, len }
    } else if copy.length_declared {
        AuditOutcome::Bad { chunk, found, len }
    } else {
        // The end of the response may be missing.
        AuditOutcome::Failed
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::MAX_CHUNK_BYTES;
    use crate::net::client::Timeouts;
    use crate::net::test_server::{
        Request, TestServer, response, response_without_length, truncated_response, unreachable_address,
    };

    const CHUNK: &[u8] = b"a chunk that is audited";

    fn audit_of(from: SocketAddr, target: AuditTarget) -> AuditOutcome {
        audit(&Http::new(Timeouts::PROBE, 1, 1), from, target)
    }

    fn good(bytes: &[u8]) -> AuditOutcome {
        AuditOutcome::Good { chunk: ChunkId::of(bytes), len: u32::try_from(bytes.len()).unwrap() }
    }

    #[test]
    fn a_copy_is_good_or_bad_only_if_it_is_complete() {
        let chunk = ChunkId::of(CHUNK);
        let bad = |bytes: &[u8]| {
            let (found, len) = (ChunkId::of(bytes), u32::try_from(bytes.len()).unwrap());
            AuditOutcome::Bad { chunk, found, len }
        };
        for (response, expected) in [
            (response(200, CHUNK), good(CHUNK)),
            (response_without_length(CHUNK), good(CHUNK)),
            (response(200, b"another"), bad(b"another")),
            (response(200, &CHUNK[..9]), bad(&CHUNK[..9])),
            (response(200, b""), bad(b"")),
            (response(404, b"{}"), AuditOutcome::Missing),
            (response(503, b"{}"), AuditOutcome::Failed),
            (response(301, CHUNK), AuditOutcome::Failed),
            (truncated_response(&CHUNK[..9], 20), AuditOutcome::Failed),
            (response_without_length(&CHUNK[..9]), AuditOutcome::Failed),
            (response(200, &vec![0; MAX_CHUNK_BYTES + 1]), AuditOutcome::Failed),
            (b"nonsense".to_vec(), AuditOutcome::Failed),
        ] {
            let peer = TestServer::always(response);
            assert_eq!(audit_of(peer.address, AuditTarget::Chunk(chunk)), expected);
            let request = &peer.requests()[0];
            assert_eq!((request.line(), request.field("X-Hops")), (&*format!("GET /chunk/{chunk}"), Some("0")));
        }
        assert_eq!(audit_of(unreachable_address(), AuditTarget::Chunk(chunk)), AuditOutcome::Failed);
    }

    /// A cell that has these chunks.
    fn holder(chunks: &'static [&'static [u8]]) -> TestServer {
        TestServer::answering(move |request: &Request| {
            let mut all: Vec<(ChunkId, &[u8])> = chunks.iter().map(|bytes| (ChunkId::of(bytes), *bytes)).collect();
            all.sort_unstable();
            let target = request.line().strip_prefix("GET ").unwrap();
            if let Some(id) = target.strip_prefix("/chunk/") {
                let found = all.iter().find(|(known, _)| known.to_string() == id);
                return found.map_or_else(|| response(404, b""), |(_, bytes)| response(200, bytes));
            }
            let query = target.strip_prefix("/chunks?limit=1").unwrap();
            let after: Option<ChunkId> = query.strip_prefix("&after=").map(|id| id.parse().unwrap());
            let next = all.iter().find(|(id, _)| after.is_none_or(|after| *id > after));
            response(200, next.map_or_else(String::new, |(id, _)| format!("{id}\n")).as_bytes())
        })
    }

    #[test]
    fn a_target_after_the_last_chunk_is_the_first_one() {
        let chunks: &[&[u8]] = &[b"one", b"two", b"three"];
        let mut ordered = chunks.to_vec();
        ordered.sort_unstable_by_key(|bytes| ChunkId::of(bytes));
        let peer = holder(&[b"one", b"two", b"three"]);
        let after = |bytes: &[u8]| audit_of(peer.address, AuditTarget::After(ChunkId::of(bytes)));
        assert_eq!(after(ordered[0]), good(ordered[1]));
        assert_eq!(after(ordered[1]), good(ordered[2]));
        assert_eq!(after(ordered[2]), good(ordered[0]));
        assert_eq!(audit_of(peer.address, AuditTarget::After(ChunkId::from_bytes([0; 32]))), good(ordered[0]));
        assert_eq!(audit_of(holder(&[]).address, AuditTarget::After(ChunkId::of(b""))), AuditOutcome::Missing);
    }

    #[test]
    fn an_invalid_listing_is_a_failure_and_not_a_bad_copy() {
        let two = format!("{}\n{}\n", ChunkId::of(b"a"), ChunkId::of(b"b"));
        for response in [
            response(200, b"x\n"),
            response(200, two.as_bytes()),
            response(404, b""),
            truncated_response(&two.as_bytes()[..40], 25),
        ] {
            let peer = TestServer::always(response);
            assert_eq!(audit_of(peer.address, AuditTarget::After(ChunkId::of(b""))), AuditOutcome::Failed);
        }
    }
}
