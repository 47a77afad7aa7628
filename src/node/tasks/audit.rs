//! Looking at another cell's copy: it is fetched, hashed, and thrown away.

use std::net::SocketAddr;

use crate::cell::{AuditOutcome, AuditTarget};
use crate::id::ChunkId;
use crate::net::client::{CallError, Http};

/// Fetches the copy that is picked, from that cell alone, and hashes it.
pub(in crate::node) fn audit(http: &Http, of: SocketAddr, pick: AuditTarget) -> AuditOutcome {
    let url = format!("http://{of}");
    let audited = match pick {
        AuditTarget::Chunk(chunk) => look_at(http, &url, chunk),
        AuditTarget::After(after) => match next(http, &url, after) {
            Ok(Some(chunk)) => look_at(http, &url, chunk),
            Ok(None) => Ok(AuditOutcome::Missing),
            Err(error) => Err(error),
        },
    };
    audited.unwrap_or_else(|error| {
        log::debug!("auditing: {error}");
        AuditOutcome::Failed
    })
}

/// The first chunk of a cell after this id; after the last, its first.
fn next(http: &Http, url: &str, after: ChunkId) -> Result<Option<ChunkId>, CallError> {
    let page = http.list_chunks(url, Some(&after), 1)?;
    let page = if page.is_empty() { http.list_chunks(url, None, 1)? } else { page };
    Ok(page.first().copied())
}

fn look_at(http: &Http, url: &str, chunk: ChunkId) -> Result<AuditOutcome, CallError> {
    let Some(copy) = http.get_local_copy(url, &chunk)? else { return Ok(AuditOutcome::Missing) };
    let found = ChunkId::of(&copy.bytes);
    // A chunk is never longer than the client reads.
    let len = u32::try_from(copy.bytes.len()).unwrap_or(u32::MAX);
    Ok(if found == chunk {
        AuditOutcome::Good { chunk, len }
    } else if copy.length_declared {
        AuditOutcome::Bad { chunk, found, len }
    } else {
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

    const CHUNK: &[u8] = b"a chunk that a guard looks at";

    fn looks_at(of: SocketAddr, pick: AuditTarget) -> AuditOutcome {
        audit(&Http::new(Timeouts::PROBE, 1, 1), of, pick)
    }

    fn good(bytes: &[u8]) -> AuditOutcome {
        AuditOutcome::Good { chunk: ChunkId::of(bytes), len: u32::try_from(bytes.len()).unwrap() }
    }

    #[test]
    fn a_copy_is_good_or_bad_only_if_all_of_it_came() {
        let chunk = ChunkId::of(CHUNK);
        let bad = |bytes: &[u8]| {
            let (found, len) = (ChunkId::of(bytes), u32::try_from(bytes.len()).unwrap());
            AuditOutcome::Bad { chunk, found, len }
        };
        for (says, expected) in [
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
            let peer = TestServer::always(says);
            assert_eq!(looks_at(peer.address, AuditTarget::Chunk(chunk)), expected);
            let request = &peer.requests()[0];
            assert_eq!((request.line(), request.field("X-Hops")), (&*format!("GET /chunk/{chunk}"), Some("0")));
        }
        assert_eq!(looks_at(unreachable_address(), AuditTarget::Chunk(chunk)), AuditOutcome::Failed);
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
    fn a_chunk_is_picked_by_the_id_before_it_and_after_the_last_comes_the_first() {
        let chunks: &[&[u8]] = &[b"one", b"two", b"three"];
        let mut ordered = chunks.to_vec();
        ordered.sort_unstable_by_key(|bytes| ChunkId::of(bytes));
        let peer = holder(&[b"one", b"two", b"three"]);
        let after = |bytes: &[u8]| looks_at(peer.address, AuditTarget::After(ChunkId::of(bytes)));
        assert_eq!(after(ordered[0]), good(ordered[1]));
        assert_eq!(after(ordered[1]), good(ordered[2]));
        assert_eq!(after(ordered[2]), good(ordered[0]));
        assert_eq!(looks_at(peer.address, AuditTarget::After(ChunkId::from_bytes([0; 32]))), good(ordered[0]));
        assert_eq!(looks_at(holder(&[]).address, AuditTarget::After(ChunkId::of(b""))), AuditOutcome::Missing);
    }

    #[test]
    fn a_list_that_makes_no_sense_is_no_reason_to_blame_anybody() {
        let two = format!("{}\n{}\n", ChunkId::of(b"a"), ChunkId::of(b"b"));
        for says in [
            response(200, b"x\n"),
            response(200, two.as_bytes()),
            response(404, b""),
            truncated_response(&two.as_bytes()[..40], 25),
        ] {
            let peer = TestServer::always(says);
            assert_eq!(looks_at(peer.address, AuditTarget::After(ChunkId::of(b""))), AuditOutcome::Failed);
        }
    }
}
